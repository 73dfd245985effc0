import dataclasses
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ase_fflux.base.errors import ModelError
from ase_fflux.formats.bundle import read_bundle, write_bundle
from ase_fflux.formats.bundle_reader import VERSION
from ase_fflux.formats.model_directory import read_model_directory, write_model_directory
from ase_fflux.formats.model_file import read_model
from ase_fflux.model.molecule import AtomProcess, MoleculeModel
from ase_fflux.model.process import GaussianProcess


def assert_same(a, b):
    """Everything is bitwise the same."""
    assert (a.name, a.symbols, a.provenance) == (b.name, b.symbols, b.provenance)
    np.testing.assert_array_equal(a.alf, b.alf)
    np.testing.assert_array_equal(a.reference_geometry, b.reference_geometry)
    assert (a.geometries is None) == (b.geometries is None)
    if a.geometries is not None:
        np.testing.assert_array_equal(a.geometries, b.geometries)
    for p, q in zip(a.processes, b.processes, strict=True):
        assert (p.atom, p.properties, p.gp.noise) == (q.atom, q.properties, q.gp.noise)
        for name in ("inputs", "mean", "weights"):
            np.testing.assert_array_equal(getattr(p.gp, name), getattr(q.gp, name))
        for name in ("rbf", "cyclic", "periodic"):
            np.testing.assert_array_equal(getattr(p.gp.kernel, name), getattr(q.gp.kernel, name))


@pytest.mark.parametrize("n_atoms", [2, 3, 4])
@pytest.mark.parametrize("with_geometries", [True, False])
def test_write_and_read_is_the_identity(tmp_path, make_molecule, n_atoms, with_geometries):
    model = make_molecule(n_atoms, with_geometries=with_geometries, name="Wässerchen")
    write_bundle(tmp_path / "m.fflux", model)
    assert_same(model, read_bundle(tmp_path / "m.fflux"))


def test_geometries_are_stored_once_and_features_not_at_all(tmp_path, make_molecule):
    model = make_molecule(4)
    write_bundle(tmp_path / "m.fflux", model)
    names = zipfile.ZipFile(tmp_path / "m.fflux").namelist()
    assert "geometries.npy" in names
    assert not any(name.startswith("inputs") for name in names)
    with np.load(tmp_path / "m.fflux") as arrays:  # any numpy can open it
        np.testing.assert_array_equal(arrays["geometries"], model.geometries)


def test_inputs_without_geometries_are_stored_once(tmp_path, make_molecule):
    write_bundle(tmp_path / "m.fflux", make_molecule(4, with_geometries=False))
    names = zipfile.ZipFile(tmp_path / "m.fflux").namelist()
    # two processes of each atom share their inputs
    assert sum(name.startswith("inputs") for name in names) == 4


def test_process_on_a_part_of_the_geometries(tmp_path, make_molecule, fit_process):
    model = make_molecule(3)
    first, *others = model.processes
    gp = first.gp
    part = fit_process(gp.inputs[:9], gp.targets()[:, :9], gp.kernel)
    processes = (AtomProcess(first.atom, first.properties, part), *others)
    model = dataclasses.replace(model, processes=processes)
    write_bundle(tmp_path / "m.fflux", model)
    assert_same(model, read_bundle(tmp_path / "m.fflux"))


def test_same_content_gives_the_same_bytes(tmp_path, make_molecule):
    for name in "ab":
        write_bundle(tmp_path / name, make_molecule(3))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_conversions_there_and_back(tmp_path, make_molecule, assert_same_predictions):
    model = make_molecule(4, rank=2)
    write_bundle(tmp_path / "a.fflux", model)
    write_model_directory(tmp_path / "models", read_bundle(tmp_path / "a.fflux"))
    write_bundle(tmp_path / "b.fflux", read_model_directory(tmp_path / "models"))
    assert_same_predictions(model, read_bundle(tmp_path / "b.fflux"))


@pytest.mark.parametrize("folder", ["water343/model_krig", "ammonia"])
def test_published_models_there_and_back(
    tmp_path, reference, assert_same_predictions, folder
):
    model = read_model_directory(reference / folder)
    write_bundle(tmp_path / "a.fflux", model)
    assert_same(model, read_bundle(tmp_path / "a.fflux"))
    write_model_directory(tmp_path / "models", read_bundle(tmp_path / "a.fflux"))
    back = read_model_directory(tmp_path / "models")
    assert_same_predictions(model, back)
    assert_same(model, back)


def test_published_glycine_there_and_back(tmp_path, reference, predict_all):
    """One atom of a large molecule, in the place of all of them."""
    published = read_model(reference / "ferebus" / "glycine" / "marginal.model")
    alf = [[a, (a + 1) % 19, (a + 2) % 19] for a in range(19)]
    alf[0] = published.alf
    tiny = published.inputs[:2]
    rest = [
        AtomProcess(a, ("iqa",), GaussianProcess(
            tiny, published.kernel, [-50.0], np.ones((1, 2)), 1e-10
        )) for a in range(1, 19)
    ]
    model = MoleculeModel(
        "glycine", ("C", *"N" * 18), np.array(alf),
        (AtomProcess(0, ("iqa",), published.gp), *rest), np.zeros((19, 3)),
    )
    write_bundle(tmp_path / "a.fflux", model)
    write_model_directory(tmp_path / "models", read_bundle(tmp_path / "a.fflux"))
    back = read_model_directory(tmp_path / "models")
    np.testing.assert_array_equal(back.processes[0].gp.weights, published.gp.weights)
    first, second = predict_all(model), predict_all(back)
    for key, values in first.items():
        np.testing.assert_allclose(second[key], values, rtol=0, atol=1e-12)


def test_existing_files_are_not_overwritten(tmp_path, make_molecule):
    model = make_molecule(3)
    (tmp_path / "a.fflux").write_text("precious")
    with pytest.raises(ModelError, match="exists"):
        write_bundle(tmp_path / "a.fflux", model)
    assert (tmp_path / "a.fflux").read_text() == "precious"
    with pytest.raises(ModelError, match="cannot be written"):
        write_bundle(tmp_path / "no" / "a.fflux", model)
    with pytest.raises(ModelError, match="not JSON"):
        write_bundle(tmp_path / "b.fflux", dataclasses.replace(model, provenance={"x": {1, 2}}))
    with pytest.raises(ModelError, match="not JSON"):
        bad = dataclasses.replace(model, provenance={"x": float("nan")})
        write_bundle(tmp_path / "b.fflux", bad)
    assert not (tmp_path / "b.fflux").exists()


@pytest.fixture(scope="module")
def content(tmp_path_factory, make_molecule):
    path = tmp_path_factory.mktemp("bundle") / "m.fflux"
    write_bundle(path, make_molecule(3, n_points=8, rank=0))
    return path.read_bytes()


def test_rebuilding_changes_nothing(content, read_bytes, rebuilt):
    assert_same(read_bytes(content), read_bytes(rebuilt(content)))


@pytest.mark.parametrize("change, message", [
    (("format", "other"), "not an ase-fflux bundle"),
    (lambda header: [1], "not an ase-fflux bundle"),
    (("version", VERSION + 1), "update ase-fflux"),
    (("version", "1"), "version '1' of the bundle's format is not known"),
    (("version", 0), "is not known"),
    (("symbols", ["N", "H"]), "local frames"),
    (("symbols", ["N", "H", "Zz"]), "elements"),
    (("symbols", "NHH"), "elements"),
    (("alf", 0, [0, 1, 1]), "the local frame of atom 1 names one atom twice"),
    (("alf", 0, [1, 0, 2]), "the local frame of atom 1 is centred on atom 2"),
    (("alf", 0, [0, 1, 3]), "the local frame of atom 1 names atom 4"),
    (("alf", 0, [0, 1, -1]), "the local frame of atom 1 names atom 0"),
    (("alf", 0, [0, 1]), "damaged"),
    (("alf", 0, [0, 1, 2.5]), "local frames"),
    (("alf", [[0, 1, 2]]), "local frames"),
    (("name", 3), "header is wrong"),
    (("provenance", []), "header is wrong"),
    (lambda header: {k: v for k, v in header.items() if k != "processes"}, "damaged"),
    (("processes", 0, "atom", 3), "process 0 has no atom"),
    (("processes", 0, "atom", -1), "process 0 has no atom"),
    (("processes", 0, "atom", 1), r"atom 2 \(H\) iqa: predictions stored with the model"),
    (("processes", 0, "properties", ["q00"]), "a property stands twice"),
    (("processes", 0, "properties", ["q99"]), "unknown properties"),
    (("processes", 0, "properties", []), "unknown properties"),
    (("processes", 0, "properties", ["q10"]), "an atom has no energy"),
    (("processes", 0, "properties", ["q10", "q20"]), "0_mean is not"),
    (("processes", 0, "noise", -1), "noise of process 0"),
    (("processes", 0, "noise", "big"), "noise of process 0"),
    (("processes", 0, "inputs", 0), "inputs_0"),
    (("processes", 0, "inputs", "../x"), "number of an array"),
    (("geometries", False), "training geometries are missing"),
])
def test_faults_of_the_header(content, read_bytes, rebuilt, change, message):
    with pytest.raises(ModelError, match=message) as error:
        read_bytes(rebuilt(content, header=change))
    assert "m.fflux" in str(error.value)


@pytest.mark.parametrize("name, array, message", [
    ("geometries", np.zeros((8, 4, 3)), "right shape"),
    ("geometries", np.zeros((0, 3, 3)), "right shape"),
    ("geometries", np.zeros((8, 3, 3)), "damaged"),
    ("geometries", np.full((8, 3, 3), np.nan), "not finite"),
    ("reference_geometry", np.zeros(9), "right shape"),
    ("0_kernel", -np.ones((3, 3)), "negative theta"),
    ("0_kernel", np.ones((3, 3)), "predictions stored with the model are not reproduced"),
    ("0_weights", np.ones((1, 8)), "predictions stored with the model are not reproduced"),
    ("0_weights", np.ones((1, 7)), "right shape"),
    ("0_weights", np.ones((1, 8), dtype=np.float32), "not an array of numbers"),
    ("0_weights", np.array([[None] * 8]), "damaged"),
    ("0_mean", np.array([0.0]), "are not reproduced"),
    ("0_check", np.full((1, 3), np.inf), "not finite"),
])
def test_faults_of_the_arrays(content, read_bytes, rebuilt, name, array, message):
    with pytest.raises(ModelError, match=message):
        read_bytes(rebuilt(content, arrays={name: array}))


@pytest.mark.parametrize("name", ["header.json", "geometries.npy", "0_weights.npy", "0_check.npy"])
def test_missing_members(content, read_bytes, rebuilt, name):
    with pytest.raises(ModelError, match="m.fflux"):
        read_bytes(rebuilt(content, drop=[name]))


def test_what_is_no_bundle(tmp_path, read_bytes):
    with pytest.raises(ModelError, match="there is no such file"):
        read_bundle(tmp_path / "nothing.fflux")
    with pytest.raises(ModelError, match="cannot be read"):
        read_bundle(tmp_path)
    for content in (b"", b"text", b"PK\x03\x04"):
        with pytest.raises(ModelError, match="is not a bundle, or a truncated one: fetch"):
            read_bytes(content)


def test_flipped_byte_in_the_data_is_named(content, read_bytes):
    at = len(content) // 2
    with pytest.raises(ModelError, match="m.fflux is damaged .*: fetch it again or rebuild it"):
        read_bytes(content[:at] + bytes([content[at] ^ 0x10]) + content[at + 1:])


@given(st.data())
@settings(deadline=None, max_examples=300)
def test_damaged_bundles_are_refused_or_mean_the_same(content, tmp_path_factory, data):
    original = tmp_path_factory.getbasetemp() / "original.fflux"
    original.write_bytes(content)
    damaged = bytearray(content)
    if data.draw(st.booleans()):
        del damaged[data.draw(st.integers(0, len(content) - 1)):]
    else:
        for _ in range(data.draw(st.integers(1, 4))):
            damaged[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged.fflux"
    path.write_bytes(damaged)
    try:
        model = read_bundle(path)
    except ModelError as error:
        assert str(path) in str(error)
        return
    assert_same(model, read_bundle(original))
