"""Terms of distances as they are evaluated, against the processes that they are made from."""

import numpy as np
import pytest

from ase_fflux.forcefield.terms import add_terms, pack_terms, tabulated
from ase_fflux.model.kernels import Form, Kernel
from ase_fflux.model.process import GaussianProcess
from ase_fflux.model.terms import MoleculeTerm

SHAPE = np.array([
    [0.0, 0.0, 0.0], [0.0, 0.0, 2.3], [1.8, 0.0, -0.9], [-1.0, 1.7, -0.8],
])
PAIRS = np.array([(i, j) for i in range(4) for j in range(i + 1, 4)])


def process(columns, n=7, rational=False, seed=0):
    rng = np.random.default_rng(seed)
    zero = np.zeros(columns)
    return GaussianProcess(
        rng.uniform(0.2, 0.5, (n, columns)),
        Kernel(rng.uniform(5.0, 60.0, columns), zero, zero, Form(rational=rational)),
        np.zeros(1), rng.normal(size=(1, n)),
        derivative_weights=0.1 * rng.normal(size=(1, n, columns)),
    )


def terms(rational):
    """One of all distances with two images, one of three bonds, one of a pair alone."""
    swap = [PAIRS.tolist().index(sorted((2 if k == 3 else 3 if k == 2 else k) for k in p))
            for p in PAIRS.tolist()]
    bonds = np.array([[[0, 1]], [[2, 0]], [[0, 3]]])
    return [
        MoleculeTerm(PAIRS[None], np.array([range(6), swap]), process(6, 7, rational, 1)),
        MoleculeTerm(bonds, np.zeros((1, 1), dtype=int), process(1, 5, rational, 2)),
        MoleculeTerm(np.array([[[3, 1]]]), np.zeros((1, 1), dtype=int), process(1, 4, rational, 3)),
    ]


def evaluated(some, x):
    values, gradient = np.zeros(len(x)), np.zeros(x.shape)
    add_terms(x, pack_terms(some).arrays, values, gradient)
    return values, gradient


@pytest.mark.parametrize("which", [[0], [1], [2], [0, 1, 2]])
@pytest.mark.parametrize("rational", [False, True])
def test_values_are_those_of_the_processes(which, rational):
    some = [terms(rational)[i] for i in which]
    x = SHAPE + 0.2 * np.random.default_rng(4).normal(size=(6, *SHAPE.shape))
    values, _ = evaluated(some, x)
    np.testing.assert_allclose(values, sum(t.energies(x) for t in some), atol=1e-8)


@pytest.mark.parametrize("which", [[0], [1], [0, 1, 2]])
@pytest.mark.parametrize("rational", [False, True])
def test_gradient_is_that_of_the_values(which, rational, central_differences):
    some = [terms(rational)[i] for i in which]
    x = SHAPE + 0.1 * np.random.default_rng(5).normal(size=SHAPE.shape)
    _, gradient = evaluated(some, x[None])
    expected = central_differences(lambda y: evaluated(some, y[None])[0][0], x, 1e-2)
    np.testing.assert_allclose(gradient[0], expected, atol=2e-8)
    assert np.abs(gradient).max() > 1e-2
    np.testing.assert_allclose(gradient[0].sum(axis=0), 0.0, atol=1e-13)


def test_copies_are_for_themselves():
    some, rng = terms(True), np.random.default_rng(6)
    x = SHAPE + 0.2 * rng.normal(size=(4, *SHAPE.shape))
    values, gradient = evaluated(some, x)
    for one, value, slope in zip(x, values, gradient, strict=True):
        alone = evaluated(some, one[None])
        assert alone[0][0] == value and np.array_equal(alone[1][0], slope)


@pytest.mark.parametrize("rational", [False, True])
def test_nodes_of_a_table_are_value_slope_and_curvature(rational, central_differences):
    gp = process(1, 5, rational, 7)
    step, nodes = tabulated(gp)
    c = step * np.arange(len(nodes))
    inside = slice(3, len(nodes) - 3)
    np.testing.assert_allclose(nodes[:, 0], gp.predict(c[:, None])[0], atol=1e-13)
    for order in (1, 2):
        slopes = [
            central_differences(lambda y: gp.predict(y[None])[0][0], np.array([at]), 1e-4)[0]
            if order == 1 else
            (gp.predict(np.array([[at - 1e-4], [at], [at + 1e-4]]))[0] @ [1, -2, 1]) / 1e-8
            for at in c[inside]
        ]
        scale = np.abs(slopes).max()
        np.testing.assert_allclose(nodes[inside, order], slopes, atol=1e-5 * scale)
    assert c[-1] > 2.0 * gp.inputs.max() - step


def test_beyond_the_table_atoms_see_a_linear_potential():
    """Continuous with its slope, however near they come."""
    _, *pairs = terms(False)
    term = pairs[1]
    gp = term.gp
    step, nodes = tabulated(gp)
    end = step * (len(nodes) - 1)

    def at(c):
        x = SHAPE.copy()
        x[3] = x[1] + [1.0 / c, 0.0, 0.0]
        value, gradient = evaluated([term], x[None])
        return value[0], gradient[0, 3, 0] * -(c**-2)  # by 1/R

    values, slopes = np.array([at(end * f) for f in (1.0 - 1e-9, 1.0 + 1e-9, 1.5, 3.0)]).T
    assert values[1] == pytest.approx(values[0], abs=1e-8)
    np.testing.assert_allclose(slopes[1:], nodes[-1, 1], rtol=1e-6, atol=1e-9)
    assert values[3] - values[2] == pytest.approx(1.5 * end * nodes[-1, 1], rel=1e-6, abs=1e-9)
