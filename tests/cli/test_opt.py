import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from ase.build import molecule
from ase.io import read, write

from ase_fflux.base.errors import FFLUXError, TopologyError
from ase_fflux.cli import systems
from ase_fflux.cli.main import main

tblite = pytest.importorskip("tblite.ase", exc_type=ImportError)


@pytest.fixture
def calculator():
    return tblite.TBLite(method="GFN2-xTB", verbosity=0)


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch, calculator):
    """An empty folder with water.xyz; the calculator stands in for FFLUX."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(systems, "build_calculator", lambda args: calculator)
    monkeypatch.setattr(systems, "expected_errors", lambda calculator: {})
    write("water.xyz", molecule("H2O"))


def opt(*arguments):
    return main(["opt", "water.xyz", "--model", "water", *arguments])


def test_converged(capsys):
    assert opt() == 0
    said = capsys.readouterr()
    assert "converged after" in said.out and said.err == ""
    summary = json.loads(Path("water-opt.json").read_text())
    assert summary["converged"] is True
    assert summary["command"] == "fflux opt water.xyz --model water"
    assert summary["model"] == ["water"] and summary["input"] == "water.xyz"
    forces = read("water-opt.xyz").get_forces()
    assert np.linalg.norm(forces, axis=1).max() < 0.001
    assert sorted(summary["files"]) == sorted(map(str, Path().glob("water-opt.*")))


def test_not_converged():
    assert opt("--steps", "1") == 1
    assert json.loads(Path("water-opt.json").read_text())["converged"] is False
    assert len(read("water-opt.traj", ":")) == 2


def test_uncertainty_is_a_column(calculator, monkeypatch, capsys):
    asked = []

    def stated(atoms):
        asked.append(atoms)
        return SimpleNamespace(energy=0.001 * len(asked))

    monkeypatch.setattr(calculator, "get_uncertainty", stated, raising=False)
    assert opt("--uncertainty") == 0
    said = capsys.readouterr().out
    head, *_ = Path("water-opt.log").read_text().splitlines()
    assert head.endswith("min.coverage uncertainty/eV")
    column = [float(line.split()[-1]) for line in Path("water-opt.log").open().readlines()[1:]]
    # the first call of all is before any file is touched
    assert column == pytest.approx(0.001 * np.arange(2, len(asked) + 1))
    summary = json.loads(Path("water-opt.json").read_text())
    assert summary["uncertainty_final_eV"] == pytest.approx(0.001 * len(asked))
    assert f"standard deviation of the predicted energy: {0.001 * len(asked):.2g} eV" in said
    assert "factorising the covariance" in said


def test_no_uncertainty_no_file(calculator, monkeypatch, capsys):
    def stated(atoms):
        raise FFLUXError("states no uncertainty")

    monkeypatch.setattr(calculator, "get_uncertainty", stated, raising=False)
    assert opt("--uncertainty") == 2
    assert "states no uncertainty" in capsys.readouterr().err
    assert not list(Path().glob("water-opt*"))


def test_earlier_output_is_kept(capsys):
    opt("--steps", "1")
    first = Path("water-opt.json").read_text()
    capsys.readouterr()
    opt("--fmax", "0.01", "--optimizer", "lbfgs")
    assert "water-opt.json.~1~" in capsys.readouterr().out
    assert Path("water-opt.json.~1~").read_text() == first
    assert json.loads(Path("water-opt.json").read_text())["optimizer"] == "lbfgs"


def test_input_under_an_output_name_is_refused_and_kept(capsys):
    before = Path("water.xyz").read_text()
    assert opt("-o", "water") == 2
    assert "take the place of the input" in capsys.readouterr().err
    assert Path("water.xyz").read_text() == before and not Path("water.json").exists()


def test_frame_is_said_and_used(capsys):
    images = [molecule("H2O"), molecule("H2O")]
    images[1].rattle(0.05)
    write("water.xyz", images)
    opt("--steps", "1")
    assert "frame 1 of 0 to 1" in capsys.readouterr().out
    assert read("water-opt.traj", 0).positions == pytest.approx(images[1].positions, abs=1e-7)
    opt("--steps", "1", "--index", "0")
    assert read("water-opt.traj", 0).positions == pytest.approx(images[0].positions, abs=1e-7)


def test_interrupt(calculator, capsys):
    calculate, calls = calculator.calculate, []

    def interrupted(*args, **kwargs):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        calculate(*args, **kwargs)

    calculator.calculate = interrupted
    assert opt("--fmax", "1e-5") == 130
    assert "interrupted after" in capsys.readouterr().out
    summary = json.loads(Path("water-opt.json").read_text())
    assert summary["interrupted"] is True and summary["converged"] is False
    assert len(read("water-opt.traj", ":")) == summary["steps"] + 1
    assert Path("water-opt.xyz").exists()


def test_bad_input_leaves_earlier_output_in_place(capsys):
    opt()
    Path("water.xyz").write_text("rubbish")
    capsys.readouterr()
    assert opt() == 2
    error = capsys.readouterr().err
    assert error.startswith("fflux: error: water.xyz, line 1: ") and error.count("\n") == 1
    assert not list(Path().glob("*.~*"))


def test_atoms_that_no_model_fits_leave_earlier_output_in_place(calculator, capsys):
    opt()

    def unfit(*args, **kwargs):
        raise TopologyError("no model fits")

    calculator.calculate = unfit
    calculator.reset()
    assert opt() == 2
    assert capsys.readouterr().err == "fflux: error: no model fits\n"
    assert not list(Path().glob("*.~*"))


@pytest.mark.parametrize(
    "arguments", [["--fmax", "0"], ["--steps", "0"], ["--optimizer", "newton"], ["--fmaxx", "1"]]
)
def test_wrong_arguments(arguments, capsys):
    with pytest.raises(SystemExit) as done:
        opt(*arguments)
    assert done.value.code == 2
    assert arguments[0] in capsys.readouterr().err


def test_model_is_required(capsys):
    assert main(["opt", "water.xyz"]) == 2
    assert "which model? Give --model" in capsys.readouterr().err


def test_help_teaches(capsys):
    with pytest.raises(SystemExit):
        main(["opt", "--help"])
    out = capsys.readouterr().out
    assert "fflux opt ethanol.xyz --model ethanol" in out and "eV/A" in out


def test_a_cell(tmp_path, capsys):
    box = molecule("H2O", cell=[3.3, 3.4, 3.5], pbc=True)
    write("box.xyz", box, format="extxyz")
    status = main([
        "opt", "box.xyz", "--model", "water", "--cell", "--fmax", "0.02", "--pressure", "1000",
        "--short-range", "O-O=lj,0.0079,3.17", "--short-range", "O-H=lj,0.0011,1.902",
        "--short-range-cutoff", "5", "--on-low-coverage", "ignore", "--steps", "200",
    ])
    said = capsys.readouterr().out
    assert status == 0 and "cell " in said and " bar" in said
    head, *lines = Path("box-opt.log").read_text().splitlines()
    assert head.split()[-2:] == ["volume/A^3", "pressure/bar"]
    last = read("box-opt.xyz")
    volume, pressure = map(float, lines[-1].split()[-2:])
    assert volume == pytest.approx(last.get_volume(), abs=1e-3)
    summary = json.loads(Path("box-opt.json").read_text())
    assert summary["pressure_final_bar"] == pytest.approx(pressure, abs=1e-2)
    assert summary["cell_lengths_final_A"] == pytest.approx(last.cell.lengths(), abs=1e-6)


def test_a_cell_that_there_is_not(capsys):
    assert main(["opt", "water.xyz", "--model", "water", "--cell"]) == 2
    error = capsys.readouterr().err
    assert "not periodic in three directions" in error and error.count("\n") == 1
    assert not list(Path().glob("water-opt*"))
