r"""What labels can do before there are any: degrees of freedom, fewest labels, expected errors.

The forces at n geometries of the target have a prior covariance K of eigenvalues
:math:`\lambda_1 \geq \lambda_2 \geq \dots` (over 3N n components). Labels that tell m numbers leave
a mean variance of at least :math:`\sum_{i > m} \lambda_i / (3 N n)`, whatever these numbers are (Ky
Fan's theorem): so many are needed for a goal, at least. The effective degrees of freedom at an
error e are :math:`\sum_i \lambda_i / (\lambda_i + e^2)`.
"""

from dataclasses import dataclass

import numpy as np

from ase_fflux.assess.learning import LearningCurve
from ase_fflux.base.units import FORCE
from ase_fflux.learn.joint.conditioned import label_covariance
from ase_fflux.workflows.select import Process, Selection, Target

_GEOMETRIES = 80
"""Of the target, for the eigenvalues."""


@dataclass(frozen=True)
class Feasibility:
    """A report.

    Attributes
    ----------
    goal : float
        Force RMSE (eV/Angstrom).
    degrees_of_freedom : float
        Effective ones of the forces at the target, at the goal.
    numbers_of_label : int
        What one label tells: an energy and a gradient without translation and rotation.
    least : int or None
        Fewest labels with which any choice could reach the goal; None where the geometries of the
        target are too few to tell.
    expected : int or None
        Labels with which this choice is expected to reach it; None where none would.
    extrapolated : bool
        Whether these are more than were chosen.
    """

    goal: float
    degrees_of_freedom: float
    numbers_of_label: int
    least: int | None
    expected: int | None
    extrapolated: bool


def feasibility(
    process: Process, target: Target, selection: Selection, goal: float
) -> Feasibility:
    """What a goal needs.

    Parameters
    ----------
    process : Process
    target : Target
        Its first part counts.
    selection : Selection
    goal : float
        Force RMSE (eV/Angstrom).
    """
    places = target.first.places
    some = places[np.unique(np.linspace(0, len(places) - 1, _GEOMETRIES).astype(int))]
    n, size = len(some), 1 + process.data.directions.shape[2]
    prior = label_covariance(process.data, process.hyperparameters, some, some)
    forces = prior[:, 1:, n:].reshape(n * (size - 1), -1)
    values = np.maximum(np.linalg.eigvalsh(0.5 * (forces + forces.T))[::-1], 0.0) * FORCE**2
    components = n * process.data.directions.shape[1]
    left = np.append(values[::-1].cumsum()[::-1], 0.0) / components
    numbers = int(np.argmax(left <= goal**2))
    least = -(-numbers // size)
    expected, extrapolated = _reached(selection.force_rmse, goal)
    return Feasibility(
        goal, float((values / (values + goal**2)).sum()), size, least if 2 * least < n else None,
        expected, extrapolated,
    )


def _reached(errors: np.ndarray, goal: float) -> tuple[int | None, bool]:
    """Labels at which errors fall below a goal, and whether these are more than there are."""
    below = errors <= goal
    if below.any():
        return int(np.argmax(below)) + 1, False
    count = len(errors)
    if count < 4:
        return None, True
    sizes = tuple(sorted({count // 4, count // 2, count} - {0}))
    curve = LearningCurve(sizes, tuple(float(errors[n - 1]) for n in sizes))
    if curve.exponent < 0.1:
        return None, True
    return curve.needed(goal), True


def format_feasibility(report: Feasibility) -> list[str]:
    """Lines for the screen."""
    least = "more than the target tells" if report.least is None else f"{report.least}"
    if report.expected is None:
        needed = "out of reach of more labels from this pool"
    elif report.extrapolated:
        needed = f"about {report.expected}, from the slope of the last ones"
    else:
        needed = f"{report.expected}"
    return [
        f"forces to {report.goal:g} eV/A at the target: {report.degrees_of_freedom:.0f} effective "
        f"degrees of freedom, of which a label tells {report.numbers_of_label}",
        f"labels that no choice could do without: {least}",
        f"labels of this choice that are expected to do: {needed}",
    ]
