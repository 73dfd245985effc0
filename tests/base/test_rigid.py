import numpy as np
import pytest

from ase_fflux.base.rigid import internal_motions, rigid_motions

BENT = np.array([[0.0, 0.0, 0.12], [0.0, 0.76, -0.48], [0.3, -0.76, -0.48], [1.0, 0.2, 0.4]])
LINEAR = np.outer([-1.2, 0.0, 1.3], [2 / 3, -1 / 3, 2 / 3]) + [5.0, -3.0, 2.0]
MASSES = {3: np.array([16.0, 12.0, 1.0]), 4: np.array([12.0, 16.0, 1.0, 35.0]), 1: np.array([4.0])}


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    "positions, count", [(BENT, 6), (LINEAR, 5), (BENT[:2], 5), (BENT[:1], 3)]
)
def test_motions_change_no_distance(positions, count, weighted):
    n = len(positions)
    masses = np.arange(1.0, n + 1) if weighted else None
    whole = rigid_motions(positions, masses)
    assert whole @ whole.T == pytest.approx(np.eye(count), abs=1e-12)
    roots = np.sqrt(np.ones(n) if masses is None else masses)[:, None]
    apart = positions[:, None] - positions
    for motion in whole.reshape(-1, n, 3) / roots:
        change = (apart * (motion[:, None] - motion)).sum(axis=-1)
        assert abs(change).max() < 1e-12
    assert len(rigid_motions(positions, masses, rotations=False)) == 3


def test_internal_motions_have_neither_momentum_nor_angular_momentum():
    masses = MASSES[4]
    whole, internal = internal_motions(BENT, masses)
    both = np.vstack([whole, internal])
    assert both @ both.T == pytest.approx(np.eye(12), abs=1e-12) and len(whole) == 6
    # Eckart: sum m d = 0, sum m r x d = 0, with d = x / sqrt(m)
    momenta = internal.reshape(-1, 4, 3) * np.sqrt(masses)[:, None]
    assert momenta.sum(axis=1) == pytest.approx(np.zeros((6, 3)), abs=1e-12)
    assert np.cross(BENT, momenta).sum(axis=1) == pytest.approx(np.zeros((6, 3)), abs=1e-12)


def test_where_the_molecule_is_does_not_matter():
    spans = [rows.T @ rows for rows in (rigid_motions(BENT), rigid_motions(BENT + [7, -8, 9]))]
    assert spans[0] == pytest.approx(spans[1], abs=1e-12)


def test_several_geometries_at_once():
    # the second is linear by chance, and keeps as many internal motions as the others
    geometries = np.stack([BENT[:3], LINEAR, BENT[1:]])
    whole, internal = internal_motions(geometries, external=6)
    assert whole.shape == (3, 6, 9) and internal.shape == (3, 3, 9)
    for i in (0, 2):
        _, one = internal_motions(geometries[i])
        assert internal[i].T @ internal[i] == pytest.approx(one.T @ one, abs=1e-12)
    assert len(internal_motions(LINEAR, MASSES[3])[1]) == 4
    assert len(internal_motions(LINEAR, MASSES[3], external=5)[1]) == 4
    # the five of the linear one that are no rotation about its axis
    _, four = internal_motions(LINEAR, external=5)
    axis = np.cross([2 / 3, -1 / 3, 2 / 3], LINEAR - LINEAR.mean(axis=0)).ravel()
    assert abs(axis).max() < 1e-12 and four.shape == (4, 9)
