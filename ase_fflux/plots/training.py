"""Pictures of S-curves and learning curves."""

from pathlib import Path

import numpy as np

from ase_fflux.plots.figure import new_figure, picture, plain_axis, save

_Curves = dict[str, tuple[np.ndarray, np.ndarray]]

# matplotlib's tab10 and two dark ones; black is the total's
_COLOURS = (
    "#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#7f7f7f",
    "#bcbd22", "#17becf", "#0b2a6f", "#8a0f4e",
)
_MARKERS = "os^Dv<>phX*P"
_DASHED = dict(linestyle=(0, (4.0, 1.6)), markerfacecolor="white")
_ONE_COLUMN = 14
# percentile at which an S-curve enters the picture: errors below are small by chance
_TAIL = 2.0


@picture
def plot_s_curves(
    curves: _Curves,
    file: Path,
    *,
    title: str,
    unit: str,
    dashed: _Curves | None = None,
    names: tuple[str, str] = ("transfer", "direct"),
) -> None:
    """Draw S-curves: the share of held-out points whose error is at most that on the axis.

    The axis of errors is logarithmic and begins where the first curve reaches 2 %; in a picture of
    energies 1 kJ/mol is marked.

    Parameters
    ----------
    curves : dict of str to (errors, percentiles)
        Line of each label, such as ``C1``, with sorted absolute errors.
    file : Path
        PNG to write.
    title : str
        Above the picture.
    unit : str
        Of the errors: ``kJ/mol``, ``e`` (drawn in me) or another.
    dashed : dict, optional
        Curves of another protocol: same label, same colour.
    names : tuple of str
        The protocols of ``curves`` and of ``dashed``, for the legend.
    """
    factor, unit = _milli(unit)
    dashed = dashed or {}
    figure, axis = _new(title)
    axis.set_xscale("log")
    drawn = []
    for number, label in enumerate(dict.fromkeys([*curves, *dashed])):
        # markers of neighbouring lines at different heights
        marked = np.arange(10, 90, 20) + 8.0 * (number % 3)
        solid = _look(number, label)
        for group, look in ((curves, solid), (dashed, {**solid, **_DASHED})):
            if label in group:
                errors, percentiles = factor * group[label][0], group[label][1]
                marks = np.searchsorted(percentiles, marked).tolist()
                axis.plot(errors, percentiles, markevery=marks, label=label, **look)
                drawn.append(errors[np.searchsorted(percentiles, _TAIL):])
    seen = np.concatenate(drawn)
    seen = seen[seen > 0]
    if unit == "kJ/mol":
        seen = np.append(seen, 1.0)
        axis.axvline(1.0, color="0.35", linewidth=0.7, zorder=0)
        axis.annotate(
            "1 kJ/mol", (1.0, 0.0), xycoords=("data", "axes fraction"), xytext=(-2, 4),
            textcoords="offset points", ha="right", rotation=90, fontsize=7, color="0.35",
        )
    if seen.size:
        axis.set_xlim(seen.min() / 1.1, seen.max() * 1.2)
    axis.set_ylim(0, 101)
    axis.set_yticks(range(0, 101, 20))
    _plain_numbers(axis.xaxis)
    axis.set_xlabel(f"absolute error / {unit}")
    axis.set_ylabel("percentile of held-out points")
    _legend(figure, axis)
    if dashed:
        _protocols(axis, names)
    save(figure, file)


@picture
def plot_learning_curves(curves: _Curves, file: Path, *, title: str, unit: str) -> None:
    """Draw learning curves: RMSE against the number of training points, both logarithmic.

    Parameters
    ----------
    curves : dict of str to (sizes, rmse)
        Line of each label, such as ``C1``; ``total`` is drawn in black.
    file : Path
        PNG to write.
    title : str
        Above the picture; a second line says that hyperparameters are those of the full model.
    unit : str
        Of the errors: ``kJ/mol``, ``e`` (drawn in me) or another.
    """
    from matplotlib.ticker import NullLocator

    factor, unit = _milli(unit)
    figure, axis = _new(f"{title}\nhyperparameters of the full model at every size")
    axis.set_xscale("log")
    axis.set_yscale("log")
    for number, (label, (sizes, rmse)) in enumerate(curves.items()):
        axis.plot(sizes, factor * rmse, label=label, **_look(number, label))
    axis.set_xticks(_apart(np.concatenate([sizes for sizes, _ in curves.values()])))
    axis.xaxis.set_major_formatter("{x:.0f}")
    axis.xaxis.set_minor_locator(NullLocator())
    _plain_numbers(axis.yaxis)
    axis.set_xlabel("training points")
    axis.set_ylabel(f"RMSE of held-out points / {unit}")
    _legend(figure, axis)
    save(figure, file)


def _new(title: str):
    """A figure with one pair of axes."""
    figure = new_figure(6.0, 4.0)
    axis = figure.add_subplot()
    plain_axis(axis, title)
    return figure, axis


def _milli(unit: str) -> tuple[float, str]:
    """Factor and unit of the axis: charges are shown in me."""
    return (1e3, "me") if unit == "e" else (1.0, unit)


def _look(number: int, label: str) -> dict:
    """Look of the line of this number; that of ``total`` is black and thicker."""
    turns = number // len(_COLOURS)
    look = dict(
        color=_COLOURS[number % len(_COLOURS)], linewidth=1.0, markersize=3.8, markeredgewidth=0.7,
        marker=_MARKERS[(number + turns) % len(_MARKERS)],
    )
    return {**look, "color": "black", "linewidth": 1.6} if label == "total" else look


def _plain_numbers(axis) -> None:
    """Decimal numbers at the ticks of a logarithmic axis: more of them where it is shorter."""
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

    low, high = axis.get_view_interval()
    if high / low < 5:
        axis.set_major_locator(MaxNLocator(6))
    else:
        subs = (1.0,) if high / low > 300 else (1.0, 2.0, 5.0)
        axis.set_major_locator(LogLocator(subs=subs, numticks=20))
    if low > 1e-5:
        axis.set_major_formatter(lambda value, _: f"{value:.5f}".rstrip("0").rstrip("."))
    axis.set_minor_formatter(NullFormatter())


def _apart(sizes: np.ndarray) -> list[int]:
    """Sizes, from the largest down, whose labels do not run into each other."""
    chosen = []
    for size in np.unique(sizes)[::-1]:
        if not chosen or size < 0.85 * chosen[-1]:
            chosen.append(int(size))
    return chosen[::-1]


def _legend(figure, axis) -> None:
    """Labels on the right of the axes; lines of the same label share an entry."""
    entries = {}
    for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
        entries.setdefault(label, handle)
    figure.legend(
        entries.values(), entries.keys(), fontsize=7.5, frameon=False, loc="outside right upper",
        ncols=1 + (len(entries) > _ONE_COLUMN),
    )


def _protocols(axis, names: tuple[str, str]) -> None:
    """Inside the axes, what solid and dashed lines are."""
    from matplotlib.lines import Line2D

    look = dict(color="0.3", linewidth=1.0, markersize=3.8, marker="o")
    lines = [Line2D([], [], **look), Line2D([], [], **{**look, **_DASHED})]
    axis.legend(lines, names, fontsize=7.5, frameon=False, loc="upper left", handlelength=3.5)
