"""Geometry optimisation with a record of every step."""

import time
from collections.abc import Callable, Iterable, Iterator

from ase import Atoms

from ase_fflux.base.errors import FFLUXError
from ase_fflux.base.outputs import OutputFiles, versions, write_json
from ase_fflux.base.stiffness import guessed_stiffness
from ase_fflux.base.units import KJ_PER_MOL
from ase_fflux.simulate.limits import require_asked
from ase_fflux.simulate.steps import (
    BAR,
    Optimisation,
    Step,
    driven,
    raise_with,
    record,
    require_finite,
)

OPTIMIZERS = {"bfgs": "BFGS", "lbfgs": "LBFGS", "fire": "FIRE"}
"""Names offered here and ASE's own."""

SUFFIXES = (".xyz", ".traj", ".log", ".json")
"""What `optimise_to_files` writes: last geometry, trajectory, table of steps, summary."""


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
    require_finite(moving, 0)
    if optimizer == "bfgs" and not moving.pbc.any():
        # springs by guess instead of one number for all directions: less than half of the steps
        driver.H0 = guessed_stiffness(moving.numbers, moving.positions)
    yield from driven(
        driver, moving, free, fmax=fmax, steps=steps, uncertainty=uncertainty, cell=cell
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
    return FrechetCellFilter(atoms, scalar_pressure=pressure * BAR)


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
    began = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    run = relaxation(
        atoms, fmax=fmax, steps=steps, optimizer=optimizer, uncertainty=uncertainty, cell=cell,
        pressure=pressure,
    )
    result, fault = record(run, files, watch, uncertainty=uncertainty, cell=cell)
    first, last = result.first, result.last
    summary = {
        **(about or {}),
        "versions": versions(),
        "formula": atoms.get_chemical_formula(),
        "optimizer": optimizer,
        "converged": result.converged and fault is None,
        "stopped": str(fault) if fault else None,
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
    if fault is not None:
        raise_with(f"after {result.steps} steps", fault)
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
