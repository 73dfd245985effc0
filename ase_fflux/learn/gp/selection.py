"""Selection of the source points on which hyperparameters are found before they are transferred.

Every method is a function (count, columns, targets, rng, noise) -> indices in any order; adding it
to the table at the end makes it known by name.
"""

import numpy as np
from scipy.spatial.distance import cdist

from ase_fflux.base.errors import TrainingError
from ase_fflux.learn.gp.pivoted import PivotedCholesky


def select(
    method: str, count: int, columns: np.ndarray, targets: np.ndarray, rng: np.random.Generator,
    noise: float,
) -> np.ndarray:
    """Choose a subset of the training points.

    Parameters
    ----------
    method : str
        ``random``: uniform. ``stratified``: one random point of each of `count` bins of the sorted
        targets. ``farthest``: the point farthest from those chosen, repeatedly. ``variance``: the
        point of largest posterior variance given those chosen, repeatedly.
    count : int
        Number of points, 1 to n.
    columns : (n, C) array
        Scaled columns of the kernel, k = exp(-|x - y|^2), see `Kernel.columns`; finite.
    targets : (P, n) array
        Training targets; finite. Only ``stratified`` looks at them.
    rng : numpy.random.Generator
        Source of all chance; the same state gives the same points.
    noise : float
        Variance on the diagonal relative to the prefactor. Only ``variance`` looks at it.

    Returns
    -------
    (count,) array of int
        Indices in ascending order, none twice.

    Raises
    ------
    TrainingError
        Unknown method, count below 1 or above n.
    """
    if method not in _METHODS:
        raise TrainingError(
            f"unknown selection of source points {method!r}: choose from {', '.join(METHODS)}"
        )
    if not 1 <= count <= len(columns):
        raise TrainingError(
            f"{count} source points cannot be selected from {len(columns)} training points: "
            f"choose from 1 to {len(columns)}"
        )
    return np.sort(_METHODS[method](count, columns, targets, rng, noise))


def _random(count, columns, targets, rng, noise):
    return rng.choice(len(columns), count, replace=False)


def _stratified(count, columns, targets, rng, noise):
    """One random point of each of `count` bins, whose populations differ by one at most.

    Several targets are sorted by the first principal component of the standardised targets. Equal
    values keep the order of the data.
    """
    spread = targets.std(axis=1, keepdims=True)
    # a moment that symmetry makes vanish is rounding of the others, which standardising would raise
    constant = spread <= 1e-12 * np.abs(targets).max()
    standard = (targets - targets.mean(axis=1, keepdims=True)) / np.where(constant, np.inf, spread)
    component = np.linalg.eigh(standard @ standard.T)[1][:, -1] @ standard
    edges = np.arange(count + 1) * len(component) // count
    return np.argsort(component, kind="stable")[rng.integers(edges[:-1], edges[1:])]


def _farthest(count, columns, targets, rng, noise):
    """Farthest points after a random first one.

    The largest distance of a point to its nearest chosen one is at most twice the smallest that
    `count` points can have (Gonzalez, Theor. Comput. Sci. 1985, 38, 293).
    """
    return _farthest_after([rng.integers(len(columns))], count, columns)


def _farthest_after(chosen: list, count: int, columns: np.ndarray) -> list:
    """Append farthest points until there are `count`; the first of equally far ones."""
    nearest = np.full(len(columns), np.inf)
    for m in range(count):
        if m == len(chosen):
            chosen.append(np.argmax(nearest))
        np.minimum(nearest, _squared_distances(columns, chosen[m]), out=nearest)
        nearest[chosen[m]] = -1.0  # below a copy of a chosen point, which may be chosen
    return chosen


def _variance(count, columns, targets, rng, noise):
    """Points of largest posterior variance after a random first one.

    This is the Cholesky decomposition of K + noise with diagonal pivoting. Once all remaining
    variances are below n times the rounding of the prior variance 1 (the criterion of LAPACK's
    dpstrf), which takes a noise as small, they say nothing, and the points farthest from those
    chosen follow.
    """
    n = len(columns)
    chosen = [rng.integers(n)]
    factor = PivotedCholesky(np.ones(n), count - 1, noise)
    for _ in range(count - 1):
        factor.take(chosen[-1], np.exp(-_squared_distances(columns, chosen[-1])))
        factor.variance[chosen[-1]] = -np.inf
        largest = np.argmax(factor.variance)
        if factor.variance[largest] <= n * np.finfo(float).eps:
            return _farthest_after(chosen, count, columns)
        chosen.append(largest)
    return chosen


def _squared_distances(columns, i):
    return cdist(columns, columns[i, None], "sqeuclidean")[:, 0]


_METHODS = {
    "random": _random, "stratified": _stratified, "farthest": _farthest, "variance": _variance,
}
METHODS = tuple(_METHODS)
