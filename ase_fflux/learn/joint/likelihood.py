"""Likelihood of the joint process over its hyperparameters, with its gradient.

Hyperparameters are the logarithms of theta (those that views exchange are one), of the variance of
each class, and of the noise levels (of energies from each source, then of gradients), in this
order.
"""

import numpy as np
from scipy.linalg import blas, lapack

from ase_fflux.learn.joint.blocks import (
    contract_energies,
    contract_gradients,
    contract_mixed,
    run_threads,
)
from ase_fflux.learn.joint.data import JointData
from ase_fflux.learn.joint.system import Hyperparameters, JointSystem


class JointLikelihood:
    r"""-ln L of all atomic energies and total gradients, constant means profiled out.

    With M = K^-1 - a a^T for the covariance K of all observations and their dual weights a, the
    derivative is 1/2 tr(M dK) (Rasmussen, Williams, Gaussian Processes for Machine Learning, MIT
    Press 2006, eq. 5.9); no derivative of a matrix is formed.

    Parameters
    ----------
    data : JointData
        Observations.
    threads : int
        For what numba does.
    n_sources : int, optional
        Number of sources of labels, of which some may have none here; default: those that have.
    """

    def __init__(self, data: JointData, threads: int = 1, n_sources: int | None = None):
        self.data, self.threads = data, threads
        ties = [np.unique(c.tie, return_inverse=True)[1] for c in data.classes]
        self._sizes = [int(t.max()) + 1 for t in ties]
        self._ties = ties
        self.n_sources = int(data.source.max()) + 1 if n_sources is None else n_sources

    @property
    def size(self) -> int:
        """Number of hyperparameters."""
        return sum(self._sizes) + len(self._sizes) + 2 * self.n_sources

    @property
    def parts(self) -> tuple[slice, slice, slice, slice]:
        """Where the theta, the variances, the noises of energies and of gradients are."""
        sizes = [sum(self._sizes), len(self._sizes), self.n_sources, self.n_sources]
        ends = np.cumsum([0, *sizes])
        return tuple(slice(a, b) for a, b in zip(ends[:-1], ends[1:], strict=True))

    def pack(self, hyperparameters: Hyperparameters) -> np.ndarray:
        """Logarithms (H,); of tied theta the mean."""
        theta = [
            np.bincount(tie, np.log(t)) / np.bincount(tie)
            for t, tie in zip(hyperparameters.theta, self._ties, strict=True)
        ]
        return np.concatenate([
            *theta, *np.log([hyperparameters.variance]),
            *np.log([hyperparameters.energy_noise, hyperparameters.gradient_noise]),
        ])

    def unpack(self, x: np.ndarray) -> Hyperparameters:
        """Hyperparameters of logarithms (H,)."""
        theta, *rest = (np.exp(x[part]) for part in self.parts)
        theta = np.split(theta, np.cumsum(self._sizes)[:-1])
        return Hyperparameters(
            [t[tie] for t, tie in zip(theta, self._ties, strict=True)], *rest
        )

    def value(self, x: np.ndarray) -> float:
        """-ln L; inf where the covariance is not positive definite to working precision."""
        try:
            return JointSystem(
                self.data, self.unpack(x), self.threads
            ).negative_log_likelihood
        except np.linalg.LinAlgError:
            return np.inf

    def value_and_gradient(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        """-ln L and its gradient (H,); (inf, zeros) where `value` is inf."""
        try:
            system = JointSystem(self.data, self.unpack(x), self.threads)
        except np.linalg.LinAlgError:
            return np.inf, np.zeros_like(x)
        h, data = system.hyperparameters, self.data
        beta = system.gradient_weights.ravel()
        inverse = system.schur_factor.T.copy(order="F")
        if beta.size:  # BLAS and LAPACK refuse empty matrices
            inverse, _ = lapack.dpotri(inverse, lower=0, overwrite_c=1)
        by_theta, by_variance, energy_trace = [], [], np.zeros(len(data))
        gradient_weight = inverse.T  # lower in C order
        for a in range(len(data.points)):
            factor, mixed = system.energy_factors[a], system.mixed[a]
            w = system.energy_weights[a].ravel()
            block, _ = lapack.dpotri(factor.T.copy(order="F"), lower=0, overwrite_c=1)
            block = blas.dsyr(-1.0, w, a=block, lower=0, overwrite_a=1)
            cross = mixed.T
            if beta.size:
                y = blas.dtrsm(1.0, factor.T, cross, side=1, lower=0, trans_a=1)  # (K^-1 X)^T
                # products are faster than solutions by the factor, of which there would be two
                cross = blas.dsymm(-1.0, inverse, y, lower=0)
                block = blas.dgemm(-1.0, y, cross, beta=1.0, c=block, trans_a=1, overwrite_c=1)
                cross = blas.dger(-1.0, beta, w, a=cross, overwrite_a=1)
            slope, share = self._contract(a, system.theta[a], block.T, cross.T,
                                          gradient_weight, beta)
            energy_trace += np.diagonal(block).reshape(-1, len(data)).sum(axis=0)
            by_feature = np.bincount(data.points[a].feature, slope) * h.theta[a]
            by_theta.append(0.5 * h.variance[a] * np.bincount(self._ties[a], by_feature))
            by_variance.append(0.5 * h.variance[a] * share)
        gradient_trace = (np.diagonal(inverse) - beta**2).reshape(-1, data.directions.shape[2])
        by_noise = [
            h.energy_noise**2 * np.bincount(data.source, energy_trace, self.n_sources),
            h.gradient_noise**2 * np.bincount(
                data.source[data.with_gradient], gradient_trace.sum(axis=1), self.n_sources
            ),
        ]
        return system.negative_log_likelihood, np.concatenate([*by_theta, by_variance, *by_noise])

    def _contract(self, a, theta, block, cross, inverse, beta):
        """Contractions of class a: with derivatives by the theta of columns (C,), and with k."""
        points = self.data.points[a]
        some = points.select(self.data.with_gradient)
        slopes, total = np.zeros_like(theta), 0.0
        for work, rows, triangle, factor in (
            (lambda i, j: contract_energies(points, theta, block, i, j), len(block), True, 1.0),
            (lambda i, j: contract_mixed(points, some, theta, cross, i, j), len(block), False, 2.0),
            (lambda i, j: contract_gradients(some, theta, inverse, beta, i, j),
             len(self.data.with_gradient), True, 1.0),
        ):
            for by_theta, value in run_threads(work, rows, self.threads, triangle):
                slopes += factor * by_theta
                total += factor * value
        return slopes, total
