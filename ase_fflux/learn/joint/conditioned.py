"""Covariances of labels of a pool and of errors at a target, given labels that are chosen.

A label is a total energy and its gradient. Nothing here depends on what labels say, and the pool is
never factorised: a label that is added or taken away is an update of the rank of its numbers.
"""

import numpy as np
from scipy.linalg import qr

from ase_fflux.learn.joint.blocks import add_gradient_blocks, totals_block, totals_mixed_block
from ase_fflux.learn.joint.data import JointData
from ase_fflux.learn.joint.settings import JointSettings
from ase_fflux.learn.joint.system import Hyperparameters

CHUNK = 64
"""Geometries of the pool that are worked on at once."""

_VAGUE = 10.0
"""Prior variance of the constant mean, relative to that of the total energy without it."""
_SPENT = 1e-12
"""Variance relative to its start that is rounding alone."""


def label_covariance(
    data: JointData, hyperparameters: Hyperparameters, one: np.ndarray, other: np.ndarray,
    threads: int = 1,
) -> np.ndarray:
    """Prior covariance (n, 1 + D, n' (1 + D)) of labels, without noise and constant mean.

    Each of the first n has its total energy and then its gradient along D directions; of the n'
    others all energies come first, then all gradients.
    """
    data = data.in_form(hyperparameters.form)
    d = data.directions.shape[2]
    n, m = len(one), len(other)
    out = np.zeros((n, 1 + d, m * (1 + d)))
    gradients = np.zeros((n * d, m * d))
    for points, theta, variance in zip(
        data.points, hyperparameters.theta, hyperparameters.variance, strict=True
    ):
        rows, columns = points.select(one), points.select(other)
        by_column = theta[points.feature]
        how = by_column, threads
        out[:, 0, :m] += variance * totals_block(rows, columns, *how)
        out[:, 0, m:] += variance * totals_mixed_block(rows, columns, *how)
        mixed = totals_mixed_block(columns, rows, *how).reshape(m, n, d)
        out[:, 1:, :m] += variance * mixed.transpose(1, 2, 0)
        add_gradient_blocks(gradients, [(rows, columns, by_column, variance)], threads)
    out[:, 1:, m:] = gradients.reshape(n, d, m * d)
    return out


class Conditioned:
    """Covariances of pool and target given what is chosen.

    Those between them (M, P, T P) are scaled by the roots of the target's weights; columns of
    geometries that are chosen themselves are zero.

    Parameters
    ----------
    data : JointData
        In the form of the hyperparameters.
    hyperparameters : Hyperparameters
    pool, target : int arrays
    weights : (T,) array
    parts : (T,) int array
    count : int
        Labels that are given at most.
    threads : int
    """

    def __init__(self, data, hyperparameters, pool, target, weights, parts, count, threads=1):
        self.data, self.hyperparameters, self.threads = data, hyperparameters, threads
        self.pool, self.target = pool, target
        self.size = 1 + data.directions.shape[2]
        self.chosen: list[int] = []
        self.free = np.ones(len(pool), dtype=bool)
        ends = np.searchsorted(parts, np.arange(parts.max() + 2)).tolist()
        self.parts = [slice(*pair) for pair in zip(ends[:-1], ends[1:], strict=True)]
        sums = np.array([weights[part].sum() for part in self.parts])
        self.weights = weights / sums[parts]  # of each part they sum to 1
        h = hyperparameters
        total = JointSettings().total_noise if h.total_noise is None else h.total_noise[0]
        self.noise = np.array([total**2, *[h.gradient_noise[0] ** 2] * (self.size - 1)])
        self.own = np.array([self.prior([i], [i])[0] for i in pool])
        self.variances = self.own[:, 0, 0].copy()
        at_target = np.array([self.prior([i], [i])[0].diagonal() for i in target])
        self.vague = _VAGUE * float(at_target[:, 0].max())
        self.own[:, 0, 0] += self.vague
        # 3N components of the force share the D directions
        self.share = 1.0 / data.directions.shape[1]
        self.energy = at_target[:, 0] + self.vague
        self.force = self.share * at_target[:, 1:].sum(axis=1)
        self.least = _SPENT * self.energy, _SPENT * self.force
        m, p, t = len(pool), self.size, len(target)
        self.cross = np.empty((m, p, t * p))
        for first in range(0, m, CHUNK):
            part = slice(first, first + CHUNK)
            self.cross[part] = self.prior(pool[part], target)
        self.cross[:, 0, :t] += self.vague
        self.scale = np.concatenate([self.weights, np.repeat(self.weights, p - 1)]) ** 0.5
        self.cross *= self.scale
        # which geometry of the target one of the pool is, -1 for none
        same = pool[:, None] == target
        self.place = np.where(same.any(axis=1), same.argmax(axis=1), -1)
        self.known = np.zeros(t, dtype=bool)
        # a root R of the covariance of what is chosen, in its order, R R^T, and R^-1 times the
        # covariances of that with pool and target
        self.root = np.zeros((0, 0))
        self._halves = np.empty((count * p, m * p)), np.empty((count * p, t * p))

    @property
    def halves(self) -> tuple[np.ndarray, np.ndarray]:
        """(n P, M P) and (n P, T P): the inverse of the root times covariances."""
        n = len(self.root)
        return self._halves[0][:n], self._halves[1][:n]

    def prior(self, one, other) -> np.ndarray:
        """`label_covariance` of the data."""
        return label_covariance(self.data, self.hyperparameters, one, other, self.threads)

    def variances_of(self, part: slice) -> tuple[float, float]:
        """Mean variances of force components and energies at a part of the target.

        Without what is chosen, unless nothing else is left.
        """
        left = np.where(self.known[part], 0.0, self.weights[part])
        left = left if left.any() else self.weights[part]
        left = left / left.sum()
        return float(left @ self.force[part]), float(left @ self.energy[part])

    def errors(self) -> tuple[float, float]:
        """Expected root mean square errors of force components and energies."""
        force, energy = self.variances_of(self.parts[0])
        return force**0.5, energy**0.5

    def noisy(self) -> np.ndarray:
        """(M, P, P) covariances of what labels of the pool would say."""
        found = self.own.copy()
        found[:, np.arange(self.size), np.arange(self.size)] += self.noise
        return found

    def columns(self, itself: int) -> np.ndarray:
        """Those of the energy and the gradient of a geometry of the target."""
        t, d = len(self.target), self.size - 1
        return np.array([itself, *range(t + itself * d, t + (itself + 1) * d)])

    def without_own(self) -> tuple[np.ndarray, np.ndarray]:
        """(T,) variances of force components and energies, from labels of other geometries."""
        force, energy = self.force.copy(), self.energy.copy()
        p = self.size
        for n, place in enumerate(self.chosen):
            if (itself := self.place[place]) >= 0:
                unit = np.zeros((len(self.root), p))
                unit[n * p : (n + 1) * p] = np.eye(p)
                some = np.linalg.solve(self.root, unit)
                apart = np.linalg.inv(some.T @ some).diagonal() - self.noise
                force[itself], energy[itself] = self.share * apart[1:].sum(), apart[0]
        return np.maximum(force, self.least[1]), np.maximum(energy, self.least[0])

    def choose(self, place: int) -> None:
        """Condition everything on a label of this place of the pool."""
        m, p, t, n = len(self.pool), self.size, len(self.target), len(self.root)
        halves, at_target = self.halves
        here = halves[:, place * p : (place + 1) * p]
        prior = self.prior(self.pool[[place]], self.pool)[0]
        prior[0, :m] += self.vague
        row = np.empty((p, m, p))
        row[:, :, 0] = prior[:, :m]
        row[:, :, 1:] = prior[:, m:].reshape(p, m, p - 1)
        row = row.reshape(p, m * p)
        row -= here.T @ halves
        prior = self.prior(self.pool[[place]], self.target)[0]
        prior[0, :t] += self.vague
        prior -= here.T @ at_target
        factor = np.linalg.cholesky(row[:, place * p : (place + 1) * p] + np.diag(self.noise))
        self.root = np.block([[self.root, np.zeros((n, p))], [here.T, factor]])
        new = np.linalg.solve(factor, row), np.linalg.solve(factor, prior)
        for there, rows in zip(self.halves, new, strict=True):
            there[n:] = rows
        self._change(*new, -1.0)
        self.chosen.append(place)
        self.free[place] = False
        if (itself := self.place[place]) >= 0:
            self.known[itself] = True
            self.cross[:, :, self.columns(itself)] = 0.0

    def drop(self, place: int) -> None:
        """Take a label that is chosen away again."""
        p, n, k = self.size, len(self.root), self.chosen.index(place)
        unit = np.zeros((n, p))
        unit[k * p : (k + 1) * p] = np.eye(p)
        # with an orthogonal W whose first columns span R^-1 E, R W has zeros in all rows of these
        # columns but those of the label: what it tells alone
        (packed, taus), _ = qr(np.linalg.solve(self.root, unit), mode="raw")
        y = np.tril(packed[:, :p], -1)
        y[np.arange(p), np.arange(p)] = 1.0
        inner = np.linalg.inv(np.triu(y.T @ y, 1) + np.diag(1.0 / taus))  # W = 1 - y inner y^T
        told = []
        for there in self.halves:
            there -= y @ (inner.T @ (y.T @ there))
            told.append(there[:p].copy())
            there[:-p] = there[p:].copy()
        rows, at_target = told
        root = self.root - ((self.root @ y) @ inner) @ y.T
        rest = np.delete(np.arange(n), np.arange(k * p, (k + 1) * p))
        self.root = root[rest, p:]
        self._change(rows, at_target, 1.0)
        self.chosen.remove(place)
        self.free[place] = True
        if (itself := self.place[place]) >= 0:
            self.known[itself] = False
            self._restore(itself)

    def _change(self, rows: np.ndarray, at_target: np.ndarray, sign: float) -> None:
        """Add what a label tells, or take it away, to all covariances."""
        m, p, t = len(self.pool), self.size, len(self.target)
        scaled = sign * self.scale * at_target
        for first in range(0, m, CHUNK):
            part = self.cross[first : first + CHUNK].reshape(-1, t * p)
            part += rows[:, first * p : (first + CHUNK) * p].T @ scaled
        for itself in np.flatnonzero(self.known):
            self.cross[:, :, self.columns(itself)] = 0.0
        by_geometry = rows.reshape(p, m, p).transpose(1, 0, 2)
        self.own += sign * (by_geometry.transpose(0, 2, 1) @ by_geometry)
        squares = sign * (at_target**2).sum(axis=0)
        self.energy = np.maximum(self.energy + squares[:t], self.least[0])
        forces = squares[t:].reshape(t, -1).sum(axis=1)
        self.force = np.maximum(self.force + self.share * forces, self.least[1])

    def _restore(self, itself: int) -> None:
        """Covariances of the pool with a geometry of the target that is no longer chosen."""
        m, columns = len(self.pool), self.columns(itself)
        halves, at_target = self.halves
        prior = self.prior(self.pool, self.target[[itself]]).reshape(m, self.size, self.size)
        prior[:, 0, 0] += self.vague
        prior -= (halves.T @ at_target[:, columns]).reshape(prior.shape)
        self.cross[:, :, columns] = prior * self.scale[columns]
