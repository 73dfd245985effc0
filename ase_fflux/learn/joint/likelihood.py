"""Likelihood of the joint process over its hyperparameters, with its gradient.

Hyperparameters are the logarithms of theta (those that views exchange are one), of the variance of
each class, and of the noise levels (of energies from each source, then of gradients, then of totals
where any are observed), in this order.
"""

import numpy as np
from scipy.linalg import blas

from ase_fflux.learn.joint.blocks import (
    contract_energies,
    contract_gradients,
    contract_mixed,
    contract_sums,
    run_threads,
)
from ase_fflux.learn.joint.data import JointData
from ase_fflux.learn.joint.system import Hyperparameters, JointSystem
from ase_fflux.learn.joint.triangle import inverse as inverse_of


class JointLikelihood:
    r"""-ln L of all observations, constant means profiled out.

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
        self._ties = data.ties
        self._sizes = [int(t.max()) + 1 for t in self._ties]
        self.n_sources = int(data.source.max()) + 1 if n_sources is None else n_sources

    @property
    def size(self) -> int:
        """Number of hyperparameters."""
        return self.parts[-1].stop

    @property
    def parts(self) -> tuple[slice, slice, slice, slice, slice]:
        """Where the theta, the variances, the noises of energies, gradients and totals are."""
        n = self.n_sources
        sizes = [sum(self._sizes), len(self._sizes), n, n, 0 if self.data.totals is None else n]
        ends = np.cumsum([0, *sizes])
        return tuple(slice(a, b) for a, b in zip(ends[:-1], ends[1:], strict=True))

    def pack(self, hyperparameters: Hyperparameters) -> np.ndarray:
        """Logarithms (H,); of tied theta the mean."""
        theta = [
            np.bincount(tie, np.log(t)) / np.bincount(tie)
            for t, tie in zip(hyperparameters.theta, self._ties, strict=True)
        ]
        noises = [hyperparameters.energy_noise, hyperparameters.gradient_noise]
        if self.data.totals is not None:
            noises.append(hyperparameters.total_noise)
        return np.concatenate([*theta, *np.log([hyperparameters.variance]), *np.log(noises)])

    def unpack(self, x: np.ndarray) -> Hyperparameters:
        """Hyperparameters of logarithms (H,)."""
        theta, *rest, total_noise = (np.exp(x[part]) for part in self.parts)
        theta = np.split(theta, np.cumsum(self._sizes)[:-1])
        return Hyperparameters(
            [t[tie] for t, tie in zip(theta, self._ties, strict=True)], *rest,
            total_noise if len(total_noise) else None, self.data.form,
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
        beta = system.coupling_weights
        inverse = system.schur.inverse()
        by_theta, by_variance = [], []
        energy_trace = np.zeros(len(data.with_energies))
        for a in range(len(data.points)):
            block, cross = self._energies(system, a, inverse, beta)
            slope, share = self._contract(a, system.theta[a], block, cross, inverse.T, beta)
            trace = np.diagonal(block).reshape(len(data.points[a].columns), -1)
            energy_trace += trace.sum(axis=0)
            by_feature = np.bincount(data.points[a].feature, slope) * h.theta[a]
            by_theta.append(0.5 * h.variance[a] * np.bincount(self._ties[a], by_feature))
            by_variance.append(0.5 * h.variance[a] * share)
        trace = np.diagonal(inverse) - beta**2
        t = len(data.with_total)
        gradient_trace = trace[t:].reshape(-1, data.directions.shape[2]).sum(axis=1)
        by_noise = [
            level**2 * np.bincount(data.source[labels], values, self.n_sources)
            for level, labels, values in (
                (h.energy_noise, data.with_energies, energy_trace),
                (h.gradient_noise, data.with_gradient, gradient_trace),
                (h.total_noise, data.with_total, trace[:t]),
            ) if level is not None
        ]
        if data.totals is not None:  # sums of atomic energies count once
            both, sums = data.source[data.with_both], sum(system.twice())
            for noise, squares in zip((by_noise[0], by_noise[2]), system.twice(), strict=True):
                noise -= np.bincount(both, squares / sums, self.n_sources)
        return system.negative_log_likelihood, np.concatenate([*by_theta, by_variance, *by_noise])

    def _energies(self, system, a, inverse, beta):
        """M of the energies of class a (P, P), its lower triangle, and with what couples (P, Q)."""
        factor, mixed = system.energy_factors[a], system.mixed[a]
        if not len(factor):
            return factor, mixed
        w = system.energy_weights[a].ravel()
        block = blas.dsyr(-1.0, w, a=inverse_of(factor), lower=0, overwrite_a=1)
        cross = mixed.T
        if beta.size:  # BLAS refuses empty matrices
            y = blas.dtrsm(1.0, factor.T, cross, side=1, lower=0, trans_a=1)  # (K^-1 X)^T
            # products are faster than solutions by the factor, of which there would be two
            cross = blas.dsymm(-1.0, inverse, y, lower=0)
            block = blas.dgemm(-1.0, y, cross, beta=1.0, c=block, trans_a=1, overwrite_c=1)
            cross = blas.dger(-1.0, beta, w, a=cross, overwrite_a=1)
        return block.T, cross.T

    def _contract(self, a, theta, block, cross, inverse, beta):
        """Contractions of class a: with derivatives by the theta of columns (C,), and with k.

        Of the inverse of the Schur complement the lower triangle counts.
        """
        data = self.data
        own, summed, some = data.observed(a)
        t, m = len(data.with_total), len(own.columns)
        between = inverse[t:, t:]
        # of sums over atoms, every atom counts alike
        totals = np.tril(inverse[:t, :t]) + np.tril(inverse[:t, :t], -1).T
        totals = np.tile(totals - np.outer(beta[:t], beta[:t]), (m, m))
        mixed = np.tile((inverse[t:, :t] - np.outer(beta[t:], beta[:t])).T, (m, 1))
        slopes, total = np.zeros_like(theta), 0.0
        for work, rows, triangle, factor in (
            (lambda i, j: contract_energies(own, theta, block, i, j), len(block), True, 1.0),
            (lambda i, j: contract_sums(own, summed, theta, cross[:, :t], i, j), len(block), False,
             2.0),
            (lambda i, j: contract_mixed(own, some, theta, cross[:, t:], i, j), len(block), False,
             2.0),
            (lambda i, j: contract_energies(summed, theta, totals, i, j), m * t, True, 1.0),
            (lambda i, j: contract_mixed(summed, some, theta, mixed, i, j), m * t, False, 2.0),
            (lambda i, j: contract_gradients(some, theta, between, beta[t:], i, j),
             len(data.with_gradient), True, 1.0),
        ):
            for by_theta, value in run_threads(work, rows, self.threads, triangle):
                slopes += factor * by_theta
                total += factor * value
        return slopes, total
