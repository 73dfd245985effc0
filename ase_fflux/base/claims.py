"""Who writes where: locks of processes on outputs, and what working folders belong to.

A lock is for as long as a command runs, a claim for as long as the folder is there.
"""

import errno
import glob
import itertools
import json
import os
import re
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ase_fflux.base.errors import FFLUXError, reason
from ase_fflux.base.store import DAMAGE, PART, DamagedError, parse_json, read_json, write_text

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

LOCK = ".lock"
"""End of the names of lock files."""

_SHOWN = 40
"""Characters of a setting in a message."""


@contextmanager
def held(prefix: str | Path, command: str) -> Iterator[None]:
    """Hold the lock ``PREFIX.lock`` while a command writes files whose names begin so.

    The file names process, host and command. The system ties the lock to the process, so that one
    of a process that was killed is taken over, and files that it left half-written are removed;
    where the file system has no locks, the process is looked up. A lock of another host is
    believed.

    Parameters
    ----------
    prefix : str or Path
        Beginning of the names of the output; its folder is made if it is not there.
    command : str
        As it was typed.

    Raises
    ------
    FFLUXError
        Another process holds it: which one, and what to do.
    """
    path = Path(f"{prefix}{LOCK}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        number = _locked(path)
    except OSError as error:
        raise FFLUXError(f"{path}: cannot be written: {reason(error)}") from error
    try:
        try:
            os.ftruncate(number, 0)
            os.pwrite(number, json.dumps(_here() | {"command": command}).encode() + b"\n", 0)
        except OSError as error:
            raise FFLUXError(f"{path}: cannot be written: {reason(error)}") from error
        _remove_leftovers(path.parent, path.name.removesuffix(LOCK))
        yield
    finally:
        with suppress(OSError):
            path.unlink()  # while it is locked, so that no one else has it
        os.close(number)


def _here() -> dict:
    return {"process": os.getpid(), "host": socket.gethostname()}


def _locked(path: Path) -> int:
    """An open lock file that is ours."""
    while True:
        number = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            ours = _flock(number)
            owner = _owner(number)
            elsewhere = owner.get("host", _here()["host"]) != _here()["host"]
            if ours is None:
                ours = not (owner and _alive(owner.get("process")))
            if not ours or elsewhere:
                raise FFLUXError(_refusal(path, owner))
            # its last owner may have removed it after we opened it
            if os.path.exists(path) and os.path.samestat(os.fstat(number), os.stat(path)):
                return number
        except BaseException:
            os.close(number)
            raise
        os.close(number)


def _flock(number: int) -> bool | None:
    """Lock; False if another process has it, None where there are no locks."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return False if error.errno in (errno.EWOULDBLOCK, errno.EACCES) else None
    return True


def _owner(number: int) -> dict:
    try:
        owner = parse_json(os.read(number, 1 << 16))
    except DAMAGE:  # it was killed before it said so, or has not yet
        return {}
    return owner if isinstance(owner, dict) else {}


def _alive(process) -> bool:
    """Whether there is such a process here; believed where the system cannot tell."""
    if type(process) is not int or process < 1 or os.name != "posix":
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        pass
    return True


def _refusal(path: Path, owner: dict) -> str:
    who = "another process"
    if owner:
        who = f"process {owner.get('process')} on {owner.get('host')} ({owner.get('command')})"
    return (
        f"{path.with_suffix('')} is being written by {who}: wait until it is done or choose "
        f"another output; if it no longer runs, delete {path}"
    )


def _remove_leftovers(folder: Path, name: str) -> None:
    """Remove what processes of this output that were killed left half-written.

    Beside the output, and in its working folders ``NAME-*``.
    """
    beside = ((partial, name[:_SHOWN]) for partial in folder.glob(f".*{PART}"))
    inside = ((partial, "") for partial in folder.glob(f"{glob.escape(name)}-*/**/.*{PART}"))
    for partial, beginning in itertools.chain(beside, inside):
        found = re.fullmatch(rf"\.(.*)\.(\d+)-\d+{re.escape(PART)}", partial.name)
        if found and found[1].startswith(beginning) and not _alive(int(found[2])):
            with suppress(OSError):
                shutil.rmtree(partial) if partial.is_dir() else partial.unlink()


def claim(
    folder: Path, record: str, wanted: dict, kind: str, *, replace: bool = False
) -> list[str]:
    """Make a working folder, or find what it belongs to.

    The record is written when everything else has been checked: call this after all that could
    refuse the input, so that a refused command does not block the corrected one.

    Parameters
    ----------
    folder : Path
        Made if it is not there.
    record : str
        Name of the JSON file in it that says what the folder belongs to, such as ``build.json``.
    wanted : dict
        Settings and inputs, JSON-able; dictionaries in it are compared entry by entry.
    kind : str
        Of what, for messages: "a build".
    replace : bool
        Whether a folder of other settings is taken over, because what is in it has fingerprints of
        its own. Without it, it is refused.

    Returns
    -------
    list of str
        Settings that differ from those of the folder, as `differences` tells them.

    Raises
    ------
    FFLUXError
        A folder with other content, one of other settings (each setting is named with both values),
        a damaged record, or what cannot be written.
    """
    wanted = json.loads(json.dumps(wanted, allow_nan=False))
    path = folder / record
    differ = []
    if path.exists():
        try:
            there = read_json(path)
        except DamagedError as error:
            if not replace:
                raise FFLUXError(f"{error}: delete {folder}, or choose another output") from None
            there, differ = {}, ["the record was damaged"]
        differ = differ or differences(there, wanted)
        if differ and not replace:
            raise FFLUXError(
                f"{folder} belongs to {kind} with other settings ({'; '.join(differ)}): delete it, "
                "or choose another output"
            )
        if not differ:
            return []
    elif folder.exists() and (not folder.is_dir() or any(_content(folder))):
        raise FFLUXError(f"{folder} exists and is not of {kind}: choose another output")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FFLUXError(f"{folder}: cannot be made: {reason(error)}") from error
    write_text(path, json.dumps(wanted, indent=2) + "\n")
    return differ


def _content(folder: Path) -> Iterator[Path]:
    return (p for p in folder.iterdir() if not p.name.endswith((PART, LOCK)))


def differences(there: dict, wanted: dict) -> list[str]:
    """Entries in which two records differ: ``charge was 0, is 1``, in nested ones ``a.b was``."""
    before, now = dict(_flat(there)), dict(_flat(wanted))
    return [
        f"{name} was {_shown(before, name)}, is {_shown(now, name)}"
        for name in dict.fromkeys([*before, *now])
        if name not in before or name not in now or before[name] != now[name]
    ]


def _flat(record: dict, prefix: str = "") -> Iterator[tuple[str, object]]:
    for name, value in record.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _shown(record: dict, name: str) -> str:
    if name not in record:
        return "not there"
    text = json.dumps(record[name], ensure_ascii=False)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
