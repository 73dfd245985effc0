"""What a command shows while it works: a bar on a terminal, a line now and then elsewhere.

Both go to the error stream, so that the output can be piped.
"""

import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from ase_fflux.base.text import duration

_SLOW = 1.0
"""Seconds for one increment from which on they are told."""

shown: ContextVar[bool] = ContextVar("shown", default=True)
"""Whether progress is shown at all."""

INTERVAL = 30.0
"""Seconds from one line to the next."""

WORTH_A_LINE = 5.0
"""Seconds that a stage takes at least if its end is told."""


@contextmanager
def progress(description: str, total: int | None, done: int = 0) -> Iterator[Callable]:
    """Show how far a stage is; gives a function to call with increments, and notes if need be.

    Parameters
    ----------
    description : str
        What is being done, such as ``labelling``.
    total : int, optional
        How many increments there will be.
    done : int
        How many of them there are from before, which took no time.
    """
    with _display(description, total, "", done) as display:
        def advance(increment: int, note: str = "") -> None:
            display.set_postfix_str(note, refresh=False)
            display.update(increment)

        yield advance


def stepwise(
    items: Iterable, description: str, total: int | None = None, unit: str = "",
    tell: Callable[[object], str] = lambda item: "",
) -> Iterator:
    """The same items, with progress as they are taken.

    Parameters
    ----------
    items : iterable
        Of any kind.
    description, total, unit
        What is being done, how many items there are, if that is known, and what they are.
    tell : callable
        What to say of the latest item.
    """
    with _display(description, total, unit) as display:
        for item in items:
            display.set_postfix_str(tell(item), refresh=False)
            display.update(1)
            yield item


def _display(description: str, total: int | None, unit: str, done: int = 0):
    """tqdm's bar on a terminal, else `_Lines`, which are used in the same way."""
    if not shown.get() or not sys.stderr.isatty():
        return _Lines(description, total, unit, done)
    from tqdm import tqdm

    return tqdm(total=total, desc=f"{description:16}", unit=unit and f" {unit}", initial=done)


class _Lines:
    """Lines on the error stream: every `INTERVAL`, and at the end of a stage that took long.

    A thread writes them, because an increment may take much longer than that.
    """

    def __init__(self, description: str, total: int | None, unit: str, done: int):
        self.description, self.total, self.unit = description, total, unit
        self.done, self.before, self.note = done, done, ""
        self._shown = shown.get()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._report, daemon=True)

    def __enter__(self):
        self._start = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, kind, value, trace) -> None:
        self._over.set()
        self._thread.join()
        if self._shown and time.monotonic() - self._start >= WORTH_A_LINE:
            self._write("done" if kind is None else "ended")

    def update(self, increment: int) -> None:
        self.done += increment

    def set_postfix_str(self, note: str, refresh: bool) -> None:
        self.note = note and f", {note}"

    def _report(self) -> None:
        while self._shown and not self._over.wait(INTERVAL):
            self._write("so far")

    def _write(self, state: str) -> None:
        seconds = time.monotonic() - self._start
        count = f"{self.done}" if self.total is None else f"{self.done} of {self.total}"
        what = f"{self.description.strip()}: {count} {self.unit}".rstrip()
        left, new = "", self.done - self.before
        if state == "so far" and new and (each := seconds / new) > _SLOW:
            left = f" ({each:.1f} s each)"
        if state == "so far" and self.total and new and self.done < self.total:
            left += f", about {duration(seconds * (self.total - self.done) / new)} to go"
        try:
            print(
                f"{what} in {duration(seconds)} {state}{left}{self.note}",
                file=sys.stderr, flush=True,
            )
        except (OSError, ValueError):
            pass  # nobody reads the error stream any more: no reason to stop
