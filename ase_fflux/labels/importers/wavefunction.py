"""Labels from wave functions of other programs, integrated here over atoms.

==========================  ======================================================================
``.wfn``                    orbitals, total energy, functional
``.wfx``, ``.fchk``         orbitals, total energy, gradient if there; ``.fchk`` has the functional
``.molden``                 orbitals
==========================  ======================================================================

The last three are read by IOData. Atoms of any partition are integrated from the orbitals
(`labels.partition`): moments always; energies, with fitted Coulomb and exchange, where the
functional is known.
"""

from importlib.metadata import version
from pathlib import Path

import numpy as np

from ase_fflux import __version__
from ase_fflux.base.errors import LabelError
from ase_fflux.labels.checks import believe
from ase_fflux.labels.importers.orbitals import Orbitals
from ase_fflux.labels.label import Dataset, Label, dataset_of
from ase_fflux.labels.partition.accuracy import badly_integrated, require_partition

SUFFIXES = ".wfn", ".wfx", ".fchk", ".molden"

ENERGY = 2e-3
"""Hartree; a recomputed energy farther from the file's is that of another functional."""

_ORTHONORMAL = 1e-3
"""Overlap of orbitals that is more than rounding."""


def read_wavefunctions(
    paths: list[Path], partition: str = "qtaim", functional: str | None = None
) -> Dataset:
    """Labels of files of one molecule; arguments and errors as by `read_wavefunction`."""
    labels = []
    for path in paths:
        labels.append(read_wavefunction(path, partition, functional))
    try:
        dataset = dataset_of(labels, [path.stem.replace(" ", "_") for path in paths])
    except LabelError as error:
        raise LabelError(f"{paths[0].parent}: {error}") from None
    believe(dataset, lambda i: str(paths[i]))
    return dataset


def read_wavefunction(
    path: str | Path, partition: str = "qtaim", functional: str | None = None
) -> Label:
    """Label of a file with a wave function.

    Parameters
    ----------
    path : path
        Of one of `SUFFIXES`.
    partition : {"qtaim", "mbis", "hirshfeld"}
        How the molecule is divided into atoms.
    functional : str, optional
        As PySCF names it, or ``HF``; the file's own word by default.

    Returns
    -------
    Label
        Moments to rank 4, and the file's gradient if it has one. Where the functional is known
        there are atomic energies, which sum to the total energy; what was missing is shared by the
        atoms and kept as ``errors``.

    Raises
    ------
    LabelError
        A truncated file, open shells, what cannot be represented, orbitals that are not
        orthonormal, an unknown functional, a total energy that is not that of orbitals and
        functional, atoms that miss it by more than labels may.
    """
    from ase_fflux.base.machine import one_thread
    from ase_fflux.labels.pyscf_source import check_functional, require_pyscf

    require_pyscf()
    path = Path(path)
    require_partition(partition)
    if not path.is_file():
        raise LabelError(f"{path}: no such file")
    found = _orbitals(path)
    functional = functional or found.functional
    if functional is not None:
        check_functional(functional)
    with one_thread():
        return _label(path, found, partition, functional)


def _orbitals(path: Path) -> Orbitals:
    if path.suffix.lower() == ".wfn":
        from ase_fflux.labels.importers.wfn import orbitals_of_wfn

        return orbitals_of_wfn(path)
    if path.suffix.lower() in SUFFIXES:
        from ase_fflux.labels.importers.iodata import orbitals_by_iodata

        return orbitals_by_iodata(path)
    raise LabelError(f"{path}: not one of {', '.join(SUFFIXES)}")


def _label(path: Path, found: Orbitals, partition: str, functional: str | None) -> Label:
    mol = found.mol
    products = found.coefficients.T @ mol.intor("int1e_ovlp") @ found.coefficients
    if (off := np.abs(products - np.eye(len(products))).max()) > _ORTHONORMAL:
        raise LabelError(
            f"{path}: its orbitals are not orthonormal (off by {off:.2g}): damaged, or written in "
            "a dialect that is not known"
        )
    mf = _calculation(found, functional or "HF")
    energy = found.energy
    if functional is not None:
        if energy is None:
            energy = mf.e_tot
        elif abs(mf.e_tot - energy) > ENERGY:
            raise LabelError(
                f"{path}: its orbitals have the energy {mf.e_tot:.6f} Ha with {functional}, but "
                f"the file says {energy:.6f} Ha: give the functional that it was made with"
            )
    atoms = _atoms(mf, partition)
    symbols = tuple(mol.atom_pure_symbol(k) for k in range(mol.natm))
    if fault := badly_integrated(partition, atoms, mol.atom_charges()):
        raise LabelError(f"{path}: {fault}: take another partition")
    share = atoms.errors / atoms.errors.sum()
    moments = atoms.moments.copy()
    moments[:, 0] -= atoms.missing * share
    energies = None
    if functional is not None:
        energies = atoms.energies - (atoms.energies.sum() - energy) * share
    level = functional or "unknown"
    return Label(
        symbols, mol.atom_coords(), energy, found.gradient, energies, moments,
        mf.dip_moment(unit="AU", verbose=0),
        method=f"{level}/{found.basis}" if found.basis else level, partition=partition,
        settings={"wave function": path.suffix.lower()[1:]},
        versions={"pyscf": version("pyscf"), "ase-fflux": __version__}, errors=atoms.errors,
    )


def _calculation(found: Orbitals, functional: str):
    """PySCF's calculation with these orbitals, as if it had just converged."""
    from ase_fflux.labels.pyscf_numerics import density_fitted
    from ase_fflux.labels.pyscf_source import GRID

    mf = density_fitted(found.mol, functional, "def2-universal-jkfit")
    mf.grids.atom_grid, mf.grids.prune, mf.verbose = GRID, None, 0
    mf.with_df.build()
    mf.mo_coeff, mf.mo_occ = found.coefficients, np.full(found.coefficients.shape[1], 2.0)
    mf.e_tot = mf.energy_tot(mf.make_rdm1())
    return mf


def _atoms(mf, partition: str):
    from ase_fflux.labels.partition.atoms import FuzzyIntegrator
    from ase_fflux.labels.partition.densities import MolecularDensities
    from ase_fflux.labels.partition.qtaim import topological_atoms

    densities = MolecularDensities(mf)
    if partition == "qtaim":
        return topological_atoms(densities)
    return FuzzyIntegrator(densities).atoms(partition)
