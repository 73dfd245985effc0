"""Models of lighter analogues as priors."""

from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms

from ase_fflux.assess.validate import held_out_errors
from ase_fflux.base.errors import TrainingError
from ase_fflux.cli.info import _description
from ase_fflux.forcefield import ForceField
from ase_fflux.formats.bundle import bundle_content, read_content
from ase_fflux.labels.label import Dataset
from ase_fflux.learn.joint.settings import JointSettings
from ase_fflux.model.analogue import Analogue
from ase_fflux.model.frames import features
from ase_fflux.model.kernels import FORMS
from ase_fflux.training import analogues
from ase_fflux.training.analogues import same_groups, with_factor
from ase_fflux.training.joint import JointTrainer, JointTraining
from ase_fflux.training.prior import difference, fitted, prior_of

HEAVY = ("C", "Cl", "H", "H", "H")
PLACE = np.array([2, 1, 0, 3, 4])
"""Order of the atoms of the heavy molecule: H Cl C H H."""


def training(form):
    settings = JointSettings(sizes=(10, 20), evaluations=(20, 5), forms=(FORMS[form],))
    return JointTraining(settings, which="none")


def springs(symbols, rest, x, strength=0.1, power=2):
    """Labels of springs between all atoms, E = sum k (r - r0)^power, at x (n, N, 3)."""
    i, j = np.triu_indices(len(rest), 1)
    vectors = x[:, i] - x[:, j]
    lengths = np.linalg.norm(vectors, axis=2)
    longer = lengths - np.linalg.norm(rest[i] - rest[j], axis=1)
    pull = (power * strength * longer ** (power - 1) / lengths)[..., None] * vectors
    gradients = np.zeros(x.shape)
    for pair, (a, b) in enumerate(zip(i, j, strict=True)):
        gradients[:, a] += pull[:, pair]
        gradients[:, b] -= pull[:, pair]
    return Dataset(
        tuple(symbols), x, strength * (longer**power).sum(axis=1), gradients, method="springs"
    )


@pytest.fixture(scope="module", params=["rbf", "rq-inverse"])
def light(request, shapes):
    rest = shapes["fluoromethane"][1]
    x = rest + 0.1 * np.random.default_rng(0).normal(size=(24, 5, 3))
    trainer = JointTrainer(springs("CFHHH", rest, x), rest, training(request.param))
    return trainer.model("light", trainer.solve(trainer.hyperparameters()), [])


@pytest.fixture(scope="module")
def minimum(light, shapes):
    """Of the light molecule, in its own order of atoms."""
    heavy = shapes["fluoromethane"][1].copy()
    heavy[1] *= 1.3
    return prior_of(light, HEAVY, heavy).analogue.light


def stretched(light_minimum):
    """A minimum of the heavy molecule: the bond to the halogen is a third longer."""
    x = light_minimum.copy()
    x[1] = x[0] + 1.3 * (x[1] - x[0])
    return x


@pytest.fixture(scope="module")
def prior(light, minimum):
    heavy = stretched(minimum)[PLACE]
    return prior_of(light, [HEAVY[i] for i in PLACE], heavy)


def test_atoms_are_mapped_by_groups_and_bonds(prior):
    assert [prior.symbols[i] for i in prior.atoms] == list(HEAVY)
    assert prior.here.symbols == prior.symbols and prior.here.rank == -1
    assert same_groups("OHH", "SHH") and same_groups(["Si", "H"], ["Ge", "H"])
    assert not same_groups("OHH", "NHH") and not same_groups("OHH", ["O", "Li", "Li"])
    assert not same_groups(["Zn"], ["Mg"])


def test_a_minimum_is_mapped_to_the_minimum(prior, light, minimum):
    """Features of the one are those of the other; the energy there is the same."""
    heavy = prior.analogue.heavy
    numbers = Atoms(prior.symbols).numbers
    found = ForceField([prior.here]).evaluate(heavy, numbers)
    same = ForceField([light]).evaluate(minimum, Atoms(light.symbols).numbers)
    np.testing.assert_allclose(found.energies[prior.atoms], same.energies, atol=1e-8)
    assert np.abs(found.forces).max() < 1e-3  # the model's own are of 1e-5 at its minimum
    assert abs(found.energy - same.energy) < 1e-8


def test_forces_are_the_gradient(prior, central_differences):
    doubled = replace(prior, analogue=replace(prior.analogue, factor=2.0))
    numbers = Atoms(prior.symbols).numbers
    rng = np.random.default_rng(0)
    x = prior.analogue.heavy + 0.1 * rng.normal(size=(5, 3))
    forcefield = ForceField([doubled.here])
    assignment = forcefield.match(x, numbers, explicit=[list(range(5))])
    one, two = (
        ForceField([p.here]).evaluate(x, numbers, assignment=assignment) for p in (prior, doubled)
    )
    np.testing.assert_allclose(two.energies, 2 * one.energies, rtol=1e-12)
    slopes = central_differences(
        lambda y: forcefield.evaluate(y, numbers, assignment=assignment).energy, x, step=0.1
    )
    np.testing.assert_allclose(two.forces, -slopes, rtol=0, atol=2e-6)


def test_a_mapped_process_is_one_of_mapped_features(light, minimum):
    """E'(R f + S) = rho E(f) for the halogen, whose features have one scale each."""
    heavy = stretched(minimum)
    prior = replace(
        prior_of(light, HEAVY, heavy), analogue=Analogue(minimum, heavy, 0.7)
    )
    there, here = (
        next(p for p in m.processes if p.atom == 1) for m in (light, prior.here)
    )
    f = there.gp.inputs[:5] + 0.01
    scale = here.gp.inputs[0] / there.gp.inputs[0]
    shift = here.gp.inputs[0] - there.gp.inputs[0]
    radial = np.array([True, True, False, True, False, False, True, False, False])
    found = here.gp.predict(np.where(radial, scale * f, f + shift))
    np.testing.assert_allclose(found, 0.7 * there.gp.predict(f), rtol=1e-9, atol=1e-9)
    one, two = (features(x[None], light.alf, 1)[0] for x in (minimum, heavy))
    assert two[0] / one[0] == pytest.approx(1.3) == scale[0]


@pytest.fixture(scope="module")
def labels(prior):
    """What the heavy molecule would say: nine tenths of the mapped surface, and something else."""
    rest = prior.analogue.heavy
    x = rest + 0.1 * np.random.default_rng(7).normal(size=(18, 5, 3))
    beside = springs(prior.symbols, rest, x, strength=0.004, power=3)
    mapped = difference(
        replace(beside, energies=np.zeros(18), gradients=np.zeros(x.shape)), prior
    )
    return replace(
        beside, energies=beside.energies - 0.9 * mapped.energies,
        gradients=beside.gradients - 0.9 * mapped.gradients,
    )


def test_a_heavier_molecule_is_learned_from_few_labels(prior, labels, tmp_path):
    form = next(f for f, v in FORMS.items() if v == prior.model.shared.processes[0].kernel.form)
    some, unseen = labels.select(np.arange(4)), labels.select(np.arange(8, 18))
    found = {}
    for name, known in (("prior", prior), ("scratch", None)):
        trainer = JointTrainer(some, prior.analogue.heavy, training(form), prior=known)
        model = trainer.model(name, trainer.solve(trainer.hyperparameters()), [])
        found[name] = held_out_errors(model, unseen).force_rmse_ev_per_angstrom
        if known is not None:
            content = bundle_content(model)
            read = read_content(content)
            assert bundle_content(read) == content
            x, numbers = unseen.geometries[0], Atoms(prior.symbols).numbers
            np.testing.assert_array_equal(
                ForceField([read]).evaluate(x, numbers).forces,
                ForceField([model]).evaluate(x, numbers).forces,
            )
            text = "\n".join(_description(read, "x.fflux"))
            assert "a lighter analogue: features mapped from minimum to minimum" in text
            assert 0.85 < read.prior.analogue.factor < 1.0 and read.rank == -1
    assert found["prior"] < 0.8 * found["scratch"]


def test_ten_labels_tell_the_variances_of_classes(prior, labels, monkeypatch):
    """Fewer have one for all atoms."""
    monkeypatch.setattr(JointTrainer, "_check_analogue", lambda *_: None)
    for count, stages in ((4, 1), (10, 2)):
        trainer = JointTrainer(
            labels.select(np.arange(count)), prior.analogue.heavy, training("rbf"), prior=prior
        )
        variances = trainer.hyperparameters().variance
        assert (len(set(variances)) == 1) == (count < 10)
        assert len(trainer.steps) == stages
        for step in trainer.steps:
            assert step.stage.startswith("few labels") and step.evaluations <= 12
            assert step.value <= step.start


def test_analogues_that_say_nothing_are_refused(prior, labels):
    wrong = replace(
        labels, gradients=np.random.default_rng(0).normal(size=labels.gradients.shape)
    )
    with pytest.raises(TrainingError, match="light, an analogue of .* says too little of the lab"):
        fitted(prior, wrong, prior.analogue.heavy)
    with pytest.raises(TrainingError, match="with its best factor -1"):
        with_factor(prior, -labels.gradients, labels.gradients)
    assert with_factor(prior, 0.8 * labels.gradients, labels.gradients).analogue.factor == \
        pytest.approx(0.8)


def test_the_likelihood_refuses_an_analogue(prior, labels, monkeypatch):
    trainer = JointTrainer(labels, prior.analogue.heavy, training("rbf"), prior=prior)
    # a prior that leaves more to learn than there was
    worse = replace(prior, analogue=replace(prior.analogue, factor=9.0))
    trainer.prior, trainer._observed = worse, difference(labels, worse)
    trainer.data = trainer.observations(np.arange(len(labels)))
    with pytest.raises(TrainingError, match="the labels are likelier without the prior light"):
        trainer.hyperparameters()


def test_other_bonds_and_conformers_are_refused(light, minimum, monkeypatch):
    heavy = stretched(minimum)
    turned = heavy.copy()
    turned[2:] = heavy[0] - (heavy[2:] - heavy[0])  # hydrogens on the other side
    monkeypatch.setattr(analogues, "_FAR", 0.8)
    with pytest.raises(TrainingError, match="in another conformer: .* Angstrom from where"):
        prior_of(light, HEAVY, turned)
    broken = heavy.copy()
    broken[4] = heavy[1] + [0.0, 1.6, 1.6]
    with pytest.raises(TrainingError, match="CFHHH with other bonds than CClHHH has"):
        prior_of(light, HEAVY, broken)
    with pytest.raises(TrainingError, match="or of one with other elements of the same groups"):
        prior_of(light, ("C", "O", "H", "H", "H"), heavy)


def test_frames_that_do_not_correspond_are_carried():
    """Of a renumbered prior no operation may make the frame of one carbon that of the other; its
    length scales are taken all the same, those of the first atom of a class."""
    rest = np.array([[x, 0, 0] for x in (-1.25, 1.25)] + [
        [x, y, 0] for x in (-2.3, 2.3) for y in (-1.75, 1.75)
    ])
    x = rest + 0.1 * np.random.default_rng(1).normal(size=(10, 6, 3))
    labels = springs("CCHHHH", rest, x)
    trainer = JointTrainer(labels, rest, training("rbf"))
    found = trainer.hyperparameters()
    light = trainer.model("ethylene", trainer.solve(found), [])
    place = np.array([0, 1, 2, 3, 5, 4])
    other = replace(labels, geometries=x[:, place], gradients=labels.gradients[:, place])
    prior = replace(prior_of(light, "CCHHHH", rest[place]), atoms=np.argsort(place))
    heir = JointTrainer(other.select(slice(5)), rest[place], training("rbf"), prior=prior)
    assert not np.array_equal(heir.alf, prior.here.alf)
    scales, _ = heir._scales()
    for mine, theirs in zip(scales, found.theta, strict=True):
        np.testing.assert_allclose(sorted(mine), sorted(theirs), rtol=1e-9)
