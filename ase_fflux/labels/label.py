"""Reference data of one geometry, and of many geometries of one molecule, in atomic units.

Every quantity but the geometry may be absent (None): a cheap source has no atomic energies, a dear
one no gradient, a data set of another program neither.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isqrt

import numpy as np

from ase_fflux.base.errors import LabelError

TOLERANCE = 1e-8
"""Hartree; by how much atomic energies miss the total where a label does not say."""

UNKNOWN = "unknown"
"""Method or origin of labels that do not tell it."""


@dataclass(frozen=True)
class Label:
    """Reference data of one geometry of N atoms, in atomic units.

    Parameters
    ----------
    symbols : tuple of str
        Elements.
    geometry : (N, 3) array
        Positions (bohr).
    energy : float, optional
        Total energy (hartree).
    gradient : (N, 3) array, optional
        Gradient of the total energy (hartree/bohr).
    atomic_energies : (N,) array, optional
        Atom-resolved energies, which sum to the total within the tolerance (hartree).
    moments : (N, (l + 1)^2) array, optional
        Real spherical moments about the nuclei, nuclear charge included, to rank l in the global
        frame, in the order of `ase_fflux.model.multipoles.MOMENT_NAMES` (atomic units).
    dipole : (3,) array, optional
        Molecular dipole about the origin of the coordinates (e bohr).
    method : str
        Level of theory, one word.
    partition : str
        How the molecule is divided into atoms, one word; empty where the method implies it.
    tolerance : float
        How well the atomic energies sum to the total (hartree).
    settings : mapping of str to str, int, float or bool
        What else the numbers depend on.
    versions : mapping of str to str
        Versions of the programs that made it.
    errors : (N,) array, optional
        Integration error of every atom (hartree).

    Raises
    ------
    LabelError
        Arrays of a wrong shape.
    """

    symbols: tuple[str, ...]
    geometry: np.ndarray
    energy: float | None = None
    gradient: np.ndarray | None = None
    atomic_energies: np.ndarray | None = None
    moments: np.ndarray | None = None
    dipole: np.ndarray | None = None
    method: str = UNKNOWN
    partition: str = ""
    tolerance: float = TOLERANCE
    settings: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    errors: np.ndarray | None = None

    def __post_init__(self):
        n = len(self.symbols)
        shapes = {"geometry": (n, 3), "gradient": (n, 3), "atomic_energies": (n,),
                  "errors": (n,), "dipole": (3,)}
        for name, shape in shapes.items():
            value = getattr(self, name)
            if value is not None and np.shape(value) != shape:
                raise LabelError(
                    f"{name} of {''.join(self.symbols)} has the shape {np.shape(value)} instead of "
                    f"{shape}"
                )
        shape = np.shape(self.moments)
        if self.moments is not None and not (
            len(shape) == 2 and shape[0] == n and shape[1] == isqrt(shape[1]) ** 2 > 0
        ):
            raise LabelError(
                f"moments of {''.join(self.symbols)} have the shape {shape} instead of {n} atoms "
                "times 1, 4, 9, 16 or 25"
            )

    def __repr__(self) -> str:
        return f"<Label of {''.join(self.symbols)}: {_contents(self)}>"

    @property
    def rank(self) -> int:
        """Highest rank of the moments, -1 where there are none."""
        return rank_of(self.moments)

    @property
    def charges(self) -> np.ndarray | None:
        """Atomic charges (N,) in e."""
        return None if self.rank < 0 else self.moments[:, 0]

    @property
    def atomic_dipoles(self) -> np.ndarray | None:
        """Atomic dipoles x, y, z (N, 3) in e bohr."""
        return None if self.rank < 1 else self.moments[:, [2, 3, 1]]

    @property
    def quantities(self) -> tuple[str, ...]:
        """Names of what is there, the moments with their rank."""
        names = ("energy", "gradient", "atomic_energies", "dipole", "errors")
        found = [name for name in names if getattr(self, name) is not None]
        return (*found, *((f"moments to rank {self.rank}",) if self.rank >= 0 else ()))


@dataclass(frozen=True)
class Dataset:
    """n labels of one molecule of N atoms as arrays in atomic units.

    What is None is absent from all labels.

    Parameters
    ----------
    symbols : tuple of str
        Element of each of the N atoms.
    geometries : (n, N, 3) array
        Positions (bohr).
    energies : (n,) array, optional
        Total energies (hartree).
    gradients : (n, N, 3) array, optional
        Gradients of the total energy (hartree/bohr).
    atomic_energies : (n, N) array, optional
        Atom-resolved energies (hartree).
    moments : (n, N, (l + 1)^2) array, optional
        Real spherical moments q00, q10, ... to rank l in the global frame, in the order of
        `ase_fflux.model.multipoles.MOMENT_NAMES` (atomic units).
    dipoles : (n, 3) array, optional
        Molecular dipoles about the origin of the coordinates (e bohr).
    origins : (n,) array of str, optional
        Where each geometry comes from; ``unknown`` by default.
    method : str
        Level of theory.
    partition : str
        How the molecule is divided into atoms; empty where the method implies it.
    tolerance : float
        How well the atomic energies sum to the total (hartree).
    settings : mapping of str to str, int, float or bool
        What else the numbers depend on.
    versions : mapping of str to str
        Versions of the programs that made them, all that were used, separated by commas.
    errors : (n, N) array, optional
        Integration error of every atom (hartree).
    """

    symbols: tuple[str, ...]
    geometries: np.ndarray
    energies: np.ndarray | None = None
    gradients: np.ndarray | None = None
    atomic_energies: np.ndarray | None = None
    moments: np.ndarray | None = None
    dipoles: np.ndarray | None = None
    origins: np.ndarray | None = None
    method: str = UNKNOWN
    partition: str = ""
    tolerance: float = TOLERANCE
    settings: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    errors: np.ndarray | None = None

    def __post_init__(self):
        if self.origins is None:
            object.__setattr__(self, "origins", np.full(len(self.geometries), UNKNOWN))

    def __repr__(self) -> str:
        return f"<Dataset of {len(self)} labels of {''.join(self.symbols)}: {_contents(self)}>"

    def __len__(self) -> int:
        return len(self.geometries)

    @property
    def rank(self) -> int:
        """Highest rank of the moments, -1 where there are none."""
        return rank_of(self.moments)

    @property
    def count_of_origin(self) -> dict[str, int]:
        """How many labels there are of each origin."""
        names, counts = np.unique(self.origins, return_counts=True)
        return dict(zip(names.tolist(), counts.tolist(), strict=True))

    def select(self, index) -> "Dataset":
        """Labels chosen by a slice, an integer array or a boolean mask."""
        return replace(self, **{
            name: getattr(self, name)[index] for name in _PER_LABEL
            if getattr(self, name) is not None
        })

    def missing(self, names: Iterable[str]) -> list[str]:
        """Those of some quantities that the labels have not."""
        return [name for name in names if getattr(self, name) is None]


_PER_LABEL = (
    "geometries", "energies", "gradients", "atomic_energies", "moments", "dipoles", "origins",
    "errors",
)


def _contents(labels: "Label | Dataset") -> str:
    """Level and quantities in words."""
    names = ("energy", "energies", "gradient", "gradients", "atomic_energies", "dipole", "dipoles")
    found = [n.replace("_", " ") for n in names if getattr(labels, n, None) is not None]
    if labels.rank >= 0:
        found.append(f"moments to rank {labels.rank}")
    level = f"{labels.method}{f', {labels.partition}' if labels.partition else ''}"
    return f"{', '.join(found) or 'geometries alone'} ({level}), atomic units"


def dataset_of(labels: Iterable[Label], origins: Iterable[str] | None = None) -> Dataset:
    """Labels of one molecule at one level, all with the same quantities, as arrays.

    Raises
    ------
    LabelError
        No labels, or labels that do not belong together; names the label (from 1).
    """
    labels = list(labels)
    if not labels:
        raise LabelError("no labels")
    first = labels[0]
    for number, label in enumerate(labels, 1):
        if difference := differs(label, first):
            raise LabelError(f"label {number} is not like label 1: {difference}")

    def stacked(name):
        there = getattr(first, name) is not None
        return np.array([getattr(label, name) for label in labels]) if there else None

    return Dataset(
        first.symbols, stacked("geometry"), stacked("energy"), stacked("gradient"),
        stacked("atomic_energies"), stacked("moments"), stacked("dipole"),
        None if origins is None else np.array(list(origins)), first.method, first.partition,
        first.tolerance, next((x.settings for x in labels if x.settings), {}),
        all_versions(labels), stacked("errors"),
    )


def labels_of(dataset: Dataset) -> list[Label]:
    """The labels of a set one by one."""
    def at(name, index):
        values = getattr(dataset, name)
        return None if values is None else values[index]

    return [
        Label(
            dataset.symbols, dataset.geometries[i], at("energies", i), at("gradients", i),
            at("atomic_energies", i), at("moments", i), at("dipoles", i), dataset.method,
            dataset.partition, dataset.tolerance, dataset.settings, dataset.versions,
            at("errors", i),
        )
        for i in range(len(dataset))
    ]


def joined(datasets: Sequence[Dataset]) -> Dataset:
    """Labels of several sets as one; raises as `dataset_of`."""
    return dataset_of(
        (label for dataset in datasets for label in labels_of(dataset)),
        (origin for dataset in datasets for origin in dataset.origins),
    )


def differs(label: Label, other: Label) -> str:
    """Why two labels do not belong into one set, in words; empty where they do.

    Versions may differ, and a label without settings (of an early version of this package) goes
    with any.
    """
    for what, name in (
        ("atoms", "symbols"), ("method", "method"), ("partition", "partition"),
        ("quantities", "quantities"),
    ):
        one, two = getattr(label, name), getattr(other, name)
        if one != two:
            one, two = (", ".join(x) if isinstance(x, tuple) else x for x in (one, two))
            return f"{what} {one or 'none'} instead of {two or 'none'}"
    if not np.isclose(label.tolerance, other.tolerance, rtol=1e-5, atol=0):
        return f"tolerance {label.tolerance:.3g} Ha instead of {other.tolerance:.3g} Ha"
    if label.settings and other.settings:
        for name in sorted({*label.settings, *other.settings}):
            one, two = (x.settings.get(name, "none") for x in (label, other))
            if one != two:
                return f"setting {name} {one} instead of {two}"
    return ""


def all_versions(labels: Iterable[Label]) -> dict[str, str]:
    """All versions of each program, in the order in which they come."""
    found: dict[str, dict[str, None]] = {}
    for label in labels:
        for program, version in label.versions.items():
            found.setdefault(program, {})[version] = None
    return {program: ", ".join(seen) for program, seen in found.items()}


def rank_of(moments: np.ndarray | None) -> int:
    """Highest rank of moments (..., (l + 1)^2), -1 for None."""
    return -1 if moments is None else isqrt(np.shape(moments)[-1]) - 1
