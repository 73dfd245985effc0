"""Minima, training labels and test labels of a molecule, kept in a folder as they are made.

===================  =================================================================
build.json           what was asked for; a folder of other settings is refused
conformers.xyz       conformers that were looked for, if so, with energies of the engine
minima.xyz           minima of the label source
hessians.npz         its second derivatives there; calculated again where they are lost
labels.xyz           training labels; more can be added later
pool.xyz             what they were chosen from, if so, and choice.xyz, in the order of choice
test.xyz             labels of a trajectory of its own
minimum-1.xyz, ...   labels of displacements from that minimum along its normal modes
labels-rejected.txt  geometries that the source rejected, if any: their places among all
test-rejected.txt    that were sampled, from 1, and why (of a minimum likewise)
===================  =================================================================
"""

import json
import warnings
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.io import read, write

from ase_fflux.base import store
from ase_fflux.base.checkpoint import known_checkpoint, write_checkpoint
from ase_fflux.base.claims import claim
from ase_fflux.base.errors import FFLUXError, FFLUXWarning
from ase_fflux.base.outputs import silent
from ase_fflux.labels.conformer_search import Search, search_conformers
from ase_fflux.labels.conformers import Minimum, minima, same_atoms
from ase_fflux.labels.dataset import Dataset, append_labels, count_labels, read_dataset
from ase_fflux.labels.labeller import Labeller
from ase_fflux.labels.sampling import STRIDE, Portion, mode_displacements, sample
from ase_fflux.labels.source import LabelSource, Rejected
from ase_fflux.model.frames import n_features

_INTERVAL = 1.0
"""Seconds of labelling that a killed run may lose."""
_TEST_STREAM = 10**6
_DISPLACED = "mode"
"""Origin of labels of displacements."""
_LEAST_REJECTED = 10
"""Rejected geometries, beyond as many as there are labels to make, that end the labelling."""

Design = Callable[[list[Minimum], int], Sequence[tuple[str, Atoms]]]
"""Gives geometries to label; see `LabelFolder`."""


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
    test_stride : float
        Time between its frames (fs); the fewer they are, the longer it should be.
    seed : int
        Seed of all sampling; the test uses another stream.
    """

    temperature: float = 500.0
    test_frames: int = 500
    test_temperature: float = 300.0
    test_stride: float = STRIDE
    seed: int = 1

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
        return (Portion("md", self.test_temperature, 1.0, self.test_stride),)


@dataclass(frozen=True)
class Labels:
    """Training labels, test labels and minima (Atoms of the label source)."""

    training: Dataset
    test: Dataset
    minima: list[Atoms]


class LabelFolder:
    """A folder of labels.

    Everything is checked before the folder is made, so that a command that is refused does not
    stand in the way of the corrected one.

    Parameters
    ----------
    folder : Path
        Made if it is not there.
    conformers : list of Atoms
        Starting geometries, same atoms in the same order (Angstrom).
    source : LabelSource
        Such as `GFN2`.
    settings : LabelSettings
    labeller : Labeller, optional
        Of that source; by default this process labels.
    search : Search, optional
        How further conformers are looked for from the first geometry; by default they are not.
    design : callable, optional
        Called with the minima and a number, gives at least so many origins and geometries to label,
        always the same first ones; by default they are those of the settings.

    Raises
    ------
    FFLUXError
        A folder of other settings or geometries; conformers that differ in their atoms or that the
        source cannot label.
    """

    def __init__(
        self, folder: Path, conformers: list[Atoms], source: LabelSource, settings: LabelSettings,
        labeller: Labeller | None = None, search: Search | None = None,
        design: Design | None = None,
    ):
        if settings.test_frames < 2:
            raise FFLUXError("a test needs at least 2 frames")
        same_atoms(conformers)
        for conformer in conformers:
            source.check(conformer)
        self.folder, self.conformers, self.source = folder, conformers, source
        self.settings, self.labeller = settings, labeller or Labeller(source)
        self.search, self.design = search, design
        wanted = {
            "source": {"method": source.method, "partition": source.partition, **source.settings},
            "settings": asdict(settings),
            "conformers": [
                {"symbols": a.get_chemical_symbols(), "positions_angstrom": a.positions.tolist()}
                for a in conformers
            ],
        }
        if search is not None:
            wanted["search"] = asdict(search)
        if design is not None:
            wanted["design"] = "V"
        claim(folder, "build.json", wanted, "a build", replace=not self._begun(wanted))

    def _begun(self, wanted: dict) -> bool:
        """Whether there is anything in the folder that took time to make and is of other settings.

        Minima are of the source and the conformers alone: a sampling that failed before its first
        label does not stand in the way of another temperature.
        """
        if any((self.folder / name).exists() for name in ("labels.xyz", "test.xyz")):
            return True
        if not (self.folder / "minima.xyz").exists():
            return False
        try:
            there = store.read_json(self.folder / "build.json")
        except (FileNotFoundError, store.DamagedError):
            return True
        same = json.loads(json.dumps(wanted))
        return any(there.get(name) != same.get(name) for name in ("source", "conformers", "search"))

    def minima(self, progress=silent) -> list[Atoms]:
        """Minima of the source."""
        return [minimum.atoms for minimum in self.minima_with_hessians(progress)]

    def starts(self, progress=silent) -> tuple[list[Atoms], str]:
        """Geometries that the minima come from, those that were found among them, and what those
        were made by (empty where none were looked for)."""
        if self.search is None:
            return self.conformers, ""
        stored = self.folder / "conformers.xyz"
        if not stored.exists():
            found = search_conformers(
                self.conformers[0], self.source.engine, self.search, self.source.charge, progress
            )
            for atoms, energy in zip(found.atoms, found.energies, strict=True):
                atoms.info = {"above_lowest_kJ_per_mol": round(float(energy), 3),
                              "made_by": found.made_by}
            with store.replacing(stored) as partial:
                write(partial, found.atoms, format="extxyz")
        kept = read(stored, ":")
        return [*self.conformers, *kept], str(kept[0].info["made_by"])

    def minima_with_hessians(self, progress=silent) -> list[Minimum]:
        """Minima of the source and its second derivatives there."""
        stored = self.folder / "minima.xyz"
        if not stored.exists():
            found = minima(self.starts(progress)[0], self.source, progress=progress)
            atoms = [minimum.atoms for minimum in found]
            self._keep_hessians(atoms, [minimum.hessian for minimum in found])
            with store.replacing(stored) as partial:
                write(partial, atoms, format="extxyz")
        atoms = read(stored, ":")
        known = known_checkpoint(self.folder / "hessians.npz", _digits(atoms))
        arrays = {} if known is None else known[0]
        hessians = [arrays.get(str(number)) for number in range(len(atoms))]
        if any(matrix is None for matrix in hessians):
            with progress("second derivatives", len(atoms)) as advance:
                hessians = []
                for minimum in atoms:
                    hessians.append(self.source.hessian(minimum))
                    advance(1)
            self._keep_hessians(atoms, hessians)
        return [Minimum(*pair) for pair in zip(atoms, hessians, strict=True)]

    def _keep_hessians(self, atoms: list[Atoms], hessians: list[np.ndarray]) -> None:
        arrays = {str(number): matrix for number, matrix in enumerate(hessians)}
        write_checkpoint(self.folder / "hessians.npz", _digits(atoms), arrays, {})

    def all(self, count: int, progress=silent) -> "Labels":
        """The first ``count`` training labels, the test labels and the minima."""
        found = self.minima(progress)
        return Labels(self.training(count, progress), self.test(progress), found)

    def training(self, count: int, progress=silent) -> Dataset:
        """The first ``count`` training labels."""
        path = self.folder / "labels.xyz"
        self._label(
            path, self.settings.training(), count, self.settings.seed, progress, self.design
        )
        return read_dataset(path).select(slice(count))

    def test(self, progress=silent) -> Dataset:
        """The test labels."""
        path, seed = self.folder / "test.xyz", self.settings.seed + _TEST_STREAM
        self._label(path, self.settings.test(), self.settings.test_frames, seed, progress)
        return read_dataset(path)

    def around(self, number: int, progress=silent) -> Dataset:
        """Labels of displacements up and down the modes of one minimum (from 0)."""
        path = self._around(number)
        record = _record(path)
        minimum = self.minima_with_hessians()[number]
        geometries = [(_DISPLACED, x) for x in mode_displacements(minimum.atoms, minimum.hessian)]
        done = count_labels(path) + _rejected(record)
        with progress(f"labelling {path.stem}", len(geometries), done) as advance:
            self._label_some(path, record, geometries[done:], done, advance)
        self._say_rejected(path)
        return read_dataset(path)

    def missing_around(self, number: int) -> int:
        """How many of them are still to be labelled."""
        path, n_atoms = self._around(number), len(self.conformers[0])
        return 2 * n_features(n_atoms) - count_labels(path) - _rejected(_record(path))

    def _around(self, number: int) -> Path:
        return self.folder / f"minimum-{number + 1}.xyz"

    def _label(
        self, path: Path, portions, total: int, seed: int, progress, design: Design | None = None
    ) -> None:
        """Label what is not labelled yet, writing labels to disk every second."""
        record = _record(path)
        known, done = self.minima_with_hessians(), count_labels(path)
        if design is not None and done < total:
            design(known, total + _rejected(record))  # with a progress of its own
        with progress(f"labelling {path.stem}", total, min(done, total)) as advance:
            while (done := count_labels(path)) < total:
                rejected = _rejected(record)
                if rejected > _LEAST_REJECTED + total:
                    raise FFLUXError(
                        f"{self.source.method} rejected {rejected} geometries for {done} labels "
                        f"(reasons in {record}): sample at a lower temperature, or change the "
                        "settings of the source"
                    )
                if design is not None:
                    geometries = design(known, total + rejected)[done + rejected:total + rejected]
                else:
                    geometries = sample(
                        [minimum.atoms for minimum in known], self.source, portions,
                        total + rejected, seed, skip=done + rejected,
                        hessians=[minimum.hessian for minimum in known],
                    )
                self._label_some(path, record, geometries, done + rejected, advance)
        self._say_rejected(path)

    def _say_rejected(self, path: Path) -> None:
        if count := _rejected(_record(path)):
            warnings.warn(
                f"{self.source.method} rejected {count} geometries beside {count_labels(path)} "
                f"labels: see {_record(path)}", FFLUXWarning, stacklevel=4,
            )

    def _label_some(self, path: Path, record: Path, geometries, place: int, advance) -> None:
        """Label geometries; those that the source rejects are written down with their places."""
        before = count_labels(path)
        labels, origins = [], []

        def keep():
            # what counts is what is in the file: we may have been stopped while writing to it
            new = slice(count_labels(path) - before, len(origins))
            append_labels(path, labels[new], origins[new])

        with store.kept_meanwhile(keep, _INTERVAL) as more, \
                closing(self.labeller(geometries)) as results:
            for origin, label in results:
                place += 1
                if isinstance(label, Rejected):
                    keep()  # labels before it are in the file, so that places are known
                    with store.Appended(record) as file:
                        file.add(f"{place} {origin}: {' '.join(str(label).split())}\n")
                    store.sync(record)
                    continue
                labels.append(label)
                origins.append(origin)
                advance(1)
                more()


def _record(path: Path) -> Path:
    """Where rejected geometries of a label file are written down."""
    return path.with_name(f"{path.stem}-rejected.txt")


def _rejected(record: Path) -> int:
    return len(record.read_bytes().splitlines()) if record.exists() else 0


def _digits(minima: list[Atoms]) -> str:
    """What second derivatives belong to: the minima as a file has them."""
    return " ".join(f"{x:.8f}" for atoms in minima for x in atoms.positions.flat)
