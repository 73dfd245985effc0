"""The text layout of ``.model`` files: sections of keywords or of rows of numbers.

Nothing here knows what the keywords mean. Every complaint names the file and the line.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ase_fflux.base.errors import ModelError

_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_NOT_NUMERIC = re.compile(r"[^0-9eE+\-.\s]")
_MAX_DIGITS = 9


@dataclass
class Section:
    """One section: its name, the line of its heading and its lines with their numbers."""

    source: "SectionedFile"
    name: str
    line: int
    rows: list[tuple[int, str]] = field(default_factory=list)

    def keywords(self, known: tuple[str, ...]) -> dict[str, "Value"]:
        """Values by keyword; a keyword that is unknown or stands twice is an error."""
        values = {}
        for line, text in self.rows:
            key, *words = text.split()
            if key not in known:
                self.source.fail(
                    line, f"keyword '{key}' in section [{self.name}] is not supported; "
                    f"known are {', '.join(known)}"
                )
            if key in values:
                self.source.fail(line, f"'{key}' stands twice in section [{self.name}]")
            values[key] = Value(self.source, line, key, words)
        return values

    def table(self, n_rows: int, n_columns: int) -> np.ndarray:
        """Rows of finite numbers, shape (n_rows, n_columns)."""
        rows = [text.split() for _, text in self.rows]
        for (line, _), row in zip(self.rows, rows, strict=True):
            if len(row) != n_columns:
                self.source.fail(
                    line, f"{len(row)} numbers instead of {n_columns} in section [{self.name}]"
                )
        if len(rows) != n_rows:
            last = self.rows[-1][0] if self.rows else self.line
            self.source.fail(
                last, f"section [{self.name}] has {len(rows)} rows instead of {n_rows}: the file "
                "is truncated or number_of_training_points is wrong"
            )
        for line, text in self.rows:
            if _NOT_NUMERIC.search(text):
                self._fail_at_word(line, text)
        try:
            values = np.array(rows, dtype=float).reshape(n_rows, n_columns)
        except ValueError:
            for line, text in self.rows:
                self._fail_at_word(line, text)
            raise
        if not np.isfinite(values).all():
            self._fail_at_word(*self.rows[int(np.argwhere(~np.isfinite(values))[0, 0])])
        return values

    def _fail_at_word(self, line: int, text: str) -> None:
        for word in text.split():
            Value(self.source, line, self.name, [word]).numbers()


@dataclass(frozen=True)
class Value:
    """The words after a keyword, with the checks that turn them into what is expected."""

    source: "SectionedFile"
    line: int
    key: str
    words: list[str]

    def fail(self, message: str):
        """Raise the ModelError for this line."""
        self.source.fail(self.line, message)

    def word(self) -> str:
        """The only word."""
        if len(self.words) != 1:
            self.fail(f"'{self.key}' needs one value, it has {len(self.words)}")
        return self.words[0]

    def integers(self) -> list[int]:
        """All words as integers that are not negative."""
        for word in self.words:
            if not (word.isascii() and word.isdigit() and len(word) <= _MAX_DIGITS):
                self.fail(f"'{word}' of '{self.key}' is not a whole number")
        return [int(word) for word in self.words]

    def integer(self) -> int:
        """The only word as an integer."""
        self.word()
        return self.integers()[0]

    def numbers(self) -> np.ndarray:
        """All words as finite numbers."""
        for word in self.words:
            if not _NUMBER.fullmatch(word) or not np.isfinite(float(word)):
                self.fail(f"'{word}' of '{self.key}' is not a finite number")
        return np.array(self.words, dtype=float)

    def number(self) -> float:
        """The only word as a finite number."""
        self.word()
        return float(self.numbers()[0])


class SectionedFile:
    """A file of ``[sections]`` after ``# metadata`` comments.

    Parameters
    ----------
    path : Path
        File to read.

    Raises
    ------
    ModelError
        A file that cannot be read or is not text, text before the first section, a heading that is
        not closed, a section that stands twice.
    """

    def __init__(self, path: Path):
        self.path = path
        self.metadata: dict[str, Value] = {}
        self.sections: dict[str, Section] = {}
        try:
            content = path.read_bytes()
        except OSError as error:
            raise ModelError(f"{path}: cannot be read: {error.strerror or error}") from None
        try:
            text = content.decode("ascii")
        except UnicodeDecodeError as error:
            line = content.count(b"\n", 0, error.start) + 1
            self.fail(line, "not plain text; is this a .model file?")
        current = None
        for line, raw in enumerate(text.split("\n"), start=1):
            stripped = raw.strip()
            if not stripped:
                continue
            if stripped[0] == "#":
                if current is None:
                    self._comment(line, stripped.lstrip("#").strip())
            elif stripped[0] == "[":
                name = stripped[1:-1].strip()
                if stripped[-1] != "]" or not name:
                    self.fail(line, f"heading '{stripped[:40]}' is not closed by ]")
                if name in self.sections:
                    first = self.sections[name].line
                    self.fail(line, f"section [{name}] stands twice, first in line {first}")
                current = self.sections[name] = Section(self, name, line)
            elif current is None:
                self.fail(line, "text before the first section; is this a .model file?")
            else:
                current.rows.append((line, stripped))
        self.n_lines = text.count("\n") + 1

    def _comment(self, line: int, text: str) -> None:
        key, separator, value = text.partition("=")
        if not separator:
            key, _, value = text.partition(" ")
        key = key.strip()
        if key not in ("", "metadata", "[metadata]"):
            self.metadata.setdefault(key, Value(self, line, key, value.split()))

    def fail(self, line: int, message: str):
        """Raise the ModelError for a line."""
        raise ModelError(f"{self.path}, line {line}: {message}")

    def section(self, name: str) -> Section:
        """A section that must be there."""
        if name not in self.sections:
            self.fail(self.n_lines, f"the file ends without a section [{name}]: it is truncated")
        return self.sections[name]

    def keywords(self, name: str, required: tuple[str, ...], optional: tuple[str, ...] = ()):
        """Values by keyword of a section in which the required ones must be present."""
        section = self.section(name)
        values = section.keywords(required + optional)
        for key in required:
            if key not in values:
                self.fail(section.line, f"section [{name}] has no '{key}'")
        return values
