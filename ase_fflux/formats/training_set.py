"""Training sets of one atom as CSV files: features and properties of its points.

Read are the files of FEREBUS and pyFEREBUS (``GLYCINE_C1_TRAINING_SET.csv``: an index column or
none, f1 to fF, then properties) and those of ichor (``O1_features_with_properties.csv``, and
``O1_processed_data_alf_1_2_3.csv`` with features named f1_H2, point names, the energy of the wave
function, integration errors and forces along the features). Units: bohr, radian, hartree, atomic
units of moments in the local frame.

A file says nothing about its units and carries no check, so whatever cannot be right is refused.
ichor leaves the properties empty where AIMAll gave none: such points have to be removed.
"""

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path

import numpy as np
from ase.data import atomic_numbers

from ase_fflux.base.errors import FFLUXError, TrainingError
from ase_fflux.base.store import write_text
from ase_fflux.model.frames import n_features
from ase_fflux.model.molecule import PROPERTIES

_FEATURE = re.compile(r"f([0-9]{1,6})(?:_[a-z]+[0-9]+)?")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[+-]?[0-9]+)?", re.IGNORECASE)
_NOT_NUMERIC = re.compile(r"[^0-9eE+\-.\s,]")
_FILE_NAME = re.compile(
    r"(?:(?P<system>.+)_)?(?P<element>[a-z]{1,2})(?P<number>[1-9][0-9]{0,3})"
    r"(?:_\w*set|_features_with_\w+|_processed_data(?:_alf(?P<alf>(?:_[0-9]{1,4}){2,3}))?)?",
    re.IGNORECASE,
)
# angles that were rounded when they were written may exceed pi
_ROUNDING = 1e-6


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """Points of one atom.

    Parameters
    ----------
    features : (n, F) array
        Features in the atom's local frame (bohr, radian).
    targets : dict of str to (n,) array
        Properties by name: ``iqa`` (hartree) and moments of `MOMENT_NAMES` (atomic units).
    path : Path or None
        File it was read from.
    system : str or None
        Name of the molecule, if the name of the file has it.
    atom : str or None
        Element and 1-based index of the atom, ``O1``, if the name of the file has it.
    alf : tuple of int or None
        Local frame (0-based; -1 for the missing third atom of a diatomic molecule), if the name of
        the file has it.
    ignored : tuple of str
        Names of columns that are neither features nor known properties.
    """

    features: np.ndarray
    targets: dict[str, np.ndarray]
    path: Path | None = None
    system: str | None = None
    atom: str | None = None
    alf: tuple[int, int, int] | None = None
    ignored: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Number of points n."""
        return len(self.features)

    @property
    def n_atoms(self) -> int:
        """Number of atoms N of the molecule."""
        return _n_atoms(self.features.shape[1])

    @property
    def constant(self) -> tuple[str, ...]:
        """Features that have the same value at all points, ``f3``; no model can depend on them."""
        same = (self.features == self.features[0]).all(axis=0)
        return tuple(f"f{h + 1}" for h in np.flatnonzero(same))


def read_training_set(path: str | Path) -> TrainingSet:
    """Read a training or validation set.

    Parameters
    ----------
    path : str or Path
        CSV file of FEREBUS, pyFEREBUS or ichor.

    Returns
    -------
    TrainingSet
        Features in the order of their numbers, properties in the order of the file.

    Raises
    ------
    TrainingError
        A file that cannot be read; a header without features or properties, with gaps or
        duplicates; cells that are missing, not finite numbers or out of range; lines of different
        lengths; a last line that is cut off; points that stand twice. The message names the file,
        the line and the column.
    """
    path = Path(path)
    table = _Table(path)
    columns, ignored = _columns(table)
    values = table.numbers(list(columns.values()))
    count = sum(name not in PROPERTIES for name in columns)
    features = np.ascontiguousarray(values[:, :count])
    targets = {
        name: np.ascontiguousarray(column)
        for name, column in zip(list(columns)[count:], values[:, count:].T, strict=True)
    }
    headings = [table.heading(column) for column in columns.values()]
    _check_points(path, table.lines, headings, features, targets)
    return TrainingSet(features, targets, path, *_identity(path, _n_atoms(count)), ignored)


def write_training_set(path: str | Path, training_set: TrainingSet) -> None:
    """Write a training set in the layout of FEREBUS, with an index column.

    Reading it gives bitwise the same features and targets.

    Parameters
    ----------
    path : str or Path
        File to write, usually ``{system}_{atom}_TRAINING_SET.csv``.
    training_set : TrainingSet
        What to write.

    Raises
    ------
    TrainingError
        If the file exists or cannot be written, or for a set that `read_training_set` would refuse.
    """
    features, targets = np.asarray(training_set.features, dtype=float), training_set.targets
    if features.ndim != 2 or not len(features) or _n_atoms(features.shape[1]) is None:
        raise TrainingError(
            f"{path}: features must be an array (n, F) of at least one point, where F is 1 or "
            f"3N - 6, not of shape {features.shape}"
        )
    if not targets or not set(targets) <= set(PROPERTIES):
        raise TrainingError(
            f"{path}: targets must be iqa or moments q00 to q44s, not: "
            f"{', '.join(targets) or 'none'}"
        )
    for name, column in targets.items():
        if np.shape(column) != (len(features),):
            raise TrainingError(
                f"{path}: {name} has the shape {np.shape(column)} instead of ({len(features)},)"
            )
    values = np.column_stack([features, *targets.values()]).astype(float)
    names = [*(f"f{h + 1}" for h in range(features.shape[1])), *targets]
    headings = [f"column {column + 2} ({name})" for column, name in enumerate(names)]
    lines = range(2, len(values) + 2)
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        row, column = bad[0]
        raise TrainingError(
            f"{path}, line {lines[row]}, {headings[column]}: {values[row, column]} is not a finite "
            "number"
        )
    _check_points(path, lines, headings, features, targets)
    rows = [",".join(["", *names])]
    rows += [f"{i},{','.join(map(repr, row))}" for i, row in enumerate(values.tolist())]
    try:
        write_text(path, "\n".join(rows) + "\n", new=True)
    except FFLUXError as error:
        raise TrainingError(str(error)) from None


class _Table:
    """Header, rows of cells and their line numbers of a CSV file."""

    def __init__(self, path: Path):
        self.path = path
        text = self._text()
        self.rows: list[list[str]] = []
        self.lines: list[int] = []
        reader = csv.reader(text.split("\n"), strict=True)
        line = 1
        try:
            for row in reader:
                if len(row) > 1 or row and row[0].strip():
                    self.rows.append(row)
                    self.lines.append(line)
                line = reader.line_num + 1
        except csv.Error as error:
            self.fail(line, f"not a line of a CSV file: {error}")
        if not self.rows:
            raise TrainingError(f"{path}: the file is empty")
        self.header = [name.strip() for name in self.rows.pop(0)]
        self.header_line = self.lines.pop(0)
        for line, row in zip(self.lines, self.rows, strict=True):
            if len(row) != len(self.header):
                self.fail(
                    line, f"{len(row)} cells, but the header in line {self.header_line} has "
                    f"{len(self.header)} columns"
                )
        if not self.rows:
            raise TrainingError(f"{path}: there are no points after the header")
        if text.rpartition("\n")[2].strip():
            self.fail(
                self.lines[-1], "the last line does not end with a newline, its last number may be "
                "cut off; add the newline if the file is complete"
            )

    def _text(self) -> str:
        try:
            content = self.path.read_bytes()
        except OSError as error:
            raise TrainingError(f"{self.path}: cannot be read: {error.strerror or error}") from None
        try:
            return content.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
        except UnicodeDecodeError as error:
            line = content.count(b"\n", 0, error.start) + 1
            self.fail(line, "not plain text; is this a CSV file?")

    def fail(self, line: int, message: str, column: int | None = None):
        """Raise the TrainingError for a line, or for a cell of it."""
        where = "" if column is None else f", {self.heading(column)}"
        raise TrainingError(f"{self.path}, line {line}{where}: {message}")

    def heading(self, column: int) -> str:
        """What to call a column in messages."""
        return f"column {column + 1} ({self.header[column][:40]})"

    def numbers(self, columns: list[int]) -> np.ndarray:
        """Finite numbers (n, len(columns)) of at least two columns."""
        pick = itemgetter(*columns)
        values = np.empty((len(self.rows), len(columns)))
        for i, row in enumerate(self.rows):
            cells = pick(row)
            if _NOT_NUMERIC.search(",".join(cells)):
                self._fail_in_row(i, columns)
            try:
                values[i] = [float(cell) for cell in cells]
            except ValueError:
                self._fail_in_row(i, columns)
        if not np.isfinite(values).all():
            self._fail_in_row(int(np.argwhere(~np.isfinite(values))[0, 0]), columns)
        return values

    def _fail_in_row(self, i: int, columns: list[int]):
        row = self.rows[i]
        column = next(column for column in columns if not _is_finite_number(row[column]))
        cell = row[column].strip()
        if cell:
            self.fail(self.lines[i], f"'{cell[:40]}' is not a finite number", column)
        pick = itemgetter(*columns)
        count = sum(any(not cell.strip() for cell in pick(row)) for row in self.rows)
        others = f" ({count} lines have empty cells)" if count > 1 else ""
        self.fail(
            self.lines[i], f"the cell is empty{others}; remove points without values, or the "
            "column if it is of no use", column
        )


def _is_finite_number(cell: str) -> bool:
    return bool(_NUMBER.fullmatch(cell.strip())) and np.isfinite(float(cell))


def _columns(table: _Table) -> tuple[dict[str, int], tuple[str, ...]]:
    """Columns by canonical name, features in order and then properties; names of the ignored."""
    numbers, properties, ignored, seen = {}, {}, [], {}
    line = table.header_line
    for column, heading in enumerate(table.header):
        name = heading.lower()
        if not name:
            if column == 0:  # the index that pandas writes
                continue
            table.fail(line, f"column {column + 1} has no name")
        match = _FEATURE.fullmatch(name)
        key = f"f{int(match[1])}" if match else name
        if key in seen:
            table.fail(line, f"'{heading}' stands twice, first in column {seen[key] + 1}", column)
        seen[key] = column
        if match:
            numbers[int(match[1])] = column
        elif re.match(r"f[0-9]", name):
            table.fail(
                line, "is this a feature? Features are named f1, f2, ... or f1_H2, ...", column
            )
        elif name in PROPERTIES:
            properties[name] = column
        else:
            ignored.append(heading)
    if not numbers:
        names = ", ".join(name for name in table.header if name)
        table.fail(
            line, "there are no columns of features f1, f2, ...; separated by commas there are: "
            f"{names[:80]}"
        )
    for h in range(1, max(numbers) + 1):
        if h not in numbers:
            table.fail(line, f"there is no column f{h}, but one f{max(numbers)}")
    if 0 in numbers:
        table.fail(line, "features are numbered from f1", numbers[0])
    if _n_atoms(len(numbers)) is None:
        table.fail(
            line, f"an atom of a molecule has 1 feature (two atoms) or 3N - 6 (N atoms), not "
            f"{len(numbers)}"
        )
    if not properties:
        table.fail(line, "there is no column of a property: iqa, or a moment q00 to q44s")
    features = {f"f{h}": numbers[h] for h in sorted(numbers)}
    return features | properties, tuple(ignored)


def _n_atoms(count: int) -> int | None:
    """Number of atoms of a molecule whose atoms have so many features; None if there is none."""
    n_atoms = 2 if count == 1 else (count + 6) // 3
    return n_atoms if count > 0 and n_features(n_atoms) == count else None


def _check_points(
    path: str | Path, lines: Sequence[int], headings: Sequence[str], features: np.ndarray,
    targets: dict[str, np.ndarray],
) -> None:
    """Refuse features out of range and points that stand twice."""
    index = np.arange(features.shape[1])
    distance = (index < 2) | (index > 2) & (index % 3 == 0)
    azimuth = (index > 2) & (index % 3 == 2)
    low = np.where(distance, 0.0, np.where(azimuth, -np.pi, 0.0) - _ROUNDING)
    high = np.where(distance, np.inf, np.pi + _ROUNDING)
    outside = (features < low) | (features > high) | distance & (features == 0.0)
    if outside.any():
        row, h = np.argwhere(outside)[0]
        allowed = (
            "a distance must be positive" if distance[h]
            else "an azimuth must be within (-pi, pi] radian" if azimuth[h]
            else "an angle must be within [0, pi] radian"
        )
        count = int(outside.sum())
        others = f" ({count} features are out of range)" if count > 1 else ""
        raise TrainingError(
            f"{path}, line {lines[row]}, {headings[h]}: {features[row, h]} is a feature out of "
            f"range{others}; {allowed}"
        )
    # -pi is what atan2 gives for y = -0.0; it is the same azimuth as pi
    key = np.where(azimuth & (features == -np.pi), np.pi, features) + 0.0
    first: dict[bytes, int] = {}
    pairs = [(i, j) for j, row in enumerate(key) if (i := first.setdefault(row.tobytes(), j)) != j]
    if not pairs:
        return
    i, j = pairs[0]
    others = f" ({len(pairs)} points are such repetitions)" if len(pairs) > 1 else ""
    different = next((name for name, column in targets.items() if column[i] != column[j]), None)
    if different is None:
        remedy = "they are the same point; remove one of the lines"
    else:
        remedy = (
            f"their features are equal, but {different} is {targets[different][i]} and "
            f"{targets[different][j]}; keep the line that is right"
        )
    raise TrainingError(f"{path}, lines {lines[i]} and {lines[j]}{others}: {remedy}")


def _identity(
    path: Path, n_atoms: int
) -> tuple[str | None, str | None, tuple[int, int, int] | None]:
    """System, atom and ALF that the name of the file gives."""
    match = _FILE_NAME.fullmatch(path.stem)
    if not match:
        return None, None, None
    element, number = match["element"].capitalize(), int(match["number"])
    if not atomic_numbers.get(element) or number > n_atoms:  # X is 0
        return None, None, None
    atom = f"{element}{number}"
    if not match["alf"]:
        return match["system"], atom, None
    alf = [int(word) for word in match["alf"][1:].split("_")]
    if (
        len(alf) != min(n_atoms, 3) or len(set(alf)) != len(alf) or alf[0] != number
        or not all(1 <= i <= n_atoms for i in alf)
    ):
        raise TrainingError(
            f"{path}: the ALF of {atom} in the name of the file, {match['alf'][1:]}, is not one of "
            f"{atom} in a molecule of {n_atoms} atoms; rename the file"
        )
    return match["system"], atom, tuple(i - 1 for i in alf) + (() if len(alf) == 3 else (-1,))
