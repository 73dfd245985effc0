"""An assignment given by the user, checked."""

from collections.abc import Mapping
from operator import index

import numpy as np

from ase_fflux.base.errors import TopologyError
from ase_fflux.topology.graphs import atom_label


def plain_assignment(assignment):
    """Lists of ints, whatever sequences were given, so that parameters can be written as JSON."""
    if isinstance(assignment, Mapping):
        return {str(name): plain_assignment(rows) for name, rows in assignment.items()}
    try:
        rows = [[index(i) for i in row] for row in assignment]
    except TypeError:
        raise TopologyError(
            f"assignment {assignment!r}: give for each molecule a list of its atoms (integers)"
        ) from None
    if len({len(row) for row in rows}) > 1:
        raise TopologyError(
            "the molecules of one model have different numbers of atoms in the assignment: "
            f"{', '.join(str(len(row)) for row in rows)}"
        )
    return rows


def explicit_atoms(patterns, numbers, explicit) -> list[np.ndarray]:
    """Input atoms (M_k, N_k) of an explicit assignment, checked: each atom once, elements equal."""
    if not isinstance(explicit, Mapping):
        if len(patterns) != 1:
            names = ", ".join(p.name for p in patterns)
            raise TopologyError(
                f"an explicit assignment to several models ({names}) is a dict by their names"
            )
        explicit = {patterns[0].name: explicit}
    unknown = set(explicit) - {p.name for p in patterns}
    if unknown:
        raise TopologyError(
            f"the explicit assignment names a model that is not there: {min(unknown)!r}"
        )
    owner: dict[int, str] = {}
    for pattern in patterns:
        for m, atoms in enumerate(explicit.get(pattern.name, ())):
            where = f"molecule {m + 1} of {pattern.name!r} in the explicit assignment"
            _check_explicit_row(where, atoms, pattern, numbers)
            for atom in atoms:
                if atom in owner:
                    raise TopologyError(
                        f"{_given(atom, numbers)} is in {where}, "
                        f"and was in {owner[atom]} before"
                    )
                owner[atom] = where
    missing = sorted(set(range(len(numbers))) - set(owner))
    if missing:
        raise TopologyError(
            f"{_given(missing[0], numbers)} is in no molecule of the explicit assignment"
        )
    return [
        np.array(list(explicit.get(p.name, ())), dtype=int).reshape(-1, len(p.numbers))
        for p in patterns
    ]


def _check_explicit_row(where, atoms, pattern, numbers):
    if np.ndim(atoms) != 1:
        raise TopologyError(f"{where} is {atoms!r}; give for each molecule a list of its atoms")
    if len(atoms) != len(pattern.numbers):
        raise TopologyError(f"{where} has {len(atoms)} atoms, the model has {len(pattern.numbers)}")
    for k, (atom, number) in enumerate(zip(atoms, pattern.numbers, strict=True)):
        if not isinstance(atom, int | np.integer) or not 0 <= atom < len(numbers):
            raise TopologyError(
                f"{where} names atom {atom!r}; indices are integers from 0 to {len(numbers) - 1}"
            )
        if numbers[atom] != number:
            raise TopologyError(
                f"{where} puts {_given(atom, numbers)} where the model has "
                f"{atom_label(k, pattern.numbers)}"
            )


def _given(atom, numbers) -> str:
    """An atom as the user gave it, by its index from 0, and as all messages name it."""
    return f"index {atom}, {atom_label(atom, numbers)},"
