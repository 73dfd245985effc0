"""What a comparison of a model with data leaves on disk: table, frames, summary, picture."""

import numpy as np

from ase_fflux.assess.comparison import Comparison, levels_differ
from ase_fflux.base.outputs import OutputFiles, versions, write_csv, write_json
from ase_fflux.base.store import write_text
from ase_fflux.base.text import aligned
from ase_fflux.base.units import KJ_PER_MOL
from ase_fflux.plots.parity import plot_parity

SUFFIXES = (".txt", ".csv", ".json", ".png")
"""Table to read, errors of each frame, all numbers, parity plots."""

_WORST = 5
"""Frames that are named."""

_MOST_ORIGINS = 12
"""Origins of frames that have a line of their own; with more they are no kinds but names."""


def write_comparison(
    result: Comparison, files: OutputFiles, *, title: str, about: dict | None = None
) -> str:
    """Write all `SUFFIXES`.

    Parameters
    ----------
    result : Comparison
        What to write.
    files : OutputFiles
        With `SUFFIXES`; nothing may be there (`OutputFiles.set_aside`).
    title : str
        Head of table and picture.
    about : dict, optional
        Further entries for the head of the summary, such as model and command.

    Returns
    -------
    str
        The readable table.
    """
    table = "\n".join(format_comparison(result, title))
    write_text(files[".txt"], table + "\n")
    write_csv(files[".csv"], _columns(result))
    plot_parity(result.quantities, files[".png"], title=title, apart=levels_differ)
    write_json(files[".json"], summary(result, about or {}) | {
        "files": sorted({*files.written, str(files[".json"])}),
    })
    return table


def summary(result: Comparison, about: dict) -> dict:
    """JSON-able, numbers and units apart; frames and atoms are counted from 1."""
    return {
        **about,
        "versions": versions(),
        "level_of_data": result.method,
        "symbols": result.symbols,
        "frames": len(result.frames),
        "frames_left_out": {str(frame): why for frame, why in result.left_out.items()},
        "errors": {q.name: _errors(result, q) for q in result.quantities},
        "by_origin": _by_origin(result),
        "worst_frames": worst_frames(result),
        "coverage_min": float(result.coverage.min()),
    }


def _errors(result: Comparison, quantity) -> dict:
    frame, atom = quantity.worst
    return {
        "unit": quantity.unit, "values": quantity.errors.size, "rmse": quantity.rmse,
        "mae": quantity.mae, "mean": quantity.mean, "max": quantity.largest,
        "standard_deviation": float(quantity.errors.std()),
        "worst": {"frame": int(result.frames[frame]), "atom": None if atom is None else atom + 1},
    }


def worst_frames(result: Comparison) -> list[dict]:
    """The frames with the largest errors of their forces, or of what the data have instead."""
    names = [q.name for q in result.quantities]
    quantity = result["force"] if "force" in names else result.quantities[0]
    errors = quantity.of_frames
    return [
        {"frame": int(result.frames[i]), "quantity": quantity.name, "unit": quantity.unit,
         "rmse": float(errors[i]), "coverage": float(result.coverage[i]),
         "origin": str(result.origins[i])}
        for i in np.argsort(errors)[::-1][:_WORST]
    ]


def _by_origin(result: Comparison) -> dict:
    origins = list(dict.fromkeys(result.origins.tolist()))
    if not 1 < len(origins) <= _MOST_ORIGINS:
        return {}
    return {
        origin: {"frames": int((result.origins == origin).sum())} | {
            q.name: {
                "rmse": float(np.sqrt(np.mean(q.errors[result.origins == origin] ** 2))),
                "unit": q.unit,
            }
            for q in result.quantities
        }
        for origin in origins
    }


def format_comparison(result: Comparison, title: str) -> list[str]:
    """Lines of the table: errors with units, origins, frames that stand out."""
    rows = [("", "RMSE", "MAE", "mean", "scatter", "largest", "unit", "largest at")]
    for q in result.quantities:
        rows.append((
            q.name, *(f"{v:.3g}" for v in (q.rmse, q.mae)), f"{q.mean:+.2g}",
            f"{q.errors.std():.3g}", f"{q.largest:.3g}", q.unit, result.where(q),
        ))
    lines = [title, "", *aligned(rows, range(1, 6)),
             "scatter: root mean square without the mean error"]
    for q in result.quantities:
        if q.name == "energy" and levels_differ(q):
            lines.append(
                "energies differ by far more than they scatter: those of the data are of another "
                "level of theory or have another zero"
            )
    if origins := _by_origin(result):
        names = [q.name for q in result.quantities if q.name in ("energy", "force")]
        heads = [f"{name} RMSE/({result[name].unit})" for name in names]
        lines += ["", *aligned([
            ("origin", "frames", *heads),
            *((origin, str(found["frames"]), *(f"{found[name]['rmse']:.3g}" for name in names))
              for origin, found in origins.items()),
        ], range(1, 2 + len(names)))]
    worst = worst_frames(result)
    lines += ["", f"worst frames by {worst[0]['quantity']}", *aligned([
        ("frame", f"RMSE/({worst[0]['unit']})", "coverage", "origin"),
        *((str(w["frame"]), f"{w['rmse']:.3g}", f"{w['coverage']:.4f}", w["origin"])
          for w in worst),
    ], [0, 1, 2])]
    frames = f"{len(result.frames)} frames (counted from 1), smallest coverage "
    lines += ["", f"{frames}{result.coverage.min():.4f}"]
    if result.left_out:
        first, why = next(iter(result.left_out.items()))
        lines.append(f"left out: {len(result.left_out)} frames; frame {first}: {why}")
    return lines


def _columns(result: Comparison) -> dict:
    """Errors of each frame."""
    columns = {"frame": result.frames, "origin": result.origins, "coverage_min": result.coverage}
    for q in result.quantities:
        if q.name == "energy":
            columns["energy_reference_eV"] = KJ_PER_MOL * q.reference
            columns["energy_predicted_eV"] = KJ_PER_MOL * q.predicted
            columns["energy_error_kJ_per_mol"] = q.errors
        else:
            unit = q.unit.replace("/", "_per_").replace(" ", "_").replace("^", "")
            columns[f"{q.name.replace(' ', '_')}_rmse_{unit}"] = q.of_frames
    return columns
