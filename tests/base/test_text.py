import tomllib

import pytest

from ase_fflux.base.text import (
    aligned,
    counted,
    duration,
    printable,
    quantities,
    size_of_file,
    toml_fault,
)


def test_columns():
    rows = [("name", "n", "unit"), ("a", "10", "kJ/mol"), ("longer", "5", "")]
    assert aligned(rows, [1]) == ["name     n  unit", "a       10  kJ/mol", "longer   5"]
    assert aligned(rows, [-2]) == aligned(rows, [1])
    assert aligned(rows) == ["name    n   unit", "a       10  kJ/mol", "longer  5"]
    assert aligned([]) == []


def test_numbers_of_things():
    assert [counted(n, "label") for n in (0, 1, 2)] == ["0 labels", "1 label", "2 labels"]
    assert [size_of_file(n) for n in (400, 34_000, 1_230_000)] == ["0 kB", "34 kB", "1.2 MB"]


def test_quantities():
    rows = [("energy RMSE", 0.123456, "kJ/mol"), ("coverage", 1234.5, "")]
    assert quantities(rows) == ["  energy RMSE  0.1235  kJ/mol", "  coverage       1234"]
    assert quantities([]) == []


@pytest.mark.parametrize(
    "seconds, text", [(0.4, "0 s"), (99, "99 s"), (150, "2 min"), (9000, "2.5 h")]
)
def test_durations(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    "text, shown", [("água", "água"), ("b\udcfcd", "b\\xfcd"), ("\ud800", "\\ud800")]
)
def test_printable(text, shown):
    assert printable(text) == shown
    shown.encode("utf-8")


@pytest.mark.parametrize("text, said", [
    ('a = 1\nb = [1,\n2', "at its end, line 3: is it cut off?"),
    ("a = 1\nb = = 2\n", "at line 2, column 5"),
])
def test_line_is_told(text, said):
    with pytest.raises(tomllib.TOMLDecodeError) as error:
        tomllib.loads(text)
    assert said in toml_fault(error.value, text)
