import dataclasses
import json
import re
import shutil

import numpy as np
import pytest

from ase_fflux.base.errors import ModelError
from ase_fflux.formats.model_directory import (
    in_own_features,
    read_model_directory,
    write_model_directory,
)
from ase_fflux.model.frames import features


@pytest.fixture
def written(tmp_path, make_molecule):
    folder = tmp_path / "models"
    write_model_directory(folder, make_molecule())
    return folder


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize("n_atoms, rank", [(2, 0), (3, 2), (4, 4), (3, -1)])
def test_write_and_read_is_the_identity(
    tmp_path, make_molecule, assert_same_predictions, n_atoms, rank
):
    model = make_molecule(n_atoms, n_points=12, rank=rank, name="formic_acid_dimer")
    paths = write_model_directory(tmp_path / "new" / "models", model)
    assert len(paths) == 1 + n_atoms * (1 + (rank + 1) ** 2)
    assert (tmp_path / "new" / "models" / "FORMICACIDDIMER_iqa_N1.model") in paths
    back = read_model_directory(tmp_path / "new" / "models")
    assert (back.name, back.symbols, back.rank) == (model.name, model.symbols, rank)
    assert back.provenance == model.provenance
    assert back.geometries is None
    np.testing.assert_array_equal(back.alf, model.alf)
    np.testing.assert_array_equal(back.reference_geometry, model.reference_geometry)
    # outputs that share inputs and kernel are one process again
    assert [(p.atom, p.properties) for p in back.processes] == [
        (p.atom, p.properties) for p in model.processes
    ]
    for a, b in zip(model.processes, back.processes, strict=True):
        np.testing.assert_array_equal(a.gp.weights, b.gp.weights)
    assert_same_predictions(model, back)


def test_without_the_molecule_file(written):
    (written / "molecule.json").unlink()
    model = read_model_directory(written)
    assert model.name == "MADEUP"
    assert model.provenance == {"source": ".model files of MADEUP", "program": "ase-fflux"}
    # the reference geometry has the features of the first training point of the first atom
    np.testing.assert_allclose(
        features(model.reference_geometry[None], model.alf, 0)[0],
        model.processes[0].gp.inputs[0], atol=1e-12,
    )


@pytest.mark.parametrize("removed, message", [
    ("MADEUP_iqa_H2.model", "atom H2 has no model of iqa"),
    ("MADEUP_q11s_H3.model", "atom H3 has no model of q11s; moments must be complete"),
    ("MADEUP_*_O4.model", "atom number 4 has no model of iqa"),
    ("MADEUP_q0*_*.model", "atom N1 has no model of q00"),
    ("*.model", "there are no .model files"),
])
def test_missing_models(written, removed, message):
    for path in written.glob(removed):
        path.unlink()
    with pytest.raises(ModelError, match=re.escape(message)):
        read_model_directory(written)


def test_surplus_models(written):
    shutil.copy(written / "MADEUP_q00_N1.model", written / "copy.model")
    with pytest.raises(ModelError, match="copy.model: N1 q00 is modelled twice, also in MAD"):
        read_model_directory(written)
    edit(written / "copy.model", "property q00", "property q20")
    with pytest.raises(ModelError, match="atom N1 has no model of q21c"):
        read_model_directory(written)


@pytest.mark.parametrize("old, new, message", [
    ("name MADEUP", "name OTHER", "models of several systems: MADEUP .* OTHER"),
    ("ALF 2 1 3", "ALF 2 3 1", "ALF of H2 is not that of"),
    ("atom H2", "atom D2", "not an element"),
    ("atom H2", "atom C2", "element or ALF of C2"),
])
def test_models_that_do_not_belong_together(written, old, new, message):
    edit(written / "MADEUP_q10_H2.model", old, new)
    (written / "MADEUP_q10_H2.model").rename(written / "m.model")
    with pytest.raises(ModelError, match=message):
        read_model_directory(written)


def test_models_of_molecules_of_different_size(tmp_path, written, make_molecule):
    write_model_directory(tmp_path / "small", make_molecule(3))
    shutil.copy(tmp_path / "small" / "MADEUP_iqa_H2.model", written / "z.model")
    with pytest.raises(ModelError, match="z.model: this model has 3 atoms, .* has 4"):
        read_model_directory(written)


@pytest.mark.parametrize("content", [
    "{", "[]", '{"name": 1}',
    json.dumps({"name": "x", "provenance": {}, "reference_geometry": [[0, 0, 0]]}),
    json.dumps({"name": "x", "provenance": [], "reference_geometry": [[0, 0, 0]] * 4}),
    '{"name": "x", "provenance": {}, "reference_geometry": [[NaN, 0, 0], [0, 0, 0], [0, 0, 0],'
    ' [0, 0, 0]]}',
])
def test_damaged_molecule_file(written, content):
    (written / "molecule.json").write_text(content)
    with pytest.raises(ModelError, match="molecule.json: not"):
        read_model_directory(written)


def test_only_new_directories_are_written(tmp_path, written, make_molecule):
    model = make_molecule(3)
    with pytest.raises(ModelError, match="is not empty"):
        write_model_directory(written, model)
    (tmp_path / "file").write_text("")
    with pytest.raises(ModelError, match="file exists"):
        write_model_directory(tmp_path / "file", model)
    model.provenance["bad"] = np.zeros(3)
    try:
        with pytest.raises(ModelError, match="not JSON"):
            write_model_directory(tmp_path / "third", model)
        assert not (tmp_path / "third").exists()
    finally:
        del model.provenance["bad"]


def edit_all(folder, pattern, old, new):
    for path in folder.glob(pattern):
        edit(path, old, new)


@pytest.mark.parametrize("atom, old, new", [
    ("N1", "ALF 1 2 3", "ALF 1 3 2"), ("N1", "ALF 1 2 3", "ALF 1 2 4"),
    ("H2", "ALF 2 1 3", "ALF 2 3 1"), ("H3", "ALF 3 1 4", "ALF 3 2 4"),
    ("O4", "ALF 4 1 2", "ALF 4 1 3"),
])
def test_another_local_frame_contradicts_the_other_atoms(written, atom, old, new):
    read_model_directory(written)
    edit_all(written, f"*_{atom}.model", old, new)
    with pytest.raises(ModelError, match=rf"_iqa_{atom}.model: .* '{new}' is not the local frame"):
        read_model_directory(written)


def test_without_a_shared_geometry_ranges_of_distances_tell(tmp_path, make_molecule):
    """Sets of their own for each atom."""
    model = make_molecule(3, rank=-1)
    processes = [
        next(p for p in make_molecule(3, 8, rank=-1, seed=a).processes if p.atom == a)
        for a in range(3)
    ]
    folder = tmp_path / "models"
    write_model_directory(folder, dataclasses.replace(model, processes=tuple(processes)))
    read_model_directory(folder)
    edit(folder / "MADEUP_iqa_H2.model", "ALF 2 1 3", "ALF 2 3 1")
    with pytest.raises(ModelError, match="_iqa_H2.model: .* 'ALF 2 3 1' is not the local frame"):
        read_model_directory(folder)


def test_a_set_of_geometries_with_atoms_exchanged_is_no_contradiction(
    tmp_path, make_molecule, fit_process
):
    """Hydrogens trained on mirror images of each other's labels, as shared processes are."""
    geometries = make_molecule(3, n_points=12).geometries
    model = make_molecule(3, rank=-1)
    processes = []
    for atom, order in ((0, [0, 1, 2, 0, 2, 1]), (1, [0, 1, 2]), (2, [0, 2, 1])):
        x = np.concatenate([
            features(geometries[:, order[i : i + 3]], model.alf, atom)
            for i in range(0, len(order), 3)
        ])
        old = next(p for p in model.processes if p.atom == atom)
        y = np.full((1, len(x)), old.gp.mean[0]) + 0.01 * np.sin(x.sum(axis=1))
        processes.append(dataclasses.replace(old, gp=fit_process(x, y, old.gp.kernel)))
    write_model_directory(tmp_path / "m", dataclasses.replace(model, processes=tuple(processes)))
    read_model_directory(tmp_path / "m")


@pytest.mark.parametrize("rename", [True, False])
def test_another_property_is_told_by_the_name_or_by_the_numbers(written, rename):
    for first, second in (("iqa", "q00"), ("q00", "iqa")):
        path = written / f"MADEUP_{first}_O4.model"
        edit(path, f"property {first}", f"property {second}")
        if rename:
            path.rename(written / f"{first}.model")
    words = "q00 of O4 is -73" if rename else "the name is of iqa of O4, the content says q00 of O4"
    with pytest.raises(ModelError, match=words):
        read_model_directory(written)


def test_charges_sum_to_an_integer(tmp_path, make_molecule):
    model = make_molecule(3, rank=0)
    for change, fine in ((1.0, True), (0.5, False)):
        processes = tuple(
            dataclasses.replace(p, gp=dataclasses.replace(p.gp, mean=p.gp.mean + change))
            if (p.atom, p.properties) == (0, ("q00",)) else p for p in model.processes
        )
        folder = tmp_path / str(change)
        write_model_directory(folder, dataclasses.replace(model, processes=processes))
        if fine:
            read_model_directory(folder)
            continue
        with pytest.raises(ModelError, match=r"charges \(q00\) of all atoms sum to 0\.\d+, not to"):
            read_model_directory(folder)


def test_shared_processes_are_written_in_the_order_of_each_atom(
    tmp_path, make_shared, assert_same_atoms
):
    model = make_shared(n_points=6, rank=2, gradients=False)
    write_model_directory(tmp_path / "models", model)
    back = read_model_directory(tmp_path / "models")
    assert all(p.order is None and not p.mirrored for p in back.processes)
    assert_same_atoms(model, back)


@pytest.mark.parametrize("mirrored", [False, True])
def test_in_own_features(make_shared, assert_same_atoms, mirrored):
    model = make_shared(n_points=6, rank=2)
    order = np.array([0, 1, 2, 6, 7, 8, 3, 4, 5])
    processes = tuple(
        dataclasses.replace(p, order=order, mirrored=mirrored)
        for p in model.processes
    )
    shared = dataclasses.replace(model, processes=processes)
    own = dataclasses.replace(model, processes=tuple(map(in_own_features, processes)))
    assert all(p.order is None and not p.mirrored for p in own.processes)
    assert_same_atoms(shared, own)


def test_gradients_have_no_place(tmp_path, make_shared):
    with pytest.raises(ModelError, match="fluoromethane was trained on gradients.*--plain"):
        write_model_directory(tmp_path / "models", make_shared(n_points=4))
    assert not (tmp_path / "models").exists()


def test_published_water(reference):
    model = read_model_directory(reference / "water343" / "model_krig")
    assert (model.name, model.symbols, model.rank) == ("WATER", ("O", "H", "H"), 2)
    np.testing.assert_array_equal(model.alf, [[0, 1, 2], [1, 0, 2], [2, 0, 1]])
    assert model.provenance == {"source": ".model files of WATER", "program": "gpytorch"}
    distances = np.linalg.norm(model.reference_geometry[1:] - model.reference_geometry[0], axis=1)
    assert (np.abs(distances - 1.9) < 0.3).all()
    assert len(model.processes) == 30  # every property has length scales of its own


def test_published_files_of_one_atom_are_no_molecule(reference):
    with pytest.raises(ModelError, match="atom number 2 has no model of iqa"):
        read_model_directory(reference / "ferebus" / "water")
