"""Geometries laid onto each other, and the symmetry of one geometry.

The best rotation is that of the Kabsch algorithm (Acta Cryst. A32 (1976) 922), the best improper
operation the same with the other sign of the determinant.
"""

import numpy as np

from ase_fflux.topology.graphs import Graph, bonds
from ase_fflux.topology.isomorphism import mappings

SAME_MASS = 0.1
"""Atomic mass units; atoms of one element whose masses differ by more are different isotopes."""


def orthogonal_maps(x: np.ndarray, targets: np.ndarray, improper: bool = False) -> np.ndarray:
    """Orthogonal matrices R (G, 3, 3) for which x @ R comes nearest to targets.

    Parameters
    ----------
    x : (N, 3) array
        Positions about their mean.
    targets : (G, N, 3) array
        The same for every target, in the order of x.
    improper : bool
        Reflections and improper rotations (determinant -1) instead of rotations.
    """
    u, _, vt = np.linalg.svd(np.einsum("ai,pab->pib", x, targets))
    wanted = -1.0 if improper else 1.0
    vt[:, 2] *= (wanted * np.sign(np.linalg.det(u) * np.linalg.det(vt)))[:, None]
    return u @ vt


def deviations(x: np.ndarray, targets: np.ndarray, improper: bool = False) -> np.ndarray:
    """Distances (G, N) that are left after the best `orthogonal_maps`, arguments as there."""
    return np.linalg.norm(x @ orthogonal_maps(x, targets, improper) - targets, axis=-1)


def superposition(a: np.ndarray, b: np.ndarray) -> float:
    """Root mean square deviation of two geometries (N, 3) after the best proper rotation."""
    a, b = a - np.mean(a, axis=0), b - np.mean(b, axis=0)
    return float(np.sqrt((deviations(a, b[None])[0] ** 2).mean()))


def shape_symmetries(
    graph: Graph, positions: np.ndarray, tolerance: float, masses=None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Relabellings that rotations or improper operations make of a geometry.

    Parameters
    ----------
    graph : Graph
        Atoms and bonds, which are kept.
    positions : (N, 3) array
        One whole molecule or complex (bohr).
    tolerance : float
        Largest distance of an atom from the image that it is laid onto (bohr).
    masses : (N,) array, optional
        Atomic mass units; isotopes are not exchanged (`SAME_MASS`).

    Returns
    -------
    permutations : (P, N) int array
    proper, improper : (P,) bool arrays
        Whether a rotation does it, and whether a reflection or improper rotation does. Both can:
        those of a planar molecule differ by the reflection in the plane.
    """
    x = positions - np.mean(positions, axis=0)
    distance = np.linalg.norm(x[:, None] - x, axis=-1)
    same = np.ones(distance.shape, dtype=bool)
    if masses is not None:
        masses = np.asarray(masses, dtype=float)
        same = np.abs(masses[:, None] - masses) < SAME_MASS

    def allowed(atom, candidate, image):
        placed = [i for i, c in enumerate(image) if c >= 0]
        images = [image[i] for i in placed]
        return bool(same[atom, candidate]) and bool(
            (abs(distance[atom, placed] - distance[candidate, images]) <= 2 * tolerance).all()
        )

    permutations = np.array(list(mappings(graph, graph, allowed)), dtype=int)
    targets = x[permutations]
    proper, improper = (
        deviations(x, targets, kind).max(axis=1) <= tolerance for kind in (False, True)
    )
    kept = proper | improper
    return permutations[kept], proper[kept], improper[kept]


def rotational_symmetry_number(numbers, positions, tolerance=0.1, masses=None) -> int:
    """Number of proper rotations that map a molecule onto itself, atoms onto bonded-alike atoms.

    Parameters
    ----------
    numbers : (N,) int
        Atomic numbers.
    positions : (N, 3) float
        Positions in bohr of one whole molecule (or complex).
    tolerance : float
        Largest distance in bohr of any atom from the image it is rotated onto.
    masses : (N,) float, optional
        Atomic mass units, by which isotopes are told apart; without, an element is one kind.

    Returns
    -------
    int
        1 for an asymmetric, 2 for a linear centrosymmetric molecule (a linear one else has 1).
    """
    numbers = np.asarray(numbers, dtype=int)
    graph = Graph(numbers, bonds(numbers, positions)[0])
    _, proper, _ = shape_symmetries(graph, np.asarray(positions, dtype=float), tolerance, masses)
    return int(proper.sum())
