"""Pictures. matplotlib is imported when one is drawn."""

from pathlib import Path

import numpy as np

from ase_fflux.base.store import replacing

_LABELS = 8


def plot_spectrum(
    wavenumbers: np.ndarray,
    intensities: np.ndarray,
    grid: np.ndarray,
    absorptivity: np.ndarray,
    file: Path,
    *,
    title: str,
    width: float,
) -> None:
    """Draw an infrared spectrum: broadened curve, a stick for each mode, the strongest labelled.

    Parameters
    ----------
    wavenumbers, intensities : (n,) arrays
        cm^-1 and km/mol; imaginary modes (negative) are not drawn.
    grid, absorptivity : (m,) arrays
        cm^-1 and L mol^-1 cm^-1.
    file : Path
        PNG to write.
    title : str
        Above the picture.
    width : float
        Full width at half maximum of the lines (cm^-1), for the legend.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    real = wavenumbers > 0
    centres, heights = wavenumbers[real], intensities[real]
    figure = Figure(figsize=(7.0, 3.8), dpi=200, layout="constrained")
    FigureCanvasAgg(figure)
    curve_axis = figure.add_subplot()
    stick_axis = curve_axis.twinx()
    # the curve, thin, stays visible over the sticks
    curve_axis.set_zorder(stick_axis.get_zorder() + 1)
    curve_axis.patch.set_visible(False)
    curve_colour, stick_colour = "#1f4e79", "#c0504d"
    sticks = stick_axis.vlines(centres, 0, heights, color=stick_colour, linewidth=2.2, alpha=0.75)
    (curve,) = curve_axis.plot(grid, absorptivity, color=curve_colour, linewidth=0.9)
    curve_axis.set_xlim(0, grid[-1])
    # both scales end at the same share of their highest line, so that sticks and curve compare
    curve_axis.set_ylim(0, 1.2 * max(absorptivity.max(), 1e-9))
    stick_axis.set_ylim(0, 1.2 * max(heights.max(initial=0.0), 1e-9))
    for index in _to_label(centres, heights, apart=0.022 * grid[-1]):
        peak = max(
            heights[index] / stick_axis.get_ylim()[1],
            np.interp(centres[index], grid, absorptivity) / curve_axis.get_ylim()[1],
        )
        curve_axis.annotate(
            f"{centres[index]:.0f}",
            (centres[index], peak),
            xycoords=("data", "axes fraction"),
            xytext=(0, 3),
            textcoords="offset points",
            ha="center",
            va="bottom",
            rotation=90,
            fontsize=7.5,
        )
    curve_axis.set_xlabel(r"wavenumber / cm$^{-1}$")
    curve_axis.set_ylabel(r"molar absorptivity / L mol$^{-1}$ cm$^{-1}$", color=curve_colour)
    stick_axis.set_ylabel(r"intensity / km mol$^{-1}$", color=stick_colour)
    curve_axis.set_title(title, fontsize=9, loc="left")
    curve_axis.minorticks_on()
    for axis in (curve_axis, stick_axis):
        axis.spines["top"].set_visible(False)
        axis.tick_params(labelsize=8)
    figure.legend(
        [curve, sticks],
        [rf"Lorentzian, full width {width:g} cm$^{{-1}}$", "harmonic modes"],
        fontsize=7.5,
        frameon=False,
        ncols=2,
        loc="outside upper right",
    )
    with replacing(file) as partial:
        figure.savefig(partial, format="png")


def _to_label(centres: np.ndarray, heights: np.ndarray, apart: float) -> list[int]:
    """The strongest modes whose labels do not run into each other."""
    chosen = []
    for index in np.argsort(heights)[::-1]:
        free = all(abs(centres[index] - centres[other]) > apart for other in chosen)
        if free and heights[index] > 0:
            chosen.append(int(index))
        if len(chosen) == _LABELS:
            break
    return chosen
