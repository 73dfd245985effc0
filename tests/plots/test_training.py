"""What is drawn, seen through the figure that is saved, and the files."""

import numpy as np
import pytest
from matplotlib.image import imread

from ase_fflux.assess.curves import s_curve
from ase_fflux.plots.training import plot_learning_curves, plot_s_curves

LABELS = [f"{s}{i}" for i, s in enumerate("NNCCCCHHHHHH", start=1)]


def s_curves(scale, seed=0):
    random = np.random.default_rng(seed)
    return {label: s_curve(scale * random.standard_t(3, 200)) for label in LABELS}


def learning(scale):
    sizes = np.array([100, 200, 400, 800])
    return {label: (sizes, scale * (1 + i) / sizes) for i, label in enumerate(LABELS)}


def test_s_curves_are_written(tmp_path):
    for name, scale in (("a", 0.5), ("b", 5.0)):
        plot_s_curves(s_curves(scale), tmp_path / name, title="fomepizole", unit="kJ/mol")
    a, b = (imread(tmp_path / name, format="png") for name in "ab")
    assert a.shape == b.shape and a.shape[1] >= 1000
    assert 0.01 < np.mean(a[..., :3].min(axis=-1) < 0.9) < 0.5
    assert (a != b).any()


def test_learning_curves_are_written(tmp_path):
    for name, power in (("a", 1), ("b", 2)):
        curves = {label: (n, rmse**power) for label, (n, rmse) in learning(30.0).items()}
        plot_learning_curves(curves, tmp_path / name, title="fomepizole", unit="kJ/mol")
    a, b = (imread(tmp_path / name, format="png") for name in "ab")
    assert a.shape == b.shape and a.shape[1] >= 1000 and (a != b).any()


def test_lines_hold_the_curves(tmp_path, saved):
    curves = s_curves(0.5)
    plot_s_curves(curves, tmp_path / "s.png", title="", unit="au")
    (axis,) = saved[0].axes
    assert [line.get_label() for line in axis.lines] == LABELS
    for line, (errors, percentiles) in zip(axis.lines, curves.values(), strict=True):
        assert (line.get_xdata() == errors).all() and (line.get_ydata() == percentiles).all()
    assert axis.get_xscale() == "log"
    assert axis.get_xlim()[1] > max(errors[-1] for errors, _ in curves.values())


def test_every_atom_is_told_apart_by_colour_and_by_marker(tmp_path, saved):
    plot_learning_curves(learning(1.0), tmp_path / "l.png", title="", unit="kJ/mol")
    lines = saved[0].axes[0].lines
    assert len({line.get_color() for line in lines}) == 12
    assert len({line.get_marker() for line in lines}) == 12


def test_protocols_share_colours_and_differ_in_dashes(tmp_path, saved):
    plot_s_curves(
        s_curves(0.5), tmp_path / "s.png", title="", unit="au", dashed=s_curves(0.6, seed=1)
    )
    figure = saved[0]
    axis = figure.axes[0]
    for label in LABELS:
        solid, dashed = (line for line in axis.lines if line.get_label() == label)
        assert solid.get_color() == dashed.get_color()
        assert not solid.is_dashed() and dashed.is_dashed()
    assert [t.get_text() for t in figure.legends[0].get_texts()] == LABELS
    assert [t.get_text() for t in axis.get_legend().get_texts()] == ["transfer", "direct"]


def test_charges_are_in_milli_e_and_only_energies_have_a_yardstick(tmp_path, saved):
    curves = s_curves(1e-3)
    for unit in ("e", "kJ/mol"):
        plot_s_curves(curves, tmp_path / "s.png", title="", unit=unit)
    charges, energies = (figure.axes[0] for figure in saved)
    assert charges.get_xlabel() == "absolute error / me"
    largest = curves["N1"][0][-1]
    assert charges.lines[0].get_xdata()[-1] == pytest.approx(1000 * largest)
    assert energies.lines[0].get_xdata()[-1] == largest
    assert len(charges.lines) == 12 and len(energies.lines) == 13
    assert energies.get_xlim()[1] > 1.0


def test_learning_curve_says_what_it_is(tmp_path, saved):
    curves = {**learning(3.0), "total": learning(9.0)["N1"]}
    plot_learning_curves(curves, tmp_path / "l.png", title="fomepizole", unit="kJ/mol")
    axis = saved[0].axes[0]
    assert axis.get_title(loc="left").startswith("fomepizole")
    assert "hyperparameters of the full model" in axis.get_title(loc="left")
    assert axis.get_xscale() == axis.get_yscale() == "log"
    assert [t.get_text() for t in axis.get_xticklabels()] == ["100", "200", "400", "800"]
    assert axis.lines[-1].get_color() == "black"


def test_labels_of_close_sizes_do_not_collide(tmp_path, saved):
    curves = {"O1": (np.array([100, 200]), np.ones(2)), "H2": (np.array([99, 198]), np.ones(2))}
    plot_learning_curves(curves, tmp_path / "l.png", title="", unit="kJ/mol")
    assert saved[0].axes[0].get_xticks().tolist() == [100, 200]
