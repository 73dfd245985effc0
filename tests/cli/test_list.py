import json

import pytest

from ase_fflux.cli.list import about, table
from ase_fflux.cli.main import main
from ase_fflux.formats import locate


def test_bundled_models_say_what_they_are_good_for(capsys):
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("model") and "energy/(kJ/mol)" in lines[0]
    (ethanol,) = (line for line in lines if line.startswith("ethanol "))
    assert "C2H6O" in ethanol and "GFN2-xTB" in ethanol and " 300 " in ethanol
    assert any("not IQA" in line for line in lines)


def test_numbers_and_units_stand_apart(capsys):
    assert main(["list", "--json"]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    (ethanol,) = (m for m in json.loads(said.out)["models"] if m["name"] == "ethanol")
    assert ethanol["formula"] == "C2H6O" and ethanol["minima"] == 3
    assert ethanol["sampled_at"] == {"value": 500.0, "unit": "K"}
    assert ethanol["errors"]["energy RMSE"]["unit"] == "kJ/mol"
    assert sum(ethanol["labels"]["by_origin"].values()) == ethanol["labels"]["total"]
    assert len(ethanol["symbols"]) == 9


def _header(errors):
    return {"symbols": ["O", "H", "H"], "provenance": {"errors": errors},
            "processes": [{"properties": ["iqa"]}]}


def test_the_worst_minimum_is_shown_and_total_energies_are_not_atomic_ones(tmp_path):
    errors = {
        "energy RMSE": {"value": 1.5, "unit": "kJ/mol"},
        "atomic energy RMSE": {"value": 9.0, "unit": "kJ/mol"},
        "minimum 1: wavenumber MAE": {"value": 0.25, "unit": "cm-1"},
        "minimum 2: wavenumber MAE": {"value": 0.75, "unit": "cm-1"},
    }
    model = about(tmp_path / "w.fflux", _header(errors))
    assert model["minima"] == 2 and model["moments"] is None and model["labels"] is None
    row = table([model])[1]
    assert " 1.5 " in row and " 0.75 " in row and " 9 " not in row


def test_a_model_that_records_nothing_has_dashes(tmp_path):
    row = table([about(tmp_path / "w.fflux", _header({}))])[1].split()
    assert row == ["w", "H2O", "-", "-", "-", "-", "none", *"-----"]


def test_an_installation_without_models(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(locate, "_PACKAGE", tmp_path / "nowhere" / "ase_fflux")
    assert main(["list"]) == 0
    assert "no bundled models" in capsys.readouterr().out


def test_json_before_the_verb_is_no_json(capsys):
    with pytest.raises(SystemExit) as done:
        main(["--json", "list"])
    assert done.value.code == 2
    assert "after the verb" in capsys.readouterr().err
