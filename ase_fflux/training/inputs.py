"""What models are trained on and tested on: a labelled molecule, or training sets of single atoms.

Both become a `TrainingData`, whose jobs `run_jobs` trains. Whatever does not fit together is
refused here, before anything is trained.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms

from ase_fflux.base.errors import TrainingError
from ase_fflux.base.units import BOHR
from ase_fflux.formats.training_set import TrainingSet, read_training_set
from ase_fflux.labels.checks import outlier, outlier_limit
from ase_fflux.labels.dataset import Dataset
from ase_fflux.labels.importers.any_file import read_any
from ase_fflux.labels.label import UNKNOWN
from ase_fflux.model.alf import choose_alf
from ase_fflux.model.frames import features
from ase_fflux.model.molecule import ENERGY, MoleculeModel
from ase_fflux.training.molecule import molecule_targets

FEWEST = 10
"""Training points below which nothing is trained."""
FEWEST_WITH_PRIOR = 3
"""Labels that a model on top of a prior needs."""


@dataclass(frozen=True, eq=False)
class Points:
    """Features (n, F) in bohr and radian, and properties (n,) by name in atomic units."""

    features: np.ndarray
    targets: dict[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.features)

    def select(self, index: np.ndarray) -> "Points":
        """Points chosen by an integer array."""
        return Points(self.features[index], {p: y[index] for p, y in self.targets.items()})


@dataclass(frozen=True, eq=False)
class AtomData:
    """One atom: its 0-based index, element and local frame, and its points."""

    atom: int
    element: str
    alf: tuple[int, int, int]
    training: Points
    test: Points | None

    @property
    def label(self) -> str:
        """Element and 1-based index, ``C1``."""
        return f"{self.element}{self.atom + 1}"


@dataclass(frozen=True, eq=False)
class TrainingData:
    """Everything a training starts from.

    Parameters
    ----------
    system : str
        Name of the molecule.
    n_atoms : int
        Number of atoms N of the molecule.
    atoms : tuple of AtomData
        Those to be trained, all of them for a dataset.
    reference : Atoms or None
        Reference geometry (Angstrom), if it is known.
    held_out : str
        Where the test points come from.
    dataset, test : Dataset or None
        Labels of the whole molecule, for training and for the test.
    """

    system: str
    n_atoms: int
    atoms: tuple[AtomData, ...]
    reference: Atoms | None
    held_out: str
    dataset: Dataset | None = None
    test: Dataset | None = None

    @property
    def alf(self) -> np.ndarray:
        """(A, 3) local frames of the atoms to be trained."""
        return np.array([data.alf for data in self.atoms])

    @property
    def incomplete(self) -> str | None:
        """What is missing for a model of the whole molecule."""
        if len(self.atoms) < self.n_atoms:
            return f"training sets of all {self.n_atoms} atoms, not of {len(self.atoms)}"
        if without := [d.label for d in self.atoms if ENERGY not in d.training.targets]:
            return f"the energies ({ENERGY}) of all atoms, which {without[0]} has not"
        return "--geometry" if self.reference is None else None

    @property
    def warnings(self) -> list[str]:
        """What is odd, one line each."""
        found = []
        for data in self.atoms:
            points = data.training.features
            constant = np.flatnonzero(np.ptp(points, axis=0) == 0)
            found += [
                f"{data.label}: f{h + 1} is constant: no model can depend on it" for h in constant
            ]
            if data.test is not None and (same := _shared(points, data.test.features)):
                found.append(f"{data.label}: {same} held-out points are training points as well")
            if self.dataset is None and self.reference is not None:
                found += _far_geometry(data, self.reference)
        return found

    def model(self, name: str, processes: tuple) -> MoleculeModel:
        """The model of the whole molecule."""
        return MoleculeModel(
            name=name, symbols=tuple(self.reference.get_chemical_symbols()), alf=self.alf,
            processes=processes, reference_geometry=self.reference.positions / BOHR,
            geometries=None if self.dataset is None else self.dataset.geometries,
        )


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
    seen: dict[bytes, int] = {}
    for frame, positions in enumerate(dataset.geometries, 1):
        first = seen.setdefault(positions.tobytes(), frame)
        if first != frame:
            raise TrainingError(
                f"{path}: frames {first} and {frame} are the same geometry: remove one of them"
            )
    if test is not None:
        training, held_out = dataset, str(test)
        tested = _labelled(test, reading, ("energies",) if latent else needed)
        if tested.symbols != dataset.symbols:
            raise TrainingError(
                f"{test}: symbols {tested.symbols} are not those of {path}, {dataset.symbols}"
            )
        if UNKNOWN not in (dataset.method, tested.method) and tested.method != dataset.method:
            raise TrainingError(
                f"{test}: method {tested.method} is not that of {path}, {dataset.method}"
            )
    else:
        kept, out = split(len(dataset), hold_out, seed)
        training, tested = dataset.select(kept), dataset.select(out) if len(out) else None
        held_out = _at_random(len(out), seed)
    if count is not None:
        if count > len(training):
            raise TrainingError(
                f"{path}: there are {len(training)} labels to train on, fewer than {count}"
            )
        chosen = np.random.default_rng([seed, count]).permutation(len(training))[:count]
        training = training.select(np.sort(chosen))
    _enough(path, len(training), fewest)
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
        system_of_labels(path), len(atoms), atoms, geometry, held_out, training, tested
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


def system_of_labels(path: Path) -> str:
    """Name of the molecule: that of the file or folder, of labels.xyz that of its folder."""
    if path.is_dir():
        return path.resolve().name
    if path.stem != "labels":
        return path.stem
    return path.resolve().parent.name.removesuffix("-build") or path.stem


def read_sets(
    paths: Sequence[Path],
    tests: Sequence[Path],
    hold_out: float,
    seed: int,
    alf: Sequence[tuple[int, ...]],
    geometry: Atoms | None,
) -> TrainingData:
    """Read training sets of atoms of one molecule.

    Parameters
    ----------
    paths, tests : sequences of Path
        CSV files for training, and none or as many for the test, in the same order.
    hold_out, seed
        As in `read_labels`.
    alf : sequence of tuple
        Local frames (1-based) in the order of the files, or none.
    geometry : Atoms or None
        Reference geometry, which gives the elements and those local frames that neither `alf` nor
        the names of the files give.

    Raises
    ------
    FFLUXError
        What `read_training_set` raises; sets of the same atom, of different molecules, with too
        few points; a test set or a geometry that does not fit; a local frame that is missing.
    """
    for name, given in (("--test", tests), ("--alf", alf)):
        if given and len(given) != len(paths):
            raise TrainingError(
                f"{name} is needed once for each training set in their order: {len(paths)} times, "
                f"not {len(given)}"
            )
    sets = [_believable(read_training_set(path)) for path in paths]
    n_atoms = sets[0].n_atoms
    for other in sets[1:]:
        if other.n_atoms != n_atoms:
            raise TrainingError(
                f"{other.path} has {other.features.shape[1]} features, {paths[0]} has "
                f"{sets[0].features.shape[1]}: they are not atoms of one molecule"
            )
    systems = {s.system.upper(): s for s in sets if s.system}
    if len(systems) > 1:
        raise TrainingError(
            f"training sets of several molecules ({', '.join(sorted(systems))}): train them one "
            "after the other"
        )
    chosen = None
    if geometry is not None:
        if len(geometry) != n_atoms:
            raise TrainingError(
                f"--geometry has {len(geometry)} atoms, but {sets[0].features.shape[1]} features "
                f"are those of {n_atoms}"
            )
        chosen = choose_alf(geometry.symbols, geometry.positions / BOHR)
    atoms: dict[int, AtomData] = {}
    for i, training_set in enumerate(sets):
        given = alf[i] if alf else None
        element, frame = _identity(training_set, given, geometry, chosen)
        if frame[0] in atoms:
            raise TrainingError(f"{paths[i]}: atom {element}{frame[0] + 1} is trained twice")
        points = Points(training_set.features, training_set.targets)
        if tests:
            held_out = ", ".join(path.name for path in tests)
            test = _test_points(tests[i], training_set)
        else:
            kept, out = split(len(points), hold_out, seed)
            held_out = _at_random(len(out), seed)
            points, test = points.select(kept), points.select(out) if len(out) else None
        _enough(paths[i], len(points))
        atoms[frame[0]] = AtomData(frame[0], element, frame, points, test)
    system = next((s.system for s in systems.values()), "molecule")
    ordered = tuple(atoms[a] for a in sorted(atoms))
    return TrainingData(system, n_atoms, ordered, geometry, held_out)


def split(count: int, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Random indices, ascending, of the points for training and of those held out."""
    order = np.random.default_rng(seed).permutation(count)
    out = round(fraction * count)
    return np.sort(order[out:]), np.sort(order[:out])


def _at_random(count: int, seed: int) -> str:
    return f"{count} points at random, seed {seed}" if count else "none"


def _enough(path: Path, count: int, fewest: int = FEWEST) -> None:
    if count < fewest:
        raise TrainingError(
            f"{path}: {count} training points are too few, at least {fewest} are needed"
        )


def _identity(
    s: TrainingSet, given: tuple[int, ...] | None, geometry: Atoms | None, chosen
) -> tuple[str, tuple[int, int, int]]:
    """Element and local frame (0-based) of a training set's atom."""
    named = int(re.sub("[^0-9]", "", s.atom)) - 1 if s.atom else None
    frame = s.alf
    if given is not None:
        wanted = 2 if s.n_atoms == 2 else 3
        text = ",".join(map(str, given))
        if len(given) != wanted or len(set(given)) < wanted or not (
            1 <= min(given) and max(given) <= s.n_atoms
        ):
            raise TrainingError(
                f"--alf {text} of {s.path}: {wanted} different atoms from 1 to {s.n_atoms} are "
                "needed"
            )
        frame = tuple(i - 1 for i in given) + (-1,) * (3 - wanted)
        if (named is not None and named != frame[0]) or s.alf not in (None, frame):
            raise TrainingError(
                f"--alf {text} is not a local frame of {s.path}, to judge by its name: give them "
                "in the order of the files"
            )
    if frame is None and chosen is not None and named is not None:
        frame = tuple(map(int, chosen[named]))
    if frame is None:
        raise TrainingError(
            f"{s.path}: its name does not tell the local frame that the features are in: give "
            "--alf 1,2,3 (atom, the one on x, the one in the xy-plane, counted from 1) once for "
            "each file, or --geometry FILE and a name with the atom, such as WATER_O1_SET.csv"
        )
    if s.atom is None and geometry is None:
        raise TrainingError(
            f"{s.path}: its name does not tell the element: rename it to something like "
            "WATER_O1_TRAINING_SET.csv, or give --geometry FILE"
        )
    element = geometry.symbols[frame[0]] if s.atom is None else s.atom.rstrip("0123456789")
    if geometry is not None and geometry.symbols[frame[0]] != element:
        raise TrainingError(
            f"{s.path}: atom {frame[0] + 1} of --geometry is {geometry.symbols[frame[0]]}, not "
            f"{element}"
        )
    return element, frame


def _believable(training_set: TrainingSet) -> TrainingSet:
    """Refuse a target far from all others."""
    for name, values in training_set.targets.items():
        near = outlier_limit(name)
        if (row := outlier(values, near)) is not None:
            raise TrainingError(
                f"{training_set.path}, point {row + 1}: {name} is {values[row]:.6g}, far from "
                f"{np.median(values):.6g} of all points (median): remove the point, or mend it"
            )
    return training_set


def _test_points(path: Path, training_set: TrainingSet) -> Points:
    test = _believable(read_training_set(path))
    if test.features.shape[1] != training_set.features.shape[1]:
        raise TrainingError(
            f"{path} has {test.features.shape[1]} features, {training_set.path} has "
            f"{training_set.features.shape[1]}"
        )
    if test.atom and training_set.atom and test.atom != training_set.atom:
        raise TrainingError(
            f"{path} is a set of {test.atom}, not of {training_set.atom} as {training_set.path}: "
            "give --test in the order of the training sets"
        )
    if not set(test.targets) & set(training_set.targets):
        raise TrainingError(f"{path} has none of the properties of {training_set.path}")
    return Points(test.features, test.targets)


def _shared(points: np.ndarray, others: np.ndarray) -> int:
    """Number of rows of `others` that stand among `points`."""
    there = {row.tobytes() for row in np.ascontiguousarray(points)}
    return sum(row.tobytes() in there for row in np.ascontiguousarray(others))


def _far_geometry(data: AtomData, reference: Atoms) -> list[str]:
    """A warning if the reference geometry is far from the training points in its first features.

    Another order of the atoms or another local frame than the features' shows there.
    """
    alf = np.zeros((len(reference), 3), dtype=int)
    alf[data.atom] = data.alf
    here = features(reference.positions[None] / BOHR, alf, data.atom)[0]
    units = ("bohr", "bohr", "radian")
    for h in range(min(3, len(here))):
        low, high = data.training.features[:, h].min(), data.training.features[:, h].max()
        if not 2 * low - high - 0.2 < here[h] < 2 * high - low + 0.2:
            return [
                f"{data.label}: f{h + 1} of --geometry is {here[h]:.3f} {units[h]}, far from "
                f"{low:.3f} to {high:.3f} of the training points: is the order of its atoms "
                f"theirs, and {','.join(str(i + 1) for i in data.alf)} their local frame?"
            ]
    return []
