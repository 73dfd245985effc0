"""Electrostatics of whatever comes: a direct sum of clusters, an Ewald sum of periodic cells."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from ase_fflux.base.errors import FFLUXError
from ase_fflux.forcefield.interactions.base import Derivatives, Interaction, System
from ase_fflux.forcefield.interactions.direct import DirectSum
from ase_fflux.forcefield.interactions.ewald import Ewald
from ase_fflux.forcefield.interactions.particle_mesh import ParticleMesh
from ase_fflux.forcefield.interactions.tuning import (
    mesh_parameters,
    plain_cost,
    plain_parameters,
)
from ase_fflux.model.molecule import MoleculeModel

ACCURACY = 1e-6
"""Of Ewald sums, where nothing else is asked for."""


class Electrostatics:
    """Multipolar electrostatics between molecules; how it is summed depends on the system.

    Clusters are summed directly (`DirectSum`), fully periodic cells by the cheaper of `Ewald` and
    `ParticleMesh`. Level and rank are those of `DirectSum`; Ewald sums know ranks only.

    Parameters
    ----------
    level, rank : int, optional
        Exactly one of them, see `DirectSum`.
    accuracy : float
        Relative error of energy and forces that an Ewald sum may have, from 1e-12 to 1e-2.

    Raises
    ------
    FFLUXError
        A level, rank or accuracy that does not exist.
    """

    name = "electrostatic"
    cutoff = None
    short_ranged = False

    def __init__(
        self, level: int | None = None, rank: int | None = None, accuracy: float = ACCURACY
    ):
        self._direct = DirectSum(level, rank)
        self.level, self.rank = self._direct.level, self._direct.rank
        try:
            self.accuracy = float(accuracy)
        except (TypeError, ValueError):
            self.accuracy = np.nan
        if not 1e-12 <= self.accuracy <= 1e-2:
            raise FFLUXError(f"accuracy {accuracy!r} of the electrostatics: give 1e-12 to 1e-2")

    @classmethod
    def of_models(
        cls, models: Sequence[MoleculeModel], level: int | None = None, rank: int | None = None,
        accuracy: float | None = None,
    ) -> "Electrostatics":
        """For these models, see `DirectSum.of_models`."""
        direct = DirectSum.of_models(models, level, rank)
        return cls(
            direct.level, direct.rank if direct.level is None else None,
            ACCURACY if accuracy is None else accuracy,
        )

    def check(self, system: System, models: Sequence[MoleculeModel]) -> None:
        """Refuse models without charges, slabs and wires; see `Interaction.check`."""
        self._direct.check(system, models)
        if not system.periodic:
            return
        if not system.pbc.all():
            kind = "slab" if system.pbc.sum() == 2 else "wire"
            raise FFLUXError(
                f"the system is a {kind}, periodic in {system.pbc.sum()} of 3 directions: "
                "electrostatics are of clusters and of fully periodic cells; set atoms.pbc = True "
                "with vacuum in the cell, or use electrostatics=False"
            )
        if self.level is not None:
            raise FFLUXError(
                f"interaction level {self.level} is for clusters: electrostatics of periodic "
                f"cells take all moments up to a rank; give rank={self.rank} in place of level"
            )
        if abs(np.linalg.det(system.cell)) < 1e-6:
            raise FFLUXError("the cell of the periodic system has no volume; set atoms.cell")

    def on(self, system: System) -> Interaction:
        """The sum for a system, with its parameters; see `Interaction.on`."""
        if not system.periodic:
            return self._direct
        volume = abs(np.linalg.det(system.cell))
        return _periodic(self.rank, self.accuracy, len(system.positions), _rounded(volume))

    def evaluate(self, system: System) -> Derivatives:
        """That of the sum for the system; see `Interaction.evaluate`."""
        return self.on(system).evaluate(system)


def _rounded(volume):
    """Volume in steps of a third, so that parameters stay the same while a cell breathes."""
    return float(np.exp(0.3 * np.round(np.log(volume) / 0.3)))


@lru_cache(maxsize=64)
def _periodic(rank, accuracy, n, volume):
    """The cheaper of a plain sum and one on a mesh."""
    cost, parameters = mesh_parameters(n, volume, rank, accuracy)
    if cost < plain_cost(n, volume, rank, accuracy):
        return ParticleMesh(rank, *parameters)
    return Ewald(rank, *plain_parameters(n, volume, accuracy))
