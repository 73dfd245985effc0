"""Molecular dynamics: atoms in motion from a seed, step by step."""

from dataclasses import dataclass

import numpy as np
from ase import Atoms, units
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixCom

from ase_fflux.base.errors import FFLUXError, GeometryError
from ase_fflux.base.rigid import rigid_motions
from ase_fflux.simulate.limits import Limits, require_masses
from ase_fflux.simulate.md.integrators import integrator
from ase_fflux.simulate.md.settings import BAR, TEMPERATURE, DynamicsSettings
from ase_fflux.simulate.molecules import DENSITY, prepare

_AT_REST = 1e-9
"""Rotational share of the kinetic energy that the rounding of a file leaves at most."""

_LISTED = "listed."



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
    outside : dict
        Coverage of each atom (index) that is outside of the training data.
    conserved : float or None
        What the integrator conserves (eV), None for random forces.
    volume, density : float or None
        Of a periodic cell (Angstrom^3, g/cm^3).
    pressure : (6,) array or None
        Pressure tensor xx, yy, zz, yz, xz, xy of a periodic cell with its kinetic part (bar), None
        if the calculator has no stress.
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
    outside: dict[int, float]
    conserved: float | None
    volume: float | None
    density: float | None
    pressure: np.ndarray | None
    uncertainty: float | None
    atoms: Atoms

    @property
    def total(self) -> float:
        return self.potential + self.kinetic


class Dynamics:
    """Atoms in motion; those handed in stay as they are.

    Initial momenta are random (Maxwell-Boltzmann), without the motions that the dynamics keep at
    rest, and scaled to the temperature: the kinetic energy is k_B T/2 for each degree of freedom.
    At rest are the centre of mass, and without periodic boundaries the rotation of the whole too,
    but for Langevin dynamics: their thermostat heats rotations like vibrations, so that there they
    count and start thermal. Momenta of the input are kept but for the motion of the centre of mass;
    rotation that they contain counts. With constraints nothing is taken off, because walls do not
    conserve momentum.

    Molecules of a periodic cell start whole, with their centres of mass in it, and positions then
    are continuous. The integrators are ASE's (`ase_fflux.simulate.md.integrators`); the centre of
    mass of Langevin dynamics is held by `FixCom`.

    Parameters
    ----------
    atoms : Atoms
        Start, with a calculator. Constraints are honoured.
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
    temperature : float or None
        That is used (K), None where nothing depends on it.
    parameters : dict
        Those of thermostat and barostat with their units in the names.
    degrees_of_freedom : int
        Those that the temperature is the mean over.

    Raises
    ------
    FFLUXError
        No atoms, no calculator, an atom without mass, or nothing that could move; molecules that
        overlap; constraints or a cell that the ensemble cannot have.
    """

    def __init__(self, atoms: Atoms, settings: DynamicsSettings):
        if len(atoms) == 0:
            raise FFLUXError("no dynamics: the geometry has no atoms")
        if atoms.calc is None:
            raise FFLUXError("no dynamics without forces: set atoms.calc, such as FFLUX('ethanol')")
        require_masses(atoms)
        _require_possible(atoms, settings)
        self.settings = settings
        self.step = 0
        asked = settings.temperature is not None and not settings.keep_momenta
        self.drawn = asked or not atoms.get_momenta().any()
        self.temperature = None
        if settings.ensemble != "nve" or self.drawn:
            self.temperature = settings.temperature or TEMPERATURE
        self.start = atoms.copy()
        self.start.calc = atoms.calc
        prepare(self.start)
        self.start.calc = None
        self.atoms = self.start.copy()
        self.atoms.calc = atoms.calc
        self._rng = np.random.default_rng(settings.seed)
        self.degrees_of_freedom = self._set_momenta()
        self.start.set_momenta(self.atoms.get_momenta(), apply_constraint=False)
        hottest = 2 * self.atoms.get_kinetic_energy() / (units.kB * self.degrees_of_freedom)
        self._limits = Limits(self.atoms, max(hottest, self.temperature or 0.0))
        self._integrator = integrator(self.atoms, settings, self.degrees_of_freedom, self._rng)
        self.parameters = self._integrator.parameters
        self._has_stress = atoms.pbc.all() and _has_stress(atoms)

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
            if self.settings.chosen_thermostat == "langevin":
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
        if self.settings.chosen_thermostat == "langevin" or self.atoms.pbc.any():
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
        self._integrator.advance()
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
        coverage, outside = self._coverage()
        temperature = 2 * kinetic / (units.kB * self.degrees_of_freedom)
        self._limits.check(potential, temperature)
        uncertainty = None
        if self.settings.uncertainty:
            uncertainty = float(calculator.get_uncertainty(atoms).energy)
        frame = self.start.copy()
        frame.positions, frame.cell = atoms.positions, atoms.cell
        frame.set_momenta(atoms.get_momenta(), apply_constraint=False)
        # without those of constraints, which whoever reads the frame adds
        energy = float(atoms.get_potential_energy(apply_constraint=False))
        forces = atoms.get_forces(apply_constraint=False)
        found = {"energy": energy, "forces": forces}
        if self._has_stress:
            found["stress"] = atoms.get_stress(apply_constraint=False)
        frame.calc = SinglePointCalculator(frame, **found)
        return Sample(
            time=self.time,
            potential=potential,
            kinetic=kinetic,
            temperature=temperature,
            coverage=coverage,
            outside=outside,
            conserved=self._integrator.conserved(),
            **self._cell(),
            uncertainty=uncertainty,
            atoms=frame,
        )

    def _coverage(self):
        """Smallest coverage, and that of each atom that has too little."""
        calculator = self.atoms.calc
        coverage = getattr(calculator, "coverage", None)
        if coverage is None:
            return None, {}
        least = getattr(calculator, "least_coverage", None)
        low = () if least is None else np.flatnonzero(coverage < least)
        return float(np.min(coverage)), {int(atom): float(coverage[atom]) for atom in low}

    def _cell(self) -> dict:
        """Volume, density and pressure of a sample."""
        atoms = self.atoms
        if not atoms.pbc.all():
            return {"volume": None, "density": None, "pressure": None}
        volume = float(atoms.get_volume())
        pressure = None
        if self._has_stress:
            pressure = -atoms.get_stress(include_ideal_gas=True) / BAR
        density = DENSITY * float(atoms.get_masses().sum()) / volume
        return {"volume": volume, "density": density, "pressure": pressure}

    def state(self) -> dict:
        """All that the next steps depend on.

        ``step``, ``rng``, and arrays: ``positions``, ``momenta``, ``cell``, those of the
        `Integrator` and, after ``listed.``, those of the calculator's list of neighbours, whose
        order the sums are taken in.
        """
        listed = getattr(self.atoms.calc, "listed", lambda: {})()
        return {
            "step": self.step,
            "rng": self._rng.bit_generator.state,
            "positions": self.atoms.get_positions(),
            "momenta": self.atoms.get_momenta(),
            "cell": self.atoms.cell.array.copy(),
            **self._integrator.state(),
            **{_LISTED + name: array for name, array in listed.items()},
        }

    def restore(self, state: dict) -> None:
        """Go on from a `state`, bitwise as if there had been no break."""
        self.step = state["step"]
        self.atoms.positions = state["positions"]
        self.atoms.cell = state["cell"]
        self.atoms.set_momenta(state["momenta"], apply_constraint=False)
        self._rng.bit_generator.state = state["rng"]
        listed = {
            name.removeprefix(_LISTED): array
            for name, array in state.items() if name.startswith(_LISTED)
        }
        if listed:
            self.atoms.calc.relist(listed)
        self._integrator.restore(state)


def _has_stress(atoms: Atoms) -> bool:
    return "stress" in getattr(atoms.calc, "implemented_properties", ())


def _require_possible(atoms: Atoms, settings: DynamicsSettings) -> None:
    """Refuse what the ensemble cannot have."""
    if settings.chosen_thermostat == "nose-hoover" and atoms.constraints:
        raise FFLUXError(
            "Nose-Hoover chains and barostats move all atoms, and the geometry has constraints: "
            "take these off, or use nvt with langevin or bussi"
        )
    if settings.ensemble != "npt":
        return
    if not atoms.pbc.all() or atoms.cell.rank < 3:
        raise FFLUXError(
            "constant pressure needs a cell that is periodic in three directions: give a file with "
            "a cell, or use nvt"
        )
    if not _has_stress(atoms):
        raise FFLUXError("constant pressure needs a calculator with stress")


def _without(motions: np.ndarray, scaled: np.ndarray) -> np.ndarray:
    """Mass-weighted momenta (n, 3) without their parts along orthonormal motions (k, n, 3)."""
    return scaled - np.tensordot(np.tensordot(motions, scaled), motions, axes=1)
