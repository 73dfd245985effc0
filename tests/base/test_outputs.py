import json

import numpy as np
import pytest

from ase_fflux.base.outputs import OutputFiles, versions, write_csv, write_json


def test_names_and_folder(tmp_path):
    files = OutputFiles(tmp_path / "runs" / "water", [".xyz", "-modes/"])
    assert files.set_aside() is None
    assert files[".xyz"] == tmp_path / "runs" / "water.xyz"
    assert files["-modes/"].name == "water-modes"
    assert files.written == []
    files[".xyz"].touch()
    assert files.written == [str(files[".xyz"])]


def test_nothing_is_lost(tmp_path):
    files = OutputFiles(tmp_path / "water", [".xyz", ".json", "-modes/"])
    for run in ("first", "second", "third"):
        said = files.set_aside()
        assert (said is None) == (run == "first")
        files[".xyz"].write_text(run)
        files["-modes/"].mkdir()
        (files["-modes/"] / "mode").write_text(run)
    for number, run in ((1, "first"), (2, "second")):
        assert (tmp_path / f"water.xyz.~{number}~").read_text() == run
        assert (tmp_path / f"water-modes.~{number}~" / "mode").read_text() == run
    assert files[".xyz"].read_text() == "third"
    assert "water.xyz.~2~" in said and "water-modes.~2~" in said and "json" not in said


def test_files_of_one_run_share_a_number(tmp_path):
    (tmp_path / "water.json.~1~").write_text("older")
    files = OutputFiles(tmp_path / "water", [".xyz", ".json"])
    files[".xyz"].write_text("a")
    files[".json"].write_text("b")
    files.set_aside()
    assert (tmp_path / "water.xyz.~2~").read_text() == "a"
    assert (tmp_path / "water.json.~2~").read_text() == "b"
    assert (tmp_path / "water.json.~1~").read_text() == "older"


def test_json_takes_numpy_and_refuses_nan(tmp_path):
    content = {"a": np.arange(3), "b": np.float64(0.1), "c": None, "d": np.bool_(True)}
    write_json(tmp_path / "x.json", content)
    read = json.loads((tmp_path / "x.json").read_text())
    assert read == {"a": [0, 1, 2], "b": 0.1, "c": None, "d": True}
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "x.json", {"a": np.nan})
    with pytest.raises(TypeError, match="object"):
        write_json(tmp_path / "x.json", {"a": object()})


def test_csv_restores_every_digit(tmp_path):
    columns = {"n": np.arange(3), "x": np.array([0.1, 1 / 3, -1e-30])}
    write_csv(tmp_path / "x.csv", columns)
    read = np.genfromtxt(tmp_path / "x.csv", delimiter=",", names=True)
    assert (read["n"] == columns["n"]).all()
    assert (read["x"] == columns["x"]).all()
    with pytest.raises(ValueError):
        write_csv(tmp_path / "x.csv", {"n": [1], "x": [1, 2]})


def test_versions_name_what_numbers_depend_on():
    assert {"ase_fflux", "ase", "numpy", "phonopy", "python"} == set(versions())
