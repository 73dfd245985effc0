import os
import subprocess
import sys
from pathlib import Path

import matplotlib
import pytest
from matplotlib.image import imread

from ase_fflux.base.errors import FFLUXWarning
from ase_fflux.plots.figure import new_figure, picture, plain_axis, save


@picture
def diagonal(file, title="a", marker="o"):
    figure = new_figure(2.0, 1.5)
    axis = figure.add_subplot()
    axis.plot([0, 1], [0, 1], marker=marker)
    plain_axis(axis, title)
    save(figure, file)


def test_settings_of_the_user_have_no_say(tmp_path, saved):
    diagonal(tmp_path / "a.png")
    with matplotlib.rc_context({"axes.facecolor": "green", "lines.linewidth": 9, "font.size": 30}):
        diagonal(tmp_path / "b.png")
        assert matplotlib.rcParams["axes.facecolor"] == "green"
    a, b = (imread(tmp_path / f"{name}.png") for name in "ab")
    assert (a == b).all()


def test_a_picture_that_fails_is_a_warning_and_no_file(tmp_path):
    with pytest.warns(FFLUXWarning, match=r"a\.png: not drawn \(ValueError: .*no such marker"):
        diagonal(tmp_path / "a.png", marker="no such marker")
    with pytest.warns(FFLUXWarning, match="not drawn"):
        diagonal(file=tmp_path / "nowhere" / "a.png")
    assert not list(tmp_path.iterdir())


def test_an_interrupt_is_not_held_up(tmp_path, monkeypatch):
    def interrupted(figure, *args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(matplotlib.figure.Figure, "savefig", interrupted)
    with pytest.raises(KeyboardInterrupt):
        diagonal(tmp_path / "a.png")


@pytest.mark.parametrize("title", ["a$b$c_{d", "$", "b\udcfcd.xyz", "\\frac"])
@pytest.mark.filterwarnings("error")
def test_titles_are_taken_as_they_are(tmp_path, saved, title):
    diagonal(tmp_path / "a.png", title=title)
    assert saved[0].axes[0].get_title(loc="left") == title.replace("\udcfc", "\\xfc")


CODE = """
import os, sys, warnings
warnings.simplefilter("error")
import numpy as np
from pathlib import Path
from ase_fflux.plots.dynamics import plot_dynamics
t = np.linspace(0, 1, 5)
table = dict(time=t, total=t, potential=t, temperature=t)
plot_dynamics(table, file=Path("a.png"), title="a", n_atoms=1)
print(os.environ["MPLBACKEND"])
"""


@pytest.mark.parametrize("backend", ["module://no_such_module.backend_inline", "tkagg"])
def test_surroundings_of_a_notebook(tmp_path, backend):
    (tmp_path / "matplotlibrc").write_text("text.usetex: True\nfont.family: No Such Font\n")
    environment = os.environ | {
        "MPLBACKEND": backend, "MATPLOTLIBRC": str(tmp_path),
        "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
    }
    done = subprocess.run(
        [sys.executable, "-c", CODE], cwd=tmp_path, env=environment, text=True,
        capture_output=True,
    )
    assert (done.stdout, done.stderr) == (f"{backend}\n", "")
    assert imread(tmp_path / "a.png").shape[1] == 1400
