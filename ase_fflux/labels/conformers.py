"""Minima to sample around."""

import numpy as np
from ase import Atoms
from ase.optimize import BFGS

from ase_fflux.base.errors import LabelError
from ase_fflux.base.units import BOHR
from ase_fflux.topology import Pattern, superposition

_SAME = 0.1
"""Angstrom; conformers closer than this are one."""


def minima(conformers: list[Atoms], source, fmax: float = 1e-5, steps: int = 2000) -> list[Atoms]:
    """Optimise every conformer with the label source, and add mirror images that differ.

    The gauche conformer of ethanol has a mirror image of the same energy that a model must know as
    well. It is relabelled so that its methyl and methylene hydrogens have the handedness of the
    original, as `ForceField.match` will see any input.

    Parameters
    ----------
    conformers : list of Atoms
        All with the same atoms in the same order (Angstrom).
    source : label source
        With ``calculator()``.
    fmax : float
        Largest force at convergence (eV/Angstrom).
    steps : int
        Limit of optimisation steps.

    Raises
    ------
    LabelError
        Conformers with different atoms, an optimisation that does not converge.
    """
    found: list[Atoms] = []
    for number, conformer in enumerate(conformers):
        if conformer.numbers.tolist() != conformers[0].numbers.tolist():
            raise LabelError(
                f"conformer {number} has other atoms, or in another order, than the first "
                f"({conformer.symbols} and {conformers[0].symbols})"
            )
        atoms = Atoms(conformer.numbers, conformer.positions)
        atoms.calc = source.calculator()
        if not BFGS(atoms, logfile=None).run(fmax=fmax, steps=steps):
            raise LabelError(
                f"the optimisation of conformer {number} with {source.method} did not converge in "
                f"{steps} steps: start from a geometry nearer to a minimum"
            )
        atoms.calc = None
        atoms.positions -= atoms.get_center_of_mass()
        for candidate in (atoms, mirror_image(atoms)):
            if candidate is not None and all(
                superposition(candidate.positions, other.positions) > _SAME for other in found
            ):
                found.append(candidate)
    return found


def mirror_image(atoms: Atoms) -> Atoms | None:
    """Mirror image with equivalent atoms relabelled to be as near as can be to the original.

    None for a molecule with a stereocentre, whose mirror image is another molecule.
    """
    mirrored = atoms.positions * [1, 1, -1]
    pattern = Pattern.from_geometry("", atoms.numbers, atoms.positions / BOHR)
    images = mirrored[pattern.automorphisms]
    handedness = pattern.handedness(atoms.positions[None])[0]
    same = (pattern.handedness(images) * handedness >= 0).all(axis=1)
    if not same.any():
        return None
    images = images[same]
    distances = [superposition(image, atoms.positions) for image in images]
    return Atoms(atoms.numbers, images[int(np.argmin(distances))])
