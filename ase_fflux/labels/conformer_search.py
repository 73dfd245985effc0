"""Conformers of a molecule, found from one geometry.

Many geometries of the same bonds are quenched on the engine of the label source until new ones stop
turning up. They come from RDKit, if it is there, by turns from its torsion knowledge (ETKDG: Wang,
Witek, Landrum, Riniker, J. Chem. Inf. Model. 2020, 60, 2044) and without it, from distances and
planar groups alone, which finds what crystal structures do not show. Without RDKit, and for what is
more than one molecule, they are frames of hot dynamics. Every second one is turned at random about
its single bonds outside of rings; where there is nothing else that could move, each frame is taken
several times, as it is and turned.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import repeat

import numpy as np
from ase import Atoms
from ase.optimize import BFGS
from scipy.spatial.transform import Rotation

from ase_fflux.base.errors import LabelError
from ase_fflux.base.outputs import silent
from ase_fflux.base.stiffness import guessed_stiffness
from ase_fflux.base.units import BOHR, KJ_PER_MOL
from ase_fflux.labels.conformers import mirror_image, near, same_handedness
from ase_fflux.labels.sampling import molecular_dynamics
from ase_fflux.topology import Connectivity, Pattern

logger = logging.getLogger(__name__)

_BATCH = 20
"""Geometries that RDKit makes at once."""
_HOT, _STRIDE = 1000.0, 250.0
"""K and fs: a ring of cyclohexane turns over every few picoseconds, bonds hold."""
_FMAX, _STEPS = 0.01, 300
"""eV/Angstrom and steps of a quench; what comes after is tighter."""
_FULL = {6: 4, 7: 3, 8: 2, 14: 4, 15: 3, 16: 2}
"""Neighbours of atoms without double bonds."""
_TURNS = 5
"""Turned copies of a frame of dynamics, which costs as much as ten quenches."""
_TRIES = 20
"""Random turns of one geometry."""
_LOST = 2
"""Geometries that may fail, for each that may be quenched in vain."""


@dataclass(frozen=True)
class Search:
    """How conformers are looked for.

    Parameters
    ----------
    window : float
        Energy above the lowest up to which they are kept (kJ/mol).
    patience : int
        Geometries in turn that bring nothing new after which the search ends.
    most : int
        Geometries that are quenched at most.
    seed : int
        Seed of the geometries.
    """

    window: float = 40.0
    patience: int = 30
    most: int = 1000
    seed: int = 1

    def __post_init__(self):
        if not self.window > 0 or self.patience < 1 or self.most < 1:
            raise LabelError("a search for conformers needs a window, a patience and a limit")


@dataclass(frozen=True)
class Conformers:
    """What a search has found.

    Attributes
    ----------
    atoms : list of Atoms
        Lowest first; of those that are mirror images of each other one. Atoms are in the order of
        the start, equivalent ones with its handedness.
    energies : (n,) array
        Of the engine, above the lowest (kJ/mol).
    made_by : str
        Where the geometries came from.
    quenched : int
        How many were quenched.
    """

    atoms: list[Atoms]
    energies: np.ndarray
    made_by: str
    quenched: int


def search_conformers(
    start: Atoms, engine, search: Search, charge: int = 0, progress=silent
) -> Conformers:
    """Look for conformers with the bonds, and the stereochemistry, of one geometry.

    Parameters
    ----------
    start : Atoms
        Angstrom.
    engine : Engine
        What is quenched on.
    search : Search
    charge : int
        Total charge (e), by which RDKit knows the orders of bonds.
    progress : context manager
        Called with a description and a total; gives a function to call with increments and notes.

    Raises
    ------
    GeometryError, LabelError
        A start with atoms on one spot, or one that cannot be quenched.
    """
    pattern = Pattern.from_geometry("", start.numbers, start.positions / BOHR)
    connectivity = Connectivity(start.numbers, start.positions / BOHR)
    first, energy = _quenched(start, engine)
    found, energies = [first], [energy]
    if _has_one_shape(pattern):
        return Conformers(found, np.zeros(1), "no bond that could turn", 0)
    made_by, geometries, left = _geometries(start, pattern, engine, charge, search.seed)
    geometries = _turned(geometries, _rotors(pattern), connectivity, search.seed, left)
    vain = lost = quenched = 0
    with progress("looking for conformers", None) as advance:
        for geometry in geometries:
            if (
                vain >= search.patience or quenched >= search.most
                or lost > _LOST * search.patience
            ):
                break
            try:
                atoms, energy = _quenched(geometry, engine)
            except LabelError as error:
                lost += 1
                logger.info("a geometry is left out: %s", error)
                continue
            atoms = _alike(atoms, start, pattern)
            if atoms is None or connectivity.change(atoms.positions / BOHR):
                lost += 1
                continue
            quenched += 1
            vain += 1
            if energy - min(energies) < search.window * KJ_PER_MOL and not _known(atoms, found):
                found.append(atoms)
                energies.append(energy)
                vain = 0
            advance(1, f"{len(found)} found, nothing new since {vain}")
    order = np.argsort(energies, kind="stable")
    above = (np.array(energies)[order] - min(energies)) / KJ_PER_MOL
    # the start may lie higher than the window; whoever gave it wants it
    kept = [k for k, i in enumerate(order) if above[k] <= search.window or i == 0]
    return Conformers([found[order[k]] for k in kept], above[kept], made_by, quenched)


def _has_one_shape(pattern: Pattern) -> bool:
    """Whether a molecule is one atom of usual valence and its neighbours, or less."""
    neighbours = [len(around) for around in pattern.neighbours]
    return (
        len(np.unique(pattern.fragment)) == 1
        and all(min(neighbours[i], neighbours[j]) == 1 for i, j in pattern.bonds.tolist())
        and all(
            n <= _FULL.get(z, 1) for z, n in zip(pattern.numbers.tolist(), neighbours, strict=True)
        )
    )


def turns(atoms: Atoms) -> bool:
    """Whether a molecule may have conformers: single bonds, as far as numbers of neighbours tell,
    that are more than the axis of a methyl group."""
    pattern = Pattern.from_geometry("", atoms.numbers, atoms.positions / BOHR)

    def methyl(i, j):
        return len(pattern.neighbours[i]) == 4 and all(
            atoms.numbers[k] == 1 for k in pattern.neighbours[i] if k != j
        )

    return any(not methyl(i, j) and not methyl(j, i) for i, j in _single_bonds(pattern))


def _single_bonds(pattern: Pattern) -> list[tuple[int, int]]:
    """Bonds between two atoms with further neighbours, one of them with as many as it can have."""
    full = [
        len(around) >= _FULL.get(number, 99)
        for number, around in zip(pattern.numbers.tolist(), pattern.neighbours, strict=True)
    ]
    return [
        (i, j) for i, j in pattern.bonds.tolist()
        if (full[i] or full[j]) and min(len(pattern.neighbours[a]) for a in (i, j)) > 1
    ]


def _rotors(pattern: Pattern) -> list[tuple[int, int, np.ndarray]]:
    """Single bonds outside of rings, and the atoms (N,) bool behind the second end of each."""
    found = []
    for i, j in _single_bonds(pattern):
        fragment = pattern.fragment_without(i, j)
        if fragment[i] != fragment[j]:
            found.append((i, j, fragment == fragment[j]))
    return found


def _turned(geometries, rotors, connectivity, seed: int, left: int = 2) -> Iterator[Atoms]:
    """Geometries, all turned about all their rotors so that nothing touches, but for every second
    or so, that are left as they are."""
    rng = np.random.default_rng([seed, 1])
    for number, atoms in enumerate(geometries):
        if rotors and number % left:
            for _ in range(_TRIES):
                turned = atoms.copy()
                for (i, j, behind), angle in zip(
                    rotors, rng.uniform(0, 2 * np.pi, len(rotors)), strict=True
                ):
                    x = turned.positions
                    axis = (x[j] - x[i]) / np.linalg.norm(x[j] - x[i])
                    turn = Rotation.from_rotvec(angle * axis)
                    x[behind] = x[j] + turn.apply(x[behind] - x[j])
                if not connectivity.change(turned.positions / BOHR):
                    atoms = turned
                    break
        yield atoms


def _known(atoms: Atoms, found: list[Atoms]) -> bool:
    image = mirror_image(atoms)
    seen = [atoms] if image is None else [atoms, image]
    return any(near(a, other) for other in found for a in seen)


def _quenched(geometry: Atoms, engine) -> tuple[Atoms, float]:
    """A minimum below and its energy (eV)."""
    atoms = Atoms(geometry.numbers, geometry.positions)
    atoms.calc = engine.calculator()
    optimiser = BFGS(atoms, logfile=None)
    optimiser.H0 = guessed_stiffness(atoms.numbers, atoms.positions)
    try:
        converged = optimiser.run(fmax=_FMAX, steps=_STEPS)
    except np.linalg.LinAlgError as error:
        raise LabelError(f"the optimiser has lost its way ({error})") from error
    if not converged:
        raise LabelError(f"{atoms.symbols} is not quenched to {_FMAX} eV/A in {_STEPS} steps")
    energy = atoms.get_potential_energy()
    return Atoms(atoms.numbers, atoms.positions - atoms.get_center_of_mass()), energy


def _alike(atoms: Atoms, start: Atoms, pattern: Pattern) -> Atoms | None:
    """The same with equivalent atoms exchanged so that all centres have the handedness of the
    start; None for another stereoisomer."""
    images = atoms.positions[pattern.automorphisms]
    same = same_handedness(pattern, images, start.positions)
    return Atoms(atoms.numbers, images[same][0]) if same.any() else None


def _geometries(start: Atoms, pattern: Pattern, engine, charge: int, seed: int):
    """Where geometries come from, geometries without end, and which part of them is to be left."""
    if len(np.unique(pattern.fragment)) == 1 and (molecule := _rdkit(start, pattern, charge)):
        import rdkit

        return f"RDKit {rdkit.__version__} (ETKDGv3 and KDG)", _embedded(start, molecule, seed), 2
    made_by = f"{engine.method} dynamics at {_HOT:g} K"
    if _turns_suffice(pattern):
        return made_by, _dynamics(start, engine, seed, 1 + _TURNS), 1 + _TURNS
    return made_by, _dynamics(start, engine, seed, 1), 2


def _turns_suffice(pattern: Pattern) -> bool:
    """Whether shapes of a molecule differ by turns about single bonds: rings have others, and
    several molecules have places."""
    return len(np.unique(pattern.fragment)) == 1 and (
        len(_rotors(pattern)) == len(_single_bonds(pattern)) > 0
    )


def _dynamics(start: Atoms, engine, seed: int, times: int) -> Iterator[Atoms]:
    """Frames of hot dynamics, each so many times."""
    try:
        for frame in molecular_dynamics(
            start, engine, _HOT, 10**6, seed=[seed, 0], stride_fs=_STRIDE
        ):
            yield from repeat(frame, times)
    except LabelError as error:
        logger.warning("the search for conformers ends: %s", error)


def _rdkit(start: Atoms, pattern: Pattern, charge: int):
    """The start as a molecule of RDKit; None without RDKit, or where it finds no bond orders."""
    try:
        from rdkit import Chem, rdBase
        from rdkit.Chem import rdDetermineBonds
    except ImportError:
        return None
    molecule = Chem.RWMol()
    for number in start.numbers.tolist():
        atom = Chem.Atom(number)
        atom.SetNoImplicit(True)
        molecule.AddAtom(atom)
    for i, j in pattern.bonds.tolist():
        molecule.AddBond(i, j, Chem.BondType.SINGLE)
    shape = Chem.Conformer(len(start))
    shape.SetPositions(np.array(start.positions))
    molecule.AddConformer(shape)
    with rdBase.BlockLogs():
        try:
            rdDetermineBonds.DetermineBondOrders(molecule, charge=charge, maxIterations=10_000)
            Chem.SanitizeMol(molecule)
        except (ValueError, RuntimeError) as error:
            logger.info("RDKit finds no bond orders of %s: %s", start.symbols, error)
            return None
        Chem.AssignStereochemistryFrom3D(molecule)
    return molecule


def _embedded(start: Atoms, molecule, seed: int) -> Iterator[Atoms]:
    from rdkit import Chem, rdBase
    from rdkit.Chem import rdDistGeom

    batch = 0
    while True:
        for parameters in (rdDistGeom.ETKDGv3(), rdDistGeom.KDG()):
            parameters.randomSeed = (seed * 10_007 + batch) % 2**31
            batch += 1
            mine = Chem.Mol(molecule)
            with rdBase.BlockLogs():
                made = list(rdDistGeom.EmbedMultipleConfs(mine, _BATCH // 2, parameters))
            if not made:
                return
            for number in made:
                yield Atoms(start.numbers, mine.GetConformer(number).GetPositions())
