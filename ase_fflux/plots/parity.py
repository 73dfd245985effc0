"""Picture of predictions beside references."""

from collections.abc import Callable, Sequence
from pathlib import Path

from ase_fflux.base.text import printable
from ase_fflux.plots.figure import new_figure, picture, plain_axis, save

_MOST_POINTS = 20000
"""Drawn of a quantity: evenly taken from all."""


@picture
def plot_parity(
    quantities: Sequence, file: Path, *, title: str, apart: Callable[[object], bool]
) -> None:
    """Draw predicted against reference values, and below them the errors.

    Parameters
    ----------
    quantities : sequence of Quantity
        `ase_fflux.assess.comparison.Quantity`, one column each, moments only where
        there is nothing else; energies are drawn from the mean
        of their reference, atomic ones from that of each atom; those of two levels of theory each
        from its own, which is said.
    file : Path
        PNG to write.
    title : str
        Above the picture.
    apart : callable
        Whether energies are of two levels.
    """
    quantities = [q for q in quantities if not q.name.startswith("moments")] or quantities
    figure = new_figure(max(3.4 * len(quantities), 5.0), 5.6)
    axes = figure.subplots(2, len(quantities), squeeze=False, height_ratios=[1.6, 1], sharex="col")
    for (parity, errors), quantity in zip(axes.T, quantities, strict=True):
        relative = quantity.name.endswith("energy")
        start = quantity.reference.mean(axis=0) if relative else 0.0
        x, y = quantity.reference - start, quantity.predicted - start
        told = ""
        if relative and apart(quantity):
            y = y - quantity.errors.mean(axis=0)
            told = "\nmean difference removed"
        x, y = x.ravel(), y.ravel()
        shown = slice(None, None, -(-len(x) // _MOST_POINTS))
        x, y = x[shown], y[shown]
        look = dict(linestyle="", marker=".", markersize=2.5, alpha=0.5, markeredgewidth=0)
        ends = [min(x.min(), y.min()), max(x.max(), y.max())]
        parity.plot(ends, ends, color="0.6", linewidth=0.7)
        parity.plot(x, y, color="#1f4e79", **look)
        parity.text(
            0.04, 0.96, f"{quantity.name}\nRMSE {quantity.rmse:.3g} {quantity.unit}\n"
            f"largest {quantity.largest:.3g}{told}",
            transform=parity.transAxes, fontsize=8, va="top",
        )
        errors.axhline(0.0, color="0.6", linewidth=0.7)
        errors.plot(x, y - x, color="#c0504d", **look)
        what = " (from the mean)" if relative else ""
        errors.set_xlabel(f"reference{what} / {quantity.unit}")
        for axis in (parity, errors):
            plain_axis(axis)
    axes[0, 0].set_ylabel("predicted")
    axes[1, 0].set_ylabel("error")
    figure.suptitle(printable(title), fontsize=9, x=0.02, ha="left", parse_math=False)
    save(figure, file)
