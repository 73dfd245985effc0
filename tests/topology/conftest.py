"""Molecules and scores; the fixtures are the functions of their name."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

from ase_fflux.base.units import BOHR
from ase_fflux.topology import Pattern


def _geometry(name):
    atoms = molecule(name)
    return atoms.numbers, atoms.positions / BOHR


def _join(*parts):
    numbers = np.concatenate([n for n, _, _ in parts])
    return numbers, np.concatenate([x + np.asarray(shift) for _, x, shift in parts])


@pytest.fixture(scope="session")
def geometry():
    """``geometry(name)``: numbers and positions (bohr) of a molecule of `ase.build`."""
    return _geometry


@pytest.fixture(scope="session")
def model():
    """``model(name)``: the `Pattern` of a molecule of `ase.build`."""
    return lambda name: Pattern.from_geometry(name, *_geometry(name))


@pytest.fixture(scope="session")
def join():
    """``join(*parts)``: numbers and positions of (numbers, positions, shift) parts together."""
    return _join


@pytest.fixture(scope="session")
def formic_acid_dimer():
    """Two formic acids, their hydrogen bonds 1.7 Angstrom, about an inversion centre."""

    def build():
        acid = Atoms(
            "OCOHH", [[0, 0, 0], [0.2, 1.2, 0], [1.45, 1.6, 0], [2.05, 0.8, 0], [-0.6, 1.95, 0]]
        )
        centre = np.array([1.535, -0.28, 0])
        both = np.concatenate([acid.positions, 2 * centre - acid.positions])
        return np.tile(acid.numbers, 2), both / BOHR

    return build


@pytest.fixture(scope="session")
def no_preference():
    """A score that makes all labellings equal."""
    return lambda k, coordinates: np.zeros(len(coordinates))


@pytest.fixture(scope="session")
def unlike():
    """A score by coordinates alone that tells all labellings of a generic shape apart."""

    def score(k, coordinates):
        weights = np.log(2 + np.arange(coordinates.shape[1]))
        distances = np.linalg.norm(coordinates[:, :, None] - coordinates[:, None], axis=-1)
        return np.einsum("cij,i,j->c", distances, weights, weights**2)

    return score
