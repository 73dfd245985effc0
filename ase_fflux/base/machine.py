"""What the machine has to offer: cores, threads, memory."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import psutil
from threadpoolctl import ThreadpoolController, threadpool_limits

THREADS = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS")
"""Variables by which the environment sets the threads of linear algebra, read when it is loaded."""

_CONTROL_GROUPS = (
    "/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes",
)
"""Files of Linux with the limit in bytes, versions 2 and 1."""

_ROWS_OF_THREADS = 2000
"""Rows of a matrix from which on several threads are worth the risk of a busy machine.

Those of OpenBLAS wait for each other by spinning, hundreds of times in one factorisation. Beside
another busy process on two cores, 400 rows took 200 times longer on two threads than on one, 1000
rows 80 times; what two idle cores gain at 1000 rows is a factor of 1.4."""


def cores() -> int:
    """Cores that this process may use."""
    process = psutil.Process()
    if hasattr(process, "cpu_affinity"):  # not on macOS
        return len(process.cpu_affinity())
    return psutil.cpu_count() or 1


def threads_here(most: int) -> int:
    """Threads of linear algebra in this process, which its environment may limit."""
    limits = [os.environ.get(name, "") for name in THREADS]
    return min([most, *(int(limit) for limit in limits if limit.isdigit() and int(limit))])


def threads_for(rows: int, most: int) -> int:
    """Threads that linear algebra with matrices of that many rows gets: one if they are small."""
    return threads_here(most) if rows >= _ROWS_OF_THREADS else 1


def memory_available() -> float:
    """Bytes that can be had without swapping."""
    return float(psutil.virtual_memory().available)


def memory_of_machine() -> float:
    """Bytes of physical memory, or what a control group (a container, a batch job) leaves of it.

    Not what happens to be free: that would make results depend on what else runs.
    """
    limits = [float(psutil.virtual_memory().total)]
    for path in _CONTROL_GROUPS:
        try:
            with open(path) as file:
                text = file.read().strip()
        except OSError:
            continue
        if text.isdecimal():  # "max" is none
            limits.append(float(text))
    return min(limits)


@contextmanager
def threads_of(rows: int) -> Iterator[None]:
    """Give linear algebra the threads of `threads_for`, in the whole process."""
    if rows >= _ROWS_OF_THREADS:
        yield
        return
    with _libraries().limit(limits=1, user_api="blas"):
        yield


@contextmanager
def one_thread() -> Iterator[None]:
    """Leave all libraries that are loaded, OpenMP's among them, one thread in the whole process.

    Calculations of many small products lose more to threads that wait for each other than they
    gain: water with PySCF took 100 times longer on two threads of a busy machine.
    """
    with threadpool_limits(limits=1):
        yield


@cache
def _libraries() -> ThreadpoolController:
    """The libraries of linear algebra that NumPy and SciPy have loaded; finding them takes 2 ms."""
    import scipy.linalg  # noqa: F401  brings one of its own

    return ThreadpoolController()
