"""Which molecules a set of frames is of: told apart by formula and bonds.

Frames whose atoms come in one order are one molecule if no bond between two heavy atoms of the
first is torn (`_TORN` times the sum of covalent radii): hydrogens may travel, as in malonaldehyde,
and bonds may be hot. Frames of another order are one molecule with those whose bonds they have, and
their atoms are put in that order, as the nearest of all orders that keep the bonds.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
from ase.data import covalent_radii
from ase.symbols import Symbols

from ase_fflux.base.errors import LabelError
from ase_fflux.base.units import BOHR
from ase_fflux.labels.importers.frames import Frame
from ase_fflux.topology.isomorphism import mappings
from ase_fflux.topology.pattern import Pattern
from ase_fflux.topology.superposition import deviations

_TORN = 1.5
_MOST_ORDERS = 2000
"""Orders of atoms that are compared; of more, these will do."""


@dataclass(eq=False)
class Molecule:
    """Frames of one molecule, atoms in the order of the first."""

    frames: list[Frame] = field(default_factory=list)
    name: str = ""

    @property
    def formula(self) -> str:
        """In Hill's order."""
        return _formula(self.frames[0])

    def __post_init__(self):
        first = self.frames[0]
        pattern = Pattern.from_geometry("", first.numbers, first.positions)
        heavy = [(i, j) for i, j in pattern.bonds.tolist() if min(first.numbers[[i, j]]) > 1]
        self.pattern, self._heavy = pattern, np.array(heavy, dtype=int).reshape(-1, 2)
        radii = covalent_radii[first.numbers[self._heavy]] / BOHR
        self._longest = _TORN * radii.sum(axis=1)

    def take(self, frame: Frame) -> bool:
        """Add a frame if it is of this molecule."""
        if not np.array_equal(frame.numbers, self.frames[0].numbers):
            frame = self._in_order(frame)
            if frame is None:
                return False
        i, j = self._heavy.T
        lengths = np.linalg.norm(frame.positions[i] - frame.positions[j], axis=1)
        if (lengths > self._longest).any():
            return False
        self.frames.append(frame)
        return True

    def _in_order(self, frame: Frame) -> Frame | None:
        """The frame with its atoms in the order of the first; None if its bonds are others."""
        first = self.frames[0]
        if sorted(frame.numbers.tolist()) != sorted(first.numbers.tolist()):
            return None
        graph = Pattern.from_geometry("", frame.numbers, frame.positions)
        orders = np.array(list(islice(mappings(self.pattern, graph), _MOST_ORDERS)), dtype=int)
        if not len(orders):
            return None
        x = first.positions - first.positions.mean(axis=0)
        images = frame.positions[orders]
        images = images - images.mean(axis=1, keepdims=True)
        nearest = np.argmin((deviations(x, images) ** 2).sum(axis=1))
        return frame.reordered(orders[nearest])


def _formula(frame: Frame) -> str:
    return Symbols(frame.numbers).get_chemical_formula()


def told_apart(frames: Sequence[Frame]) -> list[Molecule]:
    """Molecules in the order in which they come, each with a name: its formula.

    Isomers are numbered, such as C2H6O-1 and C2H6O-2.
    """
    found: dict[str, list[Molecule]] = {}
    for frame in frames:
        alike = found.setdefault(_formula(frame), [])
        if not any(molecule.take(frame) for molecule in alike):
            alike.append(Molecule([frame]))
    for formula, alike in found.items():
        for number, molecule in enumerate(alike, 1):
            molecule.name = formula if len(alike) == 1 else f"{formula}-{number}"
    return [molecule for alike in found.values() for molecule in alike]


def chosen(molecules: Sequence[Molecule], name: str | None, path) -> Molecule:
    """The molecule of a name, or the only one.

    Raises
    ------
    LabelError
        Several molecules and no name, or no molecule of that name; names those that are there.
    """
    there = ", ".join(f"{m.name} ({len(m.frames)} frames)" for m in molecules)
    if name is None:
        if len(molecules) > 1:
            raise LabelError(
                f"{path}: {len(molecules)} molecules, {there}: a model is of one; choose it with "
                "--molecule"
            )
        return molecules[0]
    for molecule in molecules:
        if molecule.name == name:
            return molecule
    raise LabelError(f"{path}: no molecule {name!r}; there is {there}")
