"""Training data from the labels of a molecule.

Whatever does not fit together is refused here, before anything is trained.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from ase import Atoms

from ase_fflux.base.errors import TrainingError
from ase_fflux.base.units import BOHR
from ase_fflux.labels.dataset import Dataset
from ase_fflux.labels.importers.any_file import read_any
from ase_fflux.labels.label import UNKNOWN
from ase_fflux.model.alf import choose_alf
from ase_fflux.training.data import (
    FEWEST,
    AtomData,
    Points,
    TrainingData,
    at_random,
    require_points,
    split,
)
from ase_fflux.training.molecule import molecule_targets

FEWEST_WITH_PRIOR = 3
"""Labels that a model on top of a prior needs."""


def read_labels(
    path: Path, test: Path | None, hold_out: float, seed: int, geometry: Atoms | None,
    reading: Mapping | None = None, count: int | None = None, latent: bool = False,
    fewest: int = FEWEST,
) -> TrainingData:
    """Read a labelled dataset.

    Parameters
    ----------
    path : Path
        Labels of a molecule, or a folder of outputs (`read_any`).
    test : Path or None
        Labels for the test.
    hold_out : float
        Part of the labels held out where there is no such file.
    seed : int
        Of the random choice of them.
    geometry : Atoms or None
        Reference geometry; by default that of lowest energy.
    reading : mapping, optional
        Options of `read_foreign`, for both files.
    count : int, optional
        How many labels are trained on, chosen at random; all by default.
    latent : bool
        Whether total energies and gradients do, without atomic energies.
    fewest : int
        Labels that are needed.

    Raises
    ------
    FFLUXError
        What `read_any` raises; labels that stand twice, are too few, or are of other atoms or
        at another level in the test set; atoms without a local frame.
    """
    reading = reading or {}
    needed = ("energies", "gradients") if latent else ("energies", "atomic_energies")
    dataset = _labelled(path, reading, needed)
    _refuse_repeated(path, dataset)
    training, tested, held_out = dataset, None, str(test)
    if test is not None:
        tested = _labelled(test, reading, ("energies",) if latent else needed)
        _refuse_another_kind(test, tested, path, dataset)
    else:
        kept, out = split(len(dataset), hold_out, seed)
        training, tested = dataset.select(kept), dataset.select(out) if len(out) else None
        held_out = at_random(len(out), seed)
    if count is not None:
        if count > len(training):
            raise TrainingError(
                f"{path}: there are {len(training)} labels to train on, fewer than {count}"
            )
        chosen = np.random.default_rng([seed, count]).permutation(len(training))[:count]
        training = training.select(np.sort(chosen))
    require_points(path, len(training), fewest)
    if geometry is None:
        lowest = training.geometries[int(np.argmin(training.energies))]
        geometry = Atoms(training.symbols, lowest * BOHR)
    elif tuple(geometry.get_chemical_symbols()) != training.symbols:
        raise TrainingError(
            f"the atoms of --geometry, {geometry.get_chemical_symbols()}, are not those of {path}, "
            f"{list(training.symbols)}: same atoms in the same order are needed"
        )
    alf = choose_alf(training.symbols, geometry.positions / BOHR)

    def points(labels):
        return [Points(one.features, one.targets) for one in molecule_targets(labels, alf)]

    trained = points(training)
    tests = [None] * len(trained) if tested is None else points(tested)
    atoms = tuple(
        AtomData(a, symbol, tuple(map(int, alf[a])), trained[a], tests[a])
        for a, symbol in enumerate(training.symbols)
    )
    return TrainingData(
        _system(path), len(atoms), atoms, geometry, held_out, training, tested
    )


def _labelled(path: Path, reading: Mapping, needed: Sequence[str]) -> Dataset:
    """Labels with what a training or its test needs."""
    dataset = read_any(path, **reading)
    if missing := dataset.missing(needed):
        what = " and no ".join(name.replace("_", " ") for name in missing)
        if missing == ["atomic_energies"]:
            raise TrainingError(
                f"{path}: no {what}: total energies alone are learned together with their "
                "gradients, give --gradients; or label the geometries with a source that has "
                "atomic energies (fflux label)"
            )
        raise TrainingError(f"{path}: no {what}, which this training needs")
    return dataset


def _refuse_repeated(path: Path, dataset: Dataset) -> None:
    seen: dict[bytes, int] = {}
    for frame, positions in enumerate(dataset.geometries, 1):
        first = seen.setdefault(positions.tobytes(), frame)
        if first != frame:
            raise TrainingError(
                f"{path}: frames {first} and {frame} are the same geometry: remove one of them"
            )


def _refuse_another_kind(test: Path, tested: Dataset, path: Path, dataset: Dataset) -> None:
    """Refuse to test on other atoms or at another level."""
    if tested.symbols != dataset.symbols:
        raise TrainingError(
            f"{test}: symbols {tested.symbols} are not those of {path}, {dataset.symbols}"
        )
    if UNKNOWN not in (dataset.method, tested.method) and tested.method != dataset.method:
        raise TrainingError(
            f"{test}: method {tested.method} is not that of {path}, {dataset.method}"
        )


def _system(path: Path) -> str:
    """Name of the molecule: that of the file or folder, of labels.xyz that of its folder."""
    if path.is_dir():
        return path.resolve().name
    if path.stem != "labels":
        return path.stem
    return path.resolve().parent.name.removesuffix("-build") or path.stem
