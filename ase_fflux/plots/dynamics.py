"""Picture of a trajectory's energies."""

from pathlib import Path

import numpy as np

from ase_fflux.plots.figure import new_figure, picture, plain_axis, save


@picture
def plot_dynamics(
    time: np.ndarray, total: np.ndarray, potential: np.ndarray, temperature: np.ndarray,
    file: Path, *, title: str, n_atoms: int,
) -> None:
    """Draw total energy, potential energy and temperature against time, one above the other.

    Parameters
    ----------
    time : (m,) array
        ps.
    total, potential : (m,) arrays
        eV; drawn as the change from the start in meV per atom.
    temperature : (m,) array
        K; its mean is marked.
    file : Path
        PNG to write.
    title : str
        Above the picture.
    n_atoms : int
        What the energies are divided by.
    """
    figure = new_figure(7.0, 5.2)
    axes = figure.subplots(3, sharex=True)
    curves = (
        (1000 * (total - total[0]) / n_atoms, "total energy\n/ meV per atom", "#1f4e79"),
        (1000 * (potential - potential[0]) / n_atoms, "potential energy\n/ meV per atom",
         "#2ca02c"),
        (temperature, "temperature\n/ K", "#c0504d"),
    )
    for axis, (values, label, colour) in zip(axes, curves, strict=True):
        axis.plot(time, values, color=colour, linewidth=0.7)
        axis.set_ylabel(label)
        plain_axis(axis)
        axis.ticklabel_format(useOffset=False)
    mean = temperature.mean()
    axes[2].axhline(mean, color="0.25", linewidth=0.8, linestyle="--", label=f"mean {mean:.0f} K")
    axes[2].legend(fontsize=7.5, frameon=False, loc="upper right")
    axes[2].set_xlim(time[0], time[-1])
    axes[2].set_xlabel("time / ps")
    plain_axis(axes[0], f"{title}; energies from the start")
    figure.align_ylabels(axes)
    save(figure, file)
