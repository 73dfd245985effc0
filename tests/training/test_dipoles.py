"""Charges and atomic dipoles of models that were trained on molecular dipoles alone."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms

from ase_fflux.assess.validate import held_out_errors
from ase_fflux.base.errors import TrainingError
from ase_fflux.forcefield import ForceField
from ase_fflux.formats.bundle import read_bundle, write_bundle
from ase_fflux.learn.joint.settings import JointSettings
from ase_fflux.model.kernels import USUAL
from ase_fflux.training.dipoles import dipole_processes
from ase_fflux.training.joint import JointTrainer, JointTraining

SEARCH = JointSettings(sizes=(6,), evaluations=(3,), forms=(USUAL,))


def trained(labels, shape, symmetry=True, which="shared"):
    training = JointTraining(SEARCH, which=which, symmetry=symmetry)
    trainer = JointTrainer(replace(labels, moments=None), shape, training)
    solved = trainer.solve(trainer.hyperparameters())
    return trainer, trainer.model("toy", solved, trainer.moments()), solved


def dipoles(model, geometries):
    field, numbers = ForceField([model]), Atoms(model.symbols).numbers
    explicit = [list(range(len(numbers)))]
    assignment = field.match(model.reference_geometry, numbers, explicit=explicit)
    results = [field.evaluate(x, numbers, assignment=assignment, moments=True) for x in geometries]
    return np.array([r.dipole() for r in results]), np.array([r.charges for r in results])


@pytest.mark.parametrize("molecule, symmetry", [
    ("fluoromethane", True), ("fluoromethane", False), ("formaldehyde", True), ("water", True),
])
def test_dipoles_are_learned(make_labels, shapes, tmp_path, molecule, symmetry):
    labels, unseen = make_labels(molecule, 40), make_labels(molecule, 10, seed=5)
    trainer, model, solved = trained(labels, shapes[molecule][1], symmetry)
    found, charges = dipoles(model, unseen.geometries)
    spread = np.std(unseen.dipoles - unseen.dipoles.mean(axis=0))
    assert np.sqrt(np.mean((found - unseen.dipoles) ** 2)) < 0.1 * spread
    np.testing.assert_allclose(charges.sum(axis=1), 0.0, atol=1e-8)
    assert model.charge == 0 and model.rank == 1
    assert trainer.record(solved)["moments"]["from"] == "molecular dipoles"
    write_bundle(tmp_path / "toy.fflux", model)
    again, _ = dipoles(read_bundle(tmp_path / "toy.fflux"), unseen.geometries[:1])
    np.testing.assert_array_equal(again, found[:1])
    mirror = np.array([1.0, 1.0, -1.0])
    if molecule != "fluoromethane":  # of a flat molecule the mirror image is a vibration away
        reflected, _ = dipoles(model, unseen.geometries * mirror)
        np.testing.assert_allclose(reflected, found * mirror, atol=1e-9)


def test_where_the_molecule_stands_does_not_matter(make_labels, shapes):
    """Dipoles of a neutral molecule do not; of an ion they move with its charge."""
    labels = make_labels("water", 12)
    trainer, _, _ = trained(labels, shapes["water"][1])
    for charge in (0.0, 1.0):
        shift = np.array([3.0, -2.0, 5.0])
        ours = labels.dipoles + charge * labels.geometries.mean(axis=1)
        found = [
            dipole_processes(x, d, trainer.alf, trainer.data.classes, charge)[0]
            for x, d in (
                (labels.geometries, ours), (labels.geometries + shift, ours + charge * shift)
            )
        ]
        for one, two in zip(*found, strict=True):
            np.testing.assert_allclose(
                two.weights, one.weights, rtol=0, atol=1e-4 * np.abs(one.weights).max()
            )


def test_two_atoms_have_charges_along_their_axis(make_labels, shapes):
    labels = make_labels("nitrogen", 12)
    x = labels.geometries
    bond = x[:, 1] - x[:, 0]
    charge = 0.3 + 0.1 * (np.linalg.norm(bond, axis=1) - 2.1)
    labels = replace(labels, symbols=("C", "O"), dipoles=charge[:, None] * bond)
    _, model, _ = trained(labels, shapes["nitrogen"][1])
    found, charges = dipoles(model, x[:3])
    assert model.rank == 0
    np.testing.assert_allclose(found, labels.dipoles[:3], atol=5e-3)
    np.testing.assert_allclose(charges[:, 1], charge[:3], atol=5e-3)


def test_charges_alone(make_labels, shapes):
    labels = make_labels("water", 30)
    _, model, _ = trained(labels, shapes["water"][1], which="charges")
    assert model.rank == 0 and model.charge == 0


@pytest.mark.parametrize("which, rank", [("shared", 1), ("charges", 0)])
def test_charges_that_make_other_dipoles(make_labels, shapes, which, rank):
    """Of a program that gives charges of some kind beside the dipole of its density."""
    labels = make_labels("water", 30)
    own = np.array([-0.4, 0.2, 0.2])
    labels = replace(labels, moments=np.tile(own[:, None], (30, 1, 1)))
    training = JointTraining(SEARCH, which=which)
    trainer = JointTrainer(labels, shapes["water"][1], training)
    solved = trainer.solve(trainer.hyperparameters())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = trainer.model("toy", solved, trainer.moments())
    assert model.rank == rank
    found, charges = dipoles(model, labels.geometries[:5])
    errors = held_out_errors(model, labels)
    if which == "charges":  # what was asked for
        assert caught == [] and errors.charge_rmse_e < 1e-6
        np.testing.assert_allclose(charges, np.tile(own, (5, 1)), atol=1e-6)
    else:
        (told,) = caught
        assert "charges of the labels do not make their dipoles" in str(told.message)
        np.testing.assert_allclose(found, labels.dipoles[:5], atol=0.02)
        assert errors.charge_rmse_e is None and errors.dipole_rmse_e_angstrom < 0.02


def test_charges_that_make_the_dipoles_are_learned(make_labels, shapes):
    labels = make_labels("water", 30)
    charges = np.tile(np.array([-0.4, 0.2, 0.2])[:, None], (30, 1, 1))
    labels = replace(
        labels, moments=charges, dipoles=np.einsum("nak,nai->ni", charges, labels.geometries)
    )
    trainer = JointTrainer(labels, shapes["water"][1], JointTraining(SEARCH))
    trainer.moments()
    assert trainer.from_dipoles == {}


def test_what_cannot_be_learned(make_labels, shapes):
    labels = make_labels("water", 8)
    labels.dipoles[3, 1] = np.nan
    trainer = JointTrainer(
        replace(labels, moments=None, dipoles=None), shapes["water"][1], JointTraining(SEARCH)
    )
    assert trainer.moments() == []
    with pytest.raises(TrainingError, match="label 4 has numbers that are not finite in its dipo"):
        dipole_processes(labels.geometries, labels.dipoles, trainer.alf, trainer.data.classes, 0.0)
