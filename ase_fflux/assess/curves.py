"""S-curves and learning curves of trained properties: their numbers, and these as CSV."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.linalg import cholesky, solve_triangular

from ase_fflux.base.errors import TrainingError
from ase_fflux.base.outputs import write_csv
from ase_fflux.base.units import HARTREE_KJ
from ase_fflux.model.molecule import ENERGY
from ase_fflux.model.process import GaussianProcess

_FRACTIONS = (16, 8, 4, 2, 1)
_FEWEST = 10


@dataclass(frozen=True)
class Unit:
    """Unit in which errors of a property are shown.

    Parameters
    ----------
    factor : float
        Its number in one atomic unit.
    name : str
        In text and on axes.
    column : str
        At the end of column names.
    """

    factor: float
    name: str
    column: str


_ENERGY, _CHARGE = Unit(HARTREE_KJ, "kJ/mol", "kJ_per_mol"), Unit(1.0, "e", "e")
_ATOMIC = Unit(1.0, "au", "au")


def unit_of(name: str) -> Unit:
    """Unit of a property: kJ/mol for ``iqa``, e for ``q00``, atomic units for other moments."""
    return {ENERGY: _ENERGY, "q00": _CHARGE}.get(name, _ATOMIC)


def s_curve(errors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Absolute errors in ascending order, and how many of all are at most as large.

    Parameters
    ----------
    errors : (m,) array
        Prediction errors of held-out points, in any unit.

    Returns
    -------
    errors : (m,) array
        Absolute errors, sorted.
    percentiles : (m,) array
        Percentage of points with an absolute error up to that; the last is 100.

    Raises
    ------
    TrainingError
        No errors, or errors that are not finite.
    """
    errors = np.sort(np.abs(errors))
    if not errors.size or not np.isfinite(errors).all():
        raise TrainingError("an S-curve needs at least one held-out point and finite errors")
    # side="right": points that are exactly as wrong share the percentile of the last of them
    return errors, 100.0 * np.searchsorted(errors, errors, side="right") / errors.size


def subset_predictions(
    process: GaussianProcess,
    features: np.ndarray,
    *,
    seed: int,
    sizes: Sequence[int] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    r"""Predictions of models trained on nested random subsets of a model's training points.

    All keep kernel and noise of the full model: hyperparameters are not optimised again. Means are
    concentrated, m = 1^T K^-1 y / 1^T K^-1 1. As the subsets are the first points of one random
    order, their Cholesky factors are the leading blocks of one, and so are the forward solutions:
    all subsets cost one factorisation of the largest.

    Parameters
    ----------
    process : GaussianProcess
        The full model of P properties, trained on n points.
    features : (m, F) array
        Held-out points (bohr, radian).
    seed : int
        Of the random order. Processes with equally many points get the same order, so that
        predictions of the atoms of a molecule can be added.
    sizes : sequence of int, optional
        Numbers of training points, 2 to n. Default: n/16, n/8, n/4, n/2 where these are at least
        10, and n.

    Returns
    -------
    sizes : (k,) array
        Numbers of training points in ascending order; n is the full model itself.
    predictions : (k, P, m) array
        In atomic units of each property.

    Raises
    ------
    TrainingError
        Sizes that are not possible; a kernel matrix that is not positive definite.
    """
    n = len(process.inputs)
    if sizes is None:
        sizes = [n // f for f in _FRACTIONS if f == 1 or n // f >= _FEWEST]
    sizes = np.unique(sizes)
    if not sizes.size or sizes[0] < 2 or sizes[-1] > n:
        raise TrainingError(
            f"a learning curve of a model of {n} points takes sizes from 2 to {n}, not "
            f"{sizes.tolist()}"
        )
    predictions = _smaller(process, features, sizes[sizes < n], seed)
    if sizes[-1] == n:
        predictions.append(process.predict(features))
    return sizes, np.array(predictions)


def _smaller(
    process: GaussianProcess, features: np.ndarray, sizes: np.ndarray, seed: int
) -> list[np.ndarray]:
    """Predictions (P, m) for each of ascending sizes below that of the process."""
    if not sizes.size:
        return []
    chosen = np.random.default_rng(seed).permutation(len(process.inputs))[: sizes[-1]]
    inputs = process.inputs[chosen]
    k = process.kernel.matrix(inputs, inputs)
    k[np.diag_indices_from(k)] += process.noise
    try:
        factor = cholesky(k, lower=True, overwrite_a=True)
    except np.linalg.LinAlgError as error:
        raise TrainingError(
            f"no learning curve: the kernel matrix of {len(chosen)} of the model's training points "
            f"is not positive definite ({error}); remove duplicate points or raise the noise level"
        ) from None
    right = np.column_stack([np.ones(len(chosen)), process.targets()[:, chosen].T])
    forward = solve_triangular(factor, right, lower=True)
    across = process.kernel.matrix(inputs, features)
    predictions = []
    for size in sizes:
        one, y = forward[:size, 0], forward[:size, 1:]
        mean = one @ y / (one @ one)
        residual = y - np.outer(one, mean)
        weights = solve_triangular(factor[:size, :size], residual, lower=True, trans="T")
        predictions.append(mean[:, None] + weights.T @ across[:size])
    return predictions


def learning_curve(
    process: GaussianProcess,
    features: np.ndarray,
    targets: np.ndarray,
    *,
    seed: int,
    sizes: Sequence[int] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Error on held-out points against the number of training points, kernel of the full model.

    Parameters
    ----------
    process, features, seed, sizes
        As in `subset_predictions`, which says what the smaller models are.
    targets : (P, m) array
        Properties of the held-out points (atomic units).

    Returns
    -------
    sizes : (k,) array
        Numbers of training points.
    rmse : (P, k) array
        Root mean square errors in atomic units of each property.

    Raises
    ------
    TrainingError
        No held-out points; as `subset_predictions`.
    """
    if not len(features):
        raise TrainingError("a learning curve needs at least one held-out point")
    sizes, predictions = subset_predictions(process, features, seed=seed, sizes=sizes)
    return sizes, np.sqrt(np.mean((predictions - targets) ** 2, axis=-1)).T


_Curves = dict[tuple[str, str], tuple[np.ndarray, np.ndarray]]


def write_s_curves(path: Path, curves: _Curves) -> None:
    """Write S-curves as CSV with the columns atom, property, abs_error_UNIT, percentile.

    Parameters
    ----------
    path : Path
        File to write.
    curves : dict of (atom, property) to (errors, percentiles)
        Errors in the unit of the property (`unit_of`), which must be the same for all.
    """
    unit = _common_unit(curves)
    _write(path, curves, f"abs_error_{unit.column}", "percentile")


def write_learning_curves(path: Path, curves: _Curves) -> None:
    """Write learning curves as CSV with the columns atom, property, points and RMSE.

    The last column is ``rmse_UNIT_with_kernel_of_full_model``.

    Parameters
    ----------
    path : Path
        File to write.
    curves : dict of (atom, property) to (sizes, rmse)
        Errors in the unit of the property (`unit_of`), which must be the same for all.
    """
    unit = _common_unit(curves)
    _write(path, curves, "points", f"rmse_{unit.column}_with_kernel_of_full_model")


def _common_unit(curves: _Curves) -> Unit:
    units = {unit_of(name) for _, name in curves}
    if len(units) != 1:
        names = sorted(unit.name for unit in units)
        raise ValueError(f"one file holds curves in one unit, not in {names}")
    return units.pop()


def _write(path: Path, curves: _Curves, first: str, second: str) -> None:
    rows = [
        (atom, name, *pair)
        for (atom, name), pairs in curves.items()
        for pair in zip(*pairs, strict=True)
    ]
    names = ("atom", "property", first, second)
    write_csv(path, dict(zip(names, zip(*rows, strict=True), strict=True)))
