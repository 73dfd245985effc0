"""Models of total energies and gradients alone, whose atomic energies are latent."""

import json
import pickle
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms

from ase_fflux.assess.comparison import compare
from ase_fflux.assess.validate import held_out_errors
from ase_fflux.base.errors import FFLUXError, ModelError, TrainingError
from ase_fflux.cli.info import _description
from ase_fflux.forcefield import ForceField
from ase_fflux.formats.bundle import read_bundle, read_header, write_bundle
from ase_fflux.formats.model_directory import write_model_directory
from ase_fflux.learn.gp.optimisers import LBFGS
from ase_fflux.learn.gp.settings import TrainingSettings
from ase_fflux.learn.joint.settings import JointSettings
from ase_fflux.learn.joint.uncertainty import Posterior
from ase_fflux.model.analogue import Analogue, mapped
from ase_fflux.model.kernels import FORMS
from ase_fflux.training.joint import JointTrainer, JointTraining
from ase_fflux.training.prior import prior_of
from ase_fflux.workflows.plain import plain_model

TRAINING = JointTraining(
    JointSettings(sizes=(10, 20), evaluations=(20, 5)),
    TrainingSettings(optimiser=LBFGS(budget=10), transfer=None),
)


@pytest.fixture(scope="module")
def labels(make_labels):
    labels = make_labels("fluoromethane", 24)
    return replace(labels, atomic_energies=None, moments=labels.moments[:, :, :1], dipoles=None)


@pytest.fixture(scope="module")
def unseen(make_labels):
    return make_labels("fluoromethane", 12, seed=5)


@pytest.fixture(scope="module")
def trainer(labels, shapes):
    return JointTrainer(labels, shapes["fluoromethane"][1], TRAINING)


@pytest.fixture(scope="module")
def model(trainer):
    return trainer.model("toy", trainer.solve(trainer.hyperparameters()), trainer.moments())


def test_totals_and_forces_are_learned(model, trainer, unseen):
    """Energies vary by tens of kJ/mol."""
    errors = held_out_errors(model, unseen)
    assert errors.energy_rmse_kj_per_mol < 0.3
    assert errors.force_rmse_ev_per_angstrom < 0.02
    assert errors.charge_rmse_e < 1e-3 and errors.dipole_rmse_e_angstrom is None
    assert "24 labels, 6 symmetry operations: latent atomic energies, 24 totals and" in trainer.plan


def test_atomic_energies_are_said_to_be_latent(model, trainer, unseen):
    assert model.latent
    assert held_out_errors(model, unseen).atomic_energy_rmse_kj_per_mol is None
    assert "atomic energy" not in {q.name for q in compare(model, unseen).quantities}
    text = "\n".join(_description(model, "toy.fflux"))
    assert "total energies (atomic ones latent)" in text
    assert "noise levels: total energy" in text and "energy of an atom" not in text
    solved = trainer.solve(trainer.hyperparameters())
    assert trainer.record(solved)["atomic_energies"] == "latent"
    assert len(np.unique([p.mean[0] for p in model.shared.processes if "iqa" in p.properties])) == 1


def test_bundle_keeps_what_the_uncertainty_needs(tmp_path, model, unseen):
    write_bundle(tmp_path / "toy.fflux", model)
    read = read_bundle(tmp_path / "toy.fflux")
    assert read.latent
    np.testing.assert_array_equal(read.shared.totals.weights, model.shared.totals.weights)
    assert read.shared.totals.noise == model.shared.totals.noise
    one, two = (Posterior(m).uncertainty(unseen.geometries[0]) for m in (model, read))
    assert two.energy == pytest.approx(one.energy, rel=1e-6)
    np.testing.assert_allclose(two.forces, one.forces, rtol=1e-6)
    assert one.energies.max() > 10 * one.energy  # parts of a total are hardly known


def test_errors_are_what_the_uncertainty_says(labels, shapes, unseen):
    """Root mean square of error over standard deviation: about one.

    Of few labels: what many of them leave of this toy's energies is lost in rounding.
    """
    trainer = JointTrainer(labels.select(np.arange(7)), shapes["fluoromethane"][1], TRAINING)
    model = trainer.model("toy", trainer.solve(trainer.hyperparameters()), [])
    posterior = Posterior(model)
    stated = np.array([posterior.uncertainty(x).energy for x in unseen.geometries])
    found = compare(model, unseen)["energy"].errors / 2625.4996
    assert 0.2 < np.sqrt(np.mean((found / stated) ** 2)) < 3.0


def test_some_labels_without_gradients_or_totals_are_refused(labels, shapes):
    for name in ("energies", "gradients"):
        with pytest.raises(TrainingError, match=f"no {name}"):
            JointTrainer(replace(labels, **{name: None}), shapes["fluoromethane"][1], TRAINING)


@pytest.mark.parametrize(
    "name", ["rq", "rbf-inverse", "rq-inverse", "rq-inverse-terms", "rbf-terms"]
)
def test_kernels_of_another_form(labels, shapes, unseen, tmp_path, central_differences, name):
    """Forces are exact; bundle, pickle and uncertainty know them, .model files do not."""
    settings = replace(TRAINING.energies, forms=(FORMS[name],), sizes=(10,), evaluations=(8,))
    trainer = JointTrainer(labels, shapes["fluoromethane"][1], replace(TRAINING, energies=settings))
    assert bool(trainer.data.beside) == FORMS[name].terms  # made where they are asked for alone
    solved = trainer.solve(trainer.hyperparameters())
    assert trainer.record(solved)["kernel"] == str(FORMS[name])
    model = trainer.model("toy", solved, trainer.moments())
    write_bundle(tmp_path / "toy.fflux", model)
    read = read_bundle(tmp_path / "toy.fflux")
    assert read_header(tmp_path / "toy.fflux")["version"] == (7 if FORMS[name].terms else 5)
    text = "\n".join(_description(read, "toy.fflux"))
    assert f"kernel of the energies: {replace(FORMS[name], terms=False)}" in text
    beside = "beside these: second frames of 3 classes of atoms, 5 terms of distances"
    assert (beside in text) == FORMS[name].terms
    x, numbers = unseen.geometries[0], Atoms(labels.symbols).numbers
    sent = pickle.loads(pickle.dumps(read))
    one, two, three = (ForceField([m]).evaluate(x, numbers) for m in (model, read, sent))
    assert one.energy == two.energy == three.energy
    np.testing.assert_array_equal(one.forces, two.forces)
    field = ForceField([read])
    assignment = field.match(x, numbers)
    slopes = central_differences(
        lambda y: field.evaluate(y, numbers, assignment=assignment).energy, x
    )
    np.testing.assert_allclose(one.forces, -slopes, rtol=0, atol=1e-8 * np.abs(slopes).max())
    errors = held_out_errors(model, unseen)
    assert errors.force_rmse_ev_per_angstrom < 0.05
    stated = [Posterior(m).uncertainty(x).forces for m in (model, read)]
    np.testing.assert_allclose(stated[1], stated[0], rtol=1e-6)
    for refused in (plain_model, lambda m: write_model_directory(tmp_path / "models", m)):
        with pytest.raises(FFLUXError, match="do not know .*--joint-kernel rbf`"):
            refused(read)


def with_terms(labels, shape, **options):
    settings = replace(
        TRAINING.energies, forms=(FORMS["rq-inverse-terms"],), sizes=(10,), evaluations=(8,)
    )
    trainer = JointTrainer(labels, shape, JointTraining(settings, which="none"), **options)
    return trainer.model("toy", trainer.solve(trainer.hyperparameters()), [])


def energies(model, x):
    field, numbers = ForceField([model]), Atoms(model.symbols).numbers
    own = field.match(x[0], numbers, explicit=[list(range(len(numbers)))])
    return np.array([field.evaluate(y, numbers, assignment=own).energy for y in x])


def test_terms_of_a_prior_and_on_top_of_it(labels, shapes, unseen, tmp_path):
    """The atoms of the prior's file stand in another order."""
    shape, order = shapes["fluoromethane"][1], np.array([3, 0, 4, 1, 2])
    cheap = replace(
        labels, energies=0.9 * labels.energies, gradients=0.9 * labels.gradients,
        symbols=tuple(labels.symbols[i] for i in order), geometries=labels.geometries[:, order],
        moments=None,
    )
    cheap = replace(cheap, gradients=cheap.gradients[:, order])
    below = with_terms(cheap, shape[order])
    few = labels.select(np.arange(12))
    model = with_terms(few, shape, prior=prior_of(below, "CFHHH", shape))
    assert model.terms and model.prior.model.terms
    write_bundle(tmp_path / "both.fflux", model)
    x = unseen.geometries
    found, alone = energies(model, x), energies(replace(model, prior=None), x)
    np.testing.assert_allclose(energies(read_bundle(tmp_path / "both.fflux"), x), found, atol=1e-12)
    np.testing.assert_allclose(found, alone + energies(below, x[:, order]), atol=1e-9)
    assert held_out_errors(model, unseen).force_rmse_ev_per_angstrom < 0.05


def test_terms_of_an_analogue(labels, shapes, unseen):
    """Of a molecule that is larger by a tenth, the energy is that of the same shape."""
    shape = shapes["fluoromethane"][1]
    model = with_terms(labels, shape)
    larger = mapped(model, model.symbols, shape, Analogue(shape, 1.1 * shape, 0.7))
    x = unseen.geometries
    np.testing.assert_allclose(energies(larger, 1.1 * x), 0.7 * energies(model, x), atol=1e-9)


def test_damaged_forms_are_refused(labels, shapes, tmp_path):
    settings = replace(TRAINING.energies, forms=(FORMS["rq"],), sizes=(10,), evaluations=(3,))
    trainer = JointTrainer(labels, shapes["fluoromethane"][1], replace(TRAINING, energies=settings))
    model = trainer.model("toy", trainer.solve(trainer.hyperparameters()), [])
    write_bundle(tmp_path / "toy.fflux", model)
    for change, message in (
        ({"inverse": 1}, "form of the kernel"), ({"rational": False}, "not of one form"),
        ({"inverse": True}, "not of one form"),
    ):
        with zipfile.ZipFile(tmp_path / "toy.fflux") as archive:
            content = {name: archive.read(name) for name in archive.namelist()}
        header = json.loads(content["header.json"])
        header["processes"][0] |= change
        content["header.json"] = json.dumps(header).encode()
        with zipfile.ZipFile(tmp_path / "other.fflux", "w") as archive:
            for name, data in content.items():
                archive.writestr(name, data)
        with pytest.raises(ModelError, match=message):
            read_bundle(tmp_path / "other.fflux")
