"""What training makes of its data: refusals, features that say nothing, starting theta."""

from dataclasses import replace

import numpy as np
import pytest

from ase_fflux.base.errors import TrainingError
from ase_fflux.learn.gp.likelihood import ConcentratedLikelihood
from ase_fflux.learn.gp.optimisers import LBFGS, GreyWolf
from ase_fflux.learn.gp.settings import TrainingSettings, Transfer
from ase_fflux.learn.gp.training import initial_theta, train
from ase_fflux.model.kernels import KERNELS

RNG = np.random.default_rng(6)
X, NEW = (
    np.column_stack([RNG.normal(2.0, 0.2, (n, 5)), RNG.uniform(-np.pi, np.pi, n)])
    for n in (120, 50)
)
Y = np.stack([np.sin(X[:, 0]) * X[:, 2] + 0.1 * np.cos(X[:, 5]), X[:, 3] ** 2 - 75.0])
SETTINGS = TrainingSettings(noise=1e-6)
DIRECT = replace(SETTINGS, transfer=None)
both = pytest.mark.parametrize("settings", [SETTINGS, DIRECT], ids=["transfer", "direct"])


@both
@pytest.mark.parametrize("optimiser", [LBFGS(), GreyWolf(points=6, budget=60)])
def test_constant_feature_is_switched_off(settings, optimiser):
    """As if it were not there: it has no share in any kernel value."""
    x, new = (np.column_stack([x, np.full(len(x), 1.3)]) for x in (X, NEW))
    result = train(x, Y, replace(settings, optimiser=optimiser))
    assert result.log_theta[6] == pytest.approx(np.log(settings.bounds[0]), rel=1e-12)
    without = ConcentratedLikelihood(X, Y, settings.noise).process(result.log_theta[:6])
    np.testing.assert_allclose(
        result.process.predict(new), without.predict(NEW), rtol=0, atol=1e-6
    )


def test_data_are_not_changed():
    x, y = X.copy(), Y.copy()
    train(x, y, SETTINGS)
    np.testing.assert_array_equal(x, X)
    np.testing.assert_array_equal(y, Y)


@both
def test_bad_training_data_are_refused(settings):
    def changed(values, place, value):
        values = values.copy()
        values[place] = value
        return values

    for bad in (np.nan, np.inf):
        with pytest.raises(TrainingError, match="feature 3 of point 8 is not a finite"):
            train(changed(X, (7, 2), bad), Y, settings)
        with pytest.raises(TrainingError, match="target 2 of point 6 is not a finite"):
            train(X, changed(Y, (1, 5), bad), settings)
    with pytest.raises(TrainingError, match="1 training points are too few"):
        train(X[:1], Y[:, :1], settings)
    with pytest.raises(TrainingError, match="0 training points are too few"):
        train(X[:0], Y[:, :0], settings)
    with pytest.raises(TrainingError, match="120 training points, but 119 targets"):
        train(X, Y[:, :-1], settings)
    with pytest.raises(TrainingError, match="points 18 and 41 have the same features"):
        train(changed(X, 40, X[17]), Y, settings)
    with pytest.raises(TrainingError, match="5 such repetitions.*remove duplicate"):
        train(np.vstack([X, X[:5]]), np.hstack([Y, Y[:, :5]]), settings)


@both
def test_points_that_are_one_on_the_circle_need_noise(settings):
    """A full turn of an azimuth: features differ, correlations do not."""
    turned = X + 2 * np.pi * (np.arange(6) == 5)
    x, y = np.vstack([X, turned]), np.hstack([Y, Y])
    assert np.isfinite(train(x, y, settings).objective)
    with pytest.raises(TrainingError, match="remove duplicate training points or raise the noise"):
        train(x, y, replace(settings, noise=0.0))


@both
@pytest.mark.parametrize("guess", [np.zeros(7), np.zeros((1, 6)), np.array([0.0, np.nan])])
def test_guess_that_does_not_fit_is_refused(settings, guess):
    with pytest.raises(TrainingError, match="guess of log theta must be at most 6"):
        train(X, Y, settings, guesses=[guess])


@pytest.mark.parametrize("transfer", [
    None, Transfer(), Transfer(curvature=False), Transfer(combination="best"),
])
def test_guesses_so_long_that_the_kernel_matrix_is_singular(transfer):
    settings = TrainingSettings(noise=0.0, bounds=(1e-6, 1e-5), transfer=transfer)
    with pytest.raises(TrainingError, match="remove duplicate training points or raise the noise"):
        train(X, Y, settings, guesses=[np.full(6, -13.0), np.full(6, -12.0)])


def test_initial_theta_follows_the_units_of_plain_features():
    theta = initial_theta(X, (1e-12, 1e12))
    for scale in (0.1, 7.0):
        scaled = X * np.array([1, scale, 1, 1, 1, 1])
        expected = theta * np.array([1, scale**-2, 1, 1, 1, 1])
        np.testing.assert_allclose(initial_theta(scaled, (1e-12, 1e12)), expected)
    np.testing.assert_allclose(initial_theta(X + 3.0, (1e-12, 1e12)), theta)
    turned = X + np.where(np.arange(6) == 5, 2 * np.pi * np.arange(120)[:, None], 0.0)
    np.testing.assert_allclose(initial_theta(turned, (1e-12, 1e12)), theta)


def test_initial_theta_makes_typical_points_correlate_by_the_root_of_e():
    """The mean exponent over pairs is 1/2, to which all features contribute alike."""
    for kernel in KERNELS:
        theta = initial_theta(X, (1e-12, 1e12), kernel)
        shares = [
            KERNELS[kernel](theta * unit).exponent(X, X).mean() for unit in np.eye(6)
        ]
        np.testing.assert_allclose(shares, 0.5 / 6)


def test_initial_theta_is_in_the_bounds():
    constant = np.column_stack([X, np.full(120, 0.1)])
    for bounds in ((1e-2, 0.1), (5.0, 7.0), (1e-9, 1e-8)):
        theta = initial_theta(constant, bounds)
        assert theta.min() >= bounds[0] and theta.max() <= bounds[1]
        assert theta[6] == bounds[0]
