"""Labelled geometries: one frame of reference data each, and the extended XYZ files that keep them.

A label file is plain extended XYZ in ASE's units, one frame per label:

==================  ==================================================================
column or key       meaning
==================  ==================================================================
species, pos        element; position (Angstrom)
forces              minus the total gradient (eV/Angstrom)
atomic_energies     atom-resolved energy (eV)
charges             atomic charge (e)
dipoles             atomic dipole x y z (e Angstrom)
quadrupoles         atomic traceless quadrupole xx xy xz yx yy yz zx zy zz (e Angstrom^2)
energy, dipole      total energy (eV), molecular dipole (e Angstrom)
method, origin      level of theory; where the geometry comes from, such as ``md500K``
==================  ==================================================================

It is written with 12 decimals (ASE's writer has 8, too few for labels learnt with a relative
noise of 1e-10), appended to in chunks that are synchronised to disk, and cut back to its last
complete frame when a killed run left an incomplete one.
"""

import io
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ase_fflux.base.errors import LabelError
from ase_fflux.base.store import Appended, sync
from ase_fflux.base.units import BOHR, FORCE, HARTREE
from ase_fflux.model.multipoles import spherical_from_cartesian

logger = logging.getLogger(__name__)

_PROPERTIES = (
    "species:S:1:pos:R:3:forces:R:3:atomic_energies:R:1:charges:R:1:dipoles:R:3:quadrupoles:R:9"
)


@dataclass(frozen=True)
class Label:
    """Reference data of one geometry of N atoms, in atomic units.

    Parameters
    ----------
    symbols : tuple of str
        Elements.
    geometry : (N, 3) array
        Positions (bohr).
    energy : float
        Total energy (hartree).
    gradient : (N, 3) array
        Gradient of the total energy (hartree/bohr).
    atomic_energies : (N,) array
        Atom-resolved energies, which sum to the total (hartree).
    charges : (N,) array
        Atomic charges (e).
    atomic_dipoles : (N, 3) array
        Atomic dipoles about the nuclei (e bohr).
    atomic_quadrupoles : (N, 3, 3) array
        Traceless atomic quadrupoles 1/2 sum q (3 r r^T - r^2 1) about the nuclei (e bohr^2).
    dipole : (3,) array
        Molecular dipole (e bohr).
    method : str
        Level of theory, one word.
    """

    symbols: tuple[str, ...]
    geometry: np.ndarray
    energy: float
    gradient: np.ndarray
    atomic_energies: np.ndarray
    charges: np.ndarray
    atomic_dipoles: np.ndarray
    atomic_quadrupoles: np.ndarray
    dipole: np.ndarray
    method: str


@dataclass(frozen=True)
class Dataset:
    """n labels of one molecule of N atoms as arrays in atomic units.

    Parameters
    ----------
    symbols : tuple of str
        Element of each of the N atoms.
    geometries : (n, N, 3) array
        Positions (bohr).
    energies : (n,) array
        Total energies (hartree).
    gradients : (n, N, 3) array
        Gradients of the total energy (hartree/bohr).
    atomic_energies : (n, N) array
        Atom-resolved energies (hartree).
    moments : (n, N, 9) array
        Real spherical moments q00, q10, ... q22s in the global frame, in the order of
        `ase_fflux.model.multipoles.MOMENT_NAMES` (atomic units).
    dipoles : (n, 3) array
        Molecular dipoles (e bohr).
    origins : (n,) array of str
        Where each geometry comes from.
    method : str
        Level of theory.
    """

    symbols: tuple[str, ...]
    geometries: np.ndarray
    energies: np.ndarray
    gradients: np.ndarray
    atomic_energies: np.ndarray
    moments: np.ndarray
    dipoles: np.ndarray
    origins: np.ndarray
    method: str

    def __len__(self) -> int:
        return len(self.energies)

    def select(self, index) -> "Dataset":
        """Labels chosen by a slice, an integer array or a boolean mask."""
        names = ("geometries", "energies", "gradients", "atomic_energies", "moments", "dipoles")
        chosen = {name: getattr(self, name)[index] for name in (*names, "origins")}
        return replace(self, **chosen)


def append_labels(path: str | Path, labels: Sequence[Label], origins: Sequence[str]) -> None:
    """Append labels to a file (created if need be); on return they are on the disk.

    An incomplete frame at the end of the file, left by a killed run, is removed first.

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
        If a label has other atoms or another method than the file, or the file is malformed.
    """
    path = Path(path)
    text = []
    for label, origin in zip(labels, origins, strict=True):
        text.append(_frame(label, origin))
    if not text:
        return
    if path.exists():
        _, end = _scan(path)
        if end < path.stat().st_size:
            logger.warning("%s: incomplete last frame removed", path)
            os.truncate(path, end)
    expected = _first_frame(path) if path.exists() and path.stat().st_size else None
    for label in labels:
        expected = expected or (label.symbols, label.method)
        if (label.symbols, label.method) != expected:
            raise LabelError(
                f"{path} holds {expected[1]} labels of {''.join(expected[0])}; cannot append "
                f"{label.method} labels of {''.join(label.symbols)}: use another file"
            )
    with Appended(path) as file:
        file.add("".join(text))
    sync(path)


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
        If the file is missing, empty, incomplete or malformed, lacks a quantity, holds values that
        are not finite, atomic energies that do not sum to the total, or frames of different
        molecules or methods; names file and frame (counted from 1).
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
    frames = []
    reader = _parse(path.read_text(encoding="utf-8"))
    while len(frames) < count:
        try:
            frames.append(_quantities(next(reader)))
        except LabelError as error:
            raise LabelError(f"{path}, frame {len(frames) + 1}: {error}") from None
        except Exception as error:  # ASE's reader has no error class of its own
            raise LabelError(f"{path}, frame {len(frames) + 1}: cannot be read: {error}") from error
        for key in ("symbols", "method"):
            if frames[-1][key] != frames[0][key]:
                raise LabelError(
                    f"{path}, frame {len(frames)}: {key} {frames[-1][key]} differ from those of "
                    f"frame 1, {frames[0][key]}; one file holds one molecule at one level"
                )
    columns = {key: np.array([frame[key] for frame in frames]) for key in frames[0]}
    charges = columns.pop("charges")
    higher = spherical_from_cartesian(
        columns.pop("atomic_dipoles"), columns.pop("atomic_quadrupoles")
    )
    moments = np.concatenate([charges[..., None], higher], axis=-1)
    columns.update(symbols=frames[0]["symbols"], method=frames[0]["method"])
    return Dataset(moments=moments, **columns)


def _frame(label: Label, origin: str) -> str:
    for word in (origin, label.method):
        if not word or any(c.isspace() or c in "\"'=" for c in word):
            raise LabelError(f"origin or method {word!r} is not one plain word")
    table = np.hstack(
        [
            label.geometry * BOHR,
            -label.gradient * FORCE,
            label.atomic_energies[:, None] * HARTREE,
            label.charges[:, None],
            label.atomic_dipoles * BOHR,
            label.atomic_quadrupoles.reshape(-1, 9) * BOHR**2,
        ]
    )
    if not np.isfinite(table).all() or not np.isfinite(label.energy):
        raise LabelError(
            f"label of {''.join(label.symbols)} ({origin}) has values that are not finite"
        )
    dipole = " ".join(f"{x:.12f}" for x in label.dipole * BOHR)
    lines = [
        str(len(label.symbols)),
        f"Properties={_PROPERTIES} energy={label.energy * HARTREE:.12f} "
        f'dipole="{dipole}" method={label.method} origin={origin} pbc="F F F"',
    ]
    for symbol, row in zip(label.symbols, table, strict=True):
        lines.append(f"{symbol:2s} " + " ".join(f"{x:.12f}" for x in row))
    return "\n".join(lines) + "\n"


def _scan(path: Path) -> tuple[int, int]:
    """Number of complete frames and the byte where the last of them ends."""
    frames = end = position = number = 0
    with open(path, "rb") as file:
        while header := file.readline():
            number += 1
            if not header.endswith(b"\n"):
                break
            if not header.strip().isdigit():
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


def _parse(text: str):
    """Atoms of every frame, read one after the other."""
    # here, not at the top: ase.io loads every registered format, this package's among them
    from ase.io.extxyz import read_xyz

    return read_xyz(io.StringIO(text), index=slice(None))


def _first_frame(path: Path) -> tuple[tuple[str, ...], str]:
    """Symbols and method of a file with at least one complete frame."""
    with open(path, encoding="utf-8") as file:
        header = file.readline()
        text = header + "".join(file.readline() for _ in range(int(header) + 1))
    try:
        quantities = _quantities(next(_parse(text)))
    except Exception as error:  # ASE's reader has no error class of its own
        raise LabelError(f"{path}, frame 1: cannot be read: {error}") from error
    return quantities["symbols"], quantities["method"]


def _quantities(atoms) -> dict:
    """Contents of one frame in atomic units, checked."""
    results = atoms.calc.results if atoms.calc else {}
    stored = {**atoms.arrays, **atoms.info, **results}
    needed = ("energy", "forces", "atomic_energies", "charges", "dipoles", "quadrupoles", "dipole")
    missing = [key for key in (*needed, "method", "origin") if key not in stored]
    if missing:
        raise LabelError(f"no {', '.join(missing)}; not a label file of this package")
    natoms = len(atoms)
    frame = {
        "symbols": tuple(atoms.get_chemical_symbols()),
        "geometries": atoms.positions / BOHR,
        "energies": float(stored["energy"]) / HARTREE,
        "gradients": -stored["forces"] / FORCE,
        "atomic_energies": stored["atomic_energies"] / HARTREE,
        "charges": stored["charges"],
        "atomic_dipoles": stored["dipoles"] / BOHR,
        "atomic_quadrupoles": stored["quadrupoles"].reshape(natoms, 3, 3) / BOHR**2,
        "dipoles": np.asarray(stored["dipole"], dtype=float) / BOHR,
        "origins": str(stored["origin"]),
        "method": str(stored["method"]),
    }
    for key, value in frame.items():
        if isinstance(value, np.ndarray | float) and not np.isfinite(value).all():
            raise LabelError(f"{key} holds values that are not finite")
    excess = abs(frame["atomic_energies"].sum() - frame["energies"])
    if excess > 1e-8:
        raise LabelError(f"atomic energies miss the total energy by {excess:.1e} Ha")
    return frame
