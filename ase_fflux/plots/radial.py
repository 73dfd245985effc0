"""Picture of radial distribution functions."""

from pathlib import Path

import numpy as np

from ase_fflux.plots.figure import new_figure, picture, plain_axis, save

_COLOURS = ("#c0504d", "#1f4e79", "#2ca02c", "#d98c1f", "#7b4fa3", "#3a9fa8")


@picture
def plot_radial(r: np.ndarray, g: dict[tuple[str, str], np.ndarray], file: Path, *, title: str):
    """Draw each function in an axis of its own, one above the other.

    Parameters
    ----------
    r : (m,) array
        Angstrom.
    g : dict of (m,) arrays
        By pairs of names.
    file : Path
        PNG to write.
    title : str
        Above the picture.
    """
    figure = new_figure(6.0, 0.6 + 1.7 * len(g))
    axes = figure.subplots(len(g), sharex=True, squeeze=False)[:, 0]
    for k, (axis, (pair, values)) in enumerate(zip(axes, g.items(), strict=True)):
        axis.axhline(1.0, color="0.6", linewidth=0.7, linestyle="--")
        axis.plot(r, values, color=_COLOURS[k % len(_COLOURS)], linewidth=1.2)
        axis.set_ylabel(f"g({'-'.join(pair)})")
        axis.set_ylim(bottom=0.0)
        plain_axis(axis)
    axes[-1].set_xlim(0.0, r[-1])
    axes[-1].set_xlabel("r / Angstrom")
    plain_axis(axes[0], title)
    figure.align_ylabels(axes)
    save(figure, file)
