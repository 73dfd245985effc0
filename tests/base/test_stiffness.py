import numpy as np
import pytest
from ase.build import molecule

from ase_fflux.base.stiffness import guessed_stiffness, positive


def test_springs_pull_along_bonds():
    atoms = molecule("N2")
    matrix = guessed_stiffness(atoms.numbers, atoms.positions)
    assert matrix == pytest.approx(matrix.T)
    length = atoms.get_distance(0, 1)
    axis = (atoms.positions[1] - atoms.positions[0]) / length
    stretch = np.concatenate([-axis, axis]) / np.sqrt(2)
    expected = 2 * 50.0 * np.exp(-2.9 * (length / (2 * 0.71) - 1))
    assert stretch @ matrix @ stretch == pytest.approx(expected)
    assert np.linalg.eigvalsh(matrix)[:5] == pytest.approx(4.0)


def test_eigenvalues_are_made_positive():
    matrix = np.diag([-3.0, 0.1, 2.0])
    assert positive(matrix, 0.5) == pytest.approx(np.diag([3.0, 0.5, 2.0]))
