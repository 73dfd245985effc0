"""Runs that leave what the models describe end; sane ones never come near."""

import json
from pathlib import Path

import numpy as np
import pytest
from ase.build import molecule
from ase.constraints import ExternalForce
from ase.io import read, write

from ase_fflux import FFLUX
from ase_fflux.base.errors import FFLUXError
from ase_fflux.cli.main import main
from ase_fflux.simulate.limits import (
    Limits,
    UnphysicalError,
    require_masses,
)
from ase_fflux.simulate.md.dynamics import Dynamics, DynamicsSettings


@pytest.fixture
def water():
    atoms = molecule("H2O")
    atoms.calc = FFLUX("water")
    return atoms


@pytest.fixture
def dimer(tmp_path, monkeypatch):
    """Two waters side by side, in a folder of their own."""
    monkeypatch.chdir(tmp_path)
    one, other = molecule("H2O"), molecule("H2O")
    other.rotate(120, "x")
    other.translate([0, 2.7, 0.2])
    write("dimer.xyz", one + other)


def test_limits(water):
    limits = Limits(water, 400.0)
    lowest = water.get_potential_energy()
    limits.check(lowest - 3 * 4.9, 39000.0)
    for values, said in (
        ((lowest - 3 * 5.1,), "eV per atom below"),
        ((lowest, 41000.0), r"4.1e\+04 K \(limit 4e\+04"),
    ):
        with pytest.raises(UnphysicalError, match=said):
            limits.check(*values)


def test_without_models_energies_have_no_limit(tetrahedron):
    Limits(tetrahedron).check(-1e9)


def test_a_collapse_is_no_success(dimer, capsys):
    ignore = ["--on-low-coverage", "ignore"]
    assert main(["opt", "dimer.xyz", "--model", "water", *ignore]) == 2
    error = capsys.readouterr().err.splitlines()
    assert error[-1].startswith("fflux: error: after ")
    summary = json.loads(Path("dimer-opt.json").read_text())
    assert not summary["converged"] and "eV per atom below" in summary["stopped"]
    table = np.loadtxt("dimer-opt.log")
    steps = read("dimer-opt.traj", ":")
    assert len(steps) == len(table) == summary["steps"] + 1 > 5
    assert steps[-1].get_potential_energy() == pytest.approx(summary["energy_final_eV"])
    assert read("dimer-opt.xyz").positions == pytest.approx(steps[-1].positions, abs=1e-7)
    assert main(["md", "dimer.xyz", "--model", "water", "--time", "2", "--seed", "3"]) == 2
    error = capsys.readouterr().err.splitlines()
    assert error[-1].startswith("fflux: error: after 0.")
    summary = json.loads(Path("dimer-md.json").read_text())
    assert not summary["completed"] and summary["stopped"] in error[-1]
    assert len(read("dimer-md.traj", ":")) == len(np.loadtxt("dimer-md.log"))


def test_absurd_temperatures(water, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write("w.xyz", molecule("H2O"))
    assert main(["md", "w.xyz", "--model", "water", "--temperature", "9e7"]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("fflux: error: after 0")
    assert not json.loads(Path("w-md.json").read_text())["completed"]


@pytest.mark.parametrize("settings, said", [
    (dict(timestep=1e300), "longer than any vibration"), (dict(timestep=np.nan), "longer than any"),
    (dict(time=1e308), "more than 1e.10 steps"), (dict(timestep=1e-300), "more than 1e.10 steps"),
    (dict(time=np.nan), "more than"),
    (dict(temperature=1e30), "a temperature of 1e.30 K: give at most"),
    (dict(ensemble="npt", pressure=-1e30), "a pressure of -1e.30 bar: give at most"),
    (dict(friction=1e30), "a friction of 1e.30 per ps"),
])
def test_settings_that_overflow(settings, said):
    with pytest.raises(FFLUXError, match=said):
        DynamicsSettings(**settings)


@pytest.mark.parametrize("mass", [0.0, -1.0, np.nan])
def test_masses(water, mass):
    water.set_masses([16.0, mass, 1.0])
    with pytest.raises(FFLUXError, match=r"\(H\) has a mass of"):
        require_masses(water)
    with pytest.raises(FFLUXError, match=r"\(H\) has a mass of"):
        Dynamics(water, DynamicsSettings())


def test_the_energy_of_a_constraint_counts_once(water):
    water.set_constraint(ExternalForce(0, 1, 0.3))
    total = water.get_potential_energy()
    assert abs(total - water.get_potential_energy(apply_constraint=False)) > 0.1
    sample = Dynamics(water, DynamicsSettings(time=0.01)).sample()
    assert sample.potential == pytest.approx(total, abs=1e-12)
    assert sample.atoms.get_potential_energy() == pytest.approx(total, abs=1e-12)


@pytest.mark.parametrize("value", ["nan", "-0.1", "1.1", "inf"])
def test_coverage_is_from_0_to_1(dimer, value, capsys):
    with pytest.raises(SystemExit) as done:
        main(["opt", "dimer.xyz", "--model", "water", "--min-coverage", value])
    assert done.value.code == 2 and "from 0 to 1" in capsys.readouterr().err
    with pytest.raises(FFLUXError, match="from 0 to 1"):
        FFLUX("water", min_coverage=float(value))


@pytest.mark.parametrize("verb, name", [("opt", "a.xyz"), ("md", "a.traj"), ("vib", "a.json")])
def test_the_input_is_not_set_aside(dimer, capsys, verb, name):
    write(name, molecule("H2O"))
    before = Path(name).read_bytes()
    assert main([verb, name, "--model", "water", "-o", "a"]) == 2
    error = capsys.readouterr().err
    assert f"the output {name} would take the place of the input" in error
    assert Path(name).read_bytes() == before and not list(Path().glob("*.~*"))
