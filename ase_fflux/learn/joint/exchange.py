"""Labels that are chosen are exchanged for others while that makes the whole choice better.

The exchange of Fedorov as Cook and Nachtsheim (Technometrics 22, 315, 1980) order it: each label of
the choice in turn is taken away, and the best of the pool takes its place, itself where there is
no better one. A choice that was made one by one is nearly the best of its size, seldom the best.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ase_fflux.learn.joint.conditioned import Conditioned
from ase_fflux.learn.joint.criteria import next_scores, remaining

PASSES = 5
"""Rounds over the choice, at most; the last one usually exchanges nothing."""
_LEAST = 1e-6
"""Gain of the criterion that is more than rounding."""


@dataclass(frozen=True)
class Exchange:
    """What came of it.

    Attributes
    ----------
    swaps : int
        Labels that made way for others; one that came in may go again.
    passes : int
        Rounds over the choice.
    gain : float
        By which `remaining` fell: of V the mean logarithm of expected errors.
    """

    swaps: int
    passes: int
    gain: float


def exchange(
    state: Conditioned, criterion: str, on_trial: Callable[[int], None] = lambda n: None
) -> Exchange:
    """Exchange what is chosen.

    Parameters
    ----------
    state : Conditioned
        Given a choice; given the better one afterwards.
    criterion : {"V", "D"}
    on_trial : callable, optional
        Called with 1 after each label that was tried.
    """
    scores = next_scores(criterion, state, 0)
    start = best = remaining(criterion, state)
    swaps = passes = 0
    while passes < PASSES:
        passes, before = passes + 1, swaps
        for place in tuple(state.chosen):
            state.drop(place)
            other = int(np.argmax(np.where(state.free, scores(), -np.inf)))
            state.choose(other)
            if other != place:
                value = remaining(criterion, state)
                if value < best - _LEAST:
                    swaps, best = swaps + 1, value
                else:
                    # the scores are of the first order, and do not see all of it
                    state.drop(other)
                    state.choose(place)
            on_trial(1)
        if swaps == before:
            break
    return Exchange(swaps, passes, start - best)
