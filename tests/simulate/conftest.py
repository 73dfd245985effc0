import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.calculators.calculator import Calculator, all_changes
from ase.geometry import get_dihedrals_derivatives
from scipy.spatial.transform import Rotation

from ase_fflux import FFLUX

WATER_PAIRS = {"O-O": {"lj": [0.0079, 3.17]}, "O-H": {"lj": [0.0011, 1.902]}}


class Peroxide(Calculator):
    """Springs along H-O-O-H, in its angles, and 0.1 eV (1 + cos 2 phi) / 2 of its torsion."""

    implemented_properties = ["energy", "forces"]
    height = 0.1

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        x = self.atoms.positions
        energy, forces = 0.0, np.zeros((4, 3))
        # bonds, and 1-3 distances in place of angles
        for i, j, k, length in (
            (0, 1, 30.0, 1.0), (1, 2, 20.0, 1.4), (2, 3, 30.0, 1.0), (0, 2, 10.0, 1.9),
            (1, 3, 10.0, 1.9),
        ):
            d = x[j] - x[i]
            r = np.linalg.norm(d)
            energy += k * (r - length) ** 2 / 2
            forces[i] += k * (r - length) * d / r
            forces[j] -= k * (r - length) * d / r
        phi = np.radians(self.atoms.get_dihedral(0, 1, 2, 3))
        energy += self.height * (1 + np.cos(2 * phi)) / 2
        vectors = [x[[b]] - x[[a]] for a, b in ((0, 1), (1, 2), (2, 3))]
        slope = get_dihedrals_derivatives(*vectors)[0] * np.pi / 180
        forces += self.height * np.sin(2 * phi) * slope
        self.results = {"energy": energy, "forces": forces}


@pytest.fixture
def peroxide():
    atoms = Atoms("HOOH", [[0.9, 0.3, 0.1], [0, 0, 0], [0, 1.4, 0], [0.2, 1.7, 0.95]])
    atoms.calc = Peroxide()
    return atoms


@pytest.fixture
def water_box():
    """Eight water molecules, turned at random, in a triclinic cell of 1 g/cm^3, some across it."""
    rng = np.random.default_rng(4)
    cell = np.array([[6.3, 0, 0], [0.5, 6.2, 0], [-0.4, 0.3, 6.2]])
    shape = molecule("H2O").positions
    grid = np.stack(np.meshgrid(*[[0.0, 0.5]] * 3), axis=-1).reshape(-1, 3)
    places = (grid + 0.02 * rng.uniform(-1, 1, grid.shape)) @ cell
    turns = Rotation.random(len(grid), rng=rng)
    positions = [place + t.apply(shape) for place, t in zip(places, turns, strict=True)]
    box = Atoms("OH2" * 8, np.concatenate(positions), cell=cell, pbc=True)
    box.wrap()
    box.calc = FFLUX(
        "water", short_range=WATER_PAIRS, short_range_cutoff=6.0, on_low_coverage="ignore",
        assignment=np.arange(24).reshape(8, 3).tolist(),
    )
    return box
