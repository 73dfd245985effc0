"""Minimum images in a periodic cell."""

import numpy as np
from ase.cell import Cell

from ase_fflux.base.errors import GeometryError
from ase_fflux.base.units import BOHR

_THINNEST, _LONGEST = 0.5, 1e6
"""bohr. Across a thinner cell atoms meet their own images, too many to list; the list of neighbours
counts bins along each vector, and their product overflows beyond a longer one."""


class Lattice:
    """Minimum images of vectors shorter than half the smallest height of the cell."""

    def __init__(self, cell, pbc):
        self.pbc = np.broadcast_to(False if pbc is None else np.asarray(pbc, dtype=bool), 3)
        if not self.pbc.any():
            # The cell of a non-periodic system has no meaning, and may well be flat or absent.
            self.cell = self.inverse = np.eye(3)
            self.half_height = np.inf
            return
        given = Cell.new(np.zeros((3, 3)) if cell is None else cell)
        if not np.isfinite(given.array).all():
            raise GeometryError("the cell has a number that is not finite")
        self.cell = given.complete().array
        if not (given.lengths() > 0)[self.pbc].all() or abs(np.linalg.det(self.cell)) < 1e-9:
            raise GeometryError(
                f"periodic directions {self.pbc.tolist()} need cell vectors that span them"
            )
        self.inverse = np.linalg.inv(self.cell)
        heights = 1 / np.linalg.norm(self.inverse, axis=0)
        if heights[self.pbc].min() < _THINNEST or given.lengths().max() > _LONGEST:
            raise GeometryError(
                f"the cell is {heights[self.pbc].min() * BOHR:.3g} Angstrom thin and "
                f"{given.lengths().max() * BOHR:.3g} long, which holds no molecules: are its units "
                "Angstrom?"
            )
        self.half_height = heights[self.pbc].min() / 2

    def images(self, vectors):
        """Cells (..., 3) int to add to `vectors` (..., 3) for the shortest image.

        By rounding fractional coordinates: exact in any cell if the shortest image is shorter
        than half the smallest height, since a fractional coordinate is at most length / height.
        """
        return -np.rint(vectors @ self.inverse).astype(int) * self.pbc

    def shortest(self, vectors):
        """Minimum images (..., 3) of `vectors` (..., 3)."""
        return vectors + self.images(vectors) @ self.cell
