"""The text of xyz files, looked through before ASE's reader believes it."""

import re

from ase.data import atomic_numbers, chemical_symbols

from ase_fflux.base.errors import FFLUXError, GeometryError
from ase_fflux.base.text import shortened

ISOTOPES = {"D": 2.01410177812, "T": 3.01604927791}
"""Symbols of hydrogen's isotopes and their masses in amu (AME 2016)."""


def checked_xyz(text: str, shown: str) -> tuple[str, dict[tuple[int, int], float]]:
    """Text of a sound xyz file with ASE's symbols, and masses of isotopes by (frame, atom)."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").rstrip("\n").split("\n")
    result, masses = [], {}
    at = frame = 0
    while at < len(lines):
        if not lines[at].strip():
            at += 1  # ASE stops at an empty line between frames without a word
            continue
        try:
            n_atoms = int(lines[at])
        except ValueError:
            raise FFLUXError(
                f"{shown}, line {at + 1}: {shortened(lines[at])!r} is not a number of atoms: an "
                "xyz file begins with one; if this is another format, name it with --format"
            ) from None
        left = max(len(lines) - at - 2, 0)
        if not 0 <= n_atoms <= left:
            raise FFLUXError(
                f"{shown}, line {at + 1}: {shortened(lines[at])} atoms are announced, {left} lines "
                "follow the comment"
            )
        comment = lines[at + 1] if at + 1 < len(lines) else ""
        species, columns = _columns(comment, f"{shown}, line {at + 2}")
        if n_atoms and columns > len(lines[at + 2].split()):
            raise FFLUXError(
                f"{shown}, line {at + 2}: {columns} columns are announced, the next line has "
                f"{len(lines[at + 2].split())}"
            )
        result += [lines[at], comment]
        for atom in range(n_atoms):
            line = lines[at + 2 + atom]
            if species is not None:
                line, mass = _with_symbol(line, species, f"{shown}, line {at + 3 + atom}")
                if mass is not None:
                    masses[frame, atom] = mass
            result.append(line)
        at += 2 + n_atoms
        while at < len(lines) and lines[at].lstrip().startswith("VEC"):
            result.append(lines[at])
            at += 1
        frame += 1
    return "\n".join(result) + "\n", masses


def _columns(comment: str, where: str) -> tuple[int | None, int]:
    """Column of the symbols, None where there are atomic numbers, and how many there are in all."""
    found = re.search(r"\bProperties=\"?([^\s\"]+)", comment, re.IGNORECASE)
    if found is None:
        return 0, 4
    fields = found[1].split(":")
    columns, species = 0, None
    for name, _, count in zip(fields[::3], fields[1::3], fields[2::3], strict=False):
        if not count.isdigit():
            raise FFLUXError(f"{where}: {name} has {shortened(count)!r} columns in Properties")
        if name.lower() == "species":
            species = columns
        columns += int(count)
    return species, columns


def _with_symbol(line: str, column: int, where: str) -> tuple[str, float | None]:
    """The line with a symbol that ASE knows, and the mass if it stands for an isotope."""
    words = line.split()
    if column >= len(words):
        raise FFLUXError(f"{where}: {shortened(line)!r} is not the line of an atom")
    word = words[column]
    if word in atomic_numbers and word != "X":
        return line, None
    symbol, mass = word.capitalize(), ISOTOPES.get(word)
    if mass is not None:
        symbol = "H"
    elif word.isdigit() and 0 < int(word) < len(chemical_symbols):
        symbol = chemical_symbols[int(word)]
    elif word in ("X", "0"):
        raise GeometryError(f"{where}: {word} is a dummy atom without element: take it out")
    elif symbol not in atomic_numbers:
        raise GeometryError(f"{where}: {shortened(word)!r} is no element")
    words[column] = symbol
    return " ".join(words), mass


def refuse_bad_row(text: str, shown: str) -> None:
    """Name the first line with a position that is not a number (plain columns only)."""
    lines = text.splitlines()
    n_atoms = int(lines[0]) if lines else 0
    if "Properties" in lines[1]:
        return
    for number, line in enumerate(lines[2:2 + n_atoms], start=3):
        try:
            good = len([float(word) for word in line.split()[1:4]]) == 3
        except ValueError:
            good = False
        if not good:
            raise FFLUXError(
                f"{shown}, line {number}: {shortened(line)!r} is not a symbol and three coordinates"
            )
