import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ase_fflux.base.errors import TopologyError
from ase_fflux.topology import Graph, isomorphisms

quick = settings(max_examples=25, deadline=None)
seeds = st.integers(0, 2**32 - 1)


@quick
@given(seeds)
def test_isomorphisms_are_all_permutations_that_keep_elements_and_bonds(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 7))
    numbers = rng.choice([1, 6], n)
    pairs = np.array([p for p in itertools.combinations(range(n), 2) if rng.random() < 0.4])
    pairs = pairs.astype(int).reshape(-1, 2)
    order = rng.permutation(n)
    there = Graph(numbers[order], np.argsort(order)[pairs])
    edges = {frozenset(p) for p in there.bonds.tolist()}
    expected = {
        p
        for p in itertools.permutations(range(n))
        if (there.numbers[list(p)] == numbers).all()
        and {frozenset((p[i], p[j])) for i, j in pairs.tolist()} == edges
    }
    found = isomorphisms(Graph(numbers, pairs), there)
    assert len(found) == len(expected)
    assert set(map(tuple, found.tolist())) == expected


def test_graphs_of_equal_colours_but_other_rings_are_told_apart():
    def rings(*cycles, joint):
        pairs = [(c[i - 1], c[i]) for c in cycles for i in range(len(c))] + joint
        return Graph(np.full(10, 6), np.array(pairs))

    bicyclopentyl = rings(range(5), range(5, 10), joint=[(0, 5)])
    decalin = rings(range(10), joint=[(0, 5)])
    assert bicyclopentyl.key == decalin.key, "the case this test is about"
    assert len(isomorphisms(bicyclopentyl, decalin)) == 0
    assert len(isomorphisms(decalin, decalin)) == 4
    assert len(isomorphisms(bicyclopentyl, bicyclopentyl)) == 8


def test_too_many_labellings_ask_for_an_explicit_assignment(model):
    isobutane = model("isobutane")
    assert len(isomorphisms(isobutane, isobutane, limit=1296)) == 1296
    with pytest.raises(TopologyError, match="C4H10 has more than 1295 .* explicitly"):
        isomorphisms(isobutane, isobutane, limit=1295)
