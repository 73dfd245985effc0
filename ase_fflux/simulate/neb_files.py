"""What a path leaves on disk: images, saddle point, table, summary, picture."""

import numpy as np
from ase.io import write
from ase.utils.forcecurve import fit_images

from ase_fflux.base.outputs import OutputFiles, versions, write_csv, write_json
from ase_fflux.base.store import replacing
from ase_fflux.base.units import KJ_PER_MOL
from ase_fflux.plots.profile import plot_profile
from ase_fflux.simulate.neb import Path
from ase_fflux.simulate.vibrations.analysis import Vibrations

SUFFIXES = (".xyz", "-saddle.xyz", ".csv", ".json", ".png")
"""Images, the highest of them, energies along the path, all numbers, picture."""


def write_path(
    path: Path, modes: Vibrations, files: OutputFiles, *, title: str, about: dict | None = None
) -> None:
    """Write all `SUFFIXES`.

    Parameters
    ----------
    path : Path
        What to write.
    modes : Vibrations
        At its highest image.
    files : OutputFiles
        With `SUFFIXES`; nothing may be there (`OutputFiles.set_aside`).
    title : str
        Above the picture.
    about : dict, optional
        Further entries for the head of the summary, such as model and command.
    """
    for suffix, images in ((".xyz", list(path.images)), ("-saddle.xyz", path.images[path.saddle])):
        with replacing(files[suffix]) as partial:
            write(partial, images, format="extxyz")
    relative, deviation = path.relative, path.uncertainty
    write_csv(files[".csv"], {
        "image": np.arange(len(relative)) + 1,
        "length_angstrom": path.lengths,
        "energy_eV": [image.get_potential_energy() for image in path.images],
        "relative_kJ_per_mol": relative,
        **({} if deviation is None else {"relative_standard_deviation_kJ_per_mol": deviation}),
    })
    fitted = fit_images(list(path.images))
    plot_profile(
        path.lengths, relative, files[".png"], deviation=deviation, title=title,
        axis="length of the path / Angstrom",
        curve=(np.asarray(fitted.fit_path), np.asarray(fitted.fit_energies) / KJ_PER_MOL),
    )
    write_json(files[".json"], {
        **(about or {}),
        "versions": versions(),
        "converged": path.converged,
        "steps": path.steps,
        "largest_force": {"value": path.fmax, "unit": "eV/A"},
        **{name: {"value": value, "standard_deviation": bar, "unit": "kJ/mol"}
           for name, (value, bar) in barriers(path).items()},
        "saddle": {
            "image": path.saddle + 1,
            "imaginary_wavenumbers": {
                "value": modes.wavenumbers[modes.wavenumbers < 0], "unit": "cm-1",
            },
        },
        "images": {
            "relative": {"value": relative, "unit": "kJ/mol"},
            "length": {"value": path.lengths, "unit": "Angstrom"},
        },
        "files": sorted({*files.written, str(files[".json"])}),
    })


def barriers(path: Path) -> dict[str, tuple[float, float | None]]:
    """Barriers from both ends and the difference of the ends (kJ/mol), with standard deviations.

    That of the way back is None: deviations are those of differences from the first image.
    """
    relative, deviation = path.relative, path.uncertainty
    bars = [None] * len(relative) if deviation is None else deviation.tolist()
    top = path.saddle
    return {
        "barrier": (float(relative[top]), bars[top]),
        "barrier_back": (float(relative[top] - relative[-1]), None),
        "energy_of_reaction": (float(relative[-1]), bars[-1]),
    }


_NAMES = {
    "barrier": "barrier", "barrier_back": "barrier of the way back",
    "energy_of_reaction": "second end above the first",
}


def format_path(path: Path, modes: Vibrations) -> list[str]:
    """Lines for the screen."""
    lines = []
    for name, (value, bar) in barriers(path).items():
        lines.append(f"{_NAMES[name]}: {value:.2f}{f' +- {bar:.2g}' if bar else ''} kJ/mol")
    imaginary = modes.wavenumbers[modes.wavenumbers < 0]
    shown = ", ".join(f"{-w:.0f}i" for w in imaginary)
    what = {0: "no imaginary mode: the highest image is no saddle point",
            1: f"one imaginary mode ({shown} cm-1), as a saddle point has"}.get(
        len(imaginary), f"{len(imaginary)} imaginary modes ({shown} cm-1): the highest image is no "
        "saddle point of one barrier")
    lines.append(f"image {path.saddle + 1} of {len(path.images)} is the highest: {what}")
    relative = path.relative
    inner = relative[1:-1]
    wells = np.flatnonzero((inner < relative[:-2]) & (inner < relative[2:])) + 1
    lines += [
        f"image {i + 1} is in a minimum on the way ({relative[i]:.2f} kJ/mol): optimise it, and "
        "find the path to it and from it for the barriers of both" for i in wells
    ]
    return lines
