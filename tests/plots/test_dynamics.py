import numpy as np
from matplotlib.image import imread

from ase_fflux.plots.dynamics import plot_dynamics


def coloured(path, colour):
    """Pixels of about this colour (red, green, blue from 0 to 1)."""
    pixels = imread(path)[..., :3]
    return int((np.abs(pixels - colour).max(axis=-1) < 0.1).sum())


def test_all_curves_are_drawn(tmp_path):
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((6, 5_000))
    names = ("total", "potential", "conserved", "temperature", "density", "pressure")
    table = {"time": np.linspace(0, 10, 5_000), **dict(zip(names, noise, strict=True))}
    plot_dynamics(table, file=tmp_path / "a.png", title="a", n_atoms=3)
    total, *others = (
        (0.12, 0.31, 0.47), (0.17, 0.63, 0.17), (0.48, 0.31, 0.64), (0.75, 0.31, 0.30),
        (0.85, 0.55, 0.12), (0.23, 0.62, 0.66),
    )
    for colour in others:
        assert coloured(tmp_path / "a.png", colour) > 5_000
    assert coloured(tmp_path / "a.png", total) == 0
    del table["conserved"]
    table["density"][:] = 1.0
    plot_dynamics(table, file=tmp_path / "b.png", title="b", n_atoms=3)
    assert coloured(tmp_path / "b.png", total) > 5_000
    assert coloured(tmp_path / "b.png", (0.85, 0.55, 0.12)) == 0
