"""Picture of an ablation."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ase_fflux.plots.figure import new_figure, picture, plain_axis, save

_TOLERANCE = 1.01
_TOP = 1.4
"""Errors above so many times that of direct learning are drawn at the edge: nobody wants them."""
_DIRECT = dict(marker="D", color="black", markersize=6.0)
_PROTOCOL = dict(marker="*", color="#d62728", markersize=11.0)
_LOOK = dict(marker="o", color="#1f77b4", markersize=4.5)
_LINE_HEIGHT = 0.055


@picture
def plot_ablation(
    medians: Mapping[str, dict], file: Path, *, direct: str, protocol: str, title: str, unit: str
) -> None:
    """Draw held-out RMSE against training time, one marker for each variant.

    Markers are medians, bars reach from the lowest to the highest error of the seeds. A line is 1 %
    above direct learning. A variant whose error is above 1.4 times that of direct learning is a
    triangle at the upper edge, and its name tells the error.

    Parameters
    ----------
    medians : mapping of str to dict
        Those of `ablation.medians`.
    file : Path
        PNG to write.
    direct, protocol : str
        Keys of ``medians`` that stand out: direct learning, to which others are compared, and the
        protocol that the others are changed from.
    title : str
        Above the picture.
    unit : str
        Of the errors.
    """
    figure = new_figure(7.0, 4.0, layout=None)
    axis = figure.add_axes((0.1, 0.12, 0.6, 0.79))
    plain_axis(axis, title)
    axis.set_xlabel("training time / s")
    axis.set_ylabel(f"RMSE of held-out points / {unit}")
    looks = {direct: _DIRECT, protocol: _PROTOCOL}
    reference = medians[direct]["rmse"]
    limit = _TOLERANCE * reference
    lowest = min(row["lowest_rmse"] for row in medians.values())
    highest = min(max(row["highest_rmse"] for row in medians.values()), _TOP * reference)
    margin = 0.04 * max(highest - lowest, limit - lowest)
    axis.set_ylim(lowest - margin, highest + margin)
    axis.axhline(limit, color="0.35", linewidth=0.7, zorder=1)
    axis.annotate(
        "direct + 1 %", (0.0, limit), xycoords=("axes fraction", "data"),
        xytext=(3, 2), textcoords="offset points", fontsize=7, color="0.35",
    )
    _times(axis, [row["seconds"] for row in medians.values()])
    names, places = {}, {}
    for variant, row in medians.items():
        look, place, name = looks.get(variant, _LOOK), (row["seconds"], row["rmse"]), variant
        if row["rmse"] > highest:
            look, place = look | dict(marker="^"), (row["seconds"], highest)
            name = f"{variant} ({row['rmse']:.3g})"
        else:
            axis.vlines(
                place[0], row["lowest_rmse"], row["highest_rmse"], color=look["color"],
                linewidth=0.8, alpha=0.4,
            )
        axis.plot(*place, linestyle="", label=variant, zorder=4 + (variant in looks), **look)
        names[variant], places[variant] = name, place
    _names(axis, names, places, looks)
    save(figure, file)


def _times(axis, seconds: list[float]) -> None:
    """A logarithmic axis with plain numbers: 1, 2 and 5 of every decade."""
    from matplotlib.ticker import LogLocator, NullLocator

    axis.set_xscale("log")
    axis.set_xlim(min(seconds) / 1.3, max(seconds) * 1.3)
    axis.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=20))
    axis.xaxis.set_major_formatter("{x:g}")
    axis.xaxis.set_minor_locator(NullLocator())


def _names(axis, names: dict[str, str], places: dict[str, tuple[float, float]], looks) -> None:
    """Names in a column on the right, in the order of the errors, with a line to each marker."""
    to_axes = axis.transData + axis.transAxes.inverted()
    heights = {variant: to_axes.transform(place)[1] for variant, place in places.items()}
    order = sorted(names, key=lambda variant: (heights[variant], -places[variant][0]))
    for variant, height in zip(order, _apart([heights[v] for v in order]), strict=True):
        axis.annotate(
            names[variant], places[variant], xytext=(1.07, height), textcoords="axes fraction",
            va="center", fontsize=7.5, color=looks.get(variant, _LOOK)["color"],
            annotation_clip=False, fontweight="bold" if variant in looks else "normal",
            arrowprops=dict(
                arrowstyle="-", linewidth=0.4, color="0.6", shrinkA=1, shrinkB=3, relpos=(0, 0.5)
            ),
        )


def _apart(heights: list[float]) -> np.ndarray:
    """Ascending heights, moved so that they are a line apart and within the axes."""
    gap = min(_LINE_HEIGHT, 1.0 / max(len(heights) - 1, 1))
    lines = gap * np.arange(len(heights))
    # room that is left below and above each: what is in between ascends, too
    below = np.maximum.accumulate(heights - lines)
    above = np.minimum.accumulate((heights - lines)[::-1])[::-1]
    return np.clip((below + above) / 2, 0.0, 1.0 - lines[-1]) + lines
