r"""Parts of a molecule's energy that are functions of distances and belong to no atom.

A product kernel over all features of an atom hardly carries what it knows of a bond from one
torsion to another. Where atomic energies are latent, nothing binds the energy to atoms, and two
kinds of terms stand beside them, all functions of inverse distances:

- one of all distances of the molecule at once, symmetric under all its operations: the descriptor
  of sGDML (Chmiela et al., Nat. Commun. 2018, 9, 3887) with a length scale for each kind;
- one of a single distance for each kind of pair of atoms (elements, and bonds between them), the
  same for all pairs of the kind.
"""

from collections import defaultdict
from dataclasses import dataclass, replace

import numpy as np

from ase_fflux.model.kernels import Form, Kernel
from ase_fflux.model.process import GaussianProcess
from ase_fflux.model.symmetry import Symmetry

FAR = 4
"""Bonds between two atoms from which on pairs of the same elements are of one kind."""


@dataclass(frozen=True, eq=False)
class DistanceTerm:
    """A function of C distances that occurs m times in a molecule.

    Attributes
    ----------
    pairs : (m, C, 2) int array
        Atoms of each distance.
    view_column : (V, C) int array
        Images of a member onto itself, a group: column c is seen as column ``view_column[v, c]``;
        the identity first.
    tie : (C,) int array
        Number of the theta of each column.
    """

    pairs: np.ndarray
    view_column: np.ndarray
    tie: np.ndarray

    def columns(self, geometries: np.ndarray) -> np.ndarray:
        """Inverse distances (m, n, C) at geometries (n, N, 3)."""
        return inverse_distances(geometries, self.pairs)

    def slopes(self, geometries: np.ndarray, along: np.ndarray) -> np.ndarray:
        """Derivatives (m, n, C, D) of `columns` along displacements (n, N, 3, D)."""
        columns = self.columns(geometries)
        found = np.empty((*columns.shape, along.shape[3]))
        for m, member in enumerate(self.pairs):
            for c, (i, j) in enumerate(member):
                apart = geometries[:, i] - geometries[:, j]
                found[m, :, c] = -columns[m, :, c, None] ** 3 * np.einsum(
                    "nx,nxd->nd", apart, along[:, i] - along[:, j]
                )
        return found


def inverse_distances(geometries: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """1/R (m, n, C) of pairs (m, C, 2) of atoms at geometries (n, N, 3)."""
    apart = geometries[:, pairs[..., 0]] - geometries[:, pairs[..., 1]]
    return np.ascontiguousarray(1.0 / np.linalg.norm(apart, axis=-1).transpose(1, 0, 2))


def distance_terms(symbols, bonds_between: np.ndarray, symmetry: Symmetry) -> list[DistanceTerm]:
    """The terms of a molecule.

    Parameters
    ----------
    symbols : sequence of str
        Elements.
    bonds_between : (N, N) int array
        Number of bonds between atoms; where there is no path, any large number.
    symmetry : Symmetry
        Operations under which the sum of the terms does not change.
    """
    n = len(symbols)
    pairs = [(i, j) for i in range(n) for j in range(i + 1, n)]
    column = {pair: c for c, pair in enumerate(pairs)}
    images = [
        [column[min(p[i], p[j]), max(p[i], p[j])] for i, j in pairs]
        for p in symmetry.permutations.tolist()
    ]
    views = np.array(list(dict.fromkeys(map(tuple, images))))
    orbit = views.min(axis=0)
    terms = [DistanceTerm(np.array([pairs]), views, np.unique(orbit, return_inverse=True)[1])]
    kinds: dict[int, tuple[str, str, int]] = {}
    for c, (i, j) in enumerate(pairs):  # of an orbit as of its member of fewest bonds between
        one, other = sorted((symbols[i], symbols[j]))
        kind = one, other, min(int(bonds_between[i, j]), FAR)
        kinds[orbit[c]] = min(kind, kinds.get(orbit[c], kind))
    members = defaultdict(list)
    for c, pair in enumerate(pairs):
        members[kinds[orbit[c]]].append([pair])
    alone = np.zeros(1, dtype=int)
    terms += [DistanceTerm(np.array(members[kind]), alone[None], alone) for kind in sorted(members)]
    return terms


@dataclass(frozen=True, eq=False)
class TermProcess:
    """The process of a term in the form in which it is trained and stored.

    Its weights are those of the total energies and gradients, which all processes of a molecule
    have in common.

    Attributes
    ----------
    term : DistanceTerm
    theta : (C,) array
        1 / (2 l^2) of the columns (bohr^2).
    variance : float
        Prior variance s^2 (hartree^2).
    rational : bool
        Whether the kernel is the rational quadratic one.
    """

    term: DistanceTerm
    theta: np.ndarray
    variance: float
    rational: bool

    def expand(self, geometries, total_weights, gradient_weights) -> "MoleculeTerm":
        """The term of a model trained at geometries (n, N, 3) with dual weights (n,), (n, N, 3)."""
        term = self.term
        columns = term.columns(geometries)
        slopes = term.slopes(geometries, gradient_weights[..., None])[..., 0]
        size, zero = columns.shape[2], np.zeros(columns.shape[2])
        return MoleculeTerm(term.pairs, term.view_column, GaussianProcess(
            columns.reshape(-1, size), Kernel(self.theta, zero, zero, Form(rational=self.rational)),
            np.zeros(1), self.variance * np.tile(total_weights, len(columns))[None],
            derivative_weights=self.variance * slopes.reshape(1, -1, size),
        ))


@dataclass(frozen=True, eq=False)
class MoleculeTerm:
    """A trained term of a molecule.

    Attributes
    ----------
    pairs, view_column
        As of `DistanceTerm`.
    gp : GaussianProcess
        Of inverse distances (1/bohr), one output (hartree); each member in each of its images
        is compared with all points.
    """

    pairs: np.ndarray
    view_column: np.ndarray
    gp: GaussianProcess

    def columns(self, geometries: np.ndarray) -> np.ndarray:
        """As `DistanceTerm.columns`."""
        return inverse_distances(geometries, self.pairs)

    def energies(self, geometries: np.ndarray) -> np.ndarray:
        """(n,) what it adds to the energies of geometries (n, N, 3)."""
        return sum(
            self.gp.predict(member[:, view])[0]
            for member in self.columns(geometries) for view in self.view_column
        )

    def renumbered(self, atoms: np.ndarray) -> "MoleculeTerm":
        """The same where atom i is called ``atoms[i]``."""
        return replace(self, pairs=np.asarray(atoms)[self.pairs])
