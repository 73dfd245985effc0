import numpy as np
import pytest
from scipy.signal import lfilter

from ase_fflux.simulate.blocking import blocked_mean


def autoregressive(rng, n, memory):
    """x_i = memory x_(i-1) + noise of variance one, stationary."""
    noise = rng.standard_normal(n)
    noise[0] /= np.sqrt(1 - memory**2)
    return lfilter([1.0], [1.0, -memory], noise)


@pytest.mark.parametrize("memory", [0.0, 0.5, 0.9, 0.98])
def test_error_of_a_series_with_known_memory(memory):
    """The mean of an AR(1) series has the variance 1/(n (1 - memory)^2) for long series."""
    rng = np.random.default_rng(1)
    n = 40_000
    found = [blocked_mean(5 + autoregressive(rng, n, memory)) for _ in range(60)]
    exact = 1 / (np.sqrt(n) * (1 - memory))
    errors = np.array([mean.error for mean in found])
    assert np.sqrt(np.mean(errors**2)) == pytest.approx(exact, rel=0.1)
    assert np.std([mean.value for mean in found]) == pytest.approx(exact, rel=0.3)
    assert np.mean([abs(m.value - 5) < 2 * m.error for m in found]) > 0.85


def test_blocks_are_as_long_as_the_memory():
    rng = np.random.default_rng(2)
    assert blocked_mean(rng.standard_normal(10_000)).block == 1
    assert 16 <= blocked_mean(autoregressive(rng, 100_000, 0.95)).block <= 512


@pytest.mark.parametrize("length", [2, 5, 7])
def test_short_series_have_no_error_bar(length):
    mean = blocked_mean(np.arange(length) + 0.5)
    assert mean.value == pytest.approx(length / 2) and mean.error is None


def test_a_trend_has_no_error_bar():
    assert blocked_mean(np.linspace(0, 1, 5_000)).error is None


def test_a_constant_is_exact():
    mean = blocked_mean(np.full(100, 0.1))
    assert mean.value == pytest.approx(0.1) and mean.error == 0.0
