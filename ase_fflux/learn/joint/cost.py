"""What a joint training takes, and which gradients are worth it where memory does not hold all."""

from dataclasses import dataclass

import numpy as np

from ase_fflux.base.errors import TrainingError
from ase_fflux.learn.gp.selection import select
from ase_fflux.learn.joint.blocks import PAIRS
from ase_fflux.learn.joint.data import JointData
from ase_fflux.learn.joint.system import Hyperparameters, panel_ends

_RATE = 5e10
"""Operations per second and thread of LAPACK and of large products, as measured."""
_OF_PAIRS = 4.0
"""Time of an operation on a pair of labels, relative to these: its products are small, and much of
the time goes to what is not a product."""


@dataclass(frozen=True)
class Cost:
    """Bytes of one solution, and floating-point operations, each as long as one of LAPACK."""

    memory: float
    operations: float

    def seconds(self, threads: int) -> float:
        """A rough time."""
        return self.operations / (_RATE * threads)

    def __str__(self) -> str:
        return f"{self.memory / 1e9:.2g} GB"


def solution_cost(data: JointData, n_gradients: int | None = None) -> Cost:
    """Of solving for the weights with that many gradients (default: those that are there).

    Memory: the lower triangle of the Schur complement, in panels, slopes by features and by what
    enters the kernel, covariances of energies with themselves and with totals and gradients, and
    what tiles of pairs of labels take. What may stand beside the atoms counts.
    """
    directions = data.directions.shape[2]
    g = len(data.with_gradient) if n_gradients is None else n_gradients
    size = g * directions + len(data.with_total)
    ends = np.array(panel_ends(size, len(data.with_total), directions))
    memory, operations = 8.0 * float(ends @ np.diff(ends, prepend=0)), size**3 / 3.0
    if g:
        memory += 3 * 8.0 * PAIRS
    for points in (*data.points, *(() if data.form.terms else data.beside_points)):
        members, n, columns = points.columns.shape
        energies, views = members * len(data.with_energies), len(points.view_column)
        memory += 8.0 * (energies**2 + energies * size + 2 * members * n * columns * directions)
        operations += energies**3 / 3.0 + energies**2 * size + energies * size**2
        # of each pair of labels: points with all images three times by the slopes and once by what
        # comes of it, and all slopes by each other
        images = members * views
        operations += _OF_PAIRS * 0.5 * g**2 * members * directions * (
            6.0 * columns * images + 2.0 * directions * (images + columns)
        )
    return Cost(memory, operations)


def choose_gradients(
    data: JointData, hyperparameters: Hyperparameters, max_memory: float
) -> JointData:
    """Data of which as many gradients are used as memory holds.

    Where that is not all of them, those are taken that are worst known from the ones taken before:
    the largest variance of a process whose exponent is the mean of those of all atoms.

    Parameters
    ----------
    data : JointData
        Observations.
    hyperparameters : Hyperparameters
        Theirs.
    max_memory : float
        Bytes.

    Raises
    ------
    TrainingError
        If memory does not even hold the energies.
    """
    candidates = data.with_gradient
    count = len(candidates)
    while count and solution_cost(data, count).memory > max_memory:
        count = min(count - 1, int(0.98 * count))
    if solution_cost(data, count).memory > max_memory:
        raise TrainingError(
            f"{len(data)} labels need {solution_cost(data, 0)} without any gradient, more than "
            f"the {max_memory / 1e9:.2g} GB that may be used: use fewer labels"
        )
    if count == len(candidates):
        return data
    if not count:
        return data.select_gradients(candidates[:0])
    data_in_form = data.in_form(hyperparameters.form)
    columns = np.hstack([
        atom[candidates] * np.sqrt(theta[points.feature] / data.n_atoms)
        for points, theta in zip(
            data_in_form.points, hyperparameters.theta, strict=True
        )
        for atom in points.columns
    ])
    targets = np.zeros((1, len(candidates)))  # variances do not depend on them
    chosen = select("variance", count, columns, targets, np.random.default_rng(0), 1e-8)
    return data.select_gradients(candidates[np.sort(chosen)])
