"""Radial distribution functions of periodic systems, averaged over frames.

    g_AB(r) = V / (N_A N_B) < pairs of A and B at r > / (4 pi r^2 dr)

the density of B around A by that of B in the cell. Atoms of one molecule count only if they are
asked for. Of an ideal gas it is 1 (of one kind of atoms 1 - 1/N) up to where a cell meets itself,
half of its smallest height.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from ase_fflux.base.errors import FFLUXError
from ase_fflux.base.units import BOHR
from ase_fflux.forcefield.interactions.neighbours import find_pairs
from ase_fflux.topology.graphs import Graph, bonds

_MOST_SHELLS, _MOST_PAIRS = 100_000, 3e8
"""Of one function, and of atoms within its reach: beyond them memory and patience end."""

_FARTHEST = 10.0
"""Angstrom, up to which the functions reach by default in large cells."""

_SAME = 1e-3
"""Angstrom that two ways to the same image may differ."""

_SITE = re.compile(r"([A-Z][a-z]?)(?:\(([A-Za-z]*)\))?$")
_SYMBOL = re.compile(r"[A-Z][a-z]?")


@dataclass(frozen=True)
class RadialDistribution:
    """Radial distribution functions of pairs of sites.

    Attributes
    ----------
    r : (m,) array
        Middles of the shells (Angstrom).
    g : dict
        (m,) array of each pair of names.
    coordination : dict
        (m,) array of each pair: how many of the second are around one of the first up to the end of
        the shell.
    frames : int
        That were averaged over.
    intramolecular : bool
        Whether atoms of one molecule count.
    """

    r: np.ndarray
    g: dict[tuple[str, str], np.ndarray]
    coordination: dict[tuple[str, str], np.ndarray]
    frames: int
    intramolecular: bool


class Molecules:
    """Bonded atoms of a system, by the distances of one frame.

    Atoms of a network without end, such as a salt, are molecules of their own.

    Parameters
    ----------
    atoms : Atoms

    Attributes
    ----------
    molecule : (n,) int array
        Of each atom.
    """

    def __init__(self, atoms: Atoms):
        self.numbers = atoms.numbers.copy()
        pairs, shifts = bonds(
            atoms.numbers, atoms.positions / BOHR, atoms.cell.array / BOHR, atoms.pbc
        )
        self._graph = Graph(self.numbers, pairs)
        self.molecule = self._graph.fragment.copy()
        self._tree = _by_depth(self._graph.parent)
        i, j = pairs.T
        whole = self.whole(atoms)
        ends = whole[j] - whole[i]
        bond = atoms.positions[j] + shifts @ atoms.cell.array - atoms.positions[i]
        endless = np.unique(self.molecule[i[np.abs(ends - bond).max(axis=1) > _SAME]])
        apart = np.isin(self.molecule, endless)
        self.molecule[apart] = self.molecule.max() + 1 + np.arange(apart.sum())

    def whole(self, atoms: Atoms) -> np.ndarray:
        """Positions (n, 3) with each bond at its nearest image."""
        positions = atoms.positions.copy()
        inverse = np.linalg.inv(atoms.cell.array)
        for step in self._tree:
            atom, before = step.T
            bond = positions[atom] - positions[before]
            positions[atom] -= np.rint(bond @ inverse) @ atoms.cell.array
        return positions

    def site(self, name: str) -> np.ndarray:
        """Atoms (k,) that a name stands for: an element, or one with its bonded neighbours.

        Parameters
        ----------
        name : str
            Such as ``H``, or ``H(O)`` for hydrogen bonded to oxygen, ``C(CHHH)`` for a methyl
            group's carbon, ``Ar()`` for what is bonded to nothing.

        Raises
        ------
        FFLUXError
            No name of a site, or one that no atom has: those that there are.
        """
        match = _SITE.match(name)
        if match is None or match[1] not in chemical_symbols[1:]:
            raise FFLUXError(
                f"{name!r} is no site: give an element such as O, or one with its neighbours such "
                "as H(O)"
            )
        found = self.numbers == chemical_symbols.index(match[1])
        if match[2] is not None:
            around = "".join(sorted(_SYMBOL.findall(match[2])))
            found &= np.array([a == around for a in self._neighbours()], dtype=bool)
        if not found.any():
            raise FFLUXError(f"no atom is {name}: there are {', '.join(self.names())}")
        return np.flatnonzero(found)

    def names(self) -> list[str]:
        """Sites that there are, with their neighbours."""
        return sorted({
            f"{chemical_symbols[z]}({around})"
            for z, around in zip(self.numbers, self._neighbours(), strict=True)
        })

    def _neighbours(self) -> list[str]:
        return [
            "".join(sorted(chemical_symbols[self.numbers[j]] for j in around))
            for around in self._graph.neighbours
        ]


def _by_depth(parent) -> list[np.ndarray]:
    """Atoms and the atoms before them, (k, 2) for each distance from the molecules' first atoms."""
    steps, level = [], np.flatnonzero(parent < 0)
    while len(level := np.flatnonzero(np.isin(parent, level))):
        steps.append(np.column_stack([level, parent[level]]))
    return steps


def reach(atoms: Atoms) -> float:
    """How far functions reach by default (Angstrom): half of the smallest height, at most 10."""
    heights = 1 / np.linalg.norm(np.linalg.inv(atoms.cell.array), axis=0)
    return float(min(_FARTHEST, heights.min() / 2))


def require_cell(atoms: Atoms) -> None:
    """Refuse what is not periodic in three directions."""
    if not atoms.pbc.all() or atoms.cell.rank < 3:
        raise FFLUXError(
            "a radial distribution function needs the density of a cell that is periodic in three "
            "directions, and this geometry has none"
        )


def radial_distribution(
    frames: Iterable[Atoms], pairs: Sequence[tuple[str, str]] | None = None, *,
    r_max: float | None = None, width: float = 0.05, intramolecular: bool = False,
) -> RadialDistribution:
    """Average the functions of some pairs of sites over frames.

    Parameters
    ----------
    frames : iterable of Atoms
        Of one system: the same atoms in the same order. The cell may change.
    pairs : sequence of (str, str), optional
        Names of sites (`Molecules.site`); all pairs of elements without it.
    r_max : float, optional
        Angstrom; `reach` of the first frame without it.
    width : float
        Of a shell (Angstrom).
    intramolecular : bool
        Whether atoms that are bonded in the first frame, directly or through others, count.

    Raises
    ------
    FFLUXError
        No frame, frames of several systems or without a cell, a site that is not there, shells
        wider than the reach.
    """
    counter = None
    for number, atoms in enumerate(frames):
        require_cell(atoms)
        if counter is None:
            counter = _Counter(atoms, pairs, r_max, width, intramolecular)
        elif not np.array_equal(atoms.numbers, counter.molecules.numbers):
            raise FFLUXError(f"frame {number} has other atoms than the first one")
        counter.add(atoms)
    if counter is None:
        raise FFLUXError("no frame to average over")
    return counter.result()


class _Counter:
    """Counts of pairs by distance."""

    def __init__(self, first, pairs, r_max, width, intramolecular):
        self.molecules = Molecules(first)
        r_max = reach(first) if r_max is None else r_max
        within = len(first) ** 2 / 2 * min(4.2 * r_max / first.get_volume() * r_max * r_max, 1e300)
        if within > _MOST_PAIRS:
            raise FFLUXError(
                f"a reach of {r_max:g} Angstrom has some {within:.0e} pairs of atoms within it in "
                "each frame: give less (--r-max)"
            )
        if not r_max / width <= _MOST_SHELLS:
            raise FFLUXError(
                f"shells of {width:g} Angstrom are more than {_MOST_SHELLS} within {r_max:g} "
                "Angstrom: make them wider (--width)"
            )
        self._shells = int(np.floor(r_max / width + 1e-9))
        if self._shells < 1:
            raise FFLUXError(f"shells of {width:g} Angstrom do not fit within {r_max:g} Angstrom")
        self._edges = width * np.arange(self._shells + 1)
        if pairs is None:
            symbols = [chemical_symbols[z] for z in np.unique(first.numbers)]
            symbols.sort(key=lambda symbol: (symbol == "H", symbol))
            pairs = [(a, b) for i, a in enumerate(symbols) for b in symbols[i:]]
        self._names = [tuple(pair) for pair in pairs]
        n = len(first)
        self._sites = []
        for pair in self._names:
            one, other = (np.bincount(self.molecules.site(s), minlength=n) > 0 for s in pair)
            self._sites.append((one, other))
        # where atoms of one molecule count, every atom is a molecule of its own
        self._apart = np.arange(n) if intramolecular else self.molecules.molecule
        self._intramolecular = intramolecular
        self._g = np.zeros((len(self._names), self._shells))
        self._around = np.zeros_like(self._g)
        self._frames = 0

    def add(self, atoms):
        positions, cell = self.molecules.whole(atoms), atoms.cell.array
        found = find_pairs(positions, self._apart, cell, atoms.pbc, self._edges[-1])
        i, j = found.first, found.second
        vectors = positions[j] + found.images @ cell - positions[i]
        shell = (np.linalg.norm(vectors, axis=1) / self._edges[1]).astype(int)
        inside = shell < self._shells
        i, j, shell = i[inside], j[inside], shell[inside]
        for k, (one, other) in enumerate(self._sites):
            # each pair is listed once, and counts from both of its ends
            weight = (one[i] & other[j]).astype(float) + (one[j] & other[i])
            count = np.bincount(shell, weight, minlength=self._shells)
            self._around[k] += count / one.sum()
            self._g[k] += count / one.sum() * atoms.get_volume() / other.sum()
        self._frames += 1

    def result(self):
        volumes = 4 * np.pi / 3 * np.diff(self._edges**3)
        return RadialDistribution(
            r=0.5 * (self._edges[1:] + self._edges[:-1]),
            g=dict(zip(self._names, self._g / self._frames / volumes, strict=True)),
            coordination=dict(
                zip(self._names, self._around.cumsum(axis=1) / self._frames, strict=True)
            ),
            frames=self._frames,
            intramolecular=self._intramolecular,
        )
