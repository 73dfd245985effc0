import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from ase_fflux.base.errors import TrainingError
from ase_fflux.learn.joint.cost import choose_gradients, solution_cost
from ase_fflux.learn.joint.likelihood import JointLikelihood
from ase_fflux.learn.joint.system import JointSystem
from ase_fflux.learn.joint.training import solve
from ase_fflux.model.kernels import FORMS, USUAL


@pytest.fixture(scope="module")
def case(make_case):
    return make_case("fluoromethane", 50)


@pytest.fixture(scope="module")
def data(case):
    return case.data


@pytest.fixture(scope="module")
def h(data, made_up_hyperparameters):
    return made_up_hyperparameters(data)


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("gradients", [0, 20, 80])
def test_memory_is_that_of_the_arrays(make_case, made_up_hyperparameters, symmetric, gradients):
    data = make_case("fluoromethane", 80, symmetric).data
    data = data.select_gradients(np.arange(gradients))
    h = made_up_hyperparameters(data)
    JointSystem(data.select(np.arange(3)), h)  # compiled code takes memory of its own
    tracemalloc.start()
    try:
        JointSystem(data, h)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    used = peak + sum(p.slopes.nbytes for p in data.points)  # these were there before
    assert used / 2 < solution_cost(data).memory < 2 * used


def test_cost_grows_with_gradients_and_threads_share_it(data):
    costs = [solution_cost(data, n) for n in (0, 10, 20, 50)]
    assert sorted(c.memory for c in costs) == [c.memory for c in costs]
    assert sorted(c.operations for c in costs) == [c.operations for c in costs]
    assert solution_cost(data) == costs[-1]
    assert costs[-1].seconds(2) == costs[-1].seconds(1) / 2 > 0
    assert str(replace(costs[0], memory=2.5e9)) == "2.5 GB"


def test_what_may_stand_beside_the_atoms_counts(make_case):
    """Before it is chosen as after, and not where there is nothing."""
    options = dict(with_energies=[], with_total=np.arange(6))
    plain = make_case("fluoromethane", 6, **options).data
    chosen = make_case("fluoromethane", 6, form=FORMS["rq-terms"], **options).data
    cost = solution_cost(chosen)
    assert solution_cost(chosen.in_form(USUAL)) == cost
    assert cost.memory > solution_cost(plain).memory
    assert cost.operations > solution_cost(plain).operations


def test_all_gradients_where_memory_holds_them(data, h):
    assert choose_gradients(data, h, solution_cost(data).memory) is data
    assert choose_gradients(data, h, np.inf) is data
    none = data.select_gradients(np.array([], dtype=int))
    assert choose_gradients(none, h, solution_cost(none).memory) is none


def test_as_many_gradients_as_memory_holds(data, h):
    low, high = solution_cost(data, 0).memory, solution_cost(data).memory
    previous = set()
    for share in (0.0, 0.1, 0.3, 0.6, 0.9):
        limit = low + share * (high - low)
        some = choose_gradients(data, h, limit)
        chosen = some.with_gradient
        assert len(some) == len(data) and (np.diff(chosen) > 0).all()
        assert solution_cost(some).memory <= limit
        assert solution_cost(data, len(chosen) + 2).memory > limit
        # those chosen first are chosen whatever comes after them
        assert previous <= set(chosen.tolist())
        previous = set(chosen.tolist())
    assert 0 < len(previous) < len(data)


def test_candidates_are_labels_with_gradients(data, h):
    half = data.select_gradients(np.arange(1, 50, 2))
    limit = solution_cost(half, 12).memory
    chosen = choose_gradients(half, h, limit).with_gradient
    assert len(chosen) == 12 and set(chosen) <= set(half.with_gradient)


def test_copies_of_a_label_are_not_chosen_before_other_labels(data, h):
    copies = data.select(np.array([0] * 30 + list(range(1, 11))))
    chosen = choose_gradients(copies, h, solution_cost(copies, 11).memory).with_gradient
    assert len(chosen) == 11 and (chosen >= 30).sum() == 10


def test_energies_that_do_not_fit_are_refused(data, h):
    limit = 0.99 * solution_cost(data, 0).memory
    words = "50 labels need .* GB without any gradient, more than the .* use fewer labels"
    with pytest.raises(TrainingError, match=words):
        choose_gradients(data, h, limit)
    with pytest.raises(TrainingError, match=words):
        solve(data, h, 1, limit)


def test_solution_with_some_gradients_is_between_none_and_all(case, h, make_labels):
    """Dual weights of the others are zero, and the likelihood is that of what is used."""
    data = case.data
    limit = solution_cost(data, 15).memory
    result = solve(data, h, 1, limit)
    chosen = choose_gradients(data, h, limit)
    assert result.n_gradients == len(chosen.with_gradient) == 15
    used = np.flatnonzero(result.gradient_weights.any(axis=(1, 2)))
    np.testing.assert_array_equal(used, chosen.with_gradient)
    likelihood = JointLikelihood(chosen)
    value = likelihood.value(likelihood.pack(h))
    assert result.negative_log_likelihood == pytest.approx(value, rel=1e-9)
