"""What a vibrational analysis leaves on disk: tables, spectrum, animations, phonopy's file."""

from dataclasses import asdict
from itertools import islice
from pathlib import Path

import numpy as np
from ase import units
from ase.io import write

from ase_fflux.base.outputs import OutputFiles, versions, write_csv, write_json
from ase_fflux.base.store import replacing, write_text
from ase_fflux.base.units import KJ_PER_MOL
from ase_fflux.plots.spectrum import plot_spectrum
from ase_fflux.simulate.thermochemistry import Thermochemistry
from ase_fflux.simulate.vibrations.analysis import Vibrations
from ase_fflux.simulate.vibrations.infrared import line_height, spectrum

SUFFIXES = (
    ".txt", ".csv", ".json", "-spectrum.csv", ".png", "-modes/", "-phonopy_params.yaml",
)
"""Tables to read and to compute with, all numbers, spectrum and picture, animations, phonopy."""

FRAMES = 20
"""Frames of one period of an animation."""

AMPLITUDE = 0.3
"""Largest excursion of an atom in an animation (Angstrom)."""


def write_vibrations(
    vibrations: Vibrations,
    thermo: Thermochemistry,
    files: OutputFiles,
    title: str,
    *,
    width: float = 10.0,
    about: dict | None = None,
) -> str:
    """Write all `SUFFIXES` (no spectrum and no picture without dipoles).

    Parameters
    ----------
    vibrations, thermo
        What to write.
    files : OutputFiles
        With `SUFFIXES`; nothing may be there (`OutputFiles.set_aside`).
    title : str
        Head of table and picture.
    width : float
        Full width at half maximum of the lines in the spectrum (cm^-1).
    about : dict, optional
        Further entries for the head of the summary, such as model and command.

    Returns
    -------
    str
        The readable table.
    """
    columns = _columns(vibrations)
    table = format_table(vibrations, thermo, title)
    write_text(files[".txt"], table + "\n")
    write_csv(files[".csv"], columns)
    if vibrations.ir_intensities is not None:
        lines = vibrations.wavenumbers, vibrations.ir_intensities
        grid, absorptivity = spectrum(*lines, width)
        names = ("wavenumber_per_cm", "molar_absorptivity_L_per_mol_cm")
        write_csv(files["-spectrum.csv"], dict(zip(names, (grid, absorptivity), strict=True)))
        plot_spectrum(
            *lines, grid, absorptivity, files[".png"], title=title, width=width,
            line_height=line_height(width),
        )
    write_animations(vibrations, files["-modes/"])
    with replacing(files["-phonopy_params.yaml"]) as partial:
        vibrations.phonon.save(partial, settings={"force_constants": True})
    summary = {
        **(about or {}),
        "versions": versions(),
        "formula": vibrations.atoms.get_chemical_formula(),
        "energy_eV": vibrations.energy,
        "fmax_eV_per_angstrom": vibrations.fmax,
        "zero_point_energy_eV": vibrations.zero_point_energy,
        "zero_point_energy_kJ_per_mol": vibrations.zero_point_energy / KJ_PER_MOL,
        "imaginary_modes": int((vibrations.wavenumbers < 0).sum()),
        "external_wavenumbers_per_cm": vibrations.external_wavenumbers,
        "modes": columns,
        "mode_displacements": vibrations.displacements,
        "thermochemistry": _thermo_summary(thermo),
        "files": sorted({*files.written, str(files[".json"])}),
    }
    write_json(files[".json"], summary)
    return table


def write_animations(vibrations: Vibrations, folder: Path, most: int | None = None) -> None:
    """One multi-frame extxyz file per mode: a sine of one period around the geometry.

    Parameters
    ----------
    vibrations : Vibrations
    folder : Path
        Not there yet.
    most : int, optional
        Of how many modes, from the lowest; of all without it.
    """
    digits = len(str(len(vibrations.wavenumbers)))
    phases = np.sin(2 * np.pi * np.arange(FRAMES) / FRAMES)
    modes = zip(vibrations.wavenumbers, vibrations.displacements, strict=True)
    with replacing(folder, new=True) as partial:
        partial.mkdir()
        for number, (wavenumber, mode) in enumerate(islice(modes, most), start=1):
            largest = np.linalg.norm(mode, axis=1).max()
            frames = []
            for phase in phases:
                frame = vibrations.atoms.copy()
                frame.positions += AMPLITUDE * phase / largest * mode
                frame.info = {"mode": number, "wavenumber_per_cm": round(float(wavenumber), 2)}
                frames.append(frame)
            name = f"mode-{number:0{digits}d}_{_label(wavenumber).replace(' ', '')}.xyz"
            write(partial / name, frames, format="extxyz")


def format_table(vibrations: Vibrations, thermo: Thermochemistry, title: str) -> str:
    """The table for people: modes, zero-point energy and thermochemistry with their units."""
    columns = _columns(vibrations)
    head = ["mode", "wavenumber", "IR intensity", "reduced mass", "force constant"]
    unit = ["", "cm-1", "km/mol", "amu", "mdyn/A"]
    lines = [f"Harmonic vibrations: {title}", ""]
    lines += ["{:>4s} {:>13s} {:>13s} {:>13s} {:>15s}".format(*row) for row in (head, unit)]
    for i, wavenumber in enumerate(vibrations.wavenumbers):
        intensity = "-"
        if vibrations.ir_intensities is not None:
            intensity = f"{vibrations.ir_intensities[i]:.2f}"
        mass = columns["reduced_mass_amu"][i]
        constant = columns["force_constant_mdyn_per_angstrom"][i]
        label = _label(wavenumber) if wavenumber < 0 else f"{_label(wavenumber)}  "
        lines.append(f"{i + 1:4d} {label:>13s} {intensity:>13s} {mass:13.3f} {constant:15.4f}")
    outside = np.abs(vibrations.external_wavenumbers).max()
    lines += [
        "",
        "An imaginary wavenumber is given as a negative number and marked i.",
        f"Removed translations and rotations: below {outside:.1f} cm-1 before projection.",
        f"Largest force on an atom: {vibrations.fmax:.5f} eV/A.",
        "",
        f"Ideal gas at {thermo.temperature:g} K and {thermo.pressure:g} Pa "
        f"({thermo.geometry}, symmetry number {thermo.symmetry_number}, rigid rotor, harmonic)",
        f"{'':34s}{'eV':>16s}{'kJ/mol':>14s}",
    ]
    corrections = {
        "zero-point energy": thermo.zero_point_energy,
        "internal energy U - E": thermo.internal_energy - vibrations.energy,
        "enthalpy H - E": thermo.enthalpy - vibrations.energy,
        "Gibbs energy G - E": thermo.gibbs_energy - vibrations.energy,
    }
    for name, value in corrections.items():
        lines.append(f"{name:34s}{value:16.6f}{value / KJ_PER_MOL:14.3f}")
    totals = {
        "potential energy E": vibrations.energy,
        "enthalpy H": thermo.enthalpy,
        "Gibbs energy G": thermo.gibbs_energy,
    }
    lines += [f"{name:34s}{value:16.6f}" for name, value in totals.items()]
    lines.append(f"{'':34s}{'eV/K':>16s}{'J/(mol K)':>14s}")
    molar = {
        "entropy S": thermo.entropy,
        "heat capacity Cv": thermo.cv,
        "heat capacity Cp": thermo.cp,
    }
    for name, value in molar.items():
        lines.append(f"{name:34s}{value:16.8f}{1e3 * value / KJ_PER_MOL:14.3f}")
    lines += [f"Note: {note}." for note in thermo.notes]
    return "\n".join(lines)


def _label(wavenumber: float) -> str:
    return f"{wavenumber:.1f}" + (" i" if wavenumber < 0 else "")


def _columns(vibrations: Vibrations) -> dict[str, np.ndarray]:
    columns = {
        "mode": np.arange(1, len(vibrations.wavenumbers) + 1),
        "wavenumber_per_cm": vibrations.wavenumbers,
    }
    if vibrations.ir_intensities is not None:
        columns["ir_intensity_km_per_mol"] = vibrations.ir_intensities
    columns["reduced_mass_amu"] = vibrations.reduced_masses
    newton_per_metre = vibrations.force_constants * units._e * 1e20
    columns["force_constant_mdyn_per_angstrom"] = newton_per_metre / 100
    return columns


def _thermo_summary(thermo: Thermochemistry) -> dict:
    unit = {"temperature": "_K", "pressure": "_Pa"}
    unit |= dict.fromkeys(("entropy", "cv", "cp"), "_eV_per_K")
    unit |= dict.fromkeys(
        ("zero_point_energy", "internal_energy", "enthalpy", "gibbs_energy"), "_eV"
    )
    return {name + unit.get(name, ""): value for name, value in asdict(thermo).items()}
