"""Second derivatives of a molecule by guess, for an optimisation to start from."""

import numpy as np
from ase.data import covalent_radii

_BOND = 50.0
"""eV/Angstrom^2; spring of two atoms at the sum of their covalent radii."""
_DECAY = 2.9
"""By which springs weaken for each such sum: a bent angle is held by a sixth of a bond's, a torsion
by a hundredth."""
_SOFTEST = 4.0
"""eV/Angstrom^2; least stiffness, that of rotations and translations included. Softer starts leap
over shallow minima, and take no fewer steps."""


def guessed_stiffness(numbers: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Springs between all atoms, weaker with their distance.

    Parameters
    ----------
    numbers : (N,) int array
        Atomic numbers.
    positions : (N, 3) array
        Angstrom, no two atoms on one spot.

    Returns
    -------
    (3N, 3N) array
        eV/Angstrom^2, symmetric and positive.
    """
    n = len(numbers)
    radii = covalent_radii[numbers]
    vectors = positions[:, None] - positions
    lengths = np.linalg.norm(vectors, axis=2) + np.eye(n)
    springs = _BOND * np.exp(-_DECAY * (lengths / (radii[:, None] + radii) - 1))
    directions = vectors / lengths[:, :, None]
    blocks = springs[:, :, None, None] * directions[:, :, :, None] * directions[:, :, None]
    matrix = -blocks
    matrix[range(n), range(n)] = blocks.sum(axis=1)
    return positive(matrix.transpose(0, 2, 1, 3).reshape(3 * n, 3 * n), _SOFTEST)


def positive(matrix: np.ndarray, least: float) -> np.ndarray:
    """A symmetric matrix with its eigenvalues replaced by their sizes, or ``least`` if smaller."""
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.maximum(np.abs(values), least)) @ vectors.T
