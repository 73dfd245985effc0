"""Picture of spectra from dynamics beside harmonic ones."""

from pathlib import Path

import numpy as np

from ase_fflux.plots.figure import new_figure, picture, plain_axis, save

_Curve = tuple[np.ndarray, np.ndarray]


@picture
def plot_thermal_spectra(
    wavenumbers: np.ndarray, light: _Curve, harmonic: np.ndarray, motion: _Curve,
    modes: np.ndarray, file: Path, *, title: str, temperature: float,
) -> None:
    """Draw the infrared spectrum of dynamics over the harmonic one, and below it all motion.

    Parameters
    ----------
    wavenumbers : (k,) array
        cm^-1.
    light : two (k,) arrays
        Molar absorptivity and its standard error (L mol^-1 cm^-1), drawn as a band of twice that.
    harmonic : (k,) array
        Of the same lines in the harmonic approximation.
    motion : two (k,) arrays
        Modes per cm^-1 and their standard error.
    modes : (n,) array
        Harmonic wavenumbers (cm^-1), marked on the lower axis; imaginary ones are not drawn.
    file : Path
        PNG to write.
    title : str
        Above the picture.
    temperature : float
        K.
    """
    figure = new_figure(7.0, 5.2)
    upper, lower = figure.subplots(2, sharex=True, height_ratios=[1.6, 1])
    colour, other = "#1f4e79", "#c0504d"
    upper.plot(wavenumbers, harmonic, color=other, linewidth=0.8, label="harmonic")
    for axis, (mean, error) in ((upper, light), (lower, motion)):
        label = f"dynamics at {temperature:g} K, two standard errors"
        axis.plot(wavenumbers, mean, color=colour, linewidth=0.9, label=label)
        axis.fill_between(
            wavenumbers, mean - 2 * error, mean + 2 * error, color=colour, alpha=0.25, linewidth=0
        )
        axis.set_ylim(bottom=0)
    lower.plot(
        modes[modes > 0], np.zeros((modes > 0).sum()), linestyle="", marker="^", markersize=5,
        color=other, clip_on=False, label="harmonic modes",
    )
    upper.set_ylabel("molar absorptivity\n/ L mol$^{-1}$ cm$^{-1}$")
    lower.set_ylabel("velocities\n/ modes per cm$^{-1}$")
    lower.set_xlabel("wavenumber / cm$^{-1}$")
    lower.set_xlim(0, wavenumbers[-1])
    upper.legend(fontsize=7.5, frameon=False)
    lower.legend(fontsize=7.5, frameon=False, loc="upper center")
    plain_axis(upper, title)
    plain_axis(lower)
    figure.align_ylabels()
    save(figure, file)
