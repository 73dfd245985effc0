import importlib
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from ase import Atoms, units
from ase.calculators.calculator import Calculator
from ase.constraints import FixAtoms
from ase.io import read

from ase_fflux import FFLUX
from ase_fflux.base.errors import FFLUXError, GeometryError
from ase_fflux.base.outputs import OutputFiles
from ase_fflux.simulate.optimise import SUFFIXES, optimise, optimise_to_files, relaxation


@pytest.fixture
def stretched(tetrahedron):
    tetrahedron.rattle(0.1, seed=3)
    return tetrahedron


@pytest.mark.parametrize("optimizer", ["bfgs", "lbfgs", "fire"])
def test_finds_the_known_minimum(stretched, optimizer):
    start = stretched.positions.copy()
    result = optimise(stretched, fmax=1e-4, steps=500, optimizer=optimizer)
    assert result.converged and not result.interrupted
    assert result.last.fmax < 1e-4 < result.first.fmax
    assert result.last.energy == pytest.approx(0, abs=1e-9)
    for i, j, _, length in stretched.calc.springs:
        assert result.atoms.get_distance(i, j) == pytest.approx(length, abs=1e-4)
    assert (stretched.positions == start).all()
    forces = result.atoms.get_forces()
    assert np.linalg.norm(forces, axis=1).max() == pytest.approx(result.last.fmax)


@pytest.mark.parametrize("pressure", [None, 5_000.0])
def test_a_cell_is_optimised(water_box, pressure):
    """No force is left, and the stress is the pressure that was asked for."""
    box = water_box[:3]
    box.set_cell([[3.4, 0, 0], [0.1, 3.3, 0], [-0.1, 0.2, 3.5]])
    box.calc = water_box.calc
    box.calc.set(assignment=[[0, 1, 2]])
    result = optimise(box, fmax=0.02, steps=200, cell=True, pressure=pressure)
    assert result.converged and box.cell.array[0, 0] == 3.4
    found = result.atoms
    # coordinates are those of the cell at the start
    strain = np.linalg.solve(box.cell.array, found.cell.array)
    assert np.linalg.norm(found.get_forces() @ strain.T, axis=1).max() < 0.02
    # volume times stress by the number of atoms is a force
    limit = 0.02 * len(found) / found.get_volume() / units.bar
    pull = found.get_stress() / units.bar + (pressure or 0.0) * np.array([1, 1, 1, 0, 0, 0])
    assert np.abs(pull).max() < limit < np.abs(result.first.pressure)
    assert result.last.pressure == pytest.approx(pressure or 0.0, abs=limit)
    assert result.last.volume == pytest.approx(found.get_volume())
    assert abs(result.last.volume / result.first.volume - 1) > 0.02


def test_no_cell_to_optimise(stretched, water_box):
    for settings, said in (
        ({"cell": True}, "not periodic in three"), ({"pressure": 1.0}, "this one is fixed"),
    ):
        with pytest.raises(FFLUXError, match=said):
            next(relaxation(stretched, **settings))


def test_steps_are_numbered_and_limited(stretched):
    steps = list(relaxation(stretched, fmax=1e-4, steps=4))
    assert [step.index for step in steps] == [0, 1, 2, 3, 4]
    assert not steps[-1].converged
    assert steps[0].coverage is None
    energies = [step.atoms.get_potential_energy() for step in steps]
    assert energies == [step.energy for step in steps]
    assert len(set(energies)) == 5


def test_uncertainty_of_every_step(stretched):
    stretched.calc.get_uncertainty = lambda atoms: SimpleNamespace(energy=atoms.positions[0, 2])
    steps = list(relaxation(stretched, fmax=1e-4, steps=3, uncertainty=True))
    assert [step.uncertainty for step in steps] == [s.atoms.positions[0, 2] for s in steps]
    assert next(relaxation(stretched)).uncertainty is None


def test_start_at_the_minimum_takes_no_step(tetrahedron):
    result = optimise(tetrahedron)
    assert result.converged and result.steps == 0


def test_constraints_hold(stretched):
    fixed = stretched.positions[0].copy()
    stretched.set_constraint(FixAtoms([0]))
    result = optimise(stretched, fmax=1e-4)
    assert result.converged
    assert (result.atoms.positions[0] == fixed).all()
    free = stretched.copy()
    free.calc, free.positions = stretched.calc, result.atoms.positions
    free.set_constraint()
    recorded = result.atoms.get_forces(apply_constraint=False)
    assert recorded == pytest.approx(free.get_forces(), abs=1e-12)


def test_smallest_coverage_is_reported(stretched):
    stretched.calc.coverage = np.array([0.9, 0.2, 0.7, 1.0])
    assert next(relaxation(stretched)).coverage == 0.2


def test_errors(stretched):
    with pytest.raises(FFLUXError, match="no atoms"):
        optimise(Atoms(calculator=stretched.calc))
    with pytest.raises(FFLUXError, match="newton"):
        optimise(stretched, optimizer="newton")
    stretched.calc = None
    with pytest.raises(FFLUXError, match="calc"):
        optimise(stretched)


@pytest.mark.parametrize("broken", ["energy", "forces"])
def test_not_a_number_is_an_error(stretched, broken):
    class Broken(Calculator):
        implemented_properties = ["energy", "forces"]

        def calculate(self, *args, **kwargs):
            super().calculate(*args, **kwargs)
            self.results = {"energy": 0.0, "forces": np.ones((4, 3))}
            self.results[broken] = self.results[broken] * np.nan

    stretched.calc = Broken()
    with pytest.raises(GeometryError, match="step 0"):
        optimise(stretched)


def test_files_agree_with_each_other(stretched, tmp_path):
    files = OutputFiles(tmp_path / "m", SUFFIXES)
    stretched.info["name"] = "kept"
    result = optimise_to_files(stretched, files, fmax=1e-3, about={"model": ["springs"]})
    summary = json.loads(files[".json"].read_text())
    log = np.genfromtxt(files[".log"], usecols=(0, 1, 2))
    trajectory = read(files[".traj"], ":")
    final = read(files[".xyz"])
    assert summary["model"] == ["springs"]
    assert summary["converged"] is True and summary["interrupted"] is False
    assert summary["steps"] == result.steps == len(trajectory) - 1 == len(log) - 1
    assert log[:, 0] == pytest.approx(np.arange(result.steps + 1))
    energies = [image.get_potential_energy() for image in trajectory]
    assert log[:, 1] == pytest.approx(energies, abs=1e-8)
    assert energies[0] == summary["energy_initial_eV"]
    assert energies[-1] == summary["energy_final_eV"]
    change = summary["energy_change_kJ_per_mol"] * 1.0364269656e-2
    assert change == pytest.approx(energies[-1] - energies[0], rel=1e-7)
    assert log[-1, 2] < 1e-3 < log[-2, 2]
    assert final.positions == pytest.approx(trajectory[-1].positions, abs=1e-7)
    assert final.get_forces() == pytest.approx(result.atoms.get_forces(), abs=1e-7)
    assert final.info["name"] == "kept"


def test_interrupt_keeps_what_there_is(stretched, tmp_path):
    files = OutputFiles(tmp_path / "m", SUFFIXES)
    calculate = stretched.calc.calculate

    def interrupted(*args, **kwargs):
        if stretched.calc.calls == 3:
            raise KeyboardInterrupt
        calculate(*args, **kwargs)

    stretched.calc.calculate = interrupted
    result = optimise_to_files(stretched, files, fmax=1e-6)
    assert result.interrupted and not result.converged
    summary = json.loads(files[".json"].read_text())
    assert summary["interrupted"] is True and summary["converged"] is False
    trajectory = read(files[".traj"], ":")
    assert len(trajectory) == 3 == summary["steps"] + 1
    assert read(files[".xyz"]).positions == pytest.approx(trajectory[-1].positions, abs=1e-7)


def test_interrupt_before_the_first_step_passes_on(stretched, tmp_path):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    stretched.calc.calculate = interrupted
    with pytest.raises(KeyboardInterrupt):
        optimise_to_files(stretched, OutputFiles(tmp_path / "m", SUFFIXES))


def test_springs_by_guess_halve_the_steps(monkeypatch):
    """Ethanol of the documentation took 52 steps from one number for all directions."""
    module = importlib.import_module("ase_fflux.simulate.optimise")
    atoms = read(Path(__file__).resolve().parents[2] / "examples" / "ethanol.xyz")
    atoms.calc = FFLUX("ethanol")
    guessed = module.optimise(atoms)
    monkeypatch.setattr(module, "guessed_stiffness", lambda numbers, x: 70 * np.eye(3 * len(x)))
    plain = module.optimise(atoms)
    assert guessed.steps < plain.steps / 2
    assert guessed.last.energy == pytest.approx(plain.last.energy, abs=1e-5)
