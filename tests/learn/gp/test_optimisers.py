from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ase_fflux.base.errors import TrainingError
from ase_fflux.formats.training_set import read_training_set
from ase_fflux.learn.gp.likelihood import ConcentratedLikelihood
from ase_fflux.learn.gp.optimisers import LBFGS, GreyWolf, ParticleSwarm

# budgets that reach the optima below
ALL = [
    LBFGS(),
    GreyWolf(points=30, budget=6000, patience=100),
    ParticleSwarm(points=30, budget=6000),
]
SWARMS = ALL[1:]
BOX = (-4.0, 3.0)
NOTHING = np.empty((0, 3))
every = pytest.mark.parametrize("optimiser", ALL, ids=lambda o: type(o).__name__)
swarms = pytest.mark.parametrize("optimiser", SWARMS, ids=lambda o: type(o).__name__)


class Function:
    """An objective from a function; keeps every point it was asked for."""

    def __init__(self, function, gradient=None):
        self.function, self.gradient, self.points = function, gradient, []

    def value(self, x):
        self.points.append(x.copy())
        return self.function(x)

    def value_and_gradient(self, x):
        return self.value(x), self.gradient(x)


def quadratic(centre=(1.0, -2.0, 0.5), curvature=(1.0, 10.0, 0.1), floor=1.0):
    centre, curvature = np.array(centre), np.array(curvature)
    return Function(
        lambda x: floor + 0.5 * curvature @ (x - centre) ** 2, lambda x: curvature * (x - centre)
    )


def rosenbrock():
    return Function(
        lambda x: 1.0 + (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2,
        lambda x: np.array([
            -2 * (1 - x[0]) - 400 * x[0] * (x[1] - x[0] ** 2), 200 * (x[1] - x[0] ** 2)
        ]),
    )


def walled(limit):
    """The quadratic, infinite (and without gradient) where x_0 exceeds the limit."""
    plain = quadratic()
    return Function(
        lambda x: np.inf if x[0] > limit else plain.function(x),
        lambda x: np.full(3, np.nan) if x[0] > limit else plain.gradient(x),
    )


def run(optimiser, objective, starts, box=BOX, seed=0, **options):
    return optimiser.minimise(
        objective, np.asarray(starts, float), box, np.random.default_rng(seed), **options
    )


@every
def test_finds_the_minimum_of_a_quadratic(optimiser):
    outcome = run(optimiser, quadratic(), NOTHING)
    assert outcome.log_theta == pytest.approx([1.0, -2.0, 0.5], abs=0.02)
    assert outcome.value == pytest.approx(1.0, abs=1e-4)


@every
def test_finds_the_minimum_on_the_wall(optimiser):
    """Outside the box along two axes: the constrained minimum is a projection."""
    outcome = run(optimiser, quadratic(centre=(5.0, -9.0, 0.5)), NOTHING)
    assert outcome.log_theta == pytest.approx([3.0, -4.0, 0.5], abs=0.02)


@every
def test_follows_the_valley_of_rosenbrock(optimiser):
    outcome = run(optimiser, rosenbrock(), [[-1.2, 1.0]])
    # grey wolves move axis by axis and stop short in a curved valley
    tolerance = 0.05 if isinstance(optimiser, GreyWolf) else 1e-4
    assert outcome.value == pytest.approx(1.0, abs=tolerance)


def test_ends_of_the_box_may_differ_by_feature_and_meet():
    low, high = np.array([-4.0, -1.0, 0.2]), np.array([0.0, 3.0, 0.2])
    for optimiser in ALL:
        outcome = run(optimiser, quadratic(), NOTHING, (low, high))
        assert outcome.log_theta == pytest.approx([0.0, -1.0, 0.2], abs=0.01)


@settings(max_examples=40, deadline=None)
@given(
    which=st.integers(0, 2), seed=st.integers(0, 99), budget=st.integers(4, 60),
    low=st.floats(-9, 0), width=st.floats(0, 5), n_starts=st.integers(0, 4),
    spread=st.none() | st.floats(0.01, 9),
)
def test_stays_in_the_box_and_the_budget_and_never_worsens(
    which, seed, budget, low, width, n_starts, spread
):
    box = (low, low + width)
    starts = np.random.default_rng(seed).uniform(-12, 12, (n_starts, 3))
    optimiser = replace(ALL[which], budget=budget)
    objective = walled(limit=low + 0.5 * width)
    if n_starts:
        starts[0] = low
    try:
        outcome = run(optimiser, objective, starts, box, seed, spread=spread if n_starts else None)
    except TrainingError:
        assert n_starts == 0  # the first start is in the finite half
        return
    points = np.array(objective.points)
    assert points.min() >= box[0] and points.max() <= box[1]
    assert len(points) == outcome.evaluations <= budget
    values = [objective.function(x) for x in points]
    assert outcome.value == min(values) == objective.function(outcome.log_theta)
    for start in np.clip(starts, *box):
        assert outcome.value <= objective.function(start)
    evaluations, best = zip(*outcome.history, strict=True)
    assert evaluations[-1] == outcome.evaluations and list(evaluations) == sorted(set(evaluations))
    assert list(best) == [min(values[:e]) for e in evaluations]


@pytest.mark.parametrize("budget", [1, 7, 30, 31, 95])
@every
def test_spends_the_budget_exactly(optimiser, budget):
    """A search that neither stalls nor converges ends at the budget, also within a move."""
    optimiser = replace(optimiser, budget=budget, tolerance=0.0, patience=budget)
    if isinstance(optimiser, LBFGS):
        optimiser = replace(optimiser, points=budget)
    objective = rosenbrock()
    assert run(optimiser, objective, np.zeros((0, 2))).evaluations == budget
    assert len(objective.points) == budget


@every
def test_repeats_with_the_seed_only(optimiser):
    optimiser = replace(optimiser, budget=100)
    one, two, other = (run(optimiser, rosenbrock(), np.zeros((0, 2)), seed=s) for s in (3, 3, 4))
    assert np.array_equal(one.log_theta, two.log_theta) and one.history == two.history
    assert not np.array_equal(one.log_theta, other.log_theta)


@swarms
def test_starts_come_first_and_the_rest_are_random(optimiser):
    starts = np.random.default_rng(1).uniform(-1, 1, (2, 3))
    optimiser = replace(optimiser, points=400, budget=400)
    objective = quadratic()
    run(optimiser, objective, starts)
    points = np.array(objective.points)
    assert np.array_equal(points[:2], starts)
    # 398 uniform points in the box: mean -0.5, standard deviation 7 / sqrt(12), 4 sigma
    assert np.abs(points[2:].mean(axis=0) + 0.5).max() < 4 * 2.02 / np.sqrt(398)
    assert points[2:].std(axis=0) == pytest.approx(np.full(3, 2.02), rel=0.1)
    objective = quadratic()
    run(optimiser, objective, starts, spread=0.1)
    points = np.array(objective.points)
    for i in (0, 1):
        around = points[2 + i :: 2] - starts[i]
        assert np.abs(around.mean(axis=0)).max() < 4 * 0.1 / np.sqrt(199)
        assert around.std(axis=0) == pytest.approx(np.full(3, 0.1), rel=0.2)


@swarms
def test_all_given_starts_have_a_place(optimiser):
    starts = np.random.default_rng(1).uniform(-1, 1, (9, 3))
    objective = quadratic()
    run(replace(optimiser, points=4, budget=9), objective, starts)
    assert np.array_equal(objective.points, starts)


def test_every_start_of_lbfgs_is_searched():
    """Two wells; the second start is in the deeper one."""
    wells = Function(
        lambda x: 3 + float((x**2 - 1) @ (x**2 - 1) + 0.3 * x.sum()),
        lambda x: 4 * x * (x**2 - 1) + 0.3,
    )
    assert run(LBFGS(), wells, [[0.8]]).log_theta[0] > 0
    assert run(LBFGS(), wells, [[0.8], [-0.8]]).log_theta[0] < 0
    assert run(LBFGS(points=8), wells, [[0.8]]).log_theta[0] < 0


@every
def test_optimum_next_to_an_infinite_region(optimiser):
    """The minimum at x_0 = 1 is 0.01 from where values are infinite."""
    outcome = run(optimiser, walled(1.01), [[-3.0, 2.0, 2.0]])
    assert outcome.value == pytest.approx(1.0, abs=1e-3)


@every
def test_an_infinite_start_does_not_stop_the_others(optimiser):
    starts = [[2.0, 0.0, 0.0], [-3.0, 0.0, 0.0]]
    assert run(optimiser, walled(1.5), starts).value == pytest.approx(1.0, abs=1e-3)


def test_every_start_has_a_share_of_the_budget():
    objective = quadratic()
    starts = [[-3.0, 2.0, 2.0], [1.0, -2.0, 0.5], [0.0, 0.0, 0.0]]
    assert run(LBFGS(budget=7), objective, starts).value == 1.0
    assert all(any(np.array_equal(x, start) for x in objective.points) for start in starts)


def test_wolves_without_a_value_do_not_lead():
    """When a is almost 0, the second move lands on the only finite wolf."""
    only = np.array([-3.5, 2.0, 0.5])
    objective = Function(lambda x: 1.0 if np.abs(x - only).max() < 1e-12 else np.inf)
    run(GreyWolf(points=3000, budget=3030), objective, [only])
    assert np.abs(objective.points[3000:] - only).max() < 0.3


def test_wolves_favour_no_end_of_the_box():
    """The mirror image of a problem is as hard: medians of nine runs within a factor of four."""
    offset = np.random.default_rng(1).uniform(-1, 1, 8)
    wolves = GreyWolf(points=30, budget=3000, patience=100)
    low, high = (
        np.median([
            run(wolves, quadratic(side * (4 + offset), np.ones(8)), np.empty((0, 8)), (-6, 6), s)
            .value - 1 for s in range(9)
        ]) for side in (-1, 1)
    )
    assert 0.25 < low / high < 4


@swarms
def test_copes_with_fewer_than_three_finite_members(optimiser):
    """One finite point of thirty, at the far end of the box."""
    centre = np.full(3, -3.9)
    needle = Function(lambda x: np.inf if np.abs(x - centre).max() > 0.5 else 1 + np.ptp(x))
    outcome = run(optimiser, needle, [[-3.9, -3.8, -3.7]])
    assert np.isfinite(outcome.value) and outcome.value < 1.05


@every
def test_nothing_finite_is_an_error(optimiser):
    with pytest.raises(TrainingError, match="no finite objective"):
        run(optimiser, walled(-np.inf), [[0.0, 0.0, 0.0]])


@every
def test_bad_input_is_an_error(optimiser):
    with pytest.raises(TrainingError, match="shape"):
        run(optimiser, quadratic(), [0.0, 0.0, 0.0])
    with pytest.raises(TrainingError, match="finite"):
        run(optimiser, quadratic(), [[0.0, np.nan, 0.0]])
    with pytest.raises(TrainingError, match="bounds"):
        run(optimiser, quadratic(), NOTHING, (1.0, -1.0))
    with pytest.raises(TrainingError, match="budget"):
        run(replace(optimiser, budget=2), quadratic(), np.zeros((3, 3)))
    for starts, spread in ((NOTHING, 0.5), (np.zeros((1, 3)), 0.0)):
        with pytest.raises(TrainingError, match="spread"):
            run(optimiser, quadratic(), starts, spread=spread)
    for bad in (np.nan, -np.inf):
        with pytest.raises(TrainingError, match="log theta"):
            run(optimiser, Function(lambda x, bad=bad: bad, np.zeros_like), np.zeros((1, 3)))


@pytest.mark.parametrize("reason", [KeyboardInterrupt, StopIteration, RuntimeError])
@every
def test_what_the_callback_raises_reaches_the_caller(optimiser, reason):
    steps = []

    def on_step(evaluations, value):
        steps.append((evaluations, value))
        if evaluations == 5:
            raise reason

    objective = rosenbrock()
    with pytest.raises(reason):
        run(optimiser, objective, [[-1.2, 1.0]], on_step=on_step)
    values = [objective.function(x) for x in objective.points]
    assert steps == [(n, min(values[:n])) for n in range(1, 6)]


@every
def test_ends_when_nothing_improves(optimiser):
    flat = Function(lambda x: 7.0, np.zeros_like)
    optimiser = replace(optimiser, patience=4)
    population = 0 if isinstance(optimiser, LBFGS) else optimiser.points
    assert run(optimiser, flat, np.zeros((1, 3))).evaluations == max(5 * population, 1)


@pytest.mark.parametrize("stiffness", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("first_step", [0.1, 1.0])
def test_first_step_is_bounded(stiffness, first_step):
    """Whatever the gradient, and although the wall blocks a component that is a million larger."""
    objective = quadratic(curvature=stiffness * np.array([1.0, 0.5, 1e6]), centre=(2, 2, -9))
    run(LBFGS(first_step=first_step, budget=2), objective, [[-3.0, -2.0, -4.0]])
    step = objective.points[1] - objective.points[0]
    assert step == pytest.approx(first_step * np.array([1.0, 0.4, 0.0]))


@pytest.mark.parametrize(
    "optimiser", [replace(o, budget=600, points=20) for o in SWARMS],
    ids=lambda o: type(o).__name__,
)
def test_relaxation_keeps_to_the_neighbourhood_of_the_guess(optimiser):
    """From a guess 0.5 off the optimum in 12 dimensions, a spread beats a search of the box."""
    rng = np.random.default_rng(5)
    curvature, centre = 10.0 ** rng.uniform(-1, 1, 12), rng.uniform(-2, 1, 12)
    guess = [centre + 0.5 * rng.choice([-1, 1], 12)]
    objective = quadratic(centre, curvature)
    loss = [
        np.median([run(optimiser, objective, guess, (-14, 1), s, spread=spread).value - 1
                   for s in range(5)])
        for spread in (0.5, None)
    ]
    assert loss[0] < loss[1]
    assert loss[0] < 0.1 * (objective.function(guess[0]) - 1)


def likelihood(reference=None):
    if reference is None:
        x = np.random.default_rng(2).uniform(-1, 1, (60, 3))
        y = np.sin(2 * x[:, 0]) + x[:, 1] ** 2 + 0.3 * x[:, 0] * x[:, 2]
    else:
        points = read_training_set(reference / "ferebus/water/WATER_O1_TRAINING_SET.csv")
        x, y = points.features, points.targets["iqa"]
    return ConcentratedLikelihood(x, y[None], 1e-6)


def agree(objective):
    """The three minima of -ln L lie within 0.01, a likelihood ratio of one per cent."""
    box = np.log([1e-6, 3.0])
    values = [run(replace(o, budget=2000), objective, NOTHING, box).value for o in ALL[1:]]
    values.append(run(LBFGS(points=5), objective, NOTHING, box).value)
    assert np.ptp(values) < 0.01


def test_agree_on_a_likelihood():
    agree(likelihood())


def test_agree_on_published_water(reference):
    agree(likelihood(reference))
