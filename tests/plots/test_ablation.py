"""What is drawn of an ablation, seen through the figure that is saved."""

import numpy as np
import pytest
from matplotlib.image import imread

from ase_fflux.plots.ablation import plot_ablation
from ase_fflux.workflows.ablation import DIRECT, PROTOCOL


def row(seconds, rmse):
    return {
        "seconds": seconds, "rmse": rmse, "lowest_rmse": 0.97 * rmse, "highest_rmse": 1.05 * rmse
    }


ROWS = {
    DIRECT: row(10.0, 0.5), PROTOCOL: row(1.0, 0.51), "seed only": row(0.5, 3.0),
    **{f"variant {i}": row(1.0 + 0.01 * i, 0.51 + 0.001 * i) for i in range(12)},
}


@pytest.fixture
def axis(tmp_path, saved):
    plot_ablation(
        ROWS, tmp_path / "a.png", direct=DIRECT, protocol=PROTOCOL, title="C1 iqa", unit="kJ/mol"
    )
    assert imread(tmp_path / "a.png").shape[1] >= 1000
    (axis,) = saved[0].axes
    return axis


def test_markers_are_the_medians(axis):
    markers = {line.get_label(): line for line in axis.lines}
    low, high = axis.get_ylim()
    for variant, told in ROWS.items():
        (x,), (y,) = markers[variant].get_data()
        assert x == told["seconds"] and low < y < high
        assert (y == told["rmse"]) == (variant != "seed only")
    looks = {variant: markers[variant].get_marker() for variant in ROWS}
    assert looks.pop("seed only") == "^"
    assert list(looks.values()).count(looks[DIRECT]) == 1
    assert list(looks.values()).count(looks[PROTOCOL]) == 1


def test_a_large_error_is_told(axis):
    """It is at the edge, so its name has to say it."""
    names = [text.get_text() for text in axis.texts]
    assert "seed only (3)" in names and axis.get_ylim()[1] < 1.0


def test_limit_is_one_per_cent_above_direct_learning(axis):
    heights = [line.get_ydata() for line in axis.lines if len(line.get_xdata()) == 2]
    assert len(heights) == 1 and np.allclose(heights[0], 1.01 * 0.5)


def test_names_do_not_overlap(axis):
    names = [text for text in axis.texts if text.get_text() != "direct + 1 %"]
    assert len(names) == len(ROWS)
    heights = np.sort([axis.transAxes.transform(name.xyann)[1] for name in names])
    assert np.diff(heights).min() > names[0].get_fontsize() * axis.figure.dpi / 72
    bottom, top = axis.transAxes.transform([(0, 0), (0, 1)])[:, 1]
    assert bottom - 1 <= heights[0] and heights[-1] <= top + 1
