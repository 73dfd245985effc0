"""Models as topology knows them: their graphs, symmetry and handedness."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from ase_fflux.topology.graphs import Graph, bonds
from ase_fflux.topology.isomorphism import isomorphisms

FLAT = 1e-3
"""Volume of three unit vectors below which they lie in a plane."""


@dataclass(frozen=True, eq=False)
class Pattern(Graph):
    """What topology knows of a model: its name, elements, bonds and fragments (see `Graph`)."""

    name: str
    hands: np.ndarray | None = None
    """Signs of `handedness` that all training geometries have, 0 where they differ; None if they
    are not known."""

    @classmethod
    def from_geometry(cls, name: str, numbers, positions, geometries=None) -> "Pattern":
        """Pattern of a model.

        Parameters
        ----------
        name : str
        numbers : (N,) int
            Atomic numbers.
        positions : (N, 3) float
            Its reference geometry (bohr), which tells the bonds.
        geometries : (G, N, 3) float, optional
            Its training geometries (bohr), which tell the handedness of its atoms.
        """
        numbers = np.asarray(numbers, dtype=int)
        pattern = cls(numbers, bonds(numbers, positions)[0], name)
        if geometries is None:
            return pattern
        signs = pattern.handedness(geometries)
        return replace(pattern, hands=np.where((signs == signs[0]).all(axis=0), signs[0], 0.0))

    @cached_property
    def paths(self) -> np.ndarray:
        """(N, N) int, 1 where the tree edge parent[j]-j lies on the way from the root to atom i."""
        paths = np.zeros((len(self.numbers),) * 2, dtype=int)
        for i in range(len(self.numbers)):
            j = i
            while self.parent[j] >= 0:
                paths[i, j] = 1
                j = self.parent[j]
        return paths

    @cached_property
    def automorphisms(self) -> np.ndarray:
        """(n, N) int, all relabellings of the atoms that keep elements and bonds."""
        return isomorphisms(self, self)

    def handedness(self, geometries: np.ndarray) -> np.ndarray:
        """(G, centres) signs of the volumes spanned by the neighbours of atoms with four of them,
        0 where these lie in a plane.

        For geometries (G, N, 3) with the atoms in the order of the pattern.
        """
        centres = [n for n in self.neighbours if len(n) == 4]
        signs = np.zeros((len(geometries), len(centres)))
        for column, (first, *others) in enumerate(centres):
            edges = geometries[:, others] - geometries[:, None, first]
            volume = np.linalg.det(edges) / np.linalg.norm(edges, axis=2).prod(axis=1)
            signs[:, column] = np.where(np.abs(volume) > FLAT, np.sign(volume), 0.0)
        return signs
