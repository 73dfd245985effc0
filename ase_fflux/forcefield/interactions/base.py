"""What an interaction between molecules is: the protocol that the force field sums over.

The force field knows molecules; an interaction knows sites at positions with global moments. It
returns derivatives by both at constant other, and the force field carries dE/dQ back through the
rotation of the moments, the processes and the features.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from ase_fflux.base.errors import GeometryError
from ase_fflux.base.threads import run, slices
from ase_fflux.base.workspace import Workspace
from ase_fflux.forcefield.interactions.neighbours import Pairs
from ase_fflux.model.molecule import MoleculeModel
from ase_fflux.topology.graphs import atom_label

COINCIDENT = 1e-4
"""Distance (bohr) below which atoms of different molecules are on one spot."""

_PAIRS, _MOST_PARTS = 10000, 8
"""Pairs worth a part of their own, and parts at most: each has its own sums."""


class System(NamedTuple):
    """The sites that interact, in atomic units.

    Attributes
    ----------
    positions : (n, 3) array
        bohr; no molecule is cut at the boundary of the cell.
    numbers : (n,) int array
        Atomic numbers.
    molecule : (n,) int array
        Atoms with the same number are one molecule: they do not interact, but they do with the
        periodic images of that molecule.
    cell : (3, 3) array
        Cell vectors in rows, bohr; zero where there is none.
    pbc : (3,) bool array
        Periodic directions.
    moments : (n, K) array or None
        Moments in global axes, in the order of `MOMENT_NAMES`; None where no interaction needs
        them, and in `Interaction.check`, which comes before they are known.
    pairs : Pairs or None
        Neighbours within the cut-off of the interaction, and some beyond; None where it has none.
    sites : (n,) int array or None
        Which site of the force field each atom is: the atoms of its models counted through; None
        in `Interaction.check`.
    workspace : Workspace or None
        Memory that is used again by the next evaluation, see `room`.
    threads : int
        How many may work at once; what they compute does not depend on it.
    """

    positions: np.ndarray
    numbers: np.ndarray
    molecule: np.ndarray
    cell: np.ndarray
    pbc: np.ndarray
    moments: np.ndarray | None = None
    pairs: Pairs | None = None
    sites: np.ndarray | None = None
    workspace: Workspace | None = None
    threads: int = 1

    @property
    def periodic(self) -> bool:
        """Whether any direction is periodic."""
        return bool(self.pbc.any())

    @property
    def room(self) -> Workspace:
        """The workspace, a new one where there is none."""
        return Workspace() if self.workspace is None else self.workspace


class Derivatives(NamedTuple):
    """Energy of an interaction and its derivatives.

    Attributes
    ----------
    energies : (n,) array
        Hartree, each atom's share; the energy is their sum.
    gradient : (n, 3) array
        dE/dR at constant global moments, hartree/bohr.
    virial : (3, 3) array
        dE/d strain at constant global moments, hartree; its symmetric part counts, for moments
        that a strain does not turn leave a torque.
    potential : (n, K) array or None
        dE/dQ at constant positions; None where the energy does not depend on moments.
    """

    energies: np.ndarray
    gradient: np.ndarray
    virial: np.ndarray
    potential: np.ndarray | None = None


class Interaction(Protocol):
    """An energy between molecules; immutable, picklable, and the same from any thread.

    Attributes
    ----------
    name : str
        By which `Results.terms` has its energy.
    rank : int
        Highest rank of moments that it reads, -1 if none.
    cutoff : float or None
        Distance (bohr) to which it needs `System.pairs`; None if it needs none.
    short_ranged : bool
        Whether it keeps molecules apart.
    """

    name: str
    rank: int
    cutoff: float | None
    short_ranged: bool

    def check(self, system: System, models: Sequence[MoleculeModel]) -> None:
        """Refuse what cannot be done, before anything is computed.

        Parameters
        ----------
        system : System
            Without moments and pairs.
        models : sequence of MoleculeModel
            Of the molecules that are there.

        Raises
        ------
        FFLUXError
            Saying what is missing and what to do about it.
        """

    def on(self, system: System) -> "Interaction":
        """The interaction that does the work for a system: itself, or one with its parameters.

        Parameters
        ----------
        system : System
            That has passed `check`, without moments and pairs.
        """

    def evaluate(self, system: System) -> Derivatives:
        """Energies and derivatives.

        Raises
        ------
        GeometryError
            Atoms of different molecules on one spot, or numbers that are not finite.
        """


def add_parts(function: Callable, n_pairs: int, system: System, *arrays: np.ndarray) -> None:
    """Add what pairs do to arrays, on several threads where there are many pairs.

    Parameters
    ----------
    function : callable
        ``function(part, *arrays)`` adds what the pairs of a slice do.
    n_pairs : int
    system : System
        Of which threads and workspace count.
    arrays : arrays, in and out
    """
    n_parts = 1
    while n_parts < _MOST_PARTS and n_pairs > _PAIRS * n_parts:
        n_parts *= 2
    if n_parts == 1:
        function(slice(0, n_pairs), *arrays)
        return

    room = system.room

    def one(k, part):
        own = [room.zeros(f"part {k} of {i}", array.shape) for i, array in enumerate(arrays)]
        function(part, *own)
        return own

    for own in run(one, enumerate(slices(n_pairs, n_parts)), system.threads):
        for array, share in zip(arrays, own, strict=True):
            array += share


def raise_for_coincident(system: System, a: int, b: int) -> None:
    """Raise the GeometryError that names atoms a and b."""
    a, b = sorted((int(a), int(b)))
    image = " (or periodic images)" if system.periodic else ""
    raise GeometryError(
        f"{atom_label(a, system.numbers)} and {atom_label(b, system.numbers)} of different "
        f"molecules{image} are on one spot; separate them"
    )
