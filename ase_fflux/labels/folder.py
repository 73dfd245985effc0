"""Minima, training labels and test labels of a molecule, kept in a folder as they are made.

==============  =================================================================
build.json      what was asked for; a folder of other settings is refused
minima.xyz      minima of the label source
labels.xyz      training labels; more can be added later
test.xyz        labels of a trajectory of its own
==============  =================================================================
"""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from time import monotonic

from ase import Atoms
from ase.io import read, write

from ase_fflux.base.errors import FFLUXError
from ase_fflux.base.outputs import silent, write_json
from ase_fflux.labels.conformers import minima
from ase_fflux.labels.dataset import Dataset, append_labels, count_labels, read_dataset
from ase_fflux.labels.sampling import Portion, sample

_INTERVAL = 1.0
"""Seconds of labelling that a killed run may lose."""
_TEST_STREAM = 10**6


@dataclass(frozen=True)
class LabelSettings:
    """What is labelled.

    Parameters
    ----------
    temperature : float
        Of the dynamics that training geometries come from (K).
    test_frames : int
        Frames of the separate trajectory for the test.
    test_temperature : float
        Its temperature (K).
    seed : int
        Seed of all sampling; the test uses another stream.
    charge : int
        Total charge (e).
    """

    temperature: float = 500.0
    test_frames: int = 500
    test_temperature: float = 300.0
    seed: int = 1
    charge: int = 0

    def training(self) -> tuple[Portion, ...]:
        """Portions of the training set: dynamics for the range, displacements for the curvature."""
        return (
            Portion("md", self.temperature, 0.5),
            Portion("nm", 50.0, 0.25),
            Portion("nm", 150.0, 0.15),
            Portion("nm", 300.0, 0.1),
        )

    def test(self) -> tuple[Portion, ...]:
        """Portions of the test set."""
        return (Portion("md", self.test_temperature, 1.0),)


@dataclass(frozen=True)
class Labels:
    """Training labels, test labels and minima (Atoms of the label source)."""

    training: Dataset
    test: Dataset
    minima: list[Atoms]


class LabelFolder:
    """A folder of labels.

    Parameters
    ----------
    folder : Path
        Made if it is not there.
    conformers : list of Atoms
        Starting geometries, same atoms in the same order (Angstrom).
    source : label source
        Such as `GFN2`.
    settings : LabelSettings

    Raises
    ------
    FFLUXError
        A folder of other settings or geometries.
    """

    def __init__(self, folder: Path, conformers: list[Atoms], source, settings: LabelSettings):
        if settings.test_frames < 2:
            raise FFLUXError("a test needs at least 2 frames")
        self.folder, self.conformers, self.source = folder, conformers, source
        self.settings = settings
        _claim(folder, conformers, source, settings)

    def minima(self, progress=silent) -> list[Atoms]:
        """Minima of the source."""
        stored = self.folder / "minima.xyz"
        if not stored.exists():
            with progress("optimising", len(self.conformers)) as advance:
                found = minima(self.conformers, self.source)
                advance(len(self.conformers))
            partial = self.folder / "minima.part.xyz"
            write(partial, found, format="extxyz")
            os.replace(partial, stored)
        return read(stored, ":")

    def all(self, count: int, progress=silent) -> "Labels":
        """The first ``count`` training labels, the test labels and the minima."""
        found = self.minima(progress)
        return Labels(self.training(count, progress), self.test(progress), found)

    def training(self, count: int, progress=silent) -> Dataset:
        """The first ``count`` training labels."""
        path = self.folder / "labels.xyz"
        self._label(path, self.settings.training(), count, self.settings.seed, progress)
        return read_dataset(path).select(slice(count))

    def test(self, progress=silent) -> Dataset:
        """The test labels."""
        path, seed = self.folder / "test.xyz", self.settings.seed + _TEST_STREAM
        self._label(path, self.settings.test(), self.settings.test_frames, seed, progress)
        return read_dataset(path)

    def _label(self, path: Path, portions, total: int, seed: int, progress) -> None:
        """Label what is not labelled yet, writing labels to disk every second."""
        done = count_labels(path)
        with progress(f"labelling {path.stem}", total) as advance:
            advance(min(done, total))
            labels, origins, kept = [], [], monotonic()

            def keep():
                # what counts is what is in the file: we may have been stopped while writing to it
                new = slice(count_labels(path) - done, len(origins))
                append_labels(path, labels[new], origins[new])

            try:
                for origin, atoms in sample(
                    self.minima(), self.source, portions, total, seed, skip=done
                ):
                    labels.append(self.source.label(atoms))
                    origins.append(origin)
                    advance(1)
                    if monotonic() - kept > _INTERVAL:
                        keep()
                        kept = monotonic()
            finally:
                keep()


def _claim(folder: Path, conformers, source, settings) -> None:
    """Make the folder, or check that it is of the same labels."""
    wanted = {
        "source": source.method,
        "settings": asdict(settings),
        "conformers": [
            {"symbols": a.get_chemical_symbols(), "positions_angstrom": a.positions.tolist()}
            for a in conformers
        ],
    }
    record = folder / "build.json"
    if record.exists():
        try:
            there = json.loads(record.read_text())
        except ValueError as error:
            raise FFLUXError(f"{record} cannot be read ({error}): delete {folder}") from None
        if there != wanted:
            raise FFLUXError(
                f"{folder} belongs to a build with other settings or geometries: delete it, or "
                "choose another output"
            )
        return
    if folder.exists() and any(folder.iterdir()):
        raise FFLUXError(f"{folder} exists and is not of a build: choose another output")
    folder.mkdir(parents=True, exist_ok=True)
    write_json(record, wanted)
