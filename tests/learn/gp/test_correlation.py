import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ase_fflux.learn.gp.correlation import Correlation, cholesky, workspace
from ase_fflux.model.kernels import KERNELS

RNG = np.random.default_rng(0)
# an offset as large as that of bond lengths and angles, which must not cost digits
X = np.column_stack([
    RNG.normal(2.0, 0.3, (30, 5)), RNG.uniform(-np.pi, np.pi, 30), RNG.normal(9.0, 0.3, 30)
])
kernels = pytest.mark.parametrize("kernel", KERNELS)


def matrix(correlation, theta):
    """Into an array in which nothing may be left of what stood there."""
    out = workspace(len(X))
    out[:] = np.nan
    return correlation.matrix(theta, out)


def whole(lower):
    """The symmetric matrix of a lower triangle."""
    return np.tril(lower) + np.tril(lower, -1).T


@kernels
@given(log_theta=st.lists(st.floats(-20.0, 3.0), min_size=7, max_size=7))
@settings(max_examples=30, deadline=None)
def test_matrix_is_that_of_the_kernel(kernel, log_theta):
    theta = np.exp(log_theta)
    k = whole(matrix(Correlation(X, KERNELS[kernel]), theta))
    np.testing.assert_allclose(k, KERNELS[kernel](theta).matrix(X, X), rtol=0, atol=1e-13)
    assert (np.diagonal(k) == 1.0).all()


@kernels
def test_matrix_does_not_depend_on_the_origin_of_plain_features(kernel):
    moved = X + np.where(np.arange(7) == 5, 0.0, 1e3)
    theta = np.full(7, 0.3)
    np.testing.assert_allclose(
        whole(matrix(Correlation(moved, KERNELS[kernel]), theta)),
        whole(matrix(Correlation(X, KERNELS[kernel]), theta)), rtol=0, atol=1e-10,
    )


def test_correlations_of_almost_equal_points_are_no_larger_than_one():
    """Their distance is a difference of large numbers, which rounding could make negative."""
    near = X[:1] + 1e-9 * RNG.normal(size=X.shape)
    near[0] += 3.0  # so that the centre is not among them
    k = matrix(Correlation(near, KERNELS["rbf"]), np.full(7, 1e3))
    assert np.tril(k).max() == 1.0


def test_turning_an_azimuth_by_a_full_circle_changes_the_plain_kernel_only():
    turned, theta = X.copy(), np.full(7, 0.3)
    turned[3, 5] += 2 * np.pi
    for kernel, same in (("periodic", True), ("rbf", False)):
        before, after = (
            whole(matrix(Correlation(x, KERNELS[kernel]), theta)) for x in (X, turned)
        )
        assert np.allclose(before, after, rtol=0, atol=1e-13) == same


@kernels
@given(seed=st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_contraction_is_the_sum_over_pairs_feature_by_feature(kernel, seed):
    g = np.random.default_rng(seed).normal(size=(30, 30))
    g += g.T
    expected = [
        np.sum(g * KERNELS[kernel](unit).exponent(X, X)) for unit in np.eye(7)
    ]
    correlation = Correlation(X, KERNELS[kernel])
    # what stands in the upper triangle must not matter
    lower = np.asfortranarray(np.tril(g) + np.triu(np.full_like(g, np.nan), 1))
    np.testing.assert_allclose(correlation.contract(lower), expected, rtol=1e-10, atol=1e-10)


@kernels
def test_slopes_are_derivatives_by_log_theta(kernel, central_differences):
    correlation = Correlation(X, KERNELS[kernel])
    log_theta = RNG.uniform(-3, 0, 7)
    slopes = correlation.slopes(matrix(correlation, np.exp(log_theta)), np.exp(log_theta))
    numeric = central_differences(lambda x: whole(matrix(correlation, np.exp(x))), log_theta)
    np.testing.assert_allclose(slopes, numeric, rtol=0, atol=1e-11)


def test_contraction_with_the_correlations_is_the_slope_of_a_weighted_sum():
    correlation, theta = Correlation(X, KERNELS["periodic"]), RNG.uniform(0.05, 1.0, 7)
    k, g = matrix(correlation, theta), whole(RNG.normal(size=(30, 30)))
    slope = np.sum(g * correlation.slopes(k, theta), axis=(1, 2))
    np.testing.assert_allclose(-theta * correlation.contract(g * whole(k)), slope, rtol=1e-10)


def test_results_are_written_where_they_should_be():
    """An array of the wrong order would be copied, silently and in vain."""
    correlation, out, other = Correlation(X, KERNELS["periodic"]), workspace(30), workspace(30)
    k = correlation.matrix(np.full(7, 0.3), out)
    assert k is out
    assert cholesky(k, 0.1, other) is other


def test_cholesky_factor_and_its_refusal():
    k = whole(matrix(Correlation(X, KERNELS["periodic"]), np.full(7, 0.3)))
    lower = np.asfortranarray(np.tril(k) + np.triu(np.full_like(k, np.nan), 1))
    before = lower.copy()
    factor = np.tril(cholesky(lower, 0.1, workspace(30)))
    np.testing.assert_allclose(factor @ factor.T, k + 0.1 * np.eye(30), atol=1e-13)
    np.testing.assert_array_equal(lower, before)
    k -= (np.linalg.eigvalsh(k)[0] + 0.01) * np.eye(30)
    cholesky(k, 0.02, workspace(30))
    with pytest.raises(np.linalg.LinAlgError, match="not positive definite"):
        cholesky(k, 0.0, workspace(30))
