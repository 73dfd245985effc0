import tracemalloc
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from ase_fflux.base.errors import TrainingError
from ase_fflux.learn.gp.selection import METHODS, select

every = pytest.mark.parametrize("method", METHODS)
seeds = st.integers(0, 2**32 - 1)


def data(n, seed=0, n_columns=4, n_targets=2):
    rng = np.random.default_rng(seed)
    return rng.normal(scale=0.5, size=(n, n_columns)), rng.normal(size=(n_targets, n))


def chosen(method, count, columns, targets=None, seed=0, noise=1e-8):
    targets = np.zeros((1, len(columns))) if targets is None else targets
    return select(method, count, columns, targets, np.random.default_rng(seed), noise)


def in_order(method, count, columns, seed, noise=1e-8):
    """Points in the order of a greedy method, whose choices do not depend on how many follow."""
    before, order = set(), []
    for m in range(1, count + 1):
        after = set(chosen(method, m, columns, seed=seed, noise=noise).tolist())
        assert before < after
        order += after - before
        before = after
    return order


def nearest(columns, points):
    """(n,) distances to the nearest of the points."""
    return cdist(columns, columns[points]).min(axis=1)


def posterior_variances(columns, points, noise):
    """(n,) variances of the textbook, by the dense kernel matrix."""
    k = np.exp(-cdist(columns, columns, "sqeuclidean"))
    noisy = k[np.ix_(points, points)] + noise * np.eye(len(points))
    return 1.0 - np.einsum("pn,pn->n", k[points], np.linalg.solve(noisy, k[points]))


@every
@pytest.mark.parametrize("noise", [0.0, 1e-8, 1.0])
@given(n=st.integers(1, 40), share=st.floats(0, 1), copies=st.booleans(), seed=seeds)
def test_points_are_distinct_sorted_and_repeat(method, noise, n, share, copies, seed):
    """Copies of points exhaust the variance; a large noise leaves much of it at chosen points."""
    count = max(1, round(share * n))
    columns, targets = data(n, seed)
    if copies:
        columns, targets = columns[np.arange(n) // 3], targets[:, np.arange(n) // 3]
    points = chosen(method, count, columns, targets, seed, noise)
    assert points.shape == (count,) and points.dtype.kind == "i"
    assert points[0] >= 0 and points[-1] < n and (np.diff(points) > 0).all()
    np.testing.assert_array_equal(chosen(method, count, columns, targets, seed, noise), points)


@every
def test_chance_is_the_generators(method):
    columns, targets = data(200)
    assert len({tuple(chosen(method, 5, columns, targets, seed)) for seed in range(20)}) > 10


@every
def test_memory_is_far_below_that_of_the_kernel_matrix(method):
    columns, targets = data(4000)
    tracemalloc.start()
    chosen(method, 20, columns, targets)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.05 * 8 * 4000**2


def test_random_points_are_equally_likely():
    columns, _ = data(10)
    draws = 2000
    drawn = np.bincount(np.concatenate([
        chosen("random", 3, columns, seed=seed) for seed in range(draws)
    ]))
    np.testing.assert_allclose(drawn / draws, 0.3, atol=5 * np.sqrt(0.3 * 0.7 / draws))


@given(n=st.integers(1, 60), share=st.floats(0, 1), seed=seeds)
def test_stratified_takes_one_point_of_each_bin_of_equal_population(n, share, seed):
    count = max(1, round(share * n))
    columns, targets = data(n, seed, n_targets=1)
    rank = np.argsort(np.argsort(targets[0]))
    ranks = np.sort(rank[chosen("stratified", count, columns, targets, seed)])
    edges = np.floor(np.arange(count + 1) * n / count)
    assert np.ptp(np.diff(edges)) <= 1
    assert (edges[:-1] <= ranks).all() and (ranks < edges[1:]).all()


def test_stratified_reaches_every_point():
    columns, targets = data(20)
    points = [chosen("stratified", 6, columns, targets, seed) for seed in range(100)]
    assert set(np.concatenate(points)) == set(range(20))


def test_stratified_follows_what_targets_have_in_common_and_not_constants():
    """Two rows of the same rounding noise would outvote the one that varies."""
    columns, (energy, rounding) = data(60)
    targets = np.stack([
        1e-3 * energy - 75.0, np.full(60, 0.1), 1e-17 * rounding, -1e-17 * rounding
    ])
    points = chosen("stratified", 12, columns, targets)
    ranks = np.sort(np.argsort(np.argsort(energy))[points])
    np.testing.assert_array_equal(ranks // 5, np.arange(12))


def test_stratified_does_not_depend_on_units():
    columns, targets = data(60, n_targets=3)
    in_other_units = targets * [[1.0], [1e3], [1e-3]] + [[-75.0], [0.0], [1.0]]
    points = chosen("stratified", 12, columns, targets)
    np.testing.assert_array_equal(chosen("stratified", 12, columns, in_other_units), points)


def test_stratified_of_constant_targets_still_selects():
    columns, _ = data(10)
    assert len(chosen("stratified", 4, columns, np.full((2, 10), 0.1))) == 4


@given(seeds)
def test_each_farthest_point_is_farthest_from_those_before(seed):
    columns, _ = data(40, seed)
    order = in_order("farthest", 12, columns, seed)
    for m in range(1, 12):
        distance = nearest(columns, order[:m])
        assert distance[order[m]] == pytest.approx(distance.max(), rel=1e-12)


@given(seeds)
def test_farthest_points_cover_within_twice_the_optimum(seed):
    columns, _ = data(10, seed, n_columns=2)
    optimum = min(nearest(columns, list(points)).max() for points in combinations(range(10), 3))
    radius = nearest(columns, chosen("farthest", 3, columns, seed=seed)).max()
    assert radius <= 2 * optimum * (1 + 1e-12)


@pytest.mark.parametrize("noise", [1e-8, 0.3])
@given(seed=seeds)
def test_each_variance_point_has_the_largest_posterior_variance(noise, seed):
    columns, _ = data(40, seed)
    order = in_order("variance", 12, columns, seed, noise)
    for m in range(1, 12):
        variance = posterior_variances(columns, order[:m], noise)
        variance[order[:m]] = -np.inf
        assert variance[order[m]] >= variance.max() - 1e-9


@pytest.mark.parametrize("method", ["farthest", "variance"])
def test_copies_come_after_all_distinct_points(method):
    columns = np.tile(data(6)[0], (4, 1))
    order = in_order(method, 10, columns, seed=1, noise=0.0)
    assert {i % 6 for i in order[:6]} == set(range(6))


def test_exhausted_variance_is_followed_by_farthest_points():
    """Without noise, a smooth kernel on a line has no variance left after about ten points."""
    columns = np.sort(np.random.default_rng(3).uniform(size=(200, 1)), axis=0)
    order = in_order("variance", 30, columns, seed=3, noise=0.0)
    assert posterior_variances(columns, order[:5], 0.0).max() > 1e-9
    for m in range(15, 30):
        distance = nearest(columns, order[:m])
        assert distance[order[m]] == pytest.approx(distance.max(), rel=1e-12)


def test_unknown_method_is_refused_with_the_known_ones():
    with pytest.raises(TrainingError, match="'nearest'.*random, stratified, farthest, variance"):
        chosen("nearest", 2, data(5)[0])


@every
@pytest.mark.parametrize("count", [-1, 0, 6])
def test_impossible_count_is_refused(method, count):
    with pytest.raises(TrainingError, match=f"^{count} source points .* from 1 to 5"):
        chosen(method, count, *data(5))
