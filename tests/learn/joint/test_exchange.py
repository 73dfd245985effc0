from itertools import combinations

import numpy as np
import pytest

from ase_fflux.base.errors import TrainingError
from ase_fflux.learn.joint.conditioned import Conditioned, label_covariance
from ase_fflux.learn.joint.criteria import next_scores, remaining
from ase_fflux.learn.joint.design import design
from ase_fflux.learn.joint.exchange import exchange

SHAPE = np.array([[0.0, 0.0, 0.0], [0.0, 1.43, 1.11], [0.0, -1.43, 1.11]])
N, POOL = 16, np.arange(9)
APART, OVERLAPPING = np.array([9, 10, 11, 12, 13, 14, 15]), np.array([3, 9, 1, 10, 12, 7])


@pytest.fixture(scope="module")
def case(made_up_pool):
    return made_up_pool(("O", "H", "H"), SHAPE, N, 3, 0.12, (0.3, 2.0), 3e-3, 1e-3)


def state_of(case, chosen, target=APART, parts=None):
    data, h = case
    weights = np.linspace(1.0, 2.0, len(target))
    parts = np.zeros(len(target), dtype=int) if parts is None else parts
    state = Conditioned(data.in_form(h.form), h, POOL, target, weights, parts, 5)
    for place in chosen:
        state.choose(place)
    return state


def test_what_is_dropped_was_never_chosen(case):
    # geometries of the target are among them, whose columns come and go
    for target in (APART, OVERLAPPING):
        for dropped in (7, 1, 4):
            state = state_of(case, [7, 2, 1, 4], target)
            state.drop(dropped)
            wanted = state_of(case, [p for p in (7, 2, 1, 4) if p != dropped], target)
            assert state.chosen == wanted.chosen
            for name in ("own", "cross", "force", "energy", "known", "free"):
                assert getattr(state, name) == pytest.approx(getattr(wanted, name), abs=1e-10), name
            assert state.root @ state.root.T == pytest.approx(wanted.root @ wanted.root.T)
            # and it can go on
            state.choose(5)
            wanted.choose(5)
            assert state.cross == pytest.approx(wanted.cross, abs=1e-10)
            assert state.errors() == pytest.approx(wanted.errors())


def test_a_geometry_of_the_target_is_told_by_the_labels_of_the_others(case):
    state = state_of(case, [7, 2, 1], OVERLAPPING)
    force, energy = state.without_own()
    for chosen, place in ((7, 5), (1, 2)):
        others = state_of(case, [p for p in (7, 2, 1) if p != chosen], OVERLAPPING)
        assert force[place] == pytest.approx(others.force[place], rel=1e-6)
        assert energy[place] == pytest.approx(others.energy[place], rel=1e-6)
    assert force[[0, 1, 3]] == pytest.approx(state.force[[0, 1, 3]])


def test_remaining_of_d_is_the_determinant(case):
    data, h = case
    labels = np.array([7, 2, 1])
    d, n = data.directions.shape[2], len(labels)
    prior = label_covariance(data, h, labels, labels)
    columns = [[i, *range(n + i * d, n + (i + 1) * d)] for i in range(n)]
    state = state_of(case, labels)
    whole = np.vstack([np.hstack([prior[i][:, c] for c in columns]) for i in range(n)])
    whole[np.ix_(range(0, n * (1 + d), 1 + d), range(0, n * (1 + d), 1 + d))] += state.vague
    whole += np.diag(np.tile(state.noise, n))
    assert remaining("D", state) == pytest.approx(-0.5 * np.linalg.slogdet(whole)[1])


@pytest.mark.parametrize("criterion", ["V", "D"])
def test_the_best_of_all_choices_is_found_and_never_a_worse_one(case, criterion):
    found = {
        some: remaining(criterion, state_of(case, some)) for some in combinations(range(9), 3)
    }
    best, worst = min(found, key=found.get), max(found, key=found.get)
    for start in (worst, (0, 1, 2), (6, 7, 8)):
        state, before = state_of(case, start), found[start]
        result = exchange(state, criterion)
        after = remaining(criterion, state)
        assert result.gain == pytest.approx(before - after, abs=1e-8)
        assert after == pytest.approx(found[tuple(sorted(state.chosen))], abs=1e-8)
        assert tuple(sorted(state.chosen)) == best
        again = exchange(state, criterion)
        assert (again.swaps, again.passes, again.gain) == (0, 1, 0.0)


@pytest.mark.parametrize("criterion", ["V", "D"])
def test_every_exchange_of_a_target_in_the_pool_makes_it_better(case, criterion):
    parts = np.array([0, 0, 0, 1, 1, 1])
    for start in ((0, 1, 2, 3), (5, 6, 7, 8), (7, 1, 3, 5)):
        state = state_of(case, start, OVERLAPPING, parts)
        before = remaining(criterion, state)
        tried = []
        result = exchange(state, criterion, tried.append)
        after = remaining(criterion, state)
        assert after <= before and result.gain == pytest.approx(before - after, abs=1e-8)
        assert len(tried) == 4 * result.passes
        # no single exchange is left that the scores would take
        for place in state.chosen:
            rest = [p for p in state.chosen if p != place]
            other = state_of(case, rest, OVERLAPPING, parts)
            scores = np.where(other.free, next_scores(criterion, other, 0)(), -np.inf)
            other.choose(int(np.argmax(scores)))
            assert remaining(criterion, other) >= after - 1e-5


def test_an_exchanged_design_is_in_order_and_expects_no_more(case):
    data, h = case
    weights = np.ones(len(APART))
    plain = design(data, h, POOL, APART, weights, 4)
    tried = []
    found = design(data, h, POOL, APART, weights, 4, exchanging=True, on_trial=tried.append)
    assert plain.exchanged is None and found.exchanged.gain >= 0 and tried
    assert len(set(found.chosen)) == 4
    gain = 0.5 * np.log(plain.force[-1] * plain.energy[-1] / found.force[-1] / found.energy[-1])
    assert found.exchanged.gain == pytest.approx(gain, abs=1e-6)
    again = design(data, h, POOL[found.chosen], APART, weights, 4)
    assert again.chosen.tolist() == [0, 1, 2, 3]
    with pytest.raises(TrainingError, match="exchanged by V or D, not by G"):
        design(data, h, POOL, APART, weights, 4, "G", exchanging=True)
