"""Other shapes of a molecule with the same bonds: turns about single bonds, puckers of rings."""

from collections.abc import Iterator
from functools import cached_property

import numpy as np
from ase import Atoms
from scipy.sparse import coo_array
from scipy.sparse.csgraph import shortest_path
from scipy.spatial.transform import Rotation

from ase_fflux.base.units import BOHR
from ase_fflux.topology import Connectivity, Pattern

_FULL = {6: 4, 7: 3, 8: 2, 14: 4, 15: 3, 16: 2}
"""Neighbours of atoms without double bonds."""
_PUCKER = 0.3
"""Angstrom; how far atoms of a ring are from its plane, root mean square (chair 0.25, twist-boat of
cyclohexane 0.31)."""
_TRIES = 20
"""Random turns of one geometry."""


class Shapes:
    """Random shapes of a molecule.

    Parameters
    ----------
    pattern : Pattern
        Its bonds.
    positions : (N, 3) array
        Angstrom; a geometry with these bonds.
    seed : int or sequence of int
        Seed of numpy's default generator.
    puckered : bool
        Whether rings change as well.
    """

    def __init__(self, pattern: Pattern, positions: np.ndarray, seed, puckered: bool = True):
        self._rotors = _rotors(pattern)
        self._rings = [_Ring(ring, pattern) for ring in _rings(pattern)] if puckered else []
        self._connectivity = Connectivity(pattern.numbers, positions / BOHR)
        self._rng = np.random.default_rng(seed)

    @property
    def has_several(self) -> bool:
        """Whether there is anything to turn or to pucker."""
        return bool(self._rotors or self._rings)

    def varied(self, geometries, every: int) -> Iterator[Atoms]:
        """Geometries (Angstrom), of which one in so many is left as it is and the others are
        changed at random so that nothing touches."""
        for number, atoms in enumerate(geometries):
            yield self._another(atoms) if self.has_several and number % every else atoms

    def _another(self, atoms: Atoms) -> Atoms:
        for _ in range(_TRIES):
            changed = atoms.copy()
            x = changed.positions
            for ring in self._rings:
                x[:] = ring.puckered(x, self._rng)
            angles = self._rng.uniform(0, 2 * np.pi, len(self._rotors))
            for (i, j, behind), angle in zip(self._rotors, angles, strict=True):
                axis = (x[j] - x[i]) / np.linalg.norm(x[j] - x[i])
                x[behind] = x[j] + Rotation.from_rotvec(angle * axis).apply(x[behind] - x[j])
            if not self._connectivity.change(x / BOHR):
                return changed
        return atoms


class _Ring:
    """A ring of n atoms in their order, and which of them each atom of the molecule follows."""

    def __init__(self, atoms: list[int], pattern: Pattern):
        self.atoms = atoms
        n, (i, j) = len(pattern.numbers), pattern.bonds.T
        graph = coo_array((np.ones(len(i)), (i, j)), shape=(n, n))
        away = shortest_path(graph, directed=False, unweighted=True)[:, atoms]
        nearest = away == away.min(axis=1, keepdims=True)
        self._share = nearest / nearest.sum(axis=1, keepdims=True)
        angle = 2 * np.pi * np.arange(len(atoms)) / len(atoms)
        self._cos, self._sin = np.cos(angle), np.sin(angle)

    @cached_property
    def _puckers(self) -> np.ndarray:
        """Orthonormal displacements (n, n - 3) that neither move nor tilt the plane of Cremer and
        Pople (J. Am. Chem. Soc. 1975, 97, 1354)."""
        rigid = np.column_stack([np.ones(len(self.atoms)), self._cos, self._sin])
        return np.linalg.qr(rigid, mode="complete")[0][:, 3:]

    def puckered(self, positions: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Positions (N, 3) with the ring puckered at random; what hangs on an atom of the ring
        moves with it and its two bonds in the ring."""
        ring = positions[self.atoms]
        about = ring - ring.mean(axis=0)
        normal = np.cross(self._sin @ about, self._cos @ about)
        normal /= np.linalg.norm(normal)
        amplitudes = rng.normal(size=len(self.atoms) - 3)
        amplitudes *= _PUCKER * np.sqrt(len(self.atoms)) / np.linalg.norm(amplitudes)
        moved = ring + np.outer(self._puckers @ amplitudes - about @ normal, normal)
        turns = np.einsum("nji,njk->nik", _bisectors(ring), _bisectors(moved))
        carried = moved + np.einsum("mnk,nkl->mnl", positions[:, None] - ring, turns)
        return np.einsum("mn,mnk->mk", self._share, carried)


def _bisectors(ring: np.ndarray) -> np.ndarray:
    """Axes (n, 3, 3), in rows, between the two bonds of each atom of a ring (n, 3)."""
    before, after = (np.roll(ring, k, axis=0) - ring for k in (1, -1))
    before /= np.linalg.norm(before, axis=1, keepdims=True)
    after /= np.linalg.norm(after, axis=1, keepdims=True)
    x, z = before + after, np.cross(before, after)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    return np.stack([x, np.cross(z, x), z], axis=1)


def has_one_shape(pattern: Pattern) -> bool:
    """Whether a molecule is one atom of usual valence and its neighbours, or less."""
    neighbours = [len(around) for around in pattern.neighbours]
    return (
        len(np.unique(pattern.fragment)) == 1
        and all(min(neighbours[i], neighbours[j]) == 1 for i, j in pattern.bonds.tolist())
        and all(
            n <= _FULL.get(z, 1) for z, n in zip(pattern.numbers.tolist(), neighbours, strict=True)
        )
    )


def turns(atoms: Atoms) -> bool:
    """Whether a molecule may have conformers: single bonds, as far as numbers of neighbours tell,
    that are more than the axis of a methyl group."""
    pattern = Pattern.from_geometry("", atoms.numbers, atoms.positions / BOHR)

    def methyl(i, j):
        return len(pattern.neighbours[i]) == 4 and all(
            atoms.numbers[k] == 1 for k in pattern.neighbours[i] if k != j
        )

    return any(not methyl(i, j) and not methyl(j, i) for i, j in _single_bonds(pattern))


def _single_bonds(pattern: Pattern) -> list[tuple[int, int]]:
    """Bonds between two atoms with further neighbours, one of them with as many as it can have."""
    full = [
        len(around) >= _FULL.get(number, 99)
        for number, around in zip(pattern.numbers.tolist(), pattern.neighbours, strict=True)
    ]
    return [
        (i, j) for i, j in pattern.bonds.tolist()
        if (full[i] or full[j]) and min(len(pattern.neighbours[a]) for a in (i, j)) > 1
    ]


def _rotors(pattern: Pattern) -> list[tuple[int, int, np.ndarray]]:
    """Single bonds outside of rings, and the atoms (N,) bool behind the second end of each."""
    found = []
    for i, j in _single_bonds(pattern):
        fragment = pattern.fragment_without(i, j)
        if fragment[i] != fragment[j]:
            found.append((i, j, fragment == fragment[j]))
    return found


def _rings(pattern: Pattern) -> list[list[int]]:
    """Smallest rings of four and more atoms through single bonds, each in its order."""
    found: dict[frozenset, list[int]] = {}
    for i, j in _single_bonds(pattern):
        before = {i: i}
        front = [i]
        while front and j not in before:
            reached = []
            for atom in front:
                for other in pattern.neighbours[atom]:
                    if other not in before and {atom, other} != {i, j}:
                        before[other] = atom
                        reached.append(other)
            front = reached
        if j not in before:
            continue
        ring = [j]
        while ring[-1] != i:
            ring.append(before[ring[-1]])
        if len(ring) > 3:
            found.setdefault(frozenset(ring), ring)
    return list(found.values())
