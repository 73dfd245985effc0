"""Bundles of version 7: second frames and terms of distances beside the atoms."""

import dataclasses
import pickle

import numpy as np
import pytest
from ase.symbols import symbols2numbers

from ase_fflux.base.errors import ModelError
from ase_fflux.forcefield import ForceField
from ase_fflux.formats.bundle import bundle_content, read_header, write_bundle
from ase_fflux.formats.model_directory import write_model_directory
from ase_fflux.model.alf import exchanged_axes
from ase_fflux.model.frames import features
from ase_fflux.model.kernels import Kernel
from ase_fflux.model.molecule import shared_model
from ase_fflux.model.shared import SecondFrames, Totals, transformed
from ase_fflux.model.terms import TermProcess, distance_terms
from ase_fflux.topology.graphs import bonds_between


@pytest.fixture(scope="module")
def model(make_shared):
    plain, rng = make_shared(n_points=5, rank=-1), np.random.default_rng(0)
    numbers = symbols2numbers(plain.symbols)
    between = bonds_between(numbers, plain.reference_geometry)
    terms = tuple(
        TermProcess(t, rng.uniform(5, 20, len(t.tie))[t.tie], rng.uniform(0.1, 1.0), True)
        for t in distance_terms(plain.symbols, between, plain.shared.symmetry)
    )
    totals = Totals(rng.normal(size=5), (1e-5,), np.arange(0))
    alf = exchanged_axes(plain.alf)
    second = tuple(
        SecondFrames(
            c, Kernel.periodic_on_phi(rng.uniform(0.1, 1.0, len(c.tie))[c.tie]),
            rng.uniform(0.1, 1.0),
        ) for c in plain.shared.symmetry.classes(alf)
    )
    shared = dataclasses.replace(plain.shared, totals=totals, terms=terms, second=second)
    return shared_model(
        "terms", plain.symbols, plain.alf, shared, plain.reference_geometry, plain.geometries
    )


@pytest.fixture(scope="module")
def content(model):
    return bundle_content(model)


def energies(model, x):
    forcefield, numbers = ForceField([model]), symbols2numbers(model.symbols)
    own = forcefield.match(x[0], numbers, explicit=[list(range(len(numbers)))])
    return np.array([forcefield.evaluate(y, numbers, assignment=own).energies for y in x])


def test_written_and_read_it_is_the_same(model, content, read_bytes):
    read = read_bytes(content)
    assert len(read.terms) == len(read.shared.terms) == len(model.terms) > 1
    for mine, theirs in zip(model.shared.terms, read.shared.terms, strict=True):
        for name in ("pairs", "view_column", "tie"):
            np.testing.assert_array_equal(getattr(mine.term, name), getattr(theirs.term, name))
        np.testing.assert_array_equal(mine.theta, theirs.theta)
        assert (mine.variance, mine.rational) == (theirs.variance, theirs.rational)
    for mine, theirs in zip(model.shared.second, read.shared.second, strict=True):
        assert (mine.atoms.atoms, mine.variance) == (theirs.atoms.atoms, theirs.variance)
        np.testing.assert_array_equal(mine.kernel.theta, theirs.kernel.theta)
        assert mine.kernel.form == theirs.kernel.form
    x = model.geometries[:2]
    np.testing.assert_array_equal(energies(read, x), energies(model, x))
    assert bundle_content(read) == content
    np.testing.assert_array_equal(energies(pickle.loads(pickle.dumps(model)), x), energies(read, x))


def test_every_atom_has_the_same_share(model):
    without = dataclasses.replace(model, terms=())
    x = model.geometries[:2] + 0.05
    shares = energies(model, x) - energies(without, x)
    total = sum(term.energies(x) for term in model.terms)
    np.testing.assert_allclose(shares, np.tile(total / x.shape[1], (x.shape[1], 1)).T, atol=1e-8)


def test_version_and_missing_prior(tmp_path, model):
    write_bundle(tmp_path / "m.fflux", model)
    header = read_header(tmp_path / "m.fflux")
    assert header["version"] == 7 and header["prior"] is None


@pytest.mark.parametrize("change, message", [
    (("terms", 0, "pairs", 0, 0, [0, 0]), "term 0 is of no distances"),
    (("terms", 0, "pairs", 0, 0, [0, 9]), "term 0 is of no distances"),
    (("terms", 0, "pairs", [[0, 1]]), "term 0 is of no distances"),
    (("terms", 0, "views", 0, 0, 1), "images of term 0 are wrong"),
    (("terms", 0, "tie", [0]), "images of term 0 are wrong"),
    (("terms", 0, "variance", -1.0), "variance of term 0 is wrong"),
    (("terms", 0, "rational", 1), "kernel of term 0 is wrong"),
    (("terms", 0, "rational", False), "term 0: predictions stored"),
    (("terms", 0, "variance", 3.0), "term 0: predictions stored"),
    (lambda header: header.pop("terms") and None, "damaged"),
    (lambda header: header["terms"][0]["views"].pop(1) and None, "term 0 does not have the symm"),
    (("totals", None), "terms beside atoms whose energies are not latent"),
    (("totals", "with_energies", [0]), "terms beside atoms whose energies are not latent"),
    (("version", 6), "damaged"),
    (lambda header: header.pop("second") and None, "damaged"),
    (lambda header: header["second"].pop() and None, "second frames are not of all classes"),
    (("second", 0, "atoms", [1]), "second frames are not of all classes"),
    (("second", 0, "variance", "1"), "variance of second process 0 is wrong"),
    (("second", 0, "variance", 3.0), "second process 0: predictions stored"),
])
def test_faults_of_the_header(content, read_bytes, rebuilt, change, message):
    with pytest.raises(ModelError, match=message):
        read_bytes(rebuilt(content, header=change))


@pytest.mark.parametrize("array, message", [
    (np.array([1.0]), "not an array of numbers of the right shape"),
    (np.full(10, -1.0), "theta of term 0 are wrong"),
    (np.arange(1.0, 11.0), "theta of term 0 are wrong"),
    (np.full(10, 7.0), "term 0: predictions stored"),
])
def test_faults_of_the_thetas(content, read_bytes, rebuilt, array, message):
    with pytest.raises(ModelError, match=message):
        read_bytes(rebuilt(content, arrays={"term_0_theta": array}))


def test_theta_of_second_frames_are_checked(content, read_bytes, rebuilt):
    for theta, message in (
        (np.full(9, -1.0), "theta of second process 0 are wrong"),
        (np.full(9, 0.2), "second process 0: predictions stored"),
        (np.ones(8), "not an array of numbers of the right shape"),
    ):
        with pytest.raises(ModelError, match=message):
            read_bytes(rebuilt(content, arrays={"second_0_theta": theta}))


def test_second_frames_are_added(model):
    """The process of an atom in its other frame, its axes exchanged."""
    without, x = dataclasses.replace(model, second=()), model.geometries[:2] + 0.05
    added = energies(model, x) - energies(without, x)
    for process in model.second:
        f = features(x, exchanged_axes(model.alf), process.atom)
        own = transformed(f, process.order, process.mirrored, np.pi)
        np.testing.assert_allclose(added[:, process.atom], process.gp.predict(own)[0], atol=1e-9)


def test_model_files_have_no_place_for_them(tmp_path, model):
    with pytest.raises(ModelError, match="terms of distances"):
        write_model_directory(tmp_path / "m", model)
