"""Parameters of Ewald sums from the accuracy that is asked for, at the least cost.

The costs are times on one core of 2020's servers in nanoseconds; only their ratios matter, and
those little, for the minimum is flat.
"""

from functools import lru_cache
from math import log, pi, sqrt

import numpy as np

_PAIR = (49.0, 69.0, 108.0, 176.0, 272.0)
"""Time of a pair of atoms by rank."""

_WAVE = 0.3
"""Time that an atom takes with a wave in units of that of a pair of atoms."""

_POINT = 20.0
"""Time of a mesh point: two Fourier transforms and what is between them."""

_ORDERS = (8, 12, 16)
"""Of splines: those that fill the registers."""

_CUTOFFS = 8.0 * 2 ** (np.arange(37) / 6)
"""bohr"""


def decay(accuracy: float) -> float:
    """x at which exp(-x^2) has fallen so far that nothing beyond it is missed.

    The real-space part ends at x = alpha r, the sum over waves at x = k / (2 alpha).
    """
    return sqrt(log(10.0 / accuracy))


def plain_parameters(n: int, volume: float, accuracy: float) -> tuple[float, float, float]:
    """alpha, cut-off and longest wave of the cheapest plain Ewald sum.

    Pairs take n^2 2 pi/3 r^3 / V, waves n V k^3 / (12 pi^2) steps; with alpha r = k / (2 alpha) = x
    their sum is least for r^6 = x^6 V^2 t / (pi^3 n), t the time of a step with a wave in units of
    a pair's (compare Perram, Petersen, de Leeuw, Mol. Phys. 1988, 65, 875).

    Parameters
    ----------
    n : int
        Number of atoms.
    volume : float
        bohr^3
    accuracy : float

    Returns
    -------
    tuple of float
        1/bohr, bohr, 1/bohr.
    """
    x = decay(accuracy)
    alpha = sqrt(pi) * (n / (_WAVE * volume**2)) ** (1 / 6)
    return alpha, x / alpha, 2 * alpha * x


def plain_cost(n: int, volume: float, rank: int, accuracy: float) -> float:
    """Time of a plain sum (ns)."""
    _, cutoff, k_max = plain_parameters(n, volume, accuracy)
    waves = n * volume * k_max**3 / (12 * pi**2)
    return _PAIR[rank] * (_pairs(n, volume, cutoff) + _WAVE * waves)


def _pairs(n, volume, cutoff):
    return n**2 * 2 * pi / 3 * cutoff**3 / volume


@lru_cache(maxsize=1024)
def mesh_spacing(order: int, accuracy: float) -> float:
    """Spacing of the mesh in units of 1/alpha.

    Of a wave with s = k h / 2 pi the splines give back a share 2 [s/(1 - s)]^p as its alias; the
    Gaussian holds exp(-(pi s / alpha h)^2) of the wave. The largest product is the error.
    """
    s = np.linspace(0.005, 0.5, 200)
    alias = log(2.0) + order * np.log(s / (1 - s))
    spacings = np.linspace(0.01, 1.0, 500)
    errors = np.max(alias - (pi * s / spacings[:, None]) ** 2, axis=1)
    return float(spacings[np.searchsorted(errors, log(accuracy)) - 1])


def mesh_parameters(
    n: int, volume: float, rank: int, accuracy: float
) -> tuple[float, tuple[float, float, float, int]]:
    """Time (ns), and alpha, cut-off, spacing and order of the cheapest sum on a mesh.

    Parameters as of `plain_parameters`, and the interaction rank. Lengths are in bohr.
    """
    x = sqrt(log(2.0 * (1 + rank) / accuracy))
    choices = []
    for order in _ORDERS:
        for cutoff in map(float, _CUTOFFS):
            alpha = x / cutoff
            # The energy of the waves, of which this is a share, holds self terms, which for atoms
            # of neutral molecules grow with alpha far beyond what is left of it; and derivatives
            # see more of an alias than of its wave. Calibrated on liquids at ranks 0 to 4.
            share = accuracy / (10 * (1 + rank)) * min(1.0, (0.25 / alpha) ** 4)
            spacing = mesh_spacing(order, share) / alpha
            sites = n * 1300.0 * (order / 8) ** 2.2 * (1 + 0.35 * rank)
            points = max(volume / spacing**3, order**3)
            time = _PAIR[rank] * _pairs(n, volume, cutoff) + _POINT * points + sites
            choices.append((time, (alpha, cutoff, spacing, order)))
    return min(choices)
