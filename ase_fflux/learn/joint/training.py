"""Training of the joint process: hyperparameters from small sources, weights from all labels.

One likelihood of all labels takes minutes where one of a tenth of them takes a tenth of a second
(the cost grows with the cube). So the search is done on a small source, its result is relaxed on
larger ones by few steps that know the curvature from the steps before, and the whole set is only
solved for its weights.
"""

from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, replace
from time import perf_counter

import numpy as np

from ase_fflux.base.errors import TrainingError
from ase_fflux.base.machine import threads_of
from ase_fflux.learn.gp.optimisers import LBFGS
from ase_fflux.learn.gp.relaxation import relax, updated
from ase_fflux.learn.gp.training import Step
from ase_fflux.learn.joint.cost import choose_gradients
from ase_fflux.learn.joint.data import JointData
from ase_fflux.learn.joint.left_out import gradient_error
from ase_fflux.learn.joint.likelihood import JointLikelihood
from ase_fflux.learn.joint.settings import CLIMBING, JointSettings
from ase_fflux.learn.joint.system import Hyperparameters, JointSystem
from ase_fflux.model.kernels import Form, Kernel
from ase_fflux.model.molecule import ENERGY
from ase_fflux.model.shared import SecondFrames, SharedProcess
from ase_fflux.model.symmetry import AtomClass
from ase_fflux.model.terms import TermProcess

_SPREAD = 10.0
"""Prior variance of an atomic energy at the start, relative to that of its labels."""
_LABELS_OF_THREAD = 60
"""Labels of a source that keep a thread busy."""
_FAR = 8.0
"""Largest change of the logarithm of a variance from its start."""


@dataclass(frozen=True, eq=False)
class JointResult:
    """A solved joint process.

    Attributes
    ----------
    processes : list of SharedProcess
        Energies of the classes of atoms.
    gradient_weights : (n, N, 3) array
        Dual weights of the total gradients (bohr/hartree), zero for labels without.
    total_weights : (n,) array or None
        Dual weights of the total energies (1/hartree), zero for labels without; they are in those
        of every process as well.
    with_energies : (e,) int array
        Labels whose atomic energies were used.
    hyperparameters : Hyperparameters
    n_gradients : int
        Labels whose gradients were used.
    negative_log_likelihood : float
        Without its constant.
    terms : tuple of TermProcess
    second : tuple of SecondFrames
        What stands beside the processes of the atoms.
    """

    processes: list[SharedProcess]
    gradient_weights: np.ndarray
    total_weights: np.ndarray | None
    with_energies: np.ndarray
    hyperparameters: Hyperparameters
    n_gradients: int
    negative_log_likelihood: float
    terms: tuple[TermProcess, ...] = ()
    second: tuple[SecondFrames, ...] = ()


def initial_hyperparameters(data: JointData, settings: JointSettings) -> Hyperparameters:
    """Start of the search: features count alike, typical points correlate by exp(-1/2)."""
    theta = []
    for points in data.points:
        unit = points.units
        spread = np.bincount(points.feature, points.flat_columns.var(axis=0)) / unit**2
        wanted = 0.25 / (len(spread) * np.maximum(spread, 1e-6))
        theta.append(np.clip(wanted, *settings.bounds) / unit**2)
    if data.latent:  # atoms are taken to have a part of the total's variance each
        spread = data.totals[data.with_total].var() / data.n_atoms
        spreads = np.full(len(theta), spread)
    else:
        spreads = np.array([e[:, data.with_energies].var() for e in data.energies])
    levels = np.ones(int(data.source.max()) + 1)
    return Hyperparameters(
        theta, np.maximum(_SPREAD * spreads, 1e-12), settings.energy_noise * levels,
        settings.gradient_noise * levels,
        None if data.totals is None else settings.total_noise * levels, data.form,
    )


def find_hyperparameters(
    data: JointData,
    settings: JointSettings,
    threads: int = 1,
    on_step: Callable[[str, int, int], None] | None = None,
) -> tuple[Hyperparameters, tuple[Step, ...]]:
    """Search on small sources, and the choice of the form of kernels.

    Each form is searched on the same few labels. The two most likely ones climb the first rung of
    the ladder, and that with the smaller error of gradients at labels of it that are left out one
    at a time climbs the others. The likelihood alone hardly tells these two apart.

    Parameters
    ----------
    data : JointData
        Observations at n labels.
    settings : JointSettings
        How.
    threads : int
        For what numba does; LAPACK has its own.
    on_step : callable, optional
        Called as on_step(stage, labels, evaluations) after every evaluation of the likelihood.

    Raises
    ------
    TrainingError
        Too few labels, or covariances that are not positive definite.
    """
    require_enough(data)
    steps: list[Step] = []
    searches = [
        _Search(data.in_form(f), settings, threads, on_step, steps)
        for f in forms_for(data, settings)
    ]
    found = [(*search.first(), search) for search in searches]
    found = sorted(found, key=lambda one: one[0])[:CLIMBING]
    rungs = searches[0].rungs
    likely = [(*search.climbed(x, c, rungs[:1]), search) for _, x, c, search in found]
    if len(likely) > 1 and len(data.with_gradient):
        likely.sort(key=lambda one: one[2].error(one[0]))
    x, curvature, search = likely[0]
    x, _ = search.climbed(x, curvature, rungs[1:])
    return search.likelihood.unpack(x), tuple(steps)


def forms_for(data: JointData, settings: JointSettings) -> list[Form]:
    """Forms that are tried: with terms where atomic energies are latent, else without.

    A choice of the settings that has none of these is tried as it is.
    """
    fitting = [f for f in settings.forms if f.terms == bool(data.beside)]
    return fitting or list(settings.forms)


def require_enough(data: JointData) -> None:
    """Raise the TrainingError of labels that nothing can be learned from."""
    if len(data) < 2:
        raise TrainingError(f"{len(data)} labels are too few: at least 2 are needed")


def not_positive_definite(labels: int, reason: str = "") -> TrainingError:
    """What to say of a number of labels whose covariance cannot be factorised."""
    return TrainingError(
        f"the covariance of {labels} labels is not positive definite{reason}: remove duplicate "
        "labels or raise the noise levels"
    )


def solve(
    data: JointData, hyperparameters: Hyperparameters, threads: int = 1,
    max_memory: float = np.inf,
) -> JointResult:
    """The processes with these hyperparameters.

    Parameters
    ----------
    data, threads
        As in `find_hyperparameters`.
    hyperparameters : Hyperparameters
        Theirs.
    max_memory : float
        Bytes. Where all gradients need more, those are used that add most.

    Raises
    ------
    TrainingError
        Covariances that are not positive definite, or too large for memory without any gradient.
    """
    data = choose_gradients(data, hyperparameters, max_memory)
    try:
        with threads_of(max(data.n_observed)):
            system = JointSystem(data, hyperparameters, threads)
    except np.linalg.LinAlgError as error:
        raise not_positive_definite(len(data), f" ({error})") from None
    totals = None if data.totals is None else np.zeros(len(data))
    if totals is not None:
        totals[data.with_total] = system.total_weights
    return JointResult(
        _processes(system), _cartesian_weights(system), totals, data.with_energies,
        hyperparameters, len(data.with_gradient), system.negative_log_likelihood, *_beside(system),
    )


def _cartesian_weights(system: JointSystem) -> np.ndarray:
    """Dual weights of the gradients along all coordinates (n, N, 3), zero where there is none."""
    data = system.data
    weights = np.zeros(data.directions.shape[:2])
    weights[data.with_gradient] = np.einsum(
        "jxd,jd->jx", data.directions[data.with_gradient], system.gradient_weights
    )
    return weights.reshape(len(data), -1, 3)


def _processes(system: JointSystem) -> list[SharedProcess]:
    h, data = system.hyperparameters, system.data
    noise = h.total_noise if data.latent else h.energy_noise
    found = []
    form = replace(h.form, terms=False)
    for a, atoms in enumerate(data.classes):
        # a total is observed as the sum of all atoms: each of them has its weight
        weights = np.zeros((1, len(atoms.atoms), len(data)))
        weights[0][:, data.with_energies] = system.energy_weights[a]
        weights[0][:, data.with_total] += system.total_weights
        found.append(SharedProcess(
            atoms, (ENERGY,), Kernel.periodic_on_phi(h.theta[a], form), system.mean[a : a + 1],
            h.variance[a] * weights, float(np.max(noise) ** 2 / h.variance[a]),
            float(h.variance[a]),
        ))
    return found


def _beside(
    system: JointSystem,
) -> tuple[tuple[TermProcess, ...], tuple[SecondFrames, ...]]:
    """Terms and second frames."""
    h, data, form = system.hyperparameters, system.data, replace(system.data.form, terms=False)
    terms, second, first = [], [], len(data.classes)
    used = data.beside if h.form.terms else ()
    for one, theta, variance in zip(used, h.theta[first:], h.variance[first:], strict=True):
        if isinstance(one, AtomClass):
            kernel = Kernel.periodic_on_phi(theta, form)
            second.append(SecondFrames(one, kernel, float(variance)))
        else:
            terms.append(TermProcess(one, theta, float(variance), form.rational))
    return tuple(terms), tuple(second)


class _Recorded:
    """A likelihood that keeps the points it was evaluated at, with their gradients."""

    def __init__(self, likelihood: JointLikelihood, on_evaluation: Callable[[float], None]):
        self.likelihood, self.on_evaluation = likelihood, on_evaluation
        self.history: list[tuple[np.ndarray, np.ndarray]] = []

    def value(self, x):
        value = self.likelihood.value(x)
        self.on_evaluation(value)
        return value

    def value_and_gradient(self, x):
        value, gradient = self.likelihood.value_and_gradient(x)
        self.on_evaluation(value)
        if np.isfinite(value):
            self.history.append((x.copy(), gradient.copy()))
        return value, gradient

    def curvature(self) -> np.ndarray:
        """Second derivatives (H, H) as successive gradients tell them."""
        (x, gradient), *rest = self.history
        size = len(self.likelihood.data)
        # a tenth per label is less than what most hyperparameters have
        curvature = 0.1 * size * np.eye(len(x))
        for next_x, next_gradient in rest:
            curvature = updated(curvature, next_x - x, next_gradient - gradient)
            x, gradient = next_x, next_gradient
        return curvature


def box(
    likelihood: JointLikelihood, start: Hyperparameters, settings: JointSettings
) -> np.ndarray:
    """(2, H) lower and upper bounds of the logarithms of hyperparameters, for a search's start."""
    low, high = likelihood.pack(start), likelihood.pack(start)
    theta, variance, energy_noise, gradient_noise, total_noise = likelihood.parts
    # bounds are those of features as they are in model files
    units = replace(start, theta=[points.units**2 for points in likelihood.data.points])
    units = likelihood.pack(units)[theta]
    low[theta], high[theta] = (np.log(bound) - units for bound in settings.bounds)
    low[variance] -= _FAR
    high[variance] += _FAR
    low[energy_noise] = np.log(settings.least_energy_noise)
    low[gradient_noise] = np.log(settings.least_gradient_noise)
    high[gradient_noise] = np.log(1e3 * settings.gradient_noise)
    low[total_noise] = np.log(settings.least_total_noise)
    high[total_noise] = np.log(1e3 * settings.total_noise)
    return np.stack([low, high])


class _Search:
    """The sources, the box of hyperparameters, and the record of the steps."""

    def __init__(self, data, settings, threads, on_step, steps=None):
        self.data, self.settings, self.threads, self.on_step = data, settings, threads, on_step
        self.steps: list[Step] = [] if steps is None else steps
        self.order = np.random.default_rng(settings.seed).permutation(len(data))
        self.likelihood = JointLikelihood(data, threads)
        start = initial_hyperparameters(data, settings)
        self.start = self.likelihood.pack(start)
        self.box = box(self.likelihood, start, settings)

    def first(self) -> tuple[float, np.ndarray, np.ndarray]:
        """Search on the first size, or, without transfer, on the last one: the best of one from
        each start. The value, the hyperparameters and the curvature there for each label."""
        stages = self.settings.stages(len(self.data))
        stage, (size, _) = "source", stages[0]
        if not self.settings.transfer:
            stage, (size, _) = "direct", stages[-1]
        found = []
        for noise in self.settings.starts:
            start = self.start.copy()
            start[self.likelihood.parts[2]] = np.log(noise)
            x, curvature = self._search(stage, size, start)
            found.append((self.steps[-1].value, x, curvature / size))
        return min(found, key=lambda one: one[0])

    @property
    def rungs(self) -> list[tuple[int, int]]:
        """Sizes and evaluations of what follows on `first`; there are none without transfer."""
        return self.settings.stages(len(self.data))[1:] if self.settings.transfer else []

    def climbed(self, x, curvature, rungs) -> tuple[np.ndarray, np.ndarray]:
        """Relaxation on some of the rungs: hyperparameters, and the curvature for each label."""
        for size, evaluations in rungs:
            before = self.steps[self._last()].stage
            with self._stage("ladder", size, before) as objective:
                found = relax(objective, x, self.box, size * curvature, evaluations)
            x, curvature = found.log_theta, found.curvature / size
        return x, curvature

    def error(self, x: np.ndarray) -> float:
        """Of the gradient at labels of the last step left out (hartree/bohr); recorded."""
        last = self._last()
        source = self.data.select(self.order[: self.steps[last].points])
        with threads_of(max(source.n_observed)):
            error = gradient_error(JointSystem(source, self.likelihood.unpack(x), self.threads))
        self.steps[last] = replace(self.steps[last], left_out=error)
        return error

    def _last(self) -> int:
        """Number of the last step in this form."""
        return max(i for i, step in enumerate(self.steps) if step.form == str(self.data.form))

    def _search(self, stage: str, size: int, start: np.ndarray):
        """L-BFGS from a start; hyperparameters and the curvature learned on the way."""
        with self._stage(stage, size, "nothing") as objective:
            found = LBFGS(budget=self.settings.evaluations[0]).minimise(
                objective, start[None], tuple(self.box), np.random.default_rng(0)
            )
        return found.log_theta, objective.curvature()

    @contextmanager
    def _stage(self, stage: str, size: int, transferred: str):
        """An objective on the first labels of the order, recorded as a step."""
        begin, values = perf_counter(), []

        def on_evaluation(value):
            values.append(value)
            if self.on_step is not None:
                self.on_step(stage, size, len(values))

        # threads that start for less than this stand in the way of those of LAPACK
        threads = max(1, min(self.threads, size // _LABELS_OF_THREAD))
        source = JointLikelihood(
            self.data.select(self.order[:size]), threads, self.likelihood.n_sources
        )
        failure = not_positive_definite(size)
        try:
            with threads_of(max(source.data.n_observed)):
                yield _Recorded(source, on_evaluation)
        except TrainingError:  # of the optimiser, which finds no finite value to start from
            raise failure from None
        if not np.isfinite(min(values)):
            raise failure
        self.steps.append(Step(
            stage, size, len(values), perf_counter() - begin, values[0], min(values), transferred,
            str(self.data.form),
        ))
