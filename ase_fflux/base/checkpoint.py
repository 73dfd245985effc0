"""What a calculation can go on from: arrays, a record, and a fingerprint of what both are of."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ase_fflux.base.errors import words
from ase_fflux.base.store import DAMAGE, DamagedError, parse_json, read_arrays, write_arrays

_HEADER, _DIGEST = "header", "sha256"


def write_checkpoint(
    path: str | Path, fingerprint: str, arrays: Mapping[str, np.ndarray], record: dict
) -> None:
    """Write what a calculation can go on from, whole or not at all.

    Parameters
    ----------
    path : str or Path
        A numpy archive of the arrays, of the record as a JSON string and of a SHA-256 of both.
    fingerprint : str
        Of everything that the calculation depends on.
    arrays : mapping of str to array
        Of numbers.
    record : dict
        JSON-able.

    Raises
    ------
    FFLUXError
        A file that cannot be written.
    """
    header = np.array(json.dumps({"fingerprint": fingerprint, **record}, default=_plain))
    stored = {name: np.asarray(array) for name, array in arrays.items()} | {_HEADER: header}
    write_arrays(path, stored | {_DIGEST: np.array(_digest(stored))})


def _plain(number):
    return number.item()


def read_checkpoint(path: str | Path) -> tuple[str, dict[str, np.ndarray], dict]:
    """Fingerprint, arrays and record of a checkpoint, bitwise as they were written.

    Raises
    ------
    FileNotFoundError
    DamagedError
        Also where an older version wrote it, without a digest.
    """
    stored = read_arrays(path)
    try:
        digest = stored.pop(_DIGEST).item()
        if digest != _digest(stored):
            raise ValueError("its content is not what was written")
        record = parse_json(stored.pop(_HEADER).item())
        return record.pop("fingerprint"), stored, record
    except KeyError as error:
        fault = f"it has no {error}"
        raise DamagedError(f"{path} is damaged or of another version ({fault})") from None
    except DAMAGE as error:
        raise DamagedError(f"{path} is damaged ({words(error)})") from error


def known_checkpoint(path: str | Path, fingerprint: str) -> tuple[dict, dict] | None:
    """Arrays and record of a checkpoint; None where it is missing, damaged or of something else."""
    try:
        written_for, arrays, record = read_checkpoint(path)
    except (FileNotFoundError, DamagedError):
        return None
    return (arrays, record) if written_for == fingerprint else None


def _digest(arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 of arrays, their names, shapes and types."""
    total = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        total.update(f"{name} {arrays[name].shape} {array.dtype.str} ".encode())
        total.update(array.tobytes())
    return total.hexdigest()
