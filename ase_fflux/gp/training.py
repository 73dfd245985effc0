"""Hyperparameters of a Gaussian process by maximum likelihood."""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

from ase_fflux.errors import TrainingError
from ase_fflux.gp.kernels import azimuths
from ase_fflux.gp.likelihood import ConcentratedLikelihood
from ase_fflux.gp.process import GaussianProcess

_WALL = 1e3


@dataclass(frozen=True)
class TrainingSettings:
    """How hyperparameters are found.

    Parameters
    ----------
    noise : float
        Variance on the diagonal relative to the prefactor. A smaller one makes weights so large
        (1e5 Ha) that cancellation among them limits the energy to 1e-9 eV.
    bounds : tuple of float
        Range of theta. The upper bound matters for small molecules, whose likelihood would choose
        length scales too short for good derivatives.
    max_iterations : int
        Limit of L-BFGS iterations.
    """

    noise: float = 1e-8
    bounds: tuple[float, float] = (1e-6, 3.0)
    max_iterations: int = 60


@dataclass(frozen=True)
class TrainingResult:
    """A trained process, -ln L (concentrated) at its optimum and the number of evaluations."""

    process: GaussianProcess
    objective: float
    evaluations: int


def initial_theta(features: np.ndarray, bounds: tuple[float, float]) -> np.ndarray:
    """Starting theta (F,): features count alike, and typical points correlate by exp(-1/2)."""
    spread = np.std(features, axis=0)
    phi = azimuths(features.shape[1])
    if phi.any():
        z = np.exp(1j * features[:, phi])
        spread[phi] = np.sqrt(np.maximum(1.0 - np.abs(z.mean(axis=0)) ** 2, 0.0))
    theta = 0.25 / (features.shape[1] * np.maximum(spread, 1e-3) ** 2)
    return np.clip(theta, *bounds)


def train(features: np.ndarray, targets: np.ndarray, settings: TrainingSettings) -> TrainingResult:
    """Train one process on P outputs that share its length scales.

    Parameters
    ----------
    features : (n, F) array
        Training features (bohr, radian).
    targets : (P, n) array
        Training targets.
    settings : TrainingSettings
        Noise, bounds and limits.

    Raises
    ------
    TrainingError
        Fewer than two points, numbers that are not finite, a kernel matrix that is not positive
        definite at the start.
    """
    if len(features) < 2:
        raise TrainingError(f"{len(features)} training points are too few: at least 2 are needed")
    likelihood = ConcentratedLikelihood(features, targets, settings.noise)
    start = np.log(initial_theta(features, settings.bounds))
    bounds = [np.log(settings.bounds)] * features.shape[1]
    scale = float(likelihood.targets.size)

    def objective(log_theta):
        value, gradient = likelihood.value_and_gradient(log_theta)
        # a finite wall, because a line search cannot interpolate infinity
        return (value / scale if np.isfinite(value) else _WALL), gradient / scale

    if objective(start)[0] == _WALL:
        raise TrainingError(
            "the kernel matrix of the starting length scales is not positive definite: remove "
            "duplicate training points or raise the noise level"
        )
    found = minimize(
        objective, start, jac=True, method="L-BFGS-B", bounds=bounds,
        options=dict(maxiter=settings.max_iterations, maxcor=20, ftol=1e-7),
    )
    return TrainingResult(
        likelihood.process(np.exp(found.x)), float(found.fun * scale), int(found.nfev)
    )
