"""Records of DL_POLY's files: words, numbers in Fortran's spelling, refusals with their lines."""

from pathlib import Path
from typing import NamedTuple, NoReturn

import numpy as np

from ase_fflux.base.errors import FFLUXError, reason


class Record(NamedTuple):
    """A line that says something.

    Attributes
    ----------
    path : Path
        Of the file.
    number : int
        Of the line, from 1.
    text : str
        Without what surrounds it.
    """

    path: Path
    number: int
    text: str

    @property
    def where(self) -> str:
        """File and line."""
        return f"{self.path}, line {self.number}"

    @property
    def words(self) -> list[str]:
        """The words as they stand."""
        return self.text.split()

    def refuse(self, why: str) -> NoReturn:
        """Raise the FFLUXError that names file and line."""
        raise FFLUXError(f"{self.where}: {why}")

    def real(self, word: int, what: str) -> float:
        """A word as a number, also in Fortran's spelling (1d-7)."""
        try:
            value = float(self.words[word].lower().replace("d", "e"))
        except (IndexError, ValueError):
            self.refuse(f"{what} is missing or is no number: {self.text!r}")
        if not np.isfinite(value):
            self.refuse(f"{what} is not a finite number: {self.text!r}")
        return value

    def whole(self, word: int, what: str, least: int = 0) -> int:
        """A word as a whole number."""
        value = self.real(word, what)
        if value != int(value) or value < least:
            self.refuse(f"{what} is {self.words[word]}, not a whole number from {least} on")
        return int(value)


def read_lines(path: Path) -> list[str]:
    """All lines of a file; what is no text is kept as it is read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise FFLUXError(f"{path}: cannot be read: {reason(error)}") from None


def read_records(path: Path) -> tuple[str, list[Record]]:
    """Title and records of CONTROL or FIELD: lines that are not empty nor comments (# and &)."""
    lines = read_lines(path)
    records = [
        Record(path, number, line.strip()) for number, line in enumerate(lines[1:], start=2)
        if line.strip() and line.strip()[0] not in "#&"
    ]
    return (lines[0].strip() if lines else ""), records
