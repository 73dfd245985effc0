"""Matching: the molecules in a set of atoms, and the models' atoms laid onto them."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from ase.neighborlist import primitive_neighbor_list

from ase_fflux.base.errors import GeometryError, TopologyError
from ase_fflux.base.units import BOHR
from ase_fflux.topology.assignment import Assignment, assemble
from ase_fflux.topology.diagnosis import misfit
from ase_fflux.topology.explicit import explicit_atoms
from ase_fflux.topology.fragments import Fragments
from ase_fflux.topology.graphs import Graph, atom_label, atom_names, bonds, check_geometry
from ase_fflux.topology.isomorphism import mappings
from ase_fflux.topology.lattice import Lattice
from ase_fflux.topology.pattern import Pattern
from ase_fflux.topology.perception import BROKEN, model_bonds

# Candidates in one call of the score: bounds the memory, leaves the score enough to vectorise over.
SCORE_BATCH = 20_000
SCORE_TIE = 1e-9


def match(
    patterns: Sequence[Pattern],
    numbers,
    positions,
    cell,
    pbc,
    score: Callable[[int, np.ndarray], np.ndarray],
    explicit: Sequence[Sequence[int]] | Mapping[str, Sequence[Sequence[int]]] | None = None,
) -> Assignment:
    """Find the molecules in a set of atoms and lay the models' atoms onto them.

    Larger models are matched first. A model of several fragments takes the nearest fragments of
    the kinds it needs (shortest distance between atoms of different fragments, minimum image),
    nearest pairs first.

    Parameters
    ----------
    patterns : sequence of Pattern
        The models.
    numbers : (n,) int
        Atomic numbers.
    positions : (n, 3) float
        Positions in bohr, in any order, wrapped into the cell or not.
    cell, pbc
        As for `bonds`.
    score : callable
        ``score(k, coordinates)`` takes the index of a model and candidates (c, N_k, 3) in bohr,
        each a whole molecule in the model's order, and returns (c,) values; the candidate with
        the lowest is taken. Among equals (within 1e-9) it is the one that keeps the order of the
        input: the lexicographically smallest tuple of input indices. Not called where there is
        one candidate only.
    explicit : list of lists of int, or dict of name to such, optional
        For every molecule its input atoms in the model's order: a plain list for one model, by
        the names of the models for several. The score is not looked at then, and of the geometry
        only that no bond of the models is broken and that no order is that of a mirror image.

    Returns
    -------
    Assignment

    Raises
    ------
    GeometryError
        See `bonds` and `Assignment.unwrap`.
    TopologyError
        Atoms that no model fits, fragments left over, two models alike, a molecule bonded to its
        own periodic image, more than 50,000 equivalent labellings, or an explicit assignment that
        is none, or contradicts bonds or handedness of the models.
    """
    patterns = tuple(patterns)
    numbers = np.asarray(numbers, dtype=int)
    positions = np.asarray(positions, dtype=float)
    check_geometry(numbers, positions)
    if explicit is not None:
        bonds(numbers, positions, cell, pbc)  # refuses atoms on one spot
        atoms_of_model = explicit_atoms(patterns, numbers, explicit)
        assignment = assemble(patterns, atoms_of_model, positions, cell, pbc)
        _check_bonds(assignment, numbers, positions, cell, pbc)
        _check_hands(assignment, numbers, assignment.unwrap(positions, cell, pbc))
        return assignment
    pairs = model_bonds(patterns, numbers, positions, cell, pbc)
    repeated = (pairs[1:] == pairs[:-1]).all(axis=1)
    for i, j in (*pairs[pairs[:, 0] == pairs[:, 1]], *pairs[1:][repeated]):
        _refuse_endless(i, j, numbers)
    fragments = Fragments(numbers, pairs)
    atoms_of_model = _find_molecules(patterns, fragments, positions, Lattice(cell, pbc))
    assignment = assemble(patterns, atoms_of_model, positions, cell, pbc)
    whole = assignment.unwrap(positions, cell, pbc)
    _check_finite_molecules(assignment, whole, Lattice(cell, pbc), numbers)
    chosen = [
        _best_labels(k, pattern, atoms, whole, score, numbers)
        for k, (pattern, atoms) in enumerate(zip(patterns, atoms_of_model, strict=True))
    ]
    return assemble(patterns, chosen, positions, cell, pbc)


def _find_molecules(patterns, fragments, positions, lattice) -> list[np.ndarray]:
    """Input atoms (M_k, N_k) of the molecules of every model, each by some isomorphism."""
    needs = []
    for pattern in patterns:
        parts = Fragments(pattern.numbers, pattern.bonds)
        needs.append(Counter(fragments.kind(parts.graph([f])[1]) for f in range(len(parts.atoms))))
        twin = needs.index(needs[-1])
        if twin < len(needs) - 1:
            raise TopologyError(
                f"models {patterns[twin].name!r} and {pattern.name!r} both describe "
                f"{pattern.formula} with the same bonds; give one, or an explicit assignment"
            )
    kind = np.array([fragments.kind(fragments.graph([f])[1]) for f in range(len(fragments.atoms))])
    free = np.ones(len(kind), dtype=bool)
    atoms_of_model: list[np.ndarray] = [np.empty(0)] * len(patterns)
    for k in sorted(range(len(patterns)), key=lambda k: -len(patterns[k].numbers)):
        units = _group_fragments(needs[k], kind, free, fragments.label, positions, lattice)
        free[[f for unit in units for f in unit]] = False
        labels: dict[Graph, np.ndarray] = {}
        rows = []
        for unit in units:
            atoms, graph = fragments.graph(unit)
            if graph not in labels:
                labels[graph] = np.array(next(mappings(patterns[k], graph)))
            rows.append(atoms[labels[graph]])
        rows.sort(key=min)
        atoms_of_model[k] = np.array(rows, dtype=int).reshape(-1, len(patterns[k].numbers))
    if free.any():
        raise TopologyError(misfit(patterns, needs, kind, fragments, np.flatnonzero(free)))
    return atoms_of_model


def _group_fragments(needs, kind, free, label, positions, lattice) -> list[list[int]]:
    """Free fragments grouped into the molecules of a model that `needs` so many of each kind."""
    free = free & np.isin(kind, list(needs))
    if needs.total() == 1:
        return [[f] for f in np.flatnonzero(free)]
    units = []
    radius = 8.0
    while all((free & (kind == k)).sum() >= needs[k] for k in needs):
        atoms = np.flatnonzero(free[label])
        i, j, distance = primitive_neighbor_list(
            "ijd", lattice.pbc, lattice.cell, positions[atoms], radius
        )
        between = np.column_stack([label[atoms[i]], label[atoms[j]]])[
            np.argsort(distance, kind="stable")
        ]
        between = between[between[:, 0] < between[:, 1]]
        # The first mention of a pair is its shortest distance; keep that order.
        between = between[np.sort(np.unique(between, axis=0, return_index=True)[1])].tolist()
        for seed in between:
            unit = _grow(seed, between, needs, kind, free)
            if unit:
                units.append(unit)
                free[unit] = False
        radius *= 2
    return units


def _grow(seed, between, needs, kind, free) -> list[int] | None:
    """The molecule around two near fragments, or None if they (and those within reach) do not
    make one."""
    unit, pair = [], seed
    while pair:
        unit += [f for f in pair if f not in unit]
        if not free[unit].all() or Counter(kind[unit].tolist()) - needs:
            return None
        missing = needs - Counter(kind[unit].tolist())
        if not missing:
            return unit
        pair = next(
            (
                p
                for p in between
                for inside, outside in (p, p[::-1])
                if inside in unit
                and outside not in unit
                and free[outside]
                and kind[outside] in missing
            ),
            None,
        )
    return None


def _best_labels(k, pattern, atoms, whole, score, numbers) -> np.ndarray:
    """Input atoms (M, N) by the best isomorphism: those given composed with the pattern's
    automorphisms."""
    if len(atoms) == 0 or len(pattern.automorphisms) == 1:
        return atoms
    best = np.empty_like(atoms)
    n_candidates = len(pattern.automorphisms)
    step = max(1, SCORE_BATCH // n_candidates)
    for start in range(0, len(atoms), step):
        candidates = atoms[start : start + step][:, pattern.automorphisms]
        values = score(k, whole[candidates].reshape(-1, *whole[atoms[0]].shape))
        values = np.asarray(values, dtype=float).reshape(candidates.shape[:2])
        if np.isnan(values).any():
            row = candidates[np.isnan(values).any(axis=1)][0, 0]
            raise GeometryError(
                f"the molecule of atoms {atom_names(row, numbers)} has no defined distance to the "
                f"training data of model {pattern.name!r}; check its geometry for linear or "
                "collapsed parts"
            )
        lowest = values.min(axis=1, keepdims=True)
        tied = values <= lowest + SCORE_TIE * (1 + abs(lowest))
        for m, (rows, allowed) in enumerate(zip(candidates, tied, strict=True), start):
            best[m] = min(rows[allowed].tolist())
    return best


def _check_bonds(assignment, numbers, positions, cell, pbc):
    """Refuse molecules in which bonds of their model are broken, and name these."""
    broken = assignment.long_bonds(positions, cell, pbc, BROKEN)
    if not broken:
        return
    named = ", ".join(
        f"{atom_label(i, numbers)} and {atom_label(j, numbers)} ({length * BOHR:.2f} Angstrom)"
        for i, j, length in broken[:4]
    )
    more = f" and {len(broken) - 4} more" if len(broken) > 4 else ""
    raise TopologyError(
        f"bonds of the model are broken, between {named}{more}: start from intact molecules, with "
        "the atoms of an explicit assignment in the order of the model; where dynamics broke them, "
        "lower the temperature or the time step"
    )


def _check_hands(assignment, numbers, whole):
    """Refuse labels in the order of the mirror image where another order is that of the model."""
    for pattern, atoms in zip(assignment.patterns, assignment.atoms_of_model, strict=True):
        if pattern.hands is None or not len(atoms):
            continue
        wrong = pattern.handedness(whole[atoms]) * pattern.hands < 0
        for row, where in zip(atoms, wrong, strict=True):
            if not where.any():
                continue
            others = pattern.handedness(whole[row[pattern.automorphisms]])
            if (others * pattern.hands >= 0).all(axis=1).any():
                centres = [i for i, around in enumerate(pattern.neighbours) if len(around) == 4]
                centre = row[centres[int(np.argmax(where))]]
                raise TopologyError(
                    f"the neighbours of {atom_label(centre, numbers)} are in the order of the "
                    "mirror image in the explicit assignment: exchange two that are alike"
                )


def _check_finite_molecules(assignment, whole, lattice, numbers):
    """Refuse chains that meet their own periodic image: a ring on paper, endless in space."""
    if not lattice.pbc.any():
        return
    for pattern, atoms in zip(assignment.patterns, assignment.atoms_of_model, strict=True):
        i, j = atoms[:, pattern.bonds].transpose(2, 0, 1)
        across = lattice.images(whole[j] - whole[i]).any(axis=-1)
        if across.any():
            _refuse_endless(i[across][0], j[across][0], numbers)


def _refuse_endless(i, j, numbers):
    raise TopologyError(
        f"the molecule of {atom_label(i, numbers)} and {atom_label(j, numbers)} is bonded to its "
        "own periodic image; FFLUX models describe finite molecules: use a larger cell if it is "
        "too small for the molecule"
    )
