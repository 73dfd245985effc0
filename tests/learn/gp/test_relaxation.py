import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ase_fflux.learn.gp.likelihood import ConcentratedLikelihood, MarginalLikelihood
from ase_fflux.learn.gp.optimisers import LBFGS
from ase_fflux.learn.gp.relaxation import PROBES, relax

RNG = np.random.default_rng(5)
X = RNG.normal(size=(80, 4))
Y = np.stack([np.sin(X[:, 0] + X[:, 1]), X[:, 2] * X[:, 1]])
WIDE = np.array([np.full(3, -50.0), np.full(3, 50.0)])


class Function:
    """An objective of n points from a function and its gradient; records what it was asked for."""

    def __init__(self, function, gradient, n=7):
        self.function, self.gradient, self.features = function, gradient, np.zeros((n, 1))
        self.points, self.probes = [], []

    def value(self, x):
        self.points.append(x.copy())
        self.probes.append(None)
        return self.function(x)

    def value_and_gradient(self, x, probes):
        value = self.value(x)
        self.probes[-1] = probes
        return value, self.gradient(x)


def quadratic(hessian, centre):
    return Function(
        lambda x: 0.5 * (x - centre) @ hessian @ (x - centre), lambda x: hessian @ (x - centre)
    )


def counted(likelihood):
    return Function(likelihood.value, lambda x: likelihood.value_and_gradient(x)[1])


def positive(seed, size=3, scale=1e5):
    a = np.random.default_rng(seed).normal(size=(size, size))
    return scale * (a @ a.T + np.eye(size))


@given(seed=st.integers(0, 200), start=st.lists(st.floats(-1.4, 1.4), min_size=3, max_size=3))
@settings(max_examples=40, deadline=None)
def test_two_steps_end_in_the_minimum_of_a_quadratic_of_known_curvature(seed, start):
    """Up to the damping, which is less than 1e-4 of the curvature here."""
    assume(np.linalg.norm(start) > 0.1)  # nearer ones are as good as the minimum
    hessian, centre = positive(seed), np.array([0.3, -0.2, 0.1])
    objective = quadratic(hessian, centre)
    start = centre + start
    found = relax(objective, start, WIDE, hessian, 3, np.random.default_rng(0))
    assert np.linalg.norm(found.log_theta - centre) <= 1e-4 * np.linalg.norm(start - centre)
    assert found.value < 1.0


def test_curvature_is_learned_where_it_is_wrong():
    """Steps of 0.6 of the true curvature overshoot: only what they learn makes them end."""
    hessian, centre = positive(3, scale=1e3), np.array([0.3, -0.2, 0.1])
    values = [
        relax(
            quadratic(hessian, centre), centre + 0.5, WIDE, 0.6 * hessian, budget,
            np.random.default_rng(0),
        ).value
        for budget in (1, 2, 4, 8, 16)
    ]
    assert values == sorted(values, reverse=True)
    assert values[-1] < 1.0 < 1e-2 * values[0]


def test_learned_curvature_is_that_along_the_last_step_and_stays_positive():
    hessian, centre = positive(4, scale=1e3), np.array([0.3, -0.2, 0.1])
    for share in (0.2, 0.6, 3.0):
        objective = quadratic(hessian, centre)
        found = relax(objective, centre + 0.5, WIDE, share * hessian, 6, np.random.default_rng(0))
        with_gradient = [x for x, probes in zip(objective.points, objective.probes, strict=True)
                         if probes is not None]
        assert len(with_gradient) > 2
        # the point before may have been rejected, the best one then is where the step began
        before = min(with_gradient[:-1], key=objective.function)
        step = with_gradient[-1] - before
        np.testing.assert_allclose(found.curvature @ step, hessian @ step, rtol=1e-6)
        np.testing.assert_allclose(found.curvature, found.curvature.T)
        assert np.linalg.eigvalsh(found.curvature)[0] > 0


@given(seed=st.integers(0, 100), start=st.lists(st.floats(-2, 2), min_size=3, max_size=3))
@settings(max_examples=50, deadline=None)
def test_learned_curvature_stays_positive_where_the_true_one_is_not(seed, start):
    found = relax(
        made_up(seed), np.array(start), WIDE, positive(seed, scale=10.0), 8,
        np.random.default_rng(0),
    )
    assert np.linalg.eigvalsh(found.curvature)[0] > 0


def made_up(seed):
    """Wavy and infinite in places: no step is what its slope promises."""
    wave = np.random.default_rng(seed).normal(size=(3, 3))

    def function(x):
        return np.inf if np.sum(wave[0] * x) > 3 else 50 * np.sin(wave @ x).sum() + x @ x

    return Function(function, lambda x: 50 * wave.T @ np.cos(wave @ x) + 2 * x)


@given(
    seed=st.integers(0, 100), budget=st.integers(1, 12), scale=st.floats(1e-3, 1e3),
    start=st.lists(st.floats(-5, 5), min_size=3, max_size=3),
)
@settings(max_examples=150, deadline=None)
def test_outcome_is_the_best_point_in_the_box(seed, budget, scale, start):
    objective, box = made_up(seed), np.array([[-3.0, -1.0, 0.5], [3.0, 4.0, 0.5]])
    reports = []
    found = relax(
        objective, np.array(start), box, positive(seed, scale=scale), budget,
        np.random.default_rng(seed), lambda *report: reports.append(report),
    )
    points = np.array(objective.points)
    assert (points >= box[0]).all() and (points <= box[1]).all()
    values = [objective.function(x) for x in points]
    assert found.evaluations == len(points) <= budget
    assert found.value == min(values) <= objective.function(np.clip(start, *box))
    assert objective.function(found.log_theta) == found.value
    assert found.history == reports
    assert reports == [(i + 1, min(values[: i + 1])) for i in range(len(values))]


@pytest.mark.parametrize("made", [ConcentratedLikelihood, MarginalLikelihood])
@given(start=st.lists(st.floats(-6, 1), min_size=4, max_size=4), budget=st.integers(1, 8))
@settings(max_examples=30, deadline=None)
def test_likelihood_is_never_worse_than_at_the_start(made, start, budget):
    likelihood, start = made(X, Y, 1e-4, "rbf"), np.array(start)
    box = np.array([np.full(4, -7.0), np.full(4, 0.5)])
    found = relax(
        likelihood, start, box, likelihood.information(start), budget, np.random.default_rng(0)
    )
    assert found.value <= likelihood.value(np.clip(start, *box))
    assert found.value == likelihood.value(found.log_theta)
    assert found.evaluations <= budget
    assert (found.log_theta >= box[0]).all() and (found.log_theta <= box[1]).all()


@pytest.mark.parametrize("made", [ConcentratedLikelihood, MarginalLikelihood])
def test_a_displaced_optimum_is_found_again_in_few_evaluations(made):
    likelihood, box = made(X, Y, 1e-4, "rbf"), np.array([np.full(4, -9.0), np.full(4, 3.0)])
    best = LBFGS(tolerance=1e-9).minimise(
        likelihood, np.full((1, 4), -1.5), box, np.random.default_rng(0)
    )
    inside = (best.log_theta > box[0]) & (best.log_theta < box[1])
    start = best.log_theta + np.where(inside, [0.7, -0.6, 0.6, -0.7], 0.0)
    loss = likelihood.value(start) - best.value
    assert loss > 10
    found = relax(
        likelihood, start, box, likelihood.information(start), 6, np.random.default_rng(1)
    )
    assert found.value - best.value < 0.1 * loss


def test_it_ends_at_an_optimum():
    hessian, centre = positive(0), np.ones(3)
    found = relax(quadratic(hessian, centre), centre, WIDE, hessian, 50, np.random.default_rng(0))
    assert found.evaluations == 1
    # in a corner of the box to which all slopes point
    box = np.array([np.full(3, 2.0), np.full(3, 5.0)])
    objective = quadratic(1e5 * np.eye(3), centre)
    found = relax(objective, np.full(3, 2.0), box, 1e5 * np.eye(3), 50, np.random.default_rng(0))
    assert found.evaluations == 1 and (found.log_theta == 2.0).all()
    # and soon after it came to one
    away = quadratic(hessian, centre)
    found = relax(away, centre + 0.5, WIDE, hessian, 50, np.random.default_rng(0))
    assert found.evaluations < 10


def test_a_start_without_a_value_is_given_back():
    objective = Function(lambda x: np.inf, np.zeros_like)
    start = np.array([1.0, 2.0, 3.0])
    found = relax(objective, start, WIDE, np.eye(3), 9, np.random.default_rng(0))
    assert found.value == np.inf and found.evaluations == 1
    np.testing.assert_array_equal(found.log_theta, start)


def test_last_evaluation_needs_no_gradient_and_probes_are_signs():
    objective = made_up(1)
    found = relax(objective, np.zeros(3), WIDE, 0.1 * np.eye(3), 4, np.random.default_rng(0))
    assert found.evaluations == 4
    *gradients, last = objective.probes
    assert last is None
    for probes in gradients:
        assert probes is gradients[0]  # differences of gradients that share probes have less noise
        assert probes.shape == (7, PROBES) and (np.abs(probes) == 1).all()


def test_same_generator_same_outcome():
    likelihood, start = ConcentratedLikelihood(X, Y, 1e-4, "rbf"), np.full(4, -3.0)
    box, curvature = np.array([np.full(4, -9.0), np.full(4, 3.0)]), likelihood.information(start)
    first, again, other = (
        relax(likelihood, start, box, curvature, 6, np.random.default_rng(seed))
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first.log_theta, again.log_theta)
    assert first.value == again.value and first.history == again.history
    assert (first.log_theta != other.log_theta).any()


def test_a_source_that_knows_no_curvature_of_a_feature():
    """Its information is zero where all its points are uncorrelated."""
    hessian, centre = np.diag([1e3, 1e3, 1e3]), np.array([0.3, -0.2, 0.1])
    for known in ([0.0, 0.0, 0.0], [1e3, 1e3, 0.0]):
        objective = quadratic(hessian, centre)
        start = centre + [0.0, 0.0, 1.0]
        found = relax(objective, start, WIDE, np.diag(known), 12, np.random.default_rng(0))
        assert np.isfinite(objective.points).all()
        assert found.value < 1.0


def test_without_a_generator_gradients_are_exact():
    """No probes: the objective needs no features, and steps are those of the exact gradient."""
    hessian, centre = positive(0), np.ones(3)
    objective = Exact(lambda x: 0.5 * (x - centre) @ hessian @ (x - centre),
                      lambda x: hessian @ (x - centre))
    found = relax(objective, centre + [0.5, -0.3, 0.4], WIDE, hessian, 3)
    assert np.linalg.norm(found.log_theta - centre) < 1e-4
    likelihood, start = ConcentratedLikelihood(X, Y, 1e-4, "rbf"), np.full(4, -3.0)
    box, curvature = np.array([np.full(4, -9.0), np.full(4, 3.0)]), likelihood.information(start)
    first, again = (relax(likelihood, start, box, curvature, 6) for _ in range(2))
    np.testing.assert_array_equal(first.log_theta, again.log_theta)
    assert first.value < likelihood.value(start)


class Exact:
    """An objective that takes a point and nothing else."""

    def __init__(self, value, gradient):
        self.value, self.gradient = value, gradient

    def value_and_gradient(self, x):
        return self.value(x), self.gradient(x)
