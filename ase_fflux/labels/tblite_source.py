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
from importlib.metadata import version

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes

from ase_fflux.base.errors import LabelError
from ase_fflux.base.units import BOHR, FORCE, HARTREE, HARTREE_KJ
from ase_fflux.labels.differences import dipole_derivatives, hessian
from ase_fflux.labels.label import TOLERANCE, Label
from ase_fflux.labels.source import Gives
from ase_fflux.model.multipoles import spherical_from_cartesian
from ase_fflux.topology.graphs import atom_label

_LAST = 86
"""Atomic number of the heaviest element with parameters."""

ACCURACY = 1e-3
"""tblite's accuracy; leaves a noise of 1e-13 Ha in energies, the default (1) of 1e-10 Ha."""


class GFN2:
    """Label source: GFN2-xTB of a molecule through tblite.

    Every label is a fresh self-consistent calculation from the same guess, so that it depends on
    its geometry alone, not on what was labelled before.

    Open shells are calculated with spin-polarised orbitals (spGFN2-xTB of Neugebauer, Bannwarth,
    Grimme, Hansen, J. Comput. Chem. 2023, 44, 2120), a closed shell without them.

    Parameters
    ----------
    charge : int
        Total charge (e).
    spin : int, optional
        Number of unpaired electrons. None stands for a closed shell, which `check` refuses where
        two unpaired electrons have a lower energy, as in O2.

    Raises
    ------
    LabelError
        If tblite is not installed or cannot be loaded, or a negative spin.
    """

    method = "GFN2-xTB"
    partition = ""
    energies = "GFN2-xTB's own decomposition of its energy into atoms, not IQA"
    gives = Gives()
    tolerance = TOLERANCE

    def __init__(self, charge: int = 0, spin: int | None = None):
        if spin is not None and spin < 0:
            raise LabelError(f"{spin} unpaired electrons: none or more are needed")
        self.charge, self.spin, self._given = charge, spin or 0, spin is not None
        if spin:
            self.method = "spGFN2-xTB"
        _tblite()
        self.settings = {"charge": charge, "spin": self.spin, "accuracy": ACCURACY}
        self.versions = {"tblite": version("tblite")}

    @property
    def engine(self) -> "GFN2":
        """Itself."""
        return self

    def check(self, atoms: Atoms) -> None:
        """Refuse what can never be labelled.

        Raises
        ------
        LabelError
            For a periodic or empty system, an element without parameters, a number of electrons
            that charge and spin do not fit, or a closed shell by default that is not the ground
            state of that geometry.
        """
        self._check(atoms)
        if self._given:
            return
        closed, triplet = (
            float(GFN2(self.charge, spin)._run(atoms, moments=False).get("energy"))
            for spin in (0, 2)
        )
        if triplet < closed:
            raise LabelError(
                f"{self.method}: {atoms.symbols} with charge {self.charge} is "
                f"{(closed - triplet) * HARTREE_KJ:.0f} kJ/mol lower with two unpaired electrons "
                "than as a closed shell: set --spin 2 (in Python spin=2), another --charge, or "
                "--spin 0 if the closed shell is meant"
            )

    def _check(self, atoms: Atoms) -> None:
        if len(atoms) == 0:
            raise LabelError(f"{self.method}: no atoms")
        if atoms.pbc.any():
            raise LabelError(
                f"{self.method}: {atoms.symbols} is periodic; only molecules are labelled: if the "
                'cell is only a box, set pbc="F F F", or give --vacuum'
            )
        if (unknown := np.flatnonzero((atoms.numbers < 1) | (atoms.numbers > _LAST))).size:
            raise LabelError(
                f"{self.method} has no parameters for {atom_label(unknown[0], atoms.numbers)}: it "
                "has elements up to Rn"
            )
        electrons = int(atoms.numbers.sum()) - self.charge
        if electrons < max(self.spin, 1) or (electrons - self.spin) % 2:
            raise LabelError(
                f"{self.method}: {atoms.symbols} with charge {self.charge} has {electrons} "
                f"electrons, which cannot leave {self.spin} unpaired: set its charge (--charge) or "
                "number of unpaired electrons (--spin)"
            )
    def label(self, atoms: Atoms) -> Label:
        """Energies, gradient and moments at one geometry.

        Raises
        ------
        LabelError
            What `check` raises, coincident atoms, non-finite positions or a calculation that does
            not converge; names the geometry.
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
        # of open shells "alpha" is the sum of both spins, "beta" their difference
        channel = "_alpha" if self.spin else ""
        components = ("xx", "xy", "xz", "xy", "yy", "yz", "xz", "yz", "zz")
        quadrupoles = np.stack([features[f"qm_A_{ab}{channel}"] for ab in components], axis=1)
        dipoles = np.stack([features[f"dipm_A_{a}{channel}"] for a in "xyz"], axis=1)
        higher = spherical_from_cartesian(dipoles, quadrupoles.reshape(-1, 3, 3))
        return Label(
            symbols=tuple(atoms.get_chemical_symbols()),
            geometry=atoms.positions / BOHR,
            energy=energy,
            gradient=result.get("gradient"),
            atomic_energies=energies,
            moments=np.column_stack([result.get("charges"), higher]),
            dipole=result.get("dipole"),
            method=self.method,
            settings=self.settings,
            versions=self.versions,
        )

    def calculator(self) -> Calculator:
        """ASE calculator (energy, forces, charges, dipole) for dynamics and optimisation."""
        return GFN2Calculator(self)

    def hessian(self, atoms: Atoms) -> np.ndarray:
        """Hessian by central differences of the gradient (3N, 3N) in hartree/bohr^2."""
        return hessian(atoms, self.calculator())

    def dipole_derivatives(self, atoms: Atoms) -> np.ndarray:
        """Derivatives of the dipole by central differences (3N, 3) in e."""
        return dipole_derivatives(atoms, self.calculator())

    def _run(self, atoms: Atoms, moments: bool):
        interface = _tblite()
        self._check(atoms)
        if not np.isfinite(atoms.positions).all():
            atom = int(np.flatnonzero(~np.isfinite(atoms.positions).all(axis=1))[0])
            raise LabelError(
                f"{self.method}: position of {atom_label(atom, atoms.numbers)} of {atoms.symbols} "
                "is not finite"
            )
        try:
            calculator = interface.Calculator(
                "GFN2-xTB", atoms.numbers, atoms.positions / BOHR, charge=self.charge,
                uhf=self.spin,
            )
            if self.spin:
                calculator.add("spin-polarization", 1.0)
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
    one, other = (atom_label(a, atoms.numbers) for a in (i, j))
    return f"{atoms.symbols} (closest are {one} and {other}, {distances[i, j]:.3f} Angstrom)"


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
