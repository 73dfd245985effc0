"""Worker processes of one thread each."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from multiprocessing.connection import Connection

from ase_fflux.base.machine import THREADS


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
