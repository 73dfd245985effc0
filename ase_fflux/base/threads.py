"""Threads of one large system: compiled loops that run at once, without Python's lock.

How work is divided depends on the system alone, and what threads have done is added up in one
order, so that results are the same to the last bit on any number of threads.
"""

import multiprocessing
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from numbers import Integral

from ase_fflux.base.errors import FFLUXError
from ase_fflux.base.machine import cores

VARIABLES = ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS")
"""Variables of the environment that limit the threads, the first that is set."""

_pools: dict[int, ThreadPoolExecutor] = {}
if hasattr(os, "register_at_fork"):  # the threads of a pool are not there after a fork
    os.register_at_fork(after_in_child=_pools.clear)


def number_of_threads(wanted: int | None) -> int:
    """Threads of one system.

    Parameters
    ----------
    wanted : int or None
        By default as many as `VARIABLES` allow, else one in a worker of a pool, else one for each
        core that the process may use.

    Raises
    ------
    FFLUXError
        Not a number from 1 on.
    """
    if wanted is not None:
        if isinstance(wanted, bool) or not isinstance(wanted, Integral) or wanted < 1:
            raise FFLUXError(f"threads={wanted!r}: give a whole number from 1 on")
        return int(wanted)
    for name in VARIABLES:
        limit = os.environ.get(name, "").split(",")[0]  # OpenMP has one for each level
        if limit.isdecimal() and int(limit):
            return int(limit)
    return 1 if multiprocessing.parent_process() else cores()


def run(function: Callable, tasks: Iterable[tuple], threads: int) -> list:
    """What a function returns for each tuple of arguments, in their order.

    Parameters
    ----------
    function : callable
        Spends its time without Python's lock.
    tasks : iterable of tuple
    threads : int
        Of them work at once.
    """
    tasks = list(tasks)
    if threads == 1 or len(tasks) == 1:
        return [function(*task) for task in tasks]
    if threads not in _pools:
        _pools[threads] = ThreadPoolExecutor(threads, thread_name_prefix="fflux")
    return list(_pools[threads].map(lambda task: function(*task), tasks))


def slices(n: int, parts: int) -> Sequence[slice]:
    """Slices of n things in about equal parts, none of them empty."""
    parts = max(1, min(parts, n))
    return [slice(n * i // parts, n * (i + 1) // parts) for i in range(parts)]
