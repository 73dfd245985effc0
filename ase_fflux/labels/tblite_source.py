"""GFN2-xTB labels from tblite.

The atom-resolved energies are GFN2-xTB's own decomposition of its total energy (Hamiltonian,
repulsion, electrostatic and dispersion contributions assigned to atoms as tblite does). They are
not energies of interacting quantum atoms (IQA), though a model learns them in their place.

Multipoles. tblite's atomic moments (``dipm_A_*``, ``qm_A_*`` of its ``xtbml_xyz`` features) are
centred on the atoms, in atomic units, nuclear charge included, and the quadrupoles are traceless:
Theta = 1/2 sum q (3 r r^T - r^2 1). They add up to tblite's molecular dipole and to the diagonal of
its molecular quadrupole. The off-diagonal elements of the *molecular* quadrupole, not used here,
count the part of charges and dipoles twice; the atomic quadrupoles rotate as a tensor.
"""

import os
from contextlib import contextmanager

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes

from ase_fflux.base.errors import LabelError
from ase_fflux.base.units import BOHR, FORCE, HARTREE
from ase_fflux.labels.dataset import Label

ACCURACY = 1e-3
"""tblite's accuracy; leaves a noise of 1e-13 Ha in energies, the default (1) of 1e-10 Ha."""


class GFN2:
    """Label source: GFN2-xTB of a closed-shell molecule through tblite.

    Every label is a fresh self-consistent calculation from the same guess, so that it depends on
    its geometry alone, not on what was labelled before.

    Parameters
    ----------
    charge : int
        Total charge (e).

    Raises
    ------
    LabelError
        If tblite is not installed or cannot be loaded.
    """

    method = "GFN2-xTB"
    energies = "GFN2-xTB's own decomposition of its energy into atoms, not IQA"

    def __init__(self, charge: int = 0):
        self.charge = charge
        _tblite()

    def label(self, atoms: Atoms) -> Label:
        """Energies, gradient and moments at one geometry.

        Raises
        ------
        LabelError
            For a periodic, empty or open-shell system, coincident atoms, non-finite positions or
            a calculation that does not converge; names the geometry.
        """
        result = self._run(atoms, moments=True)
        energies = result.get("energies")
        energy = float(result.get("energy"))
        if abs(energies.sum() - energy) > 1e-9:
            raise LabelError(
                f"{self.method}: atomic energies of {describe(atoms)} sum to {energies.sum()} Ha "
                f"instead of {energy} Ha; this tblite version cannot be used"
            )
        features = result.get("post-processing-dict")
        components = ("xx", "xy", "xz", "xy", "yy", "yz", "xz", "yz", "zz")
        quadrupoles = np.stack([features[f"qm_A_{ab}"] for ab in components], axis=1)
        return Label(
            symbols=tuple(atoms.get_chemical_symbols()),
            geometry=atoms.positions / BOHR,
            energy=energy,
            gradient=result.get("gradient"),
            atomic_energies=energies,
            charges=result.get("charges"),
            atomic_dipoles=np.stack([features[f"dipm_A_{a}"] for a in "xyz"], axis=1),
            atomic_quadrupoles=quadrupoles.reshape(-1, 3, 3),
            dipole=result.get("dipole"),
            method=self.method,
        )

    def calculator(self) -> Calculator:
        """ASE calculator (energy, forces, charges, dipole) for dynamics and optimisation."""
        return GFN2Calculator(self)

    def _run(self, atoms: Atoms, moments: bool):
        interface = _tblite()
        numbers = atoms.numbers
        if len(atoms) == 0:
            raise LabelError(f"{self.method}: no atoms")
        if atoms.pbc.any():
            raise LabelError(
                f"{self.method}: {describe(atoms)} is periodic; only molecules are labelled, set "
                "pbc=False"
            )
        if not np.isfinite(atoms.positions).all():
            atom = int(np.flatnonzero(~np.isfinite(atoms.positions).all(axis=1))[0])
            raise LabelError(
                f"{self.method}: position of atom {atom} of {atoms.symbols} is not finite"
            )
        if (numbers.sum() - self.charge) % 2:
            raise LabelError(
                f"{self.method}: {atoms.symbols} with charge {self.charge} has an odd number of "
                "electrons; only closed shells are supported"
            )
        try:
            calculator = interface.Calculator(
                self.method, numbers, atoms.positions / BOHR, charge=self.charge
            )
            calculator.set("verbosity", 0)
            calculator.set("accuracy", ACCURACY)
            calculator.add("molecular-multipoles")
            if moments:
                calculator.add("xtbml_xyz")
            return calculator.singlepoint()
        except (RuntimeError, ValueError) as error:
            raise LabelError(f"{self.method} failed for {describe(atoms)}: {error}") from error


class GFN2Calculator(Calculator):
    """ASE face of a `GFN2` source (eV, Angstrom), without memory of earlier geometries."""

    implemented_properties = ["energy", "free_energy", "forces", "charges", "dipole"]
    nolabel = True

    def __init__(self, source: GFN2):
        super().__init__()
        self._source = source

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        result = self._source._run(self.atoms, moments=False)
        energy = float(result.get("energy")) * HARTREE
        self.results = {
            "energy": energy,
            "free_energy": energy,
            "forces": -result.get("gradient") * FORCE,
            "charges": result.get("charges"),
            "dipole": result.get("dipole") * BOHR,
        }


def describe(atoms: Atoms) -> str:
    """Formula and closest pair of a geometry, to recognise it in an error message."""
    if len(atoms) < 2:
        return str(atoms.symbols)
    distances = atoms.get_all_distances()
    distances[np.diag_indices(len(atoms))] = np.inf
    i, j = np.unravel_index(np.argmin(distances), distances.shape)
    symbols = atoms.get_chemical_symbols()
    return (
        f"{atoms.symbols} (closest atoms {symbols[i]}{i} and {symbols[j]}{j}, "
        f"{distances[i, j]:.3f} Angstrom)"
    )


def _tblite():
    """Import tblite's interface."""
    try:
        with _one_thread():
            from tblite import interface
    except ModuleNotFoundError as error:
        raise LabelError(
            f"GFN2-xTB labels need tblite ({error}): pip install 'ase-fflux[all]'"
        ) from error
    except ImportError as error:
        raise LabelError(
            f"tblite is installed but cannot be loaded: {error}. Where libgomp.so.1 is missing, "
            "install the system's OpenMP runtime (Debian and Ubuntu: apt install libgomp1)"
        ) from error
    return interface


@contextmanager
def _one_thread():
    """Let the OpenMP runtime start with one thread unless the user asked for more.

    Small molecules gain nothing from threads (half the speed per core), and process pools would
    oversubscribe. The runtime reads the variable once, when the library is loaded.
    """
    if "OMP_NUM_THREADS" in os.environ:
        yield
        return
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        yield
    finally:
        del os.environ["OMP_NUM_THREADS"]
