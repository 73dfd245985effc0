"""From a geometry to a tested model: optimise, sample, label, train, test.

Everything that takes long is kept in a working folder as soon as it is done, so that a build that
was interrupted goes on where it stopped:

==============  =================================================================
build.json      what was asked for; a build with other settings is refused
minima.xyz      minima of the label source
labels.xyz      training labels, in the order of sampling
test.xyz        labels of a trajectory of its own
models/         every trained model (`run_jobs`)
==============  =================================================================
"""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import monotonic

import numpy as np
from ase import Atoms
from ase.io import read, write

from ase_fflux.alf import choose_alf
from ase_fflux.calculator import FFLUX
from ase_fflux.errors import FFLUXError
from ase_fflux.formats.bundle import write_bundle
from ase_fflux.gp.settings import TrainingSettings
from ase_fflux.molecule import MoleculeModel
from ase_fflux.reference.conformers import minima
from ase_fflux.reference.dataset import Dataset, append_labels, count_labels, read_dataset
from ase_fflux.reference.sampling import Portion, sample
from ase_fflux.tasks.jobs import run_jobs
from ase_fflux.tasks.outputs import versions, write_json
from ase_fflux.tasks.train import molecule_jobs, molecule_model, training_record
from ase_fflux.tasks.validate import (
    HeldOutErrors,
    MinimumErrors,
    held_out_errors,
    minimum_errors,
    table,
)
from ase_fflux.units import BOHR

_INTERVAL = 1.0
"""Seconds of labelling that a killed run may lose."""


@dataclass(frozen=True)
class BuildSettings:
    """What a model is made from.

    Parameters
    ----------
    labels : int
        Number of training labels: half of them from dynamics for the range, half displaced along
        normal modes of the minima for the curvature.
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

    labels: int = 2000
    temperature: float = 500.0
    test_frames: int = 500
    test_temperature: float = 300.0
    seed: int = 1
    charge: int = 0

    def training(self) -> tuple[Portion, ...]:
        """Portions of the training set."""
        hot, cold, mild = self.labels // 2, self.labels // 4, self.labels * 3 // 20
        rest = self.labels - hot - cold - mild
        return (
            Portion("md", self.temperature, hot),
            Portion("nm", 50.0, cold),
            Portion("nm", 150.0, mild),
            Portion("nm", 300.0, rest),
        )

    def test(self) -> tuple[Portion, ...]:
        """Portions of the test set."""
        return (Portion("md", self.test_temperature, self.test_frames),)


@dataclass(frozen=True)
class Build:
    """A finished build: the model with its provenance, and its errors."""

    model: MoleculeModel
    test: HeldOutErrors
    minima: list[MinimumErrors]


@contextmanager
def _silent(description: str, total: int) -> Iterator[Callable[[int], None]]:
    yield lambda n: None


def build(
    conformers: list[Atoms],
    output: Path,
    source,
    settings: BuildSettings,
    training: TrainingSettings,
    folder: Path,
    command: str = "",
    progress=_silent,
) -> Build:
    """Make and test a model.

    Parameters
    ----------
    conformers : list of Atoms
        Starting geometries of all conformers, same atoms in the same order (Angstrom).
    output : Path
        Bundle to write; must not exist.
    source : label source
        Such as `GFN2`.
    settings : BuildSettings
        Sampling.
    training : TrainingSettings
        Hyperparameter search.
    folder : Path
        Working folder, kept afterwards.
    command : str
        Command for the record.
    progress : context manager
        Called with a description and a total; gives a function to call with increments.

    Raises
    ------
    FFLUXError
        An output that exists, a folder with other settings, and what labelling and training raise.
    """
    if output.exists():
        raise FFLUXError(f"{output} exists already: move it away or choose another output")
    labels = label(conformers, source, settings, folder, progress)
    dataset, found = labels.training, labels.minima
    reference = found[0].positions / BOHR
    alf = choose_alf(dataset.symbols, reference)
    jobs = molecule_jobs(dataset, alf, training)
    with progress("training", len(jobs)) as advance:
        results = run_jobs(
            jobs, folder=folder / "models", on_finished=lambda job, result, restored: advance(1)
        )
    model = molecule_model(dataset, output.stem, alf, reference, jobs, results)
    errors = held_out_errors(model, labels.test)
    draft = folder / "untested.fflux"
    draft.unlink(missing_ok=True)
    write_bundle(draft, model)
    calculator = FFLUX(str(draft))
    with progress("testing minima", len(found)) as advance:
        at_minima = []
        for minimum in found:
            at_minima.append(minimum_errors(minimum, calculator, source))
            advance(1)
    draft.unlink()
    model = replace(model, provenance={
        "label_source": source.method,
        "energies": source.energies,
        "command": command,
        "settings": asdict(settings),
        "training": training_record(training, jobs, results),
        "labels": {name: int(n) for name, n in
                   zip(*np.unique(dataset.origins, return_counts=True), strict=True)},
        "errors": {
            name: {"value": value, "unit": unit} for name, value, unit in table(errors, at_minima)
        },
        "versions": versions(),
    })
    partial = output.with_name(output.name + ".part")
    partial.unlink(missing_ok=True)
    write_bundle(partial, model)
    os.replace(partial, output)
    return Build(model, errors, at_minima)


@dataclass(frozen=True)
class Labels:
    """Training labels, test labels and minima (Atoms of the label source)."""

    training: Dataset
    test: Dataset
    minima: list[Atoms]


def label(
    conformers: list[Atoms], source, settings: BuildSettings, folder: Path, progress=_silent
) -> Labels:
    """Optimise, sample and label, as far as the folder does not hold it already.

    Parameters and errors are those of `build`.
    """
    if settings.labels < 20 or settings.test_frames < 2:
        raise FFLUXError("a build needs at least 20 labels and 2 test frames")
    _claim(folder, conformers, source, settings)
    stored = folder / "minima.xyz"
    if not stored.exists():
        with progress("optimising", len(conformers)) as advance:
            found = minima(conformers, source)
            advance(len(conformers))
        partial = folder / "minima.part.xyz"
        write(partial, found, format="extxyz")
        os.replace(partial, stored)
    found = read(stored, ":")
    training, test = folder / "labels.xyz", folder / "test.xyz"
    _label(training, found, source, settings.training(), settings.seed, progress)
    _label(test, found, source, settings.test(), settings.seed + 10**6, progress)
    return Labels(read_dataset(training), read_dataset(test), found)


def _claim(folder: Path, conformers, source, settings) -> None:
    """Make the working folder, or check that it is of the same build."""
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


def _label(path: Path, found, source, portions, seed, progress) -> None:
    """Label what is not labelled yet, writing labels to disk every second."""
    total = sum(p.frames for p in portions)
    done = count_labels(path)
    with progress(f"labelling {path.stem}", total) as advance:
        advance(done)
        labels, origins, kept = [], [], monotonic()

        def keep():
            # what counts is what is in the file: we may have been stopped while writing to it
            new = slice(count_labels(path) - done, len(origins))
            append_labels(path, labels[new], origins[new])

        try:
            for origin, atoms in sample(found, source, portions, seed, skip=done):
                labels.append(source.label(atoms))
                origins.append(origin)
                advance(1)
                if monotonic() - kept > _INTERVAL:
                    keep()
                    kept = monotonic()
        finally:
            keep()
