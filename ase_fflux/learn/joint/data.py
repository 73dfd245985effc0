"""Labels as the joint process observes them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ase_fflux.base.errors import TrainingError
from ase_fflux.learn.joint.points import (
    ClassPoints,
    class_points,
    internal_directions,
    term_points,
)
from ase_fflux.model.alf import exchanged_axes
from ase_fflux.model.kernels import USUAL, Form
from ase_fflux.model.symmetry import AtomClass, Symmetry
from ase_fflux.model.terms import DistanceTerm


@dataclass(frozen=True, eq=False)
class JointData:
    """Observations at n labels in atomic units: what each label has, in any mixture.

    Latent are the atomic energies. Observed are e labels' atomic energies, t labels' total
    energies and g labels' gradients of these; rows of labels without a quantity are not used.

    Attributes
    ----------
    classes : list of AtomClass
        Atoms that share processes.
    points : list of ClassPoints
        Of each class, at all labels; then of what stands beside, where the form of the kernels
        has terms.
    energies : list of (m, n) arrays
        Atomic energies of each class.
    directions : (n, 3N, D) array
        Displacements along which gradients are observed.
    gradients : (n, D) array
        Total gradients along them.
    with_gradient : (g,) int array
        Labels with gradients, ascending.
    source : (n,) int array
        Number of the source of each label; each source has noise levels of its own.
    with_energies : (e,) int array
        Labels with atomic energies, ascending.
    totals : (n,) array or None
        Total energies; None where no label's is observed.
    with_total : (t,) int array
        Labels whose total energies are observed, ascending.
    beside : tuple of AtomClass and DistanceTerm
        What may stand beside the processes of the atoms: classes for second frames, then terms.
    beside_points : tuple of ClassPoints
        Of each of these, at all labels, whether the form has terms or not.
    """

    classes: list[AtomClass]
    points: list[ClassPoints]
    energies: list[np.ndarray]
    directions: np.ndarray
    gradients: np.ndarray
    with_gradient: np.ndarray
    source: np.ndarray
    with_energies: np.ndarray
    totals: np.ndarray | None
    with_total: np.ndarray
    beside: tuple[AtomClass | DistanceTerm, ...] = ()
    beside_points: tuple[ClassPoints, ...] = ()

    def __len__(self) -> int:
        return len(self.directions)

    @property
    def n_observed(self) -> tuple[int, int]:
        """Numbers of atomic energies, and of what couples classes: totals and gradients."""
        return (
            self.n_atoms * len(self.with_energies),
            len(self.with_total) + len(self.with_gradient) * self.directions.shape[2],
        )

    @property
    def n_atoms(self) -> int:
        """Number of atoms N."""
        return sum(len(c.atoms) for c in self.classes)

    @property
    def ties(self) -> list[np.ndarray]:
        """(F,) of each of the points: features of the same number have one theta."""
        used = self.beside if self.form.terms else ()
        return [np.unique(c.tie, return_inverse=True)[1] for c in (*self.classes, *used)]

    @property
    def with_both(self) -> np.ndarray:
        """Labels whose atomic energies and total energy are observed."""
        return np.intersect1d(self.with_energies, self.with_total)

    @property
    def latent(self) -> bool:
        """Whether no label has atomic energies."""
        return not len(self.with_energies)

    @property
    def form(self) -> Form:
        """Of the kernels of all classes."""
        return self.points[0].form

    def in_form(self, form: Form) -> "JointData":
        """The same observations for kernels of another form.

        Raises
        ------
        TrainingError
            Terms where atomic energies are observed, which are those of the atoms alone, or where
            there are none.
        """
        if form == self.form:
            return self
        if form.terms and not self.latent:
            raise TrainingError(
                "kernels with terms are for total energies alone: these labels have atomic energies"
            )
        if form.terms and not self.beside:
            raise TrainingError(
                "molecules of up to three atoms have no terms: choose a kernel without"
            )
        points = [*self.points[: len(self.classes)], *(self.beside_points if form.terms else ())]
        return replace(self, points=[p.in_form(form) for p in points])

    def select(self, labels: np.ndarray) -> "JointData":
        """Some of the labels (int array)."""
        labels = np.asarray(labels)
        there = (
            np.flatnonzero(np.isin(labels, having))
            for having in (self.with_gradient, self.with_energies, self.with_total)
        )
        with_gradient, with_energies, with_total = there
        return JointData(
            self.classes, [p.select(labels) for p in self.points],
            [e[:, labels] for e in self.energies], self.directions[labels],
            self.gradients[labels], with_gradient, self.source[labels], with_energies,
            None if self.totals is None else self.totals[labels], with_total, self.beside,
            tuple(p.select(labels) for p in self.beside_points),
        )

    def observed(self, a: int) -> tuple[ClassPoints, ClassPoints, ClassPoints]:
        """Points of class a at the labels with atomic energies, with totals, with gradients."""
        points = self.points[a]
        return (
            points.select(self.with_energies, slopes=False),
            points.select(self.with_total, slopes=False),
            # slopes are large: no copy of all of them
            points if len(self.with_gradient) == len(self) else points.select(self.with_gradient),
        )

    def select_gradients(self, labels: np.ndarray) -> "JointData":
        """All labels, but gradients of these only."""
        return replace(self, with_gradient=np.sort(labels))


def joint_data(
    geometries: np.ndarray,
    atomic_energies: np.ndarray | None,
    gradients: np.ndarray | None,
    alf: np.ndarray,
    symmetry: Symmetry,
    with_gradient: np.ndarray | None = None,
    source: np.ndarray | None = None,
    totals: np.ndarray | None = None,
    with_energies: np.ndarray | None = None,
    with_total: np.ndarray | None = None,
    form: Form = USUAL,
    terms: Sequence[DistanceTerm] = (),
) -> JointData:
    """Observations of labels.

    Parameters
    ----------
    geometries : (n, N, 3) array
        bohr.
    atomic_energies : (n, N) array or None
        hartree; None where no label has any.
    gradients : (n, N, 3) array or None
        Of the total energy, hartree/bohr; None where no label has any.
    alf : (N, 3) int array
        Local frames as `Symmetry.carried_alf` returns them.
    symmetry : Symmetry
        Operations under which the energy does not change.
    with_gradient, with_energies, with_total : int arrays, optional
        Labels whose gradients, atomic energies and total energies are observed; default: all,
        where there are any.
    source : (n,) int array, optional
        Numbers of the sources of the labels, from 0; default: one source.
    totals : (n,) array, optional
        Total energies (hartree), to be observed in place of atomic energies or beside them: the
        noise of these then cancels in the total (`joint.system`).
    form : Form
        Of the kernels.
    terms : sequence of DistanceTerm
        Which may stand beside the atoms where no label has atomic energies, together with second
        processes of the atoms in frames whose axes are exchanged.

    Raises
    ------
    TrainingError
        Labels that are not finite numbers; no energies at all.
    """
    n, n_atoms = geometries.shape[:2]
    if atomic_energies is None and totals is None:
        raise TrainingError(
            "labels without any energy tell no model's energy: total or atomic energies are needed"
        )
    every, none = np.arange(n), np.arange(0)

    def having(given, values):
        if values is None:
            return none
        return every if given is None else np.unique(given).astype(int)

    with_gradient = having(with_gradient, gradients)
    with_energies, with_total = having(with_energies, atomic_energies), having(with_total, totals)
    for name, values, labels in (
        ("geometry", geometries, every), ("atomic energies", atomic_energies, with_energies),
        ("gradient", gradients, with_gradient), ("total energy", totals, with_total),
    ):
        if not len(labels):
            continue
        bad = ~np.isfinite(values[labels].reshape(len(labels), -1)).all(axis=1)
        if bad.any():
            raise TrainingError(
                f"label {labels[np.argmax(bad)] + 1} has numbers that are not finite in its {name}"
            )
    directions = internal_directions(geometries)
    classes = symmetry.classes(alf)
    if atomic_energies is None:
        atomic_energies = np.zeros((n, n_atoms))
    if gradients is None:
        gradients = np.zeros((n, n_atoms, 3))
    terms = () if len(with_energies) else tuple(terms)
    second, exchanged = [], exchanged_axes(alf)
    if terms and alf.shape[0] > 3:  # of three atoms, both frames tell the same
        second = symmetry.classes(exchanged)
    return JointData(
        classes,
        [class_points(geometries, directions, alf, atoms) for atoms in classes],
        [np.ascontiguousarray(atomic_energies[:, atoms.atoms].T) for atoms in classes],
        directions,
        np.einsum("ix,ixd->id", gradients.reshape(n, -1), directions),
        with_gradient,
        np.zeros(n, dtype=int) if source is None else np.asarray(source),
        with_energies, totals, with_total, (*second, *terms),
        (*(class_points(geometries, directions, exchanged, atoms) for atoms in second),
         *(term_points(geometries, directions, term) for term in terms)),
    ).in_form(form)
