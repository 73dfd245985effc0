import numpy as np
import pytest

from ase_fflux.base.errors import TrainingError
from ase_fflux.learn.gp.holdout import FOLDS, HoldOut
from ase_fflux.learn.gp.likelihood import ConcentratedLikelihood
from ase_fflux.model.kernels import KERNELS

RNG = np.random.default_rng(3)
X = np.column_stack([RNG.normal(size=(33, 5)), RNG.uniform(-np.pi, np.pi, 33)])
Y = np.stack([np.sin(X[:, 0]) + np.cos(X[:, 5]), 40.0 + 1e-3 * X[:, 1] * X[:, 2]])
NOISE = 1e-3
LOG_THETA = RNG.uniform(-3, 0, 6)

kernels = pytest.mark.parametrize("kernel", KERNELS)
noises = pytest.mark.parametrize("learn_noise", [False, True], ids=["fixed", "learned"])


def hyperparameters(learn_noise):
    return np.append(LOG_THETA, np.log(2e-2)) if learn_noise else LOG_THETA


def folds(seed):
    """As documented: a random order, cut in pieces of (almost) the same length."""
    return np.array_split(np.random.default_rng(seed).permutation(len(X)), FOLDS)


@kernels
@noises
@pytest.mark.parametrize("seed", [0, 7])
def test_value_follows_from_refits_without_each_fold(kernel, learn_noise, seed):
    x, error = hyperparameters(learn_noise), np.full_like(Y, np.nan)
    for fold in folds(seed):
        rest = np.setdiff1d(np.arange(len(X)), fold)
        refit = ConcentratedLikelihood(X[rest], Y[:, rest], NOISE, kernel, learn_noise).process(x)
        error[:, fold] = Y[:, fold] - refit.predict(X[fold])
    mean_square = np.mean(np.square(error) / Y.var(axis=1, keepdims=True))
    holdout = HoldOut(X, Y, NOISE, kernel, learn_noise, seed)
    expected = 0.5 * len(X) * np.log(mean_square)
    assert holdout.value(x) == pytest.approx(expected, rel=1e-9)
    assert holdout.value_and_gradient(x)[0] == pytest.approx(expected, rel=1e-9)


@kernels
@noises
@pytest.mark.parametrize("n_outputs", [1, 2])
def test_gradient_is_the_derivative(kernel, learn_noise, n_outputs, central_differences):
    x = hyperparameters(learn_noise)
    holdout = HoldOut(X, Y[:n_outputs], NOISE, kernel, learn_noise)
    gradient = holdout.value_and_gradient(x)[1]
    assert gradient.shape == x.shape
    np.testing.assert_allclose(
        gradient, central_differences(holdout.value, x), rtol=1e-8, atol=1e-8
    )


def test_scale_and_shift_of_targets_do_not_matter():
    holdout, changed = HoldOut(X, Y, NOISE), HoldOut(X, [[1e-3], [1e4]] * Y - 75.0, NOISE)
    assert holdout.value(LOG_THETA) == pytest.approx(changed.value(LOG_THETA), rel=1e-8)


def test_process_is_that_of_all_points():
    holdout = HoldOut(X, Y, NOISE)
    expected = ConcentratedLikelihood(X, Y, NOISE).process(LOG_THETA)
    for prepare in (lambda x: None, holdout.value, holdout.value_and_gradient):
        prepare(LOG_THETA)
        process = holdout.process(LOG_THETA)
        np.testing.assert_array_equal(process.weights, expected.weights)
        np.testing.assert_array_equal(process.mean, expected.mean)


@pytest.mark.parametrize("n", [2, 3, 5, 6])
def test_fewer_points_than_folds(n):
    value, gradient = HoldOut(X[:n], Y[:, :n], NOISE).value_and_gradient(LOG_THETA)
    assert np.isfinite(value) and np.isfinite(gradient).all()


def test_constant_targets_have_finite_values():
    value, gradient = HoldOut(X, np.full(33, 0.7), NOISE).value_and_gradient(LOG_THETA)
    assert np.isfinite(value) and np.isfinite(gradient).all()


def test_kernel_matrix_that_is_not_positive_definite():
    holdout = HoldOut(np.vstack([X, X]), np.hstack([Y, Y]), -1e-3)
    value, gradient = holdout.value_and_gradient(LOG_THETA)
    assert holdout.value(LOG_THETA) == value == np.inf
    assert (gradient == 0).all() and gradient.shape == LOG_THETA.shape
    with pytest.raises(TrainingError, match="duplicate"):
        holdout.process(LOG_THETA)
