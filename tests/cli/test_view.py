import sys
from types import SimpleNamespace

import pytest
from ase.io import write

from ase_fflux.cli import systems, view
from ase_fflux.cli.main import main


@pytest.fixture
def started(tmp_path, monkeypatch, springs):
    """Commands that were started, on a screen that there is; springs stand in for FFLUX."""
    from ase import Atoms

    calculator = springs([(0, 1, 30.0, 1.2)], charges=[0.4, -0.4])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(systems, "build_calculator", lambda args: calculator)
    monkeypatch.setattr(systems, "expected_errors", lambda calculator: {})
    write("CO.xyz", Atoms("CO", [(0, 0, 0), (0, 0, 1.25)]))
    found = []
    monkeypatch.setattr(
        view, "subprocess",
        SimpleNamespace(DEVNULL=None, Popen=lambda command, **options: found.append(command)),
    )
    monkeypatch.setattr(view.importlib.util, "find_spec", lambda name: object())
    monkeypatch.setenv("DISPLAY", ":0")
    return found


def test_steps_of_an_optimisation(started):
    assert main(["opt", "CO.xyz", "--model", "CO", "--view"]) == 0
    assert started == [[sys.executable, "-m", "ase", "gui", "CO-opt.traj"]]


def test_modes(started):
    main(["opt", "CO.xyz", "--model", "CO"])
    assert not started
    assert main(["vib", "CO-opt.xyz", "--model", "CO", "--view"]) == 0
    (command,) = started
    assert len(command) == 5 and "-modes/mode-1" in command[-1]


def test_no_screen(started, monkeypatch, capsys):
    monkeypatch.delenv("DISPLAY")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    assert main(["opt", "CO.xyz", "--model", "CO", "--view"]) == 0
    error = capsys.readouterr().err
    assert "--view: there is no screen" in error and "ase gui CO-opt.traj" in error
    assert not started


def test_no_tk(started, monkeypatch, capsys):
    monkeypatch.setattr(view.importlib.util, "find_spec", lambda name: None)
    assert main(["opt", "CO.xyz", "--model", "CO", "--view"]) == 0
    assert "no tkinter" in capsys.readouterr().err and not started


def test_an_error_shows_nothing(started):
    assert main(["opt", "nothing.xyz", "--model", "CO", "--view"]) == 2
    assert not started
