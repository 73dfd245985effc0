"""Charges sum to the charge of the molecule, wherever they are used."""

import pickle
from dataclasses import replace

import numpy as np
import pytest

from ase_fflux.forcefield import ForceField, load
from ase_fflux.formats.bundle import read_bundle, write_bundle
from ase_fflux.formats.locate import bundled_models
from ase_fflux.formats.model_directory import read_model_directory, write_model_directory
from ase_fflux.model.molecule import CHARGE_TOLERANCE, shared_model


def with_charges(model, charges):
    """The model with constant charges by element, as if trained on such labels."""
    processes = []
    for process in model.shared.processes:
        if "q00" in process.properties:
            q = process.properties.index("q00")
            mean, weights = process.mean.copy(), process.weights.copy()
            mean[q], weights[q] = charges[model.symbols[process.atoms.atoms[0]]], 0.0
            process = replace(process, mean=mean, weights=weights)
        processes.append(process)
    shared = replace(model.shared, processes=tuple(processes))
    return shared_model(
        model.name, model.symbols, model.alf, shared, model.reference_geometry, model.geometries
    )


@pytest.mark.parametrize(
    ("charges", "total"),
    [
        ({"C": -0.3, "F": -0.3, "H": 0.2}, 0),
        ({"C": 0.7, "F": -0.3, "H": 0.2 + 0.3 * CHARGE_TOLERANCE}, 1),
        ({"C": -0.3, "F": -0.3, "H": 0.2 + 0.4 * CHARGE_TOLERANCE}, None),
        ({"C": -0.3, "F": -0.2, "H": 0.0}, None),
    ],
)
def test_total_charge_is_that_of_the_training_data(make_shared, charges, total):
    model = with_charges(make_shared(rank=0, gradients=False), charges)
    assert model.charge == total
    assert make_shared(rank=-1).charge is None


@pytest.mark.parametrize("charge", [0, -1])
def test_projected_charges(make_shared, cluster, central_differences, charge):
    """Their sum is exact, nothing else changes, and forces are still the derivative."""
    free = make_shared()
    assert free.charge is None, "made-up charges have no sum"
    model = replace(free, charge=charge)
    numbers, x = cluster(np.random.default_rng(0), model, model, gap=9.0, noise=0.05)
    plain, forcefield = ForceField([free]), ForceField([model])
    assignment = forcefield.match(x, numbers)
    one = plain.evaluate(x, numbers, assignment=assignment)
    two = forcefield.evaluate(x, numbers, assignment=assignment)
    rows = assignment.atoms_of_model[0]
    np.testing.assert_allclose(two.charges[rows].sum(axis=1), charge, atol=1e-14)
    excess = one.charges[rows].sum(axis=1) - charge
    assert np.abs(excess).min() > 1e-3, "the case this test is about"
    np.testing.assert_allclose(
        one.charges[rows] - two.charges[rows], np.tile(excess[:, None] / 5, 5), atol=1e-14
    )
    np.testing.assert_array_equal(one.moments[:, 1:], two.moments[:, 1:])
    assert one.terms["intramolecular"] == two.terms["intramolecular"]
    assert abs(one.terms["electrostatic"] - two.terms["electrostatic"]) > 1e-6

    def energy(y):
        return forcefield.evaluate(y, numbers, assignment=assignment).energy

    expected = -central_differences(energy, x)
    np.testing.assert_allclose(two.forces, expected, rtol=0, atol=1e-6 * np.abs(expected).max())


def test_files_keep_the_total_charge(make_shared, chiral_model, tmp_path):
    model = with_charges(make_shared(gradients=False), {"C": -0.3, "F": -0.3, "H": 0.2})
    write_bundle(tmp_path / "shared.fflux", model)
    write_model_directory(tmp_path / "folder", model)
    write_bundle(tmp_path / "own.fflux", replace(model, shared=None))
    for read in (
        read_bundle(tmp_path / "shared.fflux"), read_model_directory(tmp_path / "folder"),
        read_bundle(tmp_path / "own.fflux"), pickle.loads(pickle.dumps(model)),
    ):
        assert read.charge == 0
    write_bundle(tmp_path / "chiral.fflux", chiral_model)
    assert read_bundle(tmp_path / "chiral.fflux").charge is None


def test_published_models_are_left_as_they_are(published_water):
    assert published_water.charge is None


@pytest.mark.parametrize("name", bundled_models())
def test_bundled_models_are_neutral(name):
    forcefield = load(name)
    (model,) = forcefield.models
    numbers = forcefield.patterns[0].numbers
    rng = np.random.default_rng(0)
    x = model.reference_geometry + 0.05 * rng.normal(size=(len(numbers), 3))
    assert model.charge == 0
    assert abs(forcefield.evaluate(x, numbers, moments=True).charges.sum()) < 1e-14
