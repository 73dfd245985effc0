"""Minima to sample around."""

import warnings
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.optimize import BFGS

from ase_fflux.base.differences import central_differences, symmetrised
from ase_fflux.base.errors import FFLUXWarning, LabelError
from ase_fflux.base.outputs import silent
from ase_fflux.base.stiffness import positive
from ase_fflux.base.units import BOHR
from ase_fflux.labels.sampling import imaginary_wavenumber, normal_modes
from ase_fflux.labels.source import LabelSource
from ase_fflux.model.symmetry import Symmetry
from ase_fflux.topology import Pattern, superposition
from ase_fflux.topology.superposition import deviations

_SAME = 0.1
"""Angstrom; conformers closer than this are one."""

_STEP = 0.2
"""Angstrom; displacement of the fastest atom along an imaginary mode."""

_FOLLOWED = 6
"""Saddle points that one start may come to."""

_SOFTEST = 0.25
"""eV/Angstrom^2; least stiffness that an optimisation starts from, rotations included."""

_FLAT = 5.0
"""cm^-1; an imaginary mode below it is flat within the noise of forces, and no saddle point."""


@dataclass(frozen=True)
class Minimum:
    """A minimum and the second derivatives of the energy there (3N, 3N; hartree/bohr^2)."""

    atoms: Atoms
    hessian: np.ndarray


def minima(
    conformers: list[Atoms], source: LabelSource, fmax: float = 1e-5, steps: int = 2000,
    progress=silent,
) -> list[Minimum]:
    """Optimise every conformer with the label source, and add mirror images that differ.

    The gauche conformer of ethanol has a mirror image of the same energy that a model must know as
    well. It is relabelled so that its methyl and methylene hydrogens have the handedness of the
    original, as `ForceField.match` will see any input.

    A symmetric start may end on a saddle point: from there the imaginary mode is followed both
    ways, with a warning.

    Parameters
    ----------
    conformers : list of Atoms
        All with the same atoms in the same order (Angstrom).
    source : LabelSource
        Level of theory.
    fmax : float
        Largest force at convergence (eV/Angstrom).
    steps : int
        Limit of optimisation steps.
    progress : context manager
        Called with a description and a total; gives a function to call with increments and notes.

    Raises
    ------
    LabelError
        Conformers with different atoms, an optimisation that does not converge, saddle points from
        which no minimum is found.
    """
    same_atoms(conformers)
    found: list[Minimum] = []
    for number, conformer in enumerate(conformers, 1):
        name = f"conformer {number} of {len(conformers)}" if len(conformers) > 1 else "the start"
        for minimum in _descend(conformer, source, name, fmax, steps, progress):
            for candidate in (minimum, _mirrored(minimum)):
                if candidate is not None and not _known(candidate.atoms, found):
                    found.append(candidate)
    return found


def same_atoms(conformers: list[Atoms]) -> None:
    """Refuse conformers of different atoms.

    Raises
    ------
    LabelError
        The first that differs.
    """
    for number, conformer in enumerate(conformers, 1):
        if conformer.numbers.tolist() != conformers[0].numbers.tolist():
            raise LabelError(
                f"conformer {number} has other atoms, or in another order, than the first "
                f"({conformer.symbols} and {conformers[0].symbols})"
            )


def _descend(
    start: Atoms, source, name: str, fmax: float, steps: int, progress
) -> list[Minimum]:
    """Minima below a start: one, or those on both sides of every saddle point on the way."""
    below: list[Minimum] = []
    saddles: list[Atoms] = []
    waiting = [start]
    while waiting:
        atoms = _optimised(waiting.pop(0), source, name, fmax, steps, progress)
        if any(near(atoms, other) for other in (*saddles, *(m.atoms for m in below))):
            continue
        with progress(f"second derivatives, {name}", 1) as advance:
            hessian = source.hessian(atoms)
            advance(1)
        curvatures, modes = normal_modes(atoms, hessian)
        if curvatures[0] > 0 or imaginary_wavenumber(curvatures[0]) < _FLAT:
            below.append(Minimum(atoms, hessian))
            continue
        saddles.append(atoms)
        if len(saddles) > _FOLLOWED:
            break
        warnings.warn(
            f"{name} comes to a saddle point of {source.method} (mode of "
            f"{imaginary_wavenumber(curvatures[0]):.0f}i cm^-1), which is followed both ways",
            FFLUXWarning, stacklevel=4,
        )
        direction = modes[:, 0].reshape(-1, 3) / np.sqrt(atoms.get_masses())[:, None]
        direction *= _STEP / np.linalg.norm(direction, axis=1).max()
        waiting += [Atoms(atoms.numbers, atoms.positions + s * direction) for s in (1, -1)]
    if not below:
        raise LabelError(
            f"{name} comes to nothing but saddle points of {source.method}: start from another "
            "geometry, without symmetry"
        )
    return below


def _optimised(start: Atoms, source, name: str, fmax: float, steps: int, progress) -> Atoms:
    atoms = Atoms(start.numbers, start.positions)
    atoms.calc = source.calculator()
    optimiser = BFGS(atoms, logfile=None)
    if source.engine is not source:
        optimiser.H0 = _stiffness(start, source.engine)
    converged = False
    with progress(f"optimising {name}", None) as advance:
        for done in optimiser.irun(fmax=fmax, steps=steps):
            converged = done
            force = np.linalg.norm(atoms.get_forces(), axis=1).max()
            advance(1, f"largest force {force:.1e} eV/A")
    if not converged:
        raise LabelError(
            f"the optimisation of {name} with {source.method} did not converge in {steps} steps: "
            "start from a geometry nearer to a minimum"
        )
    atoms.calc = None
    atoms.positions -= atoms.get_center_of_mass()
    return atoms


def _stiffness(atoms: Atoms, engine) -> np.ndarray:
    """Second derivatives of a cheap surface (eV/Angstrom^2), made positive: a dear optimisation
    that starts from them takes a third of the steps."""
    moved = Atoms(atoms.numbers, atoms.positions)
    moved.calc = engine.calculator()

    def gradient(positions):
        moved.positions = positions
        return -moved.get_forces().ravel()

    return positive(symmetrised(central_differences(gradient, atoms.positions, 0.005)), _SOFTEST)


def distinct(minima: list[Atoms], symmetry: Symmetry) -> list[int]:
    """Indices of minima that no operation takes to an earlier one: what a model of that symmetry
    learns at them it knows at the others."""
    mirror = np.where(symmetry.mirrored[:, None], [1.0, 1.0, -1.0], 1.0)
    found: list[int] = []
    for index, atoms in enumerate(minima):
        images = atoms.positions[symmetry.permutations] * mirror[:, None]
        if not any(
            superposition(image, minima[other].positions) <= _SAME
            for other in found for image in images
        ):
            found.append(index)
    return found


def _known(atoms: Atoms, found: list[Minimum]) -> bool:
    return any(near(atoms, other.atoms) for other in found)


def near(atoms: Atoms, other: Atoms) -> bool:
    """Whether two conformers are one, equivalent atoms being exchanged if need be."""
    if superposition(atoms.positions, other.positions) <= _SAME:
        return True
    pattern = Pattern.from_geometry("", other.numbers, other.positions / BOHR)
    images = atoms.positions[pattern.automorphisms]
    images = images[same_handedness(pattern, images, other.positions)]
    if not len(images):
        return False
    about = images - images.mean(axis=1, keepdims=True)
    left = deviations(other.positions - other.positions.mean(axis=0), about)
    return bool(np.sqrt((left**2).mean(axis=1)).min() <= _SAME)


def same_handedness(pattern: Pattern, images: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Which images (n, N, 3) have the handedness of a geometry at all centres with four
    neighbours."""
    handedness = pattern.handedness(positions[None])[0]
    return (pattern.handedness(images) * handedness >= 0).all(axis=1)


def mirror_image(atoms: Atoms) -> Atoms | None:
    """Mirror image with equivalent atoms relabelled to be as near as can be to the original.

    None for a molecule with a stereocentre, whose mirror image is another molecule.
    """
    order = _mirror_order(atoms)
    return None if order is None else Atoms(atoms.numbers, (atoms.positions * [1, 1, -1])[order])


def _mirror_order(atoms: Atoms) -> np.ndarray | None:
    """Which atom of the mirrored geometry takes the place of each in `mirror_image`."""
    pattern = Pattern.from_geometry("", atoms.numbers, atoms.positions / BOHR)
    images = (atoms.positions * [1, 1, -1])[pattern.automorphisms]
    same = same_handedness(pattern, images, atoms.positions)
    if not same.any():
        return None
    about = images[same] - images[same].mean(axis=1, keepdims=True)
    left = deviations(atoms.positions - atoms.positions.mean(axis=0), about)
    return pattern.automorphisms[same][int(np.argmin((left**2).sum(axis=1)))]


def _mirrored(minimum: Minimum) -> Minimum | None:
    order = _mirror_order(minimum.atoms)
    if order is None:
        return None
    n = len(order)
    signs = np.tile([1.0, 1.0, -1.0], n)
    turned = (minimum.hessian * np.outer(signs, signs)).reshape(n, 3, n, 3)
    hessian = turned[order][:, :, order].reshape(3 * n, 3 * n)
    return Minimum(mirror_image(minimum.atoms), hessian)
