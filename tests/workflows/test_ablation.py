"""Variants of a protocol, and their runs on a made-up surface."""

import csv
import json
from dataclasses import fields, replace

import numpy as np
import pytest

from ase_fflux.assess.curves import unit_of
from ase_fflux.base.errors import TrainingError
from ase_fflux.base.units import HARTREE_KJ
from ase_fflux.learn.gp.optimisers import GreyWolf
from ase_fflux.learn.gp.settings import TrainingSettings, Transfer
from ase_fflux.learn.gp.training import Step, train
from ase_fflux.workflows.ablation import (
    DIRECT,
    PROTOCOL,
    Run,
    ablate,
    in_unit,
    medians,
    records,
    variants,
    write_runs,
)
from ase_fflux.workflows.ablation_points import AblationPoints

SETTINGS = TrainingSettings(noise=1e-6, transfer=Transfer(fractions=(0.45,)))
PROTOCOLS = [
    TrainingSettings(), SETTINGS, TrainingSettings(transfer=Transfer(fractions=(0.2,))),
    TrainingSettings(
        transfer=Transfer((0.1, 0.15, 0.4), 3, "best", "farthest", "partial", False, 9)
    ),
    TrainingSettings(transfer=Transfer(sources=2, relaxation=1), objective="marginal", seed=3),
    TrainingSettings(optimiser=GreyWolf(budget=300)), TrainingSettings(objective="hold-out"),
]


def surface(count, seed=0, scale=1.0):
    x = np.random.default_rng(seed).uniform(1.0, 3.0, (count, 3))
    return x, scale * (np.sin(x[:, 0] * x[:, 1]) + np.exp(-x[:, 2]))


@pytest.fixture(scope="module")
def points():
    related = {"from itself": surface(90)}
    return AblationPoints("C1 iqa", *surface(90), *surface(30, seed=1), related)


@pytest.fixture(scope="module")
def runs(points):
    return ablate(points, SETTINGS, (3, 5))


@pytest.mark.parametrize("settings", PROTOCOLS)
def test_variants_change_one_step_each(settings):
    made = variants(settings)
    assert list(made)[:2] == [DIRECT, PROTOCOL]
    assert made.pop(DIRECT) == replace(settings, transfer=None)
    assert made.pop(PROTOCOL) == settings
    plan, seen = settings.plan, [settings]
    for variant in made.values():
        assert replace(variant, transfer=settings.transfer) == settings
        changed = {
            field.name for field in fields(Transfer)
            if getattr(variant.plan, field.name) != getattr(plan, field.name)
        }
        assert len(changed) == 1 or changed == {"sources", "combination"}
        assert variant not in seen
        seen.append(variant)


def test_every_step_is_changed():
    """A new field of `Transfer` asks for a variant."""
    changed = {
        field.name for variant in variants(TrainingSettings()).values() if variant.transfer
        for field in fields(Transfer)
        if getattr(variant.plan, field.name) != getattr(TrainingSettings().plan, field.name)
    }
    assert changed == {field.name for field in fields(Transfer)}


def test_a_ladder_is_kept_where_it_is_not_what_changes():
    plan = Transfer(fractions=(0.1, 0.15, 0.4))
    made = {
        name: settings.transfer.fractions
        for name, settings in variants(TrainingSettings(transfer=plan)).items()
        if settings.transfer and settings.transfer.fractions != plan.fractions
    }
    assert made == {
        "source of 5 %": (0.05, 0.15, 0.4), "without ladder": (0.1,),
        "one rung more": (0.05, 0.1, 0.15, 0.4),
    }


@pytest.mark.parametrize("settings", [
    TrainingSettings(optimiser=GreyWolf()), TrainingSettings(objective="hold-out"),
])
def test_curvature_where_there_is_none(settings):
    assert all(
        variant.transfer is None or variant.transfer.curvature
        for variant in variants(settings).values()
    )


def test_direct_learning_has_no_steps(points):
    with pytest.raises(TrainingError, match="leave --protocol dl out"):
        ablate(points, replace(SETTINGS, transfer=None), [0])


def test_runs_alternate(runs, points):
    names = [*variants(SETTINGS), *points.related]
    assert [(run.variant, run.seed) for run in runs] == [
        (name, seed) for seed in (3, 5) for name in names
    ]


def test_runs_are_trainings(runs, points):
    """Each is what `train` gives with the settings of the variant and the seed."""
    plans = variants(SETTINGS)
    for run in runs:
        if run.variant in plans:
            plan = replace(plans[run.variant], seed=run.seed)
            result = train(points.features, points.targets, plan)
            assert run.objective == result.objective and run.evaluations == result.evaluations
            error = result.process.predict(points.test_features)[0] - points.test_targets
            assert run.rmse == pytest.approx(np.linalg.norm(error) / np.sqrt(len(error)), rel=1e-12)
            assert [s.stage for s in run.steps] == [s.stage for s in result.steps]
            assert run.seconds >= run.source_seconds


def test_evaluations_on_all_points(runs):
    for run in runs:
        on_sources = sum(s.evaluations for s in run.steps if s.stage in ("source", "ladder"))
        assert run.full_evaluations == run.evaluations - on_sources
        assert (on_sources > 0) == (run.variant not in (DIRECT, "from itself"))
        assert (run.source_seconds > 0) == (on_sources > 0)
        if run.variant == "seed only":
            assert run.full_evaluations == 1 and run.objective == run.start


def test_related_models_take_the_place_of_sources(runs):
    """The guess of a model on the same points is the optimum itself."""
    protocol = {run.seed: run for run in runs if run.variant == PROTOCOL}
    related = [run for run in runs if run.variant == "from itself"]
    assert len(related) == 2
    for run in related:
        step = run.steps[-1]
        assert (step.stage, step.transferred) == ("relaxation", "1 other model")
        assert run.start == pytest.approx(protocol[run.seed].objective, rel=1e-9)


def test_runs_are_told(points):
    told = []
    assert ablate(replace(points, related={}), SETTINGS, [0], told.append) == told
    assert len(told) == len(variants(SETTINGS))


def test_too_few_points_for_a_source():
    points = AblationPoints("C1 iqa", *surface(30), *surface(5, seed=1))
    with pytest.raises(TrainingError, match="C1 iqa: 30 training points are too few for a source"):
        ablate(points, TrainingSettings(), [0])


def test_errors_name_the_variant():
    features, targets = surface(130)
    features[120] = features[121]
    points = AblationPoints("C1 iqa", features, targets, *surface(5, seed=1))
    with pytest.raises(TrainingError, match="C1 iqa, direct: .* 121 and 122 have the same"):
        ablate(points, SETTINGS, [0])


def run(variant, seed, seconds, rmse, start=-2.0):
    steps = (
        Step("source", 10, 8, 0.1, -1.0, -2.0, "nothing"),
        Step("ladder", 20, 4, 0.2, -1.0, -2.0, "1 sources"),
        Step("relaxation", 40, 5, 0.3, start, -3.0, "ladder"),
    )
    return Run(variant, seed, seconds, 5, 17, -3.0, rmse, steps)


MADE_UP = [
    run(DIRECT, 1, 10.0, 1.0), run(PROTOCOL, 1, 1.0, 2.0),
    run(DIRECT, 2, 20.0, 4.0), run(PROTOCOL, 2, 10.0, 2.0),
    run(DIRECT, 3, 90.0, 5.0), run(PROTOCOL, 3, 30.0, 7.0),
]


def test_ratios_are_those_of_one_seed():
    """Medians of 10, 2 and 3, not ratios of medians (20 over 10)."""
    rows = medians(MADE_UP)
    assert list(rows) == [DIRECT, PROTOCOL]
    assert rows[DIRECT]["time_ratio"] == rows[DIRECT]["rmse_ratio"] == 1.0
    row = rows[PROTOCOL]
    assert (row["seconds"], row["rmse"]) == (10.0, 2.0)
    assert row["time_ratio"] == 3.0 and row["rmse_ratio"] == pytest.approx(1.4)
    assert (row["lowest_rmse"], row["highest_rmse"]) == (2.0, 7.0)
    assert row["source_seconds"] == pytest.approx(0.3) and row["start"] == -2.0
    assert (row["full_evaluations"], row["evaluations"]) == (5, 17)


def test_unit():
    assert [r.rmse for r in in_unit(MADE_UP, unit_of("iqa"))] == [
        pytest.approx(HARTREE_KJ * r.rmse) for r in MADE_UP
    ]
    assert in_unit(MADE_UP, unit_of("q00")) == MADE_UP


def test_file_of_runs(tmp_path, runs):
    write_runs(tmp_path / "runs.csv", runs, unit_of("iqa"))
    with open(tmp_path / "runs.csv") as file:
        lines = list(csv.DictReader(file))
    assert [line["variant"] for line in lines] == [r.variant for r in runs]
    for line, r in zip(lines, runs, strict=True):
        assert float(line["rmse_kJ_per_mol"]) == r.rmse and int(line["seed"]) == r.seed
        assert float(line["seconds"]) == r.seconds
        assert float(line["objective_at_start"]) == r.start
        assert int(line["evaluations_on_all_points"]) == r.full_evaluations


def test_records_are_json(runs):
    """An objective may be infinite where a search begins (no Cholesky factor there)."""
    infinite = run(PROTOCOL, 1, 1.0, 1.0, start=np.inf)
    back = json.loads(json.dumps(records([*runs, infinite]), allow_nan=False))
    assert back[-1]["steps"][-1]["start"] is None and back[-1]["steps"][-1]["value"] == -3.0
    assert back[0]["variant"] == DIRECT and back[0]["steps"][0]["stage"] == "direct"
    assert back[0]["steps"][0]["start"] == runs[0].start
