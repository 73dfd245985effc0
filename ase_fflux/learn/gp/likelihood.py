"""Likelihoods of a Gaussian process over its hyperparameters, with gradients and information."""

from typing import NamedTuple

import numpy as np
from scipy.linalg import blas, lapack

from ase_fflux.base.errors import TrainingError
from ase_fflux.base.jit import njit
from ase_fflux.learn.gp.correlation import Correlation, cholesky, workspace
from ase_fflux.model.kernels import KERNELS
from ase_fflux.model.process import GaussianProcess


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


class Profile(NamedTuple):
    """What follows from a factor: -ln L, means (P,), weights (P, n) and variances (P,)."""

    value: float
    mean: np.ndarray
    weights: np.ndarray
    variance: np.ndarray


class Likelihood:
    """-ln L over x: ln theta (F,), followed by the logarithm of the noise where that is learned.

    The gradient with respect to ln theta_h is one contraction of G = K o (P K^-1 - sum_p a_p a_p^T
    / s_p^2), with weights a_p and variances s_p^2, over the squared differences of feature h.

    Parameters
    ----------
    features : (n, F) array
        Training features (bohr, radian).
    targets : (P, n) array
        Training targets of outputs that share the correlation matrix.
    noise : float
        Variance on the diagonal of K, relative to the prefactor.
    kernel : str
        One of `KERNELS`.
    learn_noise : bool
        Whether the noise is the last of the hyperparameters.

    Memory is 16 n^2 bytes: the correlations, and their factor, which the inverse overwrites.
    """

    def __init__(
        self, features: np.ndarray, targets: np.ndarray, noise: float, kernel: str = "periodic",
        learn_noise: bool = False,
    ):
        self.features = np.ascontiguousarray(features, dtype=float)
        self.targets = np.atleast_2d(np.asarray(targets, dtype=float))
        self.noise, self.kernel, self.learn_noise = noise, KERNELS[kernel], learn_noise
        self.correlation = Correlation(self.features, self.kernel)
        self._work = [workspace(len(self.features)) for _ in range(2)]
        self._last: tuple[np.ndarray, Profile] | None = None

    def _profile(self, factor: np.ndarray) -> Profile:
        raise NotImplementedError

    def _split(self, x: np.ndarray) -> tuple[np.ndarray, float]:
        """theta (F,) and noise."""
        n_features = self.features.shape[1]
        noise = float(np.exp(x[n_features])) if self.learn_noise else self.noise
        return np.exp(x[:n_features]), noise

    def _factor(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, Profile]:
        """Lower triangles of the correlations without noise and of the factor with it.

        They are valid until the next call.
        """
        theta, noise = self._split(x)
        k = self.correlation.matrix(theta, self._work[0])
        factor = cholesky(k, noise, self._work[1])
        profile = self._profile(factor)
        self._last = x.copy(), profile
        return k, factor, profile

    def value(self, x: np.ndarray) -> float:
        """-ln L; inf where the kernel matrix is not positive definite to working precision."""
        try:
            return self._factor(x)[2].value
        except np.linalg.LinAlgError:
            return np.inf

    def value_and_gradient(
        self, x: np.ndarray, probes: np.ndarray | None = None
    ) -> tuple[float, np.ndarray]:
        """-ln L and its gradient.

        Parameters
        ----------
        x : (F,) or (F + 1,) array
            Logarithms of the hyperparameters.
        probes : (n, m) array, optional
            Random signs z. K^-1 in the gradient is then estimated as the mean of v v^T, v = L^-T z,
            for the factor L of K: n^2 m operations instead of n^3, and a variance of at most P / m
            times the expected information, for P outputs (Stein, Chen, Anitescu, Ann. Appl. Stat.
            2013, 7, 1162, sect. 2). The value stays exact.

        Returns
        -------
        value : float
        gradient : array
            Of the shape of x. A kernel matrix that is not positive definite to working precision
            gives (inf, zeros), which sends a line search back.
        """
        try:
            k, factor, profile = self._factor(x)
        except np.linalg.LinAlgError:
            return np.inf, np.zeros_like(x)
        if probes is None:
            inverse, _ = lapack.dpotri(factor, lower=1, overwrite_c=1)
        else:
            v = blas.dtrsm(1.0, factor, probes, lower=1, trans_a=1)
            inverse = blas.dsyrk(1.0 / probes.shape[1], v, c=factor, lower=1, overwrite_c=1)
        theta, noise = self._split(x)
        n_outputs = len(profile.mean)
        scaled = (profile.weights / np.sqrt(profile.variance)[:, None]).T.copy()
        by_noise = 0.5 * noise * (n_outputs * np.trace(inverse) - np.square(scaled).sum())
        weigh(inverse, k, scaled, float(n_outputs))
        by_theta = -0.5 * theta * self.correlation.contract(inverse)
        return profile.value, np.append(by_theta, by_noise) if self.learn_noise else by_theta

    def information(self, x: np.ndarray) -> np.ndarray:
        """Expected second derivatives of -ln L, the Fisher information; F n^3 operations.

        1/2 tr(K^-1 K_h K^-1 K_k) per output for derivatives K_h of the covariance (Mardia,
        Marshall, Biometrika 1984, 71, 135).
        """
        theta, noise = self._split(x)
        k, factor, _ = self._factor(x)
        slopes = self.correlation.slopes(k, theta)
        if self.learn_noise:
            slopes = np.concatenate([slopes, noise * np.eye(len(k))[None]])
        for slope in slopes:
            half = blas.dtrsm(1.0, factor, slope, lower=1)
            slope[:] = blas.dtrsm(1.0, factor, half.T, lower=1)
        flat = slopes.reshape(len(slopes), -1)
        traces = np.trace(slopes, axis1=1, axis2=2)
        return 0.5 * len(self.targets) * (flat @ flat.T - self._scale_freedom(traces))

    def _scale_freedom(self, traces: np.ndarray) -> np.ndarray | float:
        """What a prefactor that follows the data takes from the information."""
        return 0.0

    def process(self, x: np.ndarray) -> GaussianProcess:
        """The Gaussian process with these hyperparameters.

        Raises
        ------
        TrainingError
            If the kernel matrix is not positive definite.
        """
        theta, noise = self._split(x)
        if self._last is None or not np.array_equal(self._last[0], x):
            try:
                self._factor(x)
            except np.linalg.LinAlgError as error:
                raise TrainingError(
                    f"the kernel matrix is not positive definite ({error}): remove duplicate "
                    "training points or raise the noise level"
                ) from None
        profile = self._last[1]
        return GaussianProcess(
            self.features, self.kernel(theta), profile.mean, profile.weights, noise
        )


class ConcentratedLikelihood(Likelihood):
    r"""Likelihood with mean and variance profiled out.

    .. math:: -\ln L = \sum_p \tfrac n2 \ln s_p^2 + \tfrac P2 \ln|K|, \quad
              m_p = \frac{1^T K^{-1} y_p}{1^T K^{-1} 1}, \quad
              s_p^2 = \tfrac1n (y_p - m_p)^T K^{-1} (y_p - m_p)

    (Jones, Schonlau, Welch, J. Global Optim. 1998, 13, 455, eqs 4 to 6; constants dropped.)
    """

    def _profile(self, factor: np.ndarray) -> Profile:
        n = len(factor)
        right = np.column_stack([np.ones(n), self.targets.T])
        solved, _ = lapack.dpotrs(factor, right, lower=1)
        mean = self.targets @ solved[:, 0] / solved[:, 0].sum()
        weights = (solved[:, 1:] - np.outer(solved[:, 0], mean)).T
        residual = self.targets - mean[:, None]
        # constant targets have no variance; they do not choose length scales
        variance = np.maximum(np.einsum("pn,pn->p", residual, weights) / n, 1e-300)
        value = 0.5 * (n * np.log(variance).sum() + len(mean) * _log_determinant(factor))
        return Profile(value, mean, weights, variance)

    def _scale_freedom(self, traces: np.ndarray) -> np.ndarray:
        return np.outer(traces, traces) / self.features.shape[0]


class MarginalLikelihood(Likelihood):
    r"""Likelihood with unit prefactor and the mean fixed to that of the targets, as in FEREBUS.

    .. math:: -\ln L = \sum_p \tfrac12 (y_p - m_p)^T K^{-1} (y_p - m_p)
              + \tfrac P2 \big(\ln|K| + n \ln 2\pi\big)

    (Rasmussen, Williams, Gaussian Processes for Machine Learning, MIT Press 2006, eq. 5.8.)
    """

    def _profile(self, factor: np.ndarray) -> Profile:
        mean = self.targets.mean(axis=1)
        residual = self.targets - mean[:, None]
        solved, _ = lapack.dpotrs(factor, residual.T, lower=1)
        constant = _log_determinant(factor) + len(factor) * np.log(2.0 * np.pi)
        value = 0.5 * (np.einsum("pn,np->", residual, solved) + len(mean) * constant)
        return Profile(value, mean, np.ascontiguousarray(solved.T), np.ones(len(mean)))


def _log_determinant(factor: np.ndarray) -> float:
    return 2.0 * float(np.log(np.diagonal(factor)).sum())
