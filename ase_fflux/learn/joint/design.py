r"""Which geometries are worth a label, before there is any.

The covariance of the errors of a process does not depend on what its labels will say, only on where
they are. Of the geometries of a pool that one is chosen, again and again, whose label, a total
energy and its gradient, would leave the least error at the geometries of a target. With A the
covariance of the errors at a geometry of the pool with those at the target, given what is chosen,
and S that at the geometry itself, noise included, a label takes

.. math:: \Delta = \mathrm{tr}(S^{-1} A W A^T)

from their mean variance, W being the weights of the target. A and S follow a choice by an update
of the rank of one label, so that the pool is never factorised (`conditioned`). Criteria:

========  ========================================================================================
V         least mean variance of forces and of energies: the sum of the relative decreases of the
          two, in each part of the target
G         least largest variance, in the same measure, at any geometry of the target
D         largest determinant of the covariance of what is chosen: what is known least, wherever
farthest  largest distance in the metric of the process from everything that is chosen
random    none
========  ========================================================================================

(Of V, G and D: Barzdajn, Race, arXiv 2405.08636.) What a geometry of the target would learn about
itself does not count: it stands for others like it. The constant mean of the energy is a normal
variable of a variance far above that of the process. By V and D a choice can be improved as a
whole (`exchange`).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ase_fflux.base.errors import TrainingError
from ase_fflux.base.machine import threads_of
from ase_fflux.learn.joint.conditioned import CHUNK, Conditioned
from ase_fflux.learn.joint.criteria import CRITERIA, EXCHANGED, next_scores
from ase_fflux.learn.joint.data import JointData
from ase_fflux.learn.joint.exchange import Exchange, exchange
from ase_fflux.learn.joint.system import Hyperparameters


@dataclass(frozen=True, eq=False)
class Design:
    """Geometries in the order of choice, and what the process expects of each number of them.

    Attributes
    ----------
    chosen : (n,) int array
        Places in the pool.
    force, energy : (n + 1,) arrays
        Root mean square error at the first part of the target after 0, 1, ... labels: of a
        component of the force (hartree/bohr) and of the total energy (hartree), which has no
        meaning without a label. Geometries that are chosen themselves are left out of it.
    exchanged : Exchange or None
        What an exchange gained.
    """

    chosen: np.ndarray
    force: np.ndarray
    energy: np.ndarray
    exchanged: Exchange | None = None


def design(
    data: JointData,
    hyperparameters: Hyperparameters,
    pool: np.ndarray,
    target: np.ndarray,
    weights: np.ndarray,
    count: int,
    criterion: str = "V",
    *,
    parts: np.ndarray | None = None,
    exchanging: bool = False,
    seed: int = 0,
    threads: int = 1,
    max_memory: float = np.inf,
    on_choice: Callable[[int], None] = lambda n: None,
    on_trial: Callable[[int], None] = lambda n: None,
) -> Design:
    """Choose geometries to label.

    Parameters
    ----------
    data : JointData
        Geometries of pool and target; values of labels are not used.
    hyperparameters : Hyperparameters
        Of the process that is to be trained; noise is that of the first source.
    pool, target : int arrays
        Labels of the data that may be chosen, and at which errors count; they may overlap.
    weights : (T,) array
        Of the target, above zero.
    count : int
        How many to choose.
    criterion : {"V", "D", "G", "farthest", "random"}
        See above.
    parts : (T,) int array, optional
        Number of the part of the target that each geometry of it is of, from 0, ascending: errors
        that differ by much, as of hot and of cold geometries, count alike in different parts.
    exchanging : bool
        Whether labels are exchanged once all are chosen, by V or D. They are put in order again by
        choosing among them.
    seed : int
        Of a random choice.
    threads : int
        For what numba does; LAPACK has its own.
    max_memory : float
        Bytes.
    on_choice : callable, optional
        Called with the number of choices after each.
    on_trial : callable, optional
        Called with 1 after each label that was tried to be exchanged.

    Raises
    ------
    TrainingError
        More choices than geometries, another criterion, one that cannot be exchanged by, too
        little memory.
    """
    if criterion not in CRITERIA:
        raise TrainingError(f"no criterion {criterion!r}: one of {', '.join(CRITERIA)}")
    if exchanging and criterion not in EXCHANGED:
        raise TrainingError(
            f"choices are exchanged by {' or '.join(EXCHANGED)}, not by {criterion}"
        )
    if not 0 < count <= len(pool):
        raise TrainingError(f"{count} geometries cannot be chosen from {len(pool)}")
    need = design_memory(data, len(pool), len(target), count)
    if need > max_memory:
        raise TrainingError(
            f"choosing {count} of {len(pool)} geometries for {len(target)} of the target takes "
            f"{need / 1e9:.2g} GB, more than the {max_memory / 1e9:.2g} GB that are free: give "
            "fewer of them"
        )
    with threads_of(len(target) * data.directions.shape[2]):
        pool, target, weights = (np.asarray(x) for x in (pool, target, weights))
        parts = np.zeros(len(target), dtype=int) if parts is None else np.asarray(parts)
        data = data.in_form(hyperparameters.form)

        def among(places, tell) -> tuple[Conditioned, np.ndarray]:
            state = Conditioned(
                data, hyperparameters, pool[places], target, weights, parts, count, threads
            )
            scores = next_scores(criterion, state, seed)
            errors = [state.errors()]
            for n in range(1, count + 1):
                value = np.where(state.free, scores(), -np.inf)
                state.choose(int(np.argmax(value)))
                errors.append(state.errors())
                tell(n)
            return state, np.array(errors).T

        state, (force, energy) = among(np.arange(len(pool)), on_choice)
        chosen, exchanged = np.array(state.chosen), None
        if exchanging:
            exchanged = exchange(state, criterion, on_trial)
            better = np.array(state.chosen)
            state, (force, energy) = among(better, lambda n: None)
            chosen = better[state.chosen]
    return Design(chosen, force, energy, exchanged)


def design_memory(data: JointData, pool: int, target: int, count: int) -> float:
    """Bytes that a choice takes."""
    size = 1 + data.directions.shape[2]
    return 8.0 * size**2 * (pool * (target + count + 1 + 2 * CHUNK) + target * count)
