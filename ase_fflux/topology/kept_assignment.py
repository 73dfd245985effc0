"""The assignment along a trajectory: kept as long as the atoms move in small steps."""

from collections.abc import Callable

import numpy as np

from ase_fflux.base.units import BOHR
from ase_fflux.topology.assignment import Assignment
from ase_fflux.topology.lattice import Lattice

_JUMP = 1.0
"""Displacement (Angstrom) from one call to the next beyond which it is not one trajectory."""


class KeptAssignment:
    """The assignment of the atoms of a trajectory, found anew where another one begins.

    Attributes
    ----------
    assignment : Assignment or None
        That of the last call.
    """

    def __init__(self):
        self.assignment = None
        self._last = None

    def of(self, positions, numbers, cell, pbc, match: Callable[..., Assignment]) -> Assignment:
        """That of the last call if these are its atoms a step later, else what `match` finds.

        Parameters
        ----------
        positions, numbers, cell, pbc
            As in `topology.match`, all of them arrays.
        match : callable
            Finds the assignment of these four.
        """
        if self.assignment is not None and self._goes_on(positions, numbers, cell, pbc):
            self._last = *self._last[:2], positions
            return self.assignment
        self.assignment = match(positions, numbers, cell, pbc)
        self._last = numbers.copy(), pbc.copy(), positions
        return self.assignment

    def _goes_on(self, positions, numbers, cell, pbc) -> bool:
        """Whether no atom has jumped since the last call, nor become another."""
        last_numbers, last_pbc, last_positions = self._last
        if (
            len(last_numbers) != len(numbers)
            or (last_numbers != numbers).any()
            or (last_pbc != pbc).any()
            or not np.isfinite(positions).all()
        ):
            return False
        step = positions - last_positions
        if pbc.any():
            step = Lattice(cell, pbc).shortest(step)
        return len(step) > 0 and np.linalg.norm(step, axis=1).max() < _JUMP / BOHR
