"""Relabellings and reflections that leave a molecule's energy as it is, and what atoms share.

Identical nuclei can be exchanged and space can be reflected: an atom of benzene is any of its six
carbons, seen directly or in a mirror. One Gaussian process serves all of them when their features
are taken in corresponding order, in frames that correspond, with polar angles theta replaced by
pi - theta in a mirror image (the azimuths stay: the mirror is the plane of x and y).
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase.symbols import symbols2numbers

from ase_fflux.base.errors import SymmetryWarning
from ase_fflux.model.alf import choose_alf
from ase_fflux.model.relabelling import Operation, feasible_operations, to_other_bonds
from ase_fflux.topology import Pattern
from ase_fflux.topology.superposition import shape_symmetries

MAX_ELEMENTS = 48
"""Relabellings and mirror images that are used at most; each costs its share of a prediction."""
MAX_OF_SHAPE = 120
"""The same for symmetries of a rigid molecule: the icosahedron's, of which few keep a frame."""
_MOST = 20_000
"""Operations that are looked for."""
_TRIED = 500
"""Operations that are tried on top of the symmetries of the geometry."""
_SAME_SHAPE = 0.3, 0.1, 0.03
"""bohr; distances of atoms from their images, tried in turn."""


@dataclass(frozen=True, eq=False)
class AtomClass:
    """Atoms that share a process: its arguments are the features of the first of them.

    Attributes
    ----------
    atoms : tuple of int
        The m members.
    order : (m, F) int array
        Feature h of the process is feature ``order[a, h]`` of member a,
    mirrored : (m,) bool array
        with polar angles reflected where this is set.
    view_order, view_mirrored : (V, F) int array, (V,) bool array
        The same for images of the first atom onto itself in its own frame, the identity first.
    tie : (F,) int array
        Number of the theta of each feature: features that views exchange have one theta.
    """

    atoms: tuple[int, ...]
    order: np.ndarray
    mirrored: np.ndarray
    view_order: np.ndarray
    view_mirrored: np.ndarray
    tie: np.ndarray


@dataclass(frozen=True, eq=False)
class Symmetry:
    """Operations x'[i] = P x[permutations[g, i]], P a reflection where ``mirrored[g]``.

    They form a group; ``permutations`` (G, N), ``mirrored`` (G,), the identity first.
    """

    permutations: np.ndarray
    mirrored: np.ndarray

    @classmethod
    def none(cls, n_atoms: int) -> "Symmetry":
        """The identity alone."""
        return cls(np.arange(n_atoms)[None], np.zeros(1, dtype=bool))

    def __len__(self) -> int:
        return len(self.mirrored)

    def carried_alf(self, alf: np.ndarray) -> np.ndarray:
        """Local frames (N, 3) in which equivalent atoms have corresponding frames.

        The first atom of each class keeps its frame.
        """
        carried = np.array(alf)
        for first, members in self._orbits():
            for atom, (permutation, _) in members:
                frame = alf[first]
                carried[atom] = np.where(frame < 0, -1, permutation[frame])
        return carried

    def _orbits(self):
        """(first atom, [(member, (permutation, mirrored) that puts it in the first's place)]).

        The operations are products of as few generators as possible, those of the highest order
        and without mirror first (the rotations of benzene), so that one operation carries the
        frames of all atoms together.
        """
        generators = sorted(
            zip(self.permutations, self.mirrored.tolist(), strict=True),
            key=lambda g: (g[1], -_order(g[0])),
        )
        seen = set()
        for first in range(self.permutations.shape[1]):
            if first in seen:
                continue
            members = {first: (np.arange(self.permutations.shape[1]), False)}
            chosen = []
            for generator in generators:
                if int(generator[0][first]) in members:
                    continue
                chosen.append(generator)
                grown = True
                while grown:
                    grown = False
                    for permutation, mirrored in list(members.values()):
                        for g, g_mirrored in chosen:
                            product = g[permutation]
                            if int(product[first]) not in members:
                                members[int(product[first])] = product, mirrored != g_mirrored
                                grown = True
            seen |= members.keys()
            yield first, sorted(members.items())

    def classes(self, alf: np.ndarray) -> list[AtomClass]:
        """Atoms that share processes, for frames alf (N, 3) as `carried_alf` returns them."""
        alf = np.asarray(alf)
        found = []
        for first, members in self._orbits():
            order = [feature_order(g, alf, first, atom) for atom, (g, _) in members]
            views = []
            for permutation, mirrored in zip(self.permutations, self.mirrored, strict=True):
                frame = alf[first]
                if np.array_equal(permutation[frame[frame >= 0]], frame[frame >= 0]):
                    image = feature_order(permutation, alf, first, first)
                    # without polar angles a mirror image looks the same
                    mirrored = bool(mirrored) and alf.shape[0] > 3
                    views.append((tuple(image), mirrored))
            views = list(dict.fromkeys(views))
            view_order = np.array([v for v, _ in views])
            found.append(AtomClass(
                tuple(atom for atom, _ in members), np.array(order),
                np.array([mirrored for _, (_, mirrored) in members]),
                view_order, np.array([m for _, m in views]), view_order.min(axis=0),
            ))
        return found


def _order(permutation: np.ndarray) -> int:
    """Number of times after which a permutation is the identity."""
    image, order = permutation, 1
    while not np.array_equal(image, np.arange(len(image))):
        image, order = permutation[image], order + 1
    return order


def polar_angles(n: int) -> np.ndarray:
    """(F,) mask of the features that are polar angles theta: the 5th, 8th, 11th, ..."""
    h = np.arange(1, n + 1)
    return (h > 3) & (h % 3 == 2)


def reflection_signs(properties: Sequence[str]) -> np.ndarray:
    """(P,) factor that a reflection in the xy-plane of the frame puts to each property.

    Energies are even; a real spherical moment of rank l and component m changes its sign if l + m
    is odd.
    """
    return np.array([
        -1.0 if name.startswith("q") and (int(name[1]) + int(name[2])) % 2 else 1.0
        for name in properties
    ])


def feature_order(
    permutation: np.ndarray, alf: np.ndarray, first: int, atom: int,
    there: np.ndarray | None = None,
) -> np.ndarray:
    """(F,) for every feature of ``first``, that of ``atom`` which an operation puts in its place.

    ``permutation`` (N,) takes ``first`` and its frame in alf (N, 3) to ``atom`` and its frame in
    ``there`` (N, 3), by default alf as well.
    """
    n_atoms = len(alf)
    if n_atoms == 2:
        return np.zeros(1, dtype=int)
    frame = (alf if there is None else there)[atom]
    place = {n: i for i, n in enumerate(n for n in range(n_atoms) if n not in frame)}
    others = [n for n in range(n_atoms) if n not in alf[first]]
    triples = [3 + 3 * place[int(permutation[n])] + np.arange(3) for n in others]
    return np.concatenate([np.arange(3), *triples])


def find_symmetry(
    numbers: Sequence[int], geometry: np.ndarray, seen: np.ndarray | None = None
) -> Symmetry:
    """Operations that keep elements, bonds and what no vibration changes around an atom.

    Around atoms of four neighbours that is their handedness, around those of five and more (and of
    four in a plane) which neighbours are next to and opposite each other. Labels that differ in it
    are the same molecule as well, but no vibration leads there.

    Where bonds move (the proton of acetylacetone, which goes from one oxygen to the other), the
    operations are those that keep the set of bonded graphs seen: each that takes the bonds of the
    minimum to other ones, of the same graph, that some geometry has.

    Parameters
    ----------
    numbers : (N,) ints
        Atomic numbers.
    geometry : (N, 3) array
        A minimum (bohr).
    seen : (G, N, 3) array, optional
        Geometries that the molecule goes through (bohr), such as those of labels.

    Returns
    -------
    Symmetry
        If there are more than `MAX_ELEMENTS`, the symmetries of the geometry itself, with as many
        of the others as make a group of at most that many.

    Warns
    -----
    SymmetryWarning
        If operations are left out.
    """
    numbers, geometry = np.asarray(numbers), np.asarray(geometry, dtype=float)
    pattern = Pattern.from_geometry("", numbers, geometry)
    feasible = feasible_operations(pattern, geometry, _MOST)
    moved = [] if seen is None else to_other_bonds(pattern, geometry, seen)
    if moved and len(feasible) <= _MOST:
        # a product of operations that bonds allow is one as well
        feasible = _generated([*sorted(feasible), *moved], _MOST) or feasible
    if len(feasible) <= MAX_ELEMENTS:
        return _as_symmetry(feasible)
    complete = len(feasible) <= _MOST
    group = _of_shape(pattern, geometry)
    identity = tuple(range(len(numbers)))
    # those that move few atoms first: a methyl group turns before two of them do
    rest = sorted(
        feasible - group, key=lambda g: (sum(i != j for i, j in enumerate(g[0])), g[1], g[0])
    )
    for operation in rest[:_TRIED] if complete else [(identity, True)] * (
        (identity, True) in feasible
    ):
        if operation not in group:
            group = _generated([*group, operation], MAX_ELEMENTS) or group
    if not complete or len(group) < len(feasible):
        count = f"{len(feasible):,}" if complete else f"more than {_MOST:,}"
        warnings.warn(
            f"{pattern.formula} has {count} relabellings and mirror images of the same energy; "
            f"{len(group)} of them are used, the symmetries of its geometry first: the model has "
            "to learn the others (such as turns of a methyl group) from labels that show them",
            SymmetryWarning, stacklevel=1,  # one place, so that it is shown once
        )
    return _as_symmetry(group)


def symmetry_and_frames(
    symbols: Sequence[str], geometry: np.ndarray, symmetric: bool = True,
    seen: np.ndarray | None = None,
) -> tuple[Symmetry, np.ndarray]:
    """Symmetry of a molecule and local frames (N, 3) that go with it, before labels are paid for.

    Parameters
    ----------
    symbols : sequence of str
    geometry : (N, 3) array
        A minimum (bohr).
    symmetric : bool
        Whether to look for symmetry.
    seen : (G, N, 3) array, optional
        Geometries that the molecule goes through (bohr), see `find_symmetry`.

    Raises
    ------
    GeometryError
        What has no local frames.
    """
    numbers = symbols2numbers(list(symbols))
    symmetry = Symmetry.none(len(numbers))
    if symmetric:
        symmetry = find_symmetry(numbers, geometry, seen)
    return symmetry, symmetry.carried_alf(choose_alf(numbers, geometry, symmetry.permutations))


def _as_symmetry(group: set[Operation]) -> Symmetry:
    identity = tuple(range(len(next(iter(group))[0])))
    ordered = sorted(group, key=lambda g: (g != (identity, False), g[1], g[0]))
    return Symmetry(np.array([g for g, _ in ordered]), np.array([m for _, m in ordered]))


def _of_shape(pattern: Pattern, geometry: np.ndarray) -> set[Operation]:
    """The group of rotations, reflections and improper rotations of a geometry."""
    for tolerance in _SAME_SHAPE:
        permutations, proper, improper = shape_symmetries(pattern, geometry, tolerance)
        operations = [
            (tuple(p), mirrored)
            for kind, mirrored in ((proper, False), (improper, True))
            for p in permutations[kind].tolist()
        ]
        # of a distorted geometry some are found and their product is not: products are symmetries
        # of the energy as well
        group = _generated(operations, MAX_OF_SHAPE)
        if group is not None:
            return group
    return {(tuple(range(len(geometry))), False)}


def _generated(operations: Sequence[Operation], most: int) -> set[Operation] | None:
    """The group that operations generate; None if it has more than ``most`` elements."""
    identity = tuple(range(len(operations[0][0])))
    group, new = {(identity, False)}, [(identity, False)]
    generators: list[Operation] = []
    for operation in operations:
        if operation in group:
            continue
        generators.append(operation)
        new = list(group)
        while new:
            products = {
                (tuple(p[i] for i in q), m != n) for p, m in new for q, n in generators
            } - group
            group |= products
            if len(group) > most:
                return None
            new = list(products)
    return group
