"""Minimisers of an objective over log theta: L-BFGS on gradients, grey wolves, particle swarm.

They share one interface, so that a training protocol can exchange one for another, and return the
best point evaluated: an outcome is never worse than the best of its starts.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.optimize import minimize

from ase_fflux.base.errors import TrainingError

_INERTIA, _PULL = 0.729, 1.494


class Objective(Protocol):
    """What is minimised over log theta (F,): its value for populations, with gradient for L-BFGS.

    A value may be inf (kernel matrix not positive definite), never NaN.
    """

    def value(self, log_theta: np.ndarray) -> float: ...
    def value_and_gradient(self, log_theta: np.ndarray) -> tuple[float, np.ndarray]: ...


@dataclass(frozen=True)
class Outcome:
    """Best point (F,), its value, the evaluations, (evaluations, best value) by iteration."""

    log_theta: np.ndarray
    value: float
    evaluations: int
    history: list[tuple[int, float]]


@dataclass(frozen=True)
class Optimiser:
    """What all have in common.

    Parameters
    ----------
    points : int
        Number of starting points: members of a population, or searches of L-BFGS that share the
        budget. Given ones come first, random ones after them; more if more are given.
    budget : int
        Limit of evaluations.
    tolerance, patience : float, int
        A search ends when that many iterations lowered its value by less than this fraction.
    """

    points: int = 50
    budget: int = 5000
    tolerance: float = 1e-6
    patience: int = 50

    def minimise(
        self, objective: Objective, starts: np.ndarray, bounds: tuple, rng: np.random.Generator,
        *, spread: float | None = None, on_step: Callable[[int, float], None] | None = None,
    ) -> Outcome:
        """Minimise over a box.

        Parameters
        ----------
        starts : (k, F) array
            Given points, moved into the box; k may be 0.
        bounds : tuple
            Low and high end of log theta, numbers or (F,) arrays.
        spread : float, optional
            Standard deviation of the random points around the starts in turn (relaxation of a
            transferred guess). Without it they are uniform in the box.
        on_step : callable, optional
            Called as on_step(evaluations, best value) after every evaluation. What it raises ends
            the search and reaches the caller.

        Raises
        ------
        TrainingError
            Starts, bounds or a spread that make no sense, a budget smaller than the number of
            starts, a value of NaN or -inf, no finite value at the starting points.
        """
        box, x, region = _prepare(starts, self.points, bounds, rng, spread)
        if self.budget < max(len(starts), 1):
            raise TrainingError(f"a budget of {self.budget} is too small: {len(starts)} starts")
        record = _Record(self, objective, on_step)
        self._search(record, x, box, region, rng)
        return record.outcome()


@dataclass(frozen=True)
class LBFGS(Optimiser):
    """L-BFGS-B on analytic gradients (Byrd, Lu, Nocedal, Zhu, SIAM J. Sci. Comput. 1995, 16, 1190).

    ``first_step`` is the largest change of a log theta in the first step, which knows no curvature.
    Its usual length, that of the gradient, throws a transferred guess away.
    """

    points: int = 1
    budget: int = 200
    patience: int = 3
    first_step: float = 1.0

    def _search(self, record, x, box, region, rng):
        for i, start in enumerate(x):
            limit = record.evaluations + record.left // (len(x) - i)
            self._descend(record, start, box, limit)

    def _descend(self, record, start, box, limit):
        """One search, which ends when the record counts `limit` evaluations."""
        scale, iterate, last, values = None, None, None, []

        def scaled(x):
            nonlocal scale, iterate, last
            if record.evaluations >= limit:
                raise _Ended
            value, gradient = record.objective.value_and_gradient(x)
            record.add(x, value)
            if iterate is None:
                if value == np.inf:
                    raise _Ended
                free = np.where(gradient > 0, x > box[0], x < box[1])
                # in a box, the first step of L-BFGS-B is minus the gradient and never longer
                scale = max(np.abs(gradient[free]).max(initial=0.0), 1e-300) / self.first_step
                iterate = x.copy(), value, gradient.copy()
                values.append(value)
            if value == np.inf:
                # a line search cannot interpolate infinity: a rise as large as the fall that the
                # slope promised takes it back to a ninth of the step
                x0, value0, gradient0 = iterate
                value, gradient = value0 + abs(gradient0 @ (x - x0)), np.zeros_like(x)
            last = x.copy(), value, gradient.copy()
            return value / scale, gradient / scale

        def end_iteration(_):
            nonlocal iterate
            iterate = last
            values.append(last[1])
            record.end_iteration()
            if record.stalled(values):
                raise _Ended

        with suppress(_Ended):
            minimize(
                scaled, start, jac=True, method="L-BFGS-B", bounds=box.T, callback=end_iteration,
                options=dict(maxiter=limit, maxfun=limit, maxcor=20, ftol=0.0, gtol=0.0),
            )
        record.end_iteration()


@dataclass(frozen=True)
class GreyWolf(Optimiser):
    """Grey wolf optimiser (Mirjalili, Mirjalili, Lewis, Adv. Eng. Softw. 2014, 69, 46).

    Every wolf moves to the mean of three points around the three best so far, X_l - A |C X_l - X|
    with A = a (2 r - 1), C = 2 r' and a falling from 2 to 0 as the budget is spent. Positions are
    measured from a corner, drawn for every move, of the region of the random points. A fixed origin
    attracts the pack (Niu et al., doi:10.1016/j.knosys.2019.01.018), and log theta has none.

    Pack, budget (100 moves) and the fall of a are the defaults with which ichor calls pyFEREBUS
    (``PyFerebusScript``). A pack finds little before a is small: it waits for half of the moves.
    """

    def _search(self, record, x, box, region, rng):
        best, scores = x[:0], np.empty(0)
        while (values := record.evaluate(x)) is not None:
            best, scores = np.vstack([best, x]), np.concatenate([scores, values])
            order = np.argsort(scores, kind="stable")[:3]
            best, scores = best[order], scores[order]
            # a wolf without a value leads nobody
            leaders = np.where(np.isfinite(scores)[:, None], best, best[0])
            origin = np.where(rng.random(x.shape[1]) < 0.5, *region)
            prey, shape = (leaders - origin)[:, None], (len(leaders), *x.shape)
            a = 2.0 * record.left / self.budget
            distance = np.abs(2.0 * rng.random(shape) * prey - (x - origin))
            moved = prey - a * (2.0 * rng.random(shape) - 1.0) * distance
            x = np.clip(origin + moved.mean(axis=0), *box)


@dataclass(frozen=True)
class ParticleSwarm(Optimiser):
    """Particle swarm with constriction (Clerc, Kennedy, IEEE Trans. Evol. Comput. 2002, 6, 58).

    The defaults (50 particles, 1000 moves, an end by 1e-8 in 50 moves) and the two learning rates
    are those of FEREBUS v7 (popelier-group/FEREBUS-v7 on GitHub, examples/METHANOL/ferebus.toml).
    """

    budget: int = 50_000
    tolerance: float = 1e-8

    def _search(self, record, x, box, region, rng):
        velocity, own, own_values = np.zeros_like(x), x.copy(), np.full(len(x), np.inf)
        while (values := record.evaluate(x)) is not None:
            better = values < own_values
            own[better], own_values[better] = x[better], values[better]
            best = own[np.argmin(own_values)]
            velocity = _INERTIA * velocity + _PULL * (
                rng.random(x.shape) * (own - x) + rng.random(x.shape) * (best - x)
            )
            x = np.clip(x + velocity, *box)
            # a particle that kept its velocity would stick to the wall
            velocity[(x == box[0]) | (x == box[1])] = 0.0


class _Ended(Exception):
    """Ends a search of scipy's from within."""


class _Record:
    """Evaluates, counts, keeps the best point and tells when to end."""

    def __init__(self, settings: Optimiser, objective: Objective, on_step):
        self.settings, self.objective, self.on_step = settings, objective, on_step
        self.point, self.value, self.evaluations, self.history = None, np.inf, 0, []

    @property
    def left(self) -> int:
        return self.settings.budget - self.evaluations

    def add(self, x: np.ndarray, value: float) -> None:
        if not value > -np.inf:
            raise TrainingError(f"the objective is {value} at log theta {x.tolist()}")
        self.evaluations += 1
        if value < self.value:
            self.point, self.value = x.copy(), float(value)
        if self.on_step is not None:
            self.on_step(self.evaluations, self.value)

    def evaluate(self, x: np.ndarray) -> np.ndarray | None:
        """Values (m,) at x (m, F), None if they end the search of a population."""
        values = np.full(len(x), np.inf)
        for i, point in enumerate(x[: self.left]):
            values[i] = self.objective.value(point)
            self.add(point, values[i])
        self.end_iteration()
        stalled = self.stalled([value for _, value in self.history])
        return None if stalled or self.left == 0 or self.point is None else values

    def end_iteration(self) -> None:
        if not self.history or self.history[-1][0] < self.evaluations:
            self.history.append((self.evaluations, self.value))

    def stalled(self, values: list[float]) -> bool:
        past = values[: -self.settings.patience]
        return bool(past) and past[-1] - values[-1] <= self.settings.tolerance * abs(values[-1])

    def outcome(self) -> Outcome:
        if self.point is None:
            raise TrainingError(
                f"no finite objective at any of {self.evaluations} starting points (kernel matrix "
                "not positive definite): remove duplicate training points or raise the noise level"
            )
        return Outcome(self.point, self.value, self.evaluations, self.history)


def _prepare(starts, size, bounds, rng, spread):
    """Box (2, F), points in it (size or more, F), and the region (2, F) of the random ones."""
    if np.ndim(starts) != 2 or not np.isfinite(starts).all():
        raise TrainingError("starts must be finite numbers of shape (points, features)")
    low, high = (np.broadcast_to(end, np.shape(starts)[1]).astype(float) for end in bounds)
    if not (np.isfinite(low).all() and np.isfinite(high).all() and (low <= high).all()):
        raise TrainingError(f"bounds of log theta must be finite and low <= high, not {bounds}")
    box, starts = np.stack([low, high]), np.clip(starts, low, high)
    n_random = max(size - len(starts), 0)
    if spread is None:
        random, region = rng.uniform(low, high, (n_random, len(low))), box
    elif spread > 0 and len(starts):
        random = rng.normal(starts[np.arange(n_random) % len(starts)], spread)
        region = np.stack([starts.min(axis=0) - 3 * spread, starts.max(axis=0) + 3 * spread])
    else:
        raise TrainingError(f"a spread ({spread}) must be positive and needs a start")
    return box, np.clip(np.vstack([starts, random]), low, high), region
