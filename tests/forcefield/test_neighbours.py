import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ase_fflux.forcefield.interactions.neighbours import NeighbourList, find_pairs

SKEW = np.array([[1.0, 0.0, 0.0], [0.4, 0.9, 0.0], [-0.3, 0.25, 1.1]])


def by_hand(x, molecule, cell, pbc, cutoff, reach=4):
    """Every pair and image with plain loops."""
    turns = [range(-reach, reach + 1) if p else (0,) for p in pbc]
    found = set()
    for image in np.stack(np.meshgrid(*turns, indexing="ij"), axis=-1).reshape(-1, 3):
        shift = image @ cell if np.any(pbc) else np.zeros(3)
        d = np.linalg.norm(x[None] + shift - x[:, None], axis=-1)
        for i, j in np.argwhere(d < cutoff):
            if molecule[i] == molecule[j] and not image.any():
                continue
            if i < j or (i == j and tuple(image) > (0, 0, 0)):
                found.add((int(i), int(j), *map(int, image)))
    return found


def as_set(pairs):
    rows = np.column_stack([pairs.first, pairs.second, pairs.images]).tolist()
    assert len(set(map(tuple, rows))) == len(rows), "every pair once"
    return set(map(tuple, rows))


@given(
    seed=st.integers(0, 10**6), edge=st.sampled_from([4.0, 9.0, 30.0]),
    pbc=st.tuples(*[st.booleans()] * 3), cutoff=st.sampled_from([3.0, 7.5]),
)
@settings(deadline=None, max_examples=40)
def test_pairs_are_those_found_by_hand(seed, edge, pbc, cutoff):
    """Small, skewed and partly periodic cells; atoms may lie outside."""
    rng = np.random.default_rng(seed)
    n = 12
    x = rng.uniform(-edge, 2 * edge, (n, 3))
    molecule = rng.integers(0, 4, n)
    cell = edge * SKEW
    found = find_pairs(x, molecule, cell, np.array(pbc), cutoff)
    # an atom may be two cells away from home
    assert as_set(found) == by_hand(x, molecule, cell, pbc, cutoff, reach=8)


def test_many_atoms_far_apart():
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.uniform(0, 20, (150, 3)), rng.uniform(0, 20, (150, 3)) + 1e5])
    molecule = np.arange(300) // 3
    no = np.zeros(3, dtype=bool)
    assert as_set(find_pairs(x, molecule, np.zeros((3, 3)), no, 6.0)) == by_hand(
        x, molecule, None, no, 6.0
    )
    assert len(find_pairs(x[:0], molecule[:0], np.zeros((3, 3)), no, 6.0).first) == 0


def inside(pairs, x, cell, cutoff):
    """The listed pairs that are within the cut-off now."""
    d = np.linalg.norm(x[pairs.second] + pairs.images @ cell - x[pairs.first], axis=1)
    rows = np.column_stack([pairs.first, pairs.second, pairs.images])[d < cutoff]
    return set(map(tuple, rows.tolist()))


@pytest.mark.parametrize("strained", [False, True])
def test_no_pair_is_missed_while_the_list_is_kept(strained):
    rng = np.random.default_rng(1)
    pbc, cell, cutoff = np.ones(3, dtype=bool), 14.0 * SKEW, 5.0
    x, molecule = rng.uniform(0, 14, (40, 3)), np.arange(40) // 4
    listed = NeighbourList(skin=1.5)
    steps = 60
    for _ in range(steps):
        x = x + 0.06 * rng.normal(size=x.shape)
        if strained:
            strain = np.eye(3) + 0.002 * rng.normal(size=(3, 3))
            x, cell = x @ strain, cell @ strain
        kept = listed.pairs(x, molecule, cell, pbc, cutoff)
        fresh = as_set(find_pairs(x, molecule, cell, pbc, cutoff))
        assert inside(kept, x, cell, cutoff) == fresh
    assert 1 < listed.built < steps / 2


def test_what_makes_a_list_anew():
    pbc, cell = np.ones(3, dtype=bool), 12.0 * SKEW
    x, molecule = np.random.default_rng(2).uniform(0, 12, (10, 3)), np.arange(10)
    listed = NeighbourList(skin=2.0)
    for count, change in enumerate([
        {}, {"x": x + [0, 0, 1.01]}, {"molecule": molecule // 2}, {"cutoff": 5.0},
        {"pbc": np.array([True, True, False])}, {"x": x[:9], "molecule": molecule[:9]},
        {"x": x + cell[0] * (np.arange(10) == 3)[:, None]},
    ], start=1):
        given = {"x": x, "molecule": molecule, "cell": cell, "pbc": pbc, "cutoff": 4.0, **change}
        again = NeighbourList(skin=2.0)
        again.pairs(x, molecule, cell, pbc, 4.0)
        again.pairs(given["x"], given["molecule"], given["cell"], given["pbc"], given["cutoff"])
        assert again.built == (1 if not change else 2), change
        listed.pairs(given["x"], given["molecule"], given["cell"], given["pbc"], given["cutoff"])
        assert listed.built == count
    once = NeighbourList(skin=0.0)
    for _ in range(2):
        once.pairs(x, molecule, cell, pbc, 4.0)
    assert once.built == 2
