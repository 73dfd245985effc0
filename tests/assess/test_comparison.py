import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ase_fflux.assess.comparison import compare
from ase_fflux.assess.comparison_files import format_comparison
from ase_fflux.base.errors import LabelError
from ase_fflux.base.units import FORCE, HARTREE_KJ
from ase_fflux.cli.main import main
from ase_fflux.forcefield import ForceField
from ase_fflux.formats.bundle import write_bundle
from ase_fflux.labels.dataset import append_labels
from ase_fflux.labels.label import Dataset, labels_of


@pytest.fixture(scope="module")
def model(make_shared):
    """CH3F with moments up to quadrupoles."""
    return make_shared(rank=2)


@pytest.fixture(scope="module")
def exact(model):
    """Six labels that are the model's own predictions."""
    numbers = np.array([6, 9, 1, 1, 1])
    found = [
        ForceField([model]).evaluate(x, numbers, moments=True) for x in model.geometries[:6]
    ]
    return Dataset(
        model.symbols, model.geometries[:6], np.array([r.energy for r in found]),
        -np.array([r.forces for r in found]), np.array([r.energies for r in found]),
        np.array([r.moments for r in found]), np.array([r.dipole() for r in found]),
        np.array(["md", "md", "md", "nm", "nm", "nm"]), "springs",
    )


def test_own_predictions_have_no_error(model, exact):
    result = compare(model, exact)
    assert [q.name for q in result.quantities] == [
        "energy", "atomic energy", "force", "charge", "dipole", "moments of rank 1",
        "moments of rank 2",
    ]
    assert all(q.largest < 1e-9 for q in result.quantities)
    assert result.coverage == pytest.approx(1.0)


def test_errors_are_where_they_were_made_and_in_their_units(model, exact):
    gradients, energies = exact.gradients.copy(), exact.energies.copy()
    gradients[4, 3, 1] += 0.01
    energies[2] -= 0.002
    energies[5] += 0.001
    result = compare(model, replace(exact, gradients=gradients, energies=energies))
    force, energy = result["force"], result["energy"]
    assert force.worst == (4, 3) and result.where(force) == "frame 5, atom 4 (H)"
    assert force.largest == pytest.approx(0.01 * FORCE)
    assert force.rmse == pytest.approx(0.01 * FORCE / np.sqrt(6 * 5 * 3))
    assert force.of_frames.argmax() == 4
    assert energy.mean == pytest.approx(HARTREE_KJ * 0.001 / 6)
    assert energy.mae == pytest.approx(HARTREE_KJ * 0.003 / 6)
    assert result.where(energy) == "frame 3"
    text = "\n".join(format_comparison(result, "title"))
    assert "frame 5, atom 4 (H)" in text and "another level" not in text


def test_atoms_in_another_order(model, exact):
    order = [3, 0, 4, 1, 2]
    shuffled = Dataset(
        tuple(exact.symbols[i] for i in order), exact.geometries[:, order], exact.energies,
        exact.gradients[:, order], exact.atomic_energies[:, order], exact.moments[:, order],
        exact.dipoles,
    )
    assert all(q.largest < 1e-9 for q in compare(model, shuffled).quantities)


def test_only_what_the_data_have(model, exact):
    result = compare(model, Dataset(exact.symbols, exact.geometries, gradients=exact.gradients))
    assert [q.name for q in result.quantities] == ["force"]


def test_broken_molecules_are_left_out_and_told(model, exact):
    geometries = exact.geometries.copy()
    geometries[1, 4] += 9.0
    result = compare(model, replace(exact, geometries=geometries))
    assert result.frames.tolist() == [1, 3, 4, 5, 6] and list(result.left_out) == [2]
    assert any(line.startswith("left out: 1 frames; frame 2: ")
               for line in format_comparison(result, ""))
    geometries[:, 4] += 9.0
    with pytest.raises(LabelError, match="describes no frame of the data; frame 1: "):
        compare(model, replace(exact, geometries=geometries))


def test_data_with_nothing_to_compare(model, exact):
    with pytest.raises(LabelError, match="nothing to compare"):
        compare(model, Dataset(exact.symbols, exact.geometries))


def test_energies_of_another_level_are_told(model, exact):
    energies = exact.energies + 10.0
    energies[0] += 0.001
    result = compare(model, replace(exact, energies=energies))
    assert any("another level of theory" in line for line in format_comparison(result, ""))
    assert result["energy"].errors.std() == pytest.approx(HARTREE_KJ * 0.001 * np.sqrt(5) / 6)


@pytest.fixture
def work(tmp_path, monkeypatch, model, exact):
    """A folder with f.fflux and labels.xyz, whose third frame is off by 1 mHa."""
    monkeypatch.chdir(tmp_path)
    write_bundle("f.fflux", model)
    energies = exact.energies + 0.001 * (np.arange(6) == 2)
    data = replace(
        exact, energies=energies, atomic_energies=None, moments=None, dipoles=None, origins=None
    )
    append_labels("labels.xyz", labels_of(data), exact.origins)
    return tmp_path


def test_table_files_and_json(work, capsys):
    assert main(["test", "f.fflux", "labels.xyz"]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert Path("labels-test.txt").read_text() in said.out
    summary = json.loads(Path("labels-test.json").read_text())
    energy = summary["errors"]["energy"]
    assert energy["max"] == pytest.approx(HARTREE_KJ * 0.001, rel=1e-6)
    assert energy["unit"] == "kJ/mol" and energy["worst"] == {"frame": 3, "atom": None}
    assert summary["by_origin"]["md"]["frames"] == 3
    assert summary["by_origin"]["nm"]["energy"]["rmse"] == pytest.approx(0, abs=1e-6)
    rows = np.genfromtxt("labels-test.csv", delimiter=",", names=True, dtype=None)
    assert len(rows) == 6 and rows["frame"][0] == 1
    assert Path("labels-test.png").stat().st_size > 0
    assert main(["test", "f.fflux", "labels.xyz", "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert again["errors"] == summary["errors"]
    assert Path("labels-test.json.~1~").exists()


def test_what_is_no_data_is_refused(work, capsys):
    assert main(["test", "f.fflux", "none.xyz"]) == 2
    assert "none.xyz" in capsys.readouterr().err
    Path("bare.xyz").write_text("1\n\nH 0 0 0\n")
    assert main(["test", "f.fflux", "bare.xyz"]) == 2
    assert capsys.readouterr().err.startswith("fflux: error: bare.xyz")
    assert not list(Path().glob("*-test*"))
