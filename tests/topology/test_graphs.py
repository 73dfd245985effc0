import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ase_fflux.base.errors import GeometryError
from ase_fflux.base.units import BOHR
from ase_fflux.topology import bonds, match

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
    with pytest.raises(GeometryError, match="so are most others: .* not in nm"):
        bonds(numbers, x / 10)
    bad[2] = bad[0] + TRICLINIC[1] - TRICLINIC[2]
    with pytest.raises(GeometryError, match="on one spot"):
        bonds(numbers, bad, TRICLINIC, True)
    with pytest.raises(GeometryError, match=r"shape \(3, 3\)"):
        bonds(numbers, x[:2])
    for cell in (None, np.diag([20.0, 0, 20.0]), np.ones((3, 3))):
        with pytest.raises(GeometryError, match="cell vectors"):
            bonds(numbers, x, cell, True)
    assert len(bonds(numbers, x, np.diag([20.0, 0, 20.0]), [True, False, True])[0]) == 2


def test_positions_beyond_all_measure():
    """Their squares overflow in the search for neighbours."""
    with pytest.raises(GeometryError, match=r"atom 2 \(H\) has the position .*too far out"):
        bonds([8, 1], [[0.0, 0.0, 0.0], [0.0, 1e308, 0.0]])
