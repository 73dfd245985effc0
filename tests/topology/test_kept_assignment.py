import numpy as np
import pytest

from ase_fflux.topology.kept_assignment import KeptAssignment

CELL = np.diag([20.0, 21.0, 22.0])
NOWHERE = np.zeros(3, dtype=bool)
X = np.array([[1.0, 0, 0], [2.5, 0, 0], [1.0, 1.5, 0]])
NUMBERS = np.array([8, 1, 1])


@pytest.fixture
def of():
    """The number of the assignment that geometries get, counted as they are found."""
    kept, found = KeptAssignment(), []

    def match(*args):
        found.append(args)
        return len(found)

    def of(positions, numbers=NUMBERS, pbc=NOWHERE):
        return kept.of(positions, numbers, CELL, pbc, match)

    return of


def test_small_steps_keep_it(of):
    for k in range(5):
        assert of(X + [1.5 * k, 0, 0]) == 1


def test_what_is_another_trajectory(of):
    assert of(X) == 1
    assert of(X + [2.0, 0, 0]) == 2
    assert of(X[:2], NUMBERS[:2]) == 3
    assert of(X[:2], NUMBERS[[1, 0]]) == 4
    assert of(X[:2], NUMBERS[[1, 0]], ~NOWHERE) == 5
    assert of(np.full((2, 3), np.nan), NUMBERS[[1, 0]], ~NOWHERE) == 6


def test_crossing_a_boundary_is_no_jump_where_it_is_periodic(of):
    wrapped = X + [[0, 0, 0], [20, 0, 0], [0, 0, 0]]
    assert [of(X, pbc=~NOWHERE), of(wrapped, pbc=~NOWHERE)] == [1, 1]
    assert [of(X), of(wrapped)] == [2, 3]


def test_what_fails_leaves_the_last_one():
    kept = KeptAssignment()
    kept.of(X, NUMBERS, CELL, NOWHERE, lambda *args: 1)
    with pytest.raises(ZeroDivisionError):
        kept.of(X + 9, NUMBERS, CELL, NOWHERE, lambda *args: 1 / 0)
    assert kept.of(X, NUMBERS, CELL, NOWHERE, lambda *args: 2) == 1
