"""What a scan leaves on disk: table, geometries, summary, picture."""

import numpy as np
from ase.io import write

from ase_fflux.base.outputs import OutputFiles, versions, write_csv, write_json
from ase_fflux.base.store import replacing
from ase_fflux.plots.profile import plot_profile
from ase_fflux.simulate.coordinate import Coordinate
from ase_fflux.simulate.scan import Profile, ScanPoint, whole_turn

SUFFIXES = (".csv", ".xyz", ".json", ".png")
"""Energies along the coordinate, geometries, all numbers, picture."""


def write_scan(
    points: list[ScanPoint], result: Profile, coordinate: Coordinate, files: OutputFiles, *,
    title: str, rigid: bool, about: dict | None = None,
) -> None:
    """Write all `SUFFIXES`.

    Parameters
    ----------
    points : list of ScanPoint
        All, also those without an energy.
    result : Profile
        Of those that have one.
    coordinate : Coordinate
        What was scanned.
    files : OutputFiles
        With `SUFFIXES`; nothing may be there (`OutputFiles.set_aside`).
    title : str
        Above the picture.
    rigid : bool
        Whether nothing else has moved.
    about : dict, optional
        Further entries for the head of the summary, such as model and command.
    """
    unit = "angstrom" if coordinate.kind == "distance" else "degree"
    columns = {
        f"{coordinate.kind}_{unit}": result.values,
        "energy_eV": [p.energy for p in result.points],
        "relative_kJ_per_mol": result.relative,
        **({} if result.uncertainty is None else {
            "relative_standard_deviation_kJ_per_mol": result.uncertainty
        }),
        "coverage_min": ["" if p.coverage is None else p.coverage for p in result.points],
        "steps": [p.steps for p in result.points],
        "converged": [p.converged for p in result.points],
    }
    write_csv(files[".csv"], columns)
    frames = []
    for point in result.points:
        frame = point.atoms.copy()
        frame.calc = point.atoms.calc
        frame.info = {coordinate.kind: point.value}
        frames.append(frame)
    with replacing(files[".xyz"]) as partial:
        write(partial, frames, format="extxyz")
    label = coordinate.label(frames[0])
    plot_profile(
        result.values, result.relative, files[".png"], deviation=result.uncertainty, title=title,
        axis=f"{label} / {coordinate.unit}",
    )
    write_json(files[".json"], {
        **(about or {}),
        "versions": versions(),
        "coordinate": {"kind": coordinate.kind, "atoms": [a + 1 for a in coordinate.atoms],
                       "label": label, "unit": coordinate.unit},
        "rigid": rigid,
        "units": {"value": coordinate.unit, "energy": "eV", "relative": "kJ/mol",
                  "relative_standard_deviation": "kJ/mol"},
        "points": [
            {"value": p.value, "energy": p.energy, "relative": float(e),
             "relative_standard_deviation": s, "coverage_min": p.coverage, "steps": p.steps,
             "converged": p.converged}
            for p, e, s in zip(result.points, result.relative, _or_none(result), strict=True)
        ],
        "points_without_energy": [
            {"value": p.value, "why": p.fault} for p in points if p.fault
        ],
        "minima": extrema(result, lowest=True), "maxima": extrema(result, lowest=False),
        "whole_turn_difference": {"value": whole_turn(points), "unit": "kJ/mol"},
        "files": sorted({*files.written, str(files[".json"])}),
    })


def _or_none(result: Profile) -> list:
    if result.uncertainty is None:
        return [None] * len(result.points)
    return result.uncertainty.tolist()


def extrema(result: Profile, *, lowest: bool) -> list[dict]:
    """Points that lie below, or above, both of their neighbours; the ends are none.

    Where a torsion has made a whole turn the ends are neighbours, and the last is the first.
    """
    energies, values = result.relative, result.values
    turned = len(values) > 3 and np.isclose(abs(values[-1] - values[0]), 360.0)
    n = len(values) - 1 if turned else len(values)
    sign = 1.0 if lowest else -1.0
    found = []
    for i in range(0 if turned else 1, n if turned else n - 1):
        before, after = energies[(i - 1) % n], energies[(i + 1) % n]
        # of equal neighbours the first is taken
        if sign * energies[i] < sign * before and sign * energies[i] <= sign * after:
            found.append({
                "value": float(values[i]), "relative": float(energies[i]),
                "relative_standard_deviation": _or_none(result)[i],
            })
    return found


def format_scan(result: Profile, coordinate: Coordinate) -> list[str]:
    """Lines that say where the minima and maxima are."""
    lines = []
    for name, lowest in (("minima", True), ("maxima", False)):
        found = extrema(result, lowest=lowest)
        shown = ", ".join(
            f"{e['relative']:.2f} kJ/mol{_bar(e)} at {e['value']:.4g}" for e in found
        )
        lines.append(f"{name}: {shown or 'none within the range'}"
                     f"{' ' + coordinate.unit if found else ''}")
    lines.append(
        f"highest point: {result.relative.max():.2f} kJ/mol above the lowest, at "
        f"{result.values[result.relative.argmax()]:.4g} {coordinate.unit}"
    )
    return lines


def _bar(extremum: dict) -> str:
    deviation = extremum["relative_standard_deviation"]
    return f" +- {deviation:.2g}" if deviation else ""
