"""Ways to lay the atoms of one graph onto those of another, elements and bonds agreeing."""

from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice

import numpy as np

from ase_fflux.base.errors import TopologyError
from ase_fflux.topology.graphs import Graph

ISOMORPHISM_LIMIT = 50_000


def isomorphisms(pattern: Graph, graph: Graph, limit: int = ISOMORPHISM_LIMIT) -> np.ndarray:
    """All ways to lay the atoms of `pattern` onto those of `graph`, elements and bonds agreeing.

    Returns
    -------
    (n_iso, N) int
        ``[k, i]`` is the atom of `graph` that atom i of `pattern` becomes; n_iso = 0 if there is
        none.

    Raises
    ------
    TopologyError
        If there are more than `limit`.
    """
    found = list(islice(mappings(pattern, graph), limit + 1))
    if len(found) > limit:
        raise TopologyError(
            f"{pattern.formula} has more than {limit} equivalent ways to label its atoms; "
            "give the assignment explicitly (for each molecule its atoms in the model's order)"
        )
    return np.array(found, dtype=int).reshape(-1, len(pattern.numbers))


def mappings(
    pattern: Graph, graph: Graph, allow: Callable[[int, int, list[int]], bool] | None = None
) -> Iterator[tuple[int, ...]]:
    """Isomorphisms one by one, by backtracking over atoms in an order that follows the bonds.

    `allow(atom, candidate, image)` may veto candidates; `image` holds the atoms placed so far, -1
    elsewhere. Equal colours imply equal degrees: if all bonds of the pattern are in the graph,
    none is left over.
    """
    if pattern.key != graph.key:
        return
    order, placed_neighbours = _search_order(pattern)
    image = [-1] * len(order)
    used = [False] * len(order)

    def candidates(step):
        atom, placed = order[step], placed_neighbours[step]
        pool = graph.neighbours[image[placed[0]]] if placed else range(len(order))
        for c in pool:
            if (
                not used[c]
                and graph.colours[c] == pattern.colours[atom]
                and all(image[p] in graph.neighbours[c] for p in placed[1:])
                and (allow is None or allow(atom, c, image))
            ):
                yield c

    stack = [candidates(0)]
    while stack:
        atom = order[len(stack) - 1]
        if image[atom] >= 0:
            used[image[atom]] = False
            image[atom] = -1
        choice = next(stack[-1], None)
        if choice is None:
            stack.pop()
            continue
        image[atom] = choice
        used[choice] = True
        if len(stack) == len(order):
            yield tuple(image)
        else:
            stack.append(candidates(len(stack)))


def _search_order(graph: Graph) -> tuple[list[int], list[list[int]]]:
    """Atoms in breadth-first order from the rarest ones, and each one's bonded atoms that precede
    it."""
    frequency = Counter(graph.colours)
    order: list[int] = []
    for root in sorted(range(len(graph.numbers)), key=lambda i: frequency[graph.colours[i]]):
        if root in order:
            continue
        start = len(order)
        order.append(root)
        while start < len(order):
            order += [j for j in graph.neighbours[order[start]] if j not in order]
            start += 1
    rank = {atom: k for k, atom in enumerate(order)}
    return order, [[j for j in graph.neighbours[a] if rank[j] < rank[a]] for a in order]
