"""Labels written for other programs, and read back."""

import json
from dataclasses import replace

import numpy as np
import pytest
from ase.io import read

from ase_fflux.base.errors import FFLUXError
from ase_fflux.base.units import BOHR, FORCE, HARTREE
from ase_fflux.cli.main import main
from ase_fflux.labels.dataset import append_labels, read_dataset
from ase_fflux.labels.export import write_extxyz, write_sgdml
from ase_fflux.labels.importers.any_file import is_label_file
from ase_fflux.labels.importers.foreign import read_foreign
from ase_fflux.labels.label import labels_of


@pytest.fixture
def labels(make_labels):
    return make_labels("formaldehyde", 20, spread=0.05)


def same(found, labels):
    assert found.symbols == labels.symbols and found.atomic_energies is None
    np.testing.assert_allclose(found.geometries, labels.geometries, atol=2e-8)
    np.testing.assert_allclose(found.energies, labels.energies, atol=1e-9)
    np.testing.assert_allclose(found.gradients, labels.gradients, atol=1e-9)


def test_extended_xyz_comes_back(tmp_path, labels):
    path = tmp_path / "data.xyz"
    write_extxyz(path, labels)
    assert not is_label_file(path)
    found = read_foreign(path)
    same(found, labels)
    np.testing.assert_allclose(found.moments[:, :, 0], labels.moments[:, :, 0], atol=1e-8)
    np.testing.assert_allclose(found.dipoles, labels.dipoles, atol=1e-7)
    assert set(found.origins) == {"toy"}
    frame = read(path, 3)
    assert frame.get_potential_energy() == pytest.approx(HARTREE * labels.energies[3])


def test_names_as_mace_wants_them(tmp_path, labels):
    """REF_energy, REF_forces, and energies of isolated atoms as frames of their own."""
    atoms = {"C": -2.5, "O": -3.4, "H": -0.3}
    labels = replace(labels, settings={f"isolated_{s}": e for s, e in atoms.items()}, moments=None)
    path = tmp_path / "data.xyz"
    write_extxyz(path, labels, "REF_energy", "REF_forces")
    frames = read(path, ":")
    assert [f.info["config_type"] for f in frames[:4]] == ["IsolatedAtom"] * 3 + ["toy"]
    assert frames[0].info["REF_energy"] == pytest.approx(HARTREE * atoms["C"])
    np.testing.assert_allclose(
        frames[3].arrays["REF_forces"], -FORCE * labels.gradients[0], atol=1e-7
    )
    found = read_foreign(path, energy_key="REF_energy", forces_key="REF_forces")
    assert found.settings == pytest.approx(labels.settings)
    np.testing.assert_allclose(found.gradients, labels.gradients, atol=1e-8)


def test_an_archive_comes_back(tmp_path, labels):
    path = tmp_path / "data.npz"
    write_sgdml(path, labels)
    same(read_foreign(path), labels)
    with np.load(path) as content:
        assert str(content["type"]) == "d" and str(content["e_unit"]) == "kcal/mol"
        np.testing.assert_allclose(content["R"], BOHR * labels.geometries)
        assert content["E_mean"] == pytest.approx(content["E"].mean())


def test_sgdml_knows_the_archive_by_its_fingerprint(tmp_path, labels):
    io = pytest.importorskip("sgdml.utils.io")
    write_sgdml(tmp_path / "data.npz", labels)
    data = dict(np.load(tmp_path / "data.npz"))
    assert io.dataset_md5(data) == data["md5"].item()


def test_what_cannot_be_written(tmp_path, labels):
    with pytest.raises(FFLUXError, match="no energies"):
        write_extxyz(tmp_path / "a.xyz", replace(labels, energies=None))
    with pytest.raises(FFLUXError, match="no gradients"):
        write_sgdml(tmp_path / "a.npz", replace(labels, gradients=None))
    with pytest.raises(FFLUXError, match="cannot be the name"):
        write_extxyz(tmp_path / "a.xyz", labels, energy_key="an energy")
    assert not list(tmp_path.iterdir())


def test_the_commands(tmp_path, monkeypatch, labels, capsys):
    """From a label file to sGDML's archive and back to a label file."""
    monkeypatch.chdir(tmp_path)
    append_labels(tmp_path / "labels.xyz", labels_of(labels), labels.origins)
    for _ in range(2):
        assert main(["export", "labels.xyz", "-o", "data.npz"]) == 0
    said = capsys.readouterr().out
    assert "data.npz: 20 labels of COHH (toy), with forces" in said
    assert "kept the earlier output as data.npz.~1~" in said
    assert main(["import", "data.npz", "-o", "back.xyz"]) == 0
    assert "back.xyz: 20 labels of COHH (toy), no moments, with gradients" in \
        capsys.readouterr().out
    same(read_dataset("back.xyz"), labels)


def test_summaries_of_the_commands(tmp_path, monkeypatch, labels, capsys):
    monkeypatch.chdir(tmp_path)
    append_labels(tmp_path / "labels.xyz", labels_of(labels), labels.origins)
    made = []
    for command in ("export labels.xyz -o data.npz", "import data.npz -o back.xyz"):
        assert main([*command.split(), "--json"]) == 0
        made.append(json.loads(capsys.readouterr().out))
        assert made[-1]["command"] == f"fflux {command} --json"
    assert [found["files"] for found in made] == [["data.npz"], ["back.xyz"]]
    for found in made:
        assert (found["labels"], found["molecule"], found["gradients"]) == (20, "COHH", True)
    assert made[1]["rank_of_moments"] is None and not made[1]["atomic_energies"]

    assert main("export labels.xyz -o data.xyz --keys REF_energy,REF_forces".split()) == 0
    assert "REF_forces" in (tmp_path / "data.xyz").read_text()
    for options, message in (
        ("labels.xyz -o data.h5", "the suffix says the format"),
        ("absent.xyz -o data.npz", "absent.xyz"),
        ("labels.xyz -o labels.xyz", "labels.xyz"),
    ):
        assert main(["export", *options.split()]) == 2
        assert message in capsys.readouterr().err
    assert is_label_file("labels.xyz")
    assert main("import data.npz -o data.npz".split()) == 2
    assert "would take the place of the input" in capsys.readouterr().err
