"""Triangles in panels of rows against dense matrices, and the joint process that is solved by them.
"""

import numpy as np
import pytest

from ase_fflux.learn.joint import system as system_module
from ase_fflux.learn.joint.left_out import LeftOut
from ase_fflux.learn.joint.likelihood import JointLikelihood
from ase_fflux.learn.joint.system import JointSystem, panel_ends
from ase_fflux.learn.joint.triangle import Triangle


def matrix(n, seed=0):
    x = np.random.default_rng(seed).normal(size=(n, n))
    return x @ x.T / n + 0.1 * np.eye(n)


def triangle(whole, ends):
    """With numbers above the diagonal, which count nowhere."""
    found = Triangle(ends)
    for panel, start, end in zip(found.panels, found.starts, found.ends, strict=True):
        panel[:] = np.tril(whole)[start:end, :end]
        panel[:, start:] += np.triu(np.full((end - start, end - start), 7.0), 1)
    return found


ENDS = [[1], [40], [40, 57], [10, 20, 30, 40, 57], [3, 300, 301, 641], [256, 512, 700]]


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("ends", ENDS)
def test_factor_solutions_and_inverse_are_those_of_the_whole_matrix(ends, threads):
    whole, n = matrix(ends[-1]), ends[-1]
    found, rng = triangle(whole, ends), np.random.default_rng(1)
    np.testing.assert_array_equal(found.diagonal(), np.diagonal(whole))
    found.add_to_diagonal(np.arange(n) / n)
    x = 0.01 * rng.normal(size=(5, n))
    found.subtract_products(x)
    whole += np.diag(np.arange(n) / n) - x.T @ x
    np.testing.assert_allclose(np.tril(found.full()), np.tril(whole), rtol=0, atol=1e-14)
    found.factorise(threads)
    factor = np.linalg.cholesky(whole)
    np.testing.assert_allclose(np.tril(found.full()), factor, rtol=0, atol=1e-12)
    y = rng.normal(size=(n, 3))
    before = y.copy()
    np.testing.assert_allclose(found.half_solve(y), np.linalg.solve(factor, y), atol=1e-11)
    np.testing.assert_allclose(
        found.solve_transposed(y[:, 0]), np.linalg.solve(factor.T, y[:, 0]), atol=1e-11
    )
    np.testing.assert_array_equal(y, before)
    np.testing.assert_allclose(
        np.tril(found.inverse().T), np.tril(np.linalg.inv(whole)), rtol=0, atol=1e-10
    )


@pytest.mark.parametrize("bad", [0, 12, 45, 56])
def test_the_first_minor_that_is_not_positive_is_named(bad):
    whole = matrix(57)
    whole[bad, bad] = -1.0
    with pytest.raises(np.linalg.LinAlgError, match=f"leading minor {bad + 1} is not"):
        triangle(whole, [10, 40, 57]).factorise()


def test_nothing_is_a_triangle_too():
    empty = Triangle([0])
    empty.factorise()
    assert len(empty) == 0 and empty.half_solve(np.zeros((0, 2))).shape == (0, 2)
    assert empty.inverse().shape == (0, 0) and empty.solve_transposed(np.zeros(0)).shape == (0,)


@pytest.mark.parametrize("size", [8192, 8193, 9001, 20_000])
def test_panels_end_with_a_label_and_take_half_the_memory(size):
    t, d = 200, 21
    ends = panel_ends(size, t, d)
    assert ends[-1] == size and all((end - t) % d == 0 for end in ends[:-1])
    entries = sum((b - a) * b for a, b in zip([0, *ends[:-1]], ends, strict=True))
    if size > 8192:
        assert entries < 0.5 * size**2 + 0.5 * 1100 * size


CASES = {
    "atomic energies": {},
    "totals": dict(with_energies=[], with_total=np.arange(7)),
    "totals beside": dict(with_total=np.arange(7)),
    "mixture": dict(
        with_energies=np.array([1, 2]), with_total=np.array([0, 2, 3, 5]),
        with_gradient=np.array([0, 1, 4, 5, 6]), source=np.array([0, 1, 0, 1, 1, 0, 1]),
    ),
    "no gradient": dict(with_gradient=np.array([], dtype=int), with_total=np.arange(7)),
}


@pytest.mark.parametrize("panel", [1, 9, 20, 33, 1000])
@pytest.mark.parametrize("options", CASES.values(), ids=CASES)
def test_panels_of_any_size_give_weights_likelihood_and_errors_of_dense_matrices(
    make_case, made_up_hyperparameters, monkeypatch, options, panel
):
    case = make_case("fluoromethane", 7, **options)
    h = made_up_hyperparameters(case.data)
    whole, likelihood = JointSystem(case.data, h), JointLikelihood(case.data)
    _, slope = likelihood.value_and_gradient(likelihood.pack(h))
    monkeypatch.setattr(system_module, "_WHOLE", 0)
    monkeypatch.setattr(system_module, "_PANEL", panel)
    parts = JointSystem(case.data, h, threads=2)
    if panel < 20 and len(case.data.with_gradient):
        assert len(parts.schur.panels) > 2
    mean, weights, value = case.solved(h)
    np.testing.assert_allclose(parts.mean, mean, rtol=1e-9)
    found = np.concatenate([
        *(w.ravel() for w in parts.energy_weights), parts.total_weights,
        parts.gradient_weights.ravel(),
    ])
    np.testing.assert_allclose(found, weights, rtol=0, atol=1e-8 * np.abs(weights).max())
    assert parts.negative_log_likelihood == pytest.approx(value, rel=1e-9)
    _, found = likelihood.value_and_gradient(likelihood.pack(h))
    np.testing.assert_allclose(found, slope, rtol=0, atol=1e-8 * np.abs(slope).max())
    labels = case.data.with_gradient[:3]
    if not len(labels):
        return
    for (errors, covariance), (other_errors, other) in zip(
        LeftOut.of(whole).errors(labels), LeftOut.of(parts).errors(labels), strict=True
    ):
        np.testing.assert_allclose(other_errors, errors, rtol=0, atol=1e-8 * np.abs(errors).max())
        np.testing.assert_allclose(other, covariance, rtol=0, atol=1e-8 * np.abs(covariance).max())
