"""Multipoles as polynomials of derivatives, for sums over waves.

A moment Q_lm acts on a potential as Q_lm R_lm(grad) / (2l - 1)!!, R_lm a solid harmonic (Stone, The
Theory of Intermolecular Forces, 2nd ed. 2013, sec. 3.3). A solid harmonic is a polynomial, so a
site is a set of coefficients M_c of derivatives d^c = d_x^i d_y^j d_z^k, and the energy in a
potential phi is sum M_c d^c phi.
"""

from math import sqrt

import numpy as np

from ase_fflux.base.jit import njit
from ase_fflux.model.multipoles import MAX_RANK, n_moments

POWERS = np.array([
    (i, j, degree - i - j)
    for degree in range(MAX_RANK + 2)
    for i in range(degree, -1, -1)
    for j in range(degree - i, -1, -1)
])
"""(i, j, k) of all monomials x^i y^j z^k, degree by degree, to one degree more than the moments."""

_PLACE = {tuple(map(int, powers)): c for c, powers in enumerate(POWERS)}
RAISED = np.array([
    [_PLACE[tuple(map(int, powers + step))] for step in np.eye(3, dtype=int)]
    for powers in POWERS[POWERS.sum(axis=1) <= MAX_RANK]
])
"""Monomials of one degree more: that of c times x, y and z."""


def n_monomials(degree: int) -> int:
    """Number of monomials of degrees 0 to ``degree``."""
    return (degree + 1) * (degree + 2) * (degree + 3) // 6


def _times(one, other):
    """Product of polynomials {(i, j, k): coefficient}."""
    product = {}
    for p, a in one.items():
        for q, b in other.items():
            powers = p[0] + q[0], p[1] + q[1], p[2] + q[2]
            product[powers] = product.get(powers, 0.0) + a * b
    return product


def _plus(*terms):
    """Sum of (factor, polynomial)."""
    total = {}
    for factor, polynomial in terms:
        for powers, a in polynomial.items():
            total[powers] = total.get(powers, 0.0) + factor * a
    return total


def solid_harmonic_polynomials() -> list[dict]:
    """R_lm as {(i, j, k): coefficient of x^i y^j z^k}, in the order of `MOMENT_NAMES`.

    The recursions of `solid_harmonics`.
    """
    x, y, z = {(1, 0, 0): 1.0}, {(0, 1, 0): 1.0}, {(0, 0, 1): 1.0}
    r2 = {(2, 0, 0): 1.0, (0, 2, 0): 1.0, (0, 0, 2): 1.0}
    found = [{(0, 0, 0): 1.0}]
    for l in range(1, MAX_RANK + 1):  # noqa: E741
        lower, lowest = found[(l - 1) ** 2 :], found[max(l - 2, 0) ** 2 : (l - 1) ** 2]
        rank = []
        for k in range(2 * l - 1):
            m = (k + 1) // 2
            terms = [((2 * l - 1) / sqrt(l * l - m * m), _times(z, lower[k]))]
            if m < l - 1:
                factor = sqrt(((l - 1) ** 2 - m * m) / (l * l - m * m))
                terms.append((-factor, _times(r2, lowest[k])))
            rank.append(_plus(*terms))
        factor = sqrt((2 * l - 1) / (2 * l)) if l > 1 else 1.0
        cosine, sine = (lower[-2], lower[-1]) if l > 1 else (lower[0], {})
        rank.append(_plus((factor, _times(x, cosine)), (-factor, _times(y, sine))))
        rank.append(_plus((factor, _times(x, sine)), (factor, _times(y, cosine))))
        found += rank
    return found


def _table():
    table, double_factorial = np.zeros((n_moments(MAX_RANK), n_monomials(MAX_RANK))), 1
    for k, polynomial in enumerate(solid_harmonic_polynomials()):
        l = int(sqrt(k))  # noqa: E741
        double_factorial = np.prod(np.arange(1, 2 * l, 2), initial=1)
        for powers, coefficient in polynomial.items():
            table[k, _PLACE[powers]] = coefficient / double_factorial
    return table


TO_MONOMIALS = _table()
"""(25, 35): R_lm / (2l - 1)!! as sums of monomials."""


@njit
def substitute(matrix, degree, powers, raised, out):
    """Monomials of y = matrix x as sums of monomials of x, y^c = sum_d out[c, d] x^d.

    Parameters
    ----------
    matrix : (3, 3) array
    degree : int
        Highest degree.
    powers, raised : arrays
        `POWERS` and `RAISED`.
    out : (n, n) array, out
        Zero before; n = n_monomials(degree).
    """
    out[0, 0] = 1.0
    n = (degree * (degree + 1) * (degree + 2)) // 6
    done = 1
    for c in range(n):
        for a in range(3):
            new = raised[c, a]
            if new < done:  # reached from another monomial already
                continue
            done = new + 1
            for d in range(n):
                if out[c, d] != 0.0:
                    for b in range(3):
                        out[new, raised[d, b]] += out[c, d] * matrix[a, b]


def strain_of_moments(products: np.ndarray, rank: int) -> np.ndarray:
    """Virial of derivatives that a strain changes while the moments stay as they are.

    A strain eps turns and stretches waves, dk = -eps^T k, and so the derivatives d^c.

    Parameters
    ----------
    products : (n, n) array
        sum over sites of M_c d^d phi for monomials of degrees to ``rank``.
    rank : int

    Returns
    -------
    (3, 3) array
        dE/d eps, that with d/d eps_ab of x_b -> x_b + eps_ab x_a in row a.
    """
    virial = np.zeros((3, 3))
    for lower in range(n_monomials(rank - 1)):
        for a in range(3):
            c = RAISED[lower, a]
            virial[a] -= POWERS[c, a] * products[c, RAISED[lower]]
    return virial
