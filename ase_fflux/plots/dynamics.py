"""Picture of a trajectory's energies, and of density and pressure."""

from pathlib import Path

import numpy as np

from ase_fflux.plots.figure import new_figure, picture, plain_axis, save

_OF_ATOMS = (
    ("total", "total energy\n/ meV per atom", "#1f4e79"),
    ("conserved", "conserved energy\n/ meV per atom", "#7b4fa3"),
    ("potential", "potential energy\n/ meV per atom", "#2ca02c"),
)
_WITH_MEAN = (
    ("temperature", "temperature\n/ K", "#c0504d"),
    ("density", "density\n/ (g/cm$^3$)", "#d98c1f"),
    ("pressure", "pressure\n/ bar", "#3a9fa8"),
)


@picture
def plot_dynamics(
    table: dict[str, np.ndarray], file: Path, *, title: str, n_atoms: int
) -> None:
    """Draw energies, temperature, density and pressure against time, one above the other.

    Parameters
    ----------
    table : dict of (m,) arrays
        ``time`` (ps), ``total``, ``potential`` and, where there is one, ``conserved`` energy (eV;
        drawn as the change from the start in meV per atom), ``temperature`` (K) and, of periodic
        cells, ``density`` (g/cm^3) and ``pressure`` (bar), whose means are marked. Of a conserved
        energy the total is not drawn, a density that does not change neither.
    file : Path
        PNG to write.
    title : str
        Above the picture.
    n_atoms : int
        What the energies are divided by.
    """
    time = table["time"]
    curves = []
    for name, label, colour in _OF_ATOMS:
        if name in table and not (name == "total" and "conserved" in table):
            values = table[name]
            curves.append((1000 * (values - values[0]) / n_atoms, label, colour, False))
    for name, label, colour in _WITH_MEAN:
        if name in table and not (name == "density" and np.ptp(table[name]) == 0):
            curves.append((table[name], label, colour, True))
    figure = new_figure(7.0, 0.4 + 1.6 * len(curves))
    axes = figure.subplots(len(curves), sharex=True)
    for axis, (values, label, colour, with_mean) in zip(axes, curves, strict=True):
        axis.plot(time, values, color=colour, linewidth=0.7)
        axis.set_ylabel(label)
        plain_axis(axis)
        axis.ticklabel_format(useOffset=False)
        if with_mean:
            mean = values.mean()
            axis.axhline(
                mean, color="0.25", linewidth=0.8, linestyle="--", label=f"mean {mean:.4g}"
            )
            axis.legend(fontsize=7.5, frameon=False, loc="upper right")
    axes[-1].set_xlim(time[0], time[-1])
    axes[-1].set_xlabel("time / ps")
    plain_axis(axes[0], f"{title}; energies from the start")
    figure.align_ylabels(axes)
    save(figure, file)
