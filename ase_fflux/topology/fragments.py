"""Connected parts of a set of atoms, and which of them are alike."""

from collections.abc import Sequence

import numpy as np

from ase_fflux.topology.graphs import Graph
from ase_fflux.topology.isomorphism import mappings


class Fragments:
    """The connected components of the input, sorted into kinds of equal elements and bonds."""

    def __init__(self, numbers, pairs):
        self.numbers = numbers
        self.label = Graph(numbers, pairs).fragment
        self.atoms = np.split(
            np.argsort(self.label, kind="stable"), np.cumsum(np.bincount(self.label))[:-1]
        )
        pairs = pairs[np.argsort(self.label[pairs[:, 0]], kind="stable")]
        n_bonds = np.bincount(self.label[pairs[:, 0]], minlength=len(self.atoms))
        self._bonds = np.split(pairs, np.cumsum(n_bonds)[:-1])
        self._graphs: dict[tuple[bytes, bytes], Graph] = {}
        self._kinds: dict[tuple[int, ...], list[tuple[Graph, int]]] = {}
        self._kind_of_graph: dict[Graph, int] = {}

    def graph(self, members: Sequence[int]) -> tuple[np.ndarray, Graph]:
        """Atoms (N,) ascending and graph of some fragments; equal graphs are one object."""
        atoms = np.sort(np.concatenate([self.atoms[f] for f in members]))
        pairs = np.searchsorted(atoms, np.concatenate([self._bonds[f] for f in members]))
        numbers = self.numbers[atoms]
        signature = (numbers.tobytes(), pairs.tobytes())
        if signature not in self._graphs:
            self._graphs[signature] = Graph(numbers, pairs)
        return atoms, self._graphs[signature]

    def kind(self, graph: Graph) -> int:
        """Number of the kind of a connected graph: the same for isomorphic ones."""
        known = self._kind_of_graph.get(graph)
        if known is None:
            alike = self._kinds.setdefault(graph.key, [])
            known = next((k for g, k in alike if next(mappings(g, graph), None) is not None), None)
            if known is None:
                known = sum(map(len, self._kinds.values()))
                alike.append((graph, known))
            self._kind_of_graph[graph] = known
        return known
