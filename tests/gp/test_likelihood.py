import numpy as np
import pytest

from ase_fflux.errors import TrainingError
from ase_fflux.formats.training_set import read_training_set
from ase_fflux.gp.kernels import Kernel
from ase_fflux.gp.likelihood import ConcentratedLikelihood
from ase_fflux.gp.training import TrainingSettings, initial_theta, train

RNG = np.random.default_rng(2)
X = np.column_stack([RNG.normal(size=(40, 5)), RNG.uniform(-np.pi, np.pi, 40)])
Y = np.stack([np.sin(X[:, 0]) + np.cos(X[:, 5]), X[:, 1] * X[:, 2]])
NOISE = 1e-4


def dense(log_theta, x, y, noise):
    """-ln L by the textbook, without any of the tricks."""
    k = Kernel.periodic_on_phi(np.exp(log_theta)).matrix(x, x) + noise * np.eye(len(x))
    inverse, one, total = np.linalg.inv(k), np.ones(len(x)), 0.0
    for target in y:
        mean = one @ inverse @ target / (one @ inverse @ one)
        variance = (target - mean) @ inverse @ (target - mean) / len(x)
        total += 0.5 * (len(x) * np.log(variance) + np.linalg.slogdet(k)[1])
    return total


def test_value_is_the_textbook_formula():
    log_theta = RNG.uniform(-3, 0, 6)
    likelihood = ConcentratedLikelihood(X, Y, NOISE)
    expected = dense(log_theta, X, Y, NOISE)
    assert likelihood.value_and_gradient(log_theta)[0] == pytest.approx(expected, rel=1e-9)
    assert likelihood.value(log_theta) == pytest.approx(expected, rel=1e-9)


def test_gradient_is_the_derivative():
    likelihood = ConcentratedLikelihood(X, Y, NOISE)
    log_theta = RNG.uniform(-3, 0, 6)
    _, gradient = likelihood.value_and_gradient(log_theta)
    step = 1e-4 * np.eye(6)
    numeric = [
        (likelihood.value_and_gradient(log_theta + s)[0]
         - likelihood.value_and_gradient(log_theta - s)[0]) / 2e-4
        for s in step
    ]
    np.testing.assert_allclose(gradient, numeric, rtol=1e-6, atol=1e-5)


def test_scale_and_shift_of_targets_do_not_move_the_optimum():
    likelihood = ConcentratedLikelihood(X, Y, NOISE)
    changed = ConcentratedLikelihood(X, 1e-3 * Y - 75.0, NOISE)
    log_theta = RNG.uniform(-3, 0, 6)
    np.testing.assert_allclose(
        likelihood.value_and_gradient(log_theta)[1], changed.value_and_gradient(log_theta)[1],
        rtol=1e-6, atol=1e-6,
    )


def test_process_reproduces_its_targets():
    process = ConcentratedLikelihood(X, Y, 1e-8).process(np.full(6, 0.3))
    np.testing.assert_allclose(process.predict(X), Y, atol=1e-4)
    np.testing.assert_allclose(process.targets(), Y, atol=1e-8)


def test_training_climbs_and_stays_in_bounds():
    settings = TrainingSettings(noise=NOISE, bounds=(1e-4, 0.1))
    result = train(X, Y, settings)
    likelihood = ConcentratedLikelihood(X, Y, NOISE)
    start = likelihood.value_and_gradient(np.log(initial_theta(X, settings.bounds)))[0]
    assert result.objective < start
    theta = result.process.kernel.theta
    assert theta.min() >= 1e-4 * (1 - 1e-9) and theta.max() <= 0.1 * (1 + 1e-9)


def test_bad_training_data_are_refused():
    with pytest.raises(TrainingError, match="finite"):
        train(np.where(X == X[3, 2], np.nan, X), Y, TrainingSettings())
    with pytest.raises(TrainingError, match="too few"):
        train(X[:1], Y[:, :1], TrainingSettings())
    twice = np.vstack([X, X[:5]])
    with pytest.raises(TrainingError, match="duplicate"):
        train(twice, np.hstack([Y, Y[:, :5]]), TrainingSettings(noise=0.0))


def test_methanol_reaches_the_published_error(reference):
    """Concentrated likelihood on the published set: RMSE 0.558 kJ/mol (published swarm 0.579)."""
    folder = reference / "ferebus" / "methanol"
    training = read_training_set(folder / "METHANOL_C1_TRAINING_SET.csv")
    validation = read_training_set(folder / "METHANOL_C1_VALIDATION_SET.csv")
    settings = TrainingSettings(bounds=(1e-8, 10.0), max_iterations=100)
    process = train(training.features, training.targets["iqa"], settings).process
    errors = process.predict(validation.features)[0] - validation.targets["iqa"]
    rmse = 2625.4996 * np.sqrt(np.mean(errors**2))
    assert rmse < 0.579
