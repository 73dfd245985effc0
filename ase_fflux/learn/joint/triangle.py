"""The lower triangle of a symmetric matrix in half the memory, and its Cholesky factor in place.

Rows are kept in panels, each as long as its last row. A factorisation goes through them from the
top: a block of a panel is what stands there minus a product of all to the left of it, divided by
the factor of the block on the diagonal above it. Nearly all is products of matrices, at the speed
of these, and a panel is all that an index of LAPACK has to count.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from scipy.linalg import blas, lapack

from ase_fflux.learn.joint.blocks import run_threads

_STRIP = 256
"""Rows of products that are made at once."""


class Triangle:
    """A lower triangle of n rows, zero at the start; what stands above the diagonal counts nowhere.

    Parameters
    ----------
    ends : sequence of int
        Where panels of rows end, ascending; the last one is n.

    Attributes
    ----------
    panels : list of (end - start, end) arrays
    """

    def __init__(self, ends: Sequence[int]):
        self.starts, self.ends = [0, *ends[:-1]], list(ends)
        self.panels = [np.zeros((b - a, b)) for a, b in self._ranges()]

    def __len__(self) -> int:
        return self.ends[-1]

    def _ranges(self) -> Iterator[tuple[int, int]]:
        return zip(self.starts, self.ends, strict=True)

    def _diagonal_blocks(self) -> list[np.ndarray]:
        return [p[:, start:] for p, start in zip(self.panels, self.starts, strict=True)]

    def diagonal(self) -> np.ndarray:
        """(n,) copy."""
        return np.concatenate([np.diagonal(block) for block in self._diagonal_blocks()])

    def add_to_diagonal(self, values: np.ndarray) -> None:
        """Add values (n,)."""
        for block, (start, end) in zip(self._diagonal_blocks(), self._ranges(), strict=True):
            block[np.diag_indices(end - start)] += values[start:end]

    def subtract_products(self, x: np.ndarray) -> None:
        """Subtract x^T x of x (m, n)."""
        for panel, (start, end) in zip(self.panels, self._ranges(), strict=True):
            for first in range(start, end, _STRIP):
                last = min(first + _STRIP, end)
                panel[first - start : last - start, :last] -= x[:, first:last].T @ x[:, :last]

    def factorise(self, threads: int = 1) -> None:
        """Put the lower Cholesky factor in the place of the matrix.

        Threads share the rows of a panel, which depend on the panels above and not on each other:
        they meet once in a panel, where those of OpenBLAS meet in every product.

        Raises
        ------
        numpy.linalg.LinAlgError
            If it is not positive definite to working precision.
        """
        above: list[np.ndarray] = []
        for panel, start in zip(self.panels, self.starts, strict=True):
            own = panel[:, start:]

            def divide(first, last, panel=panel):
                rows = panel[first:last]
                for factor, left, (a, b) in zip(above, self.panels, self._ranges(), strict=False):
                    block = rows[:, a:b] - rows[:, :a] @ left[:, :a].T
                    rows[:, a:b] = blas.dtrsm(1.0, factor, block.T, trans_a=1, overwrite_b=1).T

            def subtract(first, last, panel=panel, own=own, start=start):
                own[first:last, :last] -= panel[first:last, :start] @ panel[:last, :start].T

            if start:
                run_threads(divide, len(panel), threads, pieces_each=1)
                run_threads(subtract, len(panel), threads, pieces_each=1)
            above.append(cholesky(own, start).T)

    def half_solve(self, y: np.ndarray) -> np.ndarray:
        """L^-1 y of a factor L, for y (n, R)."""
        y = np.array(y, order="C")
        for panel, factor, (start, end) in zip(
            self.panels, self._diagonal_blocks(), self._ranges(), strict=True
        ):
            if start:
                y[start:end] -= panel[:, :start] @ y[:start]
            y[start:end] = half_solve(factor, y[start:end])
        return y

    def solve_transposed(self, v: np.ndarray) -> np.ndarray:
        """L^-T v of a factor L, for v (n,)."""
        v = v.copy()
        for panel, factor, (start, end) in reversed(list(zip(
            self.panels, self._diagonal_blocks(), self._ranges(), strict=True
        ))):
            v[start:end] = solve_transposed(factor, v[start:end])
            v[:start] -= panel[:, :start].T @ v[start:end]
        return v

    def full(self) -> np.ndarray:
        """(n, n) array in C order with the same lower triangle."""
        full = np.zeros((len(self), len(self)))
        for panel, (start, end) in zip(self.panels, self._ranges(), strict=True):
            full[start:end, :end] = panel
        return full

    def inverse(self) -> np.ndarray:
        """The lower triangle of (L L^T)^-1 of a factor L, in an (n, n) array in Fortran order."""
        return inverse(self.full())


def cholesky(matrix: np.ndarray, before: int = 0) -> np.ndarray:
    """Put the lower factor of a matrix (n, n) in its place; only the lower triangle counts.

    Raises
    ------
    numpy.linalg.LinAlgError
        If it is not positive definite to working precision; ``before`` is the number of rows that
        went before.
    """
    if not len(matrix):  # BLAS and LAPACK refuse empty matrices
        return matrix
    factor, info = lapack.dpotrf(matrix.T, lower=0, clean=0, overwrite_a=1)
    if info != 0:
        raise np.linalg.LinAlgError(f"leading minor {before + info} is not positive definite")
    if not np.shares_memory(factor, matrix):  # LAPACK works on whole arrays, not on parts of them
        matrix[:] = factor.T
    return matrix


def half_solve(factor: np.ndarray, y: np.ndarray) -> np.ndarray:
    """L^-1 y of a lower factor, for y (n, R)."""
    return blas.dtrsm(1.0, factor.T, y.T, side=1, lower=0).T if y.size else y


def solve_transposed(factor: np.ndarray, v: np.ndarray) -> np.ndarray:
    """L^-T v of a lower factor, for v (n,)."""
    return lapack.dtrtrs(factor.T, v)[0] if len(v) else v


def inverse(factor: np.ndarray) -> np.ndarray:
    """The lower triangle of (L L^T)^-1 of a lower factor (n, n), in Fortran order."""
    found = factor.T.copy(order="F")
    return lapack.dpotri(found, lower=0, overwrite_c=1)[0] if len(factor) else found
