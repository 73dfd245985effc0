"""Training geometries of a build whose labels are dear, chosen before they are labelled.

A pool comes from what geometries are sampled with, the cheap engine of the source, which labels it
as well; of it is taken what is V-optimal (`learn.joint.design`). Both are kept in the build's
folder:

==========  =====================================================================================
pool.xyz    geometries of the pool, as they come, with momenta where they are of dynamics
choice      length scales of the cheap engine
choice.xyz  those that are chosen, in the order of choice; a longer choice begins with a shorter one
==========  =====================================================================================
"""

from pathlib import Path

import numpy as np
from ase import Atoms
from ase.io import read, write

from ase_fflux.base import store
from ase_fflux.base.machine import memory_available
from ase_fflux.base.outputs import silent
from ase_fflux.labels.conformers import Minimum
from ase_fflux.labels.folder import LabelSettings
from ase_fflux.labels.sampling import Portion, sample
from ase_fflux.labels.source import LabelSource
from ase_fflux.learn.joint.design import design_memory
from ase_fflux.workflows.select import TARGET, process_of_source, select, thermal_target

POOL = 400
"""Geometries of a pool, at least; twice as many as labels where these are more."""

_INTERVAL = 10.0
"""Seconds of sampling that a killed run may lose."""
_RESERVE = 10
"""Choices beyond the labels, for geometries that the source rejects."""
_LEAST_TARGET = 40


class Designed:
    """Training geometries in the order of choice.

    Parameters
    ----------
    folder : Path
        Of the build.
    source : LabelSource
        Whose engine is a label source of its own.
    settings : LabelSettings
        Temperatures and seed.
    labels : int
        How many will be labelled in the end.
    workers : int
        Processes that label the pool.
    progress : context manager
        Called with a description and a total; gives a function to call with increments.
    """

    def __init__(
        self, folder: Path, source: LabelSource, settings: LabelSettings, labels: int,
        workers: int = 1, progress=silent,
    ):
        self.folder, self.source, self.settings = folder, source, settings
        self.labels, self.workers, self.progress = labels, workers, progress

    @property
    def portions(self) -> tuple[Portion, ...]:
        """What the pool consists of: a mix with the dynamics that the model is tested on."""
        return (
            Portion("md", self.settings.temperature, 0.5),
            Portion("md", self.settings.test_temperature, 0.15),
            Portion("nm", 50.0, 0.15),
            Portion("nm", 150.0, 0.1),
            Portion("nm", 300.0, 0.1),
        )

    def pool_size(self, labels: int) -> int:
        """Geometries of the pool for so many labels."""
        return max(POOL, 2 * max(labels, self.labels))

    def __call__(self, minima: list[Minimum], count: int) -> list[tuple[str, Atoms]]:
        """At least so many origins and geometries.

        Parameters
        ----------
        minima : list of Minimum
            Of the source.
        count : int
            How many are needed now.

        Raises
        ------
        FFLUXError
            What sampling, the engine and the choice raise.
        """
        path = self.folder / "choice.xyz"
        kept = read(path, ":") if path.exists() else []
        if len(kept) < count:
            pool = self._pool(minima, count)
            known = [int(atoms.info["pool_frame"]) - 1 for atoms in kept]
            order = self._order(pool, min(max(count, self.labels) + _RESERVE, len(pool)))
            # rounding may choose otherwise than before, what is labelled stays
            places = [*known, *(p for p in order if p not in set(known))]
            kept = []
            for place in places:
                atoms = Atoms(pool[place].numbers, pool[place].positions)
                atoms.info = {"origin": pool[place].info["origin"], "pool_frame": place + 1}
                kept.append(atoms)
            with store.replacing(path) as partial:
                write(partial, kept, format="extxyz")
            kept = read(path, ":")
        return [
            (str(atoms.info["origin"]), Atoms(atoms.numbers, atoms.positions)) for atoms in kept
        ]

    def _pool(self, minima: list[Minimum], count: int) -> list[Atoms]:
        path, size = self.folder / "pool.xyz", self.pool_size(count)
        pool = read(path, ":") if path.exists() else []
        if len(pool) < size:
            drawn = sample(
                [minimum.atoms for minimum in minima], self.source, self.portions, size,
                self.settings.seed, hessians=[minimum.hessian for minimum in minima],
                before=tuple(pool),
            )

            def keep():
                if pool:
                    with store.replacing(path) as partial:
                        write(partial, pool, format="extxyz")

            with self.progress("geometries to choose from", size, len(pool)) as advance, \
                    store.kept_meanwhile(keep, _INTERVAL) as more:
                for origin, atoms in drawn:
                    atoms.info["origin"] = origin
                    pool.append(atoms)
                    advance(1)
                    more()
            pool = read(path, ":")
        return pool

    def _order(self, pool: list[Atoms], count: int) -> list[int]:
        process = process_of_source(
            self.source.engine, pool, seed=self.settings.seed, progress=self.progress,
            workers=self.workers, folder=self.folder / "choice",
        )
        size = TARGET
        while size > _LEAST_TARGET and (
            design_memory(process.data, len(pool), size, count) > 0.5 * memory_available()
        ):
            size //= 2
        target = thermal_target(process.energies, len(pool[0]), size, self.settings.seed)
        # nothing is expected of it: the build tests the model itself
        found = select(
            process.untried, np.arange(len(pool)), target, count, progress=self.progress
        )
        return found.chosen.tolist()
