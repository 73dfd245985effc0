"""Where the processes of a molecule are observed: columns of all atoms and their slopes.

A gradient of n labels of N atoms is observed along D = 3N - 6 directions: the remaining six,
translation and rotation, hold no information, and without them matrices are smaller by
(3N / (3N - 6))^2. For each atom that shares a process, label by label, the columns of the kernel
(features and, of azimuths, cosine and sine) and their derivatives along these directions are
computed once; what the length scales are does not matter here. Terms of distances
(`ase_fflux.model.terms`) are classes of points like those of atoms, whose columns are inverse
distances whatever the form.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from ase_fflux.base.rigid import internal_motions
from ase_fflux.model.frames import extended_jacobians, n_features
from ase_fflux.model.kernels import USUAL, Form, azimuths, distances
from ase_fflux.model.symmetry import AtomClass, polar_angles
from ase_fflux.model.terms import DistanceTerm


@dataclass(frozen=True, eq=False)
class ClassPoints:
    """Points of one class of m atoms at n labels; C columns.

    Attributes
    ----------
    form : Form
        Of the kernel: whether distances are columns as 1/R, and how it falls.
    columns : (m, n, C) array
        Columns at unit theta, in the order of the first atom's features. Polar angles are counted
        from pi/2, so that a reflection changes their sign.
    slopes : (m, n, C, D) array
        Their derivatives along the directions of the label.
    feature : (C,) int array
        Feature of each column.
    view_column, view_sign : (V, C) arrays
        Column c of view v is ``view_sign[v, c]`` times column ``view_column[v, c]``.
    of_distances : bool
        Whether it is a term of distances.
    """

    form: Form
    columns: np.ndarray
    slopes: np.ndarray
    feature: np.ndarray
    view_column: np.ndarray
    view_sign: np.ndarray
    of_distances: bool = False

    @property
    def flat_columns(self) -> np.ndarray:
        """(m n, C) columns, atom by atom."""
        return self.columns.reshape(-1, self.columns.shape[2])

    @cached_property
    def stacked_slopes(self) -> np.ndarray:
        """(n, m C, D) slopes, label by label."""
        n_members, n, n_columns, n_directions = self.slopes.shape
        by_label = np.ascontiguousarray(self.slopes.transpose(1, 0, 2, 3))
        return by_label.reshape(n, n_members * n_columns, n_directions)

    def select(self, labels, slopes: bool = True) -> "ClassPoints":
        """The points at some of the labels; energies alone need no slopes."""
        chosen = self.slopes[:, labels] if slopes else self.slopes[:, labels, :, :0]
        return replace(
            self, columns=np.ascontiguousarray(self.columns[:, labels]),
            slopes=np.ascontiguousarray(chosen),
        )

    def in_form(self, form: Form) -> "ClassPoints":
        """The same points for a kernel of another form."""
        warped = form.inverse != self.form.inverse and not self.of_distances
        return replace(self._warped() if warped else self, form=form)

    @property
    def units(self) -> np.ndarray:
        """(F,) what a feature changes by where that of the model files changes by 1.

        1 but for distances that enter as 1/R.
        """
        unit = np.ones(int(self.feature.max()) + 1)
        warped = np.ones(len(self.feature), dtype=bool)
        if not self.of_distances:
            warped = distances(len(unit))[self.feature] & self.form.inverse
        unit[self.feature[warped]] = np.square(self.flat_columns[:, warped]).mean(axis=0)
        return unit

    def _warped(self) -> "ClassPoints":
        """With distances turned into their inverses; 1/R is its own inverse function."""
        warped = distances(int(self.feature.max()) + 1)[self.feature]
        columns, slopes = self.columns.copy(), self.slopes.copy()
        columns[..., warped] = 1.0 / columns[..., warped]
        slopes[..., warped, :] *= -(columns[..., warped, None] ** 2)
        return replace(self, columns=columns, slopes=slopes)


def internal_directions(geometries: np.ndarray) -> np.ndarray:
    """Orthonormal displacements (G, 3N, D) that neither translate nor rotate geometries (G, N, 3).

    D = 3N - 6, or 1 for a diatomic molecule.
    """
    n_atoms = geometries.shape[1]
    _, internal = internal_motions(geometries, external=3 * n_atoms - n_features(n_atoms))
    return np.ascontiguousarray(internal.swapaxes(1, 2))


def class_points(
    geometries: np.ndarray, directions: np.ndarray, alf: np.ndarray, atoms: AtomClass,
    form: Form = USUAL,
) -> ClassPoints:
    """Points of a class of atoms.

    Parameters
    ----------
    geometries : (n, N, 3) array
        bohr.
    directions : (n, 3N, D) array
        Those of `internal_directions`.
    alf : (N, 3) int array
        Local frames that correspond to each other (`Symmetry.carried_alf`).
    atoms : AtomClass
        Which atoms.
    form : Form
        Of the kernel.

    Raises
    ------
    GeometryError
        Where features are not defined.
    """
    f = n_features(geometries.shape[1])
    phi, polar = azimuths(f), polar_angles(f)
    plain, circle = np.flatnonzero(~phi), np.flatnonzero(phi)
    feature = np.concatenate([plain, circle, circle])
    # columns of the extended features [f, cos f, sin f]
    slot = np.concatenate([plain, f + circle, 2 * f + circle])
    place = {int(s): c for c, s in enumerate(slot)}
    shape = len(atoms.atoms), len(geometries), len(slot)
    columns, slopes = np.empty(shape), np.empty((*shape, directions.shape[2]))
    for m, atom in enumerate(atoms.atoms):
        order, sign = _column_order(atoms.order[m], atoms.mirrored[m], slot, place, f, polar)
        extended, jacobians = extended_jacobians(geometries, alf, atom, slot[order])
        values = extended[:, slot[order]]
        values[:, polar[feature]] -= 0.5 * np.pi
        columns[m] = sign * values
        slopes[m] = sign[:, None] * (jacobians.reshape(*jacobians.shape[:2], -1) @ directions)
    views = [
        _column_order(order, mirrored, slot, place, f, polar)
        for order, mirrored in zip(atoms.view_order, atoms.view_mirrored, strict=True)
    ]
    return ClassPoints(
        USUAL, columns, slopes, feature, np.array([v for v, _ in views]),
        np.array([s for _, s in views]),
    ).in_form(form)


def term_points(
    geometries: np.ndarray, directions: np.ndarray, term: DistanceTerm, form: Form = USUAL
) -> ClassPoints:
    """Points of a term of distances; parameters as of `class_points`."""
    along = directions.reshape(*geometries.shape, directions.shape[2])
    return ClassPoints(
        form, term.columns(geometries), term.slopes(geometries, along),
        np.arange(len(term.tie)), term.view_column, np.ones(term.view_column.shape), True,
    )


def _column_order(order, mirrored, slot, place, f, polar):
    """Column that takes the place of each column, and its sign."""
    kind, feature = np.divmod(slot, f)
    columns = np.array([place[k * f + order[h]] for k, h in zip(kind, feature, strict=True)])
    return columns, np.where(mirrored & polar[feature], -1.0, 1.0)
