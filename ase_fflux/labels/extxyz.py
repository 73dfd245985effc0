"""One frame of a label file (`dataset`): from a label to text and back."""

import json
from dataclasses import dataclass

import numpy as np
from ase.data import atomic_numbers

from ase_fflux.base.errors import LabelError
from ase_fflux.base.units import BOHR, FORCE, HARTREE
from ase_fflux.labels.label import TOLERANCE, UNKNOWN, Label
from ase_fflux.model.multipoles import (
    MAX_RANK,
    cartesian_from_spherical,
    n_moments,
    spherical_from_cartesian,
)

_COLUMNS = {
    "species": (1,), "pos": (3,), "forces": (3,), "atomic_energies": (1,), "charges": (1,),
    "dipoles": (3,), "quadrupoles": (9,), "moments": (7, 16), "integration_errors": (1,),
}
"""Columns of a label file and how many numbers each has."""
_MOST_COLUMNS = 1000
_NOT_TRACELESS = 1e-6
"""e Angstrom^2; trace or antisymmetric part of a quadrupole that is more than rounding."""


@dataclass(frozen=True)
class FrameText:
    """One frame as text: where it stands (file, frame), its header, and its rows with lines."""

    where: str
    line: int
    header: str
    rows: list[str]


def frame_of(label: Label, origin: str) -> str:
    """Text of one label.

    Raises
    ------
    LabelError
        Words with spaces or quotes, values that are not finite.
    """
    words = (origin, label.method, *((label.partition,) if label.partition else ()))
    for word in words:
        if not word or any(c.isspace() or c in "\"'={}[]" for c in word):
            raise LabelError(f"origin, method or partition {word!r} is not one plain word")
    columns = {"pos": label.geometry * BOHR}
    if label.gradient is not None:
        columns["forces"] = -label.gradient * FORCE
    if label.atomic_energies is not None:
        columns["atomic_energies"] = label.atomic_energies * HARTREE
    if label.rank >= 0:
        columns["charges"] = label.charges
    if label.rank >= 1:
        columns["dipoles"] = label.atomic_dipoles * BOHR
    if label.rank >= 2:
        _, quadrupoles = cartesian_from_spherical(label.moments)
        columns["quadrupoles"] = quadrupoles.reshape(-1, 9) * BOHR**2
    if label.rank >= 3:
        columns["moments"] = (label.moments * _powers(label.rank))[:, 9:]
    if label.errors is not None:
        columns["integration_errors"] = label.errors * HARTREE
    columns = {
        name: np.reshape(values, (len(label.symbols), -1)) for name, values in columns.items()
    }
    table = np.hstack(list(columns.values()))
    numbers = [label.energy, label.dipole]
    if not all(np.isfinite(x).all() for x in (table, *numbers) if x is not None):
        raise LabelError(
            f"label of {''.join(label.symbols)} ({origin}) has values that are not finite"
        )
    properties = ":".join(f"{name}:R:{values.shape[1]}" for name, values in columns.items())
    header = [f"Properties=species:S:1:{properties}"]
    if label.energy is not None:
        header.append(f"energy={label.energy * HARTREE:.12f}")
    if label.dipole is not None:
        header.append('dipole="{}"'.format(" ".join(f"{x:.12f}" for x in label.dipole * BOHR)))
    header.append(f"method={label.method}")
    if label.partition:
        header.append(f"partition={label.partition}")
    if label.tolerance != TOLERANCE:
        header.append(f"tolerance={label.tolerance * HARTREE:.6e}")
    for name in ("settings", "versions"):
        if given := getattr(label, name):
            header.append(f"{name}='{_json(given)}'")
    lines = [str(len(label.symbols)), " ".join([*header, f"origin={origin}", 'pbc="F F F"'])]
    for symbol, row in zip(label.symbols, table, strict=True):
        lines.append(f"{symbol:2s} " + " ".join(f"{x:.12f}" for x in row))
    return "\n".join(lines) + "\n"


def _json(given) -> str:
    """JSON that may stand between apostrophes in a header."""
    text = json.dumps(dict(given), sort_keys=True)
    if "'" in text or "\\" in text:
        raise LabelError(f"settings or versions {text} hold an apostrophe or a backslash")
    return text


def _powers(rank: int) -> np.ndarray:
    """Angstrom^l per bohr^l for the moments of ranks 0 to rank."""
    return np.concatenate([np.full(2 * l + 1, BOHR**l) for l in range(rank + 1)])  # noqa: E741


def label_of(text: FrameText) -> tuple[Label, str]:
    """Label and origin of one frame.

    Raises
    ------
    LabelError
        What cannot be read or is not finite; names line and atom.
    """
    # here, not at the top: ase.io loads every registered format, this package's among them
    from ase.io.extxyz import key_val_str_to_dict

    at = f"line {text.line}: "
    try:
        header = key_val_str_to_dict(text.header)
    except Exception as error:  # the parser has no error class of its own
        raise LabelError(f"{at}not the header of an extended XYZ frame ({error})") from None
    if np.any(header.get("pbc", "Lattice" in header)):
        raise LabelError(
            f'{at}the frame is periodic; labels are of molecules: take its Lattice out or set '
            'pbc="F F F" if the cell is only a box'
        )
    columns = _table(text, str(header.get("Properties", "species:S:1:pos:R:3")), at)
    symbols = tuple(columns.pop("species"))

    def column(name, unit):
        return columns[name] / unit if name in columns else None

    def numbers(name, count, unit):
        try:
            values = np.array(header[name], dtype=float).ravel()
        except (ValueError, TypeError):
            values = np.empty(0)
        if len(values) != count:
            raise LabelError(
                f"{at}{name} is {str(header[name])[:40]!r}, not {count} number{'s'[:count - 1]}"
            )
        if not np.isfinite(values).all():
            raise LabelError(f"{at}{name} holds values that are not finite")
        return values / unit

    energies, errors = column("atomic_energies", HARTREE), column("integration_errors", HARTREE)
    tolerance = TOLERANCE
    if "tolerance" in header:
        tolerance = float(numbers("tolerance", 1, HARTREE)[0])
    label = Label(
        symbols, columns["pos"] / BOHR,
        energy=float(numbers("energy", 1, HARTREE)[0]) if "energy" in header else None,
        gradient=column("forces", -FORCE),
        atomic_energies=None if energies is None else energies[:, 0],
        moments=_moments(columns, at),
        dipole=numbers("dipole", 3, BOHR) if "dipole" in header else None,
        method=str(header.get("method", UNKNOWN)), partition=str(header.get("partition", "")),
        tolerance=tolerance, settings=_object(header, "settings", at),
        versions=_object(header, "versions", at),
        errors=None if errors is None else errors[:, 0],
    )
    return label, str(header.get("origin", UNKNOWN))


def _table(text: FrameText, properties: str, at: str) -> dict:
    """Known columns of a frame by name: species a list of str, the others (N, k) arrays."""
    fields = properties.split(":")
    places, width = {}, 0
    for name, count in zip(fields[::3], fields[2::3], strict=False):
        if len(fields) % 3 or not count.isdecimal() or len(count) > 9:
            raise LabelError(f"{at}Properties={properties[:80]} cannot be read")
        if not 0 < int(count) <= _MOST_COLUMNS:
            raise LabelError(f"{at}Properties={properties[:80]} cannot be read")
        if name in _COLUMNS and int(count) not in _COLUMNS[name]:
            counts = " or ".join(map(str, _COLUMNS[name]))
            raise LabelError(f"{at}column {name} has {count} numbers instead of {counts}")
        if name in places:
            raise LabelError(f"{at}column {name} stands twice")
        places[name] = slice(width, width + int(count))
        width += int(count)
    if missing := [name for name in ("species", "pos") if name not in places]:
        raise LabelError(f"{at}no column {missing[0]}; not a label file")
    columns = {name: [] for name in places if name in _COLUMNS}
    for atom, row in enumerate(text.rows, 1):
        words = row.split()
        symbol = words[places["species"].start] if places["species"].start < len(words) else "?"
        here = f"line {text.line + atom}, atom {atom} ({symbol[:10]}): "
        if len(words) != width:
            raise LabelError(f"{here}{len(words)} columns instead of {width}")
        if atomic_numbers.get(symbol, 0) == 0:
            raise LabelError(f"{here}no such element")
        for name, values in columns.items():
            part = words[places[name]]
            if name == "species":
                values.append(symbol)
                continue
            try:
                values.append([float(word) for word in part])
            except ValueError:
                raise LabelError(f"{here}{name} {' '.join(part)[:40]} is not a number") from None
            if not np.isfinite(values[-1]).all():
                raise LabelError(f"{here}{name} holds values that are not finite")
    if not text.rows:
        raise LabelError(f"{at}no atoms")
    return {
        name: values if name == "species" else np.array(values) for name, values in columns.items()
    }


def _moments(columns: dict, at: str) -> np.ndarray | None:
    """Spherical moments (N, K) in atomic units, None where there are none."""
    names = ("charges", "dipoles", "quadrupoles", "moments")
    there = [name for name in names if name in columns]
    if not there:
        return None
    if there != list(names[: len(there)]):
        missing = next(name for name in names if name not in there)
        raise LabelError(f"{at}{there[-1]} without {missing}: moments must be complete")
    n = len(columns["charges"])
    quadrupoles = columns.get("quadrupoles", np.zeros((n, 9))).reshape(n, 3, 3)
    for atom, q in enumerate(quadrupoles, 1):
        if max(abs(np.trace(q)), np.abs(q - q.T).max()) > _NOT_TRACELESS * max(1, np.abs(q).max()):
            raise LabelError(f"the quadrupole of atom {atom} is not symmetric and traceless")
    higher = spherical_from_cartesian(
        columns.get("dipoles", np.zeros((n, 3))) / BOHR, quadrupoles / BOHR**2
    )
    moments = np.concatenate([columns["charges"], higher], axis=1)
    if "moments" not in columns:
        return moments[:, : n_moments(len(there) - 1)]
    beyond = columns["moments"]
    return np.hstack([moments, beyond / _powers(MAX_RANK)[9 : 9 + beyond.shape[1]]])


def _object(header: dict, name: str, at: str) -> dict:
    """A JSON object in a header."""
    if name not in header:
        return {}
    try:
        found = json.loads(header[name])
    except (TypeError, ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or not all(
        isinstance(value, str | int | float | bool) for value in found.values()
    ):
        raise LabelError(
            f"{at}{name} {str(header[name])[:60]!r} is not a JSON object of plain values"
        )
    return found
