"""A search for a saddle point from the guess to the files: geometry, trajectory, mode, ends."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np
from ase import Atoms

from ase_fflux.base.environment import version_of
from ase_fflux.base.errors import FFLUXError
from ase_fflux.base.outputs import OutputFiles, versions, write_json
from ase_fflux.base.units import KJ_PER_MOL
from ase_fflux.simulate.saddle import (
    RELATIONS,
    End,
    below,
    relation,
    saddle_search,
    turned_torsion,
    way_down,
)
from ase_fflux.simulate.scan import deviations_from
from ase_fflux.simulate.steps import Optimisation, raise_with, record
from ase_fflux.simulate.trajectory import write_last
from ase_fflux.simulate.vibrations.analysis import Vibrations, vibrations
from ase_fflux.simulate.vibrations.files import FRAMES, write_animations
from ase_fflux.topology.graphs import atom_label

_ENDS = ("-end-1.xyz", "-end-2.xyz")

SUFFIXES = (".xyz", ".traj", ".log", ".json", "-modes/", *_ENDS)
"""Last geometry, trajectory, table of steps, summary, animations of the imaginary modes, ends of
the ways down."""


@dataclass(eq=False)
class SaddleRun:
    """What a search has found so far.

    Attributes
    ----------
    search : Optimisation
    modes : Vibrations or None
        At the last geometry; None if the search has not converged.
    ends : list of End
        Of the ways down, the lower first; none unless there is one imaginary mode.
    outside : str or None
        The atom that is farthest outside of the training data there and its coverage, in words.
    relation : str or None
        How the minima belong together (`RELATIONS`), None where they are not known.
    deviations : (2,) array or None
        Standard deviations of the ends' energies from that of the saddle point (kJ/mol).
    interrupted : bool
    """

    search: Optimisation
    modes: Vibrations | None = None
    ends: list[End] = field(default_factory=list)
    outside: str | None = None
    relation: str | None = None
    deviations: np.ndarray | None = None
    interrupted: bool = False

    @property
    def imaginary(self) -> np.ndarray:
        """Imaginary wavenumbers as negative numbers (cm^-1); none where there are no modes."""
        found = np.zeros(0) if self.modes is None else self.modes.wavenumbers
        return found[found < 0]

    @property
    def is_saddle(self) -> bool:
        """Whether the search has converged to a geometry with one imaginary mode."""
        return self.search.converged and len(self.imaginary) == 1

    @property
    def complete(self) -> bool:
        """Whether it is a saddle point whose two minima are known."""
        return self.is_saddle and len(self.ends) == 2 and all(e.is_minimum for e in self.ends)


def _unwatched(items: Iterable, description: str, *args, **kwargs) -> Iterable:
    return items


def saddle_to_files(
    atoms: Atoms, files: OutputFiles, *, fmax: float = 0.001, steps: int = 500,
    cartesian: bool = False, uncertainty: bool = False, about: dict | None = None,
    watch: Callable[..., Iterable] = _unwatched,
) -> SaddleRun:
    """Search, look at the modes there, go down both ways, and write all of it as it comes.

    A keyboard interrupt ends it with what there is, ``interrupted`` in the summary; one before the
    first step is passed on.

    Parameters
    ----------
    atoms, fmax, steps, cartesian
        As for `ase_fflux.simulate.saddle.saddle_search`.
    files : OutputFiles
        With `SUFFIXES`; nothing may be there (`OutputFiles.set_aside`).
    uncertainty : bool
        Whether to ask the calculator for standard deviations of the barriers.
    about : dict, optional
        Further entries for the head of the summary, such as model and command.
    watch : callable
        Wraps what takes time, for a progress display: ``watch(items, description, total, unit,
        tell)``, the last with what to say of an item.

    Raises
    ------
    FFLUXError
        What the search raises, after all files have been written with the steps before it; a file
        that cannot be written.
    """
    def told(step) -> str:
        return f"max. force {step.fmax:.4f} eV/A"

    began = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    search, fault = record(
        saddle_search(atoms, fmax=fmax, steps=steps, cartesian=cartesian), files,
        lambda found: watch(found, "searching", None, "steps", told),
    )
    run = SaddleRun(search, interrupted=search.interrupted)
    where = f"after {search.steps} steps"
    if fault is None and search.converged:
        try:
            _look_around(run, atoms.calc, files, fmax, uncertainty, watch)
        except KeyboardInterrupt:
            run.interrupted = True
        except FFLUXError as error:
            fault, where = error, "around the saddle point"
    write_json(files[".json"], {
        **(about or {}),
        "versions": versions() | {"sella": version_of("sella")},
        "formula": atoms.get_chemical_formula(),
        "coordinates": "Cartesian" if cartesian else "internal",
        "converged": search.converged,
        "stopped": str(fault) if fault else None,
        "interrupted": run.interrupted,
        "steps": search.steps,
        "steps_limit": steps,
        "largest_force": {"value": search.last.fmax, "threshold": fmax, "unit": "eV/A"},
        "energy": {"value": search.last.energy, "unit": "eV"},
        "smallest_coverage": search.last.coverage,
        **_modes_summary(run),
        **_ends_summary(run, files),
        "started": began,
        "files": sorted({*files.written, str(files[".json"])}),
    })
    if fault is not None:
        raise_with(where, fault)
    return run


def _look_around(run: SaddleRun, calculator, files, fmax, uncertainty, watch) -> None:
    """The modes at the saddle point, and the ends of the ways down from it."""
    saddle = run.search.atoms.copy()
    saddle.calc = calculator
    run.outside = _outside(saddle)
    modes = vibrations(saddle, watch=lambda jobs: watch(jobs, "displacing", 6 * len(saddle)))
    if count := int((modes.wavenumbers < 0).sum()):
        write_animations(modes, files["-modes/"], count)
    run.modes = modes  # whoever has them finds their files
    if not run.is_saddle:
        return
    ends = [way_down(saddle, run.modes, sign, fmax=fmax) for sign in watch((1, -1), "descending")]
    run.ends = sorted(ends, key=lambda end: end.energy)
    for suffix, end in zip(_ENDS, run.ends, strict=True):
        write_last(files[suffix], end.atoms)
    if run.complete:
        run.relation = relation(*(end.atoms for end in run.ends))
    if uncertainty:
        frames = [run.search.atoms, *(end.atoms for end in run.ends)]
        run.deviations = deviations_from(calculator, frames, 0)[1:]


def _outside(atoms: Atoms) -> str | None:
    atoms.get_forces()
    least = getattr(atoms.calc, "least_coverage", None)
    if least is None:
        return None
    worst = int(np.argmin(atoms.calc.coverage - least))
    if atoms.calc.coverage[worst] >= least[worst]:
        return None
    return f"coverage {atoms.calc.coverage[worst]:.3g} of {atom_label(worst, atoms.numbers)}"


def _modes_summary(run: SaddleRun) -> dict:
    if run.modes is None:
        return {}
    count = len(run.imaginary)
    return {
        "imaginary_modes": count,
        "saddle_point": run.is_saddle,
        "outside_of_the_training_data": run.outside,
        "wavenumbers": {"value": run.modes.wavenumbers, "unit": "cm-1"},
        "imaginary_mode_displacements": {
            "value": run.modes.displacements[:count], "unit": "Angstrom, each of length 1",
        },
        "zero_point_energy": {"value": run.modes.zero_point_energy / KJ_PER_MOL, "unit": "kJ/mol"},
    }


def _ends_summary(run: SaddleRun, files: OutputFiles) -> dict:
    if run.modes is None or not run.ends:
        return {}
    ends = []
    for number, (suffix, end) in enumerate(zip(_ENDS, run.ends, strict=True)):
        bare, with_quanta = below(end, run.modes)
        ends.append({
            "file": str(files[suffix]),
            "minimum": end.is_minimum,
            "converged": end.converged,
            "steps": end.steps,
            "energy": {"value": end.energy, "unit": "eV"},
            "barrier": {"value": bare, "standard_deviation": _deviation(run, number),
                        "unit": "kJ/mol"},
            "barrier_with_zero_point_energies": {"value": with_quanta, "unit": "kJ/mol"},
            "lowest_wavenumber": {"value": end.modes.wavenumbers[0], "unit": "cm-1"},
        })
    return {"ends": ends, "relation_of_the_ends": run.relation}


def _deviation(run: SaddleRun, number: int) -> float | None:
    return None if run.deviations is None else float(run.deviations[number])


def format_saddle(run: SaddleRun, files: OutputFiles) -> list[str]:
    """Lines for the screen: what was found, and what to do where it is not what was looked for."""
    if run.modes is None:
        return []
    shown = ", ".join(f"{-w:.0f}i" for w in run.imaginary)
    if not len(run.imaginary):
        return [
            "no imaginary mode: this is a minimum, no saddle point; start nearer to the top of the "
            "barrier, as from a maximum of fflux scan or the highest image of fflux neb"
        ]
    modes = sorted(files["-modes/"].glob("*.xyz"))
    if len(run.imaginary) > 1:
        return [
            f"{len(run.imaginary)} imaginary modes ({shown} cm-1), and a saddle point has one: "
            f"start again displaced along another than the first, as from frame {FRAMES // 4} of "
            f"{modes[1]} (--index {FRAMES // 4})"
        ]
    lines = [f"one imaginary mode ({shown} cm-1), as a saddle point has: {modes[0]}"]
    if run.outside:
        lines.append(
            f"it is outside of the training data ({run.outside}): the molecule itself may have it "
            "elsewhere or not at all"
        )
    for number, (suffix, end) in enumerate(zip(_ENDS, run.ends, strict=False)):
        bare, with_quanta = below(end, run.modes)
        bar = _deviation(run, number)
        line = (
            f"end {number + 1}: {bare:.2f}{f' +- {bar:.2g}' if bar else ''} kJ/mol below it "
            f"({with_quanta:.2f} with zero-point energies): {files[suffix]}"
        )
        if not end.converged:
            line += f", not converged in {end.steps} steps: go on with fflux opt"
        elif not end.is_minimum:
            line += (
                f", itself a saddle point (mode of {-end.modes.wavenumbers[0]:.0f}i cm-1): go on "
                "with fflux ts"
            )
        lines.append(line)
    if run.relation is not None:
        lines.append(RELATIONS[run.relation])
        one, other = (end.atoms for end in run.ends)
        if torsion := turned_torsion(one, other):
            values = [torsion.value(a) for a in (one, run.search.atoms, other)]
            lines.append(
                f"{torsion.label(one)}: {values[0]:.1f} at end 1, {values[1]:.1f} at the saddle "
                f"point, {values[2]:.1f} degree at end 2"
            )
    return lines
