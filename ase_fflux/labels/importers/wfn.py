"""Orbitals of ``.wfn`` files: primitive Gaussians, occupied orbitals in them, the total energy."""

import re
from pathlib import Path

import numpy as np

from ase_fflux.base.errors import LabelError
from ase_fflux.labels.importers.aimall import read_wfn_nuclei
from ase_fflux.labels.importers.orbitals import Orbitals

_TYPES = (
    "", "x", "y", "z", "xx", "yy", "zz", "xy", "xz", "yz", "xxx", "yyy", "zzz", "xxy", "xxz", "yyz",
    "xyy", "xzz", "yzz", "xyz",
)
"""Monomials of types 1 to 20."""
_NUMBER = re.compile(r"[+-]?\d\.\d+[DEde][+-]?\d+")


def orbitals_of_wfn(path: Path) -> Orbitals:
    """Read a ``.wfn`` file.

    Raises
    ------
    LabelError
        A truncated file, open shells, functions beyond f.
    """
    nuclei = read_wfn_nuclei(path)
    functional = {"": "HF", "RHF": "HF", "NUCLEI": "HF"}.get(nuclei.model, nuclei.model)
    return Orbitals(*_molecule(path, nuclei), nuclei.energy, functional)


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
