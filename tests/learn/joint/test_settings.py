import json
from dataclasses import replace

import pytest

from ase_fflux.base.errors import TrainingError
from ase_fflux.learn.joint.settings import JointSettings
from ase_fflux.model.kernels import FORMS


@pytest.mark.parametrize("change, words", [
    (dict(bounds=(0.0, 1.0)), "0 < low <= high"),
    (dict(bounds=(2.0, 1.0)), "0 < low <= high"),
    (dict(bounds=(1.0, float("inf"))), "0 < low <= high"),
    (dict(energy_noise=0.0), "the noise of energies must be finite, above zero"),
    (dict(energy_noise=float("inf")), "the noise of energies"),
    (dict(energy_noise=1e-7), "not below its least value 1e-06, not 1e-07"),
    (dict(least_energy_noise=0.0), "the noise of energies"),
    (dict(gradient_noise=1e-7), "the noise of gradients"),
    (dict(gradient_noise=float("nan")), "the noise of gradients"),
    (dict(least_gradient_noise=0.0), "the noise of gradients"),
    (dict(sizes=(30, 60)), "evaluations for every size"),
    (dict(sizes=(), evaluations=()), "evaluations for every size"),
    (dict(sizes=(60, 30, 120, 240)), "must grow"),
    (dict(sizes=(30, 30, 60, 120)), "must grow"),
    (dict(sizes=(1, 30, 60, 120)), "2 labels"),
    (dict(evaluations=(60, 20, 8, 1)), "2 evaluations"),
])
def test_settings_without_a_meaning_are_refused(change, words):
    with pytest.raises(TrainingError, match=words):
        JointSettings(**change)


def test_record_is_plain_json():
    for transfer, protocol in ((True, "transfer learning"), (False, "direct learning")):
        record = JointSettings(transfer=transfer).record()
        assert json.loads(json.dumps(record))["protocol"] == protocol
        assert record["energy_noise"] == JointSettings().energy_noise


def test_atoms_of_a_density_have_more_noise():
    assert JointSettings.of_atoms("") == JointSettings()
    loose = JointSettings.of_atoms("mbis")
    assert loose.energy_noise > 10 * JointSettings().energy_noise
    assert loose.least_total_noise > JointSettings().least_total_noise
    assert loose == JointSettings(
        energy_noise=loose.energy_noise, least_total_noise=loose.least_total_noise
    )


@pytest.mark.parametrize("labels, sizes", [
    (3, [3]), (30, [30]), (31, [30, 31]), (90, [30, 60, 90]), (120, [30, 60, 120]),
    (479, [30, 60, 120]), (480, [30, 60, 120, 240]), (1000, [30, 60, 120, 240]),
])
def test_rungs_are_climbed_as_far_as_the_set_goes(labels, sizes):
    settings = JointSettings(forms=(FORMS["rbf"], FORMS["rq"]))
    assert settings.stages(labels) == list(zip(sizes, settings.evaluations, strict=False))
    evaluations = [120, 40, 8, 8]  # two forms are searched and climb the first rung
    assert settings.budget(labels) == list(zip(sizes, evaluations, strict=False))
    assert replace(settings, transfer=False).budget(labels) == [(sizes[-1], 120)]
    # a source is searched, however large
    assert JointSettings(sizes=(400,), evaluations=(9,)).stages(500) == [(400, 9)]


def test_large_rungs_may_be_left_out():
    settings = JointSettings()
    assert settings.within(lambda size: True) == settings
    without = settings.within(lambda size: False)
    assert without.sizes == (30, 60, 120) and without.evaluations == (60, 20, 8)
    assert JointSettings(sizes=(400,), evaluations=(9,)).within(lambda size: False).sizes == (400,)
