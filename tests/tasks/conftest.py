import numpy as np
import pytest
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes


class Springs(Calculator):
    """Springs between atoms, bending of linear triples, fixed charges: known modes.

    E = 1/2 sum k (|r_ij| - r0)^2 + 1/2 sum b |u_ji + u_jk|^2, j the middle atom, u unit vectors.
    """

    implemented_properties = ["energy", "forces", "dipole"]

    def __init__(self, springs, bends=(), charges=None):
        super().__init__()
        self.springs, self.bends, self.charges = springs, bends, charges
        self.calls = 0
        if charges is None:
            self.implemented_properties = ["energy", "forces"]

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        assert not self.atoms.pbc.any()
        self.calls += 1
        x = self.atoms.positions
        energy, forces = 0.0, np.zeros_like(x)
        for i, j, k, length in self.springs:
            d = x[j] - x[i]
            r = np.linalg.norm(d)
            energy += k * (r - length) ** 2 / 2
            pull = k * (r - length) * d / r
            forces[i] += pull
            forces[j] -= pull
        for i, j, k, b in self.bends:
            ends = [x[i] - x[j], x[k] - x[j]]
            units = [d / np.linalg.norm(d) for d in ends]
            total = units[0] + units[1]
            energy += b * total @ total / 2
            for atom, d, u in zip((i, k), ends, units, strict=True):
                force = -b * (total - u * (u @ total)) / np.linalg.norm(d)
                forces[atom] += force
                forces[j] -= force
        self.results = {"energy": energy, "forces": forces}
        if self.charges is not None:
            self.results["dipole"] = np.array(self.charges) @ x


@pytest.fixture
def springs():
    """The class `Springs`."""
    return Springs


@pytest.fixture
def diatomic():
    """CO with k = 30 eV/A^2 and charges of +-0.4 e, across no axis, 1.2 A long."""
    axis = np.array([1.0, 2.0, -2.0]) / 3
    atoms = Atoms("CO", [axis * 0, axis * 1.2])
    atoms.calc = Springs([(0, 1, 30.0, 1.2)], charges=[0.4, -0.4])
    return atoms


@pytest.fixture
def triangle():
    """Equilateral O3 with k = 20 eV/A^2 on each side, without dipole."""
    corners = [(0, 0, 0), (1.5, 0, 0), (0.75, 1.5 * np.sqrt(0.75), 0)]
    atoms = Atoms("O3", corners)
    atoms.calc = Springs([(i, j, 20.0, 1.5) for i, j in ((0, 1), (1, 2), (0, 2))])
    return atoms


@pytest.fixture
def linear_triatomic():
    """OCO along x: 1.2 A, k = 90 eV/A^2, bending b = 6 eV, charges -0.3, 0.6, -0.3 e."""
    atoms = Atoms("OCO", [(-1.2, 0, 0), (0, 0, 0), (1.2, 0, 0)])
    atoms.calc = Springs(
        [(0, 1, 90.0, 1.2), (1, 2, 90.0, 1.2)], [(0, 1, 2, 6.0)], charges=[-0.3, 0.6, -0.3]
    )
    return atoms


@pytest.fixture
def tetrahedron():
    """An irregular four-atom molecule (6 springs at their lengths): no symmetry, charged."""
    x = np.array([(0, 0, 0), (1.4, 0.1, 0), (-0.5, 1.1, 0.2), (0.3, -0.4, 1.0)])
    pairs = [(i, j) for i in range(4) for j in range(i)]
    atoms = Atoms("CNOF", x)
    atoms.calc = Springs(
        [(i, j, 10.0 + 5 * i + j, np.linalg.norm(x[i] - x[j])) for i, j in pairs],
        charges=[0.5, -0.3, -0.4, 0.2],
    )
    return atoms
