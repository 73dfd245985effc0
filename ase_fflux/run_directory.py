"""Run directories of DL_FFLUX as Atoms with their calculator, and back."""

import warnings
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.units import fs

from ase_fflux.base.errors import FFLUXError, FFLUXWarning, GeometryError, TopologyError
from ase_fflux.base.units import BOHR
from ase_fflux.calculator import FFLUX
from ase_fflux.forcefield import ForceField
from ase_fflux.forcefield.described import pairs_between
from ase_fflux.forcefield.interactions.electrostatics import ACCURACY, Electrostatics
from ase_fflux.forcefield.interactions.pairs import ShortRange
from ase_fflux.formats.dl_poly import RunDirectory, read_run_directory
from ase_fflux.formats.dl_poly.writing import Contents, write_run_directory
from ase_fflux.simulate.molecules import require_apart

_PICOSECOND = 1000 * fs

_BEYOND = 10.0
"""Angstrom by which cut-offs of clusters without one reach beyond the farthest atoms."""


def read_dlpoly(directory: str | Path) -> Atoms:
    """The atoms of a run directory of DL_FFLUX, with the calculator that it describes.

    Parameters
    ----------
    directory : str or Path
        With CONFIG, CONTROL, FIELD and the models in model_krig/.

    Returns
    -------
    Atoms
        Of CONFIG, with masses of FIELD and velocities of CONFIG, without that of the centre of
        mass. The calculator is ``FFLUX(directory)`` with the molecules of FIELD. Keywords of
        CONTROL that are not known are told as an `FFLUXWarning`.

    Raises
    ------
    FFLUXError
        Files that are missing, cannot be read or contradict each other: file and line.

    Examples
    --------
    >>> atoms = read_dlpoly("water343")
    >>> atoms.get_potential_energy()
    >>> atoms.calc.energy_terms
    """
    run = read_run_directory(directory)
    for line in run.control.unknown:
        warnings.warn(line, FFLUXWarning, stacklevel=2)
    return atoms_of(run)


def atoms_of(run: RunDirectory) -> Atoms:
    """As `read_dlpoly`, of a directory that is read already, without a warning."""
    config = run.config
    calculator = FFLUX(run.path)
    models = calculator.forcefield.models
    atoms = Atoms(
        run.numbers(models), config.positions, cell=config.cell, pbc=config.pbc,
        masses=run.masses(),
    )
    if config.velocities is not None:
        momenta = run.masses()[:, None] * config.velocities / _PICOSECOND
        momenta -= np.outer(run.masses(), momenta.sum(axis=0) / run.masses().sum())
        atoms.set_momenta(momenta)
    assignment = {
        model.name: rows for model, rows in zip(models, run.assignment(), strict=True)
    }
    x, cell = atoms.positions / BOHR, atoms.cell.array / BOHR
    try:
        found = calculator.forcefield.match(x, atoms.numbers, cell, atoms.pbc, assignment)
        whole = BOHR * found.unwrap(x, cell, atoms.pbc)
        require_apart(whole, atoms.numbers, found.molecule, atoms.cell.array, atoms.pbc)
    except (GeometryError, TopologyError) as error:
        raise run.told(error) from None
    calculator.set(assignment=assignment)
    atoms.calc = calculator
    return atoms


def assignment_by_order(atoms: Atoms, forcefield: ForceField) -> dict[str, list[list[int]]] | None:
    """Molecules one after the other with their atoms as the models', as CONFIG has them.

    The published engine knows atoms by their order only, and its models tell equivalent ones apart:
    another order is another energy.

    Parameters
    ----------
    atoms : Atoms
    forcefield : ForceField

    Returns
    -------
    dict or None
        Explicit assignment by the names of the models, see `topology.match`. None where the atoms
        are in another order.
    """
    elements = {pattern.name: pattern.numbers.tolist() for pattern in forcefield.patterns}
    largest_first = sorted(elements, key=lambda name: -len(elements[name]))
    numbers, found, start = atoms.numbers.tolist(), {name: [] for name in elements}, 0
    while start < len(numbers):
        for name in largest_first:
            end = start + len(elements[name])
            if numbers[start:end] == elements[name]:
                found[name].append(list(range(start, end)))
                start = end
                break
        else:
            return None
    try:
        forcefield.match(
            atoms.positions / BOHR, atoms.numbers, atoms.cell.array / BOHR, atoms.pbc, found
        )
    except (GeometryError, TopologyError):
        return None  # the bonds are others
    return found


def write_dlpoly(
    directory: str | Path, atoms: Atoms, forcefield: ForceField | None = None, assignment=None
):
    """Write a run directory of DL_FFLUX.

    Atoms are written molecule after molecule, kind after kind, in the order of the models.

    Parameters
    ----------
    directory : str or Path
        Made if it is not there; must not have anything in it.
    atoms : Atoms
        With an `FFLUX` calculator unless a force field is given.
    forcefield : ForceField, optional
        In place of the calculator's, which then need not be there.
    assignment : dict, optional
        Atoms of each molecule in the order of its model, see `topology.match`; by default the
        calculator's, or what is found.

    Returns
    -------
    files : list of Path
        What was written.
    order : (n,) int array
        Which of the atoms each of CONFIG is.

    Raises
    ------
    FFLUXError
        What the published engine cannot do: interactions that are not multipoles, Lennard-Jones or
        Buckingham; plain potentials without tail in a periodic cell; cut-offs longer than half the
        cell; slabs; models trained on gradients.
    """
    explicit = assignment
    if forcefield is None:
        if not isinstance(atoms.calc, FFLUX):
            raise FFLUXError("which force field? Set atoms.calc = FFLUX(...) or give one")
        forcefield, explicit = atoms.calc.forcefield, explicit or atoms.calc.parameters.assignment
    found = forcefield.match(
        atoms.positions / BOHR, atoms.numbers, atoms.cell.array / BOHR, atoms.pbc, explicit
    )
    there = [k for k, rows in enumerate(found.atoms_of_model) if len(rows)]
    order = np.concatenate([found.atoms_of_model[k].ravel() for k in there])
    electrostatics, pairs = _interactions(forcefield)
    types = _types(forcefield, pairs)
    cutoff = _cutoff(atoms, pairs)
    keyword, rank, accuracy = "no elec", -1, ACCURACY
    if electrostatics is not None:
        rank, accuracy = electrostatics.rank, electrostatics.accuracy
        keyword = f"fflux ewald L{rank + 1}"
        if electrostatics.level is not None:
            keyword = f"fflux cluster L{electrostatics.level}"
    velocities = None
    if atoms.get_momenta().any():
        velocities = (atoms.get_velocities() * _PICOSECOND)[order]
    masses = [atoms.get_masses()[found.atoms_of_model[k]] for k in there]
    for k, own in zip(there, masses, strict=True):
        if np.ptp(own, axis=0).any():
            raise FFLUXError(
                f"molecules of {forcefield.models[k].name} have different masses, and FIELD has "
                "one of each atom for all of them"
            )
    files = write_run_directory(directory, Contents(
        title=atoms.get_chemical_formula(), models=[forcefield.models[k] for k in there],
        counts=[len(found.atoms_of_model[k]) for k in there], types=[types[k] for k in there],
        masses=[own[0] for own in masses],
        positions=atoms.positions[order], cell=atoms.cell.array, pbc=atoms.pbc,
        velocities=velocities,
        potentials={} if pairs is None else {
            key: potential for key, potential in pairs_between(pairs).items()
            if set(key) <= {name for k in there for name in types[k]}
        },
        cutoff=cutoff, shifted=pairs is not None and pairs.shifted and pairs.cutoff is not None,
        keyword=keyword, rank=rank, accuracy=accuracy,
    ))
    return files, order


def _interactions(forcefield: ForceField) -> tuple[Electrostatics | None, ShortRange | None]:
    """The two that DL_FFLUX knows."""
    electrostatics = pairs = None
    for interaction in forcefield.interactions:
        if isinstance(interaction, Electrostatics):
            electrostatics = interaction
        elif isinstance(interaction, ShortRange):
            pairs = interaction
        else:
            raise FFLUXError(f"DL_FFLUX knows no interaction {interaction.name!r}")
    return electrostatics, pairs


def _types(forcefield: ForceField, pairs: ShortRange | None) -> list[tuple[str, ...]]:
    """Names of the sites of each model: types, or elements."""
    if pairs is None or pairs.names is None:
        return [tuple(model.symbols) for model in forcefield.models]
    names, found = [pairs.names[k] for k in pairs.types], []
    for model in forcefield.models:
        found.append(tuple(names[: len(model.symbols)]))
        names = names[len(model.symbols):]
    return found


def _cutoff(atoms: Atoms, pairs: ShortRange | None) -> float:
    """One cut-off for all (Angstrom)."""
    cutoff = None if pairs is None or pairs.cutoff is None else pairs.cutoff * BOHR
    if not atoms.pbc.any():
        return cutoff or np.ptp(atoms.positions, axis=0).sum() + _BEYOND
    if not atoms.pbc.all():
        raise FFLUXError("DL_FFLUX has no slabs and wires: set atoms.pbc = True or False")
    if pairs is not None and not pairs.shifted and not pairs.tail:
        raise FFLUXError(
            "DL_FFLUX adds tail corrections to plain pair potentials in periodic cells: set "
            "tail = true, or truncation = \"force-shifted\""
        )
    half = 0.5 * (1 / np.linalg.norm(np.linalg.inv(atoms.cell.array), axis=0)).min()
    if cutoff is not None and cutoff > half:
        raise FFLUXError(
            f"a cut-off of {cutoff:g} Angstrom is longer than half the cell's smallest height "
            f"({half:.3f} Angstrom), and DL_FFLUX knows the nearest images only: use a larger cell"
        )
    return cutoff or min(9.0, np.floor(100 * half) / 100)
