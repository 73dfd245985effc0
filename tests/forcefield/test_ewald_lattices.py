"""Ewald sums of lattices whose sums are known, and of charges that stand for moments."""

import numpy as np
import pytest
from scipy.special import gamma, gammaincc

from ase_fflux.forcefield.interactions.ewald import Ewald
from ase_fflux.model.multipoles import MOMENT_NAMES, solid_harmonics

PERIODIC = (True,) * 3
CUBIC = {
    "simple": np.eye(3),
    "face-centred": np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]]) / 2,
    "body-centred": np.array([[-1, 1, 1], [1, -1, 1], [1, 1, -1]]) / 2,
}


def converged(rank, alpha):
    return Ewald(rank, alpha, 6.6 / alpha, 14.5 * alpha)


def test_antiparallel_columns_of_dipoles(evaluated):
    """The ground state of dipoles on a simple cubic lattice: E = -2.676 mu^2/a^3 of each, in the
    three decimals of the time.

    Sauer, Phys. Rev. 1940, 57, 142; Luttinger and Tisza, Phys. Rev. 1946, 70, 954.
    """
    sites = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0]])
    moments = np.array([[0, 1.0], [0, -1], [0, -1], [0, 1]]) @ np.eye(2, 4)
    found = evaluated(
        converged(1, 1.2), sites, np.ones(4), np.arange(4), np.diag([2, 2, 1]), PERIODIC, moments
    )
    np.testing.assert_allclose(found.energies, -2.676, rtol=0, atol=1e-3)


def quartic_sum(cell, reach=7):
    """Sum of P4(cos theta)/R^5 over a lattice, by Poisson's formula for solid harmonics.

    R_4(r) exp(-pi t r^2) is its own Fourier transform but for a power of t; the integral of
    t^(7/2) over it gives R_4/r^9, and is split at t = 1 (Nijboer and de Wette, Physica 1957, 23,
    309). It shares neither screening nor derivatives with the sums of the force field.
    """
    integers = np.array(list(np.ndindex((2 * reach + 1,) * 3))) - reach
    integers = integers[integers.any(axis=1)]
    r = integers @ cell
    k = integers @ np.linalg.inv(cell).T
    near = gammaincc(4.5, np.pi * np.sum(r * r, axis=1)) * gamma(4.5)
    direct = solid_harmonics(r, 4)[:, 16] * near / np.linalg.norm(r, axis=1) ** 9
    k2 = np.sum(k * k, axis=1)
    waves = solid_harmonics(k, 4)[:, 16] * np.exp(-np.pi * k2) / k2
    return (direct.sum() + np.pi**3.5 * waves.sum() / np.linalg.det(cell)) / gamma(4.5)


@pytest.mark.parametrize("lattice", CUBIC)
def test_lattice_of_quadrupoles(evaluated, lattice):
    """Parallel axial quadrupoles: each pair has 6 Theta^2 P4(cos theta)/R^5."""
    cell = CUBIC[lattice] / np.cbrt(np.linalg.det(CUBIC[lattice]))
    moments = np.eye(9)[4:5] * 0.7
    found = evaluated(converged(2, 1.3), [[0.1, 0.2, 0]], [1], [0], cell, PERIODIC, moments)
    expected = 0.5 * 6 * 0.49 * quartic_sum(cell)
    assert found.energies.sum() == pytest.approx(expected, rel=1e-11)
    # a quadrupole has the dimension of a charge times an area
    assert np.trace(found.virial) == pytest.approx(-5 * expected, rel=1e-11)


def test_quartic_sum_by_shells():
    """The sum of `quartic_sum` point by point, to what is left beyond 40 distances."""
    integers = np.array(list(np.ndindex(81, 81, 81))) - 40
    r2 = np.sum(integers**2, axis=1)
    near = integers[(r2 > 0) & (r2 <= 40**2)]
    total = (solid_harmonics(near, 4)[:, 16] / np.linalg.norm(near, axis=1) ** 9).sum()
    assert quartic_sum(np.eye(3)) == pytest.approx(total, abs=1e-3)


def imitation(component):
    """Points (n, 3) within a ball and charges with one moment of 1 and no others to rank 8."""
    rng = np.random.default_rng(0)
    points = rng.normal(size=(150, 3))
    points *= 0.7 * np.cbrt(rng.random(150) / np.sum(points**2, axis=1) ** 1.5)[:, None]
    moments = np.hstack([solid_harmonics(points, 4), higher_harmonics(points)])
    wanted = np.zeros(moments.shape[1])
    wanted[component] = 1.0
    charges = np.linalg.lstsq(moments.T, wanted, rcond=None)[0]
    np.testing.assert_allclose(moments.T @ charges, wanted, rtol=0, atol=1e-10)
    return points, charges


def higher_harmonics(points):
    """What spans the solid harmonics of ranks 5 to 8: (r . u)^l with u of zero square."""
    columns = []
    for l in range(5, 9):  # noqa: E741
        for angle in np.pi * np.arange(2 * l + 1) / (2 * l + 1):
            # real and imaginary parts of complex null vectors around z are complete
            null = np.array([np.cos(2 * angle), np.sin(2 * angle), 1j])
            power = (points @ null) ** l
            columns += [power.real, power.imag]
    return np.stack(columns, axis=1)


@pytest.mark.parametrize("component", range(25), ids=MOMENT_NAMES)
def test_charges_imitate_each_moment(evaluated, component):
    """150 charges with this moment alone act on other multipoles as the moment does."""
    cell = np.array([[11.0, 0.0, 0.0], [1.0, 10.5, 0.0], [-1.0, 0.5, 12.0]])
    centre, others = np.array([0.3, -0.2, 0.1]), np.array([[5.0, 4.5, 6.5], [6.5, 5.5, 5.0]])
    rng = np.random.default_rng(1)
    theirs = 0.3 * rng.normal(size=(2, 25))
    theirs[:, 0] -= theirs[:, 0].mean()
    points, charges = imitation(component)
    if component == 0:
        theirs[0, 0] -= 1.0  # so that the cell is neutral
    found = []
    for x, moments in (
        (centre[None], np.eye(25)[component : component + 1]),
        (centre + points, charges[:, None] * np.eye(25)[:1]),
    ):
        n = len(x)
        found.append(evaluated(
            converged(4, 0.5), np.vstack([x, others]), np.ones(n + 2),
            np.repeat([0, 1], [n, 2]), cell, PERIODIC, np.vstack([moments, theirs]),
        ))
    one, other = found
    scale = np.abs(one.gradient[-2:]).max()
    np.testing.assert_allclose(one.gradient[-2:], other.gradient[-2:], rtol=0, atol=2e-4 * scale)
    np.testing.assert_allclose(one.gradient[0], other.gradient[:-2].sum(axis=0), rtol=0,
                               atol=2e-4 * scale)
    assert one.energies.sum() == pytest.approx(
        other.energies.sum(), abs=2e-4 * np.abs(one.energies).max()
    )
