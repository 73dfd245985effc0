"""A vibrational analysis as one HTML file: modes that move, spectrum, thermochemistry."""

from pathlib import Path

from ase_fflux.base.outputs import json_text
from ase_fflux.plots.page import Page
from ase_fflux.plots.spectrum import plot_spectrum
from ase_fflux.simulate.thermochemistry import Thermochemistry
from ase_fflux.simulate.vibrations.analysis import Vibrations
from ase_fflux.simulate.vibrations.anharmonic import Anharmonic
from ase_fflux.simulate.vibrations.anharmonic_files import format_levels
from ase_fflux.simulate.vibrations.files import format_table
from ase_fflux.simulate.vibrations.infrared import line_height, spectrum

PAGE = ".html"
"""End of its name."""


def write_page(
    vibrations: Vibrations, thermo: Thermochemistry, file: Path, *, title: str, width: float,
    about: dict, levels: Anharmonic | None = None,
) -> None:
    """Write the page.

    Parameters
    ----------
    vibrations, thermo
        What to show.
    file : Path
    title : str
        Above the page.
    width : float
        Full width at half maximum of the lines in the spectrum (cm^-1).
    about : dict
        What else is told at the end: command, model, its errors, versions.
    levels : Anharmonic, optional
        Anharmonic fundamentals.
    """
    page = Page(f"Harmonic vibrations: {title}")
    page.heading("Normal modes")
    intensities = vibrations.ir_intensities
    items, rows = [], []
    for number, wavenumber in enumerate(vibrations.wavenumbers, 1):
        told = f"{abs(wavenumber):.1f}{'i' if wavenumber < 0 else ''}"
        items.append((
            f"mode {number}: {told} cm-1", vibrations.atoms.positions,
            vibrations.displacements[number - 1],
        ))
        strength = "-" if intensities is None else f"{intensities[number - 1]:.2f}"
        mass = f"{vibrations.reduced_masses[number - 1]:.3f}"
        rows.append((str(number), told, strength, mass))
    head = "mode", "wavenumber/cm-1", "IR intensity/(km/mol)", "reduced mass/amu"
    page.molecules(vibrations.atoms, items, head, rows)
    if intensities is not None:
        page.heading("Infrared spectrum")
        lines = vibrations.wavenumbers, intensities
        page.picture(
            lambda picture: plot_spectrum(
                *lines, *spectrum(*lines, width), picture, title=title, width=width,
                line_height=line_height(width),
            ),
            "infrared spectrum",
        )
    if levels is not None:
        page.heading("Anharmonic fundamentals")
        page.lines("\n".join(format_levels(vibrations, levels)))
    page.heading("Thermochemistry")
    page.lines(format_table(vibrations, thermo, title))
    page.heading("Provenance")
    page.lines(json_text(about))
    page.write(file)
