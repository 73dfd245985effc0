import numpy as np
import pytest

from ase_fflux.base.differences import central_differences, displacements, symmetrised


def test_derivatives_of_a_quadratic_form_are_exact():
    rng = np.random.default_rng(0)
    matrix, slope = rng.normal(size=(6, 6)), rng.normal(size=(6, 2))
    matrix = symmetrised(matrix)
    assert (matrix == matrix.T).all()
    x = rng.normal(size=(2, 3))
    before = x.copy()

    def function(positions):
        return np.append(matrix @ positions.ravel(), positions.ravel() @ slope)

    found = central_differences(function, x, 0.3)
    assert found[:, :6] == pytest.approx(matrix) and found[:, 6:] == pytest.approx(slope)
    assert (x == before).all()


def test_the_error_falls_as_the_square_of_the_step():
    errors = [
        abs(central_differences(lambda x: np.sin(x.ravel()), np.full((1, 3), 0.4), step)
            - np.cos(0.4) * np.eye(3)).max()
        for step in (0.02, 0.01)
    ]
    assert errors[0] / errors[1] == pytest.approx(4, rel=1e-3)


def test_order_and_watch():
    seen, calls = [], []

    def watch(items):
        for item in items:
            seen.append(item)
            yield item

    central_differences(lambda x: calls.append(x.copy()) or np.zeros(1), np.zeros((1, 3)), 1, watch)
    assert seen == list(displacements(1)) == [(0, 1), (0, -1), (1, 1), (1, -1), (2, 1), (2, -1)]
    assert [call[0, c] for (c, _), call in zip(seen, calls, strict=True)] == [1, -1] * 3
