"""Molecular dynamics: atoms in motion from a seed, step by step."""

from dataclasses import dataclass

import numpy as np
from ase import Atoms, units
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixCom
from ase.md.langevin import Langevin
from ase.md.verlet import VelocityVerlet

from ase_fflux.base.errors import FFLUXError, GeometryError
from ase_fflux.base.rigid import rigid_motions
from ase_fflux.simulate.limits import Limits, require_masses

ENSEMBLES = ("nvt", "nve")

TEMPERATURE = 300.0
"""K, where none is given."""

FRICTION = 10.0
"""1/ps, where none is given: thermalises within 0.1 ps."""

_AT_REST = 1e-9
"""Rotational share of the kinetic energy that the rounding of a file leaves at most."""

_LONGEST = 100.0
"""fs; ten periods of a vibration of hydrogen."""

_MOST = 10**10
"""Steps of a run, which take a fast molecule weeks."""

_PICOSECOND = 1000 * units.fs


@dataclass(frozen=True)
class DynamicsSettings:
    """What is run.

    Parameters
    ----------
    ensemble : {"nvt", "nve"}
        Langevin dynamics, or velocity Verlet.
    temperature : float, optional
        Of the initial momenta and of the thermostat (K). Without it the input's momenta are kept
        where it has any, and it is `TEMPERATURE` for all else.
    time : float
        Length of the run (ps), rounded to whole steps.
    timestep : float
        fs.
    interval : int
        Steps from one sample to the next.
    seed : int
        Of the initial momenta and of the thermostat.
    friction : float, optional
        Of the thermostat (1/ps); `FRICTION` without it.
    uncertainty : bool
        Whether samples have the standard deviation of the predicted energy.

    Raises
    ------
    FFLUXError
        An unknown ensemble, friction without thermostat, a run shorter than one interval or of
        more steps than can be done, a time step longer than any vibration.
    """

    ensemble: str = "nvt"
    temperature: float | None = None
    time: float = 10.0
    timestep: float = 0.5
    interval: int = 10
    seed: int = 1
    friction: float | None = None
    uncertainty: bool = False

    def __post_init__(self):
        if self.ensemble not in ENSEMBLES:
            raise FFLUXError(
                f"unknown ensemble {self.ensemble!r}: choose from {', '.join(ENSEMBLES)}"
            )
        if self.ensemble == "nve" and self.friction is not None:
            raise FFLUXError("friction is the thermostat's, and nve has none: leave it out")
        if not self.timestep <= _LONGEST:
            raise FFLUXError(
                f"a time step of {self.timestep:g} fs is longer than any vibration: choose about "
                "0.5 fs"
            )
        if not 1000 * self.time / self.timestep <= _MOST:
            raise FFLUXError(
                f"a run of {self.time:g} ps in steps of {self.timestep:g} fs has more than "
                f"{_MOST:g} steps: make it shorter or the steps longer"
            )
        if self.steps < self.interval:
            raise FFLUXError(
                f"a run of {self.time:g} ps in steps of {self.timestep:g} fs has {self.steps} "
                f"steps, fewer than the interval of {self.interval}: make it longer or the "
                "interval shorter"
            )

    @property
    def steps(self) -> int:
        """Number of time steps."""
        return round(1000 * self.time / self.timestep)


@dataclass(frozen=True)
class Sample:
    """One moment of a trajectory.

    Attributes
    ----------
    time : float
        ps.
    potential, kinetic : float
        Energies (eV), that of constraints in the potential one.
    temperature : float
        2 kinetic / (k_B degrees of freedom), K.
    coverage : float or None
        Smallest coverage of an atom (0 to 1, `FFLUX.coverage`), None if the calculator has none.
    uncertainty : float or None
        Standard deviation of the predicted potential energy (eV), None if not asked for.
    atoms : Atoms
        The geometry with its momenta, constraints, and energy and forces of the force field.
    """

    time: float
    potential: float
    kinetic: float
    temperature: float
    coverage: float | None
    uncertainty: float | None
    atoms: Atoms

    @property
    def total(self) -> float:
        return self.potential + self.kinetic


class Dynamics:
    """Atoms in motion; those handed in stay as they are.

    Initial momenta are random (Maxwell-Boltzmann), without the motions that the dynamics keep at
    rest, and scaled to the temperature: the kinetic energy is k_B T/2 for each degree of freedom.
    At rest are the centre of mass, and in NVE without periodic boundaries the rotation of the
    whole too. A thermostat heats rotations like vibrations, so that in NVT they count and start
    thermal. Momenta of the input are kept but for the motion of the centre of mass; rotation that
    they contain counts. With constraints nothing is taken off, because walls do not conserve
    momentum.

    NVE is velocity Verlet (ASE's `VelocityVerlet`), NVT ASE's `Langevin` (E. Vanden-Eijnden and
    G. Ciccotti, Chem. Phys. Lett. 429, 310 (2006), eq. 23) with the centre of mass held by
    `FixCom`.

    Parameters
    ----------
    atoms : Atoms
        Start, with a calculator. Constraints are honoured, the cell is fixed.
    settings : DynamicsSettings
        What is run.

    Attributes
    ----------
    atoms : Atoms
        Where the atoms are now.
    start : Atoms
        Where they were at the start, with the input's constraints.
    step : int
        Steps done so far.
    drawn : bool
        Whether the initial momenta are random, not the input's.
    temperature, friction : float or None
        Those that are used (K, 1/ps), None where nothing depends on them.
    degrees_of_freedom : int
        Those that the temperature is the mean over.

    Raises
    ------
    FFLUXError
        No atoms, no calculator, an atom without mass, or nothing that could move.
    """

    def __init__(self, atoms: Atoms, settings: DynamicsSettings):
        if len(atoms) == 0:
            raise FFLUXError("no dynamics: the geometry has no atoms")
        if atoms.calc is None:
            raise FFLUXError("no dynamics without forces: set atoms.calc, such as FFLUX('ethanol')")
        require_masses(atoms)
        self.settings = settings
        self.step = 0
        self.drawn = settings.temperature is not None or not atoms.get_momenta().any()
        thermostat = settings.ensemble == "nvt"
        self.temperature = self.friction = None
        if thermostat or self.drawn:
            self.temperature = settings.temperature or TEMPERATURE
        if thermostat:
            self.friction = settings.friction or FRICTION
        self.start, self.atoms = atoms.copy(), atoms.copy()
        self.atoms.calc = atoms.calc
        self._rng = np.random.default_rng(settings.seed)
        self._forces = None
        self.degrees_of_freedom = self._set_momenta()
        self.start.set_momenta(self.atoms.get_momenta(), apply_constraint=False)
        hottest = 2 * self.atoms.get_kinetic_energy() / (units.kB * self.degrees_of_freedom)
        self._limits = Limits(self.atoms, max(hottest, self.temperature or 0.0))
        timestep = settings.timestep * units.fs
        if thermostat:
            self._driver = Langevin(
                self.atoms, timestep, temperature_K=self.temperature,
                friction=self.friction / _PICOSECOND, fixcm=False, rng=self._rng,
            )
        else:
            self._driver = VelocityVerlet(self.atoms, timestep)

    def _set_momenta(self) -> int:
        """Set the initial momenta; returns the number of degrees of freedom."""
        atoms = self.atoms
        root = np.sqrt(atoms.get_masses())[:, None]
        scaled = atoms.get_momenta() / root
        if self.drawn:
            scaled = self._rng.standard_normal(scaled.shape)
        if atoms.constraints:
            degrees = atoms.get_number_of_degrees_of_freedom()
        else:
            rest = self._at_rest(scaled)
            scaled = _without(rest, scaled)
            degrees = 3 * len(atoms) - len(rest)
            if self.settings.ensemble == "nvt":
                atoms.set_constraint(FixCom())
        if degrees < 1:
            raise FFLUXError(
                f"no dynamics: {atoms.get_chemical_formula()} has no degree of freedom but motions "
                "that are kept at rest (of the centre of mass, of the whole, constraints)"
            )
        atoms.set_momenta(root * scaled)
        if self.drawn:
            wanted = 0.5 * degrees * units.kB * self.temperature
            atoms.set_momenta(atoms.get_momenta() * np.sqrt(wanted / atoms.get_kinetic_energy()))
        return degrees

    def _at_rest(self, scaled: np.ndarray) -> np.ndarray:
        """Rigid motions (k, n, 3) without momentum in these dynamics; arguments mass-weighted."""
        translations = self._rigid_motions(rotations=False)
        if self.settings.ensemble == "nvt" or self.atoms.pbc.any():
            return translations
        motions = self._rigid_motions()
        inner = _without(translations, scaled)
        rotation = np.sum(np.tensordot(motions, inner) ** 2)
        turns = not self.drawn and rotation > _AT_REST * np.sum(inner**2)
        return translations if turns else motions

    def _rigid_motions(self, rotations: bool = True) -> np.ndarray:
        """Mass-weighted motions (k, n, 3) of the whole."""
        atoms = self.atoms
        found = rigid_motions(atoms.positions, atoms.get_masses(), rotations=rotations)
        return found.reshape(-1, *atoms.positions.shape)

    @property
    def time(self) -> float:
        """Time since the start (ps)."""
        return self.step * self.settings.timestep / 1000

    def advance(self) -> None:
        """Do one time step."""
        self._forces = self._driver.step(self._forces)
        self.step += 1

    def sample(self) -> Sample:
        """Energies and geometry now.

        Raises
        ------
        GeometryError
            An energy that is not finite.
        UnphysicalError
            Energy or temperature beyond the limits of `ase_fflux.simulate.limits`.
        """
        atoms, calculator = self.atoms, self.atoms.calc
        potential, kinetic = float(atoms.get_potential_energy()), float(atoms.get_kinetic_energy())
        if not np.isfinite(potential + kinetic):
            raise GeometryError(
                "the energy is not finite: shorten the time step, or start nearer to the training "
                "data"
            )
        coverage = getattr(calculator, "coverage", None)
        coverage = None if coverage is None else float(np.min(coverage))
        temperature = 2 * kinetic / (units.kB * self.degrees_of_freedom)
        self._limits.check(potential, temperature)
        uncertainty = None
        if self.settings.uncertainty:
            uncertainty = float(calculator.get_uncertainty(atoms).energy)
        frame = self.start.copy()
        frame.positions = atoms.positions
        frame.set_momenta(atoms.get_momenta(), apply_constraint=False)
        # without those of constraints, which whoever reads the frame adds
        energy = float(atoms.get_potential_energy(apply_constraint=False))
        forces = atoms.get_forces(apply_constraint=False)
        frame.calc = SinglePointCalculator(frame, energy=energy, forces=forces)
        return Sample(
            time=self.time,
            potential=potential,
            kinetic=kinetic,
            temperature=temperature,
            coverage=coverage,
            uncertainty=uncertainty,
            atoms=frame,
        )

    def state(self) -> dict:
        """All that the next steps depend on: ``step``, ``positions``, ``momenta`` and ``rng``."""
        return {
            "step": self.step,
            "positions": self.atoms.get_positions(),
            "momenta": self.atoms.get_momenta(),
            "rng": self._rng.bit_generator.state,
        }

    def restore(self, state: dict) -> None:
        """Go on from a `state`, bitwise as if there had been no break."""
        self.step = state["step"]
        self.atoms.positions = state["positions"]
        self.atoms.set_momenta(state["momenta"], apply_constraint=False)
        self._rng.bit_generator.state = state["rng"]
        self._forces = None


def _without(motions: np.ndarray, scaled: np.ndarray) -> np.ndarray:
    """Mass-weighted momenta (n, 3) without their parts along orthonormal motions (k, n, 3)."""
    return scaled - np.tensordot(np.tensordot(motions, scaled), motions, axes=1)
