"""Moments of many sites between their local frames and the global one."""

import numpy as np

from ase_fflux.base.jit import njit
from ase_fflux.model.multipoles import rotation_matrices, to_global, to_local, torque


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
