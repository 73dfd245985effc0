"""Picture of what is expected of labels before they are made."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ase_fflux.plots.figure import new_figure, picture, plain_axis, save


@picture
def plot_selection(
    force_rmse: np.ndarray, energy_rmse: np.ndarray, checked: Mapping[int, tuple[float, float]],
    file: Path, *, title: str, cheap: str, goal: float | None = None,
) -> None:
    """Draw expected errors against the number of labels.

    Parameters
    ----------
    force_rmse, energy_rmse : (n,) arrays
        With 1, 2, ... labels (eV/Angstrom, kJ/mol).
    checked : mapping of int to (float, float)
        Errors of the cheap level's models.
    file : Path
        PNG to write.
    title : str
        Above the picture.
    cheap : str
        What the cheap level is called.
    goal : float, optional
        Of the force (eV/Angstrom).
    """
    figure = new_figure(6.8, 3.4)
    numbers = np.arange(1, len(force_rmse) + 1)
    panels = (
        (force_rmse, "force RMSE / eV Å$^{-1}$", title),
        (energy_rmse, "energy RMSE / kJ mol$^{-1}$", ""),
    )
    for place, (errors, name, above) in enumerate(panels):
        axes = figure.add_subplot(1, 2, place + 1)
        axes.loglog(numbers, errors, color="#1f4e79", linewidth=1.2, label="expected")
        if checked:
            axes.plot(
                list(checked), [both[place] for both in checked.values()], "o", markersize=4,
                color="#c0504d", label=f"models of {cheap}",
            )
        if place == 0 and goal is not None:
            axes.axhline(goal, color="0.5", linewidth=0.8, linestyle="--", label="goal")
        axes.set_xlabel("labels")
        axes.set_ylabel(name)
        axes.legend(fontsize=7.5, frameon=False)
        plain_axis(axes, above)
    save(figure, file)
