"""What models are trained on and tested on, and what is odd about it.

Labels of a molecule (`from_labels`) and training sets of single atoms (`from_sets`) both become a
`TrainingData`, whose jobs `run_jobs` trains.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms

from ase_fflux.base.errors import TrainingError
from ase_fflux.base.text import counted
from ase_fflux.base.units import BOHR
from ase_fflux.labels.dataset import Dataset
from ase_fflux.model.frames import features
from ase_fflux.model.molecule import ENERGY

FEWEST = 10
"""Training points below which nothing is trained."""


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


def split(count: int, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Random indices, ascending, of the points for training and of those held out."""
    order = np.random.default_rng(seed).permutation(count)
    out = round(fraction * count)
    return np.sort(order[out:]), np.sort(order[:out])


def at_random(count: int, seed: int) -> str:
    """Where held-out points come from, of which `split` has chosen so many."""
    return f"{counted(count, 'point')} at random, seed {seed}" if count else "none"


def require_points(path: Path, count: int, fewest: int = FEWEST) -> None:
    """Refuse to train on fewer."""
    if count < fewest:
        raise TrainingError(
            f"{path}: {count} training points are too few, at least {fewest} are needed"
        )


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
