import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ase_fflux.assess.learning import LearningCurve


def power_law(a, b, labels=(50, 100, 200)):
    return LearningCurve(tuple(labels), tuple(a * n**-b for n in labels))


@given(a=st.floats(1e-3, 10), b=st.floats(0.2, 3))
def test_power_law_is_found_again(a, b):
    curve = power_law(a, b)
    assert curve.exponent == pytest.approx(b, rel=1e-6)
    assert curve.expected(800) == pytest.approx(a * 800**-b, rel=1e-6)
    assert curve.expected(200) == pytest.approx(curve.force_rmse[-1])
    for n in (73, 250, 1001):  # as many as are needed, and no more
        needed = curve.needed(a * n**-b * (1 - 1e-7))
        assert n <= needed <= n + 1
        assert curve.expected(needed) <= a * n**-b


def test_points_off_the_law_all_count():
    curve = LearningCurve((10, 100, 1000), (1.0, 0.5, 0.01))
    assert curve.exponent == pytest.approx(1.0)
    assert curve.expected(2000) == pytest.approx(0.005)  # from the last point on


def test_advice_below_the_goal():
    said = power_law(2.0, 1.0).advice(0.02)
    assert said == (
        "held-out force RMSE 0.01 eV/A with 200 labels (0.04 with 50, 0.02 with 100): 400 would "
        "give about 0.005. Below the goal of 0.02 eV/A: more labels are not needed."
    )
    assert "not needed" in power_law(2.0, 1.0).advice(0.01)  # reached exactly


def test_advice_above_the_goal():
    said = power_law(20.0, 1.0).advice(0.0201)
    assert "with 200 labels" in said and "400 would give about 0.05." in said
    assert said.endswith("The goal of 0.0201 eV/A needs about 996: --labels.")


@pytest.mark.parametrize("errors", [(0.05, 0.049, 0.05), (0.04, 0.045, 0.05)])
def test_advice_where_labels_do_not_help(errors):
    curve = LearningCurve((50, 100, 200), errors)
    assert curve.exponent < 0.1
    said = curve.advice(0.02)
    assert "it hardly falls with more labels; label nearer" in said
    assert "would give" not in said and "--labels" not in said
    assert curve.advice(0.1).endswith("it hardly falls with more labels")


@pytest.mark.filterwarnings("error")
def test_one_point_is_no_curve():
    """A build of the least number of labels has no smaller one to compare with."""
    curve = LearningCurve((20,), (0.05,))
    said = "held-out force RMSE 0.05 eV/A with 20 labels: "
    assert curve.advice(0.02) == (
        said + "above the goal of 0.02 eV/A, more are needed: --labels."
    )
    assert curve.advice(0.06) == said + "below the goal of 0.06 eV/A, more are not needed."


def test_numbers_are_plain():
    curve = power_law(2.0, 1.0)
    assert type(curve.exponent) is float and type(curve.needed(0.001)) is int
    assert np.isfinite(curve.expected(10**6))
