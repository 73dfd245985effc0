import numpy as np
import pytest

from ase_fflux.base.errors import TrainingError
from ase_fflux.formats.model_file import read_model
from ase_fflux.formats.training_set import read_training_set
from ase_fflux.learn.gp.likelihood import ConcentratedLikelihood, MarginalLikelihood
from ase_fflux.learn.gp.optimisers import LBFGS
from ase_fflux.learn.gp.settings import TrainingSettings
from ase_fflux.learn.gp.training import train
from ase_fflux.model.kernels import KERNELS

RNG = np.random.default_rng(2)
X = np.column_stack([RNG.normal(size=(40, 5)), RNG.uniform(-np.pi, np.pi, 40)])
Y = np.stack([np.sin(X[:, 0]) + np.cos(X[:, 5]), X[:, 1] * X[:, 2]])
NOISE = 1e-4
LOG_THETA = RNG.uniform(-3, 0, 6)

likelihoods = pytest.mark.parametrize("made", [ConcentratedLikelihood, MarginalLikelihood])
kernels = pytest.mark.parametrize("kernel", KERNELS)
noises = pytest.mark.parametrize("learn_noise", [False, True], ids=["fixed", "learned"])


def hyperparameters(learn_noise):
    return np.append(LOG_THETA, np.log(3e-3)) if learn_noise else LOG_THETA


def covariance(x, kernel, features=X):
    """K with its noise, which is `NOISE` unless it is the seventh of x."""
    noise = np.exp(x[6]) if len(x) > 6 else NOISE
    return KERNELS[kernel](np.exp(x[:6])).matrix(features, features) + noise * np.eye(len(features))


def dense(made, k, y):
    """-ln L by the textbook, without any of the tricks."""
    inverse, n, one, total = np.linalg.inv(k), len(k), np.ones(len(k)), 0.0
    for target in y:
        total += 0.5 * np.linalg.slogdet(k)[1]
        if made is ConcentratedLikelihood:
            residual = target - one @ inverse @ target / (one @ inverse @ one)
            total += 0.5 * n * np.log(residual @ inverse @ residual / n)
        else:
            residual = target - target.mean()
            total += 0.5 * (residual @ inverse @ residual + n * np.log(2 * np.pi))
    return total


@likelihoods
@kernels
@noises
def test_value_is_the_textbook_formula(made, kernel, learn_noise):
    x = hyperparameters(learn_noise)
    likelihood = made(X, Y, NOISE, kernel, learn_noise)
    expected = dense(made, covariance(x, kernel), Y)
    assert likelihood.value(x) == pytest.approx(expected, rel=1e-10)
    assert likelihood.value_and_gradient(x)[0] == pytest.approx(expected, rel=1e-10)
    probes = np.ones((40, 1), order="F")
    assert likelihood.value_and_gradient(x, probes)[0] == pytest.approx(expected, rel=1e-10)


@likelihoods
@kernels
@noises
def test_gradient_is_the_derivative(made, kernel, learn_noise, central_differences):
    x = hyperparameters(learn_noise)
    likelihood = made(X, Y, NOISE, kernel, learn_noise)
    value, gradient = likelihood.value_and_gradient(x)
    assert gradient.shape == x.shape
    numeric = central_differences(likelihood.value, x)
    np.testing.assert_allclose(gradient, numeric, rtol=1e-8, atol=1e-8)


@likelihoods
@noises
def test_gradients_of_probes_have_the_mean_and_the_variance_they_should(made, learn_noise):
    """Of single probes; the mean is the gradient of all of them, as it is linear in z z^T."""
    x, draws = hyperparameters(learn_noise), 20_000
    likelihood = made(X, Y, NOISE, "periodic", learn_noise)
    exact = likelihood.value_and_gradient(x)[1]
    signs = np.random.default_rng(0).choice([-1.0, 1.0], size=(40, draws))
    together = likelihood.value_and_gradient(x, np.asfortranarray(signs))[1]
    single = np.array([
        likelihood.value_and_gradient(x, np.asfortranarray(z[:, None]))[1]
        for z in signs[:, :2000].T
    ])
    covariance = np.cov(single.T)
    assert (np.abs(together - exact) < 4 * np.sqrt(np.diagonal(covariance) / draws)).all()
    # in no direction is the variance larger than the information times the number of outputs
    bound = len(Y) * likelihood.information(x)
    assert np.linalg.eigvals(np.linalg.solve(bound, covariance)).real.max() < 1 + 4 / np.sqrt(2000)
    first = likelihood.value_and_gradient(x, np.asfortranarray(signs[:, :2000]))[1]
    np.testing.assert_allclose(single.mean(axis=0), first, rtol=1e-9, atol=1e-9)


def textbook_information(x, kernel, central_differences, features=X):
    """1/2 tr(K^-1 K_h K^-1 K_k) with numerical derivatives; the last is that of a prefactor."""
    k = covariance(x, kernel, features)
    slopes = central_differences(lambda x: covariance(x, kernel, features), x)
    a = np.linalg.solve(k, np.concatenate([slopes, k[None]]))
    return 0.5 * np.einsum("hij,kji->hk", a, a)


@kernels
@noises
def test_information_is_the_textbook_formula(kernel, learn_noise, central_differences):
    """A prefactor that is not of interest takes its Schur complement from the information."""
    x = hyperparameters(learn_noise)
    known = textbook_information(x, kernel, central_differences)
    marginal = MarginalLikelihood(X, Y[:1], NOISE, kernel, learn_noise).information(x)
    np.testing.assert_allclose(marginal, known[:-1, :-1], rtol=1e-7, atol=1e-7)
    concentrated = ConcentratedLikelihood(X, Y[:1], NOISE, kernel, learn_noise).information(x)
    without = known[:-1, :-1] - np.outer(known[-1, :-1], known[-1, :-1]) / known[-1, -1]
    np.testing.assert_allclose(concentrated, without, rtol=1e-7, atol=1e-7)
    # as many outputs, as much information
    both = ConcentratedLikelihood(X, Y, NOISE, kernel, learn_noise).information(x)
    np.testing.assert_allclose(both, 2 * concentrated, rtol=1e-12)


@likelihoods
@noises
def test_information_is_the_mean_curvature_over_data(made, learn_noise, central_differences):
    """Of draws from the process itself; that the mean is estimated changes it by terms of 1/n."""
    rng, n, draws = np.random.default_rng(1), 200, 400
    features = rng.normal(size=(n, 6))
    x = np.log(np.append(rng.uniform(0.1, 0.4, 6), 0.1 if learn_noise else []))
    factor = np.linalg.cholesky(covariance(x, "rbf", features))
    targets = (factor @ rng.normal(size=(n, draws))).T
    likelihood = made(features, targets, NOISE, "rbf", learn_noise)
    curvature = central_differences(lambda x: likelihood.value_and_gradient(x)[1], x)
    information = likelihood.information(x)
    # in units of the standard deviations that the information gives the hyperparameters
    unit = np.sqrt(np.outer(np.diagonal(information), np.diagonal(information)))
    np.testing.assert_allclose(curvature / unit, information / unit, atol=10 / n)


@noises
def test_scale_and_shift_of_targets_do_not_move_the_concentrated_optimum(learn_noise):
    x = hyperparameters(learn_noise)
    likelihood = ConcentratedLikelihood(X, Y, NOISE, "periodic", learn_noise)
    changed = ConcentratedLikelihood(X, 1e-3 * Y - 75.0, NOISE, "periodic", learn_noise)
    np.testing.assert_allclose(
        likelihood.value_and_gradient(x)[1], changed.value_and_gradient(x)[1], rtol=1e-6, atol=1e-6
    )
    np.testing.assert_array_equal(likelihood.information(x), changed.information(x))


@likelihoods
def test_several_outputs_add_up(made):
    both = made(X, Y, NOISE).value_and_gradient(LOG_THETA)
    alone = [made(X, y, NOISE).value_and_gradient(LOG_THETA) for y in Y]
    assert both[0] == pytest.approx(alone[0][0] + alone[1][0])
    np.testing.assert_allclose(both[1], alone[0][1] + alone[1][1], rtol=1e-9, atol=1e-9)


@likelihoods
@kernels
@noises
def test_process_reproduces_its_targets(made, kernel, learn_noise):
    x = np.log(np.append(np.full(6, 0.3), 1e-8 if learn_noise else []))
    process = made(X, Y, 1e-8, kernel, learn_noise).process(x)
    np.testing.assert_allclose(process.predict(X), Y, atol=1e-4)
    np.testing.assert_allclose(process.targets(), Y, atol=1e-8)
    assert process.noise == pytest.approx(1e-8)


@likelihoods
@noises
def test_process_is_never_a_stale_one(made, learn_noise):
    likelihood = made(X, Y, NOISE, "periodic", learn_noise)
    x1 = hyperparameters(learn_noise)
    x2 = x1 - 1.0
    for last in (x1, x2):
        likelihood.value_and_gradient(x1)
        likelihood.value(x2)
        fresh = made(X, Y, NOISE, "periodic", learn_noise).process(last)
        np.testing.assert_array_equal(likelihood.process(last).weights, fresh.weights)
    # an array that its owner changes after the evaluation
    changing = x1.copy()
    likelihood.value(changing)
    changing -= 1.0
    np.testing.assert_array_equal(likelihood.process(changing).weights, fresh.weights)


@likelihoods
@noises
def test_nothing_is_left_of_evaluations_before(made, learn_noise):
    """Arrays are written over again and again, after a failure as well."""
    x1 = hyperparameters(learn_noise)
    singular = np.append(np.full(6, -80.0), np.log(1e-18) if learn_noise else [])
    probes = np.asfortranarray(RNG.choice([-1.0, 1.0], size=(40, 5)))
    tasks = [
        lambda made, x: made.value(x),
        lambda made, x: made.value_and_gradient(x)[1],
        lambda made, x: made.value_and_gradient(x, probes)[1],
        lambda made, x: made.information(x),
    ]

    def new():
        return made(X, Y, 1e-18, "periodic", learn_noise)

    used = new()
    kept = [(task(used, x1), task(new(), x1)) for task in tasks]
    for x in (x1 - 1.0, singular, x1):
        for task in tasks[:3]:
            np.testing.assert_array_equal(task(used, x), task(new(), x))
    for given, fresh in kept:  # what was given away stays what it was
        np.testing.assert_array_equal(given, fresh)


def test_process_reuses_the_last_evaluation(monkeypatch):
    likelihood = ConcentratedLikelihood(X, Y, NOISE)
    likelihood.value_and_gradient(LOG_THETA)
    monkeypatch.delattr(ConcentratedLikelihood, "_profile")
    likelihood.process(LOG_THETA.copy())
    with pytest.raises(NotImplementedError):
        likelihood.process(LOG_THETA + 1.0)


@likelihoods
def test_kernel_matrix_that_is_not_positive_definite(made):
    likelihood = made(np.vstack([X, X]), np.hstack([Y, Y]), -1e-3)
    assert likelihood.value(LOG_THETA) == np.inf
    value, gradient = likelihood.value_and_gradient(LOG_THETA)
    assert value == np.inf and (gradient == 0).all() and gradient.shape == LOG_THETA.shape
    with pytest.raises(TrainingError, match="duplicate"):
        likelihood.process(LOG_THETA)


def test_constant_targets_have_a_finite_concentrated_likelihood():
    likelihood = ConcentratedLikelihood(X, np.full(40, 0.7), NOISE)
    value, gradient = likelihood.value_and_gradient(LOG_THETA)
    assert np.isfinite(value) and np.isfinite(gradient).all()
    np.testing.assert_allclose(likelihood.process(LOG_THETA).predict(X + 0.3), 0.7, rtol=1e-9)


PUBLISHED = [("ammonia", "AMMONIA_N1"), ("methanol", "METHANOL_C1")]


def rounding(features, targets, x, noise):
    """Standard deviation of -ln L that comes from rounding the elements of K.

    Of d(-ln L) = 1/2 tr((K^-1 - a a^T) dK) with independent dK_ij of 2 eps K_ij: what the sum in
    the exponent and the exponential leave. With condition numbers of 1e12, K^-1 makes much of it.
    """
    k = KERNELS["rbf"](np.exp(x)).matrix(features, features) + noise * np.eye(len(features))
    inverse = np.linalg.inv(k)
    weights = inverse @ (targets - targets.mean())
    share = (inverse - np.outer(weights, weights)) * k
    # dK is symmetric: each of its elements stands in two places
    return np.finfo(float).eps * np.sqrt(2.0 * np.square(share).sum())


def test_rounding_is_what_the_last_digits_of_theta_change():
    rng = np.random.default_rng(4)
    features = np.column_stack([rng.normal(size=(150, 2)), rng.uniform(-1, 1, 150)])
    targets, noise = np.sin(features).sum(axis=1), 1e-11
    likelihood = MarginalLikelihood(features, targets, noise, "rbf")
    x = np.log([0.05, 0.02, 0.03])
    values = [likelihood.value(x * (1 + 2e-16 * rng.uniform(-1, 1, 3))) for _ in range(40)]
    assert 0.2 < np.std(values) / rounding(features, targets, x, noise) < 2


@pytest.mark.parametrize("molecule, name", PUBLISHED)
def test_published_marginal_likelihood(reference, molecule, name):
    """Value at the published theta, and an optimum that is no worse, by direct learning.

    Both up to five standard deviations of what rounding does to a likelihood.
    """
    folder = reference / "ferebus" / molecule
    training = read_training_set(folder / f"{name}_TRAINING_SET.csv")
    model = read_model(folder / "marginal.model")
    energies, published = training.targets["iqa"], -float(model.metadata["likelihood"])
    likelihood = MarginalLikelihood(training.features, energies, 1e-10, "rbf")
    x = np.log(model.kernel.theta)
    tolerance = 5 * rounding(training.features, energies, x, 1e-10)
    assert tolerance < 3e-3
    assert likelihood.value(x) == pytest.approx(published, abs=tolerance)
    settings = TrainingSettings(
        noise=1e-10, bounds=(1e-8, 10.0), kernel="rbf", objective="marginal",
        optimiser=LBFGS(tolerance=1e-8), transfer=None,
    )
    result = train(training.features, energies, settings)
    assert result.objective <= published + tolerance
    np.testing.assert_allclose(result.log_theta, x, atol=5e-3)
