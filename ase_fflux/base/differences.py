"""Derivatives by central differences: force constants, and what else comes with the forces."""

from collections.abc import Callable, Iterable, Iterator

import numpy as np


def displacements(n_atoms: int) -> Iterator[tuple[int, int]]:
    """Pairs of a coordinate, 0 to 3N - 1, and a sign: each coordinate first up, then down."""
    for coordinate in range(3 * n_atoms):
        yield coordinate, 1
        yield coordinate, -1


def central_differences(
    function: Callable[[np.ndarray], np.ndarray],
    positions: np.ndarray,
    step: float,
    watch: Callable[[Iterable], Iterable] = iter,
) -> np.ndarray:
    """Derivatives of a vector with respect to all coordinates.

    Parameters
    ----------
    function : callable
        Positions (N, 3) to a vector (m,); called in the order of `displacements`.
    positions : (N, 3) array
        Where.
    step : float
        Displacement, in the unit of the positions; the error falls as its square.
    watch : callable
        Wraps the displacements, for a progress display.

    Returns
    -------
    (3N, m) array
        d f_b / d r_a.
    """
    rows = []
    for coordinate, sign in watch(displacements(len(positions))):
        moved = np.array(positions, dtype=float)
        moved.flat[coordinate] += sign * step
        value = function(moved)
        if sign > 0:
            up = value
        else:
            rows.append((up - value) / (2 * step))
    return np.array(rows)


def symmetrised(matrix: np.ndarray) -> np.ndarray:
    """The mean of a matrix and its transpose, such as of second derivatives by differences."""
    return 0.5 * (matrix + matrix.T)
