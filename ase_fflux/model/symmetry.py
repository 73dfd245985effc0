"""Relabellings and reflections that leave a molecule's energy as it is, and what atoms share.

Identical nuclei can be exchanged and space can be reflected: an atom of benzene is any of its six
carbons, seen directly or in a mirror. One Gaussian process serves all of them when their features
are taken in corresponding order, in frames that correspond, with polar angles theta replaced by
pi - theta in a mirror image (the azimuths stay: the mirror is the plane of x and y).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ase_fflux.topology import Pattern

MAX_ELEMENTS = 48
"""Relabellings and mirror images that are used at most; each costs its share of a prediction."""
_SAME_DISTANCE = 0.3
"""bohr"""


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


def _closed(permutations: np.ndarray, mirrored: np.ndarray) -> bool:
    """Whether the product of any two operations is one of them."""
    known = {(*p, m) for p, m in zip(permutations.tolist(), mirrored.tolist(), strict=True)}
    return all(
        (*q[p].tolist(), bool(m != o)) in known
        for p, m in zip(permutations, mirrored, strict=True)
        for q, o in zip(permutations, mirrored, strict=True)
    )


def reflection_signs(properties: Sequence[str]) -> np.ndarray:
    """(P,) factor that a reflection in the xy-plane of the frame puts to each property.

    Energies are even; a real spherical moment of rank l and component m changes its sign if l + m
    is odd.
    """
    return np.array([
        -1.0 if name.startswith("q") and (int(name[1]) + int(name[2])) % 2 else 1.0
        for name in properties
    ])


def feature_order(permutation: np.ndarray, alf: np.ndarray, first: int, atom: int) -> np.ndarray:
    """(F,) for every feature of ``first``, that of ``atom`` which an operation puts in its place.

    ``permutation`` (N,) takes ``first`` and its frame to ``atom`` and its frame in alf (N, 3).
    """
    n_atoms = len(alf)
    if n_atoms == 2:
        return np.zeros(1, dtype=int)
    place = {n: i for i, n in enumerate(n for n in range(n_atoms) if n not in alf[atom])}
    others = [n for n in range(n_atoms) if n not in alf[first]]
    triples = [3 + 3 * place[int(permutation[n])] + np.arange(3) for n in others]
    return np.concatenate([np.arange(3), *triples])


def find_symmetry(numbers: Sequence[int], geometry: np.ndarray) -> Symmetry:
    """Operations that keep elements, bonds and the handedness of atoms with four neighbours.

    Labels that differ in handedness are the same molecule as well, but no vibration leads there.

    Parameters
    ----------
    numbers : (N,) ints
        Atomic numbers.
    geometry : (N, 3) array
        A minimum (bohr).

    Returns
    -------
    Symmetry
        If there are more than `MAX_ELEMENTS`, only those that are symmetries of the geometry
        itself; if these are still too many, or it is too distorted for them to form a group, the
        identity, and the reflection of a molecule without atoms of four neighbours.
    """
    numbers, geometry = np.asarray(numbers), np.asarray(geometry, dtype=float)
    pattern = Pattern.from_geometry("", numbers, geometry)
    permutations = pattern.automorphisms
    sign = pattern.handedness(geometry[None])[0]
    images = pattern.handedness(geometry[permutations])
    kept = [(parity * images * sign >= 0).all(axis=1) for parity in (1, -1)]
    permutations = np.concatenate([permutations[k] for k in kept])
    mirrored = np.repeat([False, True], [k.sum() for k in kept])
    trivial = (permutations == np.arange(len(numbers))).all(axis=1)
    if len(mirrored) > MAX_ELEMENTS:
        distance = np.linalg.norm(geometry[:, None] - geometry, axis=-1)
        images = distance[permutations[:, :, None], permutations[:, None, :]]
        chosen = (np.abs(images - distance) < _SAME_DISTANCE).all(axis=(1, 2))
        if chosen.sum() > MAX_ELEMENTS or not _closed(permutations[chosen], mirrored[chosen]):
            chosen = trivial
        permutations, mirrored, trivial = permutations[chosen], mirrored[chosen], trivial[chosen]
    first = np.argsort(~trivial | mirrored, kind="stable")
    return Symmetry(permutations[first], mirrored[first])
