"""Moments of many sites between their local frames and the global one."""

import numpy as np

from ase_fflux.base.jit import njit
from ase_fflux.model.multipoles import (
    MOMENT_NAMES,
    moment_rank,
    rotation_matrices,
    to_global,
    to_local,
    torque,
)


@njit
def moments_to_global(frames, local):
    """Global moments (S, K) of local moments (S, K) in frames (S, 3, 3), rows are local axes."""
    rank = int(np.sqrt(local.shape[1])) - 1
    rotation = np.zeros((5, 9, 9))
    moments = np.zeros(local.shape)
    for s in range(local.shape[0]):
        rotation_matrices(frames[s], rank, rotation)
        to_global(rotation, rank, local[s], moments[s])
    return moments


@njit
def adjoint_to_local(frames, local, potential):
    """Adjoint of `moments_to_global`.

    Parameters
    ----------
    frames : (S, 3, 3) array
        Rows are the local axes.
    local : (S, K) array
        Local moments.
    potential : (S, K) array
        dE/dQ of the global moments.

    Returns
    -------
    (S, K) array
        dE/dQ of the local moments.
    (S, 3) array
        Torques on the frames, dE/d omega, in components along their axes.
    """
    rank = int(np.sqrt(local.shape[1])) - 1
    rotation = np.zeros((5, 9, 9))
    seeds = np.zeros(local.shape)
    torques = np.zeros((local.shape[0], 3))
    for s in range(local.shape[0]):
        rotation_matrices(frames[s], rank, rotation)
        to_local(rotation, rank, potential[s], seeds[s])
        torque(seeds[s], local[s], rank, torques[s])
    return seeds, torques


def axial_moments(local: np.ndarray) -> np.ndarray:
    """Local moments (S, K) averaged over turns about x, the bond of a diatomic molecule.

    Which way y points means nothing there. Cosine parts with l + m even are left, and those of
    one rank are multiples of one number.
    """
    names = MOMENT_NAMES[: local.shape[1]]
    # a mean over more turns than the rank leaves what does not depend on the angle
    angles = 2.0 * np.pi * np.arange(moment_rank(names[-1]) + 1) / (moment_rank(names[-1]) + 1)
    turned = []
    for c, s in zip(np.cos(angles), np.sin(angles), strict=True):
        axes = np.array([[1.0, 0.0, 0.0], [0.0, c, s], [0.0, -s, c]])
        frames = np.broadcast_to(axes, (len(local), 3, 3)).copy()
        turned.append(adjoint_to_local(frames, np.zeros_like(local), local)[0])
    vanish = [n.endswith("s") or (moment_rank(n) + int(n[2])) % 2 == 1 for n in names]
    return np.where(vanish, 0.0, np.mean(turned, axis=0))
