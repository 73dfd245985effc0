"""Whole builds of a water model, finished and interrupted."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms, units
from ase.io import read

from ase_fflux import FFLUX
from ase_fflux.base.errors import FFLUXError, GeometryError, LabelError
from ase_fflux.formats.bundle import read_bundle
from ase_fflux.labels import sampling
from ase_fflux.labels.dataset import count_labels, read_dataset
from ase_fflux.labels.folder import LabelSettings
from ase_fflux.labels.tblite_source import GFN2
from ase_fflux.learn.gp.settings import TrainingSettings
from ase_fflux.training import joint
from ase_fflux.training.joint import JointTraining
from ase_fflux.workflows import build as task
from ase_fflux.workflows.build import BuildSettings, build

pytest.importorskip("tblite.interface", exc_type=ImportError)

INPUT = Path(__file__).resolve().parents[2] / "models" / "inputs" / "water.xyz"
SAMPLING = LabelSettings(test_frames=6, seed=2)
SETTINGS = BuildSettings(labels=40, sampling=SAMPLING)
TRAINING = JointTraining()
ENERGIES_ONLY = TrainingSettings()
EQUILIBRATION, TIME_STEP = 40.0, 1.6
TEST = 6
"""Test labels, which come first."""


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


def sampled(**change):
    """The settings with another sampling."""
    return replace(SETTINGS, sampling=replace(SAMPLING, **change))


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
        assert 0 < finished.test.atomic_energy_rmse_kj_per_mol < 1
        assert 0 < finished.test.energy_rmse_kj_per_mol < 0.1
        assert 0 < finished.test.force_rmse_ev_per_angstrom < 0.02
        assert finished.test.coverage_min > 0.5
        (minimum,) = finished.minima
        assert minimum.rmsd_angstrom < 1e-3 and minimum.wavenumber_max_per_cm < 30

    def test_page_tells_what_the_bundle_tells(self, finished, folder):
        text = (folder / "water-report.html").read_text("utf-8")
        for name, error in finished.model.provenance["errors"].items():
            assert f"<td>{name}</td><td>{error['value']:.4g}</td><td>{error['unit']}</td>" in text
        # learning curve and parity
        assert text.count("data:image/png;base64,") == 2
        assert "<td>1</td><td>0.00</td><td>0.00</td>" in text
        assert "fflux build water.xyz" in text and "GFN2-xTB/(kJ/mol)" in text

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
        assert model.name == "water" and len(model.geometries) == 40 and model.rank == 2
        said = model.provenance
        assert said == json.loads(json.dumps(finished.model.provenance))
        assert "GFN2-xTB" in said["label_source"] and "not IQA" in said["energies"]
        assert said["command"] == "fflux build water.xyz"
        assert said["settings"]["sampling"]["seed"] == 2 and said["settings"]["labels"] == 40
        training = said["training"]
        assert training["moments"]["noise"] == TRAINING.moments.noise
        assert training["energies"]["energy_noise"] == TRAINING.energies.energy_noise
        assert training["moments"]["labels_beside"] == 6
        assert training["gradients"] == 40 and training["symmetry_operations"] == 4
        assert training["steps"][0].startswith("source: 30 labels")
        assert said["labels"] == {"md500K": 20, "nm50K": 10, "nm150K": 6, "nm300K": 4}
        error = said["errors"]["energy RMSE"]
        assert error == {"value": finished.test.energy_rmse_kj_per_mol, "unit": "kJ/mol"}
        curve = finished.curve
        assert said["learning_curve"] == {
            "labels": list(curve.labels), "force_rmse": list(curve.force_rmse)
        }
        assert "ase" in said["versions"]

    def test_learning_curve_ends_with_the_model(self, finished):
        assert finished.curve.labels == (20, 40)
        last = finished.test.force_rmse_ev_per_angstrom
        assert finished.curve.force_rmse[-1] == pytest.approx(last, rel=1e-6)
        assert finished.curve.force_rmse[0] > last

    def test_working_folder_keeps_labels_and_nothing_temporary(self, finished, folder):
        names = sorted(path.name for path in folder.iterdir())
        assert names == ["water-report.html", "water.fflux", "work"]
        names = sorted(path.name for path in (folder / "work").iterdir())
        assert names == [
            "build.json", "hessians.npz", "labels.xyz", "minima.xyz", "minimum-1.xyz", "models",
            "test.xyz",
        ]
        kept = {path.name for path in (folder / "work" / "models").iterdir()}
        assert "energies.npz" in kept and not any(name.endswith(".part") for name in kept)
        test = read_dataset(folder / "work" / "test.xyz")
        assert set(test.origins) == {"md300K"} and len(test) == 6


def test_seed_decides(finished, folder, tmp_path):
    """The same seed gives the same bytes, another one other labels."""
    resume(tmp_path)
    assert contents(tmp_path) == contents(folder)
    other = tmp_path / "other"
    other.mkdir()
    with pytest.raises(RuntimeError):
        water(other, Stopping(TEST + 1, RuntimeError()), sampled(seed=3))
    first = read_dataset(other / "work" / "labels.xyz").geometries[0]
    assert not np.allclose(first, read_dataset(folder / "work" / "labels.xyz").geometries[0],
                           atol=1e-3)


@pytest.mark.parametrize("gradients", [True, False])
def test_progress_counts_to_its_totals(folder, finished, tmp_path, gradients):
    seen = {}

    class Progress:
        def __init__(self, description, total, done=0):
            self.description = description
            seen[description] = [done, total]

        def __enter__(self):
            return self.advance

        def __exit__(self, *exc):
            pass

        def advance(self, n):
            seen[self.description][0] += n

    work = shutil.copytree(folder / "work", tmp_path / "work")
    lines = (work / "labels.xyz").read_bytes().splitlines(keepends=True)
    (work / "labels.xyz").write_bytes(b"".join(lines[: 5 * 47]))
    shutil.rmtree(work / "models")
    training = TRAINING if gradients else ENERGIES_ONLY
    water(tmp_path, progress=Progress, training=training)
    trained = {
        "training energies": [sum(n for _, n in TRAINING.energies.budget(40))] * 2,
        "training moments": [2, 2], "learning curve": [2, 2], "labelling minimum-1": [6, 6],
    }
    assert seen == {
        "labelling labels": [40, 40], "labelling test": [6, 6], "testing minima": [1, 1],
    } | (trained if gradients else {"training": [6, 6]})


def test_intensities_are_those_of_the_source(finished):
    """Of water: 4 and 107 km/mol beside each other, and some 3."""
    (minimum,) = finished.minima
    assert minimum.intensity_max_km_per_mol < 0.2


def test_minima_beyond_the_labels_are_left_out():
    """Ethanol has two of its own, with 42 labels each."""
    minima = read(INPUT.with_name("ethanol.xyz"), ":")
    said = []

    def around(labels, training=TRAINING):
        return task._around(minima, GFN2(), BuildSettings(labels), training, said.append)

    assert around(84) == [0, 1] and not said
    assert around(83) == [0]
    assert said == [
        "infrared intensities are learned from displacements around 1 of 2 minima: for all of "
        "them, --labels 84 or more"
    ]
    for training in (replace(TRAINING, which="none"), ENERGIES_ONLY):
        assert around(300, training) == []


class TestInterrupted:
    """However it ends: what was labelled is kept, and the end is that of one go."""

    def test_while_displaced(self, finished, folder, tmp_path):
        shutil.copytree(folder / "work", tmp_path / "work")
        (tmp_path / "work" / "minimum-1.xyz").unlink()
        with pytest.raises(KeyboardInterrupt):
            water(tmp_path, Stopping(4, KeyboardInterrupt()))
        assert count_labels(tmp_path / "work" / "minimum-1.xyz") == 4
        self.check(tmp_path, folder, 40)

    def check(self, folder, finished_folder, labels):
        kept = (folder / "work" / "labels.xyz").read_bytes() if labels else b""
        complete = (finished_folder / "work" / "labels.xyz").read_bytes()
        assert complete.startswith(kept)
        assert count_labels(folder / "work" / "labels.xyz") == labels
        resume(folder)
        assert contents(folder) == contents(finished_folder)

    def test_while_labelling(self, finished, folder, tmp_path):
        """Elsewhere: `test_labelling`."""
        with pytest.raises(LabelError):
            water(tmp_path, Stopping(TEST + 7, LabelError("no licence")))
        assert not (tmp_path / "water.fflux").exists()
        self.check(tmp_path, folder, 7)

    @pytest.mark.parametrize("module, step", [
        (joint, "find_hyperparameters"), (joint, "solve"), (joint, "run_jobs"),
        (task, "held_out_errors"), (task, "minimum_errors"), (task, "write_bundle"),
    ], ids=lambda x: x if isinstance(x, str) else "")
    def test_after_labelling(self, finished, folder, tmp_path, monkeypatch, module, step):
        shutil.copytree(folder / "work", tmp_path / "work")
        if module is joint:
            shutil.rmtree(tmp_path / "work" / "models")
        with monkeypatch.context() as patch:
            patch.setattr(module, step, _interrupted)
            with pytest.raises(KeyboardInterrupt):
                water(tmp_path)
        assert not (tmp_path / "water.fflux").exists()
        self.check(tmp_path, folder, 40)


def _interrupted(*args, **kwargs):
    raise KeyboardInterrupt


@pytest.mark.parametrize("change, words", [
    (dict(settings=sampled(seed=3)), "settings.seed was 2, is 3"),
    (dict(source=GFN2(charge=-2)), "source.charge was 0, is -2"),
])
def test_folder_of_other_labels_is_refused(finished, folder, tmp_path, change, words):
    shutil.copytree(folder / "work", tmp_path / "work")
    before = contents(tmp_path)
    with pytest.raises(FFLUXError, match=f"work belongs to a build with other .*{words}"):
        water(tmp_path, **change)
    assert contents(tmp_path) == before


def test_existing_output_is_kept(finished, folder, tmp_path):
    shutil.copytree(folder / "work", tmp_path / "work")
    (tmp_path / "water.fflux").write_text("precious")
    said = []
    water(tmp_path, command="fflux build water.xyz", say=said.append)
    assert said[-1] == "kept the earlier output as water.fflux.~1~"
    assert (tmp_path / "water.fflux.~1~").read_text() == "precious"
    assert (tmp_path / "water.fflux").read_bytes() == (folder / "water.fflux").read_bytes()


@pytest.mark.parametrize("symbols, bond", [("OCO", 1.16), ("HCN", 1.1)])
def test_linear_molecules_are_refused_at_once(tmp_path, symbols, bond):
    atoms = Atoms(symbols, [[0, 0, bond * i] for i in range(3)])
    with pytest.raises(FFLUXError, match="linear"):
        water(tmp_path, conformers=[atoms])
    assert not list(tmp_path.iterdir())


def test_time_of_what_is_to_be_labelled_is_said(folder, finished, tmp_path, monkeypatch):
    monkeypatch.setattr(task, "_WORTH_SAYING", 0.0)
    said = []
    shutil.copytree(folder / "work", tmp_path / "work")
    water(tmp_path, settings=replace(SETTINGS, labels=44), say=said.append)
    assert re.match(
        r"labelling takes about \d+ (s|min), tests at minima \d+ (s|min); the training", said[0]
    )
    assert said[1].endswith("to search and solve")


@pytest.mark.parametrize("settings, words", [
    (replace(SETTINGS, labels=19), "at least 20 labels"),
    (BuildSettings(sampling=LabelSettings(test_frames=1)), "at least 2 frames"),
])
def test_too_few_labels(tmp_path, settings, words):
    with pytest.raises(FFLUXError, match=words):
        water(tmp_path, settings=settings)
    assert not list(tmp_path.iterdir())


def test_what_has_no_frames_is_refused_before_it_is_labelled(tmp_path):
    octahedron = 1.56 * np.vstack([np.zeros(3), np.eye(3), -np.eye(3)])
    source = Stopping(0, AssertionError("labelled"))
    with pytest.raises(GeometryError, match=r"atom 1 \(S\) has no local frame.* octahedral"):
        water(tmp_path, source, conformers=[Atoms("SF6", octahedron)])
    # frames are chosen at the first minimum, and must be defined at all
    arms = [[0.94, 0, -0.38], [-0.47, 0.81, -0.38], [-0.47, -0.81, -0.38]]
    pyramid = Atoms("NH3", [[0, 0, 0], *arms])
    upright = Atoms("NH3", [[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    with pytest.raises(GeometryError, match="minimum 2: .* z-axis"):
        task._check_frames([pyramid, upright], TRAINING)


def repeat(folder, tmp_path, calls=0, **options):
    """The build again with the labels of the finished one, and so many calculations at most."""
    shutil.copytree(folder / "work", tmp_path / "work")
    return water(tmp_path, Stopping(calls, AssertionError("labelled again")), **options)


def labels_of(folder):
    return (folder / "work" / "labels.xyz").read_bytes()


@pytest.mark.parametrize("training", [
    JointTraining(moments=TrainingSettings(noise=1e-7)), TrainingSettings(noise=1e-7)
], ids=["gradients", "energies only"])
def test_training_again_needs_no_labels(folder, finished, tmp_path, training):
    """How a model is trained is no part of what was labelled."""
    again = repeat(folder, tmp_path, training=training)
    (moments, *_) = [p for p in again.model.processes if "q00" in p.properties]
    assert moments.gp.noise == 1e-7
    record = again.model.provenance["training"]
    assert record.get("moments", record)["noise"] == 1e-7
    assert contents(tmp_path / "work") == contents(folder / "work")


@pytest.fixture(scope="module")
def built(folder, finished, tmp_path_factory):
    path = tmp_path_factory.mktemp("energies")
    return repeat(folder, path, training=ENERGIES_ONLY), path


class TestEnergiesOnly:
    def test_atoms_by_themselves(self, built):
        model = built[0].model
        assert model.shared is None and built[0].curve is None
        assert len(model.processes) == 6 and len(model.geometries) == 40
        assert all(p.gp.derivative_weights is None for p in model.processes)

    def test_provenance(self, built):
        said = read_bundle(built[1] / "water.fflux").provenance
        assert said["learning_curve"] is None
        assert said["training"]["noise"] == ENERGIES_ONLY.noise
        assert set(said["training"]["models"]) == {
            f"{atom} {what}" for atom in ("O1", "H2", "H3") for what in ("iqa", "moments")
        }

    def test_gradients_make_it_better(self, built, finished):
        energies = built[0].test
        assert energies.energy_rmse_kj_per_mol < 1
        assert finished.test.force_rmse_ev_per_angstrom < energies.force_rmse_ev_per_angstrom

    def test_interrupted(self, built, folder, tmp_path, monkeypatch):
        shutil.copytree(folder / "work", tmp_path / "work")
        with monkeypatch.context() as patch:
            patch.setattr(task, "run_jobs", _interrupted)
            with pytest.raises(KeyboardInterrupt):
                water(tmp_path, training=ENERGIES_ONLY)
        assert not (tmp_path / "water.fflux").exists()
        water(tmp_path, training=ENERGIES_ONLY)
        assert contents(tmp_path) == contents(built[1])


@pytest.fixture(scope="module")
def grown(folder, finished, tmp_path_factory):
    path = tmp_path_factory.mktemp("grown")
    return repeat(folder, path, 10, settings=replace(SETTINGS, labels=50)), path


class TestMoreLabels:
    def test_labels_that_are_there_are_kept(self, grown, folder):
        kept = labels_of(folder)
        assert labels_of(grown[1]).startswith(kept)
        assert count_labels(grown[1] / "work" / "labels.xyz") == 50
        for name in ("build.json", "minima.xyz", "test.xyz"):
            work = [f / "work" / name for f in (folder, grown[1])]
            assert work[0].read_bytes() == work[1].read_bytes()

    def test_model_learns_from_all(self, grown):
        assert len(grown[0].model.geometries) == 50
        assert grown[0].curve.labels == (25, 50)  # a quarter is too few to train on
        assert sum(grown[0].model.provenance["labels"].values()) == 50

    def test_fewer_are_the_first_of_them(self, grown, folder, finished, tmp_path):
        """The finished model again: nothing is labelled, and no label is thrown away."""
        again = repeat(grown[1], tmp_path, settings=SETTINGS)
        assert labels_of(tmp_path) == labels_of(grown[1])
        np.testing.assert_array_equal(again.model.geometries, finished.model.geometries)
        assert again.test == finished.test
        assert again.model.provenance["labels"] == finished.model.provenance["labels"]


class TestStop:
    def run(self, folder, tmp_path, goal, **options):
        said = []
        settings = replace(SETTINGS, labels=60, goal=goal, stop=True)
        with pytest.MonkeyPatch.context() as patch:
            # moments are searched at the end alone, and do not matter here
            patch.setattr(joint.JointTrainer, "moments", lambda self, progress=None: [])
            result = repeat(folder, tmp_path, 100, settings=settings, say=said.append, **options)
        return result, said

    def test_when_the_goal_is_reached(self, folder, finished, tmp_path):
        result, said = self.run(folder, tmp_path, 1e3)
        assert len(result.model.geometries) == 30 and len(said) == 1
        assert result.curve.labels == (30,)
        assert sum(result.model.provenance["labels"].values()) == 30
        assert labels_of(tmp_path) == labels_of(folder)

    def test_uses_all_where_it_is_not(self, folder, finished, tmp_path):
        result, said = self.run(folder, tmp_path, 1e-9)
        assert len(result.model.geometries) == 60
        assert [line.split()[0] for line in said] == ["30", "60"]
        assert count_labels(tmp_path / "work" / "labels.xyz") == 60


def test_plan_is_said_before_training(folder, finished, tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr(joint, "find_hyperparameters", _interrupted)
    work = shutil.copytree(folder / "work", tmp_path / "work")
    shutil.rmtree(work / "models")
    with pytest.raises(KeyboardInterrupt):
        water(tmp_path, say=said.append)
    (plan,) = said
    assert plan.startswith(
        "40 labels, 4 symmetry operations: 120 atomic energies, 40 totals and 120 components of "
        "gradients"
    )


def test_without_symmetry(folder, finished, tmp_path):
    shutil.copytree(folder / "work", tmp_path / "work")
    shutil.rmtree(tmp_path / "work" / "models")
    result = water(tmp_path, training=JointTraining(symmetry=False))
    assert result.model.provenance["training"]["symmetry_operations"] == 1
    energies = [p for p in result.model.processes if "iqa" in p.properties]
    assert len({id(p.gp) for p in energies}) == 3
    energies = [p for p in finished.model.processes if "iqa" in p.properties]
    assert len({id(p.gp) for p in energies}) == 2
    assert result.test.energy_rmse_kj_per_mol < 0.1


def test_without_symmetry_in_the_folder_of_a_build_with_it(folder, finished, tmp_path):
    """Hyperparameters of another symmetry are of no use."""
    result = repeat(folder, tmp_path, training=JointTraining(symmetry=False))
    assert result.model.provenance["training"]["symmetry_operations"] == 1


def test_atoms_are_not_changed(tmp_path):
    atoms = Atoms(read(INPUT))
    before = atoms.positions.copy()
    with pytest.raises(KeyboardInterrupt):
        water(tmp_path, Stopping(0, KeyboardInterrupt()), conformers=[atoms])
    assert np.array_equal(atoms.positions, before) and atoms.calc is None
