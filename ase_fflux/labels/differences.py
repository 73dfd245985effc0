"""Second derivatives and dipole derivatives by central differences of a calculator."""

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator

from ase_fflux.base.differences import central_differences, symmetrised
from ase_fflux.base.units import BOHR, FORCE

STEP = 0.002
"""Angstrom."""


def hessian(atoms: Atoms, calculator: Calculator, step: float = STEP) -> np.ndarray:
    """Hessian (3N, 3N) in hartree/bohr^2, symmetrised, by differences of forces.

    Parameters
    ----------
    atoms : Atoms
        Geometry.
    calculator : Calculator
        Gives forces.
    step : float
        Displacement (Angstrom).
    """
    def forces(positions):
        return _moved(atoms, calculator, positions).get_forces().ravel()

    return -BOHR / FORCE * symmetrised(central_differences(forces, atoms.positions, step))


def dipole_derivatives(atoms: Atoms, calculator: Calculator, step: float = STEP) -> np.ndarray:
    """Derivatives (3N, 3) of the molecular dipole (e), arguments as in `hessian`."""
    def dipole(positions):
        return _moved(atoms, calculator, positions).get_dipole_moment()

    return central_differences(dipole, atoms.positions, step)


def _moved(atoms: Atoms, calculator: Calculator, positions: np.ndarray) -> Atoms:
    moved = Atoms(atoms.numbers, positions)
    moved.calc = calculator
    return moved
