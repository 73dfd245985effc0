"""What an infrared spectrum from dynamics leaves on disk: table, spectra, summary, picture."""

from dataclasses import asdict

import numpy as np

from ase_fflux.base.outputs import OutputFiles, versions, write_csv, write_json
from ase_fflux.base.store import write_text
from ase_fflux.base.text import aligned
from ase_fflux.plots.thermal import plot_thermal_spectra
from ase_fflux.simulate.vibrations.analysis import Vibrations
from ase_fflux.simulate.vibrations.infrared import spectrum
from ase_fflux.simulate.vibrations.thermal import ThermalSpectra, bands

SUFFIXES = (".txt", ".csv", ".json", ".png")
"""Bands, spectra, all about them, picture."""


def write_thermal_spectra(
    spectra: ThermalSpectra, modes: Vibrations, files: OutputFiles, *, title: str,
    about: dict | None = None,
) -> str:
    """Write all `SUFFIXES`.

    Parameters
    ----------
    spectra : ThermalSpectra
        From dynamics.
    modes : Vibrations
        Harmonic modes at the minimum, with intensities.
    files : OutputFiles
        With `SUFFIXES`; nothing may be there (`OutputFiles.set_aside`).
    title : str
        Above table and picture.
    about : dict, optional
        Further entries for the head of the summary, such as model and command.

    Returns
    -------
    str
        The readable table.
    """
    end = 1.1 * modes.wavenumbers.max() + 100.0
    shown = spectra.wavenumbers <= end
    x = spectra.wavenumbers[shown]
    light, light_error = _mean(spectra.absorptivity[:, shown])
    motion, motion_error = _mean(spectra.modes[:, shown])
    harmonic = spectrum(modes.wavenumbers, modes.ir_intensities, spectra.resolution, x)[1]
    write_csv(files[".csv"], {
        "wavenumber_per_cm": x,
        "molar_absorptivity_L_per_mol_cm": light,
        "molar_absorptivity_standard_error_L_per_mol_cm": light_error,
        "harmonic_molar_absorptivity_L_per_mol_cm": harmonic,
        "velocity_spectrum_modes_cm": motion,
        "velocity_spectrum_standard_error_modes_cm": motion_error,
    })
    plot_thermal_spectra(
        x, (light, light_error), harmonic, (motion, motion_error), modes.wavenumbers,
        files[".png"], title=title, temperature=spectra.temperature,
    )
    found = bands(spectra, modes)
    table = "\n".join(format_bands(found, spectra, title))
    write_text(files[".txt"], table + "\n")
    write_json(files[".json"], {
        **(about or {}),
        "versions": versions(),
        "temperature": {"value": spectra.temperature, "unit": "K"},
        "resolution": {"value": spectra.resolution, "unit": "cm-1"},
        "blocks": len(spectra.absorptivity),
        "block_length": {"value": spectra.frames * spectra.spacing / 1000, "unit": "ps"},
        "quantum_correction": "harmonic",
        "units_of_bands": {"wavenumbers": "cm-1", "intensities": "km/mol"},
        "bands": [asdict(band) for band in found],
        "harmonic": {
            "wavenumber": {"value": modes.wavenumbers, "unit": "cm-1"},
            "ir_intensity": {"value": modes.ir_intensities, "unit": "km/mol"},
        },
        "files": sorted({*files.written, str(files[".json"])}),
    })
    return table


def _mean(blocks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return blocks.mean(axis=0), blocks.std(axis=0, ddof=1) / np.sqrt(len(blocks))


def format_bands(found: list, spectra: ThermalSpectra, title: str) -> list[str]:
    """Lines of the table."""
    rows = [("band/cm-1", "modes", "harmonic/cm-1", "dynamics/cm-1", "shift",
             "harmonic/(km/mol)", "dynamics/(km/mol)")]
    for band in found:
        rows.append((
            f"{band.start:.0f} to {band.end:.0f}", str(band.modes), f"{band.harmonic_centre:.1f}",
            f"{band.centre:.1f} +- {band.centre_error:.1f}",
            f"{band.centre - band.harmonic_centre:+.1f}", f"{band.harmonic_intensity:.2f}",
            f"{band.intensity:.2f} +- {band.intensity_error:.2f}",
        ))
    blocks = len(spectra.absorptivity)
    return [
        title, "",
        f"{blocks} trajectories of {spectra.frames * spectra.spacing / 1000:g} ps at "
        f"{spectra.temperature:g} K, resolution {spectra.resolution:.1f} cm-1, harmonic quantum "
        "correction", "", *aligned(rows, range(1, 7)), "",
        "centres are weighted by intensity; errors are standard errors of the mean over the "
        "trajectories; harmonic",
        "modes are those of the minimum that the input leads to, dynamics may visit others",
    ]
