"""Whole builds of a water model, finished and interrupted."""

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
from ase import Atoms, units
from ase.build import molecule
from ase.io import read

from ase_fflux import FFLUX
from ase_fflux.errors import FFLUXError, LabelError
from ase_fflux.formats.bundle import read_bundle
from ase_fflux.gp.settings import TrainingSettings
from ase_fflux.reference import dataset, sampling
from ase_fflux.reference.dataset import count_labels, read_dataset
from ase_fflux.reference.tblite_source import GFN2
from ase_fflux.tasks import build as task
from ase_fflux.tasks.build import BuildSettings, build

pytest.importorskip("tblite.interface", exc_type=ImportError)

INPUT = Path(__file__).resolve().parents[2] / "models" / "inputs" / "water.xyz"
SETTINGS = BuildSettings(labels=60, test_frames=6, seed=2)
TRAINING = TrainingSettings()
EQUILIBRATION, TIME_STEP = 40.0, 1.0
HOT = 30
"""Labels from dynamics, which come first; the next 18 calculations are the Hessian."""


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


def water(folder, source=None, settings=SETTINGS, training=TRAINING, conformers=None, **options):
    """Build ``water.fflux`` in a folder."""
    return build(
        conformers or [read(INPUT)], folder / "water.fflux", source or GFN2(), settings, training,
        folder / "work", **options,
    )


def contents(folder):
    """What is in the files, without checkpoints: these say how long the training took."""
    return {
        path.relative_to(folder): path.read_bytes()
        for path in folder.rglob("*") if path.is_file() and path.suffix != ".npz"
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the uninterrupted build took place."""
    return tmp_path_factory.mktemp("build")


@pytest.fixture(scope="module")
def finished(folder):
    return water(folder, command="fflux build water.xyz")


def resume(folder):
    """Go on in a folder as a user does."""
    return water(folder, command="fflux build water.xyz")


class TestFinished:
    def test_model_is_close_to_its_source(self, finished, folder):
        """Geometries that it has not seen, against the source itself."""
        rng = np.random.default_rng(0)
        for scale in (0.0, 0.01, 0.02):
            atoms = read(INPUT)
            atoms.positions += rng.normal(scale=scale, size=(3, 3))
            atoms.rotate(70, (1, 2, 3))
            expected = atoms.copy()
            expected.calc, atoms.calc = GFN2().calculator(), FFLUX(folder / "water.fflux")
            error = atoms.get_potential_energy() - expected.get_potential_energy()
            assert abs(error) < 0.1 * units.kJ / units.mol
            assert np.allclose(atoms.get_forces(), expected.get_forces(), atol=0.05)
            assert np.allclose(atoms.get_charges(), expected.get_charges(), atol=1e-3)
            assert np.allclose(atoms.get_dipole_moment(), expected.get_dipole_moment(), atol=1e-3)

    def test_reported_errors_are_small(self, finished):
        assert finished.test.frames == 6
        assert 0 < finished.test.energy_rmse_kj_per_mol < 0.1
        assert 0 < finished.test.force_rmse_ev_per_angstrom < 0.02
        assert finished.test.coverage_min > 0.5
        (minimum,) = finished.minima
        assert minimum.rmsd_angstrom < 1e-3 and minimum.wavenumber_max_per_cm < 30

    def test_reported_errors_are_those_of_the_bundle(self, finished, folder):
        """Recomputed with the calculator on the test labels."""
        calculator = FFLUX(folder / "water.fflux", assignment=[[0, 1, 2]])
        frames = read(folder / "work" / "test.xyz", ":")
        energies, forces = [], []
        for frame in frames:
            atoms = frame.copy()
            atoms.calc = calculator
            energies.append(atoms.get_potential_energy() - frame.get_potential_energy())
            forces.append(atoms.get_forces() - frame.get_forces())
        rmse = np.sqrt(np.mean(np.square(energies))) * units.mol / units.kJ
        assert finished.test.energy_rmse_kj_per_mol == pytest.approx(rmse, rel=1e-6)
        rmse = np.sqrt(np.mean(np.square(forces)))
        assert finished.test.force_rmse_ev_per_angstrom == pytest.approx(rmse, rel=1e-6)

    def test_bundle_says_where_it_comes_from(self, finished, folder):
        model = read_bundle(folder / "water.fflux")
        assert model.name == "water" and len(model.geometries) == 60 and model.rank == 2
        said = model.provenance
        assert said == json.loads(json.dumps(finished.model.provenance))
        assert "GFN2-xTB" in said["label_source"] and "not IQA" in said["energies"]
        assert said["command"] == "fflux build water.xyz"
        assert said["settings"]["seed"] == 2 and said["training"]["noise"] == TRAINING.noise
        assert said["labels"] == {"md500K": 30, "nm50K": 15, "nm150K": 9, "nm300K": 6}
        error = said["errors"]["energy RMSE"]
        assert error == {"value": finished.test.energy_rmse_kj_per_mol, "unit": "kJ/mol"}
        assert "ase" in said["versions"]

    def test_working_folder_keeps_labels_and_nothing_temporary(self, finished, folder):
        assert sorted(path.name for path in folder.iterdir()) == ["water.fflux", "work"]
        names = sorted(path.name for path in (folder / "work").iterdir())
        assert names == ["build.json", "labels.xyz", "minima.xyz", "models", "test.xyz"]
        test = read_dataset(folder / "work" / "test.xyz")
        assert set(test.origins) == {"md300K"} and len(test) == 6


def test_test_trajectory_has_random_numbers_of_its_own(tmp_path, monkeypatch):
    """At the temperature of the training trajectory the same numbers would give the same frames."""
    monkeypatch.setattr(task, "run_jobs", _interrupted)
    settings = BuildSettings(labels=20, temperature=300.0, test_frames=10)
    with pytest.raises(KeyboardInterrupt):
        water(tmp_path, settings=settings)
    train = read_dataset(tmp_path / "work" / "labels.xyz").geometries[:10]
    test = read_dataset(tmp_path / "work" / "test.xyz").geometries
    assert np.abs(test[:, None] - train[None]).max(axis=(2, 3)).min() > 1e-2


def test_seed_decides(finished, folder, tmp_path):
    """The same seed gives the same bytes, another one other labels."""
    resume(tmp_path)
    assert contents(tmp_path) == contents(folder)
    other = tmp_path / "other"
    other.mkdir()
    with pytest.raises(RuntimeError):
        water(other, Stopping(1, RuntimeError()), replace(SETTINGS, seed=3))
    first = read_dataset(other / "work" / "labels.xyz").geometries[0]
    assert not np.allclose(first, read_dataset(folder / "work" / "labels.xyz").geometries[0],
                           atol=1e-3)


def test_progress_counts_to_its_totals(folder, finished, tmp_path):
    seen = {}

    class Progress:
        def __init__(self, description, total):
            self.description = description
            seen[description] = [0, total]

        def __enter__(self):
            return self.advance

        def __exit__(self, *exc):
            pass

        def advance(self, n):
            seen[self.description][0] += n

    work = shutil.copytree(folder / "work", tmp_path / "work")
    lines = (work / "labels.xyz").read_bytes().splitlines(keepends=True)
    (work / "labels.xyz").write_bytes(b"".join(lines[: 5 * 47]))
    water(tmp_path, progress=Progress)
    assert seen == {
        "labelling labels": [60, 60], "labelling test": [6, 6], "training": [6, 6],
        "testing minima": [1, 1],
    }


class TestInterrupted:
    """However it ends: what was labelled is kept, and the end is that of one go."""

    def check(self, folder, finished_folder, labels):
        kept = (folder / "work" / "labels.xyz").read_bytes() if labels else b""
        complete = (finished_folder / "work" / "labels.xyz").read_bytes()
        assert complete.startswith(kept)
        assert count_labels(folder / "work" / "labels.xyz") == labels
        resume(folder)
        assert contents(folder) == contents(finished_folder)

    @pytest.mark.parametrize(
        ("calls", "labels", "error"),
        [
            (0, 0, KeyboardInterrupt()),
            (7, 7, LabelError("no licence")),
            (20, 20, KeyboardInterrupt()),
            (HOT + 5, HOT, RuntimeError()),
            (HOT + 18 + 12, HOT + 12, KeyboardInterrupt()),
        ],
        ids=["first", "in a chunk", "after a chunk", "in the Hessian", "in normal modes"],
    )
    def test_while_labelling(self, finished, folder, tmp_path, calls, labels, error):
        with pytest.raises(type(error)):
            water(tmp_path, Stopping(calls, error))
        assert not (tmp_path / "water.fflux").exists()
        self.check(tmp_path, folder, labels)

    def test_again_and_again(self, finished, folder, tmp_path):
        for _ in range(3):
            with pytest.raises(KeyboardInterrupt):
                water(tmp_path, Stopping(6, KeyboardInterrupt()))
        self.check(tmp_path, folder, 18)

    def test_while_labels_are_written(self, finished, folder, tmp_path, monkeypatch):
        """Ctrl-C after the labels have reached the file must not write them twice."""
        synchronise, calls = os.fsync, []

        def interrupted(descriptor):
            synchronise(descriptor)
            calls.append(1)
            if len(calls) == 2:
                raise KeyboardInterrupt

        monkeypatch.setattr(dataset.os, "fsync", interrupted)
        monkeypatch.setattr(task, "_INTERVAL", -1.0)  # every label is written at once
        with pytest.raises(KeyboardInterrupt):
            water(tmp_path)
        self.check(tmp_path, folder, 2)

    def test_while_the_test_set_is_labelled(self, finished, folder, tmp_path):
        with pytest.raises(KeyboardInterrupt):
            water(tmp_path, Stopping(60 + 18 + 5, KeyboardInterrupt()))
        assert count_labels(tmp_path / "work" / "test.xyz") == 5
        self.check(tmp_path, folder, 60)

    def test_while_minima_are_sought(self, finished, folder, tmp_path, monkeypatch):
        with monkeypatch.context() as patch:
            patch.setattr(task, "minima", _interrupted)
            with pytest.raises(KeyboardInterrupt):
                water(tmp_path)
        (tmp_path / "work" / "minima.part.xyz").write_text("3\nhalf a fi")
        self.check(tmp_path, folder, 0)

    @pytest.mark.parametrize(
        "step", ["run_jobs", "held_out_errors", "minimum_errors", "write_bundle"]
    )
    def test_after_labelling(self, finished, folder, tmp_path, monkeypatch, step):
        shutil.copytree(folder / "work", tmp_path / "work")
        with monkeypatch.context() as patch:
            patch.setattr(task, step, _interrupted)
            with pytest.raises(KeyboardInterrupt):
                water(tmp_path)
        assert not (tmp_path / "water.fflux").exists()
        self.check(tmp_path, folder, 60)

    @pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs POSIX signals")
    def test_killed(self, finished, folder, tmp_path):
        """Without a chance to tidy up: labels that were written survive."""
        code = f"""
import os, signal
from pathlib import Path
from ase.io import read
from ase_fflux.gp.settings import TrainingSettings
from ase_fflux.reference import sampling
from ase_fflux.reference.tblite_source import GFN2
from ase_fflux.tasks import build as task
from ase_fflux.tasks.build import BuildSettings, build

task._INTERVAL = -1.0  # every label is written at once
sampling.EQUILIBRATION, sampling.TIME_STEP = {EQUILIBRATION}, {TIME_STEP}

class Killed(GFN2):
    calls = 27
    def label(self, atoms):
        self.calls -= 1
        if self.calls == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().label(atoms)

build([read({str(INPUT)!r})], Path("water.fflux"), Killed(),
      BuildSettings(labels=60, test_frames=6, seed=2), TrainingSettings(), Path("work"))
"""
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, env=_environment(), timeout=120
        )
        assert done.returncode == -signal.SIGKILL
        self.check(tmp_path, folder, 26)

    def test_torn_frame_is_dropped(self, finished, folder, tmp_path):
        """What a power cut in the middle of a write leaves."""
        with pytest.raises(KeyboardInterrupt):
            water(tmp_path, Stopping(10, KeyboardInterrupt()))
        complete = (folder / "work" / "labels.xyz").read_bytes()
        torn = tmp_path / "work" / "labels.xyz"
        size = torn.stat().st_size
        torn.write_bytes(complete[: size + 300])
        self.check(tmp_path, folder, 10)


def _interrupted(*args, **kwargs):
    raise KeyboardInterrupt


def _environment():
    """The package is that of this process, with one thread."""
    root = str(Path(task.__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path}


@pytest.fixture(scope="module")
def three_labels(tmp_path_factory):
    folder = tmp_path_factory.mktemp("begun")
    with pytest.raises(KeyboardInterrupt):
        water(folder, Stopping(3, KeyboardInterrupt()))
    return folder


class TestRefused:
    """Nothing that is there may be touched."""

    @pytest.fixture
    def begun(self, three_labels, tmp_path):
        return shutil.copytree(three_labels, tmp_path, dirs_exist_ok=True)

    @pytest.fixture
    def refuse(self, begun):
        def check(words, **options):
            before = contents(begun)
            with pytest.raises(FFLUXError, match=words):
                water(begun, **options)
            assert contents(begun) == before

        return check

    @pytest.mark.parametrize(
        "change",
        [dict(seed=3), dict(labels=61), dict(temperature=400.0), dict(test_frames=13),
         dict(test_temperature=310.0)],
    )
    def test_other_settings(self, refuse, change):
        settings = replace(SETTINGS, **change)
        refuse("work belongs to a build with other settings", settings=settings)

    def test_other_charge(self, refuse):
        settings = replace(SETTINGS, charge=-2)
        refuse("belongs to a build with other settings", source=GFN2(-2), settings=settings)

    def test_other_geometries(self, refuse):
        refuse("other settings or geometries", conformers=[molecule("H2O")])
        refuse("other settings or geometries", conformers=[molecule("H2CO")])

    def test_other_source(self, refuse):
        class Other(GFN2):
            method = "other"

        refuse("belongs to a build with other settings", source=Other())

    def test_existing_output(self, begun, refuse):
        (begun / "water.fflux").write_text("precious")
        refuse("water.fflux exists already")

    def test_foreign_folder(self, begun, refuse):
        (begun / "work" / "build.json").unlink()
        refuse("work exists and is not of a build")

    def test_damaged_record(self, begun, refuse):
        record = begun / "work" / "build.json"
        record.write_text(record.read_text()[:50])
        refuse("build.json cannot be read")

    def test_damaged_labels(self, begun, refuse):
        labels = begun / "work" / "labels.xyz"
        labels.write_text("rubbish\n" + labels.read_text())
        refuse(r"labels.xyz, frame 1, line 1: expected a number of atoms, found 'rubbish'")

    def test_a_file_in_place_of_the_folder(self, tmp_path):
        (tmp_path / "work").write_text("precious")
        with pytest.raises((FFLUXError, OSError)):
            water(tmp_path)
        assert (tmp_path / "work").read_text() == "precious"

    @pytest.mark.parametrize("change", [dict(labels=19), dict(test_frames=1)])
    def test_too_few_labels(self, tmp_path, change):
        with pytest.raises(FFLUXError, match="at least 20 labels and 2 test frames"):
            water(tmp_path, settings=BuildSettings(**change))
        assert not list(tmp_path.iterdir())


def test_training_again_needs_no_labels(folder, finished, tmp_path):
    """How hyperparameters are found is no part of what was labelled."""
    work = shutil.copytree(folder / "work", tmp_path / "work")
    again = water(
        tmp_path, Stopping(0, AssertionError("labelled again")),
        training=TrainingSettings(noise=1e-8),
    )
    assert again.model.processes[0].gp.noise == 1e-8
    assert again.model.provenance["training"]["noise"] == 1e-8
    assert contents(work) == contents(folder / "work")


def test_portions_are_the_labels():
    for labels in (20, 21, 99, 2000):
        settings = BuildSettings(labels=labels)
        portions = settings.training()
        assert sum(p.frames for p in portions) == labels
        assert all(p.frames > 0 for p in portions)
    assert [p.frames for p in portions] == [1000, 500, 300, 200]
    assert json.loads(json.dumps([p.origin for p in portions])) == [
        "md500K", "nm50K", "nm150K", "nm300K"
    ]


def test_atoms_are_not_changed(tmp_path):
    atoms = Atoms(read(INPUT))
    before = atoms.positions.copy()
    with pytest.raises(KeyboardInterrupt):
        water(tmp_path, Stopping(0, KeyboardInterrupt()), conformers=[atoms])
    assert np.array_equal(atoms.positions, before) and atoms.calc is None
