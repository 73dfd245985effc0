"""Worker processes of one thread each, and what the machine has to offer them."""

import math
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from multiprocessing.connection import Connection

THREADS = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS")
"""Variables by which the environment sets the threads of linear algebra, read when it is loaded."""


class WorkerPool(futures.ProcessPoolExecutor):
    """Processes of one thread each that end when the block is left by an error, or with us.

    They never see Ctrl-C, which is for this process to act on.
    """

    def __init__(self, workers: int):
        context = multiprocessing.get_context("spawn")
        self._watched, self._alive = context.Pipe(duplex=False)
        super().__init__(workers, context, _start_worker, (self._watched,))

    def submit(self, function, /, *args, **kwargs):
        """As any executor. Processes are started here, when there is something to do."""
        with _one_thread(), _interrupts_later():
            return super().submit(function, *args, **kwargs)

    def __exit__(self, kind, error, traceback):
        if kind is not None:
            self._alive.close()
        self.shutdown(cancel_futures=True)
        self._alive.close()
        self._watched.close()


def _start_worker(watched: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(watched,), daemon=True).start()


def _end_with(watched: Connection) -> None:
    """End this worker when the other end of a pipe is closed, be it because its holder is gone."""
    watched.poll(None)
    os._exit(1)


@contextmanager
def _one_thread() -> Iterator[None]:
    """What processes that are started here find in their environment."""
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(dict.fromkeys(THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def _interrupts_later() -> Iterator[None]:
    """Hold Ctrl-C back; processes that are started here never get it, even while they import."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "process_cpu_count"):  # Python 3.13
        return os.process_cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def threads_here(most: int) -> int:
    """Threads of linear algebra in this process, which its environment may limit."""
    limits = [os.environ.get(name, "") for name in THREADS]
    return min([most, *(int(limit) for limit in limits if limit.isdigit() and int(limit))])


def memory_available() -> float:
    """Bytes; not SC_AVPHYS_PAGES, which does not count what the page cache would give back."""
    try:
        with open("/proc/meminfo") as file:
            kilobytes = dict(line.split()[:2] for line in file)["MemAvailable:"]
        return 1024.0 * int(kilobytes)
    except OSError:  # macOS tells only what there is in all, Windows not even that
        if not hasattr(os, "sysconf"):
            return math.inf
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
