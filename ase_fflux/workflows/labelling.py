"""Geometries are labelled on several cores and kept as they come."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms

from ase_fflux.base.errors import LabelError
from ase_fflux.base.outputs import silent
from ase_fflux.base.units import BOHR
from ase_fflux.labels.dataset import append_labels, count_labels, cut_back, read_dataset
from ase_fflux.labels.label import UNKNOWN
from ase_fflux.labels.labeller import Labeller
from ase_fflux.labels.source import LabelSource, Rejected

_SAME = 1e-8
"""bohr; positions in a label file are rounded to less."""


@dataclass(frozen=True)
class Labelling:
    """What became of the geometries: labelled now, labelled before, and reasons of rejections."""

    labelled: int
    before: int
    rejected: list[str]


def label_geometries(
    frames: Sequence[Atoms], source: LabelSource, path: Path, *, workers: int = 1, client=None,
    progress=silent,
) -> Labelling:
    """Label geometries that a file has not yet.

    The file is safe to kill at any moment: every label is on the disk before the next one is added,
    in the order of the geometries. Rejected ones are left out, and tried again next time.

    Parameters
    ----------
    frames : sequence of Atoms
        Of one molecule, atoms in the same order; ``info["origin"]`` says where each comes from.
    source : LabelSource
    path : Path
        Label file, continued if it is there.
    workers : int
        Processes of one thread each.
    client : dask.distributed.Client, optional
        Its workers label instead.
    progress : context manager
        Called with a description and a total; gives a function to call with increments.

    Raises
    ------
    LabelError
        Different molecules, a file of another level, and what the source refuses.
    """
    for number, atoms in enumerate(frames, 1):
        if atoms.numbers.tolist() != frames[0].numbers.tolist():
            raise LabelError(
                f"frame {number} is of {atoms.symbols}, frame 1 of {frames[0].symbols}: one file "
                "holds one molecule, atoms in the same order"
            )
    source.check(frames[0])
    known = _known(path, frames[0], source)
    new = [
        ((number, _origin(atoms)), atoms) for number, atoms in enumerate(frames, 1)
        if not (np.abs(known - atoms.positions / BOHR).max(axis=(1, 2)) < _SAME).any()
    ]
    rejected, labelled, before = [], 0, len(frames) - len(new)
    label = Labeller(source, min(workers, len(new)), client)
    with (
        closing(label(new)) as results,
        progress(f"labelling {path.name}", len(frames), before) as advance,
    ):
        for (number, origin), result in results:
            if isinstance(result, Rejected):
                rejected.append(f"frame {number}: {result}")
            else:
                append_labels(path, [result], [origin])
                labelled += 1
            advance(1)
    return Labelling(labelled, before, rejected)


def _known(path: Path, atoms: Atoms, source: LabelSource) -> np.ndarray:
    """Geometries (n, N, 3) in bohr that a label file of this source has."""
    if path.exists():
        cut_back(path)
    if not path.exists() or not count_labels(path):
        return np.empty((0, len(atoms), 3))
    found = read_dataset(path)
    for what, there, wanted in (
        ("atoms", found.symbols, tuple(atoms.get_chemical_symbols())),
        ("method", found.method, source.method), ("partition", found.partition, source.partition),
        ("settings", dict(found.settings), dict(source.settings)),
    ):
        if there != wanted and there:
            raise LabelError(
                f"{path} has labels of other {what} ({_shown(there)} instead of {_shown(wanted)}): "
                "choose another output"
            )
    return found.geometries


def _shown(value) -> str:
    if isinstance(value, tuple):
        return "".join(value)
    if isinstance(value, dict):
        return ", ".join(f"{name} {value[name]}" for name in sorted(value))
    return str(value)


def _origin(atoms: Atoms) -> str:
    """Origin of a geometry as one word."""
    words = str(atoms.info.get("origin", UNKNOWN)).split()
    return words[0] if len(words) == 1 else UNKNOWN
