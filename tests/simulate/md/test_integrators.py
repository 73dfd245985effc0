import numpy as np
import pytest
from ase import units
from ase.build import bulk, molecule
from ase.calculators.calculator import Calculator, all_changes
from ase.constraints import FixAtoms
from ase.neighborlist import neighbor_list
from ase.stress import full_3x3_to_voigt_6_stress

from ase_fflux import FFLUX
from ase_fflux.base.errors import FFLUXError
from ase_fflux.simulate.md.dynamics import Dynamics
from ase_fflux.simulate.md.settings import BAR, DynamicsSettings

ENSEMBLES = {
    "nve": {"ensemble": "nve"},
    "langevin": {"ensemble": "nvt"},
    "bussi": {"ensemble": "nvt", "thermostat": "bussi"},
    "nose-hoover": {"ensemble": "nvt", "thermostat": "nose-hoover"},
    "isotropic": {"ensemble": "npt"},
    "full": {"ensemble": "npt", "barostat": "full", "pressure": 500.0},
}


class Bonds(Calculator):
    """Springs between neighbours of a crystal, across its cell too."""

    implemented_properties = ["energy", "free_energy", "forces", "stress"]

    def __init__(self, atoms, cutoff):
        super().__init__()
        self.i, self.j, self.image, self.length = neighbor_list("ijSd", atoms, cutoff)

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        x = self.atoms.positions
        vector = x[self.j] - x[self.i] + self.image @ self.atoms.cell.array
        length = np.linalg.norm(vector, axis=1)
        pull = 4.0 * (length - self.length)  # every bond is listed twice
        force = (pull / length)[:, None] * vector
        forces = np.zeros_like(x)
        np.add.at(forces, self.i, force)
        virial = 0.5 * vector.T @ force / self.atoms.get_volume()
        energy = np.sum(4.0 * (length - self.length) ** 2) / 4
        self.results = {
            "energy": energy, "free_energy": energy, "forces": forces,
            "stress": full_3x3_to_voigt_6_stress(virial),
        }


@pytest.fixture
def crystal():
    """Eight atoms of copper."""
    atoms = bulk("Cu", cubic=False).repeat(2)
    atoms.calc = Bonds(atoms, 2.8)
    return atoms


def settings(name, **others):
    return DynamicsSettings(**{"time": 1.0, "interval": 1, **ENSEMBLES[name], **others})


def advance(dynamics, steps):
    for _ in range(steps):
        dynamics.advance()
    return dynamics


@pytest.mark.parametrize("name", ENSEMBLES)
def test_a_restored_box_goes_on_bitwise(water_box, name):
    """Also where pairs were listed long before: the order of sums is that of the list."""
    run = settings(name, temperature=600)
    dynamics = advance(Dynamics(water_box, run), 60)
    state = dynamics.state()
    assert np.abs(state["listed.positions"] * units.Bohr - state["positions"]).max() > 0.2
    expected = advance(dynamics, 15)
    box = water_box.copy()
    box.calc = FFLUX(**water_box.calc.parameters)
    found = Dynamics(box, run)
    advance(found, 3)
    found.restore(state)
    advance(found, 15)
    for quantity in ("get_positions", "get_momenta", "get_cell", "get_forces", "get_stress"):
        one, other = (np.array(getattr(d.atoms, quantity)()) for d in (expected, found))
        assert (one == other).all(), quantity
    assert found.sample().conserved == expected.sample().conserved


@pytest.mark.parametrize("name", ["nve", "nose-hoover", "isotropic", "full"])
def test_what_is_conserved_is_so_to_second_order(water_box, name):
    spread = []
    for timestep in (0.5, 0.25):
        others = {} if name == "nve" else {"thermostat_time": 0.02}
        if name in ("isotropic", "full"):
            others["barostat_time"] = 0.05
        dynamics = Dynamics(water_box, settings(name, timestep=timestep, **others))
        samples = [dynamics.sample()]
        for _ in range(round(30 / timestep)):
            samples.append(advance(dynamics, 1).sample())
        spread.append(np.std([sample.conserved for sample in samples]))
    assert spread[0] / spread[1] == pytest.approx(4, rel=0.25)
    assert spread[0] < 0.1 * np.std([sample.potential for sample in samples])
    if name != "nve":
        assert spread[1] < 0.1 * np.std([sample.total for sample in samples])


def test_bussi_knows_what_it_gave(crystal):
    dynamics = Dynamics(crystal, settings("bussi", temperature=300, timestep=1.0))
    samples = [advance(dynamics, 1).sample() for _ in range(200)]
    spread = np.std([sample.conserved for sample in samples])
    assert spread < 0.02 * np.std([sample.total for sample in samples])


@pytest.mark.parametrize("name", ["bussi", "nose-hoover"])
def test_temperature_of_a_single_molecule(name):
    """It has three degrees of freedom where nothing turns or moves as a whole."""
    water = molecule("H2O")
    water.calc = FFLUX("water", on_low_coverage="ignore")
    dynamics = Dynamics(water, settings(name, temperature=300, time=3.0, thermostat_time=0.01))
    assert dynamics.degrees_of_freedom == 3
    temperatures = [advance(dynamics, 10).sample().temperature for _ in range(600)]
    assert np.mean(temperatures) == pytest.approx(300, rel=0.15)
    atoms = dynamics.atoms
    assert atoms.get_momenta().sum(axis=0) == pytest.approx(np.zeros(3), abs=1e-9)
    assert atoms.get_angular_momentum() == pytest.approx(np.zeros(3), abs=1e-6)


@pytest.mark.parametrize("name", ["isotropic", "full"])
def test_pressure_and_temperature_are_those_asked_for(crystal, name):
    run = settings(
        name, temperature=200, pressure=20_000.0, timestep=3.0, time=12.0, thermostat_time=0.05,
        barostat_time=0.2,
    )
    dynamics = Dynamics(crystal, run)
    advance(dynamics, 500)
    driver = dynamics._integrator._driver
    samples, heat = [], []
    for _ in range(3000):
        samples.append(advance(dynamics, 1).sample())
        if name == "full":
            heat.append(np.sum(driver._p_g**2) / driver._barostat.W)
    pressure = np.array([sample.pressure for sample in samples])
    assert pressure[:, :3].mean() == pytest.approx(20_000, abs=1_500)
    temperature = np.mean([sample.temperature for sample in samples])
    assert temperature == pytest.approx(200, rel=0.05)
    if name == "full":  # a cell that does not turn has six motions
        assert np.mean(heat) == pytest.approx(6 * units.kB * 200, rel=0.15)
    cell = dynamics.atoms.cell.array
    if name == "isotropic":
        ratio = cell[crystal.cell.array != 0] / crystal.cell.array[crystal.cell.array != 0]
        assert np.ptp(ratio) < 1e-12 and ratio[0] < 1
    else:
        assert driver._p_g == pytest.approx(driver._p_g.T, abs=1e-9 * np.abs(driver._p_g).max())
        assert np.abs(pressure[:, 3:]).max() > 100


def test_pressure_of_a_sample_has_its_kinetic_part(water_box):
    sample = Dynamics(water_box, settings("isotropic", temperature=300)).sample()
    still = sample.atoms.copy()
    still.calc = water_box.calc
    gas = 2 * sample.kinetic / (3 * sample.volume)
    static = -still.get_stress()[:3].mean()
    assert sample.pressure[:3].mean() * BAR == pytest.approx(static + gas, rel=1e-9)
    assert sample.density == pytest.approx(8 * 18.015 / 6.02214e23 / (sample.volume * 1e-24), 1e-4)
    assert sample.atoms.get_stress() == pytest.approx(still.get_stress(), abs=1e-12)


def test_what_an_ensemble_cannot_have(water_box, crystal):
    with pytest.raises(FFLUXError, match="periodic in three directions"):
        Dynamics(molecule("H2O", calculator=water_box.calc), settings("isotropic"))
    crystal.set_constraint(FixAtoms([0]))
    for name in ("nose-hoover", "full"):
        with pytest.raises(FFLUXError, match="take these off, or use nvt with langevin or bussi"):
            Dynamics(crystal, settings(name))
    crystal.set_constraint()
    crystal.calc.implemented_properties = ["energy", "forces"]
    with pytest.raises(FFLUXError, match="stress"):
        Dynamics(crystal, settings("full"))
