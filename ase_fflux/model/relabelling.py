"""Relabellings and reflections that a molecule's vibrations can do, told from its bonds."""

from collections.abc import Iterator
from itertools import combinations, islice

import numpy as np

from ase_fflux.topology import Pattern
from ase_fflux.topology.isomorphism import mappings
from ase_fflux.topology.pattern import FLAT

_CLEAR = 0.5
"""Cosines and triple products of unit vectors that differ by more are another arrangement:
neighbours at 90 degrees have 0, opposite ones -1."""

Operation = tuple[tuple[int, ...], bool]
"""A permutation, and whether a reflection goes with it."""


def feasible_operations(pattern: Pattern, geometry: np.ndarray, most: int) -> set[Operation]:
    """Operations that keep bonds and surroundings; no more than one above so many."""
    found = set()
    for mirrored in (False, True):
        for permutation in islice(
            _allowed((pattern, geometry), (pattern, geometry), mirrored), most + 1
        ):
            found.add((permutation, mirrored))
            if len(found) > most:
                return found
    return found


def to_other_bonds(
    pattern: Pattern, geometry: np.ndarray, seen: np.ndarray
) -> list[Operation]:
    """One operation of each kind, without and with reflection, for each set of other bonds seen."""
    own, others = pattern.bonds.tobytes(), {}
    for x in seen:
        other = Pattern.from_geometry("", pattern.numbers, x)
        if other.bonds.tobytes() != own:
            others.setdefault(other.bonds.tobytes(), (other, x))
    found = []
    for there in others.values():
        for mirrored in (False, True):
            operation = next(_allowed((pattern, geometry), there, mirrored), None)
            if operation is not None:
                found.append((operation, mirrored))
    return found


def _allowed(here, there, mirrored: bool) -> Iterator[tuple[int, ...]]:
    """Permutations that lay one (pattern, geometry) onto another, with what is around atoms."""
    allowed = _Surroundings(here, there, -1.0 if mirrored else 1.0)
    return mappings(here[0], there[0], allowed)


class _Surroundings:
    """Whether an atom can take another's place in an operation, by what is around their neighbours.

    Called as `topology.isomorphism.mappings` wants it, of a (pattern, geometry) and another one.
    ``parity`` is -1 for operations with reflection.
    """

    def __init__(self, here, there, parity: float):
        self.neighbours, self.parity = here[0].neighbours, parity
        self._arms, self._there = _arms(*here), _arms(*there)
        self._rigid = {
            centre: len(arms) > 4 or max(
                abs(np.linalg.det(three)) for three in combinations(arms.values(), 3)
            ) < _CLEAR
            for centre, arms in self._arms.items()
        }

    def __call__(self, atom: int, candidate: int, image: list[int]) -> bool:
        placed = {i: c for i, c in enumerate(image) if c >= 0} | {atom: candidate}
        return all(
            self._same(centre, placed)
            for centre in (atom, *self.neighbours[atom])
            if centre in self._arms and centre in placed
        )

    def _same(self, centre: int, placed: dict[int, int]) -> bool:
        here, there = self._arms[centre], self._there.get(placed[centre])
        around = [i for i in here if i in placed]
        if there is None or not all(placed[i] in there for i in around):
            return False
        if not self._rigid[centre]:
            if len(around) < 4:
                return True
            # arms seen from the first, by which they have a hand even where they are flat
            one, other = (
                np.linalg.det([arms[i] - arms[first] for i in rest])
                for arms, (first, *rest) in ((here, around), (there, [placed[i] for i in around]))
            )
            return min(abs(one), abs(other)) < FLAT or self.parity * one * other > 0
        pairs = (
            abs(here[i] @ here[j] - there[placed[i]] @ there[placed[j]])
            for i, j in combinations(around, 2)
        )
        triples = (
            abs(
                self.parity * np.linalg.det([here[i] for i in three])
                - np.linalg.det([there[placed[i]] for i in three])
            )
            for three in combinations(around, 3)
        )
        return all(d < _CLEAR for d in pairs) and all(d < _CLEAR for d in triples)


def _arms(pattern: Pattern, geometry: np.ndarray) -> dict[int, dict[int, np.ndarray]]:
    """Unit vectors to the neighbours of each atom that has four or more."""
    found = {}
    for centre, around in enumerate(pattern.neighbours):
        if len(around) > 3:
            arms = geometry[list(around)] - geometry[centre]
            arms /= np.linalg.norm(arms, axis=1)[:, None]
            found[centre] = dict(zip(around, arms, strict=True))
    return found
