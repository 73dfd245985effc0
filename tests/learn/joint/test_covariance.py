"""Blocks of covariance against differences of the kernel, and against its derivatives in numpy."""

import numpy as np
import pytest

from ase_fflux.learn.joint import blocks
from ase_fflux.learn.joint.blocks import (
    add_gradient_blocks,
    energy_block,
    mixed_block,
    run_threads,
)
from ase_fflux.learn.joint.triangle import cholesky
from ase_fflux.model.kernels import FORMS, Kernel

CASES = {
    "water": ("water", {}),
    "fluoromethane": ("fluoromethane", {}),
    "without symmetry": ("fluoromethane", dict(symmetric=False)),
    "formaldehyde": ("formaldehyde", {}),
    "nitrogen": ("nitrogen", {}),
    "inverse distances": ("fluoromethane", dict(form=FORMS["rbf-inverse"])),
    "rational": ("water", dict(form=FORMS["rq"])),
    "both": ("formaldehyde", dict(form=FORMS["rq-inverse"])),
}


@pytest.fixture(params=CASES)
def case(request, make_case):
    molecule, options = CASES[request.param]
    return make_case(molecule, 4, **options)


@pytest.fixture
def h(case, made_up_hyperparameters):
    return made_up_hyperparameters(case.data)


def column_theta(points, theta):
    return theta[points.feature]


def whole(case, h, threads=1):
    """All blocks of energies and gradients, class by class as one full matrix (4 labels)."""
    energies, mixed = [], []
    size = case.data.gradients.size
    gradients = np.zeros((size, size))
    for points, theta, variance in zip(case.data.points, h.theta, h.variance, strict=True):
        t = column_theta(points, theta)
        e = np.tril(energy_block(points, points, t, threads))
        energies.append(variance * (e + np.tril(e, -1).T))
        mixed.append(variance * mixed_block(points, points, t, threads))
        add_gradient_blocks(gradients, [(points, points, t, variance)], threads, 0)
    gradients = np.tril(gradients)
    return energies, mixed, gradients + np.tril(gradients, -1).T


def dense(case, h):
    """The same from the definition, in one matrix."""
    x, rows = case.labels.geometries, case.observed()
    rows = rows.reshape(len(rows), -1)
    return rows @ case.covariance(h, x, x).reshape(rows.shape[1], -1) @ rows.T


def joined(energies, mixed, gradients):
    ends = np.cumsum([0, *(len(e) for e in energies)])
    size = ends[-1] + len(gradients)
    out = np.zeros((size, size))
    for a, b, e, m in zip(ends[:-1], ends[1:], energies, mixed, strict=True):
        out[a:b, a:b], out[a:b, ends[-1]:], out[ends[-1]:, a:b] = e, m, m.T
    out[ends[-1]:, ends[-1]:] = gradients
    return out


def test_blocks_are_the_derivatives_of_the_kernel(case, h):
    expected = dense(case, h)
    np.testing.assert_allclose(
        joined(*whole(case, h)), expected, rtol=0, atol=1e-12 * np.abs(expected).max()
    )


def test_they_are_symmetric_and_positive_semidefinite(case, h):
    """Blocks of different labels are computed independently of their transposes."""
    for points, theta in zip(case.data.points, h.theta, strict=True):
        copy, t = points.select(np.arange(4)), column_theta(points, theta)
        k = energy_block(points, copy, t, 1)  # all of it, as these are not the same object
        np.testing.assert_allclose(k, k.T, rtol=1e-12)
        g = np.zeros((case.data.gradients.size,) * 2)
        add_gradient_blocks(g, [(points, copy, t, 1.0)], 1)
        np.testing.assert_allclose(g, g.T, atol=1e-12 * np.abs(g).max())
        lower = np.zeros_like(g)
        add_gradient_blocks(lower, [(points, points, t, 1.0)], 1, 0)
        np.testing.assert_allclose(np.tril(lower), np.tril(g), atol=1e-13 * np.abs(g).max())
        both = np.block([[k, mixed_block(points, copy, t, 1)],
                         [mixed_block(points, copy, t, 1).T, g]])
        values = np.linalg.eigvalsh(both)
        assert values[0] > -1e-12 * values[-1]
        assert values[-1] > 1


@pytest.mark.parametrize("size", [1, 700, 5000])
def test_tiles_of_any_size_give_the_same(case, h, monkeypatch, size):
    """Few numbers are tiles of one pair of labels."""
    for before in (None, 0):
        classes = [
            (points, points, column_theta(points, theta), variance)
            for points, theta, variance in zip(case.data.points, h.theta, h.variance, strict=True)
        ]
        expected, found = np.zeros((2, *(case.data.gradients.size,) * 2))
        add_gradient_blocks(expected, classes, 1, before)
        with monkeypatch.context() as patch:
            patch.setattr(blocks, "PAIRS", size)
            add_gradient_blocks(found, classes, 2, before)
        low = np.tril if before == 0 else np.asarray
        np.testing.assert_allclose(
            low(found), low(expected), rtol=0, atol=1e-13 * np.abs(expected).max()
        )


def test_blocks_are_differences_of_the_kernel(case, h, central_differences):
    """Along random displacements of one label, and of two."""
    x, rng = case.labels.geometries, np.random.default_rng(1)
    u, v = rng.normal(size=(2, *x.shape[1:]))

    def kernel(c, a, b, i, j, s, t):
        """Covariance of atom a at label i displaced by s u and b at label j by t v."""
        (f, _), images = case.image(x[i] + s * u[None], case.operations(a)[0]), [
            case.image(x[j] + t * v[None], o)[0] for o in case.operations(b)
        ]
        k = Kernel.periodic_on_phi(h.theta[c], h.form)
        return h.variance[c] * sum(k.matrix(f, g)[0, 0] for g in images)

    energies, mixed, gradients = whole(case, h)
    directions, n = case.data.directions.shape[2], len(x)
    along = [np.einsum("nxd,x->nd", case.data.directions, w.ravel()) for w in (u, v)]
    i, j, total = 2, 1, 0.0
    for number, c in enumerate(case.data.classes):
        for m, a in enumerate(c.atoms):
            slope = central_differences(lambda t, a=a, number=number, c=c: sum(
                kernel(number, a, b, i, j, 0.0, t) for b in c.atoms
            ), 0.0)
            found = mixed[number][m * n + i, j * directions:(j + 1) * directions] @ along[1][j]
            assert found == pytest.approx(slope, abs=1e-9)
            assert energies[number][m * n + i, m * n + j] == pytest.approx(
                kernel(number, a, a, i, j, 0.0, 0.0), rel=1e-12
            )
        total += central_differences(lambda s, number=number, c=c: central_differences(
            lambda t: sum(
                kernel(number, a, b, i, j, s, t) for a in c.atoms for b in c.atoms
            ), 0.0, 2e-2
        ), 0.0, 2e-2)
    block = gradients[i * directions:(i + 1) * directions, j * directions:(j + 1) * directions]
    assert along[0][i] @ block @ along[1][j] == pytest.approx(total, abs=1e-7)


def test_threads_share_the_work(case, h):
    one, two = joined(*whole(case, h)), joined(*whole(case, h, threads=2))
    np.testing.assert_allclose(two, one, rtol=0, atol=1e-14 * np.abs(one).max())


def test_points_far_apart_have_no_covariance(make_case):
    case = make_case("fluoromethane", 3, spread=0.3)
    for points in case.data.points:
        t = np.full(len(points.feature), 1e6)
        k = energy_block(points, points, t, 1)
        np.testing.assert_allclose(np.tril(k), np.eye(len(k)), atol=1e-12)
        size = case.data.gradients.size
        g = np.zeros((size, size))
        add_gradient_blocks(g, [(points, points, t, 1.0)], 1, 0)
        off = np.tril(g) * ~np.kron(np.eye(3, dtype=bool), np.ones((9, 9), dtype=bool))
        assert not off.any() and g.any()


@pytest.mark.parametrize("rows", [0, 1, 7, 100])
@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("triangle", [True, False])
def test_every_row_is_done_once(rows, threads, triangle):
    done = np.zeros(rows, dtype=int)

    def work(first, last):
        done[first:last] += 1
        return last - first

    assert sum(run_threads(work, rows, threads, triangle)) == rows
    assert (done == 1).all()


def test_cholesky_of_a_lower_triangle():
    a = np.random.default_rng(0).normal(size=(6, 9))
    a = a @ a.T
    spoiled = np.tril(a) + np.triu(np.full((6, 6), np.nan), 1)
    factor = np.tril(cholesky(spoiled))
    np.testing.assert_allclose(factor @ factor.T, a, rtol=1e-12)
    with pytest.raises(np.linalg.LinAlgError, match="leading minor 4"):
        cholesky(np.diag([1.0, 2.0, 3.0, -1.0, 5.0]))
    assert cholesky(np.zeros((0, 0))).shape == (0, 0)
