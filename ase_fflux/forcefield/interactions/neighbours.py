"""Pairs of atoms within a cut-off, by linked cells, kept until atoms have moved too far.

Atoms are sorted into bins at least as long as the cut-off where the cell allows it, so that the
time grows as the number of atoms. Cells may be triclinic, periodic in some directions only, and
shorter than the cut-off.
"""

from typing import NamedTuple

import numpy as np
from ase.geometry import complete_cell

from ase_fflux.base.jit import njit
from ase_fflux.base.workspace import Workspace
from ase_fflux.forcefield.loops import rows_times

SKIN = 2.0
"""bohr"""

_STATE = ("positions", "molecule", "cell", "pbc", "cutoff")


class Pairs(NamedTuple):
    """Pairs of atoms, each once; atoms of one molecule only as periodic images of each other.

    Attributes
    ----------
    first, second : (P,) int32 arrays
        Atoms i and j.
    images : (P, 3) int32 array
        Cell vectors to add to the position of j.
    """

    first: np.ndarray
    second: np.ndarray
    images: np.ndarray


class NeighbourList:
    """Pairs within a cut-off, listed again only when atoms or cell have moved too far.

    It is the memory of one caller who follows one system, its workspace too: a calculator has one.
    Threads must not share it.

    Parameters
    ----------
    skin : float
        How far beyond the cut-off pairs are listed (bohr). Without it every call lists them.
    """

    def __init__(self, skin: float = SKIN):
        self.skin = skin
        self.workspace = Workspace()
        self.built = 0
        self._pairs = None
        self._state = None
        self._parts = None, {}

    def pairs(self, positions, molecule, cell, pbc, cutoff: float) -> Pairs:
        """All pairs within the cut-off, and some beyond it.

        Parameters
        ----------
        positions : (n, 3) array
            bohr, molecules whole.
        molecule : (n,) int array
            Number of the molecule of each atom.
        cell : (3, 3) array
            Cell vectors in rows, bohr.
        pbc : (3,) bool array
            Periodic directions.
        cutoff : float
            bohr
        """
        if self._pairs is None or not self._holds(positions, molecule, cell, pbc, cutoff):
            self._pairs = find_pairs(positions, molecule, cell, pbc, cutoff + self.skin)
            self._state = positions.copy(), molecule.copy(), cell.copy(), pbc.copy(), cutoff
            self.built += 1
        return self._pairs

    def state(self) -> dict[str, np.ndarray]:
        """What the pairs were listed of, empty before the first call; see `restore`."""
        if self._state is None:
            return {}
        return dict(zip(_STATE, map(np.asarray, self._state), strict=True))

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """List the pairs of a `state`: the same in the same order, so that sums are bitwise equal.
        """
        positions, molecule, cell, pbc, cutoff = (state[name] for name in _STATE)
        self._pairs = find_pairs(positions, molecule, cell, pbc, float(cutoff) + self.skin)
        self._state = positions, molecule, cell, pbc, float(cutoff)
        self.built += 1

    def within(self, cutoff: float) -> Pairs:
        """Those of the pairs last listed that a shorter cut-off needs, in the same order."""
        if cutoff == self._state[4]:
            return self._pairs
        listed, parts = self._parts
        if listed is not self._pairs:
            self._parts = self._pairs, {}
            parts = self._parts[1]
        if cutoff not in parts:
            positions, _, cell = self._state[:3]
            parts[cutoff] = _part(self._pairs, positions, cell, cutoff + self.skin)
        return parts[cutoff]

    def _holds(self, positions, molecule, cell, pbc, cutoff):
        """Whether no pair that is not listed can have come within the cut-off.

        Positions r' = r F + u, with the strain F of the cell: a distance d has become no less than
        d s - 2 |u|, s the smallest singular value of F.
        """
        old, old_molecule, old_cell, old_pbc, old_cutoff = self._state
        if (
            self.skin == 0 or old_cutoff != cutoff or old.shape != positions.shape
            or not np.array_equal(old_pbc, pbc) or not np.array_equal(old_molecule, molecule)
        ):
            return False
        smallest = 1.0
        if not np.array_equal(old_cell, cell):
            if not pbc.all():
                return False
            strain = np.linalg.solve(old_cell, cell)
            # no more than 1: what holds of this cut-off then holds of shorter ones
            smallest = min(1.0, np.linalg.svd(strain, compute_uv=False)[-1])
            old = rows_times(old, strain)
        moved = np.sqrt(np.square(positions - old).sum(axis=1).max(initial=0.0))
        return (cutoff + self.skin) * smallest - 2 * moved >= cutoff


def find_pairs(positions, molecule, cell, pbc, cutoff: float) -> Pairs:
    """All pairs closer than the cut-off; parameters as of `NeighbourList.pairs`."""
    positions = np.ascontiguousarray(positions, dtype=float)
    n = len(positions)
    if n == 0:
        return _room(0)
    cell = complete_cell(np.where(np.asarray(pbc)[:, None], cell, 0.0))
    inverse = np.linalg.inv(cell)
    heights = 1.0 / np.linalg.norm(inverse, axis=0)
    fractions = rows_times(positions, inverse)
    home = np.where(pbc, np.floor(fractions), 0.0)
    fractions -= home
    low = np.where(pbc, 0.0, fractions.min(axis=0))
    length = np.where(pbc, 1.0, fractions.max(axis=0) - low)
    most = 2 + int(np.cbrt(n))  # more bins than this are mostly empty
    bins = np.clip(np.floor(length * heights / cutoff), 1, most).astype(np.int64)
    width = np.maximum(length, 1e-12) / bins
    place = np.clip(((fractions - low) / width).astype(np.int64), 0, bins - 1)
    reach = np.where(
        pbc, np.ceil(cutoff / (width * heights) - 1e-12), np.minimum(1, bins - 1)
    ).astype(np.int64)
    index = (place[:, 0] * bins[1] + place[:, 1]) * bins[2] + place[:, 2]
    members = np.argsort(index, kind="stable")
    start = np.searchsorted(index[members], np.arange(np.prod(bins) + 1))
    home = home.astype(np.int64)
    arguments = (
        rows_times(fractions, cell), np.ascontiguousarray(molecule, dtype=np.int64), cell,
        np.asarray(pbc, dtype=np.bool_), cutoff, bins, place, reach, members, start, home,
    )
    found = _room(_search(*arguments, *_room(0)))
    _search(*arguments, *found)
    return found


def _room(count):
    """Pairs to be written."""
    return Pairs(*np.empty((2, count), dtype=np.int32), np.empty((count, 3), dtype=np.int32))


def _part(pairs, positions, cell, cutoff):
    """The pairs closer than a cut-off."""
    near = _near(*pairs, positions, cell, cutoff)
    return Pairs(pairs.first[near], pairs.second[near], pairs.images[near])


@njit
def _near(first, second, images, x, cell, cutoff):
    """(P,) mask of the pairs closer than a cut-off."""
    near = np.empty(len(first), dtype=np.bool_)
    for p in range(len(first)):
        r2 = 0.0
        for k in range(3):
            d = x[second[p], k] - x[first[p], k]
            for h in range(3):
                d += images[p, h] * cell[h, k]
            r2 += d * d
        near[p] = r2 < cutoff * cutoff
    return near


@njit
def _search(
    x, molecule, cell, pbc, cutoff, bins, place, reach, members, start, home, first, second, images
):
    """Count pairs, and write them where there is room."""
    count = 0
    limit = cutoff * cutoff
    at, turn = np.empty(3, np.int64), np.empty(3, np.int64)
    for i in range(len(x)):
        for dx in range(-reach[0], reach[0] + 1):
            for dy in range(-reach[1], reach[1] + 1):
                for dz in range(-reach[2], reach[2] + 1):
                    at[0], at[1], at[2] = place[i, 0] + dx, place[i, 1] + dy, place[i, 2] + dz
                    inside = True
                    for k in range(3):
                        turn[k] = 0
                        if pbc[k]:
                            turn[k] = at[k] // bins[k]
                            at[k] -= turn[k] * bins[k]
                        elif at[k] < 0 or at[k] >= bins[k]:
                            inside = False
                    if not inside:
                        continue
                    box = (at[0] * bins[1] + at[1]) * bins[2] + at[2]
                    sx = turn[0] * cell[0, 0] + turn[1] * cell[1, 0] + turn[2] * cell[2, 0]
                    sy = turn[0] * cell[0, 1] + turn[1] * cell[1, 1] + turn[2] * cell[2, 1]
                    sz = turn[0] * cell[0, 2] + turn[1] * cell[1, 2] + turn[2] * cell[2, 2]
                    for m in range(start[box], start[box + 1]):
                        j = members[m]
                        if j < i:
                            continue
                        a = turn[0] + home[i, 0] - home[j, 0]
                        b = turn[1] + home[i, 1] - home[j, 1]
                        c = turn[2] + home[i, 2] - home[j, 2]
                        if j == i and not (a > 0 or (a == 0 and (b > 0 or (b == 0 and c > 0)))):
                            continue
                        if a == 0 and b == 0 and c == 0 and molecule[i] == molecule[j]:
                            continue
                        vx = x[j, 0] - x[i, 0] + sx
                        vy = x[j, 1] - x[i, 1] + sy
                        vz = x[j, 2] - x[i, 2] + sz
                        if vx * vx + vy * vy + vz * vz < limit:
                            if count < len(first):
                                first[count], second[count] = i, j
                                images[count, 0], images[count, 1], images[count, 2] = a, b, c
                            count += 1
    return count
