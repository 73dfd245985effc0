"""Ab initio labels from PySCF: Kohn-Sham energies and gradients, IQA energies, moments to rank 4.

Numerical care. The molecule is calculated in axes of its own (`body_frame`) on an unpruned grid, so
that labels do not feel how it is turned; forces are the derivative of that energy, grid and all
(`pyscf_numerics`). Atomic energies are those of AIMAll, E_IQA(A) (`partition.densities`); what the
quadrature misses of the total energy is shared by the atoms and kept beside the label as its
integration error, so that atoms sum to the total energy, whose gradient is known.
"""

from importlib.metadata import version
from types import SimpleNamespace

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes

from ase_fflux import __version__
from ase_fflux.base.errors import LabelError
from ase_fflux.base.machine import one_thread
from ase_fflux.base.units import BOHR, FORCE, HARTREE
from ase_fflux.labels.body_frame import BodyFrame
from ase_fflux.labels.dispersion import Dispersion
from ase_fflux.labels.label import TOLERANCE, Label
from ase_fflux.labels.partition.accuracy import badly_integrated, require_partition
from ase_fflux.labels.source import Gives, Rejected
from ase_fflux.labels.tblite_source import GFN2, describe
from ase_fflux.model.multipoles import MAX_RANK, rotation_matrices, to_global
from ase_fflux.topology.graphs import atom_label

METHOD, BASIS, PARTITION = "B3LYP", "6-31+G(d,p)", "mbis"
"""Defaults: the level of theory of the published models, atoms that overlap."""

GRID, COARSE = (75, 302), (35, 110)
"""Radial and angular points per atom, unpruned; the coarse ones only lead to the density."""

CONVERGED, TIGHT = 1e-6, 1e-7
"""Norm of the orbital gradient (hartree), of labels and of optimisations."""

_DEPENDENT = 1e-7
"""Smallest eigenvalue of the overlap of a basis that is not linearly dependent."""
_REMEMBERED = 50
"""Densities kept to start from."""


class PySCF:
    """Label source: closed-shell Kohn-Sham or Hartree-Fock with density fitting.

    Parameters
    ----------
    charge : int
        Total charge (e).
    spin : int, optional
        Unpaired electrons; closed shells only.
    method : str
        Functional as PySCF names it, or ``HF``. B3LYP is that of Gaussian.
    basis : str
        Basis set as PySCF names it; Pople's have Cartesian d functions, as in Gaussian.
    partition : {"mbis", "hirshfeld", "qtaim"}
        How the molecule is divided into atoms.
    dispersion : {"d3bj", "d4"}, optional
        Correction that is added, atom by atom.
    memory : float
        Megabytes for orbitals on the grid.

    Raises
    ------
    LabelError
        PySCF is missing, an open shell, an unknown functional, basis or partition, or a functional
        that is not divided into atoms (range-separated exchange, non-local correlation).
    """

    gives = Gives(rank=MAX_RANK)
    tolerance = TOLERANCE
    energies = "IQA energies E(A), Coulomb and exact exchange by density fitting"

    def __init__(
        self, charge: int = 0, spin: int | None = None, method: str = METHOD, basis: str = BASIS,
        partition: str = PARTITION, dispersion: str | None = None, memory: float = 4000.0,
    ):
        require_pyscf()
        require_partition(partition)
        if spin:
            raise LabelError(
                f"PySCF labels are of closed shells only, not of {spin} unpaired electrons: label "
                "open shells with GFN2-xTB (--reference gfn2)"
            )
        check_functional(method)
        self.charge, self.spin = charge, 0
        self.functional, self.basis, self.partition = method, basis, partition
        self.dispersion = Dispersion(dispersion, method, charge) if dispersion else None
        corrected = f"{method}-{self.dispersion.name}" if dispersion else method
        self.method = f"{corrected}/{basis}"
        self._cartesian = basis.replace("-", "").startswith(("6", "3", "4"))
        self._memory = memory
        self.settings = {
            "charge": charge, "cartesian": self._cartesian, "fitting": "density fitting, jkfit",
            "grid": "{} x {} unpruned".format(*GRID), "converged": CONVERGED,
        }
        self.versions = {
            "pyscf": version("pyscf"), "ase-fflux": __version__,
            **(self.dispersion.versions if dispersion else {}),
        }
        self._known: list[tuple[np.ndarray, np.ndarray]] = []
        self._shells = None

    def __getstate__(self):
        return {**self.__dict__, "_known": [], "_shells": None}

    @property
    def engine(self) -> GFN2:
        """GFN2-xTB: dear labels are spent on geometries that it chooses."""
        return GFN2(self.charge, self.spin)

    def check(self, atoms: Atoms) -> None:
        """Refuse what can never be labelled.

        Raises
        ------
        LabelError
            A periodic or empty system, an element without basis, an odd number of electrons, a
            linearly dependent basis.
        """
        if len(atoms) == 0:
            raise LabelError(f"{self.method}: no atoms")
        if atoms.pbc.any():
            raise LabelError(
                f"{self.method}: {atoms.symbols} is periodic; only molecules are labelled: take "
                'its Lattice out or set pbc="F F F" if the cell is only a box'
            )
        electrons = int(atoms.numbers.sum()) - self.charge
        if electrons < 2 or electrons % 2:
            raise LabelError(
                f"{self.method}: {atoms.symbols} with charge {self.charge} has {electrons} "
                "electrons, and only closed shells are labelled: set its charge (--charge)"
            )
        if not np.isfinite(atoms.positions).all():
            atom = int(np.flatnonzero(~np.isfinite(atoms.positions).all(axis=1))[0])
            raise LabelError(
                f"{self.method}: position of {atom_label(atom, atoms.numbers)} is not finite"
            )
        distances = atoms.get_all_distances() + 10 * np.eye(len(atoms))
        if distances.min() < 0.2:
            raise LabelError(f"{self.method}: atoms on top of each other in {describe(atoms)}")
        overlap = self._molecule(atoms, atoms.positions / BOHR).intor("int1e_ovlp")
        if (least := np.linalg.eigvalsh(overlap)[0]) < _DEPENDENT:
            raise LabelError(
                f"{self.method}: the basis is linearly dependent for {describe(atoms)} (smallest "
                f"eigenvalue of its overlap {least:.1e}): use a smaller one, or one without "
                "diffuse functions"
            )

    def label(self, atoms: Atoms) -> Label:
        """Energies, gradient and moments at one geometry.

        Raises
        ------
        Rejected
            A calculation that does not converge, atoms that are not well integrated
            (`partition.accuracy`).
        LabelError
            What `check` raises.
        """
        with one_thread():
            run = self._run(atoms, CONVERGED)
            found = self.integrate(run)
            self._check(run, found)
            return self.label_of(run, found)

    def _check(self, run, found) -> None:
        if fault := badly_integrated(self.partition, found, run.atoms.numbers):
            raise Rejected(f"{self.method}: {describe(run.atoms)}: {fault}")

    def integrate(self, run, partition: str | None = None):
        """Atoms of a run (see `_run`), by another partition if need be."""
        from ase_fflux.labels.partition.atoms import FuzzyIntegrator
        from ase_fflux.labels.partition.densities import MolecularDensities

        partition = partition or self.partition
        if not hasattr(run, "densities"):
            run.densities = MolecularDensities(run.mf)
        if partition == "qtaim":
            from ase_fflux.labels.partition.qtaim import topological_atoms

            return topological_atoms(run.densities)
        if not hasattr(run, "fuzzy"):
            run.fuzzy = FuzzyIntegrator(run.densities)
        found = run.fuzzy.atoms(partition, self._shells)
        if partition == "mbis":
            self._shells = run.fuzzy.shells
        return found

    def label_of(self, run, found) -> Label:
        """Label of a run and its atoms."""
        rotation, moments = np.zeros((5, 9, 9)), np.empty_like(found.moments)
        rotation_matrices(run.frame.axes, MAX_RANK, rotation)
        for local, out in zip(found.moments, moments, strict=True):
            to_global(rotation, MAX_RANK, local, out)
        share = found.errors / found.errors.sum()
        moments[:, 0] -= found.missing * share
        return Label(
            symbols=tuple(run.atoms.get_chemical_symbols()), geometry=run.atoms.positions / BOHR,
            energy=run.energy, gradient=self._gradient(run),
            atomic_energies=found.energies - found.excess * share + run.beyond[0],
            moments=moments, dipole=self._dipole(run), method=self.method,
            partition=self.partition, settings=self.settings, versions=self.versions,
            errors=found.errors,
        )

    def calculator(self) -> Calculator:
        """ASE calculator (energy, forces, dipole) for optimisation."""
        return PySCFCalculator(self)

    def hessian(self, atoms: Atoms) -> np.ndarray:
        """PySCF's analytic second derivatives (3N, 3N) in hartree/bohr^2."""
        with one_thread():
            run = self._run(atoms, TIGHT)
            blocks = run.mf.Hessian().kernel()
        turned = np.einsum("ia,mnij,jb->manb", run.frame.axes, blocks, run.frame.axes)
        matrix = turned.reshape(3 * len(atoms), -1)
        if self.dispersion is not None:
            matrix = matrix + self.dispersion.hessian(atoms.numbers, atoms.positions / BOHR)
        return 0.5 * (matrix + matrix.T)

    def dipole_derivatives(self, atoms: Atoms, step: float = 0.005) -> np.ndarray:
        """Central differences of the dipole (3N, 3) in e, steps in Angstrom."""
        from ase_fflux.base.differences import central_differences

        def dipole(positions):
            return self._dipole(self._run(Atoms(atoms.numbers, positions), TIGHT))

        with one_thread():
            return BOHR * central_differences(dipole, atoms.positions, step)

    def _molecule(self, atoms: Atoms, positions):
        from pyscf import gto

        try:
            return gto.M(
                atom=[(s, x) for s, x in zip(atoms.get_chemical_symbols(), positions, strict=True)],
                unit="B", basis=self.basis, cart=self._cartesian, charge=self.charge, verbose=0,
            )
        except Exception as error:  # PySCF has no class of its own for what is not in its files
            for index, symbol in enumerate(atoms.get_chemical_symbols()):
                try:
                    gto.basis.load(self.basis, symbol)
                except Exception:
                    raise LabelError(
                        f"PySCF has no basis {self.basis} for {atom_label(index, atoms.numbers)}: "
                        "use another basis (--basis)"
                    ) from None
            raise LabelError(f"{self.method}: {describe(atoms)}: {error}") from error

    def _run(self, atoms: Atoms, tolerance: float) -> SimpleNamespace:
        """A converged calculation: mf, energy, frame, atoms, and their dispersion with gradient."""
        from pyscf import dft

        from ase_fflux.labels.pyscf_numerics import DenseNumInt, converge, density_fitted, newton

        self.check(atoms)
        frame = BodyFrame(atoms.numbers, atoms.get_masses(), atoms.positions / BOHR)
        positions = frame.into(atoms.positions / BOHR)
        mol = self._molecule(atoms, positions)
        mf = density_fitted(mol, self.functional)
        mf._numint = DenseNumInt(self._memory)
        mf.conv_tol, mf.conv_tol_grad, mf.conv_check = 1e-9, tolerance / 2, False
        grids = []
        for size in (GRID, COARSE):
            grid = dft.gen_grid.Grids(mol)
            grid.atom_grid, grid.prune, grid.verbose = size, None, 0
            grids.append(grid.build())
        guess = self._guess(mf, positions)
        if not converge(mf, guess, *grids, tolerance):
            # a gap between orbitals that is too small for the plain iteration
            mf.level_shift, mf.max_cycle = 0.3, 200
            mf._numint.correction = None
            if not converge(mf, mf.get_init_guess(), *grids, tolerance):
                newton(mf, grids[0], tolerance)
            mf.level_shift = 0
        if not mf.converged:
            raise Rejected(f"{self.method} does not converge for {describe(atoms)}")
        self._known = [*self._known[-_REMEMBERED:], (positions, mf.mo_coeff[:, mf.mo_occ > 0])]
        beyond = np.zeros(len(atoms)), np.zeros((len(atoms), 3))
        if self.dispersion is not None:
            beyond = self.dispersion(atoms.numbers, atoms.positions / BOHR)
        return SimpleNamespace(
            atoms=atoms, frame=frame, mf=mf, energy=float(mf.e_tot + beyond[0].sum()),
            beyond=beyond,
        )

    def _guess(self, mf, positions):
        """Density of the nearest geometry known, orthogonal in the present basis."""
        from pyscf import lib

        near = [known for known in self._known if known[0].shape == positions.shape
                and len(known[1]) == mf.mol.nao]
        if not near:
            return mf.get_init_guess()
        occupied = min(near, key=lambda known: np.abs(known[0] - positions).sum())[1]
        overlap = mf.mol.intor("int1e_ovlp")
        values, vectors = np.linalg.eigh(occupied.T @ overlap @ occupied)
        occupied = occupied @ (vectors / np.sqrt(values)) @ vectors.T
        return lib.tag_array(
            2 * occupied @ occupied.T, mo_coeff=occupied, mo_occ=np.full(occupied.shape[1], 2.0)
        )

    def _gradient(self, run) -> np.ndarray:
        from ase_fflux.labels.pyscf_numerics import DenseGradients

        gradient = DenseGradients(run.mf)
        gradient.verbose = 0
        return run.frame.gradient(run.mf.mol.atom_coords(), gradient.kernel()) + run.beyond[1]

    def _dipole(self, run) -> np.ndarray:
        """About the origin of the coordinates."""
        inside = run.mf.dip_moment(unit="AU", verbose=0)
        return inside @ run.frame.axes + self.charge * run.frame.origin


class PySCFCalculator(Calculator):
    """ASE face of a `PySCF` source (eV, Angstrom), converged for optimisations."""

    implemented_properties = ["energy", "free_energy", "forces", "dipole"]
    nolabel = True

    def __init__(self, source: PySCF):
        super().__init__()
        self._source = source

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        with one_thread():
            run = self._source._run(self.atoms, TIGHT)
            self.results = {
                "energy": run.energy * HARTREE,
                "free_energy": run.energy * HARTREE,
                "forces": -self._source._gradient(run) * FORCE,
                "dipole": self._source._dipole(run) * BOHR,
            }


def check_functional(method: str) -> None:
    """Refuse a functional that PySCF does not know or that is not divided into atoms."""
    from pyscf.dft import libxc

    if method.upper() == "HF":
        return
    try:
        libxc.parse_xc(method)
    except Exception:
        raise LabelError(
            f"PySCF has no functional {method!r}: see pyscf.dft.libxc for their names"
        ) from None
    if libxc.is_nlc(method) or libxc.rsh_coeff(method)[0]:
        raise LabelError(
            f"{method} has range-separated exchange or non-local correlation, which is not divided "
            "into atoms here: use a global hybrid, a GGA or a meta-GGA, such as B3LYP"
        )


def require_pyscf() -> None:
    """Refuse to go on without PySCF."""
    try:
        import pyscf  # noqa: F401
    except ImportError as error:
        raise LabelError(
            f"ab initio labels need PySCF ({error}): pip install 'ase-fflux[pyscf]'"
        ) from None
