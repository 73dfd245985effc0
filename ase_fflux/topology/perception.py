"""Bonds as the models want them.

A distance alone does not tell a hot bond from a contact. Below `FORMED` times the sum of covalent
radii atoms are bonded and beyond `BROKEN` times they are not. Between, the models decide: atoms
keep the nearest of the partners that theirs have in some model, and fragments that are part of no
model take the bonds that complete them, shortest first.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from ase_fflux.topology.fragments import Fragments
from ase_fflux.topology.graphs import BOND_SCALE, contacts
from ase_fflux.topology.lattice import Lattice
from ase_fflux.topology.pattern import Pattern

FORMED = 1.15
"""Times the sum of covalent radii; no 1,3 distance is as short."""
BROKEN = 1.7
"""Times the sum of covalent radii: O-H 1.65, C-H 1.82 and C-C 2.58 Angstrom."""


class Valences:
    """How many neighbours of each element an atom of each element has at most in some model."""

    def __init__(self, patterns: Sequence[Pattern]):
        self._most: dict[tuple[int, int], int] = {}
        self._degree: dict[int, int] = {}
        for pattern in patterns:
            for number, around in zip(pattern.numbers.tolist(), pattern.neighbours, strict=True):
                self._degree[number] = max(self._degree.get(number, 0), len(around))
                for element, count in Counter(pattern.numbers[list(around)].tolist()).items():
                    key = number, element
                    self._most[key] = max(self._most.get(key, 0), count)

    def room(self, number: int, element: int, counts: Counter, more: int) -> bool:
        """Whether an atom with ``counts`` neighbours of each element can have ``more`` of one.

        Of elements that no model has, nothing is known: they have room.
        """
        if number not in self._degree or element not in self._degree:
            return True
        return (
            counts[element] + more <= self._most.get((number, element), 0)
            and counts.total() + more <= self._degree[number]
        )


class _Around:
    """Neighbours that atoms have by a set of bonds."""

    def __init__(self, numbers, pairs, valences):
        self.numbers, self.valences = numbers, valences
        self.counts = [Counter() for _ in numbers]
        for i, j in pairs.tolist():
            self.add(i, j, 1)

    def add(self, i, j, by):
        self.counts[i][int(self.numbers[j])] += by
        self.counts[j][int(self.numbers[i])] += by

    def have_room(self, i, j, more) -> bool:
        return all(
            self.valences.room(int(self.numbers[a]), int(self.numbers[b]), self.counts[a], more)
            for a, b in ((i, j), (j, i))
        )


def model_bonds(patterns: Sequence[Pattern], numbers, positions, cell=None, pbc=None):
    """Bonded pairs (B, 2), i <= j, sorted, as `graphs.bonds` has them, under these models.

    Where no choice of bonds makes molecules of the models, those of `graphs.bonds`, for a
    message on what is there.

    Parameters
    ----------
    patterns : sequence of Pattern
    numbers : (n,) int array
    positions : (n, 3) array
        bohr.
    cell, pbc
        As for `graphs.bonds`.
    """
    lattice = Lattice(cell, pbc)
    plain, _, ratio = contacts(numbers, positions, lattice, BOND_SCALE)
    valences = Valences(patterns)
    pairs = _without_surplus(valences, numbers, plain, ratio)
    wanted = _fragments_of(patterns)
    fragments = Fragments(numbers, pairs)
    strangers = _strangers(fragments, wanted)
    if not strangers:
        return pairs
    added = _completing(valences, wanted, numbers, positions, lattice, fragments, strangers, pairs)
    if added is None:
        return plain
    both = np.concatenate([pairs, added])
    return both[np.lexsort(both.T[::-1])]


def _without_surplus(valences, numbers, pairs, ratio):
    """Bonds without the longest ones of atoms that no model lets have so many."""
    doubtful = np.flatnonzero(ratio >= FORMED)
    if not len(doubtful):
        return pairs
    around = _Around(numbers, pairs, valences)
    kept = np.ones(len(pairs), dtype=bool)
    for k in doubtful[np.argsort(-ratio[doubtful], kind="stable")].tolist():
        i, j = pairs[k].tolist()
        if not around.have_room(i, j, 0):
            kept[k] = False
            around.add(i, j, -1)
    return pairs[kept]


def _fragments_of(patterns) -> list:
    """Graphs of the connected parts of all models."""
    found = []
    for pattern in patterns:
        parts = Fragments(pattern.numbers, pattern.bonds)
        found += [parts.graph([f])[1] for f in range(len(parts.atoms))]
    return found


def _strangers(fragments, wanted) -> list[int]:
    """Fragments that are no part of any model."""
    kinds = {fragments.kind(graph) for graph in wanted}
    here = (fragments.kind(fragments.graph([f])[1]) for f in range(len(fragments.atoms)))
    return [f for f, kind in enumerate(here) if kind not in kinds]


def _completing(valences, wanted, numbers, positions, lattice, fragments, strangers, pairs):
    """Bonds (A, 2) that make parts of models of all strangers; None if there are none."""
    atoms = np.sort(np.concatenate([fragments.atoms[f] for f in strangers]))
    near, _, ratio = contacts(numbers[atoms], positions[atoms], lattice, BROKEN)
    near = atoms[near]
    group = {int(a): f for f in strangers for a in fragments.atoms[f]}
    members = {f: [f] for f in strangers}
    compositions = [Counter(graph.numbers.tolist()) for graph in wanted]
    around = _Around(numbers, pairs, valences)
    own = [(i, j) for i, j in pairs.tolist() if i in group]
    known = set(own)
    added: list[tuple[int, int]] = []
    done: set[int] = set()
    for i, j in near[np.argsort(ratio, kind="stable")].tolist():
        a, b = group[i], group[j]
        if i == j or (i, j) in known or a in done or b in done or not around.have_room(i, j, 1):
            continue
        unit = members[a] if a == b else members[a] + members[b]
        inside = {int(x) for f in unit for x in fragments.atoms[f]}
        here = Counter(numbers[sorted(inside)].tolist())
        if not any(here <= c for c in compositions):
            continue
        bonds = np.array([p for p in (*own, *added, (i, j)) if p[0] in inside])
        complete = any(here == c for c in compositions)
        fits = complete and _is_wanted(numbers, inside, bonds, wanted)
        if complete and not fits and not _may_close(inside, bonds, wanted, here):
            continue
        around.add(i, j, 1)
        added.append((i, j))
        known.add((i, j))
        members[a] = unit
        for x in inside:
            group[x] = a
        if fits:
            done.add(a)
    left = {group[int(x)] for x in atoms} - done
    return None if left else np.array(added).reshape(-1, 2)


def _is_wanted(numbers, inside, bonds, wanted) -> bool:
    """Whether atoms with these bonds are a connected part of a model."""
    atoms = np.array(sorted(inside))
    one = Fragments(numbers[atoms], np.searchsorted(atoms, bonds))
    return len(one.atoms) == 1 and not _strangers(one, wanted)


def _may_close(inside, bonds, wanted, here) -> bool:
    """Whether another bond can still be missing in a part that has all its atoms."""
    return any(
        len(graph.bonds) > len(bonds) for graph in wanted if Counter(graph.numbers.tolist()) == here
    )
