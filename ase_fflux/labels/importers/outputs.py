"""Outputs of quantum chemistry programs: one for each geometry, of optimisations, or scans.

==================  ===========  =================================================================
program             read by      frames
==================  ===========  =================================================================
Gaussian, ORCA      ASE          energies, forces, dipoles; charge, multiplicity and level
Psi4, Q-Chem        cclib        energies and gradients; charge, multiplicity and level
==================  ===========  =================================================================

Of an output with forces all geometries that have them are taken, of one without forces the last.
Outputs that stopped are left out and named.
"""

import re
import warnings
from collections.abc import Sequence
from pathlib import Path

from ase_fflux.base.errors import FFLUXWarning, LabelError
from ase_fflux.labels.importers.ase_files import frame_of
from ase_fflux.labels.importers.cclib_files import NotInstalled, read_by_cclib
from ase_fflux.labels.importers.frames import Frame
from ase_fflux.labels.importers.gaussian_orca import read_by_ase
from ase_fflux.labels.importers.programs import (
    GAUSSIAN,
    ORCA,
    PROGRAMS,
    level_of,
    program_of,
    refuse_unfinished,
    state_of,
)

SUFFIXES = ".out", ".log"
"""What outputs in a folder end with."""
_OTHERS = ".npz", ".xyz", ".extxyz", ".db", ".traj", ".csv", ".json"
_SCRATCH = re.compile(r"_atom\d+\.out$")
"""ORCA's guesses of atoms."""
_HEAD, _MOST_BYTES = 1 << 16, 1 << 30
_NAMED = 10
_SAME_ENERGY = 1e-6
"""Hartree; two energies of one geometry and level."""


def is_output(path: Path) -> bool:
    """Whether a file is an output of one of the programs that are known here."""
    if path.suffix.lower() in _OTHERS or not path.is_file():
        return False
    with open(path, "rb") as file:
        return program_of(file.read(_HEAD).decode("utf-8", "replace")) is not None


def output_files(folder: Path) -> list[Path]:
    """Files in a folder and those inside that end with `SUFFIXES`, 2 before 10."""
    found = (
        path for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES and not _SCRATCH.search(path.name)
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.is_file()
    )
    return sorted(found, key=_natural)


def _natural(path: Path) -> list:
    parts = re.split(r"(\d+)", path.as_posix())
    return [(int(part), part) if k % 2 else (0, part) for k, part in enumerate(parts)]


def read_outputs(sources: Sequence[Path]) -> list[Frame]:
    """Frames of outputs and of folders of them.

    Geometries that stand twice with one energy are taken once. What is left out is said in a
    warning.

    Parameters
    ----------
    sources : sequence of Path

    Raises
    ------
    LabelError
        No output that can be taken; one geometry with two energies; cclib is needed and missing.
    """
    files, alone = [], len(sources) == 1 and sources[0].is_file()
    for source in sources:
        if not source.exists():
            raise LabelError(f"{source}: no such file or folder")
        files += output_files(source) if source.is_dir() else [source]
    if not files:
        raise LabelError(f"{sources[0]}: no outputs ({', '.join(SUFFIXES)}) in it")
    frames: list[Frame] = []
    left_out: list[str] = []
    for path in dict.fromkeys(files):
        try:
            frames += _frames(path, _text(path))
        except NotInstalled:
            raise
        except LabelError as error:
            reason = str(error).removeprefix(f"{path}").removeprefix(": ")
            if alone:
                raise LabelError(f"{path}: {reason}") from None
            left_out.append(f"{path.name} ({reason})")
    said = "; ".join(left_out[:_NAMED])
    if len(left_out) > _NAMED:
        said += f"; and {len(left_out) - _NAMED} more"
    if not frames:
        raise LabelError(f"{sources[0]}: none of {len(files)} outputs can be taken: {said}")
    kept = _once(frames)
    if left_out:
        warnings.warn(
            f"{sources[0]}: {len(left_out)} of {len(files)} outputs are left out: {said}",
            FFLUXWarning, stacklevel=2,
        )
    if twice := len(frames) - len(kept):
        warnings.warn(
            f"{sources[0]}: {twice} of {len(frames)} geometries stand twice, with the same energy: "
            "taken once", FFLUXWarning, stacklevel=2,
        )
    return kept


def _text(path: Path) -> str:
    if (size := path.stat().st_size) > _MOST_BYTES:
        raise LabelError("larger than 1 GiB")
    if size == 0:
        raise LabelError("is empty")
    return path.read_text(encoding="utf-8", errors="replace")


def _frames(path: Path, text: str) -> list[Frame]:
    """Of one output; errors are without its name."""
    program = program_of(text)
    if program is None:
        raise LabelError(f"not of {', '.join(p.name for p in PROGRAMS)}")
    refuse_unfinished(program, text)
    if program in (GAUSSIAN, ORCA):
        level = level_of(program, text)
        settings = {"program": program.name, **state_of(program, text)}
        images = read_by_ase(program, text)
        frames = [
            frame_of(
                atoms, str(path) if len(images) == 1 else f"{path}, frame {n}", level=level,
                settings=settings,
            )
            for n, atoms in enumerate(images, 1)
        ]
    else:
        frames = read_by_cclib(program, path, str(path))
    if not frames:
        raise LabelError("no energy in it")
    for frame in frames:
        if (frame.numbers < 1).any():
            raise LabelError("dummy or ghost atoms")
    with_forces = [frame for frame in frames if frame.gradient is not None]
    return with_forces or frames[-1:]


def _once(frames: Sequence[Frame]) -> list[Frame]:
    """Each geometry once."""
    seen: dict[tuple[bytes, bytes], Frame] = {}
    for frame in frames:
        first = seen.setdefault((frame.numbers.tobytes(), frame.positions.tobytes()), frame)
        alike = first.method == frame.method and first.settings == frame.settings
        if alike and abs(first.energy - frame.energy) > _SAME_ENERGY:
            raise LabelError(
                f"{frame.where}: the geometry of {first.where} with another energy "
                f"({frame.energy:.6f} and {first.energy:.6f} Ha): they are not of one level of "
                "theory, or one of them is another state"
            )
        if not alike:
            seen[frame.numbers.tobytes(), frame.positions.tobytes() + frame.where.encode()] = frame
    return list(seen.values())
