import json
from dataclasses import replace

import numpy as np
import pytest

from ase_fflux.base.errors import TrainingError
from ase_fflux.learn.gp.optimisers import LBFGS, GreyWolf, ParticleSwarm
from ase_fflux.learn.gp.selection import METHODS
from ase_fflux.learn.gp.settings import (
    COMBINATIONS,
    OBJECTIVES,
    SEEDINGS,
    TrainingSettings,
    Transfer,
)
from ase_fflux.model.kernels import KERNELS


@pytest.mark.parametrize("wrong, words", [
    (dict(kernel="matern"), "kernel 'matern'"),
    (dict(objective="rmse"), "objective 'rmse'"),
    (dict(bounds=(0.0, 1.0)), "0 < low"),
    (dict(bounds=(-1.0, 1.0)), "-1.0"),
    (dict(bounds=(2.0, 1.0)), "2.0 and 1.0"),
    (dict(bounds=(1e-6, np.inf)), "inf"),
    (dict(bounds=(np.nan, 1.0)), "nan"),
    (dict(bounds=(1e-6, np.nan)), "nan"),
    (dict(noise=-1e-9), "noise.*-1e-09"),
    (dict(noise=np.inf), "noise.*inf"),
    (dict(noise=1.0), "noise.*below 1.*1.0"),
    (dict(noise=1e300), "noise.*1e\\+300"),
    (dict(noise=np.nan), "noise.*nan"),
    (dict(noise=0.0, learn_noise=True), "noise.*0.0"),
    (dict(prior=0.0), "prior.*0.0"),
    (dict(prior=-1.0), "prior.*-1.0"),
    (dict(prior=np.inf), "prior.*inf"),
    (dict(prior=np.nan), "prior.*nan"),
])
def test_wrong_settings_are_named(wrong, words):
    with pytest.raises(TrainingError, match=words):
        TrainingSettings(**wrong)


@pytest.mark.parametrize("wrong, words", [
    (dict(fractions=()), "fractions.*\\(\\)"),
    (dict(fractions=(0.0,)), "fractions.*0.0"),
    (dict(fractions=(0.2, 1.0)), "fractions.*1.0"),
    (dict(fractions=(0.3, 0.2)), "fractions.*0.3, 0.2"),
    (dict(fractions=(0.2, 0.2)), "fractions.*0.2, 0.2"),
    (dict(fractions=(-0.2,)), "fractions.*-0.2"),
    (dict(fractions=(np.nan,)), "fractions.*nan"),
    (dict(sources=0), "sources.*0"),
    (dict(relaxation=0), "relaxation.*0"),
    (dict(selection="nearest"), "selection 'nearest'"),
    (dict(seeding="half"), "seeding 'half'"),
    (dict(combination="median"), "combination 'median'"),
])
def test_wrong_plans_of_transfer_are_named(wrong, words):
    with pytest.raises(TrainingError, match=words):
        Transfer(**wrong)


@pytest.mark.parametrize("wrong, known", [
    (lambda: TrainingSettings(kernel="x"), KERNELS),
    (lambda: TrainingSettings(objective="x"), OBJECTIVES),
    (lambda: Transfer(selection="x"), METHODS),
    (lambda: Transfer(seeding="x"), SEEDINGS),
    (lambda: Transfer(combination="x"), COMBINATIONS),
])
def test_what_is_known_is_told(wrong, known):
    with pytest.raises(TrainingError) as raised:
        wrong()
    assert all(name in str(raised.value) for name in known)


def test_everything_offered_is_accepted():
    for kernel in KERNELS:
        for objective in OBJECTIVES:
            TrainingSettings(kernel=kernel, objective=objective, noise=0.0, bounds=(1.0, 1.0))
    for selection in METHODS:
        for seeding in SEEDINGS:
            for combination in COMBINATIONS:
                Transfer((0.1, 0.5), 3, combination, selection, seeding, False, 1)


@pytest.mark.parametrize("optimiser", [LBFGS(), GreyWolf(budget=300), ParticleSwarm(points=7)])
@pytest.mark.parametrize("transfer", [None, Transfer((0.1, 0.3), sources=2)])
def test_record_is_json_and_tells_everything(optimiser, transfer):
    settings = TrainingSettings(optimiser=optimiser, transfer=transfer, prior=2.0, seed=3)
    record = json.loads(json.dumps(settings.record(), allow_nan=False))
    assert record["protocol"] == ("transfer" if transfer else "direct") + " learning"
    made = dict(record["optimiser"])
    assert type(optimiser)(**{k: v for k, v in made.items() if k != "name"}) == optimiser
    assert made["name"] == type(optimiser).__name__
    plan = record["transfer"]
    if plan is not None:
        plan = Transfer(**plan | {"fractions": tuple(plan["fractions"])})
    assert plan == settings.plan
    rest = {k: v for k, v in record.items() if k not in ("protocol", "optimiser", "transfer")}
    rest["bounds"] = tuple(rest["bounds"])
    assert TrainingSettings(**rest, optimiser=optimiser, transfer=transfer) == settings


def test_checks_hold_for_changed_settings():
    with pytest.raises(TrainingError, match="noise"):
        replace(TrainingSettings(), noise=-1.0)
