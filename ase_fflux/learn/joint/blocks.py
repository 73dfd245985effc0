"""Blocks of covariance between points of one class of atoms, filled by threads."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ase_fflux.base.machine import threads_of
from ase_fflux.learn.joint.covariance import (
    between_adjoint,
    energy_adjoint,
    energy_rows,
    gradient_adjoint,
    gradient_columns,
    mixed_adjoint,
    mixed_columns,
)
from ase_fflux.learn.joint.points import ClassPoints

_TILE = 65_536
"""Numbers in a tile of derivatives with respect to columns: half a megabyte stays in the cache."""
_ROWS = 64
"""Energies of a tile."""


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
    # each thread calls BLAS for itself
    with threads_of(1), ThreadPoolExecutor(threads) as pool:
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
            x, y, *_views(points), theta, points.form.rational, triangle, a, b, out
        ), len(x), threads, triangle,
    )
    return out


def sums_block(x: np.ndarray, points: ClassPoints, theta: np.ndarray, threads: int) -> np.ndarray:
    """Covariances (R, n) of energies at x (R, C) with sums over the atoms of each label."""
    m, n, _ = points.columns.shape
    out = np.empty((len(x), n))

    def work(first, last):
        step = max(1, _TILE // max(1, m * n))
        for a in range(first, last, step):
            b = min(a + step, last)
            tile = np.empty((b - a, m * n))
            energy_rows(
                x[a:b], points.flat_columns, *_views(points), theta, points.form.rational, False,
                0, b - a, tile
            )
            out[a:b] = tile.reshape(b - a, m, n).sum(axis=1)

    run_threads(work, len(x), threads, False)
    return out


def mixed_block(
    rows: ClassPoints, points: ClassPoints, theta: np.ndarray, threads: int
) -> np.ndarray:
    """Covariances (m n', n D) of the energies of rows with the gradients at points."""
    return _mixed(rows.flat_columns, points, theta, threads)


def totals_block(
    rows: ClassPoints, points: ClassPoints, theta: np.ndarray, threads: int
) -> np.ndarray:
    """Covariances (n', n) of the sums over the atoms of labels."""
    return sum(sums_block(x, points, theta, threads) for x in rows.columns)


def totals_mixed_block(
    rows: ClassPoints, points: ClassPoints, theta: np.ndarray, threads: int
) -> np.ndarray:
    """Covariances (n', n D) of sums over the atoms of rows with the gradients at points."""
    return sum(_mixed(x, points, theta, threads) for x in rows.columns)


def _mixed(x: np.ndarray, points: ClassPoints, theta: np.ndarray, threads: int) -> np.ndarray:
    slopes = points.stacked_slopes
    n, width, n_directions = slopes.shape
    out = np.zeros((len(x), n * n_directions))
    by_label = out.reshape(len(x), n, n_directions).transpose(1, 0, 2)

    def work(first, last):
        for r, j, u in _energy_tiles(first, last, n, width):
            mixed_columns(
                x, r.start, points.columns, j.start, *_views(points), theta, points.form.rational, u
            )
            by_label[j, r] = u @ slopes[j]

    run_threads(work, len(x), threads, False)
    return out


def add_gradient_block(
    out: np.ndarray, rows: ClassPoints, points: ClassPoints, theta: np.ndarray, variance: float,
    threads: int, before: int | None = None,
) -> None:
    """Add the covariances of gradients, rows (n' D) and points (n D), to out.

    With ``before``, row i is label before + i of the points, and of these only those up to it are
    worked on.
    """
    n, width, n_directions = points.stacked_slopes.shape
    tiles = _LabelTiles(width, n_directions)

    def work(first, last):
        w_all, product_all = tiles.empty(width), tiles.empty(n_directions)
        for i in range(first, last):
            row = slice(i * n_directions, (i + 1) * n_directions)
            for start, end in tiles(n if before is None else before + i + 1):
                columns = slice(start * n_directions, end * n_directions)
                w, product = (tiles.cut(a, end - start) for a in (w_all, product_all))
                gradient_columns(
                    rows.columns, i, points.columns, points.slopes, start, end, *_views(points),
                    theta, points.form.rational, variance, w,
                )
                out[row, columns] += np.matmul(rows.stacked_slopes[i].T, w, out=product)

    run_threads(work, len(rows.stacked_slopes), threads, before == 0)


def contract_energies(
    points: ClassPoints, theta: np.ndarray, m: np.ndarray, first: int, last: int
) -> tuple[np.ndarray, float]:
    """Contract rows first to last of a lower triangle m with the covariances of energies.

    Off-diagonal elements count twice.

    Returns
    -------
    by_theta : (C,) array
        Derivatives with respect to theta of the sum of m o k.
    sum : float
        The sum itself.
    """
    by_theta = np.zeros_like(theta)
    return by_theta, energy_adjoint(
        points.flat_columns, *_views(points), theta, points.form.rational, first, last, m, by_theta
    )


def contract_sums(
    rows: ClassPoints, points: ClassPoints, theta: np.ndarray, m: np.ndarray, first: int, last: int
) -> tuple[np.ndarray, float]:
    """The same for m (m n', n) and covariances of energies of rows with the sums of labels."""
    by_theta = np.zeros_like(theta)
    return by_theta, between_adjoint(
        rows.flat_columns, points.columns, *_views(points), theta, points.form.rational, first,
        last, m, by_theta,
    )


def contract_mixed(
    rows: ClassPoints, points: ClassPoints, theta: np.ndarray, m: np.ndarray, first: int, last: int
) -> tuple[np.ndarray, float]:
    """The same for m (m n', n D) and covariances of energies of rows with gradients at points."""
    x, slopes = rows.flat_columns, points.stacked_slopes.transpose(0, 2, 1)
    n, n_directions, width = slopes.shape
    by_label = m.reshape(len(x), n, n_directions).transpose(1, 0, 2)
    by_theta, total = np.zeros_like(theta), 0.0
    for r, j, u in _energy_tiles(first, last, n, width):
        np.matmul(by_label[j, r], slopes[j], out=u)
        total += mixed_adjoint(
            x, r.start, points.columns, j.start, *_views(points), theta, points.form.rational, u,
            by_theta,
        )
    return by_theta, total


def contract_gradients(
    points: ClassPoints, theta: np.ndarray, inverse: np.ndarray, beta: np.ndarray, first: int,
    last: int,
) -> tuple[np.ndarray, float]:
    """The same for inverse - beta beta^T (n D, n D) and covariances of gradients, labels as rows.

    Of the inverse, the lower triangle counts; blocks of labels below the diagonal count twice.
    """
    _, width, n_directions = points.stacked_slopes.shape
    tiles = _LabelTiles(width, n_directions)
    w_all, block_all = tiles.empty(width), tiles.empty(n_directions)
    by_theta, total = np.zeros_like(theta), 0.0
    for i in range(first, last):
        row = slice(i * n_directions, (i + 1) * n_directions)
        for start, end in tiles(i + 1):
            columns = slice(start * n_directions, end * n_directions)
            w, block = (tiles.cut(a, end - start) for a in (w_all, block_all))
            np.multiply.outer(-beta[row], beta[columns], out=block)
            block += inverse[row, columns]
            if end == i + 1:  # of its own block the upper triangle is that of something else
                own = inverse[row, row]
                upper = np.triu_indices(n_directions, 1)
                block[:, -n_directions:][upper] += (own.T - own)[upper]
            block[:, : (i - start) * n_directions] *= 2.0
            np.matmul(points.stacked_slopes[i], block, out=w)
            total += gradient_adjoint(
                points.columns, points.slopes, i, start, end, *_views(points), theta,
                points.form.rational, w, by_theta,
            )
    return by_theta, total


def _views(points: ClassPoints) -> tuple[np.ndarray, np.ndarray]:
    return points.view_column, points.view_sign


def _energy_tiles(
    first: int, last: int, n: int, width: int
) -> Iterator[tuple[slice, slice, np.ndarray]]:
    """Rows (energies) and labels (gradients) of tiles, and an array (labels, rows, width)."""
    step = max(1, _TILE // (_ROWS * width))
    memory = np.empty(step * _ROWS * width)
    for r in range(first, last, _ROWS):
        for j in range(0, n, step):
            shape = min(step, n - j), min(_ROWS, last - r), width
            yield (
                slice(r, r + shape[1]), slice(j, j + shape[0]),
                memory[: np.prod(shape)].reshape(shape),
            )


class _LabelTiles:
    """Labels of tiles, and arrays for them that are used again: new ones cost page faults."""

    def __init__(self, width: int, n_directions: int):
        self.step, self.n_directions = max(1, _TILE // (width * n_directions)), n_directions

    def __call__(self, n: int) -> Iterator[tuple[int, int]]:
        for start in range(0, n, self.step):
            yield start, min(start + self.step, n)

    def empty(self, rows: int) -> np.ndarray:
        """Memory for an array of that many rows."""
        return np.empty(rows * self.step * self.n_directions)

    def cut(self, memory: np.ndarray, labels: int) -> np.ndarray:
        """An array (rows, labels D) in that memory."""
        columns = self.n_directions * labels
        return memory[: memory.size // self.step * labels].reshape(-1, columns)

