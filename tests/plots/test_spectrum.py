import numpy as np
import pytest

from ase_fflux.plots.spectrum import merged, plot_spectrum
from ase_fflux.simulate.vibrations.infrared import line_height, spectrum

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture
def drawn(tmp_path, saved):
    """Draws lines; gives the axes of the curve and of the sticks."""

    def draw(wavenumbers, intensities, width=10.0):
        lines = np.array(wavenumbers, dtype=float), np.array(intensities, dtype=float)
        plot_spectrum(
            *lines, *spectrum(*lines, width), tmp_path / "s.png", title="a", width=width,
            line_height=line_height(width),
        )
        return saved[-1].axes

    return draw


def sticks(axis):
    (lines,) = axis.collections
    return np.array([segment[1] for segment in lines.get_segments()])


def labels(axis):
    return sorted(int(text.get_text()) for text in axis.texts)


def test_a_line_alone_is_as_high_as_its_stick(drawn):
    curve, stick = drawn([1000.0, 2000.0], [30.0, 10.0])
    share = curve.lines[0].get_ydata().max() / curve.get_ylim()[1]
    assert share == pytest.approx(30.0 / stick.get_ylim()[1], rel=1e-3)


@pytest.mark.parametrize("split", [0.0, 0.3])
def test_degenerate_modes_are_one_line(drawn, split):
    curve, stick = drawn([700.0, 1500.0 - split / 2, 1500.0 + split / 2], [60.0, 50.0, 50.0])
    assert sticks(stick) == pytest.approx(np.array([[700.0, 60.0], [1500.0, 100.0]]))
    share = curve.lines[0].get_ydata().max() / curve.get_ylim()[1]
    assert share == pytest.approx(100.0 / stick.get_ylim()[1], rel=2e-3)
    assert labels(stick) == [700, 1500]


def test_close_lines_overlap_above_their_sticks(drawn):
    curve, stick = drawn([1500.0, 1504.0], [50.0, 50.0])
    assert len(sticks(stick)) == 2
    height = curve.lines[0].get_ydata().max() / curve.get_ylim()[1]
    assert 1.5 * 50.0 / stick.get_ylim()[1] < height < 1.0


def test_forbidden_modes_have_no_label(drawn):
    _, stick = drawn([-50, 600, 900, 1200, 3000], [5, 100, 1e-9, 0.9, 1.1])
    assert labels(stick) == [600, 3000]


@pytest.mark.parametrize(
    "wavenumbers, intensities", [([], []), ([-100.0], [3.0]), ([900.0], [0.0])]
)
def test_nothing_to_see(drawn, wavenumbers, intensities):
    _, stick = drawn(wavenumbers, intensities)
    assert labels(stick) == [] and stick.get_ylim()[1] > 0


def test_merged():
    centres, heights = merged(np.array([1.0, 1.5, 4.0, 6.0, 6.1]), np.array([1, 3, 2, 0, 0.0]), 1.0)
    assert centres == pytest.approx([1.375, 4.0, 6.05])
    assert heights.tolist() == [4, 2, 0]
