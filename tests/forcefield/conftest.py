"""Systems of made-up molecules."""

import numpy as np
import pytest
from ase.symbols import symbols2numbers
from scipy.spatial.transform import Rotation

from ase_fflux.forcefield.interactions.base import System
from ase_fflux.forcefield.interactions.neighbours import NeighbourList

CELL = np.array([[21.0, 0, 0], [3.0, 20.0, 0], [-2.0, 4.0, 22.0]])


def _cluster(rng, *models, gap=17.0, noise=0.08):
    numbers, positions = [], []
    for i, model in enumerate(models):
        shape = model.reference_geometry + noise * rng.normal(size=(len(model.symbols), 3))
        place = gap * np.array([i % 2, i // 2 % 2, i // 4]) + rng.uniform(-1, 1, 3)
        positions.append(Rotation.random(rng=rng).apply(shape) + place)
        numbers += symbols2numbers(model.symbols)
    order = rng.permutation(len(numbers))
    return np.array(numbers)[order], np.concatenate(positions)[order]


@pytest.fixture(scope="session")
def cluster():
    """``cluster(rng, *models, gap, noise)``: numbers and positions (bohr) of molecules.

    They stand on a grid, distorted, turned and with their atoms shuffled.
    """
    return _cluster


@pytest.fixture(scope="session")
def periodic():
    """``periodic(rng, *models)``: numbers, positions and cell of molecules wrapped into it."""

    def build(rng, *models):
        numbers, x = _cluster(rng, *models, gap=10.0)
        return numbers, (x + rng.uniform(0, 20, 3)) @ np.linalg.inv(CELL) % 1 @ CELL, CELL

    return build


@pytest.fixture(scope="session")
def pair_potentials():
    """Pair potentials between the atoms of CHFClBr and CH3F (eV, Angstrom)."""
    return {
        "F-H": {"lj": [0.004, 2.6]},
        "C-C": {"buckingham": [900.0, 0.3, 20.0]},
        "H-H": {"buckingham": [60.0, 0.25, 1.0]},
        "Br-Cl": {"lj": [0.01, 3.4]},
    }


def _evaluated(
    interaction, positions, numbers, molecule, cell=None, pbc=(False,) * 3, moments=None
):
    cell = np.zeros((3, 3)) if cell is None else np.asarray(cell, dtype=float)
    positions, molecule = np.asarray(positions, dtype=float), np.asarray(molecule)
    pbc = np.array(pbc)
    pairs = None
    if interaction.cutoff is not None:
        pairs = NeighbourList().pairs(positions, molecule, cell, pbc, interaction.cutoff)
    system = System(positions, np.asarray(numbers), molecule, cell, pbc, moments, pairs)
    interaction.check(system, [])
    return interaction.evaluate(system)


@pytest.fixture(scope="session")
def evaluated():
    """``evaluated(interaction, positions, numbers, molecule, cell, pbc, moments)``."""
    return _evaluated
