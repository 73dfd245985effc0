"""The points that an ablation trains one model on and tests it with, from a file of either kind."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ase_fflux.base.errors import TrainingError
from ase_fflux.base.units import BOHR
from ase_fflux.formats import read_training_set
from ase_fflux.model.molecule import ENERGY
from ase_fflux.training.data import AtomData, Points, split
from ase_fflux.training.from_labels import read_labels
from ase_fflux.training.molecule import equivalent_atoms

_HELD_OUT = 0.1


@dataclass(frozen=True, eq=False)
class AblationPoints:
    """One property of one atom.

    Parameters
    ----------
    name : str
        Such as ``C1 iqa``.
    features, targets : (n, F) and (n,) arrays
        Training points (bohr, radian; atomic units).
    test_features, test_targets : (m, F) and (m,) arrays
        Held-out points.
    related : mapping of str to (features, targets)
        Training points of models whose length scales may be taken over, ``from C1 iqa``, with
        features in the same order.
    """

    name: str
    features: np.ndarray
    targets: np.ndarray
    test_features: np.ndarray
    test_targets: np.ndarray
    related: Mapping[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)

    def __post_init__(self):
        if np.ptp(self.targets) == 0:
            raise TrainingError(f"{self.name} is constant: there is nothing to learn")


def read_points(
    path: Path, test: Path | None = None, atom: str | None = None, name: str = ENERGY, seed: int = 0
) -> AblationPoints:
    """Read training and held-out points.

    Parameters
    ----------
    path : Path
        Labelled dataset, or a training set (``.csv``) of one atom.
    test : Path, optional
        Held-out points in a file of the same kind. Without it, 10 % of the points, chosen at
        random, are held out.
    atom : str, optional
        ``C1`` or ``1``, counted from 1; the first by default. A training set has but one.
    name : str
        Property: ``iqa`` or a moment.
    seed : int
        Of the points that are held out.

    Raises
    ------
    FFLUXError
        Files of two kinds or molecules, an atom or a property that they do not have; as
        `read_labels` and `read_training_set`.
    """
    if test is not None and _is_training_set(test) != _is_training_set(path):
        raise TrainingError(f"{test} must be of the same kind as {path}: both datasets or both CSV")
    read = _of_training_set if _is_training_set(path) else _of_dataset
    return read(path, test, atom, name, seed)


def _is_training_set(path: Path) -> bool:
    return path.suffix.lower() == ".csv"


def _of_dataset(path, test, atom, name, seed):
    data = read_labels(path, test, _HELD_OUT, seed, None)
    one = data.atoms[_atom(atom, data.atoms, path)]
    _check(path, one.training, name)
    related = _energy(one.label, one.training, name)
    symbols, geometry = data.dataset.symbols, data.reference.positions / BOHR
    same = equivalent_atoms(symbols, geometry, data.alf)
    if one.atom in same:
        twin, order = same[one.atom]
        other = data.atoms[twin]
        related[f"from {other.label} {name}"] = (
            other.training.features[:, order], other.training.targets[name]
        )
    return _points(one.label, name, one.training, one.test, related)


def _atom(atom: str | None, atoms: Sequence[AtomData], path: Path) -> int:
    if atom is None:
        return 0
    parts = re.fullmatch(r"([A-Za-z]*)([0-9]{1,6})", atom)
    a = int(parts[2]) - 1 if parts else -1
    known = [one.label for one in atoms]
    if not 0 <= a < len(known) or parts[1] and atom.capitalize() != known[a]:
        raise TrainingError(f"{path}: no atom '{atom}'; there are {', '.join(known)}")
    return a


def _of_training_set(path, test, atom, name, seed):
    if atom is not None:
        raise TrainingError(f"{path} holds one atom: leave --atom {atom} out")
    one = read_training_set(path)
    training = Points(one.features, one.targets)
    _check(path, training, name)
    if test is None:
        training, held_out = map(training.select, split(len(one), _HELD_OUT, seed))
    else:
        other = read_training_set(test)
        held_out = Points(other.features, other.targets)
        _check(test, held_out, name)
        if (other.features.shape[1], other.atom or one.atom) != (
                one.features.shape[1], one.atom or other.atom):
            raise TrainingError(
                f"{test} ({other.features.shape[1]} features of {other.atom or 'an atom'}) and "
                f"{path} ({one.features.shape[1]} of {one.atom or 'an atom'}) must be of one atom"
            )
    label = one.atom or path.stem
    return _points(label, name, training, held_out, _energy(label, training, name))


def _check(path: Path, points: Points, name: str) -> None:
    if name not in points.targets:
        raise TrainingError(f"{path}: no property '{name}'; there are {', '.join(points.targets)}")


def _energy(label: str, training: Points, name: str) -> dict:
    """The energy's model, related to all others of the atom."""
    if name == ENERGY or ENERGY not in training.targets:
        return {}
    return {f"from {label} {ENERGY}": (training.features, training.targets[ENERGY])}


def _points(label, name, training: Points, held_out: Points, related: dict) -> AblationPoints:
    if not len(held_out):
        raise TrainingError(f"{label}: {len(training)} points are too few to hold a tenth out")
    return AblationPoints(
        f"{label} {name}", training.features, training.targets[name], held_out.features,
        held_out.targets[name], related,
    )
