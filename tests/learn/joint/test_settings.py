import json

import pytest

from ase_fflux.base.errors import TrainingError
from ase_fflux.learn.joint.settings import JointSettings


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
    (dict(sizes=(60, 30, 120)), "must grow"),
    (dict(sizes=(30, 30, 60)), "must grow"),
    (dict(sizes=(1, 30, 60)), "2 labels"),
    (dict(evaluations=(60, 20, 1)), "2 evaluations"),
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
