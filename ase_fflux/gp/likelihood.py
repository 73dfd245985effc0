"""The concentrated likelihood of a Gaussian process and its gradient."""

import numpy as np
from scipy.linalg import blas, lapack

from ase_fflux.errors import TrainingError
from ase_fflux.gp.kernels import Kernel
from ase_fflux.gp.process import GaussianProcess
from ase_fflux.jit import njit


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


@njit
def weigh(g, k, scaled, n_outputs):
    """Turn the lower triangle of g into that of k o (n_outputs g - scaled scaled^T), in place.

    g and k (n, n) in Fortran order, scaled (n, P).
    """
    n = g.shape[0]
    for j in range(n):
        for i in range(j, n):
            total = n_outputs * g[i, j]
            for p in range(scaled.shape[1]):
                total -= scaled[i, p] * scaled[j, p]
            g[i, j] = total * k[i, j]


class ConcentratedLikelihood:
    r"""Likelihood of targets with mean and variance profiled out.

    For P outputs y_p of n points that share the correlation matrix K (noise on its diagonal)

    .. math:: -\ln L = \sum_p \tfrac n2 \ln s_p^2 + \tfrac P2 \ln|K|, \quad
              m_p = \frac{1^T K^{-1} y_p}{1^T K^{-1} 1}, \quad
              s_p^2 = \tfrac1n (y_p - m_p)^T K^{-1} (y_p - m_p)

    (Jones, Schonlau, Welch, J. Global Optim. 1998, 13, 455, eqs 4 to 6; constants dropped).

    The gradient with respect to theta_h is one contraction of G = K o (P K^-1 - sum_p a_p a_p^T /
    s_p^2), a_p = K^-1 (y_p - m_p), with the squared differences of the columns of feature h, which
    is one product G X: no n x n array per feature is formed.

    Parameters
    ----------
    features : (n, F) array
        Training features (bohr, radian).
    targets : (P, n) array
        Training targets.
    noise : float
        Variance on the diagonal of K, relative to the prefactor.
    """

    def __init__(self, features: np.ndarray, targets: np.ndarray, noise: float):
        self.features = np.ascontiguousarray(features, dtype=float)
        self.targets = np.atleast_2d(np.asarray(targets, dtype=float))
        self.noise = noise
        if not np.isfinite(self.features).all() or not np.isfinite(self.targets).all():
            raise TrainingError("training features and targets must be finite numbers")
        n_features = self.features.shape[1]
        unit = Kernel.periodic_on_phi(np.ones(n_features))
        plain = np.flatnonzero(unit.rbf)
        circle = np.flatnonzero(unit.periodic)
        self._feature_of_column = np.concatenate([plain, circle, circle])
        columns = unit.columns(self.features)
        # centred columns lose no digits when squared distances are expanded as x^2 + y^2 - 2 x y
        self._columns = np.asfortranarray(columns - columns.mean(axis=0))
        one = np.ones((len(columns), 1))
        self._columns_and_one = np.asfortranarray(np.hstack([self._columns, one]))

    def _factor(self, theta: np.ndarray):
        """Correlations (n, n) without noise and the Cholesky factor of those with it.

        Of both only the lower triangles count.
        """
        x = self._columns * np.sqrt(theta[self._feature_of_column])
        k = blas.dsyrk(2.0, x, lower=1)
        correlations(k)
        noisy = k.copy(order="F")
        noisy[np.diag_indices_from(noisy)] += self.noise
        factor, info = lapack.dpotrf(noisy, lower=1, clean=0, overwrite_a=1)
        if info != 0:
            raise np.linalg.LinAlgError(f"leading minor {info} is not positive definite")
        return k, factor

    def _solve(self, factor: np.ndarray):
        """Means (P,), residual weights a (P, n) and variances s^2 (P,)."""
        n = factor.shape[0]
        right = np.column_stack([np.ones(n), self.targets.T])
        solved, _ = lapack.dpotrs(factor, right, lower=1)
        mean = self.targets @ solved[:, 0] / solved[:, 0].sum()
        weights = (solved[:, 1:] - np.outer(solved[:, 0], mean)).T
        residual = self.targets - mean[:, None]
        variance = np.einsum("pn,pn->p", residual, weights) / n
        # constant targets have no variance; they do not choose length scales
        return mean, weights, np.maximum(variance, 1e-300)

    @staticmethod
    def _value(factor: np.ndarray, variance: np.ndarray) -> float:
        log_det = 2.0 * np.log(np.diagonal(factor)).sum()
        return 0.5 * (len(factor) * np.log(variance).sum() + len(variance) * log_det)

    def value(self, log_theta: np.ndarray) -> float:
        """-ln L; inf where the kernel matrix is not positive definite to working precision."""
        try:
            _, factor = self._factor(np.exp(log_theta))
        except np.linalg.LinAlgError:
            return np.inf
        return self._value(factor, self._solve(factor)[2])

    def value_and_gradient(self, log_theta: np.ndarray) -> tuple[float, np.ndarray]:
        """-ln L and its gradient (F,) with respect to ln theta.

        A kernel matrix that is not positive definite to working precision gives (inf, zeros), which
        sends a line search back.
        """
        theta = np.exp(log_theta)
        try:
            k, factor = self._factor(theta)
        except np.linalg.LinAlgError:
            return np.inf, np.zeros_like(theta)
        mean, weights, variance = self._solve(factor)
        n_outputs = len(mean)
        value = self._value(factor, variance)
        g, _ = lapack.dpotri(factor, lower=1, overwrite_c=1)
        weigh(g, k, (weights / np.sqrt(variance)[:, None]).T.copy(), float(n_outputs))
        x = self._columns
        products = blas.dsymm(1.0, g, self._columns_and_one, lower=1)
        contraction = 2.0 * (products[:, -1] @ x**2 - np.einsum("nc,nc->c", x, products[:, :-1]))
        by_feature = np.bincount(self._feature_of_column, contraction, minlength=len(theta))
        return value, -0.5 * by_feature * theta

    def process(self, theta: np.ndarray) -> GaussianProcess:
        """The Gaussian process with these theta (F,).

        Raises
        ------
        TrainingError
            If the kernel matrix is not positive definite.
        """
        try:
            _, factor = self._factor(np.asarray(theta, dtype=float))
        except np.linalg.LinAlgError as error:
            raise TrainingError(
                f"the kernel matrix is not positive definite ({error}): remove duplicate training "
                "points or raise the noise level"
            ) from None
        mean, weights, _ = self._solve(factor)
        return GaussianProcess(
            self.features, Kernel.periodic_on_phi(theta), mean, weights, self.noise
        )
