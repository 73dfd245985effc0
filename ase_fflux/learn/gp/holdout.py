"""Prediction error on training points held out in turn, as an objective for hyperparameters."""

import numpy as np
from scipy.linalg import blas, cho_factor, cho_solve, lapack

from ase_fflux.learn.gp.likelihood import ConcentratedLikelihood, weigh

FOLDS = 5


class HoldOut(ConcentratedLikelihood):
    r"""n ln(RMSE) of predictions of held-out training points; the process is that of all points.

    The points are split at random into `FOLDS` folds, and each is predicted from the others:

    .. math:: J = \tfrac n2 \ln \sum_p \frac{|e_p|^2}{P\,n \operatorname{var} y_p}

    All folds follow from one inverse. With B = K^-1 - K^-1 1 1^T K^-1 / (1^T K^-1 1), which
    estimates the mean from the others as well, the errors of fold I are e_I = (B_II)^-1 (B y)_I
    (Dubrule, Math. Geol. 1983, 15, 687). As dB = -B dK B, the derivative of the sum of squares is
    2 sum_I (B u_I)^T dK (B e_I - B y) with u_I = (B_II)^-1 e_I: a matrix of rank `FOLDS` per output
    takes the place of K^-1 in the gradient of the likelihood.

    Parameters are those of `Likelihood`, and ``seed`` of the folds.
    """

    def __init__(self, features, targets, noise, kernel="periodic", learn_noise=False, seed=0):
        super().__init__(features, targets, noise, kernel, learn_noise)
        order = np.random.default_rng(seed).permutation(len(self.features))
        self._folds = [np.sort(fold) for fold in np.array_split(order, FOLDS)]
        spread = np.maximum(self.targets.var(axis=1), 1e-300) * self.targets.size
        self._scale = 1.0 / np.sqrt(spread)

    def _errors(self, x):
        """Correlations, B (n, n), scaled weights a, errors e and u, all three (n, P)."""
        k, factor, profile = self._factor(x)
        inverse, _ = lapack.dpotri(factor, lower=1, overwrite_c=1)
        inverse = np.tril(inverse) + np.tril(inverse, -1).T
        one = inverse.sum(axis=1)
        inverse -= np.outer(one, one / one.sum())
        a = (profile.weights * self._scale[:, None]).T
        e, u = np.empty_like(a), np.empty_like(a)
        for fold in self._folds:
            block = cho_factor(inverse[np.ix_(fold, fold)], lower=True)
            e[fold] = cho_solve(block, a[fold])
            u[fold] = cho_solve(block, e[fold])
        return k, inverse, a, e, u

    def value(self, x: np.ndarray) -> float:
        """J; inf where the kernel matrix is not positive definite to working precision."""
        return self.value_and_gradient(x)[0]

    def value_and_gradient(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        """J and its gradient; (inf, zeros) where the kernel matrix is not positive definite."""
        try:
            k, b, a, e, u = self._errors(x)
        except np.linalg.LinAlgError:
            return np.inf, np.zeros_like(x)
        n, total = len(a), np.square(e).sum()
        left = np.hstack([b[:, fold] @ u[fold] for fold in self._folds])
        right = np.hstack([b[:, fold] @ e[fold] - a for fold in self._folds])
        theta, noise = self._split(x)
        g = blas.dsyr2k(0.5, left, right, lower=1)
        weigh(g, k, np.zeros((n, 0)), 1.0)
        by_theta = -n / total * theta * self.correlation.contract(g)
        by_noise = n / total * noise * np.sum(left * right)
        value = 0.5 * n * np.log(total)
        return value, np.append(by_theta, by_noise) if self.learn_noise else by_theta
