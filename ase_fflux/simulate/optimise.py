"""Geometry optimisation with a record of every step."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from ase_fflux.base.errors import FFLUXError, GeometryError
from ase_fflux.base.outputs import OutputFiles, versions, write_json
from ase_fflux.base.store import Appended, sync
from ase_fflux.base.units import KJ_PER_MOL
from ase_fflux.simulate.limits import Limits
from ase_fflux.simulate.trajectory import FrameFile, write_last

OPTIMIZERS = {"bfgs": "BFGS", "lbfgs": "LBFGS", "fire": "FIRE"}
"""Names offered here and ASE's own."""

SUFFIXES = (".xyz", ".traj", ".log", ".json")
"""What `optimise_to_files` writes: last geometry, trajectory, table of steps, summary."""

_LOG_COLUMNS = "# step        energy/eV  max.force/(eV/A)  min.coverage"
_UNCERTAINTY_COLUMN = " uncertainty/eV"


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
    """

    index: int
    atoms: Atoms
    energy: float
    fmax: float
    coverage: float | None
    converged: bool
    uncertainty: float | None = None


@dataclass(frozen=True)
class Optimisation:
    """First and last step of an optimisation, its wall time and whether it was interrupted."""

    first: Step
    last: Step
    seconds: float
    interrupted: bool = False

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
    uncertainty: bool = False,
) -> Iterator[Step]:
    """Optimise step by step; the geometry handed in stays as it is.

    Parameters
    ----------
    atoms : Atoms
        Start, with a calculator. Constraints are honoured, the cell is fixed.
    fmax : float
        Stop when no atom feels a larger force (eV/Angstrom).
    steps : int
        Stop after so many steps.
    optimizer : str
        One of `OPTIMIZERS`.
    uncertainty : bool
        Whether steps have the standard deviation of the predicted energy.

    Yields
    ------
    Step
        The start and every step after it.

    Raises
    ------
    FFLUXError
        No atoms, no calculator or an unknown optimizer.
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
    moving = atoms.copy()
    moving.calc = atoms.calc
    driver = getattr(ase.optimize, OPTIMIZERS[optimizer])(moving, logfile=None)
    _require_finite(moving, 0)
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
            fmax=_largest_force(moving),
            coverage=coverage,
            converged=bool(converged),
            uncertainty=moving.calc.get_uncertainty(moving).energy if uncertainty else None,
        )


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
    about: dict | None = None,
    watch: Callable[[Iterable[Step]], Iterable[Step]] = iter,
) -> Optimisation:
    """Optimise and write geometry, trajectory, table of steps and summary as it goes.

    A keyboard interrupt ends the optimisation at the last evaluated step, which is written like a
    final one, with ``interrupted`` in the summary; one before the first step is passed on.

    Parameters
    ----------
    atoms, fmax, steps, optimizer, uncertainty
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
        atoms, fmax=fmax, steps=steps, optimizer=optimizer, uncertainty=uncertainty
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
                    log.add(_LOG_COLUMNS + _UNCERTAINTY_COLUMN * uncertainty + "\n")
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
        "started": began,
        "wall_time_s": round(result.seconds, 3),
        "files": [str(files[suffix]) for suffix in SUFFIXES],
    }
    write_json(files[".json"], summary)
    for fault in faults:
        raise type(fault)(f"after {result.steps} steps: {fault}") from fault
    return result


def _until_a_fault(steps: Iterable[Step], faults: list[FFLUXError]) -> Iterator[Step]:
    try:
        yield from steps
    except FFLUXError as error:
        faults.append(error)


def _largest_force(atoms: Atoms) -> float:
    return float(np.linalg.norm(atoms.get_forces(), axis=1).max())


def _snapshot(atoms: Atoms) -> Atoms:
    copy = atoms.copy()
    forces = atoms.get_forces(apply_constraint=False)
    # without the energy of constraints, which whoever reads the geometry adds
    energy = atoms.get_potential_energy(apply_constraint=False)
    copy.calc = SinglePointCalculator(copy, energy=energy, forces=forces)
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
    if step.uncertainty is not None:
        line += f" {step.uncertainty:{len(_UNCERTAINTY_COLUMN) - 1}.8f}"
    return line + "\n"
