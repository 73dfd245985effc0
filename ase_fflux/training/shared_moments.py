"""Multipole moments of equivalent atoms by one process: its jobs, and its weights with all images.

Length scales are searched as for any process, on the points of all atoms of a class; the weights
then come from the covariance summed over the images of the points, with the sign that a moment
gets under reflection.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.linalg import cho_factor, cho_solve

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


def class_targets(atoms: Sequence[AtomTargets], members: AtomClass) -> AtomTargets:
    """The moments of all atoms of a class, as its first atom's process sees them."""
    chosen = [atoms[a] for a in members.atoms]
    names = [name for name in chosen[0].targets if name != ENERGY]
    signs = reflection_signs(names)
    features = np.concatenate([
        transformed(data.features, order, mirrored, np.pi)
        for data, order, mirrored in zip(chosen, members.order, members.mirrored, strict=True)
    ])
    return AtomTargets(chosen[0].atom, chosen[0].label, features, {
        name: np.concatenate([
            (sign if mirrored else 1.0) * data.targets[name]
            for data, mirrored in zip(chosen, members.mirrored, strict=True)
        ])
        for name, sign in zip(names, signs, strict=True)
    })


def moment_jobs(
    atoms: Sequence[AtomTargets], classes: Sequence[AtomClass], settings: TrainingSettings,
    moments: str = MOMENTS[0],
) -> list[tuple[Job, AtomClass]]:
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
    """
    rng = np.random.default_rng(settings.seed)
    found = []
    for members in classes:
        data = class_targets(atoms, members)
        points = np.sort(rng.permutation(len(data.features))[:SEARCH_POINTS])
        some = AtomTargets(
            data.atom, data.label, data.features[points],
            {name: values[points] for name, values in data.targets.items()},
        )
        found += [(job, members) for job in atom_jobs([some], settings, moments)]
    return found


def shared_moments(
    atoms: Sequence[AtomTargets], jobs: Sequence[tuple[Job, AtomClass]],
    results: Mapping[str, TrainingResult],
) -> list[SharedProcess]:
    """Processes with the length scales found by `moment_jobs`."""
    found = []
    for job, members in jobs:
        data = class_targets(atoms, members)
        with threads_of(len(data.features)):
            found.append(_process(data, job, members, results[job.name]))
    return found


def _process(data, job, members, result) -> SharedProcess:
    tie = np.unique(members.tie, return_inverse=True)[1]
    theta = np.exp(np.bincount(tie, result.log_theta) / np.bincount(tie))[tie]
    kernel = KERNELS[job.settings.kernel](theta)
    noise = result.process.noise
    signs = reflection_signs(job.properties)
    targets = np.array([data.targets[name] for name in job.properties])
    mean, weights = np.zeros(len(targets)), np.zeros_like(targets)
    for sign in np.unique(signs):
        chosen = signs == sign
        if sign < 0 and data.features.shape[1] == 3:
            continue  # three atoms lie in the mirror: what is odd is zero
        k = _covariance(kernel, data.features, members, sign)
        k[np.diag_indices_from(k)] += noise
        right = np.column_stack([np.ones(len(k)), targets[chosen].T])
        solved = cho_solve(cho_factor(k, lower=True, overwrite_a=True), right)
        if sign > 0 or not members.view_mirrored.any():
            mean[chosen] = targets[chosen] @ solved[:, 0] / solved[:, 0].sum()
        weights[chosen] = (solved[:, 1:] - np.outer(solved[:, 0], mean[chosen])).T
    return SharedProcess(
        members, job.properties, kernel, mean,
        weights.reshape(len(targets), len(members.atoms), -1), noise,
    )


def _covariance(kernel: Kernel, features, members: AtomClass, sign: float) -> np.ndarray:
    """(m n, m n) covariances summed over images, for outputs of that sign under reflection."""
    return sum(
        (sign if mirrored else 1.0)
        * kernel.matrix(features, transformed(features, order, mirrored, np.pi))
        for order, mirrored in zip(members.view_order, members.view_mirrored, strict=True)
    )
