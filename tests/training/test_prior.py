"""Models on top of a prior: the sum of two, in one bundle."""

import json
import pickle
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms

from ase_fflux.assess.validate import held_out_errors
from ase_fflux.base.errors import ModelError, TrainingError
from ase_fflux.base.units import BOHR
from ase_fflux.calculator import FFLUX
from ase_fflux.cli.info import _description
from ase_fflux.cli.main import main
from ase_fflux.forcefield import ForceField
from ase_fflux.formats.bundle import bundle_content, read_bundle, write_bundle
from ase_fflux.formats.model_directory import write_model_directory
from ase_fflux.labels.dataset import append_labels
from ase_fflux.labels.label import labels_of
from ase_fflux.learn.gp.optimisers import LBFGS
from ase_fflux.learn.gp.settings import TrainingSettings
from ase_fflux.learn.joint import seeded
from ase_fflux.learn.joint.settings import JointSettings
from ase_fflux.learn.joint.uncertainty import Posterior
from ase_fflux.model.kernels import FORMS, USUAL
from ase_fflux.model.prior import renumbered
from ase_fflux.training.joint import JointTrainer, JointTraining
from ase_fflux.training.prior import difference, prior_of, read_prior
from ase_fflux.workflows.plain import plain_model

NAME, NUMBERS = "fluoromethane", [6, 9, 1, 1, 1]
OTHER_ORDER = np.array([3, 0, 4, 1, 2])
"""Place in a file H F H C H of the atoms C F H H H: the hydrogens are 4, 0 and 2 there."""
TRAINING = JointTraining(
    JointSettings(sizes=(10, 20), evaluations=(20, 5), forms=(USUAL,)),
    TrainingSettings(optimiser=LBFGS(budget=5), transfer=None),
)


def train(labels, shape, prior=None, training=TRAINING, name="toy", **options):
    trainer = JointTrainer(labels, shape, training, prior=prior, **options)
    solved = trainer.solve(trainer.hyperparameters())
    return trainer.model(name, solved, trainer.moments()), trainer


def cheapened(labels):
    """What a cheap level says: it is off by a tenth, and by a constant for each carbon."""
    return replace(
        labels, energies=0.9 * labels.energies + 1.0, gradients=0.9 * labels.gradients,
        atomic_energies=0.9 * labels.atomic_energies + [1.0, 0, 0, 0, 0], method="cheap",
    )


@pytest.fixture(scope="module")
def shape(shapes):
    return shapes[NAME][1]


@pytest.fixture(scope="module")
def cheap(make_labels, shape):
    model, _ = train(cheapened(make_labels(NAME, 24)), shape, name="cheap")
    return replace(model, provenance={"label_source": "cheap"})


@pytest.fixture(scope="module")
def dear(make_labels):
    return make_labels(NAME, 6, seed=2)


@pytest.fixture(scope="module")
def unseen(make_labels):
    return make_labels(NAME, 12, seed=5)


@pytest.fixture(scope="module")
def prior(cheap, shape):
    return prior_of(cheap, "CFHHH", shape)


@pytest.fixture(scope="module")
def trained(dear, shape, prior):
    """A model on top of the cheap one, of labels of totals and gradients alone."""
    return train(replace(dear, atomic_energies=None, moments=None, dipoles=None), shape, prior)


@pytest.fixture(scope="module")
def model(trained):
    return replace(trained[0], provenance={"label_source": "toy"})


def results(model, geometry, order=None, **options):
    """Of atoms in this order, without a search for better labels of the hydrogens."""
    forcefield, order = ForceField([model]), range(5) if order is None else order
    numbers = np.array(NUMBERS)[list(order)]
    as_given = forcefield.match(geometry, numbers, explicit=[list(range(5))])
    return forcefield.evaluate(geometry, numbers, assignment=as_given, **options)


def test_few_labels_do(model, cheap, dear, shape, unseen):
    errors, without = (
        held_out_errors(m, unseen) for m in (model, train(dear, shape)[0])
    )
    assert errors.force_rmse_ev_per_angstrom < without.force_rmse_ev_per_angstrom / 3
    assert errors.energy_rmse_kj_per_mol < without.energy_rmse_kj_per_mol / 3
    assert held_out_errors(cheap, unseen).energy_rmse_kj_per_mol > 100


def test_energies_are_the_sum_and_forces_its_gradient(model, cheap, unseen, central_differences):
    x = unseen.geometries[0]
    both, one, other = (
        results(m, x) for m in (model, cheap, replace(model, prior=None))
    )
    np.testing.assert_allclose(both.energies, one.energies + other.energies, atol=1e-13)
    np.testing.assert_allclose(both.forces, one.forces + other.forces, atol=1e-13)
    slopes = central_differences(lambda y: results(model, y).energy, x, step=0.1)
    np.testing.assert_allclose(both.forces, -slopes, rtol=0, atol=2e-7)
    # a geometry is covered as far as both cover it
    np.testing.assert_array_equal(both.coverage, np.minimum(one.coverage, other.coverage))


def test_moments_are_the_priors_where_labels_have_none(model, cheap, unseen):
    x = unseen.geometries[1]
    assert model.rank == cheap.rank == 2 and model.of_moments.name == "cheap"
    np.testing.assert_array_equal(
        results(model, x, moments=True).moments, results(cheap, x, moments=True).moments
    )


def test_moments_are_the_labels_where_they_have_them(dear, shape, prior, unseen):
    charged = replace(dear, moments=dear.moments[:, :, :1] * 1.5, dipoles=None)
    model, _ = train(charged, shape, prior)
    assert model.rank == 0 and model.of_moments is model and not model.latent
    charges = results(model, dear.geometries[0], moments=True).moments[:, 0]
    np.testing.assert_allclose(charges, charged.moments[0, :, 0], atol=1e-3)


def test_molecules_interact_with_the_priors_moments(model, shape, central_differences):
    """Two molecules: electrostatics and its forces, through the frames of the prior."""
    rng = np.random.default_rng(0)
    x = np.concatenate([shape, shape + [7.0, 1.0, 2.0]]) + 0.1 * rng.normal(size=(10, 3))
    forcefield = ForceField([model])
    options = {"assignment": forcefield.match(x, NUMBERS * 2)}
    found = forcefield.evaluate(x, NUMBERS * 2, **options)
    assert abs(found.terms["electrostatic"]) > 1e-5
    slopes = central_differences(
        lambda y: forcefield.evaluate(y, NUMBERS * 2, **options).energy, x, step=0.1
    )
    np.testing.assert_allclose(found.forces, -slopes, rtol=0, atol=3e-7)


def test_atoms_of_a_prior_in_another_order(cheap, dear, shape, unseen):
    """Whatever the order, the same is predicted; an order that changes hands is not taken."""
    place = np.argsort(OTHER_ORDER)
    shuffled = replace(
        dear, symbols=tuple("CFHHH"[i] for i in place), moments=None, dipoles=None,
        atomic_energies=None,
        geometries=dear.geometries[:, place], gradients=dear.gradients[:, place],
    )
    found = prior_of(cheap, shuffled.symbols, shape[place])
    assert [shuffled.symbols[i] for i in found.atoms] == list("CFHHH")
    assert found.here.symbols == shuffled.symbols
    model, _ = train(shuffled, shape[place], found)
    x = unseen.geometries[0]
    one = results(model, x[place], place, moments=True)
    here = x[place][found.atoms]  # as the prior sees it
    two = results(cheap, here, moments=True)
    np.testing.assert_allclose(one.moments[found.atoms], two.moments, atol=1e-12)
    alone = results(replace(model, prior=None), x[place], place)
    np.testing.assert_allclose(
        (one.energies - alone.energies)[found.atoms], two.energies, atol=1e-12
    )
    assert prior_of(cheap, "CFHHH", shape).atoms.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("own", [True, False])
def test_renumbered_models_are_the_same(cheap, chiral_model, own):
    model = cheap if own else chiral_model
    atoms = np.random.default_rng(3).permutation(5)
    place = np.argsort(atoms)
    x = model.reference_geometry + 0.1 * np.random.default_rng(4).normal(size=(5, 3))
    numbers = Atoms(model.symbols).numbers
    one = ForceField([model]).evaluate(x, numbers, moments=True)
    two = ForceField([renumbered(model, atoms)]).evaluate(x[place], numbers[place], moments=True)
    for name in ("energies", "forces", "moments", "coverage"):
        np.testing.assert_allclose(
            getattr(two, name)[atoms], getattr(one, name), atol=1e-12, err_msg=name
        )


def test_a_prior_of_a_prior(model, make_labels, shape, tmp_path, unseen):
    dearer = make_labels(NAME, 5, seed=9)
    dearer = replace(
        dearer, energies=1.02 * dearer.energies, gradients=1.02 * dearer.gradients,
        atomic_energies=None, moments=None, dipoles=None,
    )
    atoms = np.array([1, 0, 3, 4, 2])
    place = np.argsort(atoms)
    turned = replace(
        dearer, symbols=("F", "C", "H", "H", "H"), geometries=dearer.geometries[:, place],
        gradients=dearer.gradients[:, place],
    )
    known = prior_of(model, turned.symbols, shape[place])
    third, _ = train(turned, shape[place], known)
    write_bundle(tmp_path / "third.fflux", third)
    read = read_bundle(tmp_path / "third.fflux")
    x = unseen.geometries[0][place]
    for m in (third, read, pickle.loads(pickle.dumps(third))):
        found, alone = (results(y, x, place) for y in (m, replace(m, prior=None)))
        below = results(model, x[known.atoms])
        assert found.energy - alone.energy == pytest.approx(below.energy, abs=1e-12)
    text = "\n".join(_description(read, "third.fflux"))
    assert "prior: toy (toy)" in text and "prior: cheap (cheap)" in text


def test_one_bundle_holds_both(tmp_path, model, cheap, unseen):
    write_bundle(tmp_path / "cheap.fflux", cheap)
    write_bundle(tmp_path / "toy.fflux", model)
    read = read_bundle(tmp_path / "toy.fflux")
    with zipfile.ZipFile(tmp_path / "toy.fflux") as archive:
        assert archive.read("prior.fflux") == (tmp_path / "cheap.fflux").read_bytes()
    assert bundle_content(read) == bundle_content(model)
    x = unseen.geometries[0]
    for other in (read, pickle.loads(pickle.dumps(model))):
        np.testing.assert_array_equal(results(other, x).forces, results(model, x).forces)
    text = "\n".join(_description(read, "toy.fflux"))
    assert "prior: cheap (cheap), CH3F" in text and model.prior.sha256 in text
    assert "difference of total energies (of atomic ones latent) to the prior cheap" in text
    assert "energies are the sum of both, moments are the prior's" in text
    assert "on top of <MoleculeModel cheap" in repr(model)


@pytest.mark.parametrize("how, message", [
    ("another", "not the one that the model was trained with"),
    ("atoms", "the atoms of the prior are not the model's"),
])
def test_a_bundle_with_another_prior_is_refused(tmp_path, model, cheap, how, message):
    whole, changed = tmp_path / "toy.fflux", tmp_path / "changed.fflux"
    write_bundle(whole, model)
    with zipfile.ZipFile(whole) as old, zipfile.ZipFile(changed, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if how == "another" and name == "prior.fflux":
                content = bundle_content(replace(cheap, name="other"))
            if how == "atoms" and name == "header.json":
                header = json.loads(content)
                header["prior"]["atoms"] = [1, 0, 2, 3, 4]
                content = json.dumps(header).encode()
            new.writestr(name, content)
    with pytest.raises(ModelError, match=message):
        read_bundle(changed)


def test_model_files_do_not_hold_it(tmp_path, model):
    for write in (lambda: write_model_directory(tmp_path / "d", model), lambda: plain_model(model)):
        with pytest.raises(ModelError, match="toy stands on top of the prior cheap, and .model"):
            write()
    assert not (tmp_path / "d").exists()


def test_uncertainty_is_that_of_the_difference(model, unseen):
    x = unseen.geometries[0]
    one, two = (Posterior(m).uncertainty(x) for m in (model, replace(model, prior=None)))
    assert one.energy == two.energy and np.array_equal(one.forces, two.forces)
    atoms = Atoms(NUMBERS, x * BOHR, calculator=FFLUX(model))
    assert atoms.calc.get_uncertainty(atoms).energy > 0
    assert np.isfinite(atoms.get_dipole_moment()).all()


def test_few_labels_start_from_the_priors_length_scales(trained, dear, shape, cheap, chiral_model):
    model, trainer = trained
    (step,) = trainer.steps
    assert step.stage == "few labels" and 0 < step.evaluations <= 12
    variances = {p.variance for p in model.shared.processes if "iqa" in p.properties}
    assert len(variances) == 1
    # of a prior without gradients there are none
    plain = replace(renumbered(cheap, np.arange(5)), name="plain")
    with pytest.raises(TrainingError, match="6 labels are too few .* the prior plain has none"):
        JointTrainer(dear, shape, TRAINING, prior=replace(prior_of(cheap, "CFHHH", shape),
                                                          model=plain))


def test_few_labels_are_searched_in_the_forms_that_are_asked_for(dear, shape, prior):
    """Length scales of distances R in 1/R: of one that is always the same, the same kernel."""
    forms = FORMS["rq-inverse"], FORMS["rbf"]
    settings = replace(TRAINING.energies, forms=forms)
    trainer = JointTrainer(
        dear, shape, replace(TRAINING, energies=settings, which="none"), prior=prior
    )
    found = trainer.hyperparameters()
    likeliest = min(trainer.steps, key=lambda step: step.value)
    assert {step.form for step in trainer.steps} == set(map(str, forms))
    assert str(found.form) == likeliest.form
    scales, form = trainer._scales()
    inverse = seeded._in_form(trainer.data, scales, form, forms[0])
    stretch = inverse[0][0] / scales[0][0]
    r = np.linalg.norm(dear.geometries[:, 0] - dear.geometries[:, trainer.alf[0, 1]], axis=1)
    assert stretch == pytest.approx(np.mean(r**-2) ** -2, rel=1e-6)
    assert inverse[0][2] == scales[0][2]  # an angle


def test_scales_of_another_order_are_the_same(cheap, dear, shape, prior):
    """A hydrogen's feature keeps its length scale when atoms are renumbered."""
    place = np.argsort(OTHER_ORDER)
    symbols = tuple("CFHHH"[i] for i in place)
    other = prior_of(cheap, symbols, shape[place])
    dear = replace(dear, atomic_energies=None, moments=None, dipoles=None)
    one = JointTrainer(dear, shape, TRAINING, prior=prior)
    two = JointTrainer(replace(
        dear, symbols=symbols, geometries=dear.geometries[:, place],
        gradients=dear.gradients[:, place],
    ), shape[place], TRAINING, prior=other)
    x, _ = one._scales()
    assert [sorted(t) for t in x] != [sorted(t) for t in x[::-1]]
    found = [sorted(t.round(12)) for t in two._scales()[0]]
    assert sorted(found) == sorted(sorted(t.round(12)) for t in x)


def test_labels_lose_what_the_prior_says(prior, dear, cheap):
    left = difference(dear, prior)
    there = results(cheap, dear.geometries[0])
    np.testing.assert_allclose(left.gradients[0], dear.gradients[0] + there.forces, atol=1e-12)
    np.testing.assert_allclose(
        left.atomic_energies[0], dear.atomic_energies[0] - there.energies, atol=1e-12
    )
    assert left.energies[0] == pytest.approx(dear.energies[0] - there.energy, abs=1e-12)
    assert difference(replace(dear, atomic_energies=None), prior).atomic_energies is None


def test_priors_of_other_molecules_are_refused(cheap, shape, tmp_path):
    with pytest.raises(TrainingError, match="the prior cheap is of CH3F, the labels are of H2O: "):
        prior_of(cheap, "OHH", np.eye(3))
    ylide = shape.copy()
    ylide[4] = [0.0, 1.6, 3.4]  # a hydrogen on fluorine
    with pytest.raises(TrainingError, match="CH3F with other bonds than the labels have"):
        prior_of(cheap, "CFHHH", ylide)
    with pytest.raises(ModelError, match="there is no model 'cheep'"):
        read_prior("cheep", "CFHHH", shape)


def test_train_with_a_prior(tmp_path, monkeypatch, capsys, cheap, make_labels):
    monkeypatch.chdir(tmp_path)
    write_bundle("cheap.fflux", cheap)
    labels = make_labels(NAME, 5, seed=2)
    for name, data in (("dear.xyz", labels), ("test.xyz", make_labels(NAME, 4, seed=5))):
        append_labels(tmp_path / name, labels_of(data), data.origins)
    command = "train dear.xyz --gradients -o toy.fflux --test test.xyz --budget 5".split()
    assert main(command) == 2
    assert "5 training points are too few, at least 10" in capsys.readouterr().err
    assert main([*command, "--prior", "cheap.fflux"]) == 0
    assert "5 labels on top of cheap, 6 symmetry operations" in capsys.readouterr().out
    record = read_bundle("toy.fflux").provenance["training"]["prior"]
    assert (record["model"], record["label_source"], record["labels"]) == ("cheap", "cheap", 24)
    assert main(["train", "dear.xyz", "--prior", "cheap.fflux"]) == 2
    assert "--prior belongs to --gradients" in capsys.readouterr().err
    assert main(["convert", "toy.fflux", "files", "--plain"]) == 2
    assert "stands on top of the prior cheap" in capsys.readouterr().err
