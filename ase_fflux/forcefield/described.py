"""Force fields from a description: what a file says, checked against the models and each other."""

import itertools
from collections.abc import Sequence

import numpy as np
from ase.data import chemical_symbols

from ase_fflux.base.errors import FFLUXError
from ase_fflux.base.units import BOHR, HARTREE
from ase_fflux.forcefield.force_field import ForceField
from ase_fflux.forcefield.interactions.direct import highest_rank
from ase_fflux.forcefield.interactions.pairs import ShortRange, read_potential
from ase_fflux.formats.description import ForceFieldDescription, PairEntries


def described(description: ForceFieldDescription) -> ForceField:
    """Read the models of a description and make its force field.

    Raises
    ------
    FFLUXError
        A model that cannot be read, types of atoms that are not those of the model, two species of
        one name, moments that the models do not have, parameters that make no sense: file and line.
    """
    models = [entry.load() for entry in description.species]
    for entry, model in zip(description.species, models, strict=True):
        if entry.types is not None and len(entry.types) != len(model.symbols):
            raise FFLUXError(
                f"{entry.where}: {len(entry.types)} types of atoms ({' '.join(entry.types)}), and "
                f"{model.name} has {len(model.symbols)} atoms ({' '.join(model.symbols)})"
            )
        wanted = description.rank
        if description.level is not None:
            wanted = highest_rank(description.level)
        if description.electrostatics and wanted is not None and model.rank < wanted:
            has = f"up to rank {model.rank}" if model.rank >= 0 else "no moments"
            raise FFLUXError(
                f"{entry.where}: moments of rank {wanted} are to interact, and {model.name} has "
                f"{has}: lower the rank ({description.path}) or give models of all moments"
            )
    names = [model.name for model in models]
    for entry, name in zip(description.species, names, strict=True):
        if names.count(name) > 1:
            raise FFLUXError(
                f"{entry.where}: two species are called {name}, by which models are told apart"
            )
    pairs = None
    if description.pairs is not None:
        types = [
            kind for entry, model in zip(description.species, models, strict=True)
            for kind in entry.types or model.symbols
        ]
        pairs = typed_pairs(description.pairs, types)
    try:
        return ForceField(
            models, electrostatics=description.electrostatics, level=description.level,
            rank=description.rank, short_range=pairs,
            accuracy=description.accuracy if description.electrostatics else None,
        )
    except FFLUXError as error:
        raise FFLUXError(f"{description.path}: {error}") from None


def typed_pairs(entries: PairEntries, types: Sequence[str]) -> ShortRange:
    """Pair potentials between types of atoms.

    Parameters
    ----------
    entries : PairEntries
        The potentials and how they are cut off.
    types : sequence of str
        Type of each site of the force field.

    Raises
    ------
    FFLUXError
        A type that no atom has, parameters that make no sense, a pair that cannot be mixed.
    """
    known = sorted(set(types))
    for key in entries.potentials:
        for name in key:
            if name not in known:
                raise FFLUXError(
                    f"{entries.where[key]}: no atom is of type {name!r}; types are "
                    f"{', '.join(known)}"
                )
    coefficients = np.zeros((len(known), len(known), 4))
    for a, b in itertools.combinations_with_replacement(range(len(known)), 2):
        values = _coefficients(entries, known[a], known[b])
        coefficients[a, b] = coefficients[b, a] = values
    return ShortRange(
        np.arange(len(known)), coefficients,
        None if entries.cutoff is None else entries.cutoff / BOHR, entries.shifted, entries.tail,
        np.array([known.index(name) for name in types]), tuple(known),
    )


def _coefficients(entries: PairEntries, a: str, b: str):
    """c12, c6, a, b (atomic units) between two types, mixed where they are not given."""
    listed = entries.potentials
    if (a, b) in listed:
        kind, values = listed[a, b]
        try:
            return read_potential(f"{a}-{b}", {kind: values})
        except FFLUXError as error:
            raise FFLUXError(f"{entries.where[a, b]}: {error}") from None
    if entries.mixing is None or (a, a) not in listed or (b, b) not in listed:
        return (0.0,) * 4
    for key in ((a, a), (b, b)):
        if listed[key][0] != "lj":
            raise FFLUXError(
                f"{entries.where[key]}: mixing rules are of Lennard-Jones potentials, and "
                f"{key[0]}-{key[0]} is {listed[key][0]}: list the pair {a}-{b} too"
            )
    (e1, s1), (e2, s2) = listed[a, a][1], listed[b, b][1]
    for key in ((a, a), (b, b)):
        _coefficients(entries, *key)  # refused where the pair itself is
    sigma = (s1 + s2) / 2 if entries.mixing == "Lorentz-Berthelot" else np.sqrt(s1 * s2)
    return read_potential(f"{a}-{b}", {"lj": (np.sqrt(e1 * e2), sigma)})


def pairs_between(short_range: ShortRange) -> dict[tuple[str, str], tuple[str, tuple]]:
    """The potentials of a `ShortRange` as a file has them, mixed ones too.

    Returns
    -------
    dict
        ``{(type, type): (kind, parameters)}`` by the names of types or elements, in eV and
        Angstrom: ``lj`` with epsilon and sigma, ``buckingham`` with A, rho and C.
    """
    names = short_range.names or tuple(chemical_symbols[k] for k in short_range.numbers)
    found = {}
    for a, b in itertools.combinations_with_replacement(range(len(names)), 2):
        c12, c6, amplitude, slope = short_range.coefficients[a, b]
        if amplitude or (c6 and not c12):
            rho = BOHR / slope if slope else 1.0
            values = amplitude * HARTREE, rho, c6 * HARTREE * BOHR**6
            found[names[a], names[b]] = "buckingham", values
        elif c12:
            values = c6**2 / (4 * c12) * HARTREE, (c12 / c6) ** (1 / 6) * BOHR
            found[names[a], names[b]] = "lj", values
    return found
