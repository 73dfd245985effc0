"""Geometry optimisation with a record of every step."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from ase import Atoms, units
from ase.calculators.singlepoint import SinglePointCalculator

from ase_fflux.base.errors import FFLUXError, GeometryError
from ase_fflux.base.outputs import OutputFiles, versions, write_json
from ase_fflux.base.stiffness import guessed_stiffness
from ase_fflux.base.store import Appended, sync
from ase_fflux.base.units import KJ_PER_MOL
from ase_fflux.simulate.limits import Limits, require_asked
from ase_fflux.simulate.trajectory import FrameFile, write_last

OPTIMIZERS = {"bfgs": "BFGS", "lbfgs": "LBFGS", "fire": "FIRE"}
"""Names offered here and ASE's own."""

SUFFIXES = (".xyz", ".traj", ".log", ".json")
"""What `optimise_to_files` writes: last geometry, trajectory, table of steps, summary."""

_LOG_COLUMNS = "# step        energy/eV  max.force/(eV/A)  min.coverage"
_CELL_COLUMNS = "    volume/A^3   pressure/bar"
_UNCERTAINTY_COLUMN = " uncertainty/eV"

_BAR = units.bar
"""eV/Angstrom^3."""


@dataclass(frozen=True)
class Step:
    """One evaluated geometry of an optimisation.

    Attributes
    ----------
    index : int
        0 for the start.
    atoms : Atoms
        The geometry with its constraints, and energy and forces of the force field.
    energy : float
        Potential energy, with that of constraints (eV).
    fmax : float
        Largest force on an atom, constraints applied (eV/Angstrom).
    coverage : float or None
        Smallest coverage of an atom (0 to 1, `FFLUX.coverage`), None if the calculator has none.
    converged : bool
        Whether fmax is below the threshold.
    uncertainty : float or None
        Standard deviation of the predicted energy (eV), None if not asked for.
    volume, pressure : float or None
        Of the cell (Angstrom^3, bar), None where it is not optimised.
    """

    index: int
    atoms: Atoms
    energy: float
    fmax: float
    coverage: float | None
    converged: bool
    uncertainty: float | None = None
    volume: float | None = None
    pressure: float | None = None


@dataclass(frozen=True)
class Optimisation:
    """First and last step of an optimisation, its wall time and whether it was interrupted."""

    first: Step
    last: Step
    seconds: float
    interrupted: bool = False

    def __repr__(self) -> str:
        return (
            f"<Optimisation {'converged' if self.converged else 'not converged'} after "
            f"{self.steps} steps: energy {self.last.energy:.6f} eV, largest force "
            f"{self.last.fmax:.2g} eV/A>"
        )

    @property
    def atoms(self) -> Atoms:
        return self.last.atoms

    @property
    def converged(self) -> bool:
        return self.last.converged

    @property
    def steps(self) -> int:
        return self.last.index


def relaxation(
    atoms: Atoms, *, fmax: float = 0.001, steps: int = 1000, optimizer: str = "bfgs",
    uncertainty: bool = False, cell: bool = False, pressure: float | None = None,
) -> Iterator[Step]:
    """Optimise step by step; the geometry handed in stays as it is.

    Parameters
    ----------
    atoms : Atoms
        Start, with a calculator. Constraints are honoured.
    fmax : float
        Stop when no atom feels a larger force (eV/Angstrom).
    steps : int
        Stop after so many steps.
    optimizer : str
        One of `OPTIMIZERS`.
    uncertainty : bool
        Whether steps have the standard deviation of the predicted energy.
    cell : bool
        Whether the cell is optimised too (ASE's `FrechetCellFilter`), by default it is fixed. The
        largest force then counts the stress too, as volume times stress by the number of atoms
        (eV).
    pressure : float, optional
        On the cell that is optimised (bar), zero without it.

    Yields
    ------
    Step
        The start and every step after it.

    Raises
    ------
    FFLUXError
        No atoms, no calculator or an unknown optimizer; a cell or a pressure that there cannot be.
    GeometryError
        Energy or forces that are not finite.
    UnphysicalError
        An energy below the limits of `ase_fflux.simulate.limits`.
    """
    import ase.optimize

    if len(atoms) == 0:
        raise FFLUXError("nothing to optimise: the geometry has no atoms")
    if atoms.calc is None:
        raise FFLUXError("nothing to optimise with: set atoms.calc, for example FFLUX('ethanol')")
    if optimizer not in OPTIMIZERS:
        raise FFLUXError(f"unknown optimizer {optimizer!r}: choose from {', '.join(OPTIMIZERS)}")
    require_asked(pressure=pressure)
    moving = atoms.copy()
    moving.calc = atoms.calc
    free = _with_cell(moving, pressure or 0.0) if cell else moving
    if pressure is not None and not cell:
        raise FFLUXError("a pressure is on a cell that is optimised, and this one is fixed")
    driver = getattr(ase.optimize, OPTIMIZERS[optimizer])(free, logfile=None)
    _require_finite(moving, 0)
    if optimizer == "bfgs" and not moving.pbc.any():
        # springs by guess instead of one number for all directions: less than half of the steps
        driver.H0 = guessed_stiffness(moving.numbers, moving.positions)
    limits = Limits(moving)
    run = driver.irun(fmax=fmax, steps=steps)
    while True:
        try:
            converged = next(run)
        except StopIteration:
            break
        except np.linalg.LinAlgError as error:
            raise GeometryError(f"the optimiser has lost its way ({error})") from error
        _require_finite(moving, driver.nsteps)
        energy, coverage = moving.get_potential_energy(), getattr(moving.calc, "coverage", None)
        coverage = None if coverage is None else float(np.min(coverage))
        limits.check(energy)
        yield Step(
            index=driver.nsteps,
            atoms=_snapshot(moving),
            energy=energy,
            fmax=_largest_force(free),
            coverage=coverage,
            converged=bool(converged),
            uncertainty=moving.calc.get_uncertainty(moving).energy if uncertainty else None,
            volume=float(moving.get_volume()) if cell else None,
            pressure=-float(moving.get_stress()[:3].mean()) / _BAR if cell else None,
        )


def require_cell(atoms: Atoms) -> None:
    """Refuse atoms whose cell cannot be optimised.

    Raises
    ------
    FFLUXError
        Not periodic in three directions, or a calculator without stress.
    """
    if not atoms.pbc.all() or atoms.cell.rank < 3:
        raise FFLUXError(
            "no cell to optimise: the geometry is not periodic in three directions"
        )
    if "stress" not in getattr(atoms.calc, "implemented_properties", ()):
        raise FFLUXError("a cell is optimised with a calculator that has stress, this one has none")


def _with_cell(atoms: Atoms, pressure: float):
    """Atoms and cell as one set of coordinates."""
    from ase.filters import FrechetCellFilter

    require_cell(atoms)
    return FrechetCellFilter(atoms, scalar_pressure=pressure * _BAR)


def optimise(atoms: Atoms, **settings) -> Optimisation:
    """Run `relaxation` with these settings to its end."""
    start = time.perf_counter()
    first = last = None
    for last in relaxation(atoms, **settings):
        first = first or last
    return Optimisation(first, last, time.perf_counter() - start)


def optimise_to_files(
    atoms: Atoms,
    files: OutputFiles,
    *,
    fmax: float = 0.001,
    steps: int = 1000,
    optimizer: str = "bfgs",
    uncertainty: bool = False,
    cell: bool = False,
    pressure: float | None = None,
    about: dict | None = None,
    watch: Callable[[Iterable[Step]], Iterable[Step]] = iter,
) -> Optimisation:
    """Optimise and write geometry, trajectory, table of steps and summary as it goes.

    A keyboard interrupt ends the optimisation at the last evaluated step, which is written like a
    final one, with ``interrupted`` in the summary; one before the first step is passed on.

    Parameters
    ----------
    atoms, fmax, steps, optimizer, uncertainty, cell, pressure
        As for `relaxation`.
    files : OutputFiles
        With `SUFFIXES`; nothing may be there (`OutputFiles.set_aside`).
    about : dict, optional
        Further entries for the head of the summary, such as model and command.
    watch : callable
        Wraps the steps on their way to the files, for a progress display.

    Raises
    ------
    FFLUXError
        What `relaxation` raises, with the step, after all files have been written with the steps
        before it; a file that cannot be written.
    """
    start = time.perf_counter()
    began = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    run = relaxation(
        atoms, fmax=fmax, steps=steps, optimizer=optimizer, uncertainty=uncertainty, cell=cell,
        pressure=pressure,
    )
    first = last = None
    interrupted = False
    faults: list[FFLUXError] = []
    trajectory = FrameFile(files[".traj"])
    try:
        for last in watch(_until_a_fault(run, faults)):
            with Appended(files[".log"]) as log:
                if first is None:
                    first = last
                    log.add(
                        _LOG_COLUMNS + _CELL_COLUMNS * cell + _UNCERTAINTY_COLUMN * uncertainty
                        + "\n"
                    )
                trajectory.add([last.atoms])
                log.add(_log_line(last))
    except KeyboardInterrupt:
        if last is None:
            raise
        interrupted = not last.converged
    if last is None:
        raise faults[0]
    trajectory.sync()
    sync(files[".log"])
    result = Optimisation(first, last, time.perf_counter() - start, interrupted)
    write_last(files[".xyz"], result.atoms)
    summary = {
        **(about or {}),
        "versions": versions(),
        "formula": atoms.get_chemical_formula(),
        "optimizer": optimizer,
        "converged": result.converged and not faults,
        "stopped": str(faults[0]) if faults else None,
        "interrupted": result.interrupted,
        "steps": result.steps,
        "steps_limit": steps,
        "fmax_threshold_eV_per_angstrom": fmax,
        "fmax_initial_eV_per_angstrom": first.fmax,
        "fmax_final_eV_per_angstrom": last.fmax,
        "energy_initial_eV": first.energy,
        "energy_final_eV": last.energy,
        "energy_change_kJ_per_mol": (last.energy - first.energy) / KJ_PER_MOL,
        "coverage_min_final": last.coverage,
        "uncertainty_final_eV": last.uncertainty,
        **(_cell_summary(first, last, pressure or 0.0) if cell else {}),
        "started": began,
        "wall_time_s": round(result.seconds, 3),
        "files": files.names,
    }
    write_json(files[".json"], summary)
    for fault in faults:
        raise type(fault)(f"after {result.steps} steps: {fault}") from fault
    return result


def _cell_summary(first: Step, last: Step, pressure: float) -> dict:
    return {
        "pressure_bar": pressure,
        "pressure_initial_bar": first.pressure,
        "pressure_final_bar": last.pressure,
        "volume_initial_A3": first.volume,
        "volume_final_A3": last.volume,
        "cell_lengths_final_A": last.atoms.cell.lengths(),
        "cell_angles_final_degrees": last.atoms.cell.angles(),
    }


def _until_a_fault(steps: Iterable[Step], faults: list[FFLUXError]) -> Iterator[Step]:
    try:
        yield from steps
    except FFLUXError as error:
        faults.append(error)


def _largest_force(atoms) -> float:
    return float(np.linalg.norm(atoms.get_forces(), axis=1).max())


def _snapshot(atoms: Atoms) -> Atoms:
    copy = atoms.copy()
    forces = atoms.get_forces(apply_constraint=False)
    # without the energy of constraints, which whoever reads the geometry adds
    energy = atoms.get_potential_energy(apply_constraint=False)
    found = {"energy": energy, "forces": forces}
    if atoms.pbc.all() and "stress" in atoms.calc.results:
        found["stress"] = atoms.get_stress(apply_constraint=False)
    copy.calc = SinglePointCalculator(copy, **found)
    return copy


def _require_finite(atoms: Atoms, step: int) -> None:
    energy, forces = atoms.get_potential_energy(), atoms.get_forces()
    if not (np.isfinite(energy) and np.isfinite(forces).all()):
        raise GeometryError(
            f"energy or forces at step {step} are not finite: "
            "check the geometry for atoms on one spot or far outside of the training data"
        )


def _log_line(step: Step) -> str:
    coverage = "-" if step.coverage is None else f"{step.coverage:.6f}"
    line = f"{step.index:6d} {step.energy:16.8f} {step.fmax:17.6f} {coverage:>13s}"
    if step.volume is not None:
        line += f" {step.volume:13.4f} {step.pressure:14.3f}"
    if step.uncertainty is not None:
        line += f" {step.uncertainty:{len(_UNCERTAINTY_COLUMN) - 1}.8f}"
    return line + "\n"
