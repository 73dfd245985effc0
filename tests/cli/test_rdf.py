import json

import numpy as np
import pytest
from ase.build import bulk
from ase.io import write

from ase_fflux.cli.main import main


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch):
    """An empty folder with crystal.traj: three frames of salt."""
    monkeypatch.chdir(tmp_path)
    salt = bulk("NaCl", "rocksalt", a=5.64, cubic=True).repeat(2)
    frames = [salt.copy() for _ in range(3)]
    frames[0].set_cell(1.2 * salt.cell, scale_atoms=True)
    write("crystal.traj", frames)


def table(path="crystal-rdf.csv"):
    return np.genfromtxt(path, delimiter=",", names=True, deletechars="")


def test_table_and_picture(tmp_path, capsys):
    assert main(["rdf", "crystal.traj", "--frames", "1:", "--width", "0.1"]) == 0
    said = capsys.readouterr().out
    assert "g(Cl-Na): highest" in said and "at 2.850 A" in said
    found = table()
    assert found.dtype.names == (
        "r_A", "g(Cl-Cl)", "g(Cl-Na)", "g(Na-Na)", "n(Cl-Cl)", "n(Cl-Na)", "n(Na-Na)"
    )
    assert found["r_A"][-1] == pytest.approx(5.55)
    assert found["n(Cl-Na)"][np.searchsorted(found["r_A"], 3.0)] == 6
    assert found["n(Cl-Cl)"][np.searchsorted(found["r_A"], 4.2)] == 12
    assert (tmp_path / "crystal-rdf.png").stat().st_size > 10_000


def test_summary(capsys):
    assert main(["rdf", "crystal.traj", "--frames", "1:", "--width", "0.1", "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    found, peak = table(), summary["pairs"]["Cl-Na"]
    assert peak["at"]["value"] == pytest.approx(2.85) and peak["at"]["unit"] == "A"
    assert peak["highest"]["value"] == pytest.approx(found["g(Cl-Na)"].max())
    assert summary["frames"] == 2 and "crystal-rdf.csv" in summary["files"]


def test_choices(capsys):
    command = ["rdf", "crystal.traj", "--pair", "Na-Cl", "--r-max", "4", "--frames", "0"]
    assert main(command) == 0
    found = table()
    assert found.dtype.names == ("r_A", "g(Na-Cl)", "n(Na-Cl)")
    assert found["r_A"][found["g(Na-Cl)"].argmax()] == pytest.approx(1.2 * 2.82, abs=0.026)
    assert main(command) == 0
    assert "kept the earlier output as crystal-rdf.csv.~1~" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["--frames", "3:"], "the file has 3"), (["--pair", "Na-O"], "no atom is O"),
        (["--pair", "Na-water"], "'water' is no site"), (["--r-max", "0.01"], "do not fit"),
        (["--r-max", "1e30"], "give less (--r-max)"), (["--width", "1e-30"], "make them wider"),
        (["--width", "1e-7"], "make them wider"),
    ],
)
def test_slips_are_one_line_and_touch_nothing(arguments, said, tmp_path, capsys):
    assert main(["rdf", "crystal.traj", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("fflux: error: ") and said in error and error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["crystal.traj"]


@pytest.mark.parametrize("arguments", [["--frames", "a"], ["--frames", "::0"], ["--pair", "O"]])
def test_wrong_arguments(arguments, capsys):
    with pytest.raises(SystemExit):
        main(["rdf", "crystal.traj", *arguments])
    assert arguments[0] in capsys.readouterr().err
