"""Training results on disk: the same bits again, or nothing."""

from dataclasses import asdict, replace

import numpy as np
import pytest

from ase_fflux.learn.gp.optimisers import GreyWolf
from ase_fflux.learn.gp.settings import TrainingSettings, Transfer
from ase_fflux.learn.gp.training import train
from ase_fflux.training.checkpoints import fingerprint, read_checkpoint, write_checkpoint

RNG = np.random.default_rng(0)
FEATURES = RNG.normal(size=(90, 6))
TARGETS = np.stack([np.sin(FEATURES @ RNG.normal(size=6)) for _ in range(3)])
SETTINGS = TrainingSettings(learn_noise=True, transfer=Transfer(fractions=(0.4, 0.7)))
GUESS = np.arange(6.0)


@pytest.fixture(scope="module")
def result():
    return train(FEATURES, TARGETS, SETTINGS)


@pytest.fixture
def path(tmp_path, result):
    write_checkpoint(tmp_path / "C1_iqa.npz", result, "this")
    return tmp_path / "C1_iqa.npz"


def test_every_bit_comes_back(path, result):
    back = read_checkpoint(path, "this")
    assert np.array_equal(back.log_theta, result.log_theta)
    for name in ("inputs", "mean", "weights", "noise"):
        assert np.array_equal(getattr(back.process, name), getattr(result.process, name))
    for name in ("rbf", "cyclic", "periodic"):
        ours, theirs = getattr(back.process.kernel, name), getattr(result.process.kernel, name)
        assert np.array_equal(ours, theirs)
    for name in ("objective", "evaluations", "seconds"):
        assert getattr(back, name) == getattr(result, name)
    assert len(result.steps) == 3
    assert [asdict(step) for step in back.steps] == [asdict(step) for step in result.steps]


def test_of_something_else_or_absent(path):
    assert read_checkpoint(path, "that") is None
    assert read_checkpoint(path.with_name("H2_iqa.npz"), "this") is None


def test_truncated_anywhere(path):
    whole = path.read_bytes()
    for size in [*range(0, len(whole), 41), len(whole) - 1]:
        path.write_bytes(whole[:size])
        assert read_checkpoint(path, "this") is None


def test_flipped_bytes(path, result):
    """Whatever stands in the archive, damage is noticed or does not matter."""
    whole = path.read_bytes()
    noticed = 0
    for at in range(0, len(whole), 41):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1:])
        back = read_checkpoint(path, "this")
        noticed += back is None
        assert back is None or np.array_equal(back.process.weights, result.process.weights)
    assert noticed > 0.9 * len(range(0, len(whole), 41))


def test_no_pickles(path):
    np.savez(path, header=np.array([{"trained_on": "this"}], dtype=object))
    assert read_checkpoint(path, "this") is None


def test_a_failed_write_leaves_the_file_that_was_there(path, result):
    with pytest.raises(AttributeError):
        write_checkpoint(path, replace(result, evaluations=object()), "that")
    assert read_checkpoint(path, "this") is not None
    assert list(path.parent.iterdir()) == [path]


def test_fingerprint_sees_everything_that_counts():
    x, y, s = FEATURES, TARGETS, SETTINGS
    nudged = x.copy()
    nudged[5, 3] = np.nextafter(nudged[5, 3], 9)
    wolves = GreyWolf(points=5, budget=9)
    different = [
        (x, y, s, ()), (nudged, y, s, ()), (x[::-1], y, s, ()), (x, -y, s, ()),
        (x.reshape(180, 3), y, s, ()), (x, y, replace(s, seed=1), ()),
        (x, y, replace(s, transfer=None), ()), (x, y, replace(s, optimiser=wolves), ()),
        (x, y, replace(s, optimiser=replace(wolves, budget=10)), ()),
        (x, y, s, (GUESS,)), (x, y, s, (GUESS + 1,)), (x, y, s, (GUESS, GUESS)),
    ]
    assert len({fingerprint(*each) for each in different}) == len(different)
    assert fingerprint(x, y, s, (GUESS,)) == fingerprint(x.copy("F"), y.copy(), s, [GUESS.copy()])


def test_fingerprint_tells_optimisers_of_equal_numbers_apart():
    class Wolves(GreyWolf):
        pass

    settings = [replace(SETTINGS, optimiser=kind()) for kind in (GreyWolf, Wolves)]
    first, second = (fingerprint(FEATURES, TARGETS, each, ()) for each in settings)
    assert asdict(settings[0]) == asdict(settings[1]) and first != second
