"""Multipole moments of equivalent atoms by one process: its jobs, and its weights with all images.

Length scales are searched as for any process, on the points of all atoms of a class; the weights
then come from the covariance summed over the images of the points, with the sign that a moment
gets under reflection.

A label with symmetry is its own image: two of its atoms (or two labels that are images of each
other) are then one point with one target. Such points are merged; the weight is the first's.
Moments that symmetry makes vanish are zero, and do not take part in the search.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.spatial import cKDTree

from ase_fflux.base.errors import TrainingError
from ase_fflux.base.machine import threads_of
from ase_fflux.learn.gp.settings import TrainingSettings
from ase_fflux.learn.gp.training import TrainingResult
from ase_fflux.model.kernels import KERNELS, Kernel
from ase_fflux.model.molecule import ENERGY
from ase_fflux.model.shared import SharedProcess, transformed
from ase_fflux.model.symmetry import AtomClass, reflection_signs
from ase_fflux.training.jobs import Job
from ase_fflux.training.molecule import MOMENTS, AtomTargets, atom_jobs

SEARCH_POINTS = 1000
"""Points that length scales are searched on at most; the weights are of all."""
_COINCIDENT = 1e-6
"""Distance (bohr, radian) of points that are one but for rounding. Symmetry that is broken by more
makes two points, whose moments differ as they should."""
_SAME_MOMENTS = 1e-2
"""Moments (atomic units) of one point that differ by more contradict each other."""


@dataclass(frozen=True, eq=False)
class MomentJob:
    """A search for length scales, and what they are for.

    Attributes
    ----------
    job : Job
        On those of the properties that do not vanish.
    properties : tuple of str
        All that the process gives.
    atoms : AtomClass
        Whose they are.
    """

    job: Job
    properties: tuple[str, ...]
    atoms: AtomClass


def class_targets(atoms: Sequence[AtomTargets], members: AtomClass) -> AtomTargets:
    """The moments of all atoms of a class, as its first atom's process sees them.

    Three atoms lie in the mirror: what is odd is zero.
    """
    chosen = [atoms[a] for a in members.atoms]
    names = [name for name in chosen[0].targets if name != ENERGY]
    signs = reflection_signs(names)
    features = np.concatenate([
        transformed(data.features, order, mirrored, np.pi)
        for data, order, mirrored in zip(chosen, members.order, members.mirrored, strict=True)
    ])
    if features.shape[1] == 3:
        signs = np.maximum(signs, 0.0)
    return AtomTargets(chosen[0].atom, chosen[0].label, features, {
        name: np.concatenate([
            (sign if mirrored or sign == 0 else 1.0) * data.targets[name]
            for data, mirrored in zip(chosen, members.mirrored, strict=True)
        ])
        for name, sign in zip(names, signs, strict=True)
    })


def moment_jobs(
    atoms: Sequence[AtomTargets], classes: Sequence[AtomClass], settings: TrainingSettings,
    moments: str = MOMENTS[0],
) -> list[MomentJob]:
    """Searches for the length scales of the moments of all classes.

    Parameters
    ----------
    atoms : sequence of AtomTargets
        All atoms of the molecule, with frames that correspond (`Symmetry.carried_alf`).
    classes : sequence of AtomClass
        Atoms that share processes.
    settings : TrainingSettings
        How.
    moments : str
        One of `ase_fflux.training.molecule.MOMENTS`.

    Raises
    ------
    TrainingError
        Labels of one geometry (or its image) whose moments differ.
    """
    rng = np.random.default_rng(settings.seed)
    found = []
    for members in classes:
        data = class_targets(atoms, members)
        # the search knows no images: points that only views make one are two to it
        same = _Coincident(data, members, views=False)
        points = np.sort(rng.permutation(same.kept)[:SEARCH_POINTS])
        some = AtomTargets(
            data.atom, data.label, data.features[points],
            {name: same.merged(name)[points] for name in data.targets},
        )
        found += [
            MomentJob(_without_vanishing(job), job.properties, members)
            for job in atom_jobs([some], settings, moments)
        ]
    return found


def _without_vanishing(job: Job) -> Job:
    """The job without targets that are zero everywhere, as far as there are others."""
    some = job.targets.any(axis=1)
    if some.all() or not some.any():
        return job
    names = tuple(np.array(job.properties)[some].tolist())
    return replace(job, properties=names, targets=job.targets[some])


def shared_moments(
    atoms: Sequence[AtomTargets], jobs: Sequence[MomentJob], results: Mapping[str, TrainingResult],
) -> list[SharedProcess]:
    """Processes with the length scales found by `moment_jobs`."""
    found = []
    for one in jobs:
        data = class_targets(atoms, one.atoms)
        with threads_of(len(data.features)):
            found.append(_process(data, one, results[one.job.name]))
    return found


def _process(data: AtomTargets, wanted: MomentJob, result: TrainingResult) -> SharedProcess:
    members = wanted.atoms
    tie = np.unique(members.tie, return_inverse=True)[1]
    theta = np.exp(np.bincount(tie, result.log_theta) / np.bincount(tie))[tie]
    kernel = KERNELS[wanted.job.settings.kernel](theta)
    noise = result.process.noise
    same = _Coincident(data, members)
    signs = reflection_signs(wanted.properties)
    targets = np.array([same.merged(name)[same.kept] for name in wanted.properties])
    mean, weights = np.zeros(len(targets)), np.zeros((len(targets), len(data.features)))
    for sign in np.unique(signs):
        chosen = np.flatnonzero((signs == sign) & targets.any(axis=1))
        if not len(chosen):
            continue  # what vanishes by symmetry is zero
        k = _covariance(kernel, data.features[same.kept], members, sign)
        k[np.diag_indices_from(k)] += noise
        right = np.column_stack([np.ones(len(k)), targets[chosen].T])
        solved = cho_solve(cho_factor(k, lower=True, overwrite_a=True), right)
        if sign > 0 or not members.view_mirrored.any():
            mean[chosen] = targets[chosen] @ solved[:, 0] / solved[:, 0].sum()
        weights[np.ix_(chosen, same.kept)] = (
            solved[:, 1:] - np.outer(solved[:, 0], mean[chosen])
        ).T
    return SharedProcess(
        members, wanted.properties, kernel, mean,
        weights.reshape(len(targets), len(members.atoms), -1), noise,
    )


class _Coincident:
    """Points of a class that are one, because they or images of them have the same features.

    Attributes
    ----------
    kept : (k,) int array
        The first of each, ascending.
    """

    def __init__(self, data: AtomTargets, members: AtomClass, views: bool = True):
        self._targets = data.targets
        count, n_features = data.features.shape
        kernel = KERNELS["periodic"](np.ones(n_features))
        tree = cKDTree(kernel.columns(data.features))
        # which point each is one with, and the sign that an odd moment has there
        first, odd = np.arange(count), np.ones(count)
        for order, mirrored in zip(members.view_order, members.view_mirrored, strict=True):
            image = kernel.columns(transformed(data.features, order, mirrored, np.pi))
            near = cKDTree(image).query_ball_tree(tree, _COINCIDENT)
            for i, others in enumerate(near):
                for j in others:
                    if first[i] == i and i < first[j] and first[j] == j:
                        first[j], odd[j] = i, -1.0 if mirrored else 1.0
            if not views:
                break  # the first view is the identity
        self._first, self._odd = first, odd
        self.kept = np.flatnonzero(first == np.arange(count))

    def merged(self, name: str) -> np.ndarray:
        """(n,) means of the targets of points that are one, in the frame of the first of them.

        Raises
        ------
        TrainingError
            If they differ.
        """
        values = self._targets[name]
        here = values * (self._odd if reflection_signs([name])[0] < 0 else 1.0)
        counts = np.bincount(self._first, minlength=len(values))
        mean = np.bincount(self._first, here, len(values)) / np.maximum(counts, 1)
        off = np.abs(here - mean[self._first])
        if off.max() > _SAME_MOMENTS:
            worst = int(np.argmax(off))
            raise TrainingError(
                f"{name} is {here[worst]:.4f} and {here[self._first[worst]]:.4f} at training "
                f"points {self._first[worst] + 1} and {worst + 1}, which are one geometry or "
                "images of it: remove the label that is wrong"
            )
        return mean


def _covariance(kernel: Kernel, features, members: AtomClass, sign: float) -> np.ndarray:
    """(m n, m n) covariances summed over images, for outputs of that sign under reflection."""
    return sum(
        (sign if mirrored else 1.0)
        * kernel.matrix(features, transformed(features, order, mirrored, np.pi))
        for order, mirrored in zip(members.view_order, members.view_mirrored, strict=True)
    )
