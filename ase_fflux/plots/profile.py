"""Picture of an energy profile."""

from pathlib import Path

import numpy as np

from ase_fflux.plots.figure import new_figure, picture, plain_axis, save


@picture
def plot_profile(
    values: np.ndarray, relative: np.ndarray, file: Path, *, title: str, axis: str,
    deviation: np.ndarray | None = None, curve: tuple[np.ndarray, np.ndarray] | None = None,
) -> None:
    """Draw energies along a coordinate.

    Parameters
    ----------
    values : (n,) array
        Of the coordinate.
    relative : (n,) array
        Energies from the lowest one, or from the first (kJ/mol).
    file : Path
        PNG to write.
    title : str
        Above the picture.
    axis : str
        What the coordinate is, with its unit.
    deviation : (n,) array, optional
        Standard deviations of the energies (kJ/mol), drawn as a band of twice their size and as
        bars, which show where the band is too thin.
    curve : (m,) and (m,) arrays, optional
        A line through the points, in place of straight ones.
    """
    figure = new_figure(6.4, 3.8)
    axes = figure.add_subplot()
    colour = "#1f4e79"
    order = np.argsort(values)
    x, y = values[order], relative[order]
    axes.plot(*((x, y) if curve is None else curve), color=colour, linewidth=1.0)
    if deviation is None:
        axes.plot(x, y, color=colour, linestyle="", marker="o", markersize=3.5)
    else:
        bar = 2 * deviation[order]
        axes.fill_between(x, y - bar, y + bar, color=colour, alpha=0.2, linewidth=0)
        axes.errorbar(
            x, y, bar, color=colour, linestyle="", marker="o", markersize=3.5, capsize=2,
            elinewidth=0.8, label="two standard deviations of the model",
        )
        axes.legend(fontsize=7.5, frameon=False)
    axes.set_xlabel(axis)
    axes.set_ylabel("energy / kJ mol$^{-1}$")
    axes.margins(x=0.02)
    plain_axis(axes, title)
    save(figure, file)
