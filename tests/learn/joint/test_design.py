from dataclasses import replace

import numpy as np
import pytest

from ase_fflux.base.errors import TrainingError
from ase_fflux.learn.joint.conditioned import label_covariance
from ase_fflux.learn.joint.criteria import CRITERIA
from ase_fflux.learn.joint.design import design
from ase_fflux.learn.joint.system import JointFactor, constants

SHAPE = np.array([
    [0.0, 0.0, 0.0], [0.0, 0.0, 2.6],
    [1.94, 0.0, -0.67], [-0.97, 1.68, -0.67], [-0.97, -1.68, -0.67],
])
N, POOL, TARGET = 14, np.arange(12), np.array([13, 2, 12, 5])
WEIGHTS = np.array([1.0, 2.0, 3.0, 1.0])


@pytest.fixture(scope="module")
def case(made_up_pool):
    return made_up_pool(tuple("CFHHH"), SHAPE, N, 1, 0.15, (0.05, 0.3), 3e-2, 1e-2)


def errors_given(data, h, labels, target, weights):
    """Force and energy error at the target by the factor of all observations, mean included."""
    d, n = data.directions.shape[2], len(target)
    factor = JointFactor(data.select(labels), h)
    prior = label_covariance(data, h, target, target)
    cross = label_covariance(data, h, labels, target)
    cross = np.vstack([cross[:, 0], cross[:, 1:].reshape(len(labels) * d, -1)])
    tops, half = factor.half_solved([np.zeros((0, cross.shape[1]))] * len(data.points), cross)
    _, bottom, _ = constants(data.select(labels))
    _, ones = factor.half_solved([np.zeros((0, 1))] * len(data.points), bottom)
    per_atom = np.concatenate([np.ones(n), np.zeros(n * d)]) * data.n_atoms
    rest = per_atom - ones[:, 0] @ half
    own = np.concatenate([
        np.concatenate([prior[i, :1, i], *[prior[i, 1:, n + i * d:n + (i + 1) * d].diagonal()[None]]
                        ], axis=None) for i in range(n)
    ]).reshape(n, 1 + d)
    at = np.concatenate([own[:, 0], own[:, 1:].ravel()])
    variance = at - (half**2).sum(axis=0) + rest**2 / (ones[:, 0] @ ones[:, 0])
    force = variance[n:].reshape(n, d).sum(axis=1) / data.directions.shape[1]
    left = weights / weights.sum()
    return np.sqrt(left @ force), np.sqrt(left @ variance[:n])


def test_expected_errors_are_those_of_the_process_given_what_is_chosen(case):
    data, h = case
    found = design(data, h, POOL, TARGET, WEIGHTS, 5, "D")
    for n in (3, 5):
        labels = POOL[found.chosen[:n]]
        apart = ~np.isin(TARGET, labels)
        force, energy = errors_given(data, h, np.sort(labels), TARGET[apart], WEIGHTS[apart])
        assert found.force[n] == pytest.approx(force, rel=2e-3)
        # the constant mean has a finite prior variance here
        assert found.energy[n] == pytest.approx(energy, rel=2e-2)


def test_covariance_of_labels_is_that_of_the_factor(case):
    data, h = case
    labels, d = np.array([3, 7]), data.directions.shape[2]
    noiseless = replace(h, gradient_noise=np.array([0.0]), total_noise=np.array([1e-9]))
    factor = JointFactor(data.select(labels), noiseless).schur.full()
    whole = np.tril(factor) @ np.tril(factor).T
    found = label_covariance(data, h, labels, labels)
    order = [0, 1, *range(2, 2 + 2 * d)]
    mine = np.vstack([found[:, 0], found[:, 1:].reshape(2 * d, -1)])[order]
    assert mine == pytest.approx(whole, rel=1e-8, abs=1e-8)


def test_each_choice_by_v_leaves_the_least_error(case):
    data, h = case
    found = design(data, h, POOL, TARGET, WEIGHTS, 3, "V")
    chosen = list(POOL[found.chosen[:2]])
    before = errors_given(data, h, np.sort(chosen), TARGET, WEIGHTS)
    apart = ~np.isin(TARGET, chosen)

    def worth(place):
        # a geometry of the target learns nothing about itself
        others = apart & (place != TARGET)
        now = errors_given(data, h, np.sort([*chosen, place]), TARGET[others], WEIGHTS[others])
        was = errors_given(data, h, np.sort(chosen), TARGET[others], WEIGHTS[others])
        left = errors_given(data, h, np.sort(chosen), TARGET[apart], WEIGHTS[apart])
        share = WEIGHTS[others].sum() / WEIGHTS[apart].sum()
        return sum(
            share * (w**2 - e**2) / all_**2 for w, e, all_ in zip(was, now, left, strict=True)
        )

    free = [p for p in POOL if p not in chosen]
    assert POOL[found.chosen[2]] == free[int(np.argmax([worth(p) for p in free]))]
    assert before[0] > 0


def test_parts_of_a_target_count_alike(case):
    data, h = case
    parts = np.array([0, 0, 1, 1])
    both = design(data, h, POOL, TARGET, WEIGHTS, 1, parts=parts).chosen[0]

    def worth(place, some):
        label, where = POOL[[place]], TARGET[some]
        d, n = data.directions.shape[2], len(where)
        # the constant mean of the energy is not known before the first label
        vague = 10.0 * max(label_covariance(data, h, TARGET[[i]], TARGET[[i]])[0, 0, 0]
                           for i in range(len(TARGET)))
        own = label_covariance(data, h, label, label)[0]
        own[0, 0] += vague
        own[np.diag_indices(1 + d)] += [h.total_noise[0]**2] + [h.gradient_noise[0]**2] * d
        cross = label_covariance(data, h, label, where)[0]
        cross[0, :n] += vague
        w = WEIGHTS[some] / WEIGHTS[some].sum()
        at = label_covariance(data, h, where, where)
        energy = w @ (np.array([at[i, 0, i] for i in range(n)]) + vague)
        force = w @ [np.trace(at[i, 1:, n + i * d:n + (i + 1) * d]) for i in range(n)]
        fall = np.einsum("pt,pt->t", cross, np.linalg.solve(own, cross))
        others = w * (where != POOL[place])
        return others @ fall[:n] / energy + others @ fall[n:].reshape(n, d).sum(axis=1) / force

    worths = [sum(worth(p, parts == part) for part in (0, 1)) for p in range(len(POOL))]
    assert both == int(np.argmax(worths))


def test_a_label_lowers_the_expected_error_and_no_geometry_is_chosen_twice(case):
    data, h = case
    apart = np.array([12, 13])
    for criterion in CRITERIA:
        found = design(data, h, POOL, apart, np.ones(2), len(POOL), criterion)
        assert sorted(found.chosen) == list(range(len(POOL)))
        assert (np.diff(found.force) < 0).all() and (np.diff(found.energy) < 0).all()


def test_every_first_part_of_a_choice_is_a_choice(case):
    data, h = case
    for criterion in CRITERIA:
        long, short = (
            design(data, h, POOL, TARGET, WEIGHTS, n, criterion).chosen for n in (6, 3)
        )
        assert long[:3].tolist() == short.tolist()


def test_a_pool_that_is_too_small_and_too_little_memory_are_told(case):
    data, h = case
    with pytest.raises(TrainingError, match="15 geometries cannot be chosen from 12"):
        design(data, h, POOL, TARGET, WEIGHTS, 15)
    with pytest.raises(TrainingError, match="GB"):
        design(data, h, POOL, TARGET, WEIGHTS, 3, max_memory=1e3)
    with pytest.raises(TrainingError, match="no criterion 'A'"):
        design(data, h, POOL, TARGET, WEIGHTS, 3, "A")
