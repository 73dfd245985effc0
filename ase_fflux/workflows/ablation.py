"""What each step of the training protocol buys: one model, trained by variants of the protocol."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from ase_fflux.assess.curves import Unit
from ase_fflux.base.errors import TrainingError
from ase_fflux.base.outputs import write_csv
from ase_fflux.learn.gp.optimisers import LBFGS
from ase_fflux.learn.gp.selection import METHODS
from ase_fflux.learn.gp.settings import SEEDINGS, TrainingSettings
from ase_fflux.learn.gp.training import Step, train
from ase_fflux.workflows.ablation_points import AblationPoints

DIRECT, PROTOCOL = "direct", "protocol"
_LARGEST_SOURCE = 0.5
_FIRST_CALLS = 100


@dataclass(frozen=True)
class Run:
    """One training.

    Parameters
    ----------
    variant : str
        Which one of `variants`, or the name of a related model.
    seed : int
        Of everything random.
    seconds : float
        Wall time.
    full_evaluations, evaluations : int
        Of the objective on all points, and on sets of any size.
    objective : float
        Its value on all points.
    rmse : float
        Root mean square error at the held-out points (atomic units).
    steps : tuple of Step
    """

    variant: str
    seed: int
    seconds: float
    full_evaluations: int
    evaluations: int
    objective: float
    rmse: float
    steps: tuple[Step, ...]

    @property
    def source_seconds(self) -> float:
        """Of them, seconds of the steps on fewer points than all."""
        return sum(step.seconds for step in self.steps if step.points < self.steps[-1].points)

    @property
    def start(self) -> float:
        """The objective on all points before the last step: what was transferred is worth."""
        return self.steps[-1].start


def variants(settings: TrainingSettings) -> dict[str, TrainingSettings]:
    """Direct learning, the protocol that is given, and this with one step changed at a time.

    Parameters
    ----------
    settings : TrainingSettings
        The protocol. Changes that would leave it as it is are not among the variants.

    Raises
    ------
    TrainingError
        Direct learning as the protocol, which has no steps.
    """
    plan = settings.plan
    if plan is None:
        raise TrainingError(
            "an ablation changes the steps of transfer learning: leave --protocol dl out, direct "
            "learning is always among the variants"
        )
    changes = {
        "seed only": dict(relaxation=1),
        "full relaxation": dict(relaxation=settings.optimiser.budget),
    }
    if isinstance(settings.optimiser, LBFGS) and settings.objective != "hold-out":
        changes |= {
            "without curvature": dict(curvature=False), "with curvature": dict(curvature=True)
        }
    changes |= {f"{seeding} seeding": dict(seeding=seeding) for seeding in SEEDINGS}
    changes |= {f"{method} selection": dict(selection=method) for method in METHODS}
    changes |= {
        "one source": dict(sources=1),
        "mean of three sources": dict(sources=3, combination="mean"),
        "best of three sources": dict(sources=3, combination="best"),
    }
    first, *rungs = plan.fractions
    changes |= {
        f"source of {100 * size:.3g} %": dict(fractions=(size, *rungs))
        for size in (first / 2, 2 * first) if size < min([*rungs, _LARGEST_SOURCE])
    }
    changes |= {
        "without ladder": dict(fractions=(first,)),
        "one rung more": dict(fractions=(first / 2, first, *rungs)),
    }
    if not rungs:
        changes[f"rung of {50 * (1 + first):.3g} %"] = dict(fractions=(first, (1 + first) / 2))
    made = {DIRECT: replace(settings, transfer=None), PROTOCOL: settings}
    for name, change in changes.items():
        if (changed := replace(plan, **change)) != plan:
            made[name] = replace(settings, transfer=changed)
    return made


def ablate(
    points: AblationPoints,
    settings: TrainingSettings,
    seeds: Sequence[int],
    on_finished: Callable[[Run], None] | None = None,
) -> list[Run]:
    """Train one model by every variant, and from every related model, once for each seed.

    All variants of one seed come before the next, so that a computer that is busy for a while slows
    all of them. Training the related models does not count: a molecule has them anyway.

    Parameters
    ----------
    points : AblationPoints
        What is trained and what it is tested on.
    settings : TrainingSettings
        The protocol whose steps are changed, see `variants`.
    seeds : sequence of int
        They replace that of the settings.
    on_finished : callable, optional
        Called as on_finished(run) after each.

    Raises
    ------
    TrainingError
        As by `variants` and `train`, with the name of the variant; too few points for a source.
    """
    plans = variants(settings)
    _load(points, settings)
    runs = []

    def run(variant, plan, seed, guesses=()):
        plan = replace(plan, seed=seed)
        try:
            result = train(points.features, points.targets, plan, guesses)
        except TrainingError as error:
            raise TrainingError(f"{points.name}, {variant}: {error}") from None
        errors = result.process.predict(points.test_features)[0] - points.test_targets
        runs.append(Run(
            variant, seed, result.seconds,
            sum(s.evaluations for s in result.steps if s.points == len(points.features)),
            result.evaluations, result.objective, float(np.sqrt(np.mean(errors**2))), result.steps,
        ))
        if variant == PROTOCOL and runs[-1].steps[0].stage == "direct":
            raise TrainingError(
                f"{points.name}: {len(points.features)} training points are too few for a source, "
                "so that transfer learning is direct learning: train on more points or lower "
                "--fraction"
            )
        if on_finished is not None:
            on_finished(runs[-1])

    for seed in seeds:
        for variant, plan in plans.items():
            run(variant, plan, seed)
        for variant, (features, targets) in points.related.items():
            guess = train(features, targets, replace(settings, seed=seed)).log_theta
            run(variant, settings, seed, (guess,))
    return runs


def _load(points: AblationPoints, settings: TrainingSettings) -> None:
    """Compile and load what a first training has to, which is not the first variant's fault."""
    few = slice(_FIRST_CALLS)
    train(points.features[few], points.targets[few], replace(settings, optimiser=LBFGS(budget=20)))


def medians(runs: Sequence[Run]) -> dict[str, dict[str, float]]:
    """Medians over the seeds for every variant, and the range of its errors.

    Ratios are those of runs with the same seed: ``time_ratio`` is the time of direct learning over
    that of the variant, ``rmse_ratio`` the error of the variant over that of direct learning.

    Parameters
    ----------
    runs : sequence of Run
        Of `ablate`, errors in any unit.
    """
    direct = {run.seed: run for run in runs if run.variant == DIRECT}
    found = {}
    for variant in dict.fromkeys(run.variant for run in runs):
        own = [run for run in runs if run.variant == variant]
        names = (
            "seconds", "source_seconds", "full_evaluations", "evaluations", "start", "objective",
            "rmse",
        )
        values = {name: [getattr(run, name) for run in own] for name in names}
        values["time_ratio"] = [direct[run.seed].seconds / run.seconds for run in own]
        values["rmse_ratio"] = [run.rmse / direct[run.seed].rmse for run in own]
        found[variant] = {name: float(np.median(column)) for name, column in values.items()}
        found[variant] |= {"lowest_rmse": min(values["rmse"]), "highest_rmse": max(values["rmse"])}
    return found


def in_unit(runs: Sequence[Run], unit: Unit) -> list[Run]:
    """Runs with their errors, in atomic units before, in this unit."""
    return [replace(run, rmse=unit.factor * run.rmse) for run in runs]


def write_runs(path: Path, runs: Sequence[Run], unit: Unit) -> None:
    """Write one line for every run; errors are in this unit already."""
    names = {
        "variant": "variant", "seed": "seed", "seconds": "seconds",
        "source_seconds": "source_seconds", "evaluations_on_all_points": "full_evaluations",
        "evaluations": "evaluations", "objective_at_start": "start", "objective": "objective",
        f"rmse_{unit.column}": "rmse",
    }
    write_csv(path, {
        head: [getattr(run, attribute) for run in runs] for head, attribute in names.items()
    })


def records(runs: Sequence[Run]) -> list[dict]:
    """Every run with its steps for a summary, JSON-able: objectives that are infinite are None."""
    return [
        asdict(run) | {"steps": [
            {key: None if value == np.inf else value for key, value in asdict(step).items()}
            for step in run.steps
        ]}
        for run in runs
    ]
