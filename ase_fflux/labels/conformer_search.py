"""Conformers of a molecule, found from one geometry.

Many geometries of the same bonds are quenched on the engine of the label source until new ones stop
turning up. They come from RDKit, if it is there, by turns from its torsion knowledge (ETKDG: Wang,
Witek, Landrum, Riniker, J. Chem. Inf. Model. 2020, 60, 2044) and without it, from distances and
planar groups alone, which finds what crystal structures do not show; every second one is turned at
random about its single bonds. Without RDKit, and for what is more than one molecule, they are
frames of hot dynamics, and copies of each that are turned, and whose rings are puckered, at random.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import repeat

import numpy as np
from ase import Atoms
from ase.optimize import BFGS

from ase_fflux.base.errors import LabelError
from ase_fflux.base.outputs import silent
from ase_fflux.base.stiffness import guessed_stiffness
from ase_fflux.base.units import BOHR, KJ_PER_MOL
from ase_fflux.labels.conformers import mirror_image, near, same_handedness
from ase_fflux.labels.sampling import molecular_dynamics
from ase_fflux.labels.shapes import Shapes, has_one_shape
from ase_fflux.topology import Connectivity, Pattern

logger = logging.getLogger(__name__)

_BATCH = 20
"""Geometries that RDKit makes at once."""
_HOT, _STRIDE = 1000.0, 250.0
"""K and fs: a ring of cyclohexane turns over every few picoseconds, bonds hold."""
_FMAX, _STEPS = 0.01, 300
"""eV/Angstrom and steps of a quench; what comes after is tighter."""
_COPIES = 5
"""Of a frame of dynamics, which costs as much as ten quenches, in other shapes."""
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
    if has_one_shape(pattern):
        return Conformers(found, np.zeros(1), "no bond that could turn", 0)
    made_by, geometries = _geometries(start, pattern, engine, charge, search.seed)
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
    """Where geometries come from, and geometries without end."""
    if len(np.unique(pattern.fragment)) == 1 and (molecule := _rdkit(start, pattern, charge)):
        import rdkit

        made_by = f"RDKit {rdkit.__version__} (ETKDGv3 and KDG)"
        shapes = Shapes(pattern, start.positions, [seed, 1], puckered=False)
        return made_by, shapes.varied(_embedded(start, molecule, seed), 2)
    shapes = Shapes(pattern, start.positions, [seed, 1])
    # several molecules have places too, which dynamics alone change
    alone = shapes.has_several and len(np.unique(pattern.fragment)) == 1
    times = 1 + _COPIES if alone else 1
    frames = (copy for frame in _dynamics(start, engine, seed) for copy in repeat(frame, times))
    return f"{engine.method} dynamics at {_HOT:g} K", shapes.varied(frames, max(times, 2))


def _dynamics(start: Atoms, engine, seed: int) -> Iterator[Atoms]:
    try:
        yield from molecular_dynamics(
            start, engine, _HOT, 10**6, seed=[seed, 0], stride_fs=_STRIDE
        )
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
