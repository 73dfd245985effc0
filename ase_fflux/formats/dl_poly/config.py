"""CONFIG: title, cell, and for each atom its name, position and, where there are, velocity."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ase_fflux.base.errors import FFLUXError
from ase_fflux.base.store import write_text
from ase_fflux.formats.dl_poly.records import Record, read_lines

_PERIODIC = (1, 2, 3)
_SHAPES = {4: "a truncated octahedron", 5: "a rhombic dodecahedron", 7: "a hexagonal prism"}


@dataclass(frozen=True, eq=False)
class Config:
    """What a CONFIG says.

    Attributes
    ----------
    path : Path
    title : str
    names : tuple of str
        Of the atoms, n of them.
    positions : (n, 3) array
        Angstrom.
    cell : (3, 3) array
        Cell vectors in rows (Angstrom); zero where there is none.
    pbc : (3,) bool array
        Periodic directions.
    velocities : (n, 3) array or None
        Angstrom/ps.
    lines : (n,) int array
        Line of each atom's name, from 1.
    """

    path: Path
    title: str
    names: tuple[str, ...]
    positions: np.ndarray
    cell: np.ndarray
    pbc: np.ndarray
    velocities: np.ndarray | None
    lines: np.ndarray

    def where(self, atom: int) -> str:
        """File and line of an atom."""
        return f"{self.path}, line {self.lines[atom]}"


def read_config(path: str | Path) -> Config:
    """Read a CONFIG (or REVCON).

    Forces, which a CONFIG may have, are of an earlier run and are not read.

    Raises
    ------
    FFLUXError
        A file that cannot be read, is cut off, or has a line that is not what it should be; a cell
        that is no parallelepiped.
    """
    path = Path(path)
    lines = read_lines(path)
    head = Record(path, 2, lines[1].strip() if len(lines) > 1 else "")
    level = head.whole(0, "the level of the atoms' records (levcfg)")
    if level > 2:
        head.refuse(f"levcfg is {level}: it is 0 (positions), 1 (and velocities) or 2 (and forces)")
    image = head.whole(1, "the kind of the cell (imcon)")
    if image not in (0, 6, *_PERIODIC):
        kind = _SHAPES.get(image, "unknown")
        head.refuse(f"the cell (imcon {image}) is {kind}; cells are parallelepipeds (1, 2, 3)")
    cell, first = np.zeros((3, 3)), 2
    if image:
        cell = np.array([_vector(path, lines, 2 + k, "a cell vector") for k in range(3)])
        first = 5
        if abs(np.linalg.det(cell)) < 1e-6:
            raise FFLUXError(f"{path}, line 3: the cell has no volume")
    end = len(lines)
    while end > first and not lines[end - 1].strip():
        end -= 1
    each = 2 + level
    names, positions, velocities, numbers = [], [], [], []
    for start in range(first, end, each):
        words = lines[start].split()
        if not words or _number(words[0]):
            raise FFLUXError(
                f"{path}, line {start + 1}: the name of an atom should be here, not "
                f"{lines[start].strip()!r}: with levcfg {level} each atom has {each} lines"
            )
        names.append(words[0])
        numbers.append(start + 1)
        positions.append(_vector(path, lines, start + 1, "a position"))
        if level >= 1:
            velocities.append(_vector(path, lines, start + 2, "a velocity"))
        if level == 2 and start + 3 >= len(lines):
            raise FFLUXError(f"{path}: ends before the force of its last atom, {names[-1]}")
    if not names:
        raise FFLUXError(f"{path}: there are no atoms in it")
    return Config(
        path, lines[0].strip(), tuple(names), np.array(positions), cell,
        np.array([image > 0, image > 0, image in _PERIODIC]),
        np.array(velocities) if velocities else None, np.array(numbers),
    )


def _number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _vector(path, lines, index, what) -> list[float]:
    record = Record(path, index + 1, lines[index].strip() if index < len(lines) else "")
    if index >= len(lines):
        record.refuse(f"the file ends where {what} should be")
    return [record.real(k, f"{what} ({'xyz'[k]})") for k in range(3)]


def write_config(path: Path, title: str, names, positions, cell, pbc, velocities=None) -> None:
    """Write a CONFIG; lengths in Angstrom, velocities in Angstrom/ps.

    Parameters
    ----------
    path, title, names, positions, cell, pbc, velocities
        As of `Config`; pbc is all or nothing.
    """
    level = 0 if velocities is None else 1
    image = 3 if all(pbc) else 0
    text = [title[:72], f"{level:10d}{image:10d}{len(names):10d}"]
    if image:
        text += [_line(vector) for vector in cell]
    for i, name in enumerate(names):
        text += [f"{name:<8s}{i + 1:10d}", _line(positions[i])]
        if velocities is not None:
            text.append(_line(velocities[i]))
    write_text(path, "\n".join(text) + "\n")


def _line(vector) -> str:
    return "".join(f"{x:20.12f}" for x in vector)
