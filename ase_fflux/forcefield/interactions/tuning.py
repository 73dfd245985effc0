"""Parameters of Ewald sums from the accuracy that is asked for."""

from math import log, pi, sqrt

_WAVE = 0.3
"""Time that an atom takes with a wave in units of that of a pair of atoms."""


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
