"""Means of correlated series with error bars, by blocking.

H. Flyvbjerg and H. G. Petersen, J. Chem. Phys. 91, 461 (1989): neighbours are averaged again and
again until blocks are independent, when the variance of the mean no longer grows. Where that is, is
a test of hypotheses: M. Jonsson, Phys. Rev. E 98, 043304 (2018).
"""

from dataclasses import dataclass

import numpy as np
from scipy.stats import chi2

_CONFIDENCE = 0.99
"""Of the test that blocks are independent."""

_FEWEST = 8
"""Independent blocks that an error bar needs: of so many it is known to a quarter."""


@dataclass(frozen=True)
class Mean:
    """A mean and its error.

    Attributes
    ----------
    value : float
    error : float or None
        Standard error of the mean, None where the series is too short to tell.
    block : int or None
        Number of values after which they are independent.
    """

    value: float
    error: float | None
    block: int | None


def blocked_mean(series: np.ndarray) -> Mean:
    """Mean of a stationary series and its standard error.

    With the lag-one correlations g_k and variances s_k of the n_k blocks of 2^k values, the blocks
    from level k on are independent if sum_{j >= k} n_j (g_j/s_j)^2 is no larger than chi-squared of
    as many degrees of freedom as there are terms; the first such level is taken.

    Parameters
    ----------
    series : (m,) array
        In the order of time, at equal intervals.
    """
    series = np.asarray(series, dtype=float)
    value = float(series.mean())
    if np.ptp(series) <= 1e-14 * np.abs(series).max():
        return Mean(value, 0.0, 1)
    blocks, statistic, variance, count = series - value, [], [], []
    while len(blocks) >= _FEWEST:
        centred = blocks - blocks.mean()
        spread = float(np.mean(centred**2))
        if spread == 0.0:
            break
        correlation = float(np.mean(centred[1:] * centred[:-1])) / spread
        n = len(blocks)
        # independent blocks correlate by -1/n, because their mean is taken off
        statistic.append(n * (correlation + 1.0 / n) ** 2)
        variance.append(spread / (n - 1))
        count.append(n)
        blocks = 0.5 * (blocks[: 2 * (n // 2) : 2] + blocks[1 : 2 * (n // 2) : 2])
    total = np.cumsum(statistic[::-1])[::-1]
    for level in range(len(total)):
        if total[level] <= chi2.ppf(_CONFIDENCE, len(total) - level):
            return Mean(value, float(np.sqrt(variance[level])), 2**level)
    return Mean(value, None, None)
