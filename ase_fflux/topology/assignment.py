"""Which input atom is which atom of which model, and molecules made whole with it."""

from dataclasses import dataclass

import numpy as np
from ase.data import covalent_radii

from ase_fflux.base.errors import GeometryError
from ase_fflux.base.units import BOHR
from ase_fflux.topology.graphs import atom_label
from ase_fflux.topology.lattice import Lattice
from ase_fflux.topology.pattern import Pattern


@dataclass(frozen=True, eq=False)
class Assignment:
    """Which input atom is which atom of which model.

    Attributes
    ----------
    patterns : tuple of Pattern
        The models, K of them.
    atoms_of_model : tuple of (M_k, N_k) int
        For each model and each of its molecules the input atoms in the model's own order.
    molecule : (n,) int
        Molecule of every input atom, counted through the models in turn: row m of
        ``atoms_of_model[k]`` is molecule ``M_0 + ... + M_(k-1) + m``.
    links : tuple of (M_k, F_k - 1, 2) int
        For models of F_k fragments: model atoms (from, to) that tie one fragment more to those
        before it.
    """

    patterns: tuple[Pattern, ...]
    atoms_of_model: tuple[np.ndarray, ...]
    molecule: np.ndarray
    links: tuple[np.ndarray, ...]

    @property
    def molecules(self) -> tuple[tuple[int, np.ndarray], ...]:
        """(model index, (N_k,) input atoms in model order) of every molecule, in the order of
        their ids."""
        return tuple((k, row) for k, atoms in enumerate(self.atoms_of_model) for row in atoms)

    def unwrap(self, positions, cell=None, pbc=None) -> np.ndarray:
        """Positions with every molecule whole.

        Along the bonds of each fragment's spanning tree, and then along the links between
        fragments, every atom is taken at the image nearest to the atom before it; the first atom
        stays where it is.

        Parameters
        ----------
        positions : (n, 3) float, bohr
        cell : (3, 3) float, bohr
        pbc : bool or (3,) bool

        Returns
        -------
        (n, 3) float
            The input itself if nothing is periodic.

        Raises
        ------
        GeometryError
            A bond or link not shorter than half the smallest height of the cell.
        """
        lattice = Lattice(cell, pbc)
        if not lattice.pbc.any():
            return positions
        whole = np.array(positions, dtype=float)
        for pattern, atoms, links in zip(
            self.patterns, self.atoms_of_model, self.links, strict=True
        ):
            x = whole[atoms]
            child = np.flatnonzero(pattern.parent >= 0)
            edges = x[:, child] - x[:, pattern.parent[child]]
            images = lattice.images(edges)
            self._check_short(
                edges + images @ lattice.cell,
                lattice,
                atoms[:, pattern.parent[child]],
                atoms[:, child],
            )
            x += (pattern.paths[:, child] @ images) @ lattice.cell
            rows = np.arange(len(atoms))
            for first, second in links.transpose(1, 2, 0):
                edges = x[rows, second] - x[rows, first]
                shift = lattice.images(edges) @ lattice.cell
                self._check_short(edges + shift, lattice, atoms[rows, first], atoms[rows, second])
                moved = pattern.fragment == pattern.fragment[second][:, None]
                x += moved[..., None] * shift[:, None]
            whole[atoms] = x
        return whole

    def _check_short(self, vectors, lattice, first, second):
        length = np.linalg.norm(vectors, axis=-1)
        if length.size and not length.max() < lattice.half_height:
            worst = np.unravel_index(np.argmax(length), length.shape)
            numbers = np.zeros(len(self.molecule), dtype=int)
            for pattern, atoms in zip(self.patterns, self.atoms_of_model, strict=True):
                numbers[atoms] = pattern.numbers
            one, other = (atom_label(atoms[worst], numbers) for atoms in (first, second))
            raise GeometryError(
                f"{one} and {other} of one molecule are {BOHR * length[worst]:.3f} Angstrom apart, "
                "not less than half the cell's smallest height "
                f"({BOHR * lattice.half_height:.3f} Angstrom): their nearest images are ambiguous; "
                "use a larger cell (repeat it) or mend the geometry"
            )

    def long_bonds(self, positions, cell, pbc, factor: float) -> list[tuple[int, int, float]]:
        """Bonds of the models longer than `factor` times the sum of covalent radii.

        Returns
        -------
        list of (int, int, float)
            Input atoms and distance (bohr), the longest first.
        """
        lattice = Lattice(cell, pbc)
        found = []
        for pattern, atoms in zip(self.patterns, self.atoms_of_model, strict=True):
            i, j = pattern.bonds.T
            vectors = positions[atoms[:, j]] - positions[atoms[:, i]]
            if lattice.pbc.any():
                vectors = lattice.shortest(vectors)
            radii = covalent_radii[pattern.numbers] / BOHR
            length = np.linalg.norm(vectors, axis=-1)
            found += [
                (int(atoms[m, i[b]]), int(atoms[m, j[b]]), float(length[m, b]))
                for m, b in np.argwhere(~(length < factor * (radii[i] + radii[j])))
            ]
        return sorted(found, key=lambda bond: (-bond[2], bond[:2]))


def assemble(patterns, atoms_of_model, positions, cell, pbc) -> Assignment:
    """Assignment from the input atoms (M_k, N_k) of every model: ids of molecules, links of
    fragments."""
    lattice = Lattice(cell, pbc)
    molecule = np.full(len(positions), -1)
    links, first = [], 0
    for pattern, atoms in zip(patterns, atoms_of_model, strict=True):
        molecule[atoms] = first + np.arange(len(atoms))[:, None]
        first += len(atoms)
        links.append(_nearest_links(pattern.fragment, positions[atoms], lattice))
    return Assignment(tuple(patterns), tuple(atoms_of_model), molecule, tuple(links))


def _nearest_links(fragment, x, lattice):
    """Links (M, F - 1, 2) between fragments by nearest atoms: Prim's minimum spanning tree.

    `fragment` (N,) and the coordinates `x` (M, N, 3) are in model order.
    """
    n_links = fragment.max()
    rows = np.arange(len(x))
    links = np.zeros((len(x), n_links, 2), dtype=int)
    if n_links == 0 or len(x) == 0:
        return links
    distance = np.linalg.norm(lattice.shortest(x[:, None] - x[:, :, None]), axis=-1)
    placed = np.broadcast_to(fragment == 0, x.shape[:2])
    for k in range(n_links):
        across = np.where(placed[:, :, None] & ~placed[:, None], distance, np.inf)
        nearest = across.reshape(len(x), -1).argmin(axis=1)
        links[rows, k] = np.column_stack(np.divmod(nearest, x.shape[1]))
        placed = placed | (fragment == fragment[links[rows, k, 1]][:, None])
    return links
