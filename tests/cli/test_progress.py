import io
import re
import sys
import time

import pytest

from ase_fflux.cli import progress


@pytest.fixture
def quick(monkeypatch):
    """Lines every few milliseconds."""
    monkeypatch.setattr(progress, "INTERVAL", 0.02)
    monkeypatch.setattr(progress, "WORTH_A_LINE", 0.0)


def test_a_line_now_and_then_and_at_the_end(quick, capsys):
    with progress.progress("labelling", 4) as advance:
        advance(1)
        time.sleep(0.3)  # longer than many intervals, within one increment
    said = capsys.readouterr()
    *lines, last = said.err.splitlines()
    assert said.out == ""
    assert len(lines) >= 2 and all(
        re.match(r"labelling: 1 of 4 in \d+ s so far, about ", line) for line in lines
    )
    assert re.fullmatch(r"labelling: 1 of 4 in \d+ s done", last)


def test_short_stages_say_nothing(capsys):
    with progress.progress("labelling", 4) as advance:
        advance(4)
    assert list(progress.stepwise("abc", "spelling")) == ["a", "b", "c"]
    said = capsys.readouterr()
    assert said.out == said.err == ""


def test_a_stage_that_fails(quick, capsys):
    with pytest.raises(ZeroDivisionError):
        for divisor in progress.stepwise([2, 1, 0], "dividing", unit="numbers", tell=str):
            1 / divisor
    last = capsys.readouterr().err.splitlines()[-1]
    assert re.fullmatch(r"dividing: 3 numbers in \d+ s ended, 0", last)


def test_a_bar_on_a_terminal(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    assert list(progress.stepwise(range(3), "counting", 3)) == [0, 1, 2]
    assert "counting" in terminal.getvalue() and "3/3" in terminal.getvalue()


def test_an_error_stream_that_is_closed_stops_nothing(quick, monkeypatch):
    closed = io.StringIO()
    with progress.progress("labelling", 4) as advance:
        monkeypatch.setattr(sys, "stderr", closed)
        closed.close()
        advance(1)
        time.sleep(0.05)
