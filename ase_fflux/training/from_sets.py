"""Training data from training sets of single atoms.

Whatever does not fit together is refused here, before anything is trained.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ase import Atoms

from ase_fflux.base.errors import TrainingError
from ase_fflux.base.units import BOHR
from ase_fflux.formats.training_set import TrainingSet, read_training_set
from ase_fflux.labels.checks import outlier, outlier_limit
from ase_fflux.model.alf import choose_alf
from ase_fflux.training.data import (
    AtomData,
    Points,
    TrainingData,
    at_random,
    require_points,
    split,
)


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
        As in `from_labels.read_labels`.
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
    system, n_atoms = _molecule(sets), sets[0].n_atoms
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
        element, frame = _identity(training_set, alf[i] if alf else None, geometry, chosen)
        if frame[0] in atoms:
            raise TrainingError(f"{paths[i]}: atom {element}{frame[0] + 1} is trained twice")
        points = Points(training_set.features, training_set.targets)
        if tests:
            held_out = ", ".join(path.name for path in tests)
            test = _test_points(tests[i], training_set)
        else:
            kept, out = split(len(points), hold_out, seed)
            held_out = at_random(len(out), seed)
            points, test = points.select(kept), points.select(out) if len(out) else None
        require_points(paths[i], len(points))
        atoms[frame[0]] = AtomData(frame[0], element, frame, points, test)
    ordered = tuple(atoms[a] for a in sorted(atoms))
    return TrainingData(system, n_atoms, ordered, geometry, held_out)


def _molecule(sets: Sequence[TrainingSet]) -> str:
    """Name of the molecule that all are of."""
    first = sets[0]
    for other in sets[1:]:
        if other.n_atoms != first.n_atoms:
            raise TrainingError(
                f"{other.path} has {other.features.shape[1]} features, {first.path} has "
                f"{first.features.shape[1]}: they are not atoms of one molecule"
            )
    systems = {s.system.upper(): s.system for s in sets if s.system}
    if len(systems) > 1:
        raise TrainingError(
            f"training sets of several molecules ({', '.join(sorted(systems))}): train them one "
            "after the other"
        )
    return next(iter(systems.values()), "molecule")


def _identity(
    s: TrainingSet, given: tuple[int, ...] | None, geometry: Atoms | None, chosen
) -> tuple[str, tuple[int, int, int]]:
    """Element and local frame (0-based) of a training set's atom."""
    named = int(re.sub("[^0-9]", "", s.atom)) - 1 if s.atom else None
    frame = s.alf if given is None else _given_frame(s, given, named)
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


def _given_frame(
    s: TrainingSet, given: tuple[int, ...], named: int | None
) -> tuple[int, int, int]:
    """A local frame of --alf (0-based), which may not be another than the name of the file tells.

    `named` is the atom of that name.
    """
    wanted = 2 if s.n_atoms == 2 else 3
    text = ",".join(map(str, given))
    if len(given) != wanted or len(set(given)) < wanted or not (
        1 <= min(given) and max(given) <= s.n_atoms
    ):
        raise TrainingError(
            f"--alf {text} of {s.path}: {wanted} different atoms from 1 to {s.n_atoms} are needed"
        )
    atom, x, xy = (*(i - 1 for i in given), -1)[:3]
    if (named is not None and named != atom) or s.alf not in (None, (atom, x, xy)):
        raise TrainingError(
            f"--alf {text} is not a local frame of {s.path}, to judge by its name: give them "
            "in the order of the files"
        )
    return atom, x, xy


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
