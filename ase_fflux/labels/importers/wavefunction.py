"""Labels from wave functions of other programs: ``.wfn`` files, integrated here over atoms.

A ``.wfn`` file lists primitive Gaussians, occupied orbitals in them, and the total energy. Atoms of
any partition are integrated from these orbitals (`labels.partition`), the energies with fitted
Coulomb and exchange and the functional that the file names.
"""

import re
from pathlib import Path

import numpy as np

from ase_fflux.base.errors import LabelError
from ase_fflux.base.units import HARTREE_KJ
from ase_fflux.labels.importers.aimall import read_wfn_nuclei
from ase_fflux.labels.label import Label

ENERGY = 2e-3
"""Hartree; a recomputed energy farther from the file's is that of another functional."""

_TYPES = (
    "", "x", "y", "z", "xx", "yy", "zz", "xy", "xz", "yz", "xxx", "yyy", "zzz", "xxy", "xxz", "yyz",
    "xyy", "xzz", "yzz", "xyz",
)
"""Monomials of types 1 to 20."""
_NUMBER = re.compile(r"[+-]?\d\.\d+[DEde][+-]?\d+")


def read_wfn(path: str | Path, partition: str = "qtaim", functional: str | None = None) -> Label:
    """Label of a ``.wfn`` file.

    Parameters
    ----------
    path : path
    partition : {"qtaim", "mbis", "hirshfeld"}
        How the molecule is divided into atoms.
    functional : str, optional
        As PySCF names it, or ``HF``; the file's own word by default.

    Returns
    -------
    Label
        Without gradient, which the file has not. Atomic energies sum to the file's total energy;
        what was missing is shared by the atoms and kept as ``errors``.

    Raises
    ------
    LabelError
        A truncated file, open shells, functions beyond f, an unknown functional, a total energy
        that is not that of orbitals and functional.
    """
    from ase_fflux.labels.pyscf_source import GRID, WORST, check_functional, require_pyscf

    require_pyscf()
    if partition not in WORST:
        raise LabelError(f"no partition {partition!r}: use one of {', '.join(WORST)}")
    path = Path(path)
    nuclei = read_wfn_nuclei(path)
    functional = functional or {"": "HF", "RHF": "HF", "NUCLEI": "HF"}.get(
        nuclei.model, nuclei.model
    )
    check_functional(functional)
    mol, orbitals = _molecule(path, nuclei)
    from pyscf import dft

    mf = dft.RKS(mol, xc=functional).density_fit(auxbasis="def2-universal-jkfit")
    mf.grids.atom_grid, mf.grids.prune, mf.verbose = GRID, None, 0
    mf.with_df.build()
    mf.mo_coeff, mf.mo_occ = orbitals, np.full(orbitals.shape[1], 2.0)
    mf.e_tot = mf.energy_tot(mf.make_rdm1())
    if abs(mf.e_tot - nuclei.energy) > ENERGY:
        raise LabelError(
            f"{path}: its orbitals have the energy {mf.e_tot:.6f} Ha with {functional}, but the "
            f"file says {nuclei.energy:.6f} Ha: give the functional that it was made with"
        )
    found = _atoms(mf, partition)
    excess = found.energies.sum() - nuclei.energy
    share = found.errors / found.errors.sum()
    return Label(
        nuclei.symbols, nuclei.positions, nuclei.energy,
        atomic_energies=found.energies - excess * share, moments=found.moments,
        dipole=mf.dip_moment(unit="AU", verbose=0), method=functional, partition=partition,
        settings={"wave function": path.name.rsplit(".", 1)[-1],
                  "excess in kJ/mol": round(float(excess) * HARTREE_KJ, 4)},
        errors=found.errors,
    )


def _atoms(mf, partition: str):
    from ase_fflux.labels.partition.atoms import FuzzyIntegrator
    from ase_fflux.labels.partition.densities import MolecularDensities
    from ase_fflux.labels.partition.qtaim import topological_atoms

    densities = MolecularDensities(mf)
    if partition == "qtaim":
        return topological_atoms(densities)
    return FuzzyIntegrator(densities).atoms(partition)


def _molecule(path: Path, nuclei):
    """PySCF's molecule of all primitives, and the occupied orbitals in its functions."""
    from pyscf import gto

    text = path.read_text(encoding="utf-8")
    counts = re.search(r"(\d+)\s+MOL ORBITALS\s+(\d+)\s+PRIMITIVES", text)
    if not counts:
        raise LabelError(f"{path}: no numbers of orbitals and primitives in its second line")
    n_orbitals, n = int(counts[1]), int(counts[2])
    lines = text.splitlines()
    centres = _integers(lines, "CENTRE ASSIGNMENTS")
    types = _integers(lines, "TYPE ASSIGNMENTS")
    exponents = [
        _value(number) for line in lines if line.startswith("EXPONENTS")
        for number in _NUMBER.findall(line)
    ]
    blocks = re.split(r"^MO .*?OCC NO\s*=\s*", text, flags=re.MULTILINE)[1:]
    occupations = [float(block.split()[0]) for block in blocks]
    coefficients = [
        [_value(x) for x in _NUMBER.findall(block.split("END DATA")[0].split("\n", 1)[-1])]
        for block in blocks
    ]
    if {len(centres), len(types), len(exponents), *map(len, coefficients)} != {n} \
            or len(blocks) != n_orbitals:
        raise LabelError(
            f"{path}: not {n_orbitals} orbitals of {n} primitives: the file is truncated"
        )
    if not np.allclose(occupations, 2, atol=1e-6):
        raise LabelError(f"{path}: not all orbitals are doubly occupied; closed shells only")
    if max(types) > len(_TYPES):
        raise LabelError(f"{path}: has functions beyond f (type {max(types)})")
    shells: dict[int, list] = {centre: [] for centre in range(1, len(nuclei.symbols) + 1)}
    for centre, kind, exponent in zip(centres, types, exponents, strict=True):
        shell = [len(_TYPES[kind - 1]), [exponent, 1.0]]
        if shell not in shells[centre]:
            shells[centre].append(shell)
    names = [f"{symbol}{k}" for k, symbol in enumerate(nuclei.symbols, 1)]
    mol = gto.M(
        atom=list(zip(names, nuclei.positions, strict=True)), unit="B", cart=True, verbose=0,
        basis={name: shells[k] for k, name in enumerate(names, 1) if shells[k]}, spin=0,
        charge=round(sum(gto.charge(s) for s in nuclei.symbols) - sum(occupations)),
    )
    return mol, _orbitals(mol, centres, types, exponents, np.array(coefficients).T)


def _orbitals(mol, centres, types, exponents, coefficients) -> np.ndarray:
    """Coefficients (AOs, n) in PySCF's normalised functions, from those of plain monomials."""
    places, factors, start = {}, np.empty(mol.nao), 0
    for shell in range(mol.nbas):
        degree, exponent = mol.bas_angular(shell), mol.bas_exp(shell)[0]
        norm = mol._libcint_ctr_coeff(shell)[0, 0]
        norm *= ((2 * degree + 1) / (4 * np.pi)) ** 0.5 if degree < 2 else 1.0
        monomials = [
            "x" * a + "y" * b + "z" * (degree - a - b)
            for a in range(degree, -1, -1) for b in range(degree - a, -1, -1)
        ]
        for k, monomial in enumerate(monomials):
            places[mol.bas_atom(shell) + 1, monomial, exponent] = start + k
            factors[start + k] = norm
        start += len(monomials)
    out = np.zeros((mol.nao, coefficients.shape[1]))
    for centre, kind, exponent, row in zip(centres, types, exponents, coefficients, strict=True):
        out[places[centre, _TYPES[kind - 1], exponent]] += row
    return out / factors[:, None]


def _integers(lines: list[str], heading: str) -> list[int]:
    """Numbers of three digits after a heading of twenty columns."""
    found = []
    for line in lines:
        if line.startswith(heading):
            rest = line[20:].rstrip()
            found += [int(rest[k : k + 3]) for k in range(0, len(rest), 3)]
    return found


def _value(text: str) -> float:
    return float(text.replace("D", "E").replace("d", "e"))
