import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from ase_fflux.base.errors import GeometryError, TopologyError
from ase_fflux.base.units import BOHR
from ase_fflux.topology import (
    Graph,
    Pattern,
    bonds,
    isomorphisms,
    match,
)

TRICLINIC = np.array([[30.0, 0, 0], [11.0, 27.0, 0], [-9.0, 8.0, 26.0]])
quick = settings(max_examples=25, deadline=None)
seeds = st.integers(0, 2**32 - 1)


def test_hot_bonds_count_and_hydrogen_bonds_do_not():
    numbers = [6, 1, 8, 1, 8]
    x = np.array([[0, 0, 0], [1.35, 0, 0], [20, 0, 0], [21.2, 0, 0], [22.7, 0, 0]]) / BOHR
    pairs, shifts = bonds(numbers, x)
    assert pairs.tolist() == [[0, 1], [2, 3]]
    assert not shifts.any()


@quick
@given(seeds)
def test_bonds_in_a_triclinic_cell_are_those_of_all_images(seed):
    rng = np.random.default_rng(seed)
    cell = np.array([[9.0, 0, 0], [4.0, 8.0, 0], [-3.0, 3.5, 8.5]])
    numbers = rng.choice([1, 6, 8], 7)
    x = rng.uniform(-1, 2, (7, 3)) @ cell
    radii = {1: 0.31, 6: 0.76, 8: 0.66}
    images = np.array(list(itertools.product(range(-6, 7), repeat=3)))
    expected, nearest = set(), np.inf
    for i, j in itertools.combinations(range(7), 2):
        distance = np.linalg.norm(x[j] + images @ cell - x[i], axis=1)
        nearest = min(nearest, distance.min())
        limit = 1.3 * (radii[numbers[i]] + radii[numbers[j]]) / BOHR
        expected |= {(i, j, *shift) for shift in images[distance < limit].tolist()}
    if nearest < 0.5:
        return
    pairs, shifts = bonds(numbers, x, cell, True)
    assert {tuple(row) for row in np.hstack([pairs, shifts]).tolist()} == expected


def test_structures_without_a_meaning_are_refused(geometry, model, no_preference):
    with pytest.raises(GeometryError, match="no atoms"):
        match([model("H2O")], [], np.zeros((0, 3)), None, None, no_preference)
    numbers, x = geometry("H2O")
    bad = x.copy()
    bad[1, 2] = np.nan
    with pytest.raises(GeometryError, match=r"atom 2 \(H\)"):
        bonds(numbers, bad)
    bad = x.copy()
    bad[2] = bad[0] + 0.01
    with pytest.raises(GeometryError, match=r"atom 1 \(O\) and atom 3 \(H\) are on one spot"):
        bonds(numbers, bad)
    bad[2] = bad[0] + TRICLINIC[1] - TRICLINIC[2]
    with pytest.raises(GeometryError, match="on one spot"):
        bonds(numbers, bad, TRICLINIC, True)
    with pytest.raises(GeometryError, match=r"shape \(3, 3\)"):
        bonds(numbers, x[:2])
    for cell in (None, np.diag([20.0, 0, 20.0]), np.ones((3, 3))):
        with pytest.raises(GeometryError, match="cell vectors"):
            bonds(numbers, x, cell, True)
    assert len(bonds(numbers, x, np.diag([20.0, 0, 20.0]), [True, False, True])[0]) == 2


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


@pytest.mark.parametrize(
    ("name", "count"),
    [("H2O", 2), ("NH3", 6), ("CH4", 24), ("C6H6", 12), ("CH3CH2OH", 12), ("HCl", 1)],
)
def test_automorphisms(model, name, count):
    pattern = model(name)
    assert len(np.unique(pattern.automorphisms, axis=0)) == count


def test_too_many_labellings_ask_for_an_explicit_assignment(model):
    isobutane = model("isobutane")
    assert len(isomorphisms(isobutane, isobutane, limit=1296)) == 1296
    with pytest.raises(TopologyError, match="C4H10 has more than 1295 .* explicitly"):
        isomorphisms(isobutane, isobutane, limit=1295)


def test_fragments_of_a_dimer(formic_acid_dimer):
    pattern = Pattern.from_geometry("formic_acid_dimer", *formic_acid_dimer())
    assert pattern.fragment.tolist() == [0] * 5 + [1] * 5
    assert len(pattern.automorphisms) == 2


class TestHandedness:
    def pattern(self, geometry, name):
        numbers, x = geometry(name)
        return Pattern.from_geometry(name, numbers, x), x

    def test_one_sign_for_each_atom_of_four_neighbours(self, geometry):
        for name, centres in (
            ("CH4", 1), ("CH3CH2OH", 2), ("C6H6", 0), ("H2O", 0), ("NH3", 0), ("isobutane", 4)
        ):
            pattern, x = self.pattern(geometry, name)
            signs = pattern.handedness(x[None])
            assert signs.shape == (1, centres) and (np.abs(signs) == 1).all()

    @quick
    @given(seeds)
    def test_turns_keep_it_and_mirrors_invert_it(self, geometry, seed):
        pattern, x = self.pattern(geometry, "CH3CH2OH")
        rng = np.random.default_rng(seed)
        turned = Rotation.random(rng=rng).apply(x) + rng.normal(size=3)
        signs = pattern.handedness(np.array([x, turned, -turned]))
        np.testing.assert_array_equal(signs[1], signs[0])
        np.testing.assert_array_equal(signs[2], -signs[0])

    def test_exchange_of_two_hydrogens_inverts_their_centre_alone(self, geometry):
        pattern, x = self.pattern(geometry, "CH3CH2OH")  # C 0 (H 6, 7, 8), C 1 (H 4, 5)
        before = pattern.handedness(x[None])[0]
        for exchanged, factors in (((4, 5), [1, -1]), ((6, 7), [-1, 1])):
            order = np.arange(9)
            order[list(exchanged)] = exchanged[::-1]
            np.testing.assert_array_equal(pattern.handedness(x[None, order])[0], factors * before)

    def test_neighbours_in_a_plane_have_none(self, geometry):
        pattern, x = self.pattern(geometry, "CH4")
        flat = x * [1, 1, 1e-5]  # but for rounding
        np.testing.assert_array_equal(pattern.handedness(np.array([flat, 1e3 * x]))[:, 0], [
            0, pattern.handedness(x[None])[0, 0]
        ])


def test_positions_beyond_all_measure():
    """Their squares overflow in the search for neighbours."""
    with pytest.raises(GeometryError, match=r"atom 2 \(H\) has the position .*too far out"):
        bonds([8, 1], [[0.0, 0.0, 0.0], [0.0, 1e308, 0.0]])
