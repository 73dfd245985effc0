r"""Electrostatic potentials of Gaussian functions at many points.

The potential of a solid harmonic times a Gaussian is again one,

.. math:: \int \frac{S_{lm}(r) e^{-a r^2}}{|r - C|} dr = \frac{2\pi}{a} S_{lm}(C) F_l(a C^2)

with the Boys function F, and a power r^2 in front of the Gaussian is minus a derivative by a. A
Cartesian shell of degree L is a sum of such terms with l = L, L - 2, ..., so that one value of the
Boys function serves all functions of a shell. That is a hundred times faster than integrals over
pairs of functions.
"""

from math import pi

import numpy as np
from scipy.special import gamma, gammainc

from ase_fflux.base.jit import njit
from ase_fflux.model.multipoles import solid_harmonics

_STEP, _END = 0.05, 60.0
"""Table of the Boys function: spacing and end; beyond the end its asymptote is exact."""
_ORDER = 13
"""Orders tabulated: Taylor expansion of four terms above l = 8."""


def _boys_table() -> np.ndarray:
    t = np.arange(0, _END + 2 * _STEP, _STEP)[:, None]
    m = np.arange(_ORDER)[None, :] + 0.5
    with np.errstate(divide="ignore", invalid="ignore"):
        values = 0.5 * gamma(m) * gammainc(m, t) / t**m
    values[0] = 1 / (2 * m[0])
    # the incomplete gamma function loses digits at small arguments: series instead
    small = t[:, 0] < 1
    series, term = np.zeros((small.sum(), _ORDER)), 1 / (2 * m)
    for k in range(1, 30):
        series = series + term
        term = term * t[small] / (m + k)
    values[small] = np.exp(-t[small]) * series
    return np.ascontiguousarray(values)


_TABLE = _boys_table()
_HALF_GAMMA = np.array([0.5 * gamma(m + 0.5) for m in range(_ORDER)])


@njit
def _boys(m, t):
    """Boys function of order m to about 1e-12."""
    if t > _END - 1:
        return _HALF_GAMMA[m] / t ** (m + 0.5)
    n = int(t / _STEP + 0.5)
    d = n * _STEP - t
    row = _TABLE[n]
    return row[m] + d * (row[m + 1] + d / 2 * (row[m + 2] + d / 3 * (
        row[m + 3] + d / 4 * row[m + 4])))


class GaussianPotentials:
    """Potentials of the functions of an auxiliary basis.

    Parameters
    ----------
    auxmol : pyscf.gto.Mole
        The basis; Cartesian or spherical, up to l = 6.
    """

    def __init__(self, auxmol):
        centres, exponents, degrees, terms, first = [], [], [], [], [0]
        columns, rows, factors = [], [], []
        n = 0
        for shell in range(auxmol.nbas):
            degree, n_functions = auxmol.bas_angular(shell), auxmol.bas_nctr(shell)
            size = (degree + 1) * (degree + 2) // 2 if auxmol.cart else 2 * degree + 1
            pieces = _cartesian(degree) if auxmol.cart else _spherical(degree)
            coefficients = auxmol._libcint_ctr_coeff(shell)
            for e, exponent in enumerate(auxmol.bas_exp(shell)):
                centres.append(auxmol.bas_atom(shell))
                exponents.append(exponent)
                degrees.append(degree)
                for c in range(n_functions):
                    scale = coefficients[e, c] * _common_factor(degree)
                    for function, power, harmonic, value in pieces:
                        rows.append(n + c * size + function)
                        columns.append(harmonic)
                        terms.append(power)
                        factors.append(scale * value)
                first.append(len(rows))
            n += n_functions * size
        self.n = n
        self._atoms = auxmol.atom_coords()
        self._tables = tuple(
            np.array(x, dtype=t) for x, t in (
                (centres, np.int64), (exponents, float), (degrees, np.int64), (first, np.int64),
                (rows, np.int64), (columns, np.int64), (terms, np.int64), (factors, float),
            )
        )
        self._rank = max(degrees)

    def at(self, points: np.ndarray) -> np.ndarray:
        """Potentials (functions, points) in atomic units at points (g, 3) in bohr."""
        out = np.zeros((self.n, len(points)))
        harmonics = np.empty((len(self._atoms), len(points), (self._rank + 1) ** 2))
        for atom, centre in enumerate(self._atoms):
            harmonics[atom] = _solid(points - centre, self._rank)
        _fill(points, self._atoms, harmonics, *self._tables, out)
        return out


@njit
def _fill(points, atoms, harmonics, centre, exponent, degree, first, row, column, term, factor,
          out):
    g_count = points.shape[0]
    radial = np.empty((4, g_count))
    for p in range(len(centre)):
        a, atom, top = exponent[p], centre[p], degree[p]
        for g in range(g_count):
            r2 = 0.0
            for k in range(3):
                r2 += (points[g, k] - atoms[atom, k]) ** 2
            t = a * r2
            # (-d/da)^k 2 pi/a F_l(a r^2), l = L - 2k
            f = _boys(top, t)
            radial[0, g] = 2 * pi / a * f
            if first[p + 1] - first[p] > 2 * top + 1:
                for k in range(1, top // 2 + 1):
                    low = top - 2 * k
                    if k == 1:
                        radial[1, g] = 2 * pi / a * (_boys(low, t) / a + r2 * _boys(low + 1, t))
                    elif k == 2:
                        radial[2, g] = 2 * pi / a * (
                            2 / (a * a) * _boys(low, t) + 2 * r2 / a * _boys(low + 1, t)
                            + r2 * r2 * _boys(low + 2, t)
                        )
                    else:
                        radial[3, g] = 2 * pi / a * (
                            6 / a**3 * _boys(low, t) + 6 * r2 / (a * a) * _boys(low + 1, t)
                            + 3 * r2 * r2 / a * _boys(low + 2, t) + r2**3 * _boys(low + 3, t)
                        )
        for i in range(first[p], first[p + 1]):
            for g in range(g_count):
                out[row[i], g] += factor[i] * radial[term[i], g] * harmonics[atom, g, column[i]]


def _common_factor(degree: int) -> float:
    """What libcint multiplies s and p functions with: sqrt((2l + 1) / 4 pi)."""
    return ((2 * degree + 1) / (4 * pi)) ** 0.5 if degree < 2 else 1.0


def _solid(positions: np.ndarray, rank: int) -> np.ndarray:
    return solid_harmonics(positions, rank)


def _cartesian(degree: int) -> list[tuple[int, int, int, float]]:
    """x^a y^b z^c (libcint's order) as sums of r^2k S_lm: (function, k, lm, factor)."""
    powers = [
        (a, b, degree - a - b) for a in range(degree, -1, -1) for b in range(degree - a, -1, -1)
    ]
    x = np.random.default_rng(0).standard_normal((200, 3))
    monomials = np.array([np.prod(x**np.array(p), axis=1) for p in powers]).T
    r2, harmonics = (x**2).sum(axis=1), _solid(x, degree)
    labels, columns = [], []
    for k in range(degree // 2 + 1):
        low = degree - 2 * k
        for lm in range(low * low, (low + 1) ** 2):
            labels.append((k, lm))
            columns.append(r2**k * harmonics[:, lm])
    solution = np.linalg.lstsq(np.array(columns).T, monomials, rcond=None)[0]
    return [
        (function, *labels[i], float(solution[i, function]))
        for function in range(len(powers)) for i in range(len(labels))
        if abs(solution[i, function]) > 1e-12
    ]


def _spherical(degree: int) -> list[tuple[int, int, int, float]]:
    """Real spherical functions in libcint's order: p as x, y, z, others m = -l to l."""
    norm = ((2 * degree + 1) / (4 * pi)) ** 0.5 if degree > 1 else 1.0
    if degree == 1:
        places = [2, 3, 1]
    else:
        places = [
            degree * degree + (2 * m - 1 if m > 0 else -2 * m) for m in range(-degree, degree + 1)
        ]
    return [(function, 0, place, norm) for function, place in enumerate(places)]
