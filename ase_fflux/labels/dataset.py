"""Label files: labelled geometries in extended XYZ, one frame of reference data each.

A label file is plain extended XYZ in ASE's units, one frame per label:

===================  =================================================================
column or key        meaning
===================  =================================================================
species, pos         element; position (Angstrom)
forces               minus the total gradient (eV/Angstrom)
atomic_energies      atom-resolved energy (eV)
charges              atomic charge (e)
dipoles              atomic dipole x y z (e Angstrom)
quadrupoles          atomic traceless quadrupole xx xy xz yx yy yz zx zy zz (e Angstrom^2)
moments              atomic moments of the ranks above 2: q30, q31c, q31s, ... q33s (7 columns)
                     and, with rank 4, q40 ... q44s (16 columns), real spherical moments in
                     the global frame (e Angstrom^l)
integration_errors   integration error of the atom (eV)
energy, dipole       total energy (eV); molecular dipole about the origin (e Angstrom)
method, origin       level of theory; where the geometry comes from, such as ``md500K``
partition            how the molecule is divided into atoms, where the method does not say it
tolerance            how well the atomic energies sum to the energy (eV), if not 1e-8 hartree
settings, versions   what else the numbers depend on, and versions of programs, as JSON
===================  =================================================================

Species and pos must be there; anything else may be absent, from all frames alike, and columns of
other names are passed over. Moments about the nuclei are complete from the charge to their rank.

It is written with 12 decimals (ASE's writer has 8, too few for labels learnt with a relative
noise of 1e-10), appended to in chunks that are synchronised to disk, and cut back to its last
complete frame when a killed run left an incomplete one. What is read is checked (`checks.believe`).
"""

import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from ase_fflux.base.errors import LabelError
from ase_fflux.base.store import Appended, sync
from ase_fflux.labels.checks import believe
from ase_fflux.labels.extxyz import FrameText, frame_of, label_of
from ase_fflux.labels.label import Dataset, Label, dataset_of, differs

__all__ = ["Dataset", "Label", "append_labels", "count_labels", "cut_back", "read_dataset"]

logger = logging.getLogger(__name__)

def append_labels(path: str | Path, labels: Sequence[Label], origins: Sequence[str]) -> None:
    """Append labels to a file (created if need be); on return they are on the disk.

    An incomplete frame at the end of the file, left by a killed run, is removed first (`cut_back`).

    Parameters
    ----------
    path : path
        Label file.
    labels : sequence of Label
        Labels of one and the same molecule as those in the file.
    origins : sequence of str
        Origin of each label, one word.

    Raises
    ------
    LabelError
        If a label has other atoms, quantities or another level than the file, or the file is
        malformed.
    """
    path = Path(path)
    text = []
    for label, origin in zip(labels, origins, strict=True):
        text.append(frame_of(label, origin))
    if not text:
        return
    if path.exists():
        cut_back(path)
    first = labels[0]
    if path.exists() and path.stat().st_size:
        first, _ = next(_labels(path))
    for label in labels:
        if difference := differs(label, first):
            raise LabelError(
                f"{path} holds {first.method} labels of {''.join(first.symbols)}; cannot append "
                f"{label.method} labels of {''.join(label.symbols)} with {difference}: use another "
                "file"
            )
    with Appended(path) as file:
        file.add("".join(text))
    sync(path)


def cut_back(path: str | Path) -> None:
    """Remove an incomplete frame, left by a killed run, from the end of a label file.

    Raises
    ------
    LabelError
        If the file ends in something else, which stays.
    """
    path = Path(path)
    _, end = _scan(path)
    if end == path.stat().st_size:
        return
    with open(path, "rb") as file:
        file.seek(end)
        header, comment = file.readline(), file.readline()
    ours = comment.startswith(_COMMENT) or _COMMENT.startswith(comment)
    if not header.strip().isdigit() or not ours:
        raise LabelError(f"{path} is no label file, or ends in what is no label: choose another "
                         "output")
    logger.warning("%s: incomplete last frame removed", path)
    os.truncate(path, end)


def count_labels(path: str | Path) -> int:
    """Number of complete frames in a label file; 0 if there is none. Changes nothing.

    Raises
    ------
    LabelError
        If the file is not XYZ; names file, frame and line.
    """
    return _scan(Path(path))[0] if Path(path).exists() else 0


def read_dataset(path: str | Path) -> Dataset:
    """Read a label file.

    Raises
    ------
    LabelError
        If the file is missing, empty, incomplete or malformed, holds values that are not finite,
        frames of different molecules, levels or quantities, or labels that cannot be true
        (`checks.believe`); names file and frame (counted from 1), and line and atom where there is
        one.
    """
    path = Path(path)
    if not path.is_file():
        raise LabelError(f"{path}: no such label file")
    count, end = _scan(path)
    if end < path.stat().st_size:
        raise LabelError(
            f"{path}: frame {count + 1} is incomplete, {count} complete ones before it; resume the "
            "run that writes the file, or delete its last frame"
        )
    if count == 0:
        raise LabelError(f"{path}: no labels")
    labels, origins = [], []
    for number, (label, origin) in enumerate(_labels(path), 1):
        if labels and (difference := differs(label, labels[0])):
            raise LabelError(
                f"{path}, frame {number}: {difference} as in frame 1; one file holds one molecule "
                "at one level, and the same quantities in every frame"
            )
        labels.append(label)
        origins.append(origin)
    dataset = dataset_of(labels, origins)
    believe(dataset, lambda label: f"{path}, frame {label + 1}")
    return dataset


_COMMENT = b"Properties=species:S:1:pos:R:3"
"""How the second line of a frame begins."""

_DIGITS = 12
"""Bytes of a line with a number of atoms."""


def _scan(path: Path) -> tuple[int, int]:
    """Number of complete frames and the byte where the last of them ends."""
    frames = end = position = number = 0
    with open(path, "rb") as file:
        while header := file.readline():
            number += 1
            if not header.endswith(b"\n"):
                break
            if not header.strip().isdigit() or len(header) > _DIGITS:
                raise LabelError(
                    f"{path}, frame {frames + 1}, line {number}: expected a number of atoms, found "
                    f"{header.decode(errors='replace').strip()[:40]!r}"
                )
            position = end + len(header)
            for _ in range(int(header) + 1):
                line = file.readline()
                number += 1
                position += len(line)
                if not line.endswith(b"\n"):
                    return frames, end
            frames, end = frames + 1, position
    return frames, end


def _texts(path: Path) -> Iterator[FrameText]:
    """Complete frames of a file."""
    number, frame = 0, 0

    def line():
        nonlocal number
        number += 1
        try:
            return file.readline().decode("utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise LabelError(
                f"{path}, frame {frame}, line {number}: byte 0x{error.object[error.start]:02x} at "
                f"column {error.start + 1} is not UTF-8: save the file as UTF-8"
            ) from None

    with open(path, "rb") as file:
        while True:
            frame += 1
            count = line().strip()
            if not count:
                return
            header = line()
            yield FrameText(
                f"{path}, frame {frame}", number, header, [line() for _ in range(int(count))]
            )


def _labels(path: Path) -> Iterator[tuple[Label, str]]:
    """Labels and origins of a file's complete frames."""
    for text in _texts(path):
        try:
            yield label_of(text)
        except LabelError as error:
            raise LabelError(f"{text.where}, {error}") from None


