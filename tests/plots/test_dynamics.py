import numpy as np
from matplotlib.image import imread

from ase_fflux.plots.dynamics import plot_dynamics


def coloured(path, colour):
    """Pixels of about this colour (red, green, blue from 0 to 1)."""
    pixels = imread(path)[..., :3]
    return int((np.abs(pixels - colour).max(axis=-1) < 0.1).sum())


def test_three_curves_are_drawn(tmp_path):
    rng = np.random.default_rng(0)
    time = np.linspace(0, 10, 5_000)
    energy = -100 + 0.01 * rng.standard_normal(time.size)
    plot_dynamics(
        time, total=energy, potential=energy, temperature=300 + rng.standard_normal(time.size),
        file=tmp_path / "a.png", title="a", n_atoms=3,
    )
    for colour in ((0.12, 0.31, 0.47), (0.17, 0.63, 0.17), (0.75, 0.31, 0.30)):
        assert coloured(tmp_path / "a.png", colour) > 5_000
