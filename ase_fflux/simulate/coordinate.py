"""One internal coordinate of a molecule: its value, what moves with it, how it is held."""

from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.constraints import FixInternals

from ase_fflux.base.errors import FFLUXError
from ase_fflux.base.units import BOHR
from ase_fflux.topology.graphs import Graph, atom_label, bonds

KINDS = {2: "distance", 3: "angle", 4: "torsion"}
UNITS = {"distance": "Angstrom", "angle": "degree", "torsion": "degree"}

_STRAIGHT = 5.0
"""Degrees from a straight angle within which a torsion about it is not defined."""


@dataclass(frozen=True)
class Coordinate:
    """A distance, an angle or a torsion.

    Parameters
    ----------
    atoms : tuple of int
        Two, three or four of them, from 0.
    """

    atoms: tuple[int, ...]

    @property
    def kind(self) -> str:
        """``distance``, ``angle`` or ``torsion``."""
        return KINDS[len(self.atoms)]

    @property
    def unit(self) -> str:
        """Of its values."""
        return UNITS[self.kind]

    def label(self, atoms: Atoms) -> str:
        """Such as ``torsion C1-C2-O3-H9``, atoms counted from 1."""
        return f"{self.kind} " + "-".join(f"{atoms.symbols[a]}{a + 1}" for a in self.atoms)

    def check(self, atoms: Atoms) -> None:
        """Refuse atoms that there are not, one twice, and a torsion about a straight angle.

        Raises
        ------
        FFLUXError
            What is wrong, with the atoms counted from 1.
        """
        told = " ".join(str(a + 1) for a in self.atoms)
        if not all(0 <= a < len(atoms) for a in self.atoms):
            raise FFLUXError(
                f"{self.kind} {told}: the geometry has the atoms 1 to {len(atoms)}"
            )
        if len({*self.atoms}) < len(self.atoms):
            raise FFLUXError(f"{self.kind} {told}: an atom stands twice")
        if self.kind == "torsion":
            for three in (self.atoms[:3], self.atoms[1:]):
                if not _STRAIGHT < atoms.get_angle(*three) < 180.0 - _STRAIGHT:
                    names = ", ".join(atom_label(a, atoms.numbers) for a in three)
                    raise FFLUXError(
                        f"{self.kind} {told} is not defined: {names} are on one line; choose "
                        "other atoms"
                    )

    def unbonded(self, atoms: Atoms) -> str:
        """The first two neighbours of an angle or a torsion without a bond, in words, or empty."""
        if self.kind == "distance":
            return ""
        bonded = {frozenset(pair) for pair in _bonds(atoms).tolist()}
        for pair in zip(self.atoms, self.atoms[1:], strict=False):
            if frozenset(pair) not in bonded:
                return " and ".join(atom_label(a, atoms.numbers) for a in pair)
        return ""

    def check_value(self, value: float) -> None:
        """Refuse a distance or an angle that there is not."""
        if self.kind == "distance" and value <= 0:
            raise FFLUXError(f"a distance of {value:g} Angstrom: it is above 0")
        if self.kind == "angle" and not 0 < value < 180:
            raise FFLUXError(f"an angle of {value:g} degrees: it is between 0 and 180")

    def value(self, atoms: Atoms) -> float:
        """In Angstrom or degrees; torsions from -180 to 180."""
        if self.kind == "distance":
            return float(atoms.get_distance(*self.atoms))
        if self.kind == "angle":
            return float(atoms.get_angle(*self.atoms))
        return float((atoms.get_dihedral(*self.atoms) + 180.0) % 360.0 - 180.0)

    def moved(self, atoms: Atoms) -> np.ndarray | None:
        """Atoms that move with the last one when the coordinate changes and nothing else does.

        They are what hangs together with the last atom once the bond that the coordinate stretches
        or turns about is cut. None where that holds the other atoms too, as in a ring.
        """
        last, pivot = self.atoms[-1], self.atoms[-2]
        cut = (pivot, last) if self.kind != "torsion" else self.atoms[1:3]
        fragment = Graph(atoms.numbers, _bonds(atoms)).fragment_without(*cut)
        # the third atom of a torsion is on the axis, and may move along
        staying = self.atoms[:2] if self.kind == "torsion" else self.atoms[:-1]
        if (fragment[[*staying]] == fragment[last]).any():
            return None
        return np.flatnonzero(fragment == fragment[last])

    def turn(self, atoms: Atoms, value: float, moved: np.ndarray) -> None:
        """Give the coordinate a value by moving these atoms as one body."""
        if self.kind == "distance":
            atoms.set_distance(*self.atoms, value, fix=0, indices=moved)
        elif self.kind == "angle":
            atoms.set_angle(*self.atoms, value, indices=moved)
        else:
            atoms.set_dihedral(*self.atoms, value, indices=moved)

    def held_at(self, value: float) -> FixInternals:
        """A constraint."""
        name = {"distance": "bonds", "angle": "angles_deg", "torsion": "dihedrals_deg"}[self.kind]
        return FixInternals(**{name: [[value, list(self.atoms)]]})


def _bonds(atoms: Atoms) -> np.ndarray:
    return bonds(atoms.numbers, atoms.positions / BOHR)[0]
