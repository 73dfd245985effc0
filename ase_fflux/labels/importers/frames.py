"""Labelled geometries of other programs, one by one, before they are known to be one molecule."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from ase import units

from ase_fflux.base.errors import LabelError
from ase_fflux.base.units import BOHR, FORCE, HARTREE, KCAL_PER_MOL, KJ_PER_MOL
from ase_fflux.labels.label import UNKNOWN

ENERGY_UNITS = {
    "eV": 1.0, "meV": 1e-3, "kcal/mol": KCAL_PER_MOL, "kJ/mol": KJ_PER_MOL,
    "hartree": units.Hartree, "rydberg": units.Rydberg,
}
"""eV per unit."""
LENGTH_UNITS = {"Angstrom": 1.0, "bohr": units.Bohr, "nm": 10.0}
"""Angstrom per unit."""


@dataclass(frozen=True)
class Units:
    """Units of a file by their names in `ENERGY_UNITS` and `LENGTH_UNITS`; forces have both."""

    energy: str = "eV"
    length: str = "Angstrom"

    def __post_init__(self):
        for value, known in ((self.energy, ENERGY_UNITS), (self.length, LENGTH_UNITS)):
            if value not in known:
                raise LabelError(f"no unit {value!r}: use one of {', '.join(known)}")

    def __str__(self) -> str:
        return f"{self.energy}, {self.length}"

    @property
    def in_hartree(self) -> float:
        """hartree per unit of energy."""
        return ENERGY_UNITS[self.energy] / HARTREE

    @property
    def in_bohr(self) -> float:
        """bohr per unit of length."""
        return LENGTH_UNITS[self.length] / BOHR

    @property
    def in_gradient(self) -> float:
        """hartree/bohr per unit of energy and length."""
        return ENERGY_UNITS[self.energy] / LENGTH_UNITS[self.length] / FORCE


@dataclass(frozen=True, eq=False)
class Frame:
    """One labelled geometry in atomic units; what is None is absent.

    Attributes
    ----------
    where : str
        File and frame, for messages.
    numbers : (N,) int array
    positions : (N, 3) array
        bohr.
    energy : float
        hartree.
    gradient : (N, 3) array or None
        hartree/bohr.
    charges : (N,) array or None
        e.
    dipole : (3,) array or None
        e bohr.
    origin, method : str
        One word each.
    settings : mapping of str to str or int
        Program, charge and spin, where the file says them.
    """

    where: str
    numbers: np.ndarray
    positions: np.ndarray
    energy: float
    gradient: np.ndarray | None = None
    charges: np.ndarray | None = None
    dipole: np.ndarray | None = None
    origin: str = UNKNOWN
    method: str = UNKNOWN
    settings: Mapping[str, str | int] = field(default_factory=dict)

    def reordered(self, order: np.ndarray) -> "Frame":
        """Atom i is what atom ``order[i]`` was."""
        return replace(
            self, numbers=self.numbers[order], positions=self.positions[order],
            gradient=None if self.gradient is None else self.gradient[order],
            charges=None if self.charges is None else self.charges[order],
        )


def word(text) -> str:
    """Text as one plain word."""
    kept = "".join(c if c.isascii() and (c.isalnum() or c in "_.+-/*") else "-" for c in str(text))
    return kept.strip("-") or UNKNOWN
