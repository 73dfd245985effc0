"""What files of wave functions have in common: occupied orbitals in the functions of a molecule."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Orbitals:
    """Doubly occupied orbitals of a molecule.

    Parameters
    ----------
    mol : pyscf.gto.Mole
        Atoms and basis functions.
    coefficients : (AOs, n) array
        Occupied orbitals in these functions.
    energy : float, optional
        Total energy that the file states (hartree).
    functional : str, optional
        Functional that the file names, or ``HF``.
    basis : str
        Name of the basis set that the file has, or none.
    gradient : (N, 3) array, optional
        Gradient of the total energy (hartree/bohr).
    """

    mol: object
    coefficients: np.ndarray
    energy: float | None = None
    functional: str | None = None
    basis: str = ""
    gradient: np.ndarray | None = None
