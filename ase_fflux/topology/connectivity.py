"""What holds a molecule or cluster together, to notice when it comes apart."""

import numpy as np
from ase.data import covalent_radii

from ase_fflux.base.units import BOHR
from ase_fflux.topology.graphs import Graph, atom_label, bonds
from ase_fflux.topology.perception import FORMED

SEPARATED = 1.5
"""Times the sum of covalent radii at which a bond is gone: between this and `FORMED` a shared
proton is still its first owner's."""
OPENED = 1.6
"""Times its length at the start at which a contact between fragments is gone."""
CONTACT = 1.1
"""Times the shortest distance between fragments up to which others are contacts as well."""


class Connectivity:
    """Bonds and closest contacts of a geometry without periodic boundaries.

    Parameters
    ----------
    numbers : (N,) int
        Atomic numbers.
    positions : (N, 3) float
        bohr; its bonds are those to be kept, and so are the closest contacts between fragments
        (such as hydrogen bonds). A contact may pass on to equivalent atoms: the hydrogens of a
        water molecule take turns in its hydrogen bond.
    """

    def __init__(self, numbers, positions):
        self._numbers = np.asarray(numbers, dtype=int)
        graph = Graph(self._numbers, bonds(self._numbers, positions)[0])
        radii = covalent_radii[self._numbers] / BOHR
        first, second = self._pairs = np.triu_indices(len(radii), 1)
        reach = radii[first] + radii[second]
        distances = self._distances(positions)
        bonded = np.zeros((len(radii),) * 2, dtype=bool)
        bonded[tuple(graph.bonds.T)] = True
        bonded = bonded[first, second]
        between = graph.fragment[first] != graph.fragment[second]
        self._longest = np.where(bonded, SEPARATED * reach, np.inf)
        self._shortest = np.where(bonded, 0.0, FORMED * reach)
        self._contacts = []
        if between.any():
            contact = between & (distances < CONTACT * distances[between].min())
            colours = np.array(graph.colours)
            kinds = np.sort([colours[first], colours[second]], axis=0)
            for kind in np.unique(kinds[:, contact], axis=1).T:
                alike = between & (kinds == kind[:, None]).all(axis=0)
                kept = np.sort(distances[contact & alike])
                self._contacts.append((np.flatnonzero(alike), OPENED * kept))

    def _distances(self, positions):
        first, second = self._pairs
        return np.linalg.norm(positions[first] - positions[second], axis=1)

    def change(self, positions) -> str:
        """What has changed at other positions (N, 3), in words; empty where nothing has."""
        distances = self._distances(positions)
        wrong = ~((distances > self._shortest) & (distances < self._longest))
        for pairs, longest in self._contacts:
            nearest = pairs[np.argsort(distances[pairs], kind="stable")[:len(longest)]]
            wrong[nearest] |= ~(distances[nearest] < longest)
        if not wrong.any():
            return ""
        pair = int(np.flatnonzero(wrong)[0])
        first, second = (atom_label(x[pair], self._numbers) for x in self._pairs)
        verb = "bonded to" if distances[pair] <= self._shortest[pair] else "separated from"
        return f"{first} {verb} {second} ({BOHR * distances[pair]:.2f} Angstrom)"
