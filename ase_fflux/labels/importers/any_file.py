"""Labels from whatever file has them: label files of this package, and data sets of others."""

from pathlib import Path

from ase_fflux.base.errors import LabelError
from ase_fflux.labels.dataset import read_dataset
from ase_fflux.labels.importers.aimall import has_atoms
from ase_fflux.labels.importers.foreign import read_foreign
from ase_fflux.labels.label import Dataset

_OWN = "method=", "origin=", "atomic_energies:"
"""What the header of a label file has, and extended XYZ of other programs has not."""


def read_any(path: str | Path, **options) -> Dataset:
    """Read a label file, or a data set or a folder of outputs of another program.

    Parameters
    ----------
    path : path
    **options
        Of `read_foreign`, which label files have no use for.

    Raises
    ------
    FFLUXError
        What the readers raise; options that are given for a label file.
    """
    path = Path(path)
    if has_atoms(path):
        raise LabelError(
            f"{path}: files of AIMAll: make labels of them first, fflux import {path} -o labels.xyz"
        )
    if path.is_dir() or not is_label_file(path):
        return read_foreign(path, **options)
    if given := [name for name, value in options.items() if value]:
        raise LabelError(
            f"{path}: a label file of ase-fflux, which says itself what is in it: leave "
            f"--{given[0].replace('_', '-')} out"
        )
    return read_dataset(path)


def is_label_file(path: str | Path) -> bool:
    """Whether a file is extended XYZ with what only this package writes."""
    try:
        with open(path, "rb") as file:
            count, header = file.readline(20), file.readline(1 << 16)
    except FileNotFoundError:
        raise LabelError(f"{path}: no such label file") from None
    except OSError as error:
        raise LabelError(f"{path}: cannot be read: {error.strerror}") from None
    text = header.decode("utf-8", "replace")
    return count.strip().isdigit() and any(word in text for word in _OWN)
