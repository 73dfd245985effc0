import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ase_fflux.learn.gp.likelihood import ConcentratedLikelihood
from ase_fflux.learn.gp.optimisers import LBFGS
from ase_fflux.learn.gp.priors import WithPrior

RNG = np.random.default_rng(4)
X = RNG.normal(size=(30, 4))
Y = np.sin(X[:, :2].sum(axis=1))
LIKELIHOOD = ConcentratedLikelihood(X, Y, 1e-4, "rbf")
CENTRE = np.array([-1.0, 0.0, 1.0, -2.0])
LOG_THETA = np.array([-0.5, -1.0, -2.0, 0.3])


@given(width=st.floats(1e-2, 1e2), x=st.lists(st.floats(-4, 2), min_size=4, max_size=4))
@settings(max_examples=30, deadline=None)
def test_differences_are_those_of_the_normal_density(width, x):
    x, made = np.array(x), WithPrior(LIKELIHOOD, CENTRE, width)
    log_density = -0.5 * np.sum(((x - CENTRE) / width) ** 2)
    expected = LIKELIHOOD.value(x) - log_density
    assert made.value(x) == pytest.approx(expected)
    assert made.value_and_gradient(x)[0] == pytest.approx(expected)
    assert made.value(CENTRE) == LIKELIHOOD.value(CENTRE)


def test_gradient_is_the_derivative(central_differences):
    made = WithPrior(LIKELIHOOD, CENTRE, 0.3)
    numeric = central_differences(made.value, LOG_THETA)
    np.testing.assert_allclose(made.value_and_gradient(LOG_THETA)[1], numeric, rtol=1e-8)


def test_probes_estimate_the_gradient_of_the_likelihood_only():
    probes = np.asfortranarray(RNG.choice([-1.0, 1.0], size=(30, 8)))
    exact, estimated, exact_sum, estimated_sum = (
        made.value_and_gradient(LOG_THETA, *arguments)[1]
        for made in (LIKELIHOOD, WithPrior(LIKELIHOOD, CENTRE, 0.3))
        for arguments in ((), (probes,))
    )
    assert (np.abs(estimated - exact) > 1e-6).any()
    np.testing.assert_allclose(
        estimated_sum - exact_sum, estimated - exact, rtol=1e-9, atol=1e-9
    )


def test_optimum_moves_to_the_centre_as_the_width_shrinks():
    box = np.array([np.full(4, -8.0), np.full(4, 3.0)])
    distances = []
    for width in (1e3, 1.0, 0.1, 0.01):
        made = WithPrior(LIKELIHOOD, CENTRE, width)
        found = LBFGS(tolerance=1e-10).minimise(
            made, LOG_THETA[None], box, np.random.default_rng(0)
        )
        distances.append(np.linalg.norm(found.log_theta - CENTRE))
    assert distances == sorted(distances, reverse=True)
    assert distances[0] > 1.0 and distances[-1] < 0.01


def test_infinite_likelihood_stays_infinite_and_the_process_is_that_of_the_likelihood():
    broken = WithPrior(
        ConcentratedLikelihood(np.vstack([X, X]), np.hstack([Y, Y]), -1e-3, "rbf"), CENTRE, 1.0
    )
    assert broken.value(LOG_THETA) == broken.value_and_gradient(LOG_THETA)[0] == np.inf
    process = WithPrior(LIKELIHOOD, CENTRE, 1.0).process(LOG_THETA)
    np.testing.assert_array_equal(process.weights, LIKELIHOOD.process(LOG_THETA).weights)
