import json
import os
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.io import read, write

from ase_fflux import FFLUX
from ase_fflux.base.units import BOHR
from ase_fflux.cli import systems
from ase_fflux.cli.main import main
from ase_fflux.formats.bundle import write_bundle
from ase_fflux.simulate.md import files as dynamics_files
from ase_fflux.simulate.md.table import read_table


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch):
    """An empty folder with water.xyz."""
    monkeypatch.chdir(tmp_path)
    write("water.xyz", molecule("H2O"))


@pytest.fixture
def no_picture(monkeypatch):
    monkeypatch.setattr(dynamics_files, "plot_dynamics", lambda *args, **kwargs: None)


def md(*arguments, file="water.xyz"):
    return main(["md", file, "--model", "water", "--time", "0.05", *arguments])


def interrupt_after(monkeypatch, calls):
    """Make Ctrl-C out of a force call, and a restart point out of every step."""
    calculate, done = FFLUX.calculate, []

    def interrupted(self, *args, **kwargs):
        done.append(1)
        if len(done) > calls:
            monkeypatch.setattr(FFLUX, "calculate", calculate)
            raise KeyboardInterrupt
        calculate(self, *args, **kwargs)

    monkeypatch.setattr(FFLUX, "calculate", interrupted)
    monkeypatch.setattr(dynamics_files, "_INTERVAL", -1.0)


def test_nvt_then_nve(capsys):
    assert md("--temperature", "250") == 0
    said = capsys.readouterr()
    assert "temperature" in said.out and "error bar of water" in said.out and said.err == ""
    summary = json.loads(Path("water-md.json").read_text())
    assert summary["command"] == (
        "fflux md water.xyz --model water --time 0.05 --temperature 250"
    )
    assert (summary["ensemble"], summary["temperature_K"], summary["steps"]) == ("nvt", 250.0, 100)
    assert sorted(summary["files"]) == sorted(map(str, Path().glob("water-md.*")))
    assert md("--ensemble", "nve", file="water-md.xyz") == 0
    assert "drift" in capsys.readouterr().out
    summary = json.loads(Path("water-md-md.json").read_text())
    assert summary["initial_momenta"] == "input"
    assert abs(summary["drift_meV_per_atom"]) < summary["largest_departure_meV_per_atom"] < 3
    before, after = read("water-md.traj", -1), read("water-md-md.traj", 0)
    assert after.get_momenta() == pytest.approx(before.get_momenta(), abs=1e-7)


def test_interrupted_run_goes_on(no_picture, monkeypatch, capsys):
    assert md("-o", "whole") == 0
    interrupt_after(monkeypatch, 43)
    assert md() == 130
    said = capsys.readouterr()
    assert "the same command goes on from the restart point in water-md.restart.npz" in said.out
    assert not Path("water-md.json").exists()
    assert md() == 0
    assert "going on after" in capsys.readouterr().out
    assert not list(Path().glob("*.~*")) and not list(Path().glob("*.restart*"))
    assert Path("water-md.log").read_text() == Path("whole.log").read_text()
    assert Path("water-md.xyz").read_text() == Path("whole.xyz").read_text()
    for one, other in zip(read("water-md.traj", ":"), read("whole.traj", ":"), strict=True):
        assert (one.positions == other.positions).all()
        assert (one.get_momenta() == other.get_momenta()).all()


BOX = (
    "--short-range", "O-O=lj,0.0079,3.17", "--short-range", "O-H=lj,0.0011,1.902",
    "--short-range-cutoff", "6", "--timestep", "0.5", "--interval", "2",
)


def box_of_water():
    """Two molecules in a cell, one of them across its boundary."""
    box = molecule("H2O")
    other = molecule("H2O")
    other.translate([2.2, 2.2, 2.2])
    box += other
    box.set_cell([4.4, 4.3, 4.2])
    box.pbc = True
    box.wrap()
    write("box.xyz", box, format="extxyz")


@pytest.mark.parametrize(
    "ensemble",
    [["nve"], ["npt"], ["npt", "--barostat", "full"], ["nvt", "--thermostat", "nose-hoover"]],
)
def test_a_box_that_was_interrupted_goes_on(ensemble, no_picture, monkeypatch, capsys):
    box_of_water()
    command = ("--ensemble", *ensemble, *BOX)
    assert md(*command, "-o", "whole", file="box.xyz") == 0
    said = capsys.readouterr().out
    assert "density 0.7" in said and "bar" in said
    interrupt_after(monkeypatch, 43)
    assert md(*command, file="box.xyz") == 130
    assert md(*command, file="box.xyz") == 0
    assert "going on after" in capsys.readouterr().out
    assert Path("box-md.log").read_text() == Path("whole.log").read_text()
    assert Path("box-md.xyz").read_text() == Path("whole.xyz").read_text()
    for one, other in zip(read("box-md.traj", ":"), read("whole.traj", ":"), strict=True):
        assert (one.positions == other.positions).all() and (one.cell == other.cell).all()
        assert (one.get_momenta() == other.get_momenta()).all()


def test_the_table_of_a_box(no_picture):
    box_of_water()
    assert md("--ensemble", "npt", "--pressure", "100", *BOX, file="box.xyz") == 0
    table = read_table(Path("box-md.log"))
    assert list(table) == [
        "time", "potential", "kinetic", "total", "temperature", "min.coverage", "conserved",
        "volume", "density", "pressure", "p.xx", "p.yy", "p.zz", "p.yz", "p.xz", "p.xy",
    ]
    frames = read("box-md.traj", ":")
    assert table["volume"] == pytest.approx([f.get_volume() for f in frames], abs=1e-4)
    assert np.ptp(table["volume"]) > 0
    diagonal = table["p.xx"] + table["p.yy"] + table["p.zz"]
    assert table["pressure"] == pytest.approx(diagonal / 3, abs=2e-3)
    summary = json.loads(Path("box-md.json").read_text())
    assert summary["pressure_bar"] == 100 and summary["barostat"] == "isotropic"
    assert summary["density_mean_g_per_cm3"] == pytest.approx(table["density"].mean())
    # whole molecules in every frame, though one came across the boundary
    for frame in frames:
        assert np.ptp(frame.positions.reshape(2, 3, 3), axis=1).max() < 2


def test_half_molecules_and_overlaps_are_refused(capsys):
    box_of_water()
    box = read("box.xyz")
    write("half.xyz", box[:-1], format="extxyz")
    assert md(*BOX, file="half.xyz") == 2
    error = capsys.readouterr().err
    assert error.startswith("fflux: error: ") and error.count("\n") == 1
    box.positions[3:] += [0.0, 0.0, 1.0]
    box.set_cell([4.4, 4.3, 2.4])
    write("near.xyz", box, format="extxyz")
    assert md(*BOX, file="near.xyz") == 2
    error = capsys.readouterr().err
    assert error.startswith("fflux: error: ") and error.count("\n") == 1
    assert not list(Path().glob("*-md*"))


def test_atoms_that_leave_the_training_data_are_named(no_picture, capsys):
    assert md("--temperature", "3000", "--interval", "1") == 0
    said = capsys.readouterr()
    assert said.err.startswith("fflux: warning: atom")
    assert "outside of the training data: " in said.out and "farthest atom" in said.out
    summary = json.loads(Path("water-md.json").read_text())
    atoms = summary["farthest_outside_training_data"]
    assert summary["atoms_outside_training_data"] == len(atoms) > 0
    assert atoms[0]["coverage_min"] == pytest.approx(summary["coverage_min"], abs=1e-6)


def test_a_second_command_is_refused_while_the_first_runs(monkeypatch, capsys):
    said = []

    def again(*args, **kwargs):
        said.append((md(), capsys.readouterr().err))

    monkeypatch.setattr(dynamics_files, "plot_dynamics", again)
    assert md() == 0
    status, error = said[0]
    assert status == 2 and error.count("\n") == 1
    assert f"process {os.getpid()}" in error and "water-md.lock" in error
    assert not Path("water-md.lock").exists() and not list(Path().glob("*.~*"))


def test_damage_is_one_line(no_picture, monkeypatch, capsys):
    interrupt_after(monkeypatch, 43)
    assert md() == 130
    capsys.readouterr()
    log = Path("water-md.log")
    log.write_text(log.read_text().replace("-", "+", 1))
    assert md() == 2
    error = capsys.readouterr().err
    assert error.startswith("fflux: error: water-md.log is damaged") and error.count("\n") == 1
    assert "delete water-md.restart.npz" in error and not list(Path().glob("*.~*"))
    Path("water-md.restart.npz").unlink()
    assert md() == 0 and Path("water-md.log.~1~").exists()


def test_interrupt_before_the_first_sample(monkeypatch, capsys):
    interrupt_after(monkeypatch, 0)
    assert md() == 130
    assert capsys.readouterr().err == "fflux: interrupted\n"
    assert not list(Path().glob("water-md*"))


def test_earlier_output_is_kept(no_picture, monkeypatch, capsys):
    md()
    first = Path("water-md.json").read_text()
    md()
    assert Path("water-md.json.~1~").read_text() == first
    interrupt_after(monkeypatch, 20)
    assert md("--seed", "2") == 130
    capsys.readouterr()
    assert md("--seed", "3") == 0
    assert "water-md.restart.npz.~3~" in capsys.readouterr().out
    assert json.loads(Path("water-md.json").read_text())["seed"] == 3


def test_uncertainty_is_a_column(no_picture, make_shared, capsys):
    model = make_shared()
    write_bundle("fluoromethane.fflux", model)
    write("start.xyz", Atoms(model.symbols, BOHR * model.reference_geometry))
    status = main([
        "md", "start.xyz", "--model", "fluoromethane.fflux", "--temperature", "30", "--time",
        "0.02", "--interval", "20", "--on-low-coverage", "ignore", "--uncertainty",
    ])
    said = capsys.readouterr().out
    assert status == 0 and "factorising the covariance" in said
    calculator = FFLUX("fluoromethane.fflux", on_low_coverage="ignore")
    expected = [
        calculator.get_uncertainty(frame).energy for frame in read("start-md.traj", ":")
    ]
    table = np.loadtxt("start-md.log")
    assert table.shape == (3, 7) and len(set(expected)) == 3
    assert table[:, -1] == pytest.approx(expected, abs=1e-8, rel=1e-6)
    summary = json.loads(Path("start-md.json").read_text())
    assert summary["uncertainty_mean_eV"] == pytest.approx(np.mean(expected), abs=1e-8, rel=1e-6)
    assert f"standard deviation of the predicted energy: mean {np.mean(expected):.2g} eV" in said


def test_models_without_uncertainty(no_picture, make_shared, capsys):
    model = make_shared(gradients=False)
    write_bundle("fluoromethane.fflux", model)
    write("start.xyz", Atoms(model.symbols, BOHR * model.reference_geometry))
    assert main(["md", "start.xyz", "--model", "fluoromethane.fflux", "--uncertainty"]) == 2
    assert "not trained on gradients" in capsys.readouterr().err
    assert not list(Path().glob("start-md*"))


def test_the_assignment_of_the_start_is_kept(no_picture, monkeypatch):
    build, made = systems.build_calculator, []

    def recorded(args):
        made.append(build(args))
        return made[0]

    monkeypatch.setattr(systems, "build_calculator", recorded)
    assert md() == 0
    start = read("water-md.traj", 0)
    found = FFLUX("water").forcefield.match(start.positions / BOHR, start.numbers)
    assert made[0].parameters.assignment == {"water": found.atoms_of_model[0].tolist()}


def test_low_coverage(no_picture, capsys):
    wide = molecule("H2O")
    wide.set_angle(1, 0, 2, 170)
    write("far.xyz", wide)
    assert md("--on-low-coverage", "raise", file="far.xyz") == 2
    assert "coverage" in capsys.readouterr().err and not list(Path().glob("far-md*"))
    # reached on the way: the samples up to there are kept
    assert md("--on-low-coverage", "raise", "--temperature", "20000", "--interval", "1") == 2
    said = capsys.readouterr().err
    assert said.startswith("fflux: error: after 0.0") and "coverage" in said
    assert len(read("water-md.traj", ":")) == len(np.loadtxt("water-md.log", ndmin=2)) > 1
    assert md("--temperature", "20000", "--interval", "1") == 0
    assert capsys.readouterr().err.startswith("fflux: warning: atom")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--temperature", "0"], ["--time", "-1"], ["--timestep", "x"], ["--interval", "0"],
        ["--ensemble", "nph"], ["--seed", "0"], ["--pressure", "inf"],
        ["--equilibration", "-1"], ["--friction", "0"], ["--tim", "1"],
    ],
)
def test_wrong_arguments(arguments, capsys):
    with pytest.raises(SystemExit) as done:
        md(*arguments)
    assert done.value.code == 2
    assert arguments[0] in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["--ensemble", "nve", "--friction", "1"], "thermostat"), (["--interval", "101"], "100 st"),
        (["--model", "nothing"], "nothing"),
        (["--ensemble", "npt"], "periodic in three directions"),
        (["--pressure", "2"], "pressure is npt's"), (["--equilibration", "1"], "leaves nothing"),
    ],
)
def test_slips_are_one_line_and_touch_nothing(arguments, said, capsys):
    assert md(*arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("fflux: error: ") and said in error and error.count("\n") == 1
    assert list(map(str, Path().iterdir())) == ["water.xyz"]


def test_model_is_required(capsys):
    assert main(["md", "water.xyz"]) == 2
    assert "which model? Give --model" in capsys.readouterr().err


def test_help_teaches(capsys):
    with pytest.raises(SystemExit):
        main(["md", "--help"])
    out = capsys.readouterr().out
    assert "--ensemble nve --time 100" in out and "restart" in out
