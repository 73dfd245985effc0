"""Many geometries labelled: in this process, on worker processes, or by the workers of Dask.

Results come in the order of the geometries, so that what is kept of an interrupted run is the
beginning of what an uninterrupted one makes. Only a few geometries are on their way at a time:
those that dynamics have still to find are asked for while others are labelled.
"""

import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import BrokenExecutor, Executor
from typing import TypeVar
from uuid import uuid4

import numpy as np
from ase import Atoms

from ase_fflux.base.errors import LabelError, words
from ase_fflux.base.workers import WorkerPool
from ase_fflux.labels.label import Label
from ase_fflux.labels.source import LabelSource, Rejected

Tag = TypeVar("Tag")

_AHEAD = 1
"""Geometries for each worker that wait beside the one that is being labelled."""


class Labeller:
    """Labels geometries of one source.

    Parameters
    ----------
    source : LabelSource
    workers : int
        Processes of one thread each; with 1 this process labels.
    client : dask.distributed.Client, optional
        Its workers label instead, and need the same packages; it stays open.
    """

    def __init__(self, source: LabelSource, workers: int = 1, client=None):
        self.source, self.client = source, client
        self.workers = workers if client is None else max(sum(client.nthreads().values()), 1)

    def __call__(
        self, geometries: Iterable[tuple[Tag, Atoms]]
    ) -> Iterator[tuple[Tag, Label | Rejected]]:
        """Label geometries as they come. To be closed where it is not used up: workers end then.

        Parameters
        ----------
        geometries : iterable of (tag, Atoms)
            Tags are handed through.

        Yields
        ------
        tag
        result : Label or Rejected
            In the order of the geometries.

        Raises
        ------
        LabelError
            What the source raises beside `Rejected`, and a worker that was ended.
        """
        if self.client is not None:
            yield from self._on(self.client.get_executor(pure=False), geometries)
        elif self.workers > 1:
            with WorkerPool(self.workers) as pool:
                yield from self._on(pool, geometries)
        else:
            for tag, atoms in geometries:
                yield tag, _attempt(self.source, atoms)

    def _on(self, executor: Executor, geometries) -> Iterator:
        key = uuid4().hex
        geometries = iter(geometries)
        running: deque = deque()
        try:
            while True:
                while len(running) < (1 + _AHEAD) * self.workers and not (
                    running and running[0][1].done()  # first of all it is kept
                ):
                    if (following := next(geometries, None)) is None:
                        break
                    tag, atoms = following
                    running.append((tag, executor.submit(
                        _in_worker, key, self.source, atoms.numbers, atoms.positions
                    )))
                if not running:
                    return
                tag, future = running[0]
                yield tag, future.result()
                running.popleft()
        except Exception as error:
            if isinstance(error, BrokenExecutor) or _of_dask(error):
                raise LabelError(
                    f"a worker that labels was ended ({words(error)}): for "
                    "lack of memory as a rule; label on fewer of them"
                ) from error
            raise
        finally:
            for _, future in running:
                future.cancel()


def _of_dask(error: Exception) -> bool:
    """Whether it tells of Dask's workers and not of a label."""
    return type(error).__module__.split(".")[0] == "distributed"


def _attempt(source: LabelSource, atoms: Atoms) -> Label | Rejected:
    try:
        return source.label(Atoms(atoms.numbers, atoms.positions))
    except Rejected as rejection:
        return rejection


_known = threading.local()
"""Sources of a worker's threads, which start from the densities that they have found before."""


def _in_worker(
    key: str, source: LabelSource, numbers: np.ndarray, positions: np.ndarray
) -> Label | Rejected:
    if getattr(_known, "key", None) != key:
        _known.key, _known.source = key, source
    return _attempt(_known.source, Atoms(numbers, positions))
