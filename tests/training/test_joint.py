"""The joint model of a toy molecule, and what is kept of its training."""

import json
from dataclasses import replace

import numpy as np
import pytest

from ase_fflux.assess.validate import held_out_errors
from ase_fflux.base.errors import FFLUXWarning, TrainingError
from ase_fflux.base.machine import memory_of_machine
from ase_fflux.forcefield import ForceField
from ase_fflux.formats.bundle import read_bundle, write_bundle
from ase_fflux.learn.gp.optimisers import LBFGS
from ase_fflux.learn.gp.settings import TrainingSettings
from ase_fflux.learn.joint.likelihood import JointLikelihood
from ase_fflux.learn.joint.settings import JointSettings
from ase_fflux.model.kernels import USUAL
from ase_fflux.training import joint as task
from ase_fflux.training.joint import JointTrainer, JointTraining

SEARCH = JointSettings(sizes=(10, 20), evaluations=(20, 5), forms=(USUAL,))
MOMENTS = TrainingSettings(optimiser=LBFGS(budget=10), transfer=None)
TRAINING = JointTraining(SEARCH, MOMENTS)


@pytest.fixture(scope="module")
def labels(make_labels):
    return make_labels("fluoromethane", 24)


@pytest.fixture(scope="module")
def unseen(make_labels):
    return make_labels("fluoromethane", 12, seed=5)


@pytest.fixture(scope="module")
def minimum(shapes):
    return shapes["fluoromethane"][1]


@pytest.fixture(scope="module")
def trainer(labels, minimum):
    return JointTrainer(labels, minimum, TRAINING)


@pytest.fixture(scope="module")
def energies(trainer):
    return trainer.solve(trainer.hyperparameters())


@pytest.fixture(scope="module")
def model(trainer, energies):
    return trainer.model("toy", energies, trainer.moments())


def evaluate(model, x):
    field = ForceField([model])
    numbers = [6, 9, 1, 1, 1]
    assignment = field.match(x, numbers, explicit=[list(range(5))])
    return field.evaluate(x, numbers, assignment=assignment, moments=True)


def arrays(h):
    return [*h.theta, h.variance, h.energy_noise, h.gradient_noise]


def same(one, other):
    return all(np.array_equal(a, b) for a, b in zip(arrays(one), arrays(other), strict=True))


class TestModel:
    def test_it_predicts(self, model, unseen):
        """Against the toy itself, of which energies vary by tens of kJ/mol."""
        errors = held_out_errors(model, unseen)
        assert errors.energy_rmse_kj_per_mol < 0.1
        assert errors.force_rmse_ev_per_angstrom < 0.01 * np.std(unseen.gradients) * 51.4
        assert errors.charge_rmse_e < 0.01 * np.std(unseen.moments[:, :, 0])
        assert errors.dipole_rmse_e_angstrom < 0.05 * np.std(unseen.dipoles)

    def test_what_it_is(self, model, labels, minimum):
        assert model.name == "toy" and model.symbols == labels.symbols and model.rank == 2
        np.testing.assert_array_equal(model.geometries, labels.geometries)
        np.testing.assert_array_equal(model.reference_geometry, minimum)
        assert len(model.shared.symmetry) == 6 and len(model.shared.processes) == 6
        assert len(model.processes) == 10  # energies and moments of five atoms

    def test_gradients_and_symmetry_make_it_better(self, trainer, energies, labels, unseen):
        def force_error(model):
            return held_out_errors(model, unseen).force_rmse_ev_per_angstrom

        with_all = force_error(trainer.model("toy", energies, []))
        h = energies.hyperparameters
        some = trainer.data.select_gradients(np.array([], dtype=int))
        without = task.solve(some, h)
        assert without.n_gradients == 0
        assert with_all < 0.5 * force_error(trainer.model("toy", without, []))
        alone = JointTrainer(labels, trainer.reference, replace(TRAINING, symmetry=False))
        solved = alone.solve(alone.hyperparameters())
        assert with_all < force_error(alone.model("toy", solved, []))

    def test_moments_learn_from_labels_beside(
        self, trainer, energies, model, labels, minimum, make_labels, tmp_path
    ):
        """Displaced along each coordinate: derivatives of moments at the minimum, after which the
        others are the same."""
        steps = 0.06 * np.eye(15).reshape(-1, 5, 3)
        x = minimum + np.concatenate([steps, -steps])
        beside = make_labels("fluoromethane", 30, geometries=x)
        with_them = JointTrainer(labels, minimum, TRAINING, moment_labels=beside)
        found = with_them.model("toy", energies, with_them.moments())
        np.testing.assert_array_equal(found.geometries, labels.geometries)
        np.testing.assert_array_equal(found.shared.moment_geometries, x)
        h = 1e-3 * np.eye(15).reshape(-1, 5, 3)
        near = make_labels("fluoromethane", 30, geometries=minimum + np.concatenate([h, -h]))

        def derivatives(dipoles):
            return (dipoles[:15] - dipoles[15:]) / 2e-3

        def off(model):
            dipoles = np.array([evaluate(model, x).dipole() for x in near.geometries])
            return np.abs(derivatives(dipoles) - derivatives(near.dipoles)).max()

        assert off(found) < 0.2 * off(model)
        one, other = (evaluate(m, near.geometries[0]) for m in (found, model))
        np.testing.assert_array_equal(one.forces, other.forces)
        record = with_them.record(energies)["moments"]
        assert record["labels_beside"] == 30
        assert trainer.record(energies)["moments"]["labels_beside"] == 0
        # without moments there is nothing to learn from them
        assert with_them.model("toy", energies, []).shared.moment_geometries is None

    def test_of_some_labels(self, trainer, energies, labels):
        some = np.array([3, 1, 7, 20])
        solved = trainer.solve(energies.hyperparameters, some)
        model = trainer.model("toy", solved, [], some)
        np.testing.assert_array_equal(model.geometries, labels.geometries[some])
        assert solved.n_gradients == 4 and model.rank == -1
        # they are reproduced, to within the noise
        errors = held_out_errors(model, labels.select(some))
        assert errors.force_rmse_ev_per_angstrom < 0.02
        alone = JointTrainer(labels.select(some), trainer.reference, TRAINING)
        expected = alone.solve(energies.hyperparameters).gradient_weights
        np.testing.assert_allclose(
            solved.gradient_weights, expected, atol=1e-6 * np.abs(expected).max()
        )

    def test_survives_its_bundle(self, model, unseen, tmp_path):
        write_bundle(tmp_path / "toy.fflux", model)
        again = held_out_errors(read_bundle(tmp_path / "toy.fflux"), unseen)
        assert again.energy_rmse_kj_per_mol == pytest.approx(
            held_out_errors(model, unseen).energy_rmse_kj_per_mol, rel=1e-6
        )

    def test_noise_is_recorded(self, model, energies):
        h = energies.hyperparameters
        assert model.shared.energy_noise == tuple(h.energy_noise)
        assert 1e-6 < 1.001 * h.energy_noise[0] < 1.002 * SEARCH.energy_noise
        assert model.shared.gradient_noise == tuple(h.gradient_noise)


def test_each_source_has_noise_of_its_own(make_labels, shapes, tmp_path):
    """Every other label is from a program whose gradients are rough."""
    labels, minimum = make_labels("water", 40), shapes["water"][1]
    source = np.arange(40) % 2
    noise = np.random.default_rng(0).normal(size=labels.gradients.shape)
    rough = replace(
        labels, gradients=labels.gradients + 0.01 * noise * source[:, None, None], tolerance=0.01
    )
    training = JointTraining(JointSettings(sizes=(40,), evaluations=(60,)), MOMENTS)
    trainer = JointTrainer(rough, minimum, training, tmp_path, source)
    h = trainer.hyperparameters()
    assert h.gradient_noise[1] == pytest.approx(0.01, rel=0.3) and h.gradient_noise[0] < 1e-3
    some = np.array([5, 0, 2, 7, 9])
    model = trainer.model("toy", trainer.solve(h, some), [], some)
    np.testing.assert_array_equal(model.shared.source, source[some])
    assert model.shared.gradient_noise == tuple(h.gradient_noise)
    # without the sources it is another training
    alone = JointTrainer(rough, minimum, training, tmp_path).hyperparameters()
    assert len(alone.gradient_noise) == 1


@pytest.mark.parametrize("which, rank, count", [("charges", 0, 10), ("none", -1, 5)])
def test_which_moments(labels, minimum, energies, which, rank, count):
    trainer = JointTrainer(labels, minimum, replace(TRAINING, which=which))
    model = trainer.model("toy", energies, trainer.moments())
    assert model.rank == rank and len(model.processes) == count


def test_without_symmetry_every_atom_is_alone(labels, minimum):
    trainer = JointTrainer(labels, minimum, replace(TRAINING, symmetry=False))
    assert len(trainer.symmetry) == 1 and len(trainer.data.classes) == 5
    assert "1 symmetry operations" in trainer.plan


def test_plan_has_the_sizes(trainer):
    assert trainer.plan.startswith(
        "24 labels, 6 symmetry operations: 120 atomic energies, 24 totals and 216 components of "
        "gradients, "
    )
    assert " GB of memory, about 1 s on " in trainer.plan


def test_rungs_that_memory_does_not_hold_are_left_out(labels, minimum):
    """The search on 130 labels takes more than the solution of as many, for which memory is."""
    settings = replace(SEARCH, sizes=(10, 130), evaluations=(20, 5))
    sizes = []
    for memory in (1.0, 1e-3):
        training = replace(TRAINING, energies=settings, memory=memory)
        sizes.append(JointTrainer(labels, minimum, training).search.sizes)
    assert sizes == [(10, 130), (10,)]


def test_record_is_plain_json_without_times(trainer, energies):
    record = trainer.record(energies)
    assert json.loads(json.dumps(record)) == json.loads(json.dumps(record, default=str))
    assert record["gradients"] == 24 and record["symmetry_operations"] == 6
    assert record["moments"]["which"] == "shared"
    source, rung = record["steps"]
    assert source.startswith("source: 10 labels, ") and ", from nothing; exponential" in source
    assert rung.startswith("ladder: 20 labels, ") and ", from source; " in rung


def test_memory_decides_how_many_gradients_are_used(labels, minimum, energies):
    """What is asked for, not what happens to be free; told and written down."""
    h = energies.hyperparameters
    roomy = JointTrainer(labels, minimum, TRAINING)
    assert roomy.memory == pytest.approx(0.5e-9 * memory_of_machine(), abs=0.06)
    needed = 1.0001e-9 * task.solution_cost(roomy.data, 10).memory
    trainer = JointTrainer(labels, minimum, replace(TRAINING, memory=needed))
    told = r"14 of 24 gradients are left out: .* all need 0\.00[0-9]+ GB \(--memory\)"
    with pytest.warns(FFLUXWarning, match=told):
        solved = trainer.solve(h)
    assert solved.n_gradients == 10
    record = trainer.record(solved)
    assert record["gradients_left_out"] == 14 and record["memory_gb"] == needed
    assert roomy.record(energies)["gradients_left_out"] == 0
    with pytest.raises(TrainingError, match="24 labels need .* use fewer labels"):
        JointTrainer(labels, minimum, replace(TRAINING, memory=1e-6)).solve(h)
    with pytest.raises(TrainingError, match="memory .* above zero, not 0 GB"):
        replace(TRAINING, memory=0)


@pytest.fixture(scope="module")
def kept(labels, minimum, tmp_path_factory):
    """What a search left, and its outcome."""
    folder = tmp_path_factory.mktemp("models")
    trainer = JointTrainer(labels, minimum, TRAINING, folder)
    return folder / "energies.npz", trainer.hyperparameters(), trainer.steps


class TestFolder:
    @pytest.fixture
    def path(self, kept, tmp_path):
        copy = tmp_path / "energies.npz"
        copy.write_bytes(kept[0].read_bytes())
        return copy

    @pytest.fixture
    def searches(self, monkeypatch):
        """Number of searches, which return at once what they are given."""
        found = []

        def search(data, settings, threads, on_step):
            found.append(data)
            likelihood = JointLikelihood(data)
            return likelihood.unpack(np.zeros(likelihood.size)), ()

        monkeypatch.setattr(task, "find_hyperparameters", search)
        return found

    def again(self, labels, minimum, path, training=TRAINING):
        trainer = JointTrainer(labels, minimum, training, path.parent)
        return trainer.hyperparameters(), trainer.steps

    def test_only_whole_files(self, kept):
        assert [p.name for p in kept[0].parent.iterdir()] == ["energies.npz"]

    def test_no_second_search(self, kept, path, labels, minimum, searches):
        found, steps = self.again(labels, minimum, path)
        assert not searches and same(found, kept[1]) and steps == kept[2]
        assert steps and path.read_bytes() == kept[0].read_bytes()

    def test_without_a_folder_nothing_is_kept(self, labels, minimum, searches, tmp_path,
                                              monkeypatch):
        monkeypatch.chdir(tmp_path)
        for count in (1, 2):
            JointTrainer(labels, minimum, TRAINING).hyperparameters()
            assert len(searches) == count
        assert not list(tmp_path.iterdir())

    def test_other_labels_are_searched_anew(self, path, labels, minimum, searches):
        one = labels.gradients.copy()
        one[3, 1, 2] = np.nextafter(one[3, 1, 2], 9.0)
        for number, other in enumerate((
            labels.select(slice(23)), replace(labels, gradients=one),
            replace(labels, atomic_energies=labels.atomic_energies + 1e-9),
            replace(labels, geometries=labels.geometries + 1e-6),
        ), 1):
            self.again(other, minimum, path)
            assert len(searches) == number
        self.again(other, minimum, path)  # and these are kept in turn
        assert len(searches) == number

    @pytest.mark.parametrize("change", [
        dict(energy_noise=2e-4), dict(sizes=(10, 21)), dict(evaluations=(21, 5)), dict(seed=1),
        dict(transfer=False), dict(bounds=(1e-6, 2.0)),
    ])
    def test_other_settings_are_searched_anew(self, path, labels, minimum, searches, change):
        training = replace(TRAINING, energies=replace(SEARCH, **change))
        self.again(labels, minimum, path, training)
        assert len(searches) == 1

    def test_settings_of_moments_do_not_matter(self, path, labels, minimum, searches):
        self.again(labels, minimum, path, replace(TRAINING, moments=TrainingSettings(noise=1e-5)))
        assert not searches

    def test_other_symmetry_is_searched_anew(self, path, labels, minimum, searches):
        self.again(labels, minimum, path, replace(TRAINING, symmetry=False))
        assert len(searches) == 1

    def test_damaged_files_are_searched_anew(self, kept, path, labels, minimum, searches):
        whole = kept[0].read_bytes()
        sizes = [0, 1, 30, len(whole) // 2, len(whole) - 1]
        for number, size in enumerate(sizes, 1):
            path.write_bytes(whole[:size])
            self.again(labels, minimum, path)
            assert len(searches) == number
        path.write_text("rubbish")
        self.again(labels, minimum, path)
        np.savez(path, header=np.array([{"trained_on": "this"}], dtype=object))  # a pickle
        self.again(labels, minimum, path)
        assert len(searches) == len(sizes) + 2

    def test_flipped_bytes(self, kept, path, labels, minimum, searches):
        """Damage is noticed or does not matter."""
        whole = kept[0].read_bytes()
        for at in range(0, len(whole), 97):
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1:])
            before = len(searches)
            found, _ = self.again(labels, minimum, path)
            assert len(searches) > before or same(found, kept[1])
        assert searches

    def test_interrupted_search_leaves_nothing(self, labels, minimum, tmp_path, monkeypatch):
        def interrupted(*args):
            raise KeyboardInterrupt

        monkeypatch.setattr(task, "find_hyperparameters", interrupted)
        with pytest.raises(KeyboardInterrupt):
            JointTrainer(labels, minimum, TRAINING, tmp_path / "models").hyperparameters()
        assert not (tmp_path / "models" / "energies.npz").exists()

    def test_moments_are_kept_as_well(self, labels, minimum, tmp_path, monkeypatch):
        trainer = JointTrainer(labels, minimum, TRAINING, tmp_path)
        first = trainer.moments()
        kept = {p.name: p.stat().st_mtime_ns for p in tmp_path.iterdir()}
        assert len(kept) == 3
        again = JointTrainer(labels, minimum, TRAINING, tmp_path).moments()
        assert kept == {p.name: p.stat().st_mtime_ns for p in tmp_path.iterdir()}
        for one, other in zip(first, again, strict=True):
            np.testing.assert_array_equal(one.weights, other.weights)


def test_progress_counts_to_its_totals(labels, minimum, tmp_path):
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
            assert n >= 0
            seen[self.description][0] += n

    for _ in range(2):  # the second from what is kept
        seen.clear()
        trainer = JointTrainer(labels, minimum, TRAINING, tmp_path)
        trainer.hyperparameters(Progress)
        trainer.moments(Progress)
        assert seen == {"training energies": [25, 25], "training moments": [3, 3]}


class TestLabelsThatAreTheirOwnImages:
    """Atoms that symmetry makes equal are observed twice, with the same value."""

    def test_a_scan_of_symmetric_labels(self, make_labels, shapes, central_differences):
        x = make_labels("formaldehyde", 24).geometries
        x[4:, :, 0] = 0.0
        x[4:, :2, 1] = 0.0
        x[4:, 3] = x[4:, 2] * [1, -1, 1]
        labels = make_labels("formaldehyde", 24, geometries=x)
        # weights small enough for differences of energies
        noisy = replace(SEARCH, least_energy_noise=1e-5, least_gradient_noise=1e-5)
        training = replace(TRAINING, energies=noisy)
        trainer = JointTrainer(labels, shapes["formaldehyde"][1], training)
        solved = trainer.solve(trainer.hyperparameters())
        model = trainer.model("toy", solved, trainer.moments())
        forcefield, numbers = ForceField([model]), [6, 8, 1, 1]
        for geometry, energy, gradient in zip(
            labels.geometries[-3:], labels.energies[-3:], labels.gradients[-3:], strict=True
        ):
            found = forcefield.evaluate(geometry, numbers)
            assert found.energy == pytest.approx(energy, abs=1e-5)
            np.testing.assert_allclose(-found.forces, gradient, atol=2e-4)
            np.testing.assert_allclose(found.forces[:, 0], 0.0, atol=1e-8)  # across the plane
        bent = labels.geometries[0]
        slopes = central_differences(
            lambda y: forcefield.evaluate(y, numbers).energy, bent, step=2e-2
        )
        np.testing.assert_allclose(
            -forcefield.evaluate(bent, numbers).forces, slopes, atol=1e-6
        )

    def test_a_diatomic_of_like_atoms(self, make_labels, shapes):
        labels = make_labels("nitrogen", 24)
        trainer = JointTrainer(labels, shapes["nitrogen"][1], TRAINING)
        solved = trainer.solve(trainer.hyperparameters())
        errors = held_out_errors(
            trainer.model("toy", solved, trainer.moments()), make_labels("nitrogen", 8, seed=5)
        )
        assert errors.energy_rmse_kj_per_mol < 0.1
        assert errors.dipole_rmse_e_angstrom < 1e-6
