"""Folders of water labels, finished and interrupted."""

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.io import read

from ase_fflux.base.errors import FFLUXError, FFLUXWarning, LabelError
from ase_fflux.base.units import BOHR
from ase_fflux.labels import dataset, sampling
from ase_fflux.labels import folder as labelling
from ase_fflux.labels.dataset import count_labels, read_dataset
from ase_fflux.labels.folder import LabelFolder, LabelSettings
from ase_fflux.labels.labeller import Labeller
from ase_fflux.labels.source import Rejected
from ase_fflux.labels.tblite_source import GFN2

pytest.importorskip("tblite.interface", exc_type=ImportError)

INPUT = Path(__file__).resolve().parents[2] / "models" / "inputs" / "water.xyz"
SETTINGS = LabelSettings(test_frames=4, seed=2)
LABELS, TEST = 12, 4
"""Training and test labels; those come first."""
EQUILIBRATION, TIME_STEP = 20.0, 2.0
CORNERS = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])


@pytest.fixture(scope="module", autouse=True)
def short_dynamics():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sampling, "EQUILIBRATION", EQUILIBRATION)
        patch.setattr(sampling, "TIME_STEP", TIME_STEP)
        yield


class Stopping(GFN2):
    """Raises at the label after so many."""

    def __init__(self, calls, error):
        super().__init__()
        self.calls, self.error = calls, error

    def label(self, atoms):
        if self.calls == 0:
            raise self.error
        self.calls -= 1
        return super().label(atoms)


def label(folder, source=None, settings=SETTINGS, conformers=None, count=LABELS, **options):
    """All labels of a folder."""
    labels = LabelFolder(folder, conformers or [read(INPUT)], source or GFN2(), settings)
    test = labels.test(**options)
    return labels.training(count, **options), test


def contents(folder):
    return {
        path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of an uninterrupted run."""
    folder = tmp_path_factory.mktemp("labels") / "work"
    label(folder)
    return folder


@pytest.fixture
def work(tmp_path):
    return tmp_path / "work"


def test_files_are_what_is_returned(finished):
    training, test = label(finished, Stopping(0, AssertionError("labelled again")))
    names = sorted(path.name for path in finished.iterdir())
    assert names == ["build.json", "hessians.npz", "labels.xyz", "minima.xyz", "test.xyz"]
    for found, name in ((training, "labels.xyz"), (test, "test.xyz")):
        stored = read_dataset(finished / name)
        assert np.array_equal(found.geometries, stored.geometries)
        assert np.array_equal(found.origins, stored.origins)
    assert (len(training), len(test)) == (LABELS, TEST)
    assert set(test.origins) == {"md300K"}
    assert np.unique(training.origins, return_counts=True)[1].tolist() == [6, 2, 1, 3]


def test_test_trajectory_has_random_numbers_of_its_own(work):
    """At the temperature of the training trajectory the same numbers would give the same frames."""
    settings = LabelSettings(temperature=300.0, test_frames=6)
    training, test = label(work, settings=settings)
    difference = np.abs(test.geometries[:, None] - training.geometries[None]).max(axis=(2, 3))
    assert difference.min() > 1e-2


def test_seed_decides(finished, tmp_path):
    """The same seed gives the same bytes, another one other labels."""
    label(tmp_path / "same")
    assert contents(tmp_path / "same") == contents(finished)
    training, test = label(tmp_path / "other", settings=replace(SETTINGS, seed=3), count=2)
    for found, name in ((training, "labels.xyz"), (test, "test.xyz")):
        first = read_dataset(finished / name).geometries[0]
        assert not np.allclose(found.geometries[0], first, atol=1e-3)


def test_worker_processes_make_the_same_files(finished, work):
    labels = LabelFolder(work, [read(INPUT)], GFN2(), SETTINGS, Labeller(GFN2(), 2))
    labels.test()
    labels.training(LABELS)
    assert contents(work) == contents(finished)


class TestMore:
    def test_in_steps_or_in_one_go(self, finished, work):
        shutil.copytree(finished, work)
        for count in (5, LABELS, LABELS + 1, 20):
            training, _ = label(work, count=count)
            assert len(training) == count
            there = (work / "labels.xyz").read_bytes()
            assert there.startswith((finished / "labels.xyz").read_bytes())
        label(work.with_name("at once"), count=20)
        assert contents(work) == contents(work.with_name("at once"))

    def test_fewer_are_the_first_and_delete_nothing(self, finished, work):
        shutil.copytree(finished, work)
        training, _ = label(work, Stopping(0, AssertionError("labelled again")), count=5)
        stored = read_dataset(finished / "labels.xyz")
        assert np.array_equal(training.geometries, stored.geometries[:5])
        assert contents(work) == contents(finished)


class TestInterrupted:
    """However it ends: what was labelled is kept, and the end is that of one go."""

    def check(self, work, finished, labels, test=TEST):
        for name, count in (("labels.xyz", labels), ("test.xyz", test)):
            kept = (work / name).read_bytes() if count else b""
            assert (finished / name).read_bytes().startswith(kept)
            assert count_labels(work / name) == count
        label(work)
        assert contents(work) == contents(finished)

    @pytest.mark.parametrize(
        ("calls", "labels", "error"),
        [
            (TEST, 0, KeyboardInterrupt()),
            (TEST + 7, 7, LabelError("no licence")),
            (TEST + LABELS - 1, LABELS - 1, KeyboardInterrupt()),
        ],
        ids=["first", "in the middle", "last"],
    )
    def test_while_labelling(self, finished, work, calls, labels, error):
        with pytest.raises(type(error)):
            label(work, Stopping(calls, error))
        self.check(work, finished, labels)

    def test_again_and_again(self, finished, work):
        for calls in (TEST + 1, 4, 4):
            with pytest.raises(KeyboardInterrupt):
                label(work, Stopping(calls, KeyboardInterrupt()))
        self.check(work, finished, 9)

    def test_while_labels_are_written(self, finished, work, monkeypatch):
        """Ctrl-C after the labels have reached the file must not write them twice."""
        synchronise, calls = dataset.sync, []

        def interrupted(path):
            synchronise(path)
            calls.append(1)
            if len(calls) == TEST + 2:
                raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(dataset, "sync", interrupted)
            patch.setattr(labelling, "_INTERVAL", -1.0)  # every label is written at once
            with pytest.raises(KeyboardInterrupt):
                label(work)
        self.check(work, finished, 2)

    def test_while_the_test_set_is_labelled(self, finished, work):
        with pytest.raises(KeyboardInterrupt):
            label(work, Stopping(3, KeyboardInterrupt()))
        self.check(work, finished, 0, test=3)

    def test_while_minima_are_sought(self, finished, work, monkeypatch):
        with monkeypatch.context() as patch:
            patch.setattr(labelling, "minima", _interrupted)
            with pytest.raises(KeyboardInterrupt):
                label(work)
        self.check(work, finished, 0, test=0)

    def test_hessians_that_are_lost_are_calculated_again(self, finished, work):
        """As in folders of earlier versions; the minima stay."""
        for damage in (lambda path: path.unlink(), lambda path: path.write_bytes(b"rubbish")):
            shutil.copytree(finished, work, dirs_exist_ok=True)
            damage(work / "hessians.npz")
            label(work, Stopping(0, AssertionError("labelled again")))
            hessians = [LabelFolder(folder, [read(INPUT)], GFN2(), SETTINGS).minima_with_hessians()
                        for folder in (work, finished)]
            assert np.allclose(*(one.hessian for one, in hessians), atol=1e-6)
            (work / "hessians.npz").write_bytes((finished / "hessians.npz").read_bytes())
            assert contents(work) == contents(finished)

    @pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs POSIX signals")
    def test_killed(self, finished, work):
        """Without a chance to tidy up: labels that were written survive."""
        code = f"""
import os, signal
from pathlib import Path
from ase.io import read
from ase_fflux.labels import sampling
from ase_fflux.labels.tblite_source import GFN2
from ase_fflux.labels import folder as labelling

labelling._INTERVAL = -1.0  # every label is written at once
sampling.EQUILIBRATION, sampling.TIME_STEP = {EQUILIBRATION}, {TIME_STEP}

class Killed(GFN2):
    calls = {TEST + 7}
    def label(self, atoms):
        self.calls -= 1
        if self.calls == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().label(atoms)

labels = labelling.LabelFolder(
    Path({str(work)!r}), [read({str(INPUT)!r})], Killed(),
    labelling.LabelSettings(test_frames={TEST}, seed=2),
)
labels.test()
labels.training({LABELS})
"""
        done = subprocess.run([sys.executable, "-c", code], env=_environment(), timeout=120)
        assert done.returncode == -signal.SIGKILL
        self.check(work, finished, 6)

    def test_torn_frame_is_dropped(self, finished, work):
        """What a power cut in the middle of a write leaves."""
        with pytest.raises(KeyboardInterrupt):
            label(work, Stopping(TEST + 5, KeyboardInterrupt()))
        complete = (finished / "labels.xyz").read_bytes()
        torn = work / "labels.xyz"
        torn.write_bytes(complete[: torn.stat().st_size + 300])
        self.check(work, finished, 5)


def _interrupted(*args, **kwargs):
    raise KeyboardInterrupt


def _environment():
    """The package is that of this process, with one thread."""
    root = str(Path(labelling.__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path}


class TestRefused:
    """Nothing that is there may be touched."""

    @pytest.fixture
    def begun(self, finished, work):
        """Three labels are there."""
        shutil.copytree(finished, work)
        lines = (work / "labels.xyz").read_bytes().splitlines(keepends=True)
        (work / "labels.xyz").write_bytes(b"".join(lines[: 5 * 3]))
        assert count_labels(work / "labels.xyz") == 3
        return work

    @pytest.fixture
    def refuse(self, begun):
        def check(words, **options):
            before = contents(begun)
            with pytest.raises(FFLUXError, match=words):
                label(begun, **options)
            assert contents(begun) == before

        return check

    @pytest.mark.parametrize(
        "change",
        [dict(seed=3), dict(temperature=400.0), dict(test_frames=13), dict(test_temperature=310.0)],
    )
    def test_other_settings(self, refuse, change):
        refuse(
            f"work belongs to a build with other settings .settings.{next(iter(change))} was",
            settings=replace(SETTINGS, **change)
        )

    def test_other_charge(self, refuse):
        refuse(r"\(source.charge was 0, is -2\)", source=GFN2(-2))

    def test_other_geometries(self, refuse):
        refuse("other settings .conformers was ", conformers=[molecule("H2O")])
        refuse("other settings .conformers was ", conformers=[molecule("H2CO")])

    def test_other_source(self, refuse):
        class Other(GFN2):
            method = "other"

        refuse("source.method was \"GFN2-xTB\", is \"other\"", source=Other())

    def test_foreign_folder(self, begun, refuse):
        (begun / "build.json").unlink()
        refuse("work exists and is not of a build")

    def test_damaged_record(self, begun, refuse):
        record = begun / "build.json"
        record.write_text(record.read_text()[:50])
        refuse("build.json is damaged")

    def test_damaged_labels(self, begun, refuse):
        labels = begun / "labels.xyz"
        labels.write_text("rubbish\n" + labels.read_text())
        refuse(r"labels.xyz, frame 1, line 1: expected a number of atoms, found 'rubbish'")

    def test_a_file_in_place_of_the_folder(self, work):
        work.write_text("precious")
        with pytest.raises((FFLUXError, OSError)):
            label(work)
        assert work.read_text() == "precious"

    def test_too_few_test_frames(self, work):
        with pytest.raises(FFLUXError, match="at least 2 frames"):
            label(work, settings=LabelSettings(test_frames=1))
        assert not work.exists()


def test_half_of_the_labels_are_from_dynamics():
    portions = LabelSettings(temperature=400.0).training()
    assert [p.origin for p in portions] == ["md400K", "nm50K", "nm150K", "nm300K"]
    assert [2000 * p.share for p in portions] == pytest.approx([1000, 500, 300, 200])


def test_record_is_plain_json(finished):
    record = json.loads((finished / "build.json").read_text())
    assert record["settings"]["seed"] == 2 and len(record["conformers"]) == 1


class TestCheckedFirst:
    """What is refused leaves no folder, and no folder without labels stands in the way."""

    def test_refused_inputs_make_no_folder(self, work):
        ammonium = Atoms("NH4", np.vstack([np.zeros(3), 0.6 * CORNERS]))
        with pytest.raises(LabelError, match="NH4 with charge 0 has 11 electrons"):
            label(work, conformers=[ammonium])
        assert not work.exists()
        LabelFolder(work, [ammonium], GFN2(charge=1), SETTINGS)
        LabelFolder(work, [ammonium], GFN2(charge=1), replace(SETTINGS, seed=5))
        assert json.loads((work / "build.json").read_text())["settings"]["seed"] == 5

    def test_periodic_and_triplet(self, work):
        water = read(INPUT)
        water.set_cell([9, 9, 9])
        water.pbc = True
        with pytest.raises(LabelError, match="is periodic"):
            label(work, conformers=[water])
        with pytest.raises(LabelError, match="--spin 2"):
            label(work, conformers=[molecule("O2")])
        assert not work.exists()


class Picky(GFN2):
    """Rejects every third geometry."""

    def __init__(self, every=3):
        super().__init__()
        self.calls, self.every = 0, every

    def label(self, atoms):
        self.calls += 1
        if round(1e6 * abs(atoms.positions[1, 0])) % self.every == 0:
            raise Rejected("an integration error of\n1e-2 Ha")
        return super().label(atoms)


class TestRejected:
    def test_counted_and_left_out(self, work):
        with pytest.warns(FFLUXWarning, match=r"rejected \d+ geometries beside 12 labels"):
            training, test = label(work, Picky())
        assert len(training) == LABELS and len(test) == TEST
        lines = (work / "labels-rejected.txt").read_text().splitlines()
        assert lines and all("K: an integration error of 1e-2 Ha" in line for line in lines)
        assert not any(round(1e6 * abs(x)) % 3 == 0 for x in training.geometries[:, 1, 0] * BOHR)

    @pytest.mark.filterwarnings("ignore::ase_fflux.base.errors.FFLUXWarning")
    def test_resumed_where_it_stopped(self, work):
        label(work, Picky())
        whole = contents(work)
        shutil.rmtree(work)
        for _ in range(3):
            source = Picky()
            def stopping(atoms, source=source):
                if source.calls == 5:
                    raise KeyboardInterrupt
                return Picky.label(source, atoms)

            source.label = stopping
            with pytest.raises(KeyboardInterrupt):
                label(work, source)
        label(work, Picky())
        assert contents(work) == whole

    def test_too_many(self, work):
        with pytest.raises(FFLUXError, match="rejected 16 geometries for 0 labels"):
            label(work, Picky(every=1))


def test_what_only_has_minima_is_taken_over_by_other_settings(tmp_path):
    """As after a sampling that failed before its first label: minima are of source and geometry."""
    work = tmp_path / "work"
    first = LabelFolder(work, [read(INPUT)], GFN2(), SETTINGS).minima()
    other = replace(SETTINGS, temperature=400.0)
    again = LabelFolder(work, [read(INPUT)], GFN2(), other).minima()
    assert (again[0].positions == first[0].positions).all()
    with pytest.raises(FFLUXError, match="source.charge"):
        LabelFolder(work, [read(INPUT)], GFN2(-2), other)
