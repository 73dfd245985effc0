"""Files that are whole or not there, and what is found damaged.

==================  ==========================================================================
`replacing`         a file or folder is written beside its place, synchronised and renamed
`Appended`          a file that grows; an addition that fails is taken back
`kept_meanwhile`    long work is kept now and then, and when it ends
`write_arrays`      arrays in an archive of numpy's
`read_arrays`       arrays of an archive, never pickles, no larger than the file can hold
`DAMAGE`            what reading a damaged file raises
==================  ==========================================================================

What a calculation goes on from is in `ase_fflux.base.checkpoint`, who writes where in
`ase_fflux.base.claims`.
"""

import io
import itertools
import json
import os
import shutil
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from lzma import LZMAError
from pathlib import Path
from time import monotonic

import numpy as np

from ase_fflux.base.errors import FFLUXError, reason, words

DAMAGE = (
    zipfile.BadZipFile, zlib.error, LZMAError, struct.error, tokenize.TokenError, SyntaxError,
    EOFError, OSError, LookupError, ValueError, TypeError, AttributeError, AssertionError,
    ArithmeticError, MemoryError, RuntimeError,
)
"""What reading damaged files raises.

UnicodeDecodeError, JSONDecodeError and ase.io.ulm.InvalidULMFileError are ValueError or OSError,
KeyError and IndexError are LookupError, RecursionError and NotImplementedError are RuntimeError,
OverflowError is ArithmeticError.
"""

PART = ".part"
"""End of the names of files that are being written: ``.NAME.PROCESS-COUNT.part``."""

_RATIO, _FLOOR = 64, 1 << 24
"""What an archive may unpack to: so many times its length, and bytes beyond that. Arrays of numbers
are compressed to a half or so, a bomb to a thousandth."""

_FORMATS = {
    (1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0,
}
_count = itertools.count()


class DamagedError(FFLUXError):
    """A file that does not hold what was written."""


@contextmanager
def told(path: str | Path, what: str = "written") -> Iterator[None]:
    """Turn an OSError into an FFLUXError of one line with the file's name and the reason."""
    try:
        yield
    except OSError as error:
        raise FFLUXError(f"{path}: cannot be {what}: {reason(error)}") from error


@contextmanager
def replacing(path: str | Path, *, new: bool = False) -> Iterator[Path]:
    """Write a file or folder whole or not at all.

    Gives the path of a partial file beside the real one (hidden, with the number of the process in
    its name), to be made by whatever writes; a folder may be made there too. Afterwards it is
    synchronised to disk and takes the real name. If anything fails, or is interrupted, the partial
    is removed and what was there stays.

    Parameters
    ----------
    path : str or Path
        Where the file goes, its folder must be there. A link is followed.
    new : bool
        Whether nothing may be there but an empty folder.

    Raises
    ------
    FFLUXError
        The file cannot be written (disk full, permission, something is there): its name and why.
    """
    named, path = path, Path(os.path.realpath(path))
    partial = path.with_name(f".{path.name[:40]}.{os.getpid()}-{next(_count)}{PART}")
    try:
        with told(named):
            _require_free(named, path, new)
            yield partial
            _require_free(named, path, new)
            for written in [partial, *partial.rglob("*")]:
                sync(written)
            os.replace(partial, path)
            sync(path.parent)
    finally:
        with suppress(OSError):
            shutil.rmtree(partial) if partial.is_dir() else partial.unlink(missing_ok=True)


def _require_free(named, path: Path, new: bool) -> None:
    if not new or not path.exists():
        return
    if not path.is_dir():
        raise FFLUXError(f"{named} exists; remove it or choose another name")
    if any(path.iterdir()):
        raise FFLUXError(f"{named} is not empty; choose a new directory")


def write_bytes(path: str | Path, content: bytes, *, new: bool = False) -> None:
    """Write a file by `replacing`."""
    with replacing(path, new=new) as partial:
        partial.write_bytes(content)


def write_text(path: str | Path, text: str, *, new: bool = False) -> None:
    """Write a file in UTF-8 with ``\\n`` as it stands in the text, by `replacing`."""
    write_bytes(path, text.encode(), new=new)


def sync(path: Path) -> None:
    """Have a file's content on the disk, or a folder's names where the system does that."""
    folder = path.is_dir()
    try:
        number = os.open(path, os.O_RDONLY if folder or os.name == "posix" else os.O_RDWR)
        try:
            os.fsync(number)
        finally:
            os.close(number)
    except OSError:
        if not folder:
            raise


@contextmanager
def kept_meanwhile(keep: Callable[[], None], every: float) -> Iterator[Callable[[], None]]:
    """Keep long work now and then, and at the end, whatever ends it.

    Parameters
    ----------
    keep : callable
        Writes what there is so far.
    every : float
        Seconds after which it is called again at the earliest.

    Yields
    ------
    callable
        To be called whenever there is more.
    """
    last = monotonic()

    def more() -> None:
        nonlocal last
        if monotonic() - last > every:
            keep()
            last = monotonic()

    try:
        yield more
    finally:
        keep()


class Appended(io.FileIO):
    """A file that grows by whole additions; what fails half-way is taken back.

    Nothing is buffered, so that nothing is left to be written when it is closed. Numbers of files
    are hidden from numpy, whose `tofile` does not notice a full disk in time.

    Parameters
    ----------
    path : str or Path
        Made if it is not there.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        with told(path):
            super().__init__(path, "r+" if self.path.exists() else "x+")
        self.seek(0, os.SEEK_END)

    def fileno(self):
        raise io.UnsupportedOperation("fileno")

    def write(self, data) -> int:
        """Write all of it, as a file without buffer need not do at once."""
        view = memoryview(data).cast("B")
        done = 0
        while done < len(view):
            done += super().write(view[done:])
        return done

    @contextmanager
    def addition(self, head: int = 0) -> Iterator[None]:
        """Take back whatever is written inside if it fails.

        Parameters
        ----------
        head : int
            So many bytes at the beginning may be changed, and are restored too.
        """
        self.seek(0)
        kept = self.read(head)
        size = self.seek(0, os.SEEK_END)
        try:
            with told(self.path):
                yield
        except BaseException:
            self.truncate(size)
            self.seek(0)
            self.write(kept)
            if size == 0:
                self.path.unlink(missing_ok=True)
            raise

    def add(self, text: str) -> None:
        """Add a text, in UTF-8."""
        with self.addition():
            self.write(text.encode())


def write_arrays(path: str | Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write a compressed numpy archive by `replacing`."""
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)
    write_bytes(path, content.getvalue())


def archive(content: bytes) -> zipfile.ZipFile:
    """Open a zip archive whose members together cannot be much larger than it.

    Raises
    ------
    One of DAMAGE
        No archive, or one of unknown compression or excessive size.
    """
    opened = zipfile.ZipFile(io.BytesIO(content))
    entries = opened.infolist()
    if any(e.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for e in entries):
        raise ValueError("a compression that is not used here")
    if sum(e.file_size for e in entries) > _RATIO * len(content) + _FLOOR:
        raise ValueError("it would unpack to a multiple of what it can hold")
    return opened


def read_array(content: bytes) -> np.ndarray:
    """An array of an ``.npy`` file, of the size that its header says; never pickles.

    Raises
    ------
    One of DAMAGE
        What is damaged.
    """
    file = io.BytesIO(content)
    shape, fortran, dtype = _FORMATS[np.lib.format.read_magic(file)](file)
    if dtype.kind not in "biufUS":
        raise ValueError(f"an array of {dtype} has no place here")
    start = file.tell()
    size = dtype.itemsize
    for length in shape:  # python's whole numbers do not overflow
        size *= length
    if min(shape, default=0) < 0 or size != len(content) - start:
        raise ValueError("an array is not of the size that its header says")
    flat = np.frombuffer(content, dtype, offset=start) if size else np.empty(0, dtype)
    return flat.reshape(shape, order="F" if fortran else "C").copy()


def read_arrays(path: str | Path) -> dict[str, np.ndarray]:
    """All arrays of a numpy archive; never pickles.

    Raises
    ------
    FileNotFoundError
    DamagedError
        What is no archive of arrays; its name is in the message.
    """
    try:
        with archive(Path(path).read_bytes()) as opened:
            return {
                name.removesuffix(".npy"): read_array(opened.read(name))  # checks the CRC
                for name in opened.namelist()
            }
    except FileNotFoundError:
        raise
    except DAMAGE as error:
        raise DamagedError(f"{path} is damaged ({words(error)})") from error


def parse_json(text: str | bytes):
    """What a JSON text says; NaN and infinity, which JSON does not have, are damage.

    Raises
    ------
    One of DAMAGE
        RecursionError for one that is nested too deep.
    """
    return json.loads(text, parse_constant=_no_number)


def _no_number(name: str):
    raise ValueError(f"{name} is no number")


def read_json(path: str | Path) -> dict:
    """The record in a JSON file.

    Raises
    ------
    FileNotFoundError
    DamagedError
        What is no JSON object; its name is in the message.
    """
    try:
        content = parse_json(Path(path).read_bytes())
    except FileNotFoundError:
        raise
    except DAMAGE as error:
        raise DamagedError(f"{path} is damaged ({words(error)})") from error
    if not isinstance(content, dict):
        raise DamagedError(f"{path} is damaged (it is not a record)")
    return content
