import json
from pathlib import Path

import numpy as np
import pytest
from ase.io import write

from ase_fflux.cli import systems
from ase_fflux.cli.main import main
from ase_fflux.simulate.vibrations.analysis import vibrations


@pytest.fixture
def work(tmp_path, monkeypatch, tetrahedron):
    """A folder with t.xyz, an irregular molecule, and 260 frames of its analytic motion."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(systems, "build_calculator", lambda args: tetrahedron.calc)
    monkeypatch.setattr(systems, "expected_errors", lambda calculator: {})
    modes = vibrations(tetrahedron)
    time = 2.0 * np.arange(260)
    q = 0.02 * np.cos(np.outer(time, 2 * np.pi * 2.99792458e-5 * modes.wavenumbers))
    frames = []
    for displaced in np.einsum("tk,kai->tai", q, modes.normal_coordinates):
        frame = tetrahedron.copy()
        frame.positions += displaced
        frames.append(frame)
    write("t.xyz", tetrahedron.copy())
    write("t.traj", frames)
    return modes


def test_of_a_trajectory(work, capsys):
    arguments = ["ir", "t.traj", "--model", "t", "--spacing", "2", "--blocks", "2"]
    assert main([*arguments, "--temperature", "200"]) == 0
    said = capsys.readouterr()
    assert said.err == "" and "harmonic quantum correction" in said.out
    summary = json.loads(Path("t-ir.json").read_text())
    assert summary["block_length"] == {"value": 0.26, "unit": "ps"}
    assert sum(band["modes"] for band in summary["bands"]) == len(work.wavenumbers)
    assert Path("t-ir.txt").read_text() in said.out
    rows = np.genfromtxt("t-ir.csv", delimiter=",", names=True)
    assert rows["wavenumber_per_cm"][-1] > work.wavenumbers[-1]
    assert Path("t-ir.png").stat().st_size > 0


def test_of_dynamics(work, capsys):
    assert main(["ir", "t.xyz", "--model", "t", "--blocks", "2", "--time", "0.15",
                 "--timestep", "2", "--interval", "1", "--temperature", "50", "--json"]) == 0
    said = capsys.readouterr()
    summary = json.loads(said.out)
    assert summary["blocks"] == 2 and summary["temperature"]["value"] == 50
    assert "2 trajectories of 0.15 ps: 1150 steps, about" in said.err


def test_what_is_too_short_is_said_before_it_is_run(work, capsys, monkeypatch):
    def run(*args, **kwargs):
        raise AssertionError("dynamics were run")

    monkeypatch.setattr("ase_fflux.simulate.vibrations.thermal.thermal_blocks", run)
    assert main(["ir", "t.traj", "--model", "t", "--time", "0.05"]) == 2
    assert "25 frames in a block are too few" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["--spacing", "2", "--time", "3"], "--time is of dynamics"),
        (["--spacing", "20"], "show nothing above"),
        (["--interval", "40"], "show nothing above"),
        (["--spacing", "2", "--blocks", "20"], "13 frames in a block are too few"),
    ],
)
def test_slips_are_one_line_and_leave_no_files(work, capsys, arguments, said):
    assert main(["ir", "t.traj", "--model", "t", *arguments]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert not list(Path().glob("*-ir*"))
