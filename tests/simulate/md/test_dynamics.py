from types import SimpleNamespace

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import molecule
from ase.calculators.calculator import Calculator, all_changes
from ase.constraints import FixAtoms

from ase_fflux import FFLUX
from ase_fflux.base.errors import FFLUXError, GeometryError
from ase_fflux.base.rigid import rigid_motions
from ase_fflux.simulate.md.dynamics import Dynamics
from ase_fflux.simulate.md.settings import TEMPERATURE, DynamicsSettings


@pytest.fixture
def water():
    atoms = molecule("H2O")
    atoms.calc = FFLUX("water", on_low_coverage="ignore")
    return atoms


def nve(**settings):
    return DynamicsSettings(**{"ensemble": "nve", "time": 0.01, "interval": 1, **settings})


def nvt(**settings):
    return DynamicsSettings(**{"ensemble": "nvt", "time": 0.01, "interval": 1, **settings})


def run(dynamics, steps=None):
    """Samples after every step."""
    samples = [dynamics.sample()]
    for _ in range(dynamics.settings.steps if steps is None else steps):
        dynamics.advance()
        samples.append(dynamics.sample())
    return samples


def test_energy_conservation_is_of_second_order(water):
    spread = []
    for timestep in (0.5, 0.25):
        samples = run(Dynamics(water, nve(temperature=300, time=0.1, timestep=timestep)))
        assert samples[-1].time == pytest.approx(0.1)
        spread.append(np.std([sample.total for sample in samples]))
    assert spread[0] / spread[1] == pytest.approx(4, rel=0.1)
    assert spread[0] < 0.05 * np.std([sample.potential for sample in samples])


def test_reversed_momenta_lead_back(water):
    dynamics = Dynamics(water, nve(temperature=300))
    run(dynamics, 50)
    dynamics.restore(dynamics.state() | {"momenta": -dynamics.atoms.get_momenta()})
    run(dynamics, 50)
    assert dynamics.atoms.positions == pytest.approx(water.positions, abs=1e-10)


def test_neither_drift_nor_rotation(water):
    dynamics = Dynamics(water, nve(temperature=500))
    centre = water.get_center_of_mass()
    for steps in (0, 100):
        run(dynamics, steps)
        assert dynamics.atoms.get_momenta().sum(axis=0) == pytest.approx(np.zeros(3), abs=1e-12)
        assert dynamics.atoms.get_angular_momentum() == pytest.approx(np.zeros(3), abs=1e-8)
        assert dynamics.atoms.get_center_of_mass() == pytest.approx(centre, abs=1e-10)


@pytest.mark.parametrize(
    "name, pbc, ensemble, degrees",
    [
        ("diatomic", False, nve, 1), ("linear_triatomic", False, nve, 4),
        ("triangle", False, nve, 3), ("tetrahedron", False, nve, 6),
        ("tetrahedron", (0, 0, 1), nve, 9), ("tetrahedron", False, nvt, 9), ("diatomic", 0, nvt, 3),
    ],
)
def test_kinetic_energy_and_temperature_at_the_start(request, name, pbc, ensemble, degrees):
    atoms = request.getfixturevalue(name)
    dynamics = Dynamics(Atoms(atoms, cell=[20] * 3, pbc=pbc, calculator=atoms.calc), ensemble())
    assert dynamics.degrees_of_freedom == degrees
    expected = 0.5 * degrees * units.kB * TEMPERATURE
    assert dynamics.atoms.get_kinetic_energy() == pytest.approx(expected, rel=1e-12)
    momenta = dynamics.start.get_momenta()
    assert momenta.sum(axis=0) == pytest.approx(np.zeros(3), abs=1e-12)
    assert (momenta == dynamics.atoms.get_momenta()).all()
    assert not atoms.get_momenta().any()


def test_temperature_of_a_sample(triangle):
    sample = Dynamics(triangle, nve(temperature=420)).sample()
    assert sample.temperature == pytest.approx(420) and sample.coverage is None
    assert sample.kinetic == pytest.approx(1.5 * units.kB * 420)


def test_drawn_momenta_are_equally_distributed(tetrahedron):
    """Half k_B T on average for each mass-weighted direction that is free."""
    basis = rigid_motions(tetrahedron.positions, tetrahedron.get_masses())
    root = np.sqrt(tetrahedron.get_masses())[:, None]
    total = np.zeros((12, 12))
    for seed in range(1, 801):
        scaled = (Dynamics(tetrahedron, nve(seed=seed)).start.get_momenta() / root).ravel()
        total += np.outer(scaled, scaled) / (units.kB * TEMPERATURE)
    assert total / 800 == pytest.approx(np.eye(12) - basis.T @ basis, abs=0.2)


def test_thermostat_holds_the_temperature_and_the_centre_of_mass(water):
    dynamics = Dynamics(water, nvt(temperature=350, friction=60))
    centre = water.get_center_of_mass()
    temperatures = []
    for _ in range(400):
        for _ in range(10):
            dynamics.advance()
        temperatures.append(dynamics.sample().temperature)
    assert np.mean(temperatures) == pytest.approx(350, rel=0.12)
    spread = 350 * np.sqrt(2 / dynamics.degrees_of_freedom)
    assert np.std(temperatures) == pytest.approx(spread, rel=0.25)
    assert dynamics.atoms.get_center_of_mass() == pytest.approx(centre, abs=1e-9)
    assert np.linalg.norm(dynamics.atoms.get_angular_momentum()) > 1e-3


@pytest.mark.parametrize("ensemble", [nve, nvt])
def test_seed_is_all_that_is_random(water, ensemble):
    def end(seed):
        dynamics = Dynamics(water, ensemble(seed=seed))
        return run(dynamics, 10)[-1].atoms

    one, same, other = end(1), end(1), end(2)
    assert (one.positions == same.positions).all()
    assert (one.get_momenta() == same.get_momenta()).all()
    assert np.abs(one.positions - other.positions).max() > 1e-4


@pytest.mark.parametrize("ensemble", [nve, nvt])
def test_a_restored_state_goes_on_bitwise(water, ensemble):
    dynamics = Dynamics(water, ensemble())
    run(dynamics, 7)
    state = dynamics.state()
    expected = run(dynamics, 9)[-1]
    again = Dynamics(water, ensemble())
    again.restore(state)
    found = run(again, 9)[-1]
    assert again.step == 16 and found.time == expected.time == pytest.approx(0.008)
    assert (found.atoms.positions == expected.atoms.positions).all()
    assert (found.atoms.get_momenta() == expected.atoms.get_momenta()).all()


def test_momenta_of_the_input_are_kept_unless_a_temperature_is_given(tetrahedron):
    momenta = Dynamics(tetrahedron, nve(seed=5)).start.get_momenta()
    tetrahedron.set_momenta(momenta)
    kept = Dynamics(tetrahedron, nve())
    assert not kept.drawn and kept.temperature is None and kept.degrees_of_freedom == 6
    assert kept.start.get_momenta() == pytest.approx(momenta, abs=1e-14)
    assert Dynamics(tetrahedron, nvt()).start.get_momenta() == pytest.approx(momenta, abs=1e-14)
    drawn = Dynamics(tetrahedron, nve(temperature=300))
    assert drawn.drawn and np.abs(drawn.start.get_momenta() - momenta).max() > 0.1
    tetrahedron.set_momenta(0 * momenta)
    assert Dynamics(tetrahedron, nve()).drawn


def test_rotation_of_the_input_is_kept_and_counts_drift_is_neither(tetrahedron):
    masses = tetrahedron.get_masses()[:, None]
    centred = tetrahedron.positions - tetrahedron.get_center_of_mass()
    turning = masses * np.cross([0, 0.01, 0.02], centred)
    tetrahedron.set_momenta(turning + masses * [0.1, 0, 0])
    dynamics = Dynamics(tetrahedron, nve())
    assert dynamics.degrees_of_freedom == 9
    assert dynamics.start.get_momenta() == pytest.approx(turning, abs=1e-12)


def test_rounding_of_a_file_is_no_rotation(tetrahedron):
    tetrahedron.set_momenta(Dynamics(tetrahedron, nve()).start.get_momenta().round(8))
    assert Dynamics(tetrahedron, nve()).degrees_of_freedom == 6


@pytest.mark.parametrize("ensemble", [nve, nvt])
def test_constraints_hold_and_stay_in_the_frames(tetrahedron, ensemble):
    tetrahedron.set_constraint(FixAtoms([0]))
    dynamics = Dynamics(tetrahedron, ensemble())
    assert dynamics.degrees_of_freedom == 9
    last = run(dynamics, 5)[-1]
    assert (last.atoms.positions[0] == tetrahedron.positions[0]).all()
    assert [type(c) for c in last.atoms.constraints] == [FixAtoms]
    tetrahedron.set_constraint()
    assert not run(Dynamics(tetrahedron, ensemble()), 1)[-1].atoms.constraints


def test_samples_are_what_the_calculator_says(water):
    water.info["name"] = "kept"
    water.calc.get_uncertainty = lambda atoms: SimpleNamespace(energy=atoms.positions[0, 2])
    sample = run(Dynamics(water, nvt(uncertainty=True)), 3)[-1]
    water.calc.reset()
    again = sample.atoms.copy()
    again.calc = water.calc
    assert sample.potential == sample.atoms.get_potential_energy()
    assert sample.potential == pytest.approx(again.get_potential_energy(), abs=1e-12)
    assert sample.atoms.get_forces() == pytest.approx(again.get_forces(), abs=1e-12)
    assert sample.coverage == pytest.approx(again.calc.coverage.min())
    assert sample.uncertainty == again.positions[0, 2]
    assert sample.kinetic == pytest.approx(again.get_kinetic_energy())
    assert sample.atoms.info["name"] == "kept"


def test_errors(tetrahedron):
    with pytest.raises(FFLUXError, match="no atoms"):
        Dynamics(Atoms(calculator=tetrahedron.calc), nve())
    with pytest.raises(FFLUXError, match="at rest"):
        Dynamics(Atoms("He", calculator=tetrahedron.calc), nvt())
    with pytest.raises(FFLUXError, match="calc"):
        Dynamics(tetrahedron.copy(), nve())


def test_an_energy_that_is_not_finite_is_an_error(tetrahedron):
    class Broken(Calculator):
        implemented_properties = ["energy", "forces"]

        def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
            super().calculate(atoms, properties, system_changes)
            self.results = {"energy": np.nan, "forces": np.zeros((4, 3))}

    tetrahedron.calc = Broken()
    with pytest.raises(GeometryError, match="not finite"):
        Dynamics(tetrahedron, nve()).sample()
