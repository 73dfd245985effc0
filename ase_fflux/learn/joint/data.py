"""Labels as the joint process observes them."""

from dataclasses import dataclass, replace

import numpy as np

from ase_fflux.base.errors import TrainingError
from ase_fflux.learn.joint.points import ClassPoints, class_points, internal_directions
from ase_fflux.model.symmetry import AtomClass, Symmetry


@dataclass(frozen=True, eq=False)
class JointData:
    """Observations at n labels, g of which have gradients; atomic units.

    Attributes
    ----------
    classes : list of AtomClass
        Atoms that share processes.
    points : list of ClassPoints
        Of each class, at all labels.
    energies : list of (m, n) arrays
        Atomic energies of each class.
    directions : (n, 3N, D) array
        Displacements along which gradients are observed.
    gradients : (n, D) array
        Total gradients along them; rows of labels without gradient are not used.
    with_gradient : (g,) int array
        Labels with gradients, ascending.
    source : (n,) int array
        Number of the source of each label; each source has noise levels of its own.
    """

    classes: list[AtomClass]
    points: list[ClassPoints]
    energies: list[np.ndarray]
    directions: np.ndarray
    gradients: np.ndarray
    with_gradient: np.ndarray
    source: np.ndarray

    def __len__(self) -> int:
        return len(self.directions)

    @property
    def n_observed(self) -> tuple[int, int]:
        """Numbers of energies and of components of gradients."""
        return (
            sum(e.size for e in self.energies),
            len(self.with_gradient) * self.directions.shape[2],
        )

    def select(self, labels: np.ndarray) -> "JointData":
        """Some of the labels (int array)."""
        labels = np.asarray(labels)
        return JointData(
            self.classes, [p.select(labels) for p in self.points],
            [e[:, labels] for e in self.energies], self.directions[labels],
            self.gradients[labels], np.flatnonzero(np.isin(labels, self.with_gradient)),
            self.source[labels],
        )

    def select_gradients(self, labels: np.ndarray) -> "JointData":
        """All labels, but gradients of these only."""
        return replace(self, with_gradient=np.sort(labels))


def joint_data(
    geometries: np.ndarray,
    atomic_energies: np.ndarray,
    gradients: np.ndarray,
    alf: np.ndarray,
    symmetry: Symmetry,
    with_gradient: np.ndarray | None = None,
    source: np.ndarray | None = None,
) -> JointData:
    """Observations of labels.

    Parameters
    ----------
    geometries : (n, N, 3) array
        bohr.
    atomic_energies : (n, N) array
        hartree.
    gradients : (n, N, 3) array
        Of the total energy, hartree/bohr.
    alf : (N, 3) int array
        Local frames as `Symmetry.carried_alf` returns them.
    symmetry : Symmetry
        Operations under which the energy does not change.
    with_gradient : (g,) int array, optional
        Labels whose gradients are used; default: all.
    source : (n,) int array, optional
        Numbers of the sources of the labels, from 0; default: one source.

    Raises
    ------
    TrainingError
        Labels that are not finite numbers.
    """
    n = len(geometries)
    for name, values in (
        ("geometry", geometries), ("atomic energies", atomic_energies), ("gradient", gradients)
    ):
        bad = ~np.isfinite(values.reshape(n, -1)).all(axis=1)
        if bad.any():
            raise TrainingError(
                f"label {np.argmax(bad) + 1} has numbers that are not finite in its {name}"
            )
    directions = internal_directions(geometries)
    classes = symmetry.classes(alf)
    return JointData(
        classes,
        [class_points(geometries, directions, alf, atoms) for atoms in classes],
        [np.ascontiguousarray(atomic_energies[:, atoms.atoms].T) for atoms in classes],
        directions,
        np.einsum("ix,ixd->id", gradients.reshape(n, -1), directions),
        np.arange(n) if with_gradient is None else np.unique(with_gradient),
        np.zeros(n, dtype=int) if source is None else np.asarray(source),
    )
