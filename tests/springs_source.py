"""A source of labels in a module of its own, which worker processes can import."""

import os

import numpy as np

from ase_fflux.base.errors import LabelError
from ase_fflux.base.units import BOHR
from ase_fflux.labels.label import Label
from ase_fflux.labels.source import Rejected


class Springs:
    """A source of two atoms on a spring; long ones do not converge."""

    method, partition, settings = "springs", "", {"k": 1}

    def __init__(self):
        self.asked = 0

    def check(self, atoms):
        if atoms.pbc.any():
            raise LabelError("periodic")

    def label(self, atoms):
        self.asked += 1
        x = atoms.positions / BOHR
        d = x[1] - x[0]
        if np.linalg.norm(d) > 9:
            os._exit(1)  # as the system ends a process for lack of memory
        if not d.any():
            raise LabelError(f"atoms on top of each other in {atoms.symbols}")
        if np.linalg.norm(d) > 2.5:
            raise Rejected(f"{atoms.symbols} is too long")
        gradient = np.array([-d, d])
        return Label(("H", "H"), x, 0.5 * d @ d, gradient, np.full(2, 0.25 * d @ d),
                     method=self.method, settings=self.settings)
