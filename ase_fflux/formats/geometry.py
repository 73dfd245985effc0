"""Geometries of the user's files: ASE's readers, behind a look at what would make them go wrong.

A reader of ASE believes the counts in a file, goes by its name before its content, and answers an
element that it does not know with a bare KeyError. Here counts are compared with the size of the
file first, suffixes that name one format come before patterns in the name, and every refusal is
one line with the file, the line where that is known, and the reason.
"""

import io
import os
import sys
import tempfile
from collections import deque
from contextlib import contextmanager
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from ase.io.formats import (
    UnknownFileTypeError,
    filetype,
    get_compression,
    ioformats,
    open_with_compression,
)

from ase_fflux.base.errors import FFLUXError, GeometryError
from ase_fflux.base.text import printable, shortened
from ase_fflux.base.units import BOHR
from ase_fflux.formats.xyz_checks import checked_xyz, refuse_bad_row
from ase_fflux.topology.graphs import apart, atom_label, bonds

STDIN = "-"
"""Name by which the standard input is read."""

_OWN_SUFFIX = {".xyz": "extxyz", ".extxyz": "extxyz", ".traj": "traj", ".cif": "cif", ".pdb":
               "proteindatabank", ".gen": "gen", ".vasp": "vasp", ".db": "db"}
"""Suffixes that leave no doubt: `POSCAR-opt.xyz` is not a POSCAR."""

_MOST_PIPED = 256 * 2**20
"""Bytes of a pipe that are read at most."""

_BEYOND = 1000
"""Lines that a reader may ask for after the end of the file."""


def read_frames(
    file: str, format: str | None = None, *, vacuum: bool = False, calculators: bool = False
) -> list[Atoms]:
    """Read all frames of a file.

    Parameters
    ----------
    file : str
        Path, also of a pipe such as ``/dev/stdin``, or ``-`` for the standard input.
    format : str, optional
        Name of ASE's format (``ase info --formats``); by default found from name and content.
    vacuum : bool
        Take each frame for one molecule in vacuum: a molecule that lies across periodic boundaries
        is made whole, and cell and boundaries are dropped.
    calculators : bool
        Leave the frames what the file says of energies and forces; by default they have none.

    Returns
    -------
    list of Atoms
        At least one, each with atoms, finite positions and positive masses. Symbols D and T are
        hydrogen with the isotope's mass; atomic numbers may stand in place of symbols.

    Raises
    ------
    FFLUXError
        A file that is missing, of no known format, cannot be read, or holds no frames or a frame
        without atoms.
    GeometryError
        A coordinate or mass that makes no sense, an atom without element; with ``vacuum`` several
        molecules in one cell, or one that has no end.
    """
    shown = printable(file)
    with _regular(file, shown) as path:
        frames = _read(path, format, shown)
    if not frames:
        raise FFLUXError(f"{shown}: no geometry in it")
    for number, atoms in enumerate(frames):
        where = f"{shown}, frame {number}" if len(frames) > 1 else shown
        _check(atoms, where)
        if not calculators:
            atoms.calc = None
        if vacuum:
            _isolate(atoms, where)
    return frames


def output_stem(file: str) -> str:
    """What names of output begin with: the file's name without folder and suffix."""
    if os.path.isdir(file):  # a run directory: the name of . is elsewhere
        return Path(file).resolve().name
    return "stdin" if file == STDIN else Path(file).stem


def misleads_ase(name: str) -> bool:
    """Whether ASE takes an xyz file of this name for something else, such as `POSCAR-opt.xyz`."""
    return any(form.match_name(Path(name).name) for form in ioformats.values())


@contextmanager
def _regular(file: str, shown: str):
    """Path of a file that can be read twice; what comes through a pipe is copied into one."""
    if os.path.isfile(file):
        yield file
        return
    if os.path.isdir(file):
        raise FFLUXError(f"{shown}: is a directory, not a geometry")
    if file != STDIN and not os.path.exists(file):
        raise FFLUXError(f"{shown}: no such file")
    if file == STDIN:
        content = sys.stdin.buffer.read(_MOST_PIPED + 1)
    else:
        with open(file, "rb") as pipe:
            content = pipe.read(_MOST_PIPED + 1)
    if len(content) > _MOST_PIPED:
        raise FFLUXError(f"{shown}: more than {_MOST_PIPED >> 20} MB; write them to a file first")
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "stdin")
        with open(path, "wb") as copy:
            copy.write(content)
        yield path


def _read(path: str, format: str | None, shown: str) -> list[Atoms]:
    """Frames as ASE reads them, isotopes with their masses."""
    form = _format(path, format, shown)
    found, source = {}, path
    try:
        if form.name in ("xyz", "extxyz"):
            with open_with_compression(path, "rb") as file:
                text, found = checked_xyz(file.read().decode("utf-8", "replace"), shown)
            source = io.StringIO(text)
        elif form.name == "vasp":
            _check_poscar(path, shown)
        if source is path and form.acceptsfd and not form.isbinary:
            with open_with_compression(path, "rb") as file:
                source = _Finite(file, encoding=form.encoding or "utf-8", errors="replace")
                frames = ase.io.read(source, index=":", format=form.name)
        else:
            frames = ase.io.read(
                source, index=":", format=form.name, do_not_split_by_at_sign=True
            )
    except FFLUXError:
        raise
    except (Exception, MemoryError) as error:  # readers raise whatever their parsing runs into
        if form.name in ("xyz", "extxyz") and isinstance(source, io.StringIO):
            refuse_bad_row(source.getvalue(), shown)
        raise FFLUXError(
            f"{shown}: cannot be read as a geometry ({_reason(error)}; taken for ASE's format "
            f"{form.name}: if it is another, name it with --format)"
        ) from error
    for (frame, atom), mass in found.items():
        if not frames[frame].has("masses") or frames[frame].get_masses()[atom] != mass:
            masses = frames[frame].get_masses()
            masses[atom] = mass
            frames[frame].set_masses(masses)
    return frames


def _format(path: str, format: str | None, shown: str):
    """ASE's format: the one that is asked for, that of the suffix, or what ASE finds."""
    known = f"`ase info --formats` lists what there is, such as {', '.join(_EXAMPLES)}"
    if format is None:
        root, _ = get_compression(path)
        format = _OWN_SUFFIX.get(Path(root).suffix.lower())
        try:
            format = format or filetype(path, guess=False)
        except Exception as error:  # a damaged archive raises whatever its reader does
            if isinstance(error, UnknownFileTypeError) and os.path.getsize(path) == 0:
                raise FFLUXError(f"{shown}: is empty") from None
            raise FFLUXError(
                f"{shown}: neither name nor content tell its format; name it with --format "
                f"({known})"
            ) from error
    if format not in ioformats or not ioformats[format].can_read:
        raise FFLUXError(f"{shown}: ASE reads no format {format!r}; {known}")
    return ioformats[format]


_EXAMPLES = ("extxyz", "vasp", "cif", "proteindatabank", "gaussian-out", "turbomole")


def _reason(error: BaseException) -> str:
    if isinstance(error, MemoryError):
        return "it asks for more memory than there is"
    text = " ".join(str(error).split())
    return text if text and not isinstance(error, KeyError) else f"{type(error).__name__} {text}"


class _Finite(io.TextIOWrapper):
    """A text file that does not go on for ever after its end.

    A reader that believes a wrong count reads line after line, and never looks whether one came.
    """

    beyond = 0

    def readline(self, size=-1):
        line = super().readline(size)
        self.beyond = 0 if line else self.beyond + 1
        if self.beyond > _BEYOND:
            raise EOFError("it ends before what its counts announce")
        return line


def _check_poscar(path: str, shown: str) -> None:
    """Refuse more atoms than the file has lines: the counts stand in the sixth or seventh."""
    with open_with_compression(path, "rb") as file:
        lines = file.read().decode("utf-8", "replace").splitlines()
    for number, line in enumerate(lines[5:7], start=6):
        words = line.split("!")[0].split()
        if words and all(word.isdigit() for word in words):
            if sum(map(int, words)) > len(lines):
                raise FFLUXError(
                    f"{shown}, line {number}: {shortened(line)} atoms are announced, "
                    f"{len(lines) - number} lines follow"
                )
            return


def _check(atoms: Atoms, where: str) -> None:
    """Refuse what has no defined value."""
    if len(atoms) == 0:
        raise FFLUXError(f"{where}: no atoms in it")

    def refuse(wrong: np.ndarray, what: str) -> None:
        if wrong.any():
            label = atom_label(int(np.flatnonzero(wrong)[0]), atoms.numbers)
            raise GeometryError(f"{where}: {label} {what}")

    strange = np.flatnonzero((atoms.numbers < 0) | (atoms.numbers >= len(chemical_symbols)))
    if len(strange):
        raise GeometryError(
            f"{where}: atom {strange[0] + 1} has the atomic number {atoms.numbers[strange[0]]}, "
            "which no element has"
        )
    refuse(~np.isfinite(atoms.positions).all(axis=1), "has a coordinate that is not a number")
    refuse(atoms.numbers == 0, "is a dummy atom without element: take it out")
    masses = atoms.get_masses()
    refuse(~((masses > 0) & np.isfinite(masses)), "has a mass that is not a positive number")
    try:
        apart(atoms.positions / BOHR, atoms.numbers)
    except GeometryError as error:
        raise GeometryError(f"{where}: {error}") from None


def _isolate(atoms: Atoms, where: str) -> None:
    """Make the molecule of a periodic cell whole, in place, and drop the cell."""
    if atoms.pbc.any():
        cell = atoms.cell.array
        try:
            pairs, shifts = bonds(
                atoms.numbers, atoms.positions / BOHR, cell / BOHR, atoms.pbc
            )
        except GeometryError as error:
            raise GeometryError(f"{where}: {error}") from None
        moved = _spanning(len(atoms), pairs, shifts, where)
        atoms.positions += moved @ cell
    atoms.set_cell(None)
    atoms.pbc = False


def _spanning(n: int, pairs: np.ndarray, shifts: np.ndarray, where: str) -> np.ndarray:
    """Cells (n, 3) by which atoms move so that no bond crosses a boundary."""
    around = [[] for _ in range(n)]
    for (i, j), shift in zip(pairs.tolist(), shifts, strict=True):
        around[i].append((j, shift))
        around[j].append((i, -shift))
    moved = np.zeros((n, 3), dtype=int)
    seen, queue = {0}, deque([0])
    while queue:
        i = queue.popleft()
        for j, shift in around[i]:
            if j not in seen:
                seen.add(j)
                moved[j] = moved[i] + shift
                queue.append(j)
            elif (moved[j] != moved[i] + shift).any():
                raise GeometryError(
                    f"{where}: bonded to its own periodic images, which is no molecule in vacuum"
                )
    if len(seen) < n:
        raise GeometryError(
            f"{where}: --vacuum is for one molecule, and {n - len(seen)} of {n} atoms are not "
            "bonded to the first: take one molecule out, or leave --vacuum out"
        )
    return moved
