"""Steps of an optimiser, and the record of them on disk."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NoReturn

import numpy as np
from ase import Atoms, units
from ase.calculators.singlepoint import SinglePointCalculator

from ase_fflux.base.errors import FFLUXError, GeometryError
from ase_fflux.base.outputs import OutputFiles
from ase_fflux.base.store import Appended, sync
from ase_fflux.simulate.limits import Limits
from ase_fflux.simulate.trajectory import FrameFile, write_last

_LOG_COLUMNS = "# step        energy/eV  max.force/(eV/A)  min.coverage"
_CELL_COLUMNS = "    volume/A^3   pressure/bar"
_UNCERTAINTY_COLUMN = " uncertainty/eV"

BAR = units.bar
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


def driven(
    driver, moving: Atoms, free, *, fmax: float, steps: int, uncertainty: bool = False,
    cell: bool = False,
) -> Iterator[Step]:
    """The steps of an optimiser of ASE's kind.

    Parameters
    ----------
    driver : ase.optimize.optimize.Optimizer
        Of ``free``.
    moving : Atoms
        What it moves, with a calculator.
    free : Atoms or Filter
        The same, or the filter around it.
    fmax, steps, uncertainty, cell
        As for `ase_fflux.simulate.optimise.relaxation`.

    Yields
    ------
    Step

    Raises
    ------
    GeometryError
        Energy or forces that are not finite, or an optimiser that loses its way.
    UnphysicalError
        An energy below the limits of `ase_fflux.simulate.limits`.
    """
    limits = Limits(moving)
    run = driver.irun(fmax=fmax, steps=steps)
    while True:
        try:
            converged = next(run)
        except StopIteration:
            break
        except np.linalg.LinAlgError as error:
            raise GeometryError(f"the optimiser has lost its way ({error})") from error
        require_finite(moving, driver.nsteps)
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
            pressure=-float(moving.get_stress()[:3].mean()) / BAR if cell else None,
        )


def record(
    run: Iterable[Step], files: OutputFiles, watch: Callable[[Iterable[Step]], Iterable[Step]],
    *, uncertainty: bool = False, cell: bool = False,
) -> tuple[Optimisation, FFLUXError | None]:
    """Write trajectory and table of steps as they come, and the last geometry.

    Parameters
    ----------
    run : iterable of Step
    files : OutputFiles
        With ``.xyz``, ``.traj`` and ``.log``; nothing may be there.
    watch : callable
        Wraps the steps on their way to the files, for a progress display.
    uncertainty, cell : bool
        Whether the steps have what the table has columns for.

    Returns
    -------
    Optimisation
    FFLUXError or None
        What ended it before its time.

    Raises
    ------
    FFLUXError
        A fault before the first step; a file that cannot be written.
    """
    start = time.perf_counter()
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
    if first is None or last is None:
        raise faults[0]
    trajectory.sync()
    sync(files[".log"])
    result = Optimisation(first, last, time.perf_counter() - start, interrupted)
    write_last(files[".xyz"], result.atoms)
    return result, faults[0] if faults else None


def raise_with(where: str, fault: FFLUXError) -> NoReturn:
    """Raise what ended a run, with where it was."""
    raise type(fault)(f"{where}: {fault}") from fault


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


def require_finite(atoms: Atoms, step: int) -> None:
    """Refuse a geometry without energy and forces.

    Raises
    ------
    GeometryError
    """
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
