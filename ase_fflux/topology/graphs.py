"""Bonds, and molecules as graphs of atoms and bonds."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from ase.data import chemical_symbols, covalent_radii
from ase.neighborlist import primitive_neighbor_list
from ase.symbols import Symbols
from scipy.sparse import coo_array
from scipy.sparse.csgraph import breadth_first_order, connected_components, shortest_path
from scipy.spatial import cKDTree

from ase_fflux.base.errors import GeometryError
from ase_fflux.base.units import BOHR
from ase_fflux.topology.lattice import Lattice

# C-H up to 1.39 A and O-H up to 1.26 A are bonds, as needed for hot geometries; hydrogen bonds
# (1.5 A and more) and 1,3 distances (from 1.4 times the sum of radii in four-membered rings) are
# not.
BOND_SCALE = 1.3
COINCIDENT = 0.5


def bonds(numbers, positions, cell=None, pbc=None, scale=BOND_SCALE):
    """Bonded pairs of atoms by covalent radii (`ase.data.covalent_radii`).

    Parameters
    ----------
    numbers : (n,) int
        Atomic numbers.
    positions : (n, 3) float
        Positions in bohr, wrapped into the cell or not.
    cell : (3, 3) float, optional
        Cell vectors in bohr; needed along periodic directions.
    pbc : bool or (3,) bool, optional
        Periodic directions; none by default.
    scale : float
        Atoms closer than this times the sum of their covalent radii are bonded.

    Returns
    -------
    pairs : (B, 2) int
        Bonded atoms i <= j, sorted. i = j is an atom bonded to its own periodic image.
    shifts : (B, 3) int
        Cells to add: the bond vector is ``positions[j] + shifts @ cell - positions[i]``.

    Raises
    ------
    GeometryError
        No atoms, a position that is not a number, two atoms within 0.5 bohr, or no cell where
        periodic.
    """
    numbers = np.asarray(numbers, dtype=int)
    positions = np.asarray(positions, dtype=float)
    check_geometry(numbers, positions)
    pairs, shifts, _ = contacts(numbers, positions, Lattice(cell, pbc), scale)
    return pairs, shifts


def bonds_between(numbers, positions) -> np.ndarray:
    """(n, n) int number of bonds on the shortest path between atoms, n where there is none.

    Parameters and errors as of `bonds`, without a cell.
    """
    pairs, _ = bonds(numbers, positions)
    return Graph(np.asarray(numbers), pairs).steps


_FARTHEST = 1e9
"""bohr; farther out, distances between atoms are lost in rounding, and their squares overflow."""


def check_geometry(numbers, positions) -> None:
    """Refuse what is no geometry: no atoms, another shape than (n, 3), positions not finite or
    absurd."""
    if len(numbers) == 0:
        raise GeometryError("there are no atoms in this structure")
    if positions.shape != (len(numbers), 3):
        raise GeometryError(
            f"{len(numbers)} atoms need positions of shape ({len(numbers)}, 3), "
            f"not {positions.shape}"
        )
    bad = np.flatnonzero(~np.isfinite(positions).all(axis=1))
    if len(bad):
        raise GeometryError(
            f"{atom_label(bad[0], numbers)} has the position {positions[bad[0]]}, "
            "which is not finite"
        )
    far = np.flatnonzero((np.abs(positions) > _FARTHEST).any(axis=1))
    if len(far):
        raise GeometryError(
            f"{atom_label(far[0], numbers)} has the position {positions[far[0]]} bohr: too far out "
            "for distances between atoms"
        )


def contacts(numbers, positions, lattice: Lattice, scale: float):
    """Pairs of atoms within `scale` times the sum of their covalent radii.

    Returns
    -------
    pairs : (C, 2) int
    shifts : (C, 3) int
        As `bonds` returns them.
    ratio : (C,) float
        Distance relative to the sum of the radii.

    Raises
    ------
    GeometryError
        Two atoms within 0.5 bohr.
    """
    radii = covalent_radii[numbers] / BOHR
    if lattice.pbc.any():
        i, j, distance, shifts = primitive_neighbor_list(
            "ijdS", lattice.pbc, lattice.cell, positions, scale * radii
        )
        once = i <= j
        i, j, distance, shifts = i[once], j[once], distance[once], shifts[once]
    else:  # much faster than a list that knows cells
        near = cKDTree(positions).query_pairs(2 * scale * radii.max(), output_type="ndarray")
        i, j = near.T
        distance = np.linalg.norm(positions[j] - positions[i], axis=1)
        near = distance < scale * (radii[i] + radii[j])
        i, j, distance = i[near], j[near], distance[near]
        shifts = np.zeros((len(i), 3), dtype=int)
    order = np.lexsort((*shifts.T[::-1], j, i))
    i, j, distance, shifts = i[order], j[order], distance[order], shifts[order]
    if (distance < COINCIDENT).any():
        k = np.argmin(distance)
        raise _on_one_spot(i[k], j[k], distance, numbers)
    return np.column_stack([i, j]), shifts, distance / (radii[i] + radii[j])


def apart(positions: np.ndarray, numbers: np.ndarray) -> None:
    """Refuse atoms on one spot, their periodic images left out.

    Parameters
    ----------
    positions : (n, 3) array
        bohr.
    numbers : (n,) int array
        Atomic numbers.

    Raises
    ------
    GeometryError
        Two atoms within 0.5 bohr.
    """
    if len(near := cKDTree(positions).query_pairs(COINCIDENT, output_type="ndarray")):
        i, j = near.T
        distance = np.linalg.norm(positions[j] - positions[i], axis=1)
        k = np.argmin(distance)
        raise _on_one_spot(i[k], j[k], distance, numbers)


def _on_one_spot(i, j, distances, numbers) -> GeometryError:
    many = len(numbers) > 2 and (distances < COINCIDENT).sum() >= len(numbers) - 1
    cure = (
        "so are most others: are the positions in Angstrom, and not in nm?" if many
        else "remove or move one of them"
    )
    return GeometryError(
        f"{atom_label(i, numbers)} and {atom_label(j, numbers)} are on one spot "
        f"({distances.min() * BOHR:.4f} Angstrom apart); {cure}"
    )


def atom_label(index, numbers) -> str:
    """An atom as messages name it, such as ``atom 3 (O)``: its place in the file, from 1.

    Parameters
    ----------
    index : int
        From 0.
    numbers : (n,) int
        Atomic numbers of all atoms.
    """
    return f"atom {int(index) + 1} ({chemical_symbols[int(numbers[index])]})"


def atom_names(atoms, numbers, most: int = 24) -> str:
    """Atoms for a message, such as ``O3, H4, H5``, shortened where there are many."""
    more = f", ... ({len(atoms)} in all)" if len(atoms) > most else ""
    return ", ".join(
        f"{chemical_symbols[int(numbers[a])]}{int(a) + 1}" for a in atoms[:most]
    ) + more


@dataclass(frozen=True, eq=False)
class Graph:
    """Atoms and bonds without geometry: `numbers` (N,) int and `bonds` (B, 2) int."""

    numbers: np.ndarray
    bonds: np.ndarray

    @cached_property
    def formula(self) -> str:
        """Chemical formula in Hill order."""
        return Symbols(self.numbers).get_chemical_formula()

    @cached_property
    def neighbours(self) -> tuple[tuple[int, ...], ...]:
        """Bonded atoms of every atom, ascending."""
        found = [[] for _ in self.numbers]
        for i, j in self.bonds.tolist():
            found[i].append(j)
            found[j].append(i)
        return tuple(tuple(sorted(f)) for f in found)

    @cached_property
    def fragment(self) -> np.ndarray:
        """(N,) int, the number of the connected component every atom belongs to."""
        return connected_components(self._adjacency, directed=False)[1]

    @cached_property
    def steps(self) -> np.ndarray:
        """(N, N) int, the number of bonds on the shortest path between atoms, N where none is."""
        steps = shortest_path(self._adjacency, directed=False, unweighted=True)
        return np.where(np.isfinite(steps), steps, len(self.numbers)).astype(int)

    def fragment_without(self, i: int, j: int) -> np.ndarray:
        """The same once the bond between atoms i and j, if there is one, is cut."""
        cut = (np.sort(self.bonds, axis=1) == sorted((i, j))).all(axis=1)
        return Graph(self.numbers, self.bonds[~cut]).fragment

    @cached_property
    def parent(self) -> np.ndarray:
        """(N,) int, the atom before every atom in its fragment's spanning tree; -1 at the roots."""
        parent = np.full(len(self.numbers), -1)
        for root in np.unique(self.fragment, return_index=True)[1]:
            reached, before = breadth_first_order(self._adjacency, root, directed=False)
            parent[reached[1:]] = before[reached[1:]]
        return parent

    @cached_property
    def colours(self) -> tuple[int, ...]:
        """Weisfeiler-Lehman colours: atoms that an isomorphism can exchange have the same.

        Hashes of nested tuples of integers, hence comparable between graphs and processes.
        """
        colours = self.numbers.tolist()
        classes = 0
        while len(set(colours)) > classes:
            classes = len(set(colours))
            colours = [
                hash((colour, *sorted(colours[j] for j in around)))
                for colour, around in zip(colours, self.neighbours, strict=True)
            ]
        return tuple(colours)

    @cached_property
    def key(self) -> tuple[int, ...]:
        """Equal for isomorphic graphs (and, rarely, for others)."""
        return tuple(sorted(self.colours))

    @cached_property
    def _adjacency(self):
        n = len(self.numbers)
        return coo_array((np.ones(len(self.bonds)), tuple(self.bonds.T)), shape=(n, n)).tocsr()
