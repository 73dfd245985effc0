"""Correlation matrices of training points, as training needs them: lower triangles, in place."""

from collections.abc import Callable

import numpy as np
from scipy.linalg import blas, lapack

from ase_fflux.base.jit import njit
from ase_fflux.model.kernels import Kernel


@njit
def correlations(k):
    """Turn the lower triangle of 2 x.y into that of exp(-|x - y|^2), in place (Fortran order)."""
    n = k.shape[0]
    half = np.empty(n)
    for i in range(n):
        half[i] = 0.5 * k[i, i]
    for j in range(n):
        for i in range(j, n):
            k[i, j] = np.exp(min(k[i, j] - half[i] - half[j], 0.0))


class Correlation:
    """Correlations of n points as a function of theta.

    Parameters
    ----------
    features : (n, F) array
        Training features (bohr, radian).
    kernel : callable
        Makes a `Kernel` without wrapped part from theta (F,).
    """

    def __init__(self, features: np.ndarray, kernel: Callable[[np.ndarray], Kernel]):
        unit = kernel(np.ones(features.shape[1]))
        plain, circle = np.flatnonzero(unit.rbf), np.flatnonzero(unit.periodic)
        self.feature_of_column = np.concatenate([plain, circle, circle])
        columns = unit.columns(features)
        # centred columns lose no digits when squared distances are expanded as x^2 + y^2 - 2 x y
        self._columns = np.asfortranarray(columns - columns.mean(axis=0))
        one = np.ones((len(columns), 1))
        self._columns_and_one = np.asfortranarray(np.hstack([self._columns, one]))

    def columns(self, theta: np.ndarray) -> np.ndarray:
        """Scaled columns (n, C), whose squared distances are the exponents."""
        return self._columns * np.sqrt(theta[self.feature_of_column])

    def matrix(self, theta: np.ndarray, out: np.ndarray) -> np.ndarray:
        """Lower triangle of the correlations, written to `out`, (n, n) in Fortran order."""
        k = blas.dsyrk(2.0, self.columns(theta), c=out, lower=1, overwrite_c=1)
        correlations(k)
        return k

    def contract(self, g: np.ndarray) -> np.ndarray:
        """Sums (F,) of g_ij |x_i - x_j|^2 over all i and j, x the unscaled columns of a feature.

        g (n, n) is symmetric, only its lower triangle counts. One product g X does it for all
        features: no n x n array per feature is formed.
        """
        x = self._columns
        products = blas.dsymm(1.0, g, self._columns_and_one, lower=1)
        by_column = 2.0 * (products[:, -1] @ x**2 - np.einsum("nc,nc->c", x, products[:, :-1]))
        return np.bincount(self.feature_of_column, by_column)

    def slopes(self, k: np.ndarray, theta: np.ndarray) -> np.ndarray:
        """Derivatives (F, n, n) of the correlations with respect to ln theta, for few points."""
        x, n = self.columns(theta), len(k)
        lower = np.tril(k)
        k = lower + np.tril(lower, -1).T
        slopes = np.zeros((len(theta), n, n))
        for column, h in zip(x.T, self.feature_of_column, strict=True):
            slopes[h] -= k * np.subtract.outer(column, column) ** 2
        return slopes


def workspace(n: int) -> np.ndarray:
    """An (n, n) array in Fortran order to write to; a new one each time would cost page faults."""
    return np.empty((n, n), order="F")


def cholesky(k: np.ndarray, noise: float, out: np.ndarray) -> np.ndarray:
    """Lower Cholesky factor (n, n) of k with noise on its diagonal, written to `out`.

    Only the lower triangles count.

    Raises
    ------
    numpy.linalg.LinAlgError
        If it is not positive definite to working precision.
    """
    np.copyto(out, k)
    out[np.diag_indices_from(out)] += noise
    factor, info = lapack.dpotrf(out, lower=1, clean=0, overwrite_a=1)
    if info != 0:
        raise np.linalg.LinAlgError(f"leading minor {info} is not positive definite")
    return factor
