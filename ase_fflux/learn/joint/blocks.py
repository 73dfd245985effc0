"""Blocks of covariance between points of one class of atoms, filled by threads."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import reduce

import numpy as np

from ase_fflux.base.machine import threads_of
from ase_fflux.learn.joint.covariance import (
    between_adjoint,
    energy_adjoint,
    energy_rows,
    gradient_adjoint,
    images,
    mixed_adjoint,
    mixed_columns,
    pairs,
)
from ase_fflux.learn.joint.points import ClassPoints

_TILE = 65_536
"""Numbers in a tile of derivatives with respect to columns: half a megabyte stays in the cache."""
PAIRS = 131_072
"""Numbers in weighted slopes of a tile of pairs of labels: a megabyte."""
_ROWS = 64
"""Energies of a tile."""


def run_threads(
    work: Callable[[int, int], object], rows: int, threads: int, triangle: bool = False,
    pieces_each: int = 8,
):
    """Call work(first, last) over rows in threads; rows of a triangle grow in length.

    Each thread gets some pieces, and more where it is done before the others.

    Returns
    -------
    list
        What the calls returned.
    """
    pieces = pieces_each * threads if threads > 1 else 1
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


def add_gradient_blocks(
    out: np.ndarray, classes: Sequence[tuple[ClassPoints, ClassPoints, np.ndarray, float]],
    threads: int, before: int | None = None,
) -> None:
    """Add the covariances of gradients, rows (n' D) and points (n D), to out.

    Parameters
    ----------
    out : (n' D, n D) array
        With ``before``, of the columns up to the last row's own label.
    classes : sequence of (ClassPoints, ClassPoints, (C,) array, float)
        Rows, points, theta of columns and prior variance of each class.
    threads : int
    before : int, optional
        Number of the first row among the labels of the points, where rows are some of these in
        their order: only the lower triangle by labels is filled, and maybe more.
    """
    tiles = _PairTiles(classes)

    def work(first, last):
        for start in range(first, last, tiles.columns):
            end = min(start + tiles.columns, last)
            tiles.add(out, start, end, 0 if before is None else max(0, start - before))

    if not classes:
        return
    n = classes[0][1].columns.shape[1] if before is None else before + tiles.n_rows
    run_threads(work, n, threads)


class _PairTiles:
    """Labels as rows against labels as columns, all products of slopes left to BLAS."""

    def __init__(self, classes):
        self.classes, self.rows = [], []
        size = 1
        for rows, points, theta, variance in classes:
            m, n, n_columns, n_directions = rows.slopes.shape
            root = np.sqrt(theta)
            x = np.ascontiguousarray((root * rows.columns).swapaxes(0, 1))
            slopes = np.ascontiguousarray((root[:, None] * rows.slopes).swapaxes(0, 1))
            self.rows.append((x, slopes))
            self.classes.append((points, root, variance))
            size = max(size, m * n_columns * n_directions)
            self.n_rows, self.n_directions = n, n_directions
        pairs = max(1, PAIRS // size)
        self.columns = max(1, int(np.sqrt(0.5 * pairs)))
        self.step = max(1, pairs // self.columns)

    def add(self, out: np.ndarray, start: int, end: int, first: int) -> None:
        """Add the blocks of rows from the first on with columns start to end."""
        d = self.n_directions
        shown = [self._images(points, root, start, end) for points, root, _ in self.classes]
        for i in range(first, self.n_rows, self.step):
            last = min(i + self.step, self.n_rows)
            tile = reduce(np.add, (
                _pair_blocks(
                    x[i:last], slopes[i:last], y, image_slopes, points.form.rational, variance
                ) for (x, slopes), (y, image_slopes), (points, _, variance) in zip(
                    self.rows, shown, self.classes, strict=True
                )
            ))
            out[i * d : last * d, start * d : end * d] += tile.transpose(0, 2, 1, 3).reshape(
                (last - i) * d, -1
            )

    @staticmethod
    def _images(points, root, start, end):
        m, _, n_columns, n_directions = points.slopes.shape
        shape = end - start, m * len(points.view_column), n_columns
        y, slopes = np.empty(shape), np.empty((*shape, n_directions))
        images(points.columns, points.slopes, start, *_views(points), root, y, slopes)
        return y, slopes


def _pair_blocks(x, slopes, y, image_slopes, rational, variance) -> np.ndarray:
    """(i, j, D, D) of rows x (i, m, C) and images y (j, V, C), with their slopes."""
    n, m, n_columns, d = slopes.shape
    k, n_images = y.shape[:2]
    a, bent = np.empty((n * m, k * n_images, n_columns)), np.empty((k * n_images, n * m, n_columns))
    fall = np.empty((k, n * m, n_images))
    pairs(x.reshape(n * m, -1), y, rational, variance, a, bent, fall)
    u = a @ slopes.reshape(n * m, n_columns, d)
    q = bent @ image_slopes.reshape(k * n_images, n_columns, d)
    w = fall @ image_slopes.reshape(k, n_images, n_columns * d)
    # of a pair of labels, all its pairs of points one below the other
    u = u.reshape(n, m, k, n_images, d).transpose(0, 2, 1, 3, 4).reshape(n, k, m * n_images, d)
    q = q.reshape(k, n_images, n, m, d).transpose(2, 0, 3, 1, 4).reshape(n, k, m * n_images, d)
    w = w.reshape(k, n, m * n_columns, d).swapaxes(0, 1)
    return u.swapaxes(2, 3) @ q + slopes.reshape(n, 1, m * n_columns, d).swapaxes(2, 3) @ w


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

