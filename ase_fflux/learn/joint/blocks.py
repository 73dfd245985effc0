"""Blocks of covariance between points of one class of atoms, filled by threads."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from scipy.linalg import lapack

from ase_fflux.learn.joint.covariance import energy_rows, gradient_rows, mixed_rows
from ase_fflux.learn.joint.points import ClassPoints


def run_threads(work: Callable[[int, int], object], rows: int, threads: int, triangle: bool):
    """Call work(first, last) over rows in threads; rows of a triangle grow in length.

    Returns
    -------
    list
        What the calls returned.
    """
    pieces = 8 * threads if threads > 1 else 1
    share = np.linspace(0.0, 1.0, pieces + 1)
    ends = np.unique(np.rint(rows * (np.sqrt(share) if triangle else share)).astype(int))
    ranges = list(zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True))
    if threads == 1:
        return [work(*r) for r in ranges]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(lambda r: work(*r), reversed(ranges)))


def energy_block(
    rows: ClassPoints, points: ClassPoints, theta: np.ndarray, threads: int
) -> np.ndarray:
    """Covariances (m n', m n) of energies for unit prior variance; theta (C,) of columns.

    Of a block of points with themselves, only the lower triangle is filled.
    """
    x, y = rows.flat_columns, points.flat_columns
    out = np.zeros((len(x), len(y)))
    triangle = rows is points
    run_threads(
        lambda a, b: energy_rows(
            x, y, points.view_column, points.view_sign, theta, triangle, a, b, out
        ), len(x), threads, triangle,
    )
    return out


def mixed_block(
    rows: ClassPoints, points: ClassPoints, theta: np.ndarray, threads: int
) -> np.ndarray:
    """Covariances (m n', n D) of the energies of rows with the gradients at points."""
    x = rows.flat_columns
    out = np.zeros((len(x), points.slopes.shape[1] * points.slopes.shape[3]))
    run_threads(
        lambda a, b: mixed_rows(
            x, points.columns, points.slopes, points.view_column, points.view_sign, theta, a, b, out
        ), len(x), threads, False,
    )
    return out


def add_gradient_block(
    out: np.ndarray, rows: ClassPoints, points: ClassPoints, theta: np.ndarray, variance: float,
    threads: int,
) -> None:
    """Add the covariances of gradients, rows (n' D) and points (n D), to out.

    Of a block of points with themselves, only the lower triangle by labels is filled.
    """
    triangle = rows is points
    run_threads(
        lambda a, b: gradient_rows(
            rows.columns, rows.slopes, points.columns, points.slopes, points.view_column,
            points.view_sign, theta, variance, triangle, a, b, out,
        ), rows.slopes.shape[1], threads, triangle,
    )


def cholesky(matrix: np.ndarray) -> np.ndarray:
    """Lower factor in C order, in place; only the lower triangle counts and is valid.

    Raises
    ------
    numpy.linalg.LinAlgError
        If it is not positive definite to working precision.
    """
    if not len(matrix):
        return matrix
    factor, info = lapack.dpotrf(matrix.T, lower=0, clean=0, overwrite_a=1)
    if info != 0:
        raise np.linalg.LinAlgError(f"leading minor {info} is not positive definite")
    return factor.T
