"""Molecules of a periodic cell made whole, and those that are too near to start from."""

import numpy as np
from ase import Atoms, units
from ase.data import atomic_numbers, vdw_radii

from ase_fflux.base.errors import GeometryError
from ase_fflux.base.units import BOHR
from ase_fflux.forcefield.interactions.neighbours import find_pairs
from ase_fflux.topology.graphs import atom_label

NEAREST = 0.5
"""Times the sum of van der Waals radii that atoms of different molecules are apart at least: O and
H 1.36 Angstrom, O and O 1.52. Liquids at room temperature stay beyond 1.5 for O and H."""

DENSITY = 1e24 * units._amu * 1e3
"""g/cm^3 of an atomic mass unit per cubic Angstrom."""

_UNKNOWN_RADIUS = 2.0
"""Angstrom, of elements without a van der Waals radius."""


def prepare(atoms: Atoms) -> None:
    """Make molecules whole, their centres of mass in the cell, and refuse overlaps.

    Atoms whose calculator has no molecules (is not `FFLUX`), and those of clusters, stay where they
    are.

    Parameters
    ----------
    atoms : Atoms
        With a calculator; changed.

    Raises
    ------
    TopologyError, GeometryError
        Atoms that fit no model, molecules that overlap: which atoms, and what to do.
    """
    forcefield = getattr(atoms.calc, "forcefield", None)
    if forcefield is None or not len(atoms):
        return
    cell = atoms.cell.array / BOHR
    assignment = forcefield.match(
        atoms.positions / BOHR, atoms.numbers, cell, atoms.pbc,
        atoms.calc.parameters.get("assignment"),
    )
    whole = BOHR * assignment.unwrap(atoms.positions / BOHR, cell, atoms.pbc)
    require_apart(whole, atoms.numbers, assignment.molecule, atoms.cell.array, atoms.pbc)
    if atoms.pbc.any():
        atoms.positions = whole + shifts_home(
            whole, atoms.get_masses(), assignment.molecule, atoms.cell, atoms.pbc
        )


def keep_assignment(atoms: Atoms) -> None:
    """Have the calculator keep to the assignment of the start.

    A run that goes on would otherwise have equivalent atoms, such as those of a methyl group that
    has turned, assigned anew.
    """
    calculator = atoms.calc
    if calculator.parameters.assignment is not None:
        return  # that of a run directory
    found = calculator.forcefield.match(
        atoms.positions / BOHR, atoms.numbers, atoms.cell.array / BOHR, atoms.pbc
    )
    calculator.set(assignment={
        pattern.name: rows.tolist()
        for pattern, rows in zip(found.patterns, found.atoms_of_model, strict=True)
    })


def shifts_home(positions, masses, molecule, cell, pbc) -> np.ndarray:
    """Lattice vectors (n, 3) that bring the centres of mass of whole molecules into the cell.

    Parameters
    ----------
    positions : (n, 3) array
    masses : (n,) array
    molecule : (n,) int array
        From 0, of each atom.
    cell : Cell
        Of ASE, in the unit of the positions.
    pbc : (3,) bool array
        Along other directions nothing is shifted.
    """
    total = np.bincount(molecule, masses)
    weighted = [np.bincount(molecule, masses * x) for x in positions.T]
    centres = np.stack(weighted, axis=1) / total[:, None]
    complete = cell.complete()
    turns = -np.floor(complete.scaled_positions(centres)) * pbc
    return (turns @ complete.array)[molecule]


def radii_of(numbers) -> np.ndarray:
    """Van der Waals radii (n,) of elements in Angstrom."""
    radii = np.full(len(atomic_numbers), _UNKNOWN_RADIUS)
    radii[: len(vdw_radii)] = np.where(np.isnan(vdw_radii), _UNKNOWN_RADIUS, vdw_radii)
    return radii[numbers]


def require_apart(positions, numbers, molecule, cell, pbc) -> None:
    """Refuse molecules that overlap.

    Parameters
    ----------
    positions : (n, 3) array
        Angstrom, molecules whole.
    numbers, molecule : (n,) int arrays
        Elements, and the molecule of each atom.
    cell : (3, 3) array
        Angstrom.
    pbc : (3,) bool array

    Raises
    ------
    GeometryError
        The atoms that are nearest in relation to `NEAREST`, and their distance.
    """
    radii = radii_of(numbers)
    pairs = find_pairs(positions, molecule, cell, pbc, 2 * NEAREST * radii.max())
    vectors = positions[pairs.second] + pairs.images @ cell - positions[pairs.first]
    distance = np.linalg.norm(vectors, axis=1)
    least = NEAREST * (radii[pairs.first] + radii[pairs.second])
    if not (distance < least).any():
        return
    worst = np.argmin(distance / least)
    one, other = (atom_label(a, numbers) for a in (pairs.first[worst], pairs.second[worst]))
    raise GeometryError(
        f"{one} and {other} of different molecules are {distance[worst]:.2f} Angstrom apart (least "
        f"{least[worst]:.2f}): the molecules overlap; move them apart, use a larger cell, or make "
        "the box anew (fflux box)"
    )
