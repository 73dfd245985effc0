"""Builds whose labels are dear: geometries are chosen before they are labelled."""

from pathlib import Path

import numpy as np
import pytest
from ase.io import read

from ase_fflux.labels import sampling
from ase_fflux.labels.dataset import count_labels, read_dataset
from ase_fflux.labels.folder import LabelSettings
from ase_fflux.learn.joint.settings import JointSettings
from ase_fflux.model.kernels import USUAL
from ase_fflux.training.joint import JointTraining
from ase_fflux.workflows import designed
from ase_fflux.workflows import select as choosing
from ase_fflux.workflows.build import BuildSettings, build

pytest.importorskip("tblite.interface", exc_type=ImportError)

from ase_fflux.labels.source import Rejected
from ase_fflux.labels.tblite_source import GFN2

INPUT = Path(__file__).resolve().parents[2] / "models" / "inputs" / "water.xyz"


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(sampling, "EQUILIBRATION", 40.0)
    monkeypatch.setattr(sampling, "TIME_STEP", 1.6)
    monkeypatch.setattr(designed, "POOL", 70)
    monkeypatch.setattr(choosing, "SOURCE", 16)


class Dear(GFN2):
    """A source with a cheap engine, which stops or rejects."""

    def __init__(self, stop=None, reject=()):
        super().__init__()
        self.stop, self.reject, self.asked = stop, reject, 0

    @property
    def engine(self):
        return GFN2()

    def label(self, atoms):
        self.asked += 1
        if self.asked == self.stop:
            raise KeyboardInterrupt
        if self.asked in self.reject:
            raise Rejected("no convergence")
        return super().label(atoms)


def water(folder, labels=20, source=None, **options):
    settings = BuildSettings(
        labels=labels, sampling=LabelSettings(test_frames=4, seed=2), design=True
    )
    return build(
        [read(INPUT)], folder / "water.fflux", source or Dear(), settings,
        JointTraining(JointSettings(forms=(USUAL,)), which="none"), folder / "work", **options,
    )


def test_a_build_labels_what_was_chosen_and_goes_on_after_an_interruption(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        water(tmp_path, source=Dear(stop=14))
    begun = count_labels(tmp_path / "work" / "labels.xyz")
    assert 0 < begun < 20
    result = water(tmp_path)
    assert result.test.force_rmse_ev_per_angstrom < 0.02
    whole = read_dataset(tmp_path / "work" / "labels.xyz")
    chosen, pool = (read(tmp_path / "work" / name, ":") for name in ("choice.xyz", "pool.xyz"))
    assert len(whole) == 20 and len(chosen) == 30 and len(pool) == 70
    for number, atoms in enumerate(chosen):
        place = int(atoms.info["pool_frame"]) - 1
        assert atoms.positions == pytest.approx(pool[place].positions, abs=1e-7)
        if number < 20:
            assert whole.origins[number] == atoms.info["origin"]
    # more labels go on from those that are there
    before = whole.geometries
    water(tmp_path, 24)
    after = read_dataset(tmp_path / "work" / "labels.xyz").geometries
    assert len(after) == 24 and np.array_equal(after[:20], before)


def test_an_interrupted_pool_goes_on(tmp_path, monkeypatch):
    whole = sampling.sample

    def stopped(*args, **options):
        for number, drawn in enumerate(whole(*args, **options)):
            if number == 33:
                raise KeyboardInterrupt
            yield drawn

    pool, asked = tmp_path / "work" / "pool.xyz", []
    monkeypatch.setattr(designed, "sample", stopped)
    with pytest.raises(KeyboardInterrupt):
        water(tmp_path)
    first = read(pool, ":")
    assert len(first) == 33

    def again(*args, before, **options):
        asked.append(len(before))
        return whole(*args, before=before, **options)

    monkeypatch.setattr(designed, "sample", again)
    # what the cheap engine says of the pool is searched once
    monkeypatch.setattr(designed, "select", lambda *args, **options: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        water(tmp_path)
    found = read(pool, ":")
    assert asked == [33] and len(found) == 70
    for one, other in zip(first, found, strict=False):
        assert np.array_equal(one.positions, other.positions)
    kept = tmp_path / "work" / "choice" / "energies.npz"
    searched = kept.stat().st_mtime_ns
    monkeypatch.undo()
    monkeypatch.setattr(choosing, "SOURCE", 16)
    monkeypatch.setattr(designed, "POOL", 70)
    process = designed.Designed(
        tmp_path / "work", Dear(), LabelSettings(test_frames=4, seed=2), 20
    )
    assert len(process([], 20)) == 30
    assert kept.stat().st_mtime_ns == searched


def test_what_is_rejected_is_made_up_for(tmp_path):
    # of the labels, after those of the test
    with pytest.warns(UserWarning, match="rejected 1 geometries"):
        water(tmp_path, source=Dear(reject=(9,)))
    labels = read_dataset(tmp_path / "work" / "labels.xyz")
    chosen = read(tmp_path / "work" / "choice.xyz", ":")
    assert len(labels) == 20
    assert labels.origins[-1] == chosen[20].info["origin"]
