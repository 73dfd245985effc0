r"""Which geometries are worth a label, before there is any.

The covariance of the errors of a process does not depend on what its labels will say, only on where
they are. Of the geometries of a pool that one is chosen, again and again, whose label, a total
energy and its gradient, would leave the least error at the geometries of a target. With A the
covariance of the errors at a geometry of the pool with those at the target, given what is chosen,
and S that at the geometry itself, noise included, a label takes

.. math:: \Delta = \mathrm{tr}(S^{-1} A W A^T)

from their mean variance, W being the weights of the target. A and S follow a choice by an update
of the rank of one label, so that the pool is never factorised. Criteria:

========  ========================================================================================
V         least mean variance of forces and of energies: the sum of the relative decreases of the
          two, in each part of the target
G         least largest variance, in the same measure, at any geometry of the target
D         largest determinant of the covariance of what is chosen: what is known least, wherever
farthest  largest distance in the metric of the process from everything that is chosen
random    none
========  ========================================================================================

(Of V, G and D: Barzdajn, Race, arXiv 2405.08636.) What a geometry of the target would learn about
itself does not count: it stands for others like it. The constant mean of the energy is a normal
variable of a variance far above that of the process.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ase_fflux.base.errors import TrainingError
from ase_fflux.base.machine import threads_of
from ase_fflux.learn.joint.blocks import add_gradient_block, totals_block, totals_mixed_block
from ase_fflux.learn.joint.data import JointData
from ase_fflux.learn.joint.settings import JointSettings
from ase_fflux.learn.joint.system import Hyperparameters

CRITERIA = "V", "D", "G", "farthest", "random"

_VAGUE = 10.0
"""Prior variance of the constant mean, relative to that of the total energy without it."""
_CHUNK = 64
"""Geometries of the pool that are worked on at once."""
_SPENT = 1e-12
"""Variance relative to its start that is rounding alone."""


@dataclass(frozen=True, eq=False)
class Design:
    """Geometries in the order of choice, and what the process expects of each number of them.

    Attributes
    ----------
    chosen : (n,) int array
        Places in the pool.
    force, energy : (n + 1,) arrays
        Root mean square error at the first part of the target after 0, 1, ... labels: of a
        component of the force (hartree/bohr) and of the total energy (hartree), which has no
        meaning without a label. Geometries that are chosen themselves are left out of it.
    """

    chosen: np.ndarray
    force: np.ndarray
    energy: np.ndarray


def design(
    data: JointData,
    hyperparameters: Hyperparameters,
    pool: np.ndarray,
    target: np.ndarray,
    weights: np.ndarray,
    count: int,
    criterion: str = "V",
    *,
    parts: np.ndarray | None = None,
    seed: int = 0,
    threads: int = 1,
    max_memory: float = np.inf,
    on_choice: Callable[[int], None] = lambda n: None,
) -> Design:
    """Choose geometries to label.

    Parameters
    ----------
    data : JointData
        Geometries of pool and target; values of labels are not used.
    hyperparameters : Hyperparameters
        Of the process that is to be trained; noise is that of the first source.
    pool, target : int arrays
        Labels of the data that may be chosen, and at which errors count; they may overlap.
    weights : (T,) array
        Of the target, above zero.
    count : int
        How many to choose.
    criterion : {"V", "D", "G", "farthest", "random"}
        See above.
    parts : (T,) int array, optional
        Number of the part of the target that each geometry of it is of, from 0, ascending: errors
        that differ by much, as of hot and of cold geometries, count alike in different parts.
    seed : int
        Of a random choice.
    threads : int
        For what numba does; LAPACK has its own.
    max_memory : float
        Bytes.
    on_choice : callable, optional
        Called with the number of choices after each.

    Raises
    ------
    TrainingError
        More choices than geometries, another criterion, too little memory.
    """
    if criterion not in CRITERIA:
        raise TrainingError(f"no criterion {criterion!r}: one of {', '.join(CRITERIA)}")
    if not 0 < count <= len(pool):
        raise TrainingError(f"{count} geometries cannot be chosen from {len(pool)}")
    need = design_memory(data, len(pool), len(target), count)
    if need > max_memory:
        raise TrainingError(
            f"choosing {count} of {len(pool)} geometries for {len(target)} of the target takes "
            f"{need / 1e9:.2g} GB, more than the {max_memory / 1e9:.2g} GB that are free: give "
            "fewer of them"
        )
    with threads_of(len(target) * data.directions.shape[2]):
        pool, target, weights = (np.asarray(x) for x in (pool, target, weights))
        parts = np.zeros(len(target), dtype=int) if parts is None else np.asarray(parts)
        data = data.in_form(hyperparameters.form)
        state = _State(data, hyperparameters, pool, target, weights, parts, threads)
        scores = _scores(criterion, state, seed)
        errors = [state.errors()]
        for n in range(1, count + 1):
            value = np.where(state.free, scores(), -np.inf)
            state.choose(int(np.argmax(value)))
            errors.append(state.errors())
            on_choice(n)
    force, energy = np.array(errors).T
    return Design(np.array(state.chosen), force, energy)


def design_memory(data: JointData, pool: int, target: int, count: int) -> float:
    """Bytes that a choice takes."""
    size = 1 + data.directions.shape[2]
    return 8.0 * size**2 * pool * (target + count + 1 + 2 * _CHUNK)


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
        add_gradient_block(gradients, rows, columns, by_column, variance, threads)
    out[:, 1:, m:] = gradients.reshape(n, d, m * d)
    return out


class _State:
    """Covariances of pool and target given what is chosen.

    Those between them (M, P, T P) are scaled by the roots of the target's weights; columns of
    geometries that are chosen themselves become zero.
    """

    def __init__(self, data, hyperparameters, pool, target, weights, parts, threads):
        self.data, self.hyperparameters, self.threads = data, hyperparameters, threads
        self.pool, self.target = pool, target
        self.size = 1 + data.directions.shape[2]
        self.chosen: list[int] = []
        self.halves: list[np.ndarray] = []
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
        t = len(target)
        self.cross = np.empty((len(pool), self.size, t * self.size))
        for first in range(0, len(pool), _CHUNK):
            part = slice(first, first + _CHUNK)
            self.cross[part] = self.prior(pool[part], target)
        self.cross[:, 0, :t] += self.vague
        self.scale = np.concatenate([self.weights, np.repeat(self.weights, self.size - 1)]) ** 0.5
        self.cross *= self.scale
        # which geometry of the target one of the pool is, -1 for none
        same = pool[:, None] == target
        self.place = np.where(same.any(axis=1), same.argmax(axis=1), -1)
        self.known = np.zeros(t, dtype=bool)

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

    def choose(self, place: int) -> None:
        """Condition everything on a label of this place of the pool."""
        m, p, t = len(self.pool), self.size, len(self.target)
        prior = self.prior(self.pool[[place]], self.pool)[0]
        prior[0, :m] += self.vague
        row = np.empty((p, m, p))
        row[:, :, 0] = prior[:, :m]
        row[:, :, 1:] = prior[:, m:].reshape(p, m, p - 1)
        row = row.reshape(p, m * p)
        for half in self.halves:
            row -= half[:, place * p : (place + 1) * p].T @ half
        factor = np.linalg.cholesky(self.own[place] + np.diag(self.noise))
        half = np.linalg.solve(factor, row)
        at_target = np.linalg.solve(factor, self.cross[place])
        for first in range(0, m, _CHUNK):
            part = self.cross[first : first + _CHUNK].reshape(-1, t * p)
            part -= half[:, first * p : (first + _CHUNK) * p].T @ at_target
        by_geometry = half.reshape(p, m, p).transpose(1, 0, 2)
        self.own -= by_geometry.transpose(0, 2, 1) @ by_geometry
        self.halves.append(half)
        squares = ((at_target / self.scale) ** 2).sum(axis=0)
        self.energy = _lowered(self.energy, squares[:t])
        self.force = _lowered(self.force, self.share * squares[t:].reshape(t, -1).sum(axis=1))
        self.chosen.append(place)
        self.free[place] = False
        if (itself := self.place[place]) >= 0:
            self.known[itself] = True
            self.cross[:, :, itself] = 0.0
            self.cross[:, :, t + itself * (p - 1) : t + (itself + 1) * (p - 1)] = 0.0


def _lowered(variance: np.ndarray, by: np.ndarray) -> np.ndarray:
    return np.maximum(variance - by, _SPENT * variance)


def _scores(criterion: str, state: _State, seed: int) -> Callable[[], np.ndarray]:
    """What is to be largest, for every geometry of the pool."""
    if criterion == "random":
        order = np.random.default_rng(seed).permutation(len(state.pool))
        return lambda: -order.astype(float)
    if criterion == "farthest":
        return _Farthest(state)
    return {
        "V": lambda: _mean_decrease(state), "G": lambda: -_largest_rest(state),
        "D": lambda: np.linalg.slogdet(state.noisy())[1],
    }[criterion]


def _mean_decrease(state: _State) -> np.ndarray:
    """Relative decreases of the mean variances of energies and of forces, together."""
    t, p = len(state.target), state.size
    found = np.zeros(len(state.pool))
    inverse = np.linalg.inv(state.noisy())
    worth = np.empty((2, t))
    for part in state.parts:
        force, energy = state.variances_of(part)
        worth[:, part] = [[state.share / force], [1.0 / energy]]
        gradients = slice(t + part.start * (p - 1), t + part.stop * (p - 1))
        for columns, each in ((part, 1.0 / energy), (gradients, state.share / force)):
            cross = state.cross[:, :, columns]
            found += each * np.einsum("mpq,mpq->m", inverse, cross @ cross.transpose(0, 2, 1))
    # of itself, a geometry of the target learns nothing that counts
    for i in np.flatnonzero(state.free & (state.place >= 0)):
        j = state.place[i]
        own = state.cross[i][:, [j, *range(t + j * (p - 1), t + (j + 1) * (p - 1))]]
        squares = np.einsum("pk,pq,qk->k", own, inverse[i], own)
        found[i] -= worth[1, j] * squares[0] + worth[0, j] * squares[1:].sum()
    return found


def _largest_rest(state: _State) -> np.ndarray:
    """What would be left of the largest variance of the target."""
    t = len(state.target)
    force, energy = state.variances_of(slice(None))
    noisy, found = state.noisy(), np.empty(len(state.pool))
    for first in range(0, len(found), _CHUNK):
        part = slice(first, first + _CHUNK)
        squares = np.linalg.solve(
            np.linalg.cholesky(noisy[part]), state.cross[part] / state.scale
        ) ** 2
        squares = squares.sum(axis=1)
        rest = (state.energy - squares[:, :t]) / energy
        forces = squares[:, t:].reshape(len(squares), t, -1).sum(axis=2)
        rest += (state.force - state.share * forces) / force
        rest[:, state.known] = 0.0
        found[part] = rest.max(axis=1)
    return found


class _Farthest:
    """Squared distances in the metric of total energies to the nearest choice.

    The first geometry of the pool is where it begins.
    """

    def __init__(self, state: _State):
        self.state, self.done = state, 0
        self.nearest = np.full(len(state.pool), np.inf)

    def __call__(self) -> np.ndarray:
        state = self.state
        for place in state.chosen[self.done :]:
            prior = state.prior(state.pool[[place]], state.pool)[0, 0, : len(state.pool)]
            distance = state.variances + state.variances[place] - 2.0 * prior
            self.nearest = np.minimum(self.nearest, distance)
        self.done = len(state.chosen)
        return self.nearest
