"""Dynamics of a run directory of DL_FFLUX."""

import json
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.io import read

from ase_fflux import FFLUX, ForceField
from ase_fflux.base.units import BOHR, HARTREE
from ase_fflux.cli.main import main
from ase_fflux.forcefield.interactions.pairs import ShortRange
from ase_fflux.run_directory import write_dlpoly

pytestmark = pytest.mark.filterwarnings("ignore:the cell has a net charge")


@pytest.fixture(autouse=True)
def run(tmp_path, monkeypatch, methyl_model, plausible):
    """A folder with the directory run/: two molecules in a box with velocities, steps of 0.1 fs."""
    monkeypatch.chdir(tmp_path)
    model = plausible(methyl_model)
    shape = BOHR * model.reference_geometry
    atoms = Atoms(2 * model.symbols, np.concatenate([shape, shape + (6.3, 0.4, 0.2)]))
    atoms.set_cell([13.0, 12.5, 12.8])
    atoms.pbc = True
    atoms.set_momenta(0.3 * np.random.default_rng(0).normal(size=(10, 3)))
    pairs = ShortRange.from_dict({"C-C": {"lj": [0.005, 3.4]}}, 6.0)
    atoms.calc = FFLUX(ForceField([model], short_range=pairs))
    write_dlpoly("run", atoms)
    control = Path("run/CONTROL")
    text = control.read_text().replace("timestep 0.0005", "timestep 0.0001")
    control.write_text(text.replace("steps 1000", "steps 6").replace("stats every 10", "stats 2"))
    return atoms


def summary():
    return json.loads(Path("run-md.json").read_text())


def change(old, new):
    control = Path("run/CONTROL")
    assert old in control.read_text()
    control.write_text(control.read_text().replace(old, new))


def test_as_control_says(run, capsys):
    assert main(["md", "run"]) == 0
    assert "CONTROL" not in capsys.readouterr().out  # nothing is done otherwise
    found = summary()
    assert (found["ensemble"], found["steps"], found["timestep_fs"]) == ("nve", 6, 0.1)
    frames = read("run-md.traj", ":")
    assert len(frames) == 4
    momenta = run.get_momenta()
    momenta -= np.outer(run.get_masses(), momenta.sum(axis=0) / run.get_masses().sum())
    np.testing.assert_allclose(frames[0].get_momenta(), momenta, atol=1e-6)


def test_what_is_done_otherwise_is_named(capsys):
    change("ensemble nve", "ensemble npt hoover 0.1 0.2\nfloat 3")
    assert main(["md", "run"]) == 0
    out = capsys.readouterr().out
    assert "CONTROL, line 2: 'ensemble npt hoover 0.1 0.2': Nose-Hoover chains" in out
    assert "CONTROL, line 3: 'float 3' is not known here, and nothing is done" in out
    assert summary()["ensemble"] == "npt"
    frames = read("run-md.traj", ":")
    assert frames[-1].cell.volume != frames[0].cell.volume


def test_options_come_before_control(capsys):
    change("ensemble nve", "ensemble npt hoover 0.1 0.2")
    assert main(["md", "run", "--ensemble", "nvt", "--temperature", "200", "--time", "0.0004",
                 "--interval", "1", "--seed", "3"]) == 0
    assert "Martyna" not in capsys.readouterr().out
    found = summary()
    assert (found["ensemble"], found["steps"]) == ("nvt", 4)
    assert read("run-md.traj", "0").get_kinetic_energy() == pytest.approx(
        0.5 * 27 * 8.617330e-5 * 200, rel=1e-5
    )


def test_slips(capsys):
    change("steps 6", "steps 0")
    assert main(["md", "run"]) == 2
    assert "no dynamics without `steps` above 0" in capsys.readouterr().err
    assert main(["md", "run", "--model", "water"]) == 2
    assert "leave --model away" in capsys.readouterr().err
    assert not list(Path().glob("run-md*"))


def test_optimisation_of_a_directory():
    assert main(["opt", "run", "--steps", "2"]) in (0, 1)
    assert Path("run-opt.xyz").is_file()


class TestOrder:
    """The models of a run directory know equivalent atoms apart by their order."""

    def turned(self, run):
        """The start of another run: its hydrogens are nearer to the training data otherwise."""
        geometry, forcefield = run.copy(), run.calc.forcefield
        rows = np.arange(10).reshape(2, 5)[:, [0, 1, 3, 4, 2]]
        geometry.positions = geometry.positions[rows.ravel()]
        found = forcefield.match(
            geometry.positions / BOHR, geometry.numbers, geometry.cell.array / BOHR, geometry.pbc
        )
        assert found.atoms_of_model[0].ravel().tolist() != list(range(10))
        geometry.calc = None
        geometry.write("turned.xyz")
        return forcefield.evaluate(
            geometry.positions / BOHR, geometry.numbers, geometry.cell.array / BOHR, geometry.pbc,
            forcefield.match(
                geometry.positions / BOHR, geometry.numbers, geometry.cell.array / BOHR,
                geometry.pbc, explicit=np.arange(10).reshape(2, 5).tolist(),
            ),
        ).energy * HARTREE

    def energy(self, *arguments):
        assert main(["sp", *arguments, "-o", "found"]) == 0
        return json.loads(Path("found.json").read_text())["frames"][0]["energy_eV"]

    def test_of_a_geometry_is_kept_there_and_back(self, run, capsys):
        energy = self.turned(run)
        quiet = ["--on-low-coverage", "ignore"]
        found = self.energy("turned.xyz", "--model", "run", *quiet)
        assert found == pytest.approx(energy, abs=1e-6)
        assert main(["convert", "turned.xyz", "back", "--model", "run"]) == 0
        assert "order" not in capsys.readouterr().out
        assert self.energy("back", *quiet) == pytest.approx(energy, abs=1e-6)

    def test_that_is_none_is_said(self, run, capsys):
        geometry = run[[1, 0, *range(2, 10)]]
        geometry.calc = None
        geometry.write("mixed.xyz")
        assert main(["sp", "mixed.xyz", "--model", "run"]) == 0
        assert "atoms are not in the order of FIELD" in capsys.readouterr().out


@pytest.mark.parametrize("source, output", [
    ("run/CONFIG", "run"), ("start.xyz", "run"), ("run/CONFIG", "."),
])
def test_what_is_read_is_not_written_over(run, capsys, source, output):
    run.copy().write("start.xyz")
    assert main(["convert", source, output, "--model", "run"]) == 2
    assert f"{output} is read here: choose another OUTPUT" in capsys.readouterr().err
    assert Path("run/CONFIG").is_file() and not list(Path().glob("*.~1~"))


def test_a_run_directory_is_no_geometry(capsys):
    assert main(["convert", "run", "other", "--model", "water"]) == 2
    assert "run is a run directory of DL_FFLUX already" in capsys.readouterr().err
