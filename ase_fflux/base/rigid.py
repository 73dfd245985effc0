"""Motions of a molecule as a whole, and what is left when they are taken out.

Translations and infinitesimal rotations about the centre of mass, in mass-weighted coordinates
(displacement times square root of mass) the external motions of Eckart's conditions: C. Eckart,
Phys. Rev. 47, 552 (1935). Without masses all atoms weigh the same.
"""

import numpy as np

_VANISHING = 1e-4
"""Share of the largest singular value below which a rotation moves nothing: that of a linear
molecule about its axis, those of an atom."""


def rigid_motions(
    positions: np.ndarray, masses: np.ndarray | None = None, *, rotations: bool = True
) -> np.ndarray:
    """Orthonormal motions of the whole.

    Parameters
    ----------
    positions : (N, 3) array
        In any unit.
    masses : (N,) array, optional
        In any unit; with masses the motions are mass-weighted.
    rotations : bool
        Whether rotations are among them.

    Returns
    -------
    (k, 3N) array
        k is 3 without rotations and for one atom, 5 for linear molecules, else 6.
    """
    motions = _motions(positions, masses, rotations)
    _, singular, rows = np.linalg.svd(motions, full_matrices=False)
    return rows[: _rank(singular)]


def internal_motions(
    positions: np.ndarray, masses: np.ndarray | None = None, *, external: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Orthonormal motions of the whole, and those orthogonal to them.

    Parameters
    ----------
    positions : (..., N, 3) array
        One geometry or several of one molecule.
    masses : (N,) array, optional
        With masses the motions are mass-weighted.
    external : int, optional
        How many motions of the whole there are: those that move the atoms most. Needed for several
        geometries, of which some may be linear by chance; default: 3, 5 or 6 as there are.

    Returns
    -------
    whole : (..., k, 3N) array
        Of the molecule as a whole.
    internal : (..., 3N - k, 3N) array
        All others.
    """
    _, singular, rows = np.linalg.svd(_motions(positions, masses, True))
    k = _rank(singular) if external is None else external
    return rows[..., :k, :], rows[..., k:, :]


def _motions(positions: np.ndarray, masses: np.ndarray | None, rotations: bool) -> np.ndarray:
    """Translations and rotations (..., 6 or 3, 3N), weighted; the latter about the centre."""
    positions = np.asarray(positions, dtype=float)
    weights = np.ones(positions.shape[-2]) if masses is None else np.asarray(masses, dtype=float)
    centre = np.einsum("a,...ai->...i", weights, positions) / weights.sum()
    centred = positions - centre[..., None, :]
    motions = [np.broadcast_to(axis, centred.shape) for axis in np.eye(3)]
    if rotations:
        motions += [np.cross(axis, centred) for axis in np.eye(3)]
    weighted = np.sqrt(weights)[:, None] * np.stack(motions, axis=-3)
    return weighted.reshape(*weighted.shape[:-2], -1)


def _rank(singular: np.ndarray) -> int:
    return int((singular > _VANISHING * singular[0]).sum())
