"""Boxes of molecules that do not overlap: a start for liquids and mixtures.

Rigid molecules, turned at random, on the points of a grid are pushed apart until no atoms of
different molecules are nearer than `DISTANCE` times the sum of their van der Waals radii.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.cell import Cell
from scipy.spatial.transform import Rotation

from ase_fflux.base.errors import FFLUXError
from ase_fflux.forcefield.interactions.neighbours import find_pairs
from ase_fflux.simulate.molecules import DENSITY, radii_of, shifts_home

DISTANCE = 0.72
"""Times the sum of van der Waals radii: O and H 1.96, O and O 2.19, C and C 2.45 Angstrom. Hydrogen
bonds are shorter, the molecules form them by themselves."""

_STEPS = 3000
"""Pushes after which a box is given up."""

WIDEST, _MOST = 1e5, 10_000_000
"""Angstrom and atoms, beyond which a box is a slip."""

_BEYOND = 1.02
"""Times the distance that atoms are pushed to, so that the last of them gets there."""


@dataclass(frozen=True)
class Species:
    """Molecules of one kind.

    Parameters
    ----------
    atoms : Atoms
        One of them.
    count : int
        How many there are.
    """

    atoms: Atoms
    count: int


def cubic_cell(species: Sequence[Species], density: float) -> np.ndarray:
    """The cube (3, 3) that gives molecules a density (g/cm^3), in Angstrom."""
    return np.eye(3) * np.cbrt(DENSITY * _mass(species) / density)


def density_of(species: Sequence[Species], cell: np.ndarray) -> float:
    """g/cm^3 of molecules in a cell (3, 3) in Angstrom."""
    return DENSITY * _mass(species) / abs(np.linalg.det(cell))


def _mass(species) -> float:
    return sum(kind.count * kind.atoms.get_masses().sum() for kind in species)


def pack(species: Sequence[Species], cell: np.ndarray, seed: int = 1) -> Atoms:
    """Fill a cell with molecules.

    Parameters
    ----------
    species : sequence of Species
        In the order in which their molecules, each whole and with its centre of mass in the cell,
        stand in the result.
    cell : (3, 3) array
        Periodic in three directions, Angstrom.
    seed : int
        Of places and turns; the same seed gives the same box.

    Raises
    ------
    FFLUXError
        Molecules that do not fit, or that found no place.
    """
    _require_possible(species, cell)
    rng = np.random.default_rng(seed)
    molecules = [kind.atoms for kind in species for _ in range(kind.count)]
    masses = [m.get_masses() for m in molecules]
    places = rng.permutation(_grid(cell, len(molecules), rng))[: len(molecules)] @ cell
    positions = []
    for atoms, place, turn in zip(
        molecules, places, Rotation.random(len(molecules), rng=rng), strict=True
    ):
        positions.append(turn.apply(atoms.positions - atoms.get_center_of_mass()) + place)
    box = Atoms(
        np.concatenate([m.numbers for m in molecules]), np.concatenate(positions), cell=cell,
        masses=np.concatenate(masses), pbc=True,
    )
    molecule = np.repeat(np.arange(len(molecules)), [len(m) for m in molecules])
    box.positions = _apart(box, molecule)
    box.positions += shifts_home(
        box.positions, box.get_masses(), molecule, Cell(cell), np.ones(3, dtype=bool)
    )
    return box


def _require_possible(species, cell) -> None:
    """Refuse at once what would take forever, or what nothing can be done with."""
    longest = np.abs(cell).max()
    if not longest < WIDEST:
        raise FFLUXError(
            f"the cell would be {longest:.3g} A wide: give a larger density or a smaller cell"
        )
    count = sum(kind.count * len(kind.atoms) for kind in species)
    if count > _MOST:
        raise FFLUXError(f"the box would have {count:.3g} atoms, more than {_MOST:.0e}: give fewer")
    # one sphere of each molecule, its largest atom: none is inside of another
    spheres = sum(
        kind.count * 4 / 3 * np.pi * (DISTANCE * radii_of(kind.atoms.numbers).max()) ** 3
        for kind in species
    )
    if spheres > abs(np.linalg.det(cell)):
        raise FFLUXError(
            f"the molecules do not fit: at {density_of(species, cell):.3g} g/cm^3 their largest "
            "atoms alone need more than the cell has; give a larger cell or fewer molecules"
        )


def _grid(cell, least, rng) -> np.ndarray:
    """Fractions (m, 3) of at least so many points of a grid, each moved a little."""
    lengths = np.linalg.norm(cell, axis=1)
    counts = np.maximum(1, np.floor(lengths * np.cbrt(least / lengths.prod()))).astype(int)
    while counts.prod() < least:
        counts[np.argmax(lengths / counts)] += 1
    points = np.indices(counts).reshape(3, -1).T
    return (points + rng.uniform(-0.2, 0.2, points.shape)) / counts


def _apart(box, molecule) -> np.ndarray:
    """Positions (n, 3) of rigid molecules pushed apart.

    In each round an atom that is too near to another is moved by half of what they lack; molecules
    follow the mean of these moves and their moment.
    """
    cell, pbc = box.cell.array, box.pbc
    radii = DISTANCE * radii_of(box.numbers)
    x = box.positions.copy()
    size = np.bincount(molecule)
    worst = None
    for _ in range(_STEPS):
        pairs = find_pairs(x, molecule, cell, pbc, 2 * _BEYOND * radii.max())
        i, j = pairs.first, pairs.second
        vector = x[j] + pairs.images @ cell - x[i]
        distance = np.linalg.norm(vector, axis=1)
        least = radii[i] + radii[j]
        near = distance < _BEYOND * least
        if not (distance < least).any():
            return x
        i, j, vector, distance = i[near], j[near], vector[near], distance[near]
        lack = _BEYOND * least[near] - distance
        worst = (distance / least[near]).min()
        # atoms on one spot are pushed along x
        unit = np.where(distance[:, None] > 1e-6, vector, [1.0, 0.0, 0.0])
        push = 0.5 * lack[:, None] * unit / np.maximum(distance, 1e-6)[:, None]
        move = np.zeros_like(x)
        np.add.at(move, i, -push)
        np.add.at(move, j, push)
        centre = _sum(x, molecule) / size[:, None]
        arm = x - centre[molecule]
        force, torque = _sum(move, molecule), _sum(np.cross(arm, move), molecule)
        pushed = np.maximum(_sum((move != 0).any(axis=1).astype(float)[:, None], molecule), 1.0)
        inertia = _sum(np.sum(arm**2, axis=1, keepdims=True), molecule) + 1e-9
        share = pushed / size[:, None]
        turns = Rotation.from_rotvec(torque / (inertia * np.maximum(share, 0.3)))
        x = centre[molecule] + turns[molecule].apply(arm) + (force / pushed)[molecule]
    raise FFLUXError(
        f"the molecules found no places of their own: after {_STEPS} pushes some atoms are still "
        f"at {worst:.2f} of the least distance; lower the density (a larger cell, fewer "
        "molecules), or try another seed"
    )


def _sum(values, molecule) -> np.ndarray:
    """Sums (M, k) of values (n, k) over the atoms of each molecule."""
    return np.stack([np.bincount(molecule, column) for column in values.T], axis=1)
