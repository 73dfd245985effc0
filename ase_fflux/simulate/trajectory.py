"""ASE trajectories that grow by whole additions and can be checked and cut byte by byte.

A ``.traj`` file (`ase.io.ulm`) only grows but for two places: its first 56 bytes, with the number
of frames and the place of the list of where they begin, and that list itself, of 1, 42, 42^2, ...
places, which moves to the end when it is full. Everything else is hashed as it is written.
"""

import hashlib
import os
import struct
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ase import Atoms
from ase.constraints import FixAtoms, FixCartesian
from ase.io import Trajectory, write
from ase.io.trajectory import TrajectoryWriter, get_header_data
from ase.io.ulm import N1, Writer

from ase_fflux.base.errors import FFLUXWarning
from ase_fflux.base.store import Appended, DamagedError, replacing, sync

_HEAD = 56
_NUMBERS = 24
"""Where format version, number of frames and place of the list stand in the head."""
_PIECE = 1 << 24


@dataclass
class Extent:
    """What belongs to a trajectory.

    Attributes
    ----------
    bytes, frames : int
        Its size.
    head : str
        Its first bytes, hexadecimal.
    lists : list of [start, end]
        Where lists of places stand or stood, which change after they are written.
    sha256 : str
        Of everything else.
    places_sha256 : str
        Of the places of the frames.
    """

    bytes: int = 0
    frames: int = 0
    head: str = ""
    lists: list[list[int]] = field(default_factory=list)
    sha256: str = ""
    places_sha256: str = ""


class _OpenWriter(TrajectoryWriter):
    """ASE's writer of a file that is open already, and stays open."""

    def _open(self, file, mode):
        self.backend = Writer(file, "a" if file.tell() else "w", "ASE-Trajectory")
        if len(self.backend):
            with Trajectory(file.path) as trajectory:
                self.header_data = get_header_data(trajectory[0])


class FrameFile:
    """A trajectory to which frames are added; frames that could not be written leave no trace.

    Parameters
    ----------
    path : Path
        Not there, or what `extent` belongs to.
    extent : Extent, optional
        Where to go on: checked by `check_frames` before; what was added since is cut off.
    """

    def __init__(self, path: Path, extent: Extent | None = None):
        self.path, self._extent = path, Extent()
        self._hash = hashlib.sha256()
        if extent is not None:
            with Appended(path) as file:
                file.truncate(extent.bytes)
                file.seek(0)
                file.write(bytes.fromhex(extent.head))
            self._extent = Extent(**asdict(extent))
            self._update()

    def add(self, frames: Sequence[Atoms]) -> None:
        """Add frames (at least one) with the energies and forces that they have."""
        with Appended(self.path) as file, file.addition(head=_HEAD):
            writer = _OpenWriter(file, "a")
            for atoms in frames:
                # handed over, energy and forces spare the comparison of all atoms with themselves
                writer.write(atoms, **({} if atoms.calc is None else atoms.calc.results))
        self._grown()

    def sync(self) -> None:
        """Have all frames on the disk."""
        sync(self.path)

    def _grown(self) -> None:
        """Take note of what was added."""
        extent = self._extent
        before = extent.bytes
        with open(self.path, "rb") as file:
            head = file.read(_HEAD)
        _, extent.frames, start = struct.unpack_from("<3q", head, _NUMBERS)
        capacity = 1
        while extent.frames > capacity:
            capacity *= N1
        block = [start, start + 8 * capacity]
        if start >= _HEAD and block not in extent.lists:
            extent.lists.append(block)
        extent.head, extent.bytes = head.hex(), os.path.getsize(self.path)
        self._update(before)

    def _update(self, before: int = 0) -> None:
        _update(self._hash, self.path, max(before, _HEAD), self._extent)

    def extent(self) -> Extent:
        """What belongs to the trajectory now."""
        extent = Extent(**asdict(self._extent))
        extent.sha256 = self._hash.hexdigest()
        extent.places_sha256 = _places(self.path, extent)
        return extent


def _update(total, path: Path, start: int, extent: Extent) -> None:
    """Hash what stands from ``start`` on, without lists of places."""
    with open(path, "rb") as file:
        for first, last in _between(start, extent.bytes, extent.lists):
            file.seek(first)
            while first < last:
                piece = file.read(min(_PIECE, last - first))
                if not piece:
                    raise DamagedError(f"{path} ends too early")
                total.update(piece)
                first += len(piece)


def _between(start: int, end: int, lists: list[list[int]]) -> Iterator[tuple[int, int]]:
    for first, last in sorted(lists):
        if last > start:
            yield start, first
            start = last
    yield start, end


def _places(path: Path, extent: Extent) -> str:
    _, frames, start = struct.unpack_from("<3q", bytes.fromhex(extent.head), _NUMBERS)
    with open(path, "rb") as file:
        file.seek(start)
        return hashlib.sha256(file.read(8 * frames) if frames > 1 else b"").hexdigest()


def write_last(path: Path, atoms: Atoms) -> None:
    """Write a geometry in extended xyz, with energy and forces, and warn of what it cannot hold.

    Atoms that are fixed, wholly or along x, y or z, stay so; other constraints are in the
    trajectory alone.
    """
    with replacing(path) as partial:
        write(partial, atoms, format="extxyz")
    kinds = (type(c) for c in atoms.constraints if not isinstance(c, FixAtoms | FixCartesian))
    if names := sorted({kind.__name__ for kind in kinds}):
        warnings.warn(
            f"{path} cannot hold constraints of the kind {', '.join(names)}, the trajectory does",
            FFLUXWarning, stacklevel=2,
        )


def check_frames(path: Path, extent: Extent) -> None:
    """Check that a trajectory holds what it did; it may have grown since.

    Raises
    ------
    DamagedError
        A trajectory that is gone, shorter, or other in any byte that matters.
    """
    if not path.is_file():
        raise DamagedError(f"{path} is not there")
    size = path.stat().st_size
    if size < extent.bytes:
        raise DamagedError(f"{path} is damaged (it has {size} bytes, and had {extent.bytes})")
    found = hashlib.sha256()
    _update(found, path, _HEAD, extent)
    if found.hexdigest() != extent.sha256 or _places(path, extent) != extent.places_sha256:
        raise DamagedError(f"{path} is damaged (it is not what was written)")
