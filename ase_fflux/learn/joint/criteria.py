"""What is to be best of a choice of labels (`design`): of each next one, and of all."""

from collections.abc import Callable

import numpy as np

from ase_fflux.learn.joint.conditioned import CHUNK, Conditioned

CRITERIA = "V", "D", "G", "farthest", "random"
EXCHANGED = "V", "D"
"""Those by which choices can be exchanged."""


def next_scores(criterion: str, state: Conditioned, seed: int) -> Callable[[], np.ndarray]:
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


def remaining(criterion: str, state: Conditioned) -> float:
    """What is to be least of all that is chosen, one of `EXCHANGED`.

    V: mean logarithm of the expected errors of forces and of energies in each part of the target,
    of geometries that are chosen themselves the errors with the labels of the others. D: minus the
    logarithm of the root of the determinant of the covariance of what is chosen.
    """
    if criterion == "D":
        return -float(np.linalg.slogdet(state.root)[1])
    return 0.5 * float(np.mean([
        np.log(state.weights[part] @ variances[part])
        for variances in state.without_own() for part in state.parts
    ]))


def _mean_decrease(state: Conditioned) -> np.ndarray:
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
        own = state.cross[i][:, state.columns(j)]
        squares = np.einsum("pk,pq,qk->k", own, inverse[i], own)
        found[i] -= worth[1, j] * squares[0] + worth[0, j] * squares[1:].sum()
    return found


def _largest_rest(state: Conditioned) -> np.ndarray:
    """What would be left of the largest variance of the target."""
    t = len(state.target)
    force, energy = state.variances_of(slice(None))
    noisy, found = state.noisy(), np.empty(len(state.pool))
    for first in range(0, len(found), CHUNK):
        part = slice(first, first + CHUNK)
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

    def __init__(self, state: Conditioned):
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
