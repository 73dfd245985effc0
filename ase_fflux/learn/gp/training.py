"""Hyperparameters of a Gaussian process: direct learning, and transfer learning from sources.

Direct learning (DL) searches on all points. Transfer learning (TL) searches on small sources,
seeds the whole set with what they found and readjusts it there in a few steps, the relaxation
(Isamura, Popelier, Phys. Chem. Chem. Phys. 2024, 26, 23677).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from time import perf_counter

import numpy as np

from ase_fflux.base.errors import TrainingError
from ase_fflux.base.machine import threads_of
from ase_fflux.learn.gp.optimisers import LBFGS, Outcome
from ase_fflux.learn.gp.priors import WithPrior
from ase_fflux.learn.gp.relaxation import relax
from ase_fflux.learn.gp.selection import select
from ase_fflux.learn.gp.settings import NOISE_BOUNDS, OBJECTIVES, TrainingSettings
from ase_fflux.model.kernels import KERNELS
from ase_fflux.model.process import GaussianProcess

_SMALLEST_SOURCE = 40
_LARGEST_SHARE = 0.5
_SOURCE_FLOOR = 3.0
_INFORMATION_POINTS = 256
_LEARNED_NOISE = 1e-3
_MORE_ON_LADDER = 3
_RELAXATION_SPREAD, _PACK = 0.3, 6


@dataclass(frozen=True)
class Step:
    """One step of a protocol.

    Parameters
    ----------
    stage : str
        What was done: ``direct``, ``source``, ``comparison`` (of a guess with the initial theta),
        ``combination`` (the best of several sources), ``ladder``, ``relaxation``.
    points, evaluations : int
        Size of the set and evaluations of the objective on it.
    seconds : float
        Wall time.
    start, value : float
        The objective on that set before and after.
    transferred : str
        Where the start came from.
    form : str
        Of the kernel, where forms are compared.
    left_out : float, optional
        Mean absolute error of the gradient (hartree/bohr) at labels left out one at a time, where
        this decides.
    """

    stage: str
    points: int
    evaluations: int
    seconds: float
    start: float
    value: float
    transferred: str
    form: str = ""
    left_out: float | None = None


@dataclass(frozen=True)
class TrainingResult:
    """A trained process and how it came about.

    Parameters
    ----------
    process : GaussianProcess
    objective : float
        Its value on the whole set.
    log_theta : (F,) array
        Natural logarithms, the seed of other models.
    evaluations : int
        Of the objective, on sets of any size.
    seconds : float
        Wall time of everything.
    steps : tuple of Step
    """

    process: GaussianProcess
    objective: float
    log_theta: np.ndarray
    evaluations: int
    seconds: float
    steps: tuple[Step, ...]


def initial_theta(
    features: np.ndarray, bounds: tuple[float, float], kernel: str = "periodic"
) -> np.ndarray:
    """Starting theta (F,): features count alike, and typical points correlate by exp(-1/2).

    A feature that is constant (no model can depend on it) gets the lower bound.
    """
    spread = np.std(features, axis=0)
    circle = KERNELS[kernel](np.ones(features.shape[1])).periodic > 0
    if circle.any():
        z = np.exp(1j * features[:, circle])
        spread[circle] = np.sqrt(np.maximum(1.0 - np.abs(z.mean(axis=0)) ** 2, 0.0))
    theta = 0.25 / (features.shape[1] * np.maximum(spread, 1e-3) ** 2)
    return np.where(np.ptp(features, axis=0) == 0, bounds[0], np.clip(theta, *bounds))


def train(
    features: np.ndarray,
    targets: np.ndarray,
    settings: TrainingSettings,
    guesses: Sequence[np.ndarray] = (),
    on_step: Callable[[int, float], None] | None = None,
) -> TrainingResult:
    """Train one process on P outputs that share its length scales.

    Parameters
    ----------
    features : (n, F) array
        Training features (bohr, radian).
    targets : (P, n) or (n,) array
        Training targets.
    settings : TrainingSettings
        Noise, bounds, protocol.
    guesses : sequence of (G,) arrays
        log theta of other models: of another property, an equivalent atom, or, with G < F, of a
        smaller molecule whose features are the leading ones. In transfer learning they take the
        place of the sources, in direct learning they are further starts.
    on_step : callable, optional
        Called as on_step(evaluations, best value) while it searches on the whole set.

    Raises
    ------
    TrainingError
        Too few points, numbers that are not finite, points that stand twice, settings that make no
        sense, a kernel matrix that is not positive definite.
    """
    begin = perf_counter()
    features = np.ascontiguousarray(features, dtype=float)
    targets = np.atleast_2d(np.asarray(targets, dtype=float))
    _check(features, targets)
    with threads_of(len(features)):
        search = _Search(features, targets, settings, on_step)
        try:
            found = (search.direct if settings.transfer is None else search.transfer)(guesses)
            if not np.isfinite(found.value):
                raise np.linalg.LinAlgError
        except np.linalg.LinAlgError:
            raise TrainingError(
                "the kernel matrix of the starting length scales is not positive definite: remove "
                "duplicate training points or raise the noise level"
            ) from None
        process = search.whole.process(found.log_theta)
    steps = tuple(search.steps)
    return TrainingResult(
        process, found.value, found.log_theta[: features.shape[1]],
        sum(step.evaluations for step in steps), perf_counter() - begin, steps,
    )


def _check(features: np.ndarray, targets: np.ndarray) -> None:
    n = len(features)
    if n < 2:
        raise TrainingError(f"{n} training points are too few: at least 2 are needed")
    if targets.shape[1] != n:
        raise TrainingError(f"{n} training points, but {targets.shape[1]} targets")
    for name, values in (("feature", features), ("target", targets.T)):
        bad = np.argwhere(~np.isfinite(values))
        if len(bad):
            raise TrainingError(
                f"training {name} {bad[0][1] + 1} of point {bad[0][0] + 1} is not a finite number"
            )
    order = np.lexsort(features.T)
    twice = np.flatnonzero((np.diff(features[order], axis=0) == 0).all(axis=1))
    if len(twice):
        i, j = sorted(order[twice[0] : twice[0] + 2] + 1)
        raise TrainingError(
            f"training points {i} and {j} have the same features ({len(twice)} such repetitions): "
            "remove duplicate training points"
        )


class _Search:
    """One model's search: objectives on its sets, and the record of the steps."""

    def __init__(self, features, targets, settings, on_step):
        self.features, self.targets, self.settings = features, targets, settings
        self.on_step, self.rng = on_step, np.random.default_rng(settings.seed)
        self.steps: list[Step] = []
        self.start = np.log(initial_theta(features, settings.bounds, settings.kernel))
        low, high = (np.full_like(self.start, end) for end in np.log(settings.bounds))
        constant = np.ptp(features, axis=0) == 0
        high[constant] = low[constant]
        # what a source switches off, no gradient of the whole set switches on again
        floor = np.maximum(low, self.start - _SOURCE_FLOOR)
        if settings.learn_noise:
            self.start = np.append(self.start, np.log(_LEARNED_NOISE))
            low, floor = (np.append(a, np.log(NOISE_BOUNDS[0])) for a in (low, floor))
            high = np.append(high, np.log(NOISE_BOUNDS[1]))
        self.box, self.source_box = np.stack([low, high]), np.stack([floor, high])
        self.whole = self._objective(slice(None))

    def direct(self, guesses: Sequence[np.ndarray]) -> Outcome:
        """Search on all points."""
        starts = [self._completed(guess) for guess in guesses]
        origin = _count(len(starts), "other model") if starts else "nothing"
        return self._search("direct", self.whole, self.box, starts, origin)

    def transfer(self, guesses: Sequence[np.ndarray]) -> Outcome:
        """Search on sources, or take the guesses, and relax on all points."""
        plan, n = self.settings.plan, len(self.features)
        sizes = [max(round(fraction * n), _SMALLEST_SOURCE) for fraction in plan.fractions]
        if len(guesses):
            seed = self._combined([self._completed(guess) for guess in guesses])
            origin = _count(len(guesses), "other model")
            if self._starts_better_than(seed):
                seed, origin = self.start, f"initial theta, better than {origin}"
            stages = [n]
        elif sizes[0] <= _LARGEST_SHARE * n:
            seed = self._combined([self._source(sizes[0]) for _ in range(plan.sources)])
            origin = _count(plan.sources, "source")
            stages = [b for a, b in zip(sizes, sizes[1:], strict=False) if a < b < n] + [n]
        else:  # too few points for a source that could teach anything
            return self.direct(())
        if plan.seeding == "partial":
            seed = np.where(seed > self.source_box[0] + 1e-6, seed, self.start)
            origin += ", partial"
        relaxes = isinstance(self.settings.optimiser, LBFGS) and plan.curvature
        curvature = None
        if relaxes and self.settings.objective != "hold-out":
            known = min(_INFORMATION_POINTS, *sizes, n)
            with threads_of(known):
                curvature = self._likelihood(self._points(known)).information(seed) / known
        for size in stages:
            stage = "relaxation" if size == n else "ladder"
            objective = self.whole if size == n else self._objective(self._points(size))
            found = self._relax(stage, objective, seed, curvature, origin)
            seed, origin = found.log_theta, "ladder"
            if curvature is not None:
                curvature = found.curvature / size
        return found

    def _starts_better_than(self, guess: np.ndarray) -> bool:
        """Whether some of the points prefer the initial theta to a guess."""
        begin, few = perf_counter(), self._points(min(_INFORMATION_POINTS, len(self.features)))
        objective = self._objective(few)
        with threads_of(len(few)):
            start, value = objective.value(self.start), objective.value(guess)
        self.steps.append(Step(
            "comparison", len(few), 2, perf_counter() - begin, start, value, "initial theta"
        ))
        return start < value

    def _likelihood(self, points):
        s = self.settings
        return OBJECTIVES[s.objective](
            self.features[points], self.targets[:, points], s.noise, s.kernel, s.learn_noise
        )

    def _objective(self, points):
        made, width = self._likelihood(points), self.settings.prior
        return made if width is None else WithPrior(made, self.start, width)

    def _points(self, count: int) -> np.ndarray:
        """Indices (count,) of a source."""
        theta = np.exp(self.start[: self.features.shape[1]])
        columns = KERNELS[self.settings.kernel](theta).columns(self.features)
        method = self.settings.plan.selection
        return select(method, count, columns, self.targets, self.rng, self.settings.noise)

    def _completed(self, guess: np.ndarray) -> np.ndarray:
        """A guess with the hyperparameters it lacks."""
        guess, n_features = np.asarray(guess, dtype=float), self.features.shape[1]
        if guess.ndim != 1 or len(guess) > n_features or not np.isfinite(guess).all():
            raise TrainingError(
                f"a guess of log theta must be at most {n_features} finite numbers, not an array "
                f"of shape {guess.shape}"
            )
        return np.clip(np.concatenate([guess, self.start[len(guess):]]), *self.box)

    def _combined(self, seeds: list[np.ndarray]) -> np.ndarray:
        if len(seeds) == 1:
            return seeds[0]
        if self.settings.plan.combination == "mean":
            return np.mean(seeds, axis=0)
        begin, values = perf_counter(), [self.whole.value(seed) for seed in seeds]
        self.steps.append(Step(
            "combination", len(self.features), len(seeds), perf_counter() - begin, min(values),
            min(values), f"best of {len(seeds)}",
        ))
        return seeds[int(np.argmin(values))]

    def _source(self, size: int) -> np.ndarray:
        source = self._objective(self._points(size))
        return self._search("source", source, self.source_box, [], "nothing").log_theta

    def _search(self, stage, objective, box, starts, origin) -> Outcome:
        """Full search: L-BFGS from the starting theta, populations from random points."""
        optimiser = self.settings.optimiser
        if isinstance(optimiser, LBFGS):
            starts = [self.start, *starts]
        starts = np.reshape(starts, (len(starts), len(self.start)))
        return self._recorded(stage, objective, origin, lambda on_step: optimiser.minimise(
            objective, starts, box, self.rng, on_step=on_step
        ))

    def _relax(self, stage, objective, seed, curvature, origin) -> Outcome:
        optimiser, budget = self.settings.optimiser, self.settings.plan.relaxation
        spread = None
        if isinstance(optimiser, LBFGS):
            # steps on a ladder's rungs cost a fifth of those on the whole set, or less
            budget += _MORE_ON_LADDER if stage == "ladder" else 0
            optimiser = replace(optimiser, points=1, budget=budget)
        else:
            optimiser = replace(optimiser, points=min(_PACK, budget), budget=budget)
            spread = _RELAXATION_SPREAD
        if curvature is not None:
            return self._recorded(stage, objective, origin, lambda on_step: relax(
                objective, seed, self.box, len(objective.features) * curvature, budget, self.rng,
                on_step,
            ))
        return self._recorded(stage, objective, origin, lambda on_step: optimiser.minimise(
            objective, seed[None], self.box, self.rng, spread=spread, on_step=on_step
        ))

    def _recorded(self, stage, objective, origin, run) -> Outcome:
        values, begin = [], perf_counter()

        def on_step(evaluations, value):
            values.append(value)
            if self.on_step is not None and objective is self.whole:
                self.on_step(evaluations, value)

        with threads_of(len(objective.features)):
            found = run(on_step)
        self.steps.append(Step(
            stage, len(objective.features), found.evaluations, perf_counter() - begin,
            float(values[0]), found.value, origin,
        ))
        return found


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number > 1)}"
