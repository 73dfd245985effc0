"""Relaxation of transferred hyperparameters by few steps with transferred curvature."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ase_fflux.learn.gp.optimisers import Objective, Outcome

PROBES = 32
"""Random vectors of an estimated gradient; for one output its error is then 1 to 3 %."""

_DAMPING, _SLIGHT = 5.0, 0.5
_LONGEST = 1.5
_SIGNIFICANT = 1.0


@dataclass(frozen=True)
class Relaxed(Outcome):
    """An outcome with the curvature (H, H) as it was learned on the way."""

    curvature: np.ndarray


def relax(
    objective: Objective,
    start: np.ndarray,
    box: np.ndarray,
    curvature: np.ndarray,
    evaluations: int,
    rng: np.random.Generator | None = None,
    on_step: Callable[[int, float], None] | None = None,
) -> Relaxed:
    """Minimise -ln L from a good start whose curvature is known from a source.

    Levenberg-Marquardt steps, -(H + mu)^-1 gradient, with a matrix H that begins as the source's
    information and learns from every gradient (BFGS update with Powell's damping; Nocedal, Wright,
    Numerical Optimization, 2nd ed., Springer 2006, procedure 18.2). Few steps need few digits:
    gradients may be estimated with random probes, values are exact. The last evaluation is a value
    alone, which accepts or rejects the last step.

    Parameters
    ----------
    objective : Objective
        On the whole set; a `Likelihood` if probes are wanted.
    start : (H,) array
        Logarithms of the hyperparameters.
    box : (2, H) array
        Their bounds.
    curvature : (H, H) array
        Expected second derivatives on the whole set.
    evaluations : int
        Limit. It ends earlier when a step promises to lower -ln L by less than 1, a factor of e in
        the likelihood.
    rng : numpy.random.Generator, optional
        Of the probes; without it, gradients are exact.
    on_step : callable, optional
        As in `Optimiser.minimise`.

    Returns
    -------
    Relaxed
        The best point evaluated; its value is inf where the kernel matrix of the start is not
        positive definite.
    """
    probes = ()
    if rng is not None:
        shape = (len(objective.features), PROBES)
        probes = (np.asfortranarray(rng.choice([-1.0, 1.0], size=shape)),)
    x = np.clip(start, *box)
    value, gradient = objective.value_and_gradient(x, *probes)
    history, damping = [(1, value)], _DAMPING
    if on_step is not None:
        on_step(1, value)
    while np.isfinite(value) and len(history) < evaluations:
        free = np.where(gradient > 0, x > box[0], x < box[1])
        if -0.5 * gradient @ _step(curvature, gradient, free, _SLIGHT) < _SIGNIFICANT:
            break
        step = _step(curvature, gradient, free, damping)
        step *= min(1.0, _LONGEST / np.abs(step).max())
        trial = np.clip(x + step, *box)
        if len(history) == evaluations - 1:
            new, slope = objective.value(trial), None
        else:
            new, slope = objective.value_and_gradient(trial, *probes)
        if slope is not None and np.isfinite(new):
            curvature = updated(curvature, trial - x, slope - gradient)
        if new < value:
            x, value, gradient = trial, new, slope
            damping = max(damping / 4.0, _DAMPING)
        else:
            damping *= 4.0
        history.append((len(history) + 1, value))
        if on_step is not None:
            on_step(len(history), value)
    return Relaxed(x, float(value), len(history), history, curvature)


def _step(
    curvature: np.ndarray, gradient: np.ndarray, free: np.ndarray, damping: float
) -> np.ndarray:
    """-(H + damping)^-1 gradient among the hyperparameters that no bound holds back."""
    step, hessian = np.zeros_like(gradient), curvature[np.ix_(free, free)]
    step[free] = -np.linalg.solve(hessian + damping * np.eye(len(hessian)), gradient[free])
    return step


def updated(b: np.ndarray, step: np.ndarray, change: np.ndarray) -> np.ndarray:
    """The matrix that maps the step on the change of the gradient, damped to stay positive."""
    image = b @ step
    expected, seen = step @ image, step @ change
    if expected <= 1e-12 * (step @ step):
        return b  # features that the source knows nothing of, such as constant ones
    if seen < 0.2 * expected:
        share = 0.8 * expected / (expected - seen)
        change = share * change + (1.0 - share) * image
    return b - np.outer(image, image) / expected + np.outer(change, change) / (step @ change)
