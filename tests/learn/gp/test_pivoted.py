"""The factor against LAPACK's, with points in an order of their own."""

import numpy as np
import pytest

from ase_fflux.learn.gp.pivoted import PivotedCholesky


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_rows_are_those_of_the_factor_in_that_order(noise):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(12, 3))
    k = np.exp(-np.square(x[:, None] - x).sum(axis=2))
    order = rng.permutation(12)
    factor = PivotedCholesky(np.diagonal(k), 7, noise)
    rows = np.array([factor.take(point, k[point]) for point in order[:7]])
    expected = np.linalg.cholesky(k[np.ix_(order, order)] + noise * np.eye(12))
    # the noise is of each point alone: it stands on the diagonal only
    np.testing.assert_allclose(
        np.tril(rows[:, order].T[:, :7], -1), np.tril(expected[:, :7], -1), atol=1e-12
    )
    left = np.diagonal(k) - np.square(rows).sum(axis=0)
    np.testing.assert_allclose(factor.variance, left, atol=1e-14)
    if noise == 0.0:
        np.testing.assert_allclose(factor.variance[order[:7]], 0.0, atol=1e-12)
    assert (factor.variance[order[7:]] > 0).all()
