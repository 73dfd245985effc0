"""Hyperparameters of few labels, from those of a model that knows more.

A handful of labels tells little of a hundred length scales. What is learned on top of a prior
varies on the scales of the prior itself, so that these are the start of a short search, in which
all classes of atoms have one variance. Where labels are more than that, a second short search from
there gives each class its own.
"""

from collections.abc import Callable
from dataclasses import replace
from time import perf_counter

import numpy as np

from ase_fflux.base.errors import TrainingError
from ase_fflux.base.machine import threads_of
from ase_fflux.learn.gp.optimisers import LBFGS
from ase_fflux.learn.gp.training import Step
from ase_fflux.learn.joint.data import JointData
from ase_fflux.learn.joint.likelihood import JointLikelihood
from ase_fflux.learn.joint.settings import JointSettings
from ase_fflux.learn.joint.system import Hyperparameters
from ase_fflux.learn.joint.training import (
    box,
    forms_for,
    initial_hyperparameters,
    not_positive_definite,
    require_enough,
)
from ase_fflux.model.kernels import Form

FEW = 10
"""Labels from which on a search of their own is better."""
FEW_OF_ANALOGUE = 50
"""The same on top of a model of a lighter analogue."""
ONE_VARIANCE, _OWN_VARIANCES = "few labels", "few labels, own variances"
"""Stages of the search."""
_EVALUATIONS = 12
"""Of each stage."""


def seeded_hyperparameters(
    data: JointData, settings: JointSettings, theta: list[np.ndarray], form: Form,
    threads: int = 1, on_step: Callable[[str, int, int], None] | None = None,
) -> tuple[Hyperparameters, tuple[Step, ...]]:
    """Those of few labels, of the form of kernels in which they are likeliest.

    Parameters
    ----------
    data, settings, threads, on_step
        As in `find_hyperparameters`.
    theta : list of (F,) arrays
        What the search starts from, of each class.
    form : Form
        Of the kernels that they are of.

    Raises
    ------
    TrainingError
        Too few labels, or covariances that are not positive definite.
    """
    require_enough(data)
    searched = [
        _searched(data.in_form(other), settings, _in_form(data, theta, form, other), threads,
                  on_step)
        for other in forms_for(data, settings)
    ]
    found, _ = min(searched, key=lambda one: one[1][-1].value)
    return found, tuple(step for _, steps in searched for step in steps)


def _in_form(
    data: JointData, theta: list[np.ndarray], form: Form, other: Form
) -> list[np.ndarray]:
    """Theta of kernels of one form in another: what features change by where labels are."""
    classes = data.points[: len(theta)]
    one, two = ([points.in_form(f).units for points in classes] for f in (form, other))
    return [t * (a / b) ** 2 for t, a, b in zip(theta, one, two, strict=True)]


def _searched(data, settings, theta, threads, on_step) -> tuple[Hyperparameters, list[Step]]:
    """The search in the form that the data are in; what the prior has no theta of starts as usual.
    """
    likelihood = JointLikelihood(data, threads)
    start = initial_hyperparameters(data, settings)
    n, variance = len(theta), start.variance.copy()
    variance[:n] = np.exp(np.log(variance[:n]).mean())
    start = replace(
        start, variance=variance,
        theta=[*(np.maximum(t, settings.bounds[0]) for t in theta), *start.theta[n:]],
    )
    low, high = box(likelihood, start, settings)
    x = likelihood.pack(start)
    steps: list[Step] = []
    for stage, together in ((ONE_VARIANCE, n), (_OWN_VARIANCES, 1))[: 1 + (len(data) >= FEW)]:
        begin, search = perf_counter(), _Objective(likelihood, stage, together, on_step)
        try:
            with threads_of(max(data.n_observed)):
                found = LBFGS(budget=_EVALUATIONS).minimise(
                    search, search.reduced(x)[None], (search.reduced(low), search.reduced(high)),
                    np.random.default_rng(0),
                )
        except TrainingError:  # of the optimiser, which finds no finite value to start from
            raise not_positive_definite(len(data)) from None
        x = search.expanded(found.log_theta)
        steps.append(Step(
            stage, len(data), len(search.values), perf_counter() - begin, search.values[0],
            min(search.values), steps[-1].stage if steps else "the prior's length scales",
            str(data.form),
        ))
    return likelihood.unpack(x), steps


class _Objective:
    """A likelihood as function of hyperparameters, where the first classes have one variance."""

    def __init__(self, likelihood: JointLikelihood, stage: str, together: int, on_step):
        self.likelihood, self.stage, self.on_step = likelihood, stage, on_step
        tie, first = np.arange(likelihood.size), likelihood.parts[1].start
        tie[first : first + together] = first
        _, self._first, self._tie = np.unique(tie, return_index=True, return_inverse=True)
        self.values: list[float] = []

    def reduced(self, x: np.ndarray) -> np.ndarray:
        """Of variances that are one the first."""
        return x[self._first]

    def expanded(self, x: np.ndarray) -> np.ndarray:
        """The inverse of `reduced`."""
        return x[self._tie]

    def value(self, x):
        return self.value_and_gradient(x)[0]

    def value_and_gradient(self, x):
        value, gradient = self.likelihood.value_and_gradient(self.expanded(x))
        self.values.append(value)
        if self.on_step is not None:
            self.on_step(self.stage, len(self.likelihood.data), len(self.values))
        return value, np.bincount(self._tie, gradient)
