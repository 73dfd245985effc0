"""Multipolar electrostatics between the atoms of different molecules by direct summation."""

from collections.abc import Sequence
from math import isfinite

import numpy as np

from ase_fflux.base.errors import FFLUXError, GeometryError
from ase_fflux.base.jit import njit
from ase_fflux.forcefield.interactions.base import (
    COINCIDENT,
    Derivatives,
    System,
    raise_for_coincident,
)
from ase_fflux.forcefield.interactions.quasi_internal import (
    FRAME_ROWS,
    LANES,
    PARITY,
    ZERO_ROW,
    contraction,
    coulomb,
    turn_back,
    turn_to_frames,
)
from ase_fflux.model.molecule import MoleculeModel
from ase_fflux.model.multipoles import MAX_RANK, MOMENT_NAMES, n_moments

MAX_LEVEL = 2 * MAX_RANK + 1
"""Level at which two hexadecapoles meet."""


@njit
def _sum(q, following, parity, rank, steps, v):
    """Derivatives of the energy of all pairs of different molecules.

    q (K + 3, S) are the moments and positions of the sites, molecule by molecule; ``following``
    (S,) the first site of the next molecule; ``parity`` (K + 3,) the signs of B's rows. Adds to
    v (K + 3, S) and returns the smallest distance.
    """
    n, n_rows = q.shape[1], q.shape[0]
    block, field = np.empty((n_rows, 2 * LANES)), np.empty((n_rows, 2 * LANES))
    work, frames = np.empty((n_rows, 2 * LANES)), np.empty((FRAME_ROWS, 2 * LANES))
    tensor, power = np.empty((ZERO_ROW + 1, LANES)), np.empty((2 * MAX_RANK + 1, LANES))
    for w in range(LANES):
        tensor[ZERO_ROW, w] = 0.0
    # a block holds runs of one site with consecutive others: site, first other, lanes from, to
    runs = np.empty((LANES, 4), np.int64)
    smallest = np.inf
    i, j = 0, following[0]
    while i < n:
        used, n_runs = 0, 0
        while i < n and used < LANES:
            end = min(LANES, used + n - j)
            if end > used:
                runs[n_runs, 0], runs[n_runs, 1], runs[n_runs, 2], runs[n_runs, 3] = i, j, used, end
                n_runs += 1
            j += end - used
            used = end
            if j == n:
                i += 1
                if i < n:
                    j = following[i]
        for run in range(n_runs):
            a, b, start, end = runs[run, 0], runs[run, 1], runs[run, 2], runs[run, 3]
            for k in range(n_rows):
                for w in range(start, end):
                    block[k, w] = q[k, a]
                    block[k, LANES + w] = parity[k] * q[k, b - start + w]
        turn_to_frames(block, rank, frames, work)
        for w in range(used):
            smallest = min(smallest, frames[0, w])
        coulomb(block, rank, steps, frames, tensor, power, field)
        turn_back(block, field, rank, frames, work)
        for run in range(n_runs):
            a, b, start, end = runs[run, 0], runs[run, 1], runs[run, 2], runs[run, 3]
            for k in range(n_rows):
                total = 0.0
                for w in range(start, end):
                    total += field[k, w]
                    v[k, b - start + w] += parity[k] * field[k, LANES + w]
                v[k, a] += total
    return smallest


def highest_rank(level: int) -> int:
    """Highest rank that takes part at a level: that of a moment which meets a charge."""
    return min(level - 1, MAX_RANK)


class DirectSum:
    """Electrostatics of a cluster: all pairs of atoms of different molecules, without cut-off.

    Parameters
    ----------
    level : int, optional
        Interaction level L from 1 to 9: moments of ranks with l_A + l_B + 1 <= L interact.
    rank : int, optional
        Interaction rank L' from 0 to 4: all moments up to this rank interact. Exactly one of the
        two is given.

    Raises
    ------
    FFLUXError
        A level or rank that does not exist.
    """

    name = "electrostatic"
    cutoff = None
    short_ranged = False

    def __init__(self, level: int | None = None, rank: int | None = None):
        if (level is None) == (rank is None):
            raise FFLUXError("give the interaction level or the interaction rank, not both")
        if level is not None and level not in range(1, MAX_LEVEL + 1):
            raise FFLUXError(f"interaction level {level}: levels go from 1 to {MAX_LEVEL}")
        if rank is not None and rank not in range(MAX_RANK + 1):
            raise FFLUXError(f"interaction rank {rank}: ranks go from 0 to {MAX_RANK}")
        self.level = None if level is None else int(level)
        self.rank = highest_rank(self.level) if rank is None else int(rank)

    @classmethod
    def of_models(
        cls, models: Sequence[MoleculeModel], level: int | None = None, rank: int | None = None
    ) -> "DirectSum":
        """For these models; by default up to the highest rank that all of them have.

        Raises
        ------
        FFLUXError
            A rank that a model does not have. Moments that a *level* asks for beyond those of a
            model count as zero.
        """
        poorest = min(models, key=lambda m: m.rank)
        if level is None and rank is None:
            rank = max(poorest.rank, 0)
        made = cls(level, rank)
        if rank is not None and 0 <= poorest.rank < rank:
            raise FFLUXError(
                f"interaction rank {rank} needs moments up to rank {rank}, but {poorest.name} has "
                f"them up to {poorest.rank}"
            )
        return made

    def check(self, system: System, models: Sequence[MoleculeModel]) -> None:
        """Refuse models without charges; see `Interaction.check`."""
        for model in models:
            if model.rank < 0:
                raise FFLUXError(
                    f"the model {model.name} has no charges or moments, so that molecules cannot "
                    "interact: use electrostatics=False to leave that interaction out"
                )

    def on(self, system: System) -> "DirectSum":
        """Itself; see `Interaction.on`."""
        return self

    def evaluate(self, system: System) -> Derivatives:
        """`direct_sum` of a system; see `Interaction.evaluate`."""
        x, moments, molecule = system.positions, system.moments, system.molecule
        choice = {"rank": self.rank} if self.level is None else {"level": self.level}
        try:
            _, gradient, potential = direct_sum(x, moments, molecule, **choice)
        except GeometryError:
            for a, position in enumerate(x):
                near = np.linalg.norm(x - position, axis=1) < COINCIDENT
                for b in np.flatnonzero(near & (molecule != molecule[a])):
                    raise_for_coincident(system, a, b)
            raise
        # the energy is bilinear in the moments: half of Q dE/dQ is each atom's share
        energies = 0.5 * np.vecdot(moments, potential)
        return Derivatives(energies, gradient, x.T @ gradient, potential)


def direct_sum(
    positions: np.ndarray,
    moments: np.ndarray,
    molecule: np.ndarray,
    level: int | None = None,
    rank: int | None = None,
) -> tuple[float, np.ndarray, np.ndarray]:
    """Electrostatic energy of all pairs of atoms of different molecules, without cut-off.

    Exactly one of ``level`` and ``rank`` says which moments interact.

    Parameters
    ----------
    positions : (S, 3) array
        Positions in bohr.
    moments : (S, K) array
        Moments in global axes, order of `MOMENT_NAMES`, atomic units.
    molecule : (S,) int array
        Atoms with the same number do not interact.
    level : int, optional
        L = 1 ... 9: pairs of ranks with l_A + l_B + 1 <= L.
    rank : int, optional
        L' = 0 ... 4: all pairs of ranks up to L'.

    Returns
    -------
    energy : float
        In hartree.
    gradient : (S, 3) array
        dE/dR at constant global moments in hartree/bohr.
    potential : (S, K) array
        dE/dQ in hartree per atomic unit; zero for ranks that do not take part.

    Raises
    ------
    GeometryError
        Two atoms of different molecules on one spot, or input that is not finite.
    FFLUXError
        A level or rank that does not exist or for which ``moments`` has too few columns.
    """
    if (level is None) == (rank is None):
        raise FFLUXError("give either the level L or the rank L' of the electrostatics")
    name, least, most = ("level", 1, MAX_LEVEL) if rank is None else ("rank", 0, MAX_RANK)
    chosen = level if rank is None else rank
    if not least <= chosen <= most:
        raise FFLUXError(f"{name} {chosen} of the electrostatics: it goes from {least} to {most}")
    if rank is None:
        rank = highest_rank(level)
    else:
        level = 2 * rank + 1
    positions, moments = np.asarray(positions, dtype=float), np.asarray(moments, dtype=float)
    molecule = np.asarray(molecule)
    if moments.shape[1] < n_moments(rank):
        raise FFLUXError(
            f"{name} {chosen} of the electrostatics needs {n_moments(rank)} moments of each atom, "
            f"up to {MOMENT_NAMES[n_moments(rank) - 1]}; there are {moments.shape[1]}: choose a "
            f"lower {name}, or models with these moments"
        )
    gradient, potential = np.zeros_like(positions), np.zeros_like(moments)
    order = np.argsort(molecule, kind="stable")
    molecules = molecule[order]
    if len(order) == 0 or molecules[0] == molecules[-1]:
        return 0.0, gradient, potential
    following = np.searchsorted(molecules, molecules, side="right")
    n_used = n_moments(rank)
    q, parity = np.empty((n_used + 3, len(order))), np.ones(n_used + 3)
    q[:n_used], q[n_used:] = moments[order, :n_used].T, positions[order].T
    parity[:n_used] = PARITY[:n_used]
    v = np.zeros_like(q)
    smallest = _sum(q, following, parity, rank, contraction(rank, level), v)
    if smallest < COINCIDENT:
        raise GeometryError("two atoms of different molecules are on one spot; separate them")
    energy = 0.5 * float(np.vdot(q[:n_used], v[:n_used]))
    if not isfinite(energy):
        raise GeometryError("positions or multipole moments of the atoms are not finite numbers")
    potential[order, :n_used] = v[:n_used].T
    gradient[order] = v[n_used:].T
    return energy, gradient, potential
