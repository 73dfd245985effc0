"""Picture of an infrared spectrum."""

from pathlib import Path

import numpy as np

from ase_fflux.plots.figure import new_figure, picture, plain_axis, save

_LABELS = 8
_SHARE = 0.01
"""Of the strongest line: weaker ones, forbidden modes among them, have no label."""


@picture
def plot_spectrum(
    wavenumbers: np.ndarray,
    intensities: np.ndarray,
    grid: np.ndarray,
    absorptivity: np.ndarray,
    file: Path,
    *,
    title: str,
    width: float,
    line_height: float,
) -> None:
    """Draw an infrared spectrum: broadened curve, a stick for each line, the strongest labelled.

    Sticks are as high as the curve would be if their line were alone. Modes within a tenth of the
    lines' width, such as degenerate ones, are one line with the sum of their intensities.

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
        Full width at half maximum of the lines (cm^-1).
    line_height : float
        Absorptivity at the centre of a line of 1 km/mol.
    """
    real = wavenumbers > 0
    centres, heights = merged(wavenumbers[real], intensities[real], width / 10)
    figure = new_figure(7.0, 3.8)
    curve_axis = figure.add_subplot()
    stick_axis = curve_axis.twinx()
    # the curve, thin, stays visible over the sticks
    curve_axis.set_zorder(stick_axis.get_zorder() + 1)
    curve_axis.patch.set_visible(False)
    curve_colour, stick_colour = "#1f4e79", "#c0504d"
    sticks = stick_axis.vlines(centres, 0, heights, color=stick_colour, linewidth=2.2, alpha=0.75)
    (curve,) = curve_axis.plot(grid, absorptivity, color=curve_colour, linewidth=0.9)
    curve_axis.set_xlim(0, grid[-1])
    highest = max(heights.max(initial=0.0), absorptivity.max() / line_height, 1e-9)
    stick_axis.set_ylim(0, 1.2 * highest)
    curve_axis.set_ylim(0, 1.2 * highest * line_height)
    for index in _to_label(centres, heights, apart=0.022 * grid[-1]):
        peak = max(
            heights[index], np.interp(centres[index], grid, absorptivity) / line_height
        )
        stick_axis.annotate(
            f"{centres[index]:.0f}",
            (centres[index], peak),
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
    curve_axis.minorticks_on()
    plain_axis(curve_axis, title, grid=False)
    plain_axis(stick_axis, grid=False)
    stick_axis.spines["right"].set_visible(True)
    figure.legend(
        [curve, sticks],
        [rf"Lorentzian, full width {width:g} cm$^{{-1}}$",
         f"harmonic modes, labelled from {100 * _SHARE:g} % of the strongest"],
        fontsize=7.5,
        frameon=False,
        ncols=2,
        loc="outside upper right",
    )
    save(figure, file)


def merged(
    centres: np.ndarray, heights: np.ndarray, apart: float
) -> tuple[np.ndarray, np.ndarray]:
    """Ascending lines, those less than ``apart`` from their neighbour as one.

    Parameters
    ----------
    centres, heights : (n,) arrays
        Wavenumbers in ascending order, and intensities.
    apart : float
        In the unit of the centres.

    Returns
    -------
    centres, heights : (k,) arrays
        Means, weighted by intensity, and sums.
    """
    if not len(centres):
        return centres, heights
    starts = np.flatnonzero(np.append(True, np.diff(centres) >= apart))
    sums = np.add.reduceat(heights, starts)
    counts = np.diff(np.append(starts, len(centres)))
    means = np.add.reduceat(centres, starts) / counts
    weighted = np.add.reduceat(heights * centres, starts)
    return np.where(sums > 0, weighted / np.where(sums > 0, sums, 1.0), means), sums


def _to_label(centres: np.ndarray, heights: np.ndarray, apart: float) -> list[int]:
    """The strongest lines whose labels do not run into each other."""
    least = _SHARE * heights.max(initial=0.0)
    chosen = []
    for index in np.argsort(heights)[::-1]:
        free = all(abs(centres[index] - centres[other]) > apart for other in chosen)
        if free and heights[index] >= least > 0:
            chosen.append(int(index))
        if len(chosen) == _LABELS:
            break
    return chosen
