"""Dispersion corrections of Grimme and others, atom by atom: D3 with rational damping, and D4.

Energies are those of the authors' libraries, simple-dftd3 and dftd4 (Grimme, Ehrlich, Goerigk, J.
Comput. Chem. 2011, 32, 1456; Caldeweyher et al., J. Chem. Phys. 2019, 150, 154122), with their
parameters for the functional. The energy of a pair is shared by its two atoms, D4's three-body
energies as the library divides them among pairs; D3 has none.
"""

from importlib import import_module
from importlib.metadata import version

import numpy as np

from ase_fflux.base.differences import central_differences, symmetrised
from ase_fflux.base.errors import LabelError

DISPERSIONS = {"d3bj": "D3(BJ)", "d4": "D4"}
"""Names on the command line, and those that stand in names of methods."""

_LIBRARIES = {"d3bj": "dftd3", "d4": "dftd4"}
_STEP = 1e-3
"""bohr, of the gradient's differences."""


class Dispersion:
    """Dispersion energy of a functional.

    Parameters
    ----------
    kind : {"d3bj", "d4"}
    functional : str
        As the libraries name it, which is how most others do.
    charge : int
        Total charge (e), on which D4 depends.

    Raises
    ------
    LabelError
        Another kind, a library that is not installed, a functional without parameters.
    """

    def __init__(self, kind: str, functional: str, charge: int):
        if kind not in DISPERSIONS:
            raise LabelError(f"no dispersion {kind!r}: use one of {', '.join(DISPERSIONS)}")
        self.name, self.library = DISPERSIONS[kind], _LIBRARIES[kind]
        self._kind, self._functional, self._charge = kind, functional, charge
        self._parameters()
        self.versions = {self.library: version(self.library)}

    def _interface(self):
        try:
            return import_module(f"{self.library}.interface")
        except ImportError as error:
            raise LabelError(
                f"{self.name} needs {self.library} ({error}): pip install 'ase-fflux[dispersion]'"
            ) from None

    def _parameters(self):
        interface = self._interface()
        damping = interface.RationalDampingParam if self._kind == "d3bj" else interface.DampingParam
        try:
            return damping(method=self._functional)
        except RuntimeError:  # the libraries have no class of their own
            raise LabelError(
                f"{self.name} has no parameters for {self._functional}: use another functional, or "
                "leave the dispersion out"
            ) from None

    def __call__(
        self, numbers: np.ndarray, positions: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Energies and gradient.

        Parameters
        ----------
        numbers : (N,) array
            Atomic numbers.
        positions : (N, 3) array
            bohr.

        Returns
        -------
        energies : (N,) array
            Atom-resolved energies, which sum to the dispersion energy (hartree).
        gradient : (N, 3) array
            Hartree/bohr.
        """
        charge = {"charge": float(self._charge)} if self._kind == "d4" else {}
        model = self._interface().DispersionModel(numbers, positions, **charge)
        parameters = self._parameters()
        pairs = sum(model.get_pairwise_dispersion(parameters).values())
        # two rows of a pair may differ in rounding
        energies = 0.5 * (pairs.sum(axis=0) + pairs.sum(axis=1))
        return energies, model.get_dispersion(parameters, grad=True)["gradient"]

    def hessian(self, numbers: np.ndarray, positions: np.ndarray) -> np.ndarray:
        """Second derivatives (3N, 3N) in hartree/bohr^2, by differences of the gradient."""
        return symmetrised(central_differences(
            lambda x: self(numbers, x)[1].ravel(), positions, _STEP
        ))
