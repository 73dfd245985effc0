"""ASE's integrators, with the right number of degrees of freedom and a state that can be restored.

ASE counts three degrees of freedom for each atom in Nose-Hoover chains and nine for the cell. Here
the centre of mass is at rest and the cell does not turn, and chains are told so: a single molecule
of three atoms would be half as hot again otherwise, and a cell too.
"""

from typing import Protocol

import numpy as np
from ase import Atoms, units
from ase.md.bussi import Bussi
from ase.md.langevin import Langevin
from ase.md.nose_hoover_chain import (
    MTKNPT,
    IsotropicMTKBarostat,
    IsotropicMTKNPT,
    MTKBarostat,
    NoseHooverChainNVT,
    NoseHooverChainThermostat,
)
from ase.md.verlet import VelocityVerlet

from ase_fflux.simulate.md.settings import (
    BAR,
    BAROSTAT_TIME,
    FRICTION,
    PICOSECOND,
    PRESSURE,
    TEMPERATURE,
    THERMOSTAT_TIME,
    DynamicsSettings,
)

_CELL_MOTIONS = 6
"""Degrees of freedom of a cell that does not turn."""


class Integrator(Protocol):
    """What moves atoms by time steps.

    Attributes
    ----------
    parameters : dict
        Names and values (or None) that a summary of the run says.
    """

    parameters: dict

    def advance(self) -> None:
        """Do one time step."""

    def conserved(self) -> float | None:
        """The conserved energy (eV), None where there is none."""

    def state(self) -> dict[str, np.ndarray]:
        """What the next steps depend on beyond positions, momenta, cell and random numbers."""

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Go on from a state; positions, momenta and cell of the atoms are those of it already."""


def integrator(
    atoms: Atoms, settings: DynamicsSettings, degrees_of_freedom: int, rng: np.random.Generator
) -> Integrator:
    """The integrator that settings ask for.

    Parameters
    ----------
    atoms : Atoms
        With momenta and calculator; they are moved.
    settings : DynamicsSettings
        Ensemble, thermostat and barostat.
    degrees_of_freedom : int
        Of the atoms.
    rng : Generator
        Of random forces.
    """
    if settings.ensemble == "nve":
        return _Verlet(atoms, settings)
    if settings.chosen_thermostat == "langevin":
        return _Langevin(atoms, settings, rng)
    if settings.chosen_thermostat == "bussi":
        return _Bussi(atoms, settings, degrees_of_freedom, rng)
    if settings.ensemble == "nvt":
        return _NoseHoover(atoms, settings, degrees_of_freedom)
    if settings.chosen_barostat == "isotropic":
        return _Isotropic(atoms, settings, degrees_of_freedom)
    return _Full(atoms, settings, degrees_of_freedom)


class _Verlet:
    """Velocity Verlet."""

    parameters: dict = {}

    def __init__(self, atoms, settings):
        self._driver = VelocityVerlet(atoms, settings.timestep * units.fs)
        self._forces = None

    def advance(self):
        self._forces = self._driver.step(self._forces)

    def conserved(self):
        return float(self._driver.atoms.get_total_energy())

    def state(self):
        return {}

    def restore(self, state):
        self._forces = None


class _Langevin(_Verlet):
    """Langevin dynamics: E. Vanden-Eijnden and G. Ciccotti, Chem. Phys. Lett. 429, 310 (2006),
    eq. 23."""

    def __init__(self, atoms, settings, rng):
        friction = settings.friction or FRICTION
        self.parameters = {"friction_per_ps": friction}
        self._forces = None
        self._driver = Langevin(
            atoms, settings.timestep * units.fs, fixcm=False, rng=rng,
            temperature_K=settings.temperature or TEMPERATURE, friction=friction / PICOSECOND,
        )

    def conserved(self):
        return None


class _Bussi(_Verlet):
    """Stochastic rescaling of velocities: G. Bussi et al., J. Chem. Phys. 126, 014101 (2007)."""

    def __init__(self, atoms, settings, degrees_of_freedom, rng):
        time = settings.thermostat_time or THERMOSTAT_TIME
        self.parameters = {"thermostat_time_ps": time}
        self._forces = None
        self._driver = Bussi(
            atoms, settings.timestep * units.fs, rng=rng, taut=time * PICOSECOND,
            temperature_K=settings.temperature or TEMPERATURE,
        )
        self._driver.ndof = degrees_of_freedom
        self._driver.target_kinetic_energy = 0.5 * degrees_of_freedom * self._driver.temp

    def conserved(self):
        return super().conserved() - self._driver.transferred_energy

    def state(self):
        return {"transferred_energy": np.array(self._driver.transferred_energy)}

    def restore(self, state):
        super().restore(state)
        self._driver.transferred_energy = float(state["transferred_energy"])


class _NoseHoover:
    """Nose-Hoover chain of three: G. J. Martyna, M. L. Klein and M. Tuckerman, J. Chem. Phys. 97,
    2635 (1992)."""

    def __init__(self, atoms, settings, degrees_of_freedom):
        self._take(settings, degrees_of_freedom)
        self._driver = NoseHooverChainNVT(
            atoms, settings.timestep * units.fs, temperature_K=self._temperature, tdamp=self._tdamp
        )
        self._thermalise(atoms)

    def _take(self, settings, degrees_of_freedom):
        time = settings.thermostat_time or THERMOSTAT_TIME
        self.parameters = {"thermostat_time_ps": time}
        self._temperature = settings.temperature or TEMPERATURE
        self._tdamp = time * PICOSECOND
        # ASE's number of atoms, of which its formulas need a third of the degrees of freedom
        self._atoms = degrees_of_freedom / 3

    def _thermalise(self, atoms):
        self._driver._thermostat = NoseHooverChainThermostat(
            self._atoms, atoms.get_masses()[:, None], self._temperature, self._tdamp
        )

    def advance(self):
        self._driver.step()

    def conserved(self):
        return self._driver.get_conserved_energy()

    def _parts(self):
        """Objects and names of the variables that are not those of the atoms."""
        return [(self._driver._thermostat, name) for name in ("_eta", "_p_eta")]

    def state(self):
        return {name[1:]: np.array(getattr(part, name)) for part, name in self._parts()}

    def restore(self, state):
        driver = self._driver
        driver._q, driver._p = driver.atoms.get_positions(), driver.atoms.get_momenta()
        for part, name in self._parts():
            value = state[name[1:]]
            setattr(part, name, value.copy() if value.ndim else float(value))


class _Isotropic(_NoseHoover):
    """Chains and a barostat of the volume: G. J. Martyna, D. J. Tobias and M. L. Klein, J. Chem.
    Phys. 101, 4177 (1994)."""

    _driver_of, _cell_variables = IsotropicMTKNPT, ("_eps", "_p_eps")

    def __init__(self, atoms, settings, degrees_of_freedom):
        self._take(settings, degrees_of_freedom)
        pressure = PRESSURE if settings.pressure is None else settings.pressure
        time = settings.barostat_time or BAROSTAT_TIME
        self.parameters |= {"pressure_bar": pressure, "barostat_time_ps": time}
        pdamp = time * PICOSECOND
        self._driver = self._driver_of(
            atoms, settings.timestep * units.fs, temperature_K=self._temperature,
            pressure_au=pressure * BAR, tdamp=self._tdamp, pdamp=pdamp,
        )
        self._driver._num_atoms_global = self._atoms
        self._thermalise(atoms)
        self._driver._barostat = self._barostat(pdamp)

    def _barostat(self, pdamp):
        return IsotropicMTKBarostat(self._atoms, self._temperature, pdamp)

    def _parts(self):
        barostat = [(self._driver._barostat, name) for name in ("_xi", "_p_xi")]
        cell = [(self._driver, name) for name in self._cell_variables]
        return super()._parts() + barostat + cell


class _Full(_Isotropic):
    """As `_Isotropic`, with a cell that changes its shape but does not turn."""

    _driver_of, _cell_variables = MTKNPT, ("_h", "_p_g")

    def _barostat(self, pdamp):
        barostat = MTKBarostat(self._atoms, self._temperature, pdamp)
        barostat._cell_dof = _CELL_MOTIONS
        barostat._R[0] = _CELL_MOTIONS * barostat._kT * pdamp**2
        return barostat
