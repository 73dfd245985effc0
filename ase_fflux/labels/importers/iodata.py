"""Orbitals of ``.wfx``, ``.fchk`` and ``.molden`` files, read by IOData.

IOData has contractions of primitives that are normalised one by one, Cartesian ones of each
monomial by itself; PySCF normalises whole contractions, Cartesian ones alike for all monomials of a
shell.
"""

import warnings
from pathlib import Path

import numpy as np

from ase_fflux.base.errors import LabelError, words
from ase_fflux.labels.importers.orbitals import Orbitals
from ase_fflux.topology.graphs import atom_label


def orbitals_by_iodata(path: Path) -> Orbitals:
    """Read a file.

    Raises
    ------
    LabelError
        IOData is missing or cannot read the file; open shells, pseudopotentials, shells of
        Cartesian and pure functions in one basis.
    """
    data = _load(path)
    if data.atnums is None or data.obasis is None or data.mo is None:
        raise LabelError(f"{path}: no atoms, basis or orbitals in it")
    if data.atcorenums is not None and np.abs(data.atcorenums - data.atnums).max() > 0:
        atom = int(np.argmax(np.abs(data.atcorenums - data.atnums)))
        raise LabelError(
            f"{path}: {atom_label(atom, data.atnums)} has a pseudopotential, which is not divided "
            "into atoms here"
        )
    occupied = data.mo.occs > 1e-6
    if data.mo.kind != "restricted" or not np.allclose(data.mo.occs[occupied], 2, atol=1e-6):
        raise LabelError(f"{path}: not all orbitals are doubly occupied; closed shells only")
    mol, rows = _molecule(path, data)
    lot = (data.lot or "").strip().upper()
    functional = lot.removeprefix("R") or None
    return Orbitals(
        mol, rows @ data.mo.coeffs[:, occupied],
        None if data.energy is None else float(data.energy), functional,
        _word(data.obasis_name), data.atgradient,
    )


def _load(path: Path):
    try:
        from iodata import load_one
    except ImportError as error:
        raise LabelError(
            f"{path.suffix} files are read by IOData ({error}): pip install "
            "'ase-fflux[wavefunctions]'"
        ) from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return load_one(str(path))
    except Exception as error:  # whatever a damaged file brings about in its parsers
        raise LabelError(f"{path}: IOData cannot read it ({words(error)})") from error


def _molecule(path: Path, data):
    """PySCF's molecule, and the matrix (AOs, functions of the file) that takes coefficients there.
    """
    from ase.data import chemical_symbols
    from pyscf import gto

    pieces, start = [], 0
    for shell in data.obasis.shells:
        for degree, kind, coefficients in zip(
            shell.angmoms, shell.kinds, shell.coeffs.T, strict=True
        ):
            names = data.obasis.conventions[degree, kind]
            pieces.append((
                shell.icenter, int(degree), kind, shell.exponents, coefficients, names, start
            ))
            start += len(names)
    kinds = {kind for _, degree, kind, *_ in pieces if degree > 1}
    if len(kinds) > 1:
        raise LabelError(f"{path}: has Cartesian and pure functions in one basis")
    if data.mo.coeffs.shape[0] != start:
        raise LabelError(f"{path}: its orbitals have not as many coefficients as functions")
    # PySCF has the shells of an atom in the order of their angular momenta
    pieces.sort(key=lambda piece: piece[:2])
    symbols = [chemical_symbols[z] for z in data.atnums]
    names = [f"{symbol}{k}" for k, symbol in enumerate(symbols, 1)]
    basis: dict[str, list] = {}
    for centre, degree, _, exponents, coefficients, *_ in pieces:
        basis.setdefault(names[centre], []).append(
            [degree, *zip(exponents.tolist(), coefficients.tolist(), strict=True)]
        )
    electrons = data.mo.occs.sum()
    mol = gto.M(
        atom=list(zip(names, data.atcoords, strict=True)), unit="B", basis=basis, verbose=0,
        cart=kinds == {"c"}, charge=round(sum(data.atnums) - electrons), spin=0,
    )
    overlaps = mol.intor("int1e_ovlp").diagonal()
    matrix, row = np.zeros((mol.nao, start)), 0
    for number, (centre, degree, kind, exponents, coefficients, conventions, column) in enumerate(
        pieces
    ):
        if (mol.bas_atom(number), mol.bas_angular(number)) != (centre, degree):
            raise LabelError(f"{path}: its shells cannot be brought into PySCF's order")
        norm = _norm(degree, exponents, coefficients)
        ours = _functions(degree, kind)
        for k, name in enumerate(conventions):
            sign = -1.0 if name.startswith("-") else 1.0
            place = row + ours.index(name.lstrip("-"))
            matrix[place, column + k] = sign * norm / np.sqrt(overlaps[place])
        row += len(ours)
    return mol, matrix


def _norm(degree: int, exponents, coefficients) -> float:
    """Of a contraction of normalised primitives."""
    a, b = np.meshgrid(exponents, exponents)
    overlap = (2 * np.sqrt(a * b) / (a + b)) ** (degree + 1.5)
    return float(np.sqrt(coefficients @ overlap @ coefficients))


def _functions(degree: int, kind: str) -> list[str]:
    """IOData's names of a shell's functions in PySCF's order."""
    if degree == 0:
        return ["1"] if kind == "c" else ["c0"]
    if kind == "c":
        return [
            "x" * i + "y" * j + "z" * (degree - i - j)
            for i in range(degree, -1, -1) for j in range(degree - i, -1, -1)
        ]
    if degree == 1:
        return ["c1", "s1", "c0"]
    return [f"s{m}" for m in range(degree, 0, -1)] + [f"c{m}" for m in range(degree + 1)]


def _word(name: str | None) -> str:
    """A basis set's name as one word."""
    name = (name or "").strip()
    return "" if any(c.isspace() or c in "\"'={}[]" for c in name) else name
