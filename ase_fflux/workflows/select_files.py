"""What is written of a choice of geometries."""

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
from ase import Atoms
from ase.io import write

from ase_fflux.base.outputs import OutputFiles, versions, write_csv, write_json
from ase_fflux.base.store import replacing
from ase_fflux.base.text import aligned
from ase_fflux.learn.joint.exchange import Exchange
from ase_fflux.plots.selection import plot_selection
from ase_fflux.workflows.feasibility import Feasibility
from ase_fflux.workflows.select import Process, Selection

SUFFIXES = (".xyz", ".csv", ".json", ".png")
"""Geometries in the order of choice, expected errors, all numbers, picture."""

_SHOWN = 1, 2, 5, 10, 20, 25, 50, 100, 200, 500


def write_selection(
    selection: Selection, process: Process, frames: Sequence[Atoms], files: OutputFiles, *,
    title: str, about: dict, report: Feasibility | None = None,
) -> None:
    """Write all `SUFFIXES`.

    Parameters
    ----------
    selection : Selection
    process : Process
        What it stands on.
    frames : sequence of Atoms
        The pool.
    files : OutputFiles
        With `SUFFIXES`; nothing may be there (`OutputFiles.set_aside`).
    title : str
        Above the picture.
    about : dict
        Head of the summary; words and numbers of it stand above every geometry as well.
    report : Feasibility, optional
    """
    said = {
        name: value for name, value in about.items() if isinstance(value, str | int) and value != ""
    }
    chosen = []
    for number, place in enumerate(selection.chosen, 1):
        atoms = Atoms(frames[place].numbers, frames[place].positions)
        origin = frames[place].info.get("origin")
        atoms.info = {
            **({} if origin is None else {"origin": origin}), "choice": number,
            "pool_frame": int(place) + 1, **said,
        }
        chosen.append(atoms)
    with replacing(files[".xyz"]) as partial:
        write(partial, chosen, format="extxyz")
    count = len(selection.chosen)
    write_csv(files[".csv"], {
        "labels": np.arange(count) + 1,
        "pool_frame": selection.chosen + 1,
        "expected_force_rmse_eV_per_A": selection.force_rmse,
        "expected_energy_rmse_kJ_per_mol": selection.energy_rmse,
    })
    plot_selection(
        selection.force_rmse, selection.energy_rmse, selection.checked, files[".png"],
        title=title, cheap=process.origin, goal=None if report is None else report.goal,
    )
    write_json(files[".json"], {
        **about,
        "versions": versions(),
        "process": process.origin,
        "scale": process.scale,
        "pool_frames": {"value": selection.chosen + 1, "counted_from": 1},
        "expected": {
            "force_rmse": {"value": selection.force_rmse, "unit": "eV/A"},
            "energy_rmse": {"value": selection.energy_rmse, "unit": "kJ/mol"},
        },
        "expected_without_scale": {
            "force_rmse": {"value": selection.force_alone, "unit": "eV/A"},
            "energy_rmse": {"value": selection.energy_alone, "unit": "kJ/mol"},
        },
        "cheap_level": [
            {"labels": n, "force_rmse": force, "energy_rmse": energy}
            for n, (force, energy) in selection.checked.items()
        ],
        "exchange": None if selection.exchanged is None else asdict(selection.exchanged),
        "report": None if report is None else asdict(report),
        "files": sorted({*files.written, str(files[".json"])}),
    })


def format_selection(selection: Selection) -> list[str]:
    """Lines for the screen."""
    count = len(selection.chosen)
    rows = [("labels", "force RMSE (eV/A)", "energy RMSE (kJ/mol)")]
    rows += [
        (str(n), f"{selection.force_rmse[n - 1]:.2g}", f"{selection.energy_rmse[n - 1]:.2g}")
        for n in sorted({*(n for n in _SHOWN if n < count), count})
    ]
    return [f"  {line}" for line in aligned(rows, [0, 1, 2])]


def format_exchange(exchanged: Exchange, criterion: str) -> str:
    """A line for the screen."""
    if criterion == "D":
        gain = f"logarithm of the determinant {2 * exchanged.gain:.3g} larger"
    else:
        gain = f"expected errors {100 * -np.expm1(-exchanged.gain):.2g} % lower in the mean"
    return f"exchanged {exchanged.swaps} times in {exchanged.passes} rounds: {gain}"
