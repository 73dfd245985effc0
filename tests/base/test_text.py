import pytest

from ase_fflux.base.text import aligned, printable, quantities


def test_columns():
    rows = [("name", "n", "unit"), ("a", "10", "kJ/mol"), ("longer", "5", "")]
    assert aligned(rows, [1]) == ["name     n  unit", "a       10  kJ/mol", "longer   5"]
    assert aligned(rows, [-2]) == aligned(rows, [1])
    assert aligned(rows) == ["name    n   unit", "a       10  kJ/mol", "longer  5"]
    assert aligned([]) == []


def test_quantities():
    rows = [("energy RMSE", 0.123456, "kJ/mol"), ("coverage", 1234.5, "")]
    assert quantities(rows) == ["  energy RMSE  0.1235  kJ/mol", "  coverage       1234"]
    assert quantities([]) == []


@pytest.mark.parametrize(
    "text, shown", [("água", "água"), ("b\udcfcd", "b\\xfcd"), ("\ud800", "\\ud800")]
)
def test_printable(text, shown):
    assert printable(text) == shown
    shown.encode("utf-8")
