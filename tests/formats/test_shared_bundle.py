import dataclasses
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ase_fflux.base.errors import ModelError
from ase_fflux.formats.bundle import read_bundle, write_bundle
from ase_fflux.model.molecule import MoleculeModel


def assert_same(a, b):
    """Everything is bitwise the same."""
    assert (a.name, a.symbols, a.provenance) == (b.name, b.symbols, b.provenance)
    for name in ("alf", "reference_geometry", "geometries"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    for name in ("permutations", "mirrored"):
        np.testing.assert_array_equal(
            getattr(a.shared.symmetry, name), getattr(b.shared.symmetry, name)
        )
    for name in ("energy_noise", "gradient_noise"):
        assert getattr(a.shared, name) == getattr(b.shared, name)
    for name in ("gradient_weights", "moment_geometries"):
        np.testing.assert_array_equal(getattr(a.shared, name), getattr(b.shared, name))
    for p, q in zip(a.shared.processes, b.shared.processes, strict=True):
        assert (p.atoms.atoms, p.properties) == (q.atoms.atoms, q.properties)
        assert (p.noise, p.variance) == (q.noise, q.variance)
        for name in ("mean", "weights"):
            np.testing.assert_array_equal(getattr(p, name), getattr(q, name))
    for p, q in zip(a.processes, b.processes, strict=True):
        assert (p.atom, p.properties, p.mirrored) == (q.atom, q.properties, q.mirrored)
        np.testing.assert_array_equal(p.order, q.order)
        for name in ("inputs", "weights", "derivative_weights"):
            np.testing.assert_array_equal(getattr(p.gp, name), getattr(q.gp, name))
        np.testing.assert_array_equal(p.gp.kernel.theta, q.gp.kernel.theta)


@pytest.mark.parametrize("gradients", [True, False])
@pytest.mark.parametrize("rank, beside", [(-1, 0), (2, 0), (2, 4)])
def test_write_and_read_is_the_identity(tmp_path, make_shared, gradients, rank, beside):
    model = make_shared(n_points=6, rank=rank, gradients=gradients, beside=beside)
    write_bundle(tmp_path / "m.fflux", model)
    back = read_bundle(tmp_path / "m.fflux")
    assert_same(model, back)
    # atoms of a class refer to one process still
    assert len({id(p.gp) for p in back.processes}) == len(model.shared.processes)


def test_only_what_cannot_be_computed_is_stored(tmp_path, make_shared):
    model = make_shared(n_points=7, rank=0)
    write_bundle(tmp_path / "m.fflux", model)
    with np.load(tmp_path / "m.fflux") as arrays:
        shapes = {name: arrays[name].shape for name in arrays.files if name != "header.json"}
    assert shapes["gradient_weights"] == shapes["geometries"] == (7, 5, 3)
    assert shapes["0_weights"] == (1, 1, 7) and shapes["4_weights"] == (1, 3, 7)
    assert shapes["4_check"] == (1, 9)  # three labels of three hydrogens
    assert not any("inputs" in name or "derivative" in name for name in shapes)


def test_version_is_the_lowest_that_holds_the_model(tmp_path, make_shared, make_molecule):
    for name, model, version in (
        ("shared", make_shared(n_points=4), 2), ("own", make_molecule(3), 1),
        ("beside", make_shared(n_points=4, beside=2), 3),
    ):
        write_bundle(tmp_path / name, model)
        header = zipfile.ZipFile(tmp_path / name).read("header.json").decode()
        assert f'"version": {version},' in header


def test_expanded_without_gradients_is_written_in_own_features(
    tmp_path, make_shared, assert_same_atoms
):
    model = make_shared(n_points=5, gradients=False)
    own = dataclasses.replace(model, shared=None)
    write_bundle(tmp_path / "own.fflux", own)
    back = read_bundle(tmp_path / "own.fflux")
    assert all(p.order is None and not p.mirrored for p in back.processes)
    assert_same_atoms(model, back)


def test_expanded_with_gradients_is_refused(tmp_path, make_shared):
    expanded = dataclasses.replace(make_shared(n_points=4), shared=None)
    with pytest.raises(ModelError, match="trained on gradients are stored in the compact form"):
        write_bundle(tmp_path / "m.fflux", expanded)
    assert not (tmp_path / "m.fflux").exists()


def test_same_content_gives_the_same_bytes(tmp_path, make_shared):
    for name in "ab":
        write_bundle(tmp_path / name, make_shared(n_points=4))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.fixture(scope="module")
def content(tmp_path_factory, make_shared):
    path = tmp_path_factory.mktemp("bundle") / "m.fflux"
    write_bundle(path, make_shared(n_points=5, rank=0))
    return path.read_bytes()


def test_rebuilding_changes_nothing(content, read_bytes, rebuilt):
    assert_same(read_bytes(content), read_bytes(rebuilt(content)))


def last_operation_left_out(header):
    for rows in header["symmetry"].values():
        del rows[-1]


def first_operation_moved(header):
    for rows in header["symmetry"].values():
        rows.append(rows.pop(0))


@pytest.mark.parametrize("change, message", [
    (("version", 1), "damaged"),
    (("geometries", False), "training geometries are missing"),
    (("gradients", False), "weights of the gradients are missing"),
    (lambda header: header.pop("symmetry") and None, "damaged"),
    (("symmetry", []), "damaged"),
    (("symmetry", "permutations", 1, [0, 1, 2, 3, 3]), "no permutation of the atoms"),
    (("symmetry", "permutations", 1, [0, 1, 2, 3]), "damaged"),
    (("symmetry", "permutations", 1, [0, 1, 2, 3, 5]), "no permutation of the atoms"),
    (("symmetry", "permutations", 1, [0, 1, 2, 3, 4.5]), "no permutation of the atoms"),
    (("symmetry", "permutations", [[0, 1, 2, 3, 4]]), "no permutation of the atoms"),
    (("symmetry", "permutations", []), "no permutation of the atoms"),
    (("symmetry", "mirrored", 1, 1), "no permutation of the atoms"),
    (("symmetry", "permutations", 1, [1, 0, 2, 3, 4]), "exchanges different elements"),
    (("symmetry", "permutations", 1, [0, 1, 2, 3, 4]), "no group"),
    (last_operation_left_out, "no group"),
    (first_operation_moved, "no group"),
    (("symbols", ["C", "F", "H", "H", "F"]), "exchanges different elements"),
    (("alf", 3, [3, 1, 0]), "local frames of equivalent atoms do not correspond"),
    (("energy_noise", [-1.0]), "noise of the energies is wrong"),
    (("energy_noise", []), "noise of the energies is wrong"),
    (("source", [0]), "sources of labels are wrong"),
    (("gradient_noise", None), "noise of the gradients is wrong"),
    (("processes", 0, "atoms", [2]), "atoms of process 0 are not a class"),
    (("processes", 0, "atoms", []), "atoms of process 0 are not a class"),
    (("processes", 0, "atoms", 0), "damaged"),
    (("processes", 4, "atoms", [2, 3]), "atoms of process 4 are not a class"),
    (("processes", 4, "atoms", [0]), "weights is not an array"),
    (("processes", 0, "properties", ["q00"]), "has gradients but is not of energies"),
    (("processes", 1, "properties", ["iqa"]), "a property stands twice"),
    (("processes", 1, "properties", ["q99"]), "unknown properties"),
    (("processes", 0, "noise", "big"), "noise of process 0"),
    (("processes", 0, "variance", -1.0), "variance of process 0"),
    (("processes", 0, "variance", 0.7), r"atom 1 \(C\) iqa: predictions stored"),
    (lambda header: header["processes"].pop(4) and None, "damaged|atom has no energy"),
])
def test_faults_of_the_header(content, read_bytes, rebuilt, change, message):
    with pytest.raises(ModelError, match=message) as error:
        read_bytes(rebuilt(content, header=change))
    assert "m.fflux" in str(error.value)


@pytest.mark.parametrize("name, array, message", [
    ("gradient_weights", np.zeros((4, 5, 3)), "right shape"),
    ("gradient_weights", np.zeros((5, 5, 3)), "predictions stored with the model"),
    ("gradient_weights", np.full((5, 5, 3), np.inf), "not finite"),
    ("geometries", np.zeros((5, 5, 3)), "damaged"),
    ("0_kernel", np.outer([1, 0, 0], np.arange(9.0)), "equivalent features of process 0 differ"),
    ("0_kernel", -np.ones((3, 9)), "negative theta"),
    ("4_weights", np.ones((1, 5)), "right shape"),
    ("4_weights", np.ones((1, 5, 3)), "right shape"),
    ("4_weights", np.ones((1, 3, 5)), r"atom 3 \(H\) iqa: predictions stored with the model"),
    ("3_mean", np.ones(2), "right shape"),
    ("5_check", np.zeros((1, 3)), "right shape"),
])
def test_faults_of_the_arrays(content, read_bytes, rebuilt, name, array, message):
    with pytest.raises(ModelError, match=message):
        read_bytes(rebuilt(content, arrays={name: array}))


@pytest.mark.parametrize("name", ["geometries.npy", "gradient_weights.npy", "4_check.npy"])
def test_missing_members(content, read_bytes, rebuilt, name):
    with pytest.raises(ModelError, match="m.fflux"):
        read_bytes(rebuilt(content, drop=[name]))


@pytest.mark.parametrize("arrays, message", [
    ({"moment_geometries": np.zeros((2, 4, 3))}, "moment_geometries is not an array"),
    ({"moment_geometries": np.ones((3, 5, 3))}, "1_weights is not an array"),
    ({"0_weights": np.zeros((1, 1, 7))}, "0_weights is not an array"),
])
def test_faults_of_points_of_moments_alone(
    make_shared, tmp_path, read_bytes, rebuilt, arrays, message
):
    write_bundle(tmp_path / "m.fflux", make_shared(n_points=5, rank=0, beside=2))
    content = (tmp_path / "m.fflux").read_bytes()
    with pytest.raises(ModelError, match=message):
        read_bytes(rebuilt(content, arrays=arrays))
    with pytest.raises(ModelError, match="m.fflux"):
        read_bytes(rebuilt(content, drop=["moment_geometries.npy"]))


@given(st.data())
@settings(deadline=None, max_examples=100)
def test_damaged_bundles_are_refused_or_mean_the_same(content, tmp_path_factory, data):
    original = tmp_path_factory.getbasetemp() / "original_shared.fflux"
    original.write_bytes(content)
    damaged = bytearray(content)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged_shared.fflux"
    path.write_bytes(damaged)
    try:
        model = read_bundle(path)
    except ModelError as error:
        assert str(path) in str(error)
        return
    assert isinstance(model, MoleculeModel)
    assert_same(model, read_bundle(original))
