"""What holds for every verb: how much is said, settings from a file, and what was run beside it."""

import argparse
import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from pathlib import Path

from ase_fflux import __version__
from ase_fflux.cli.config import Parsers, settings_text, with_config
from ase_fflux.cli.progress import shown


def add_common(parser: argparse.ArgumentParser) -> None:
    """Options of all verbs, in a group of their own."""
    group = parser.add_argument_group("of all commands")
    group.add_argument(
        "--config", metavar="FILE.toml",
        help="take options from a file, by their long names; those given here come first. What was "
        "run is written as such a file beside the output: NAME.toml, or OUTPUT.settings.toml by "
        "label, import, export and convert",
    )
    loud = group.add_mutually_exclusive_group()
    loud.add_argument(
        "--quiet", action="store_true", help="print nothing but warnings and errors",
    )
    loud.add_argument(
        "--verbose", action="store_true",
        help="say on the error stream what the program is at, with times",
    )


def arguments(argv: list[str], make: Parsers, verb: str) -> list[str]:
    """Arguments after the verb, completed from ``--config``."""
    return with_config(argv, make, verb) if any(a.startswith("--config") for a in argv) else argv


@contextmanager
def told(args: argparse.Namespace, argv: list[str], make: Parsers) -> Iterator[None]:
    """Run a verb inside: its lines go where the options say, and what was run is known to its
    output files.

    With ``--json`` they go to the error stream, and the summary stands alone at the end.
    """
    from ase_fflux.base.outputs import json_text, settings_of_run

    head = [
        f"fflux {args.verb}, version {__version__}, {time.strftime('%Y-%m-%dT%H:%M:%S%z')}",
        f"as it was typed: {args.command}",
        f"names of files are as seen from {os.getcwd()}; to repeat it: fflux {args.verb} --config "
        "THIS FILE",
    ]
    with ExitStack() as until_done:
        until_done.enter_context(_set(
            settings_of_run, settings_text(argv, make, args.verb, head)
        ))
        if args.quiet:
            nowhere = until_done.enter_context(open(os.devnull, "w"))
            until_done.enter_context(redirect_stdout(nowhere))
            until_done.enter_context(_set(shown, False))
        elif getattr(args, "json", False):
            until_done.enter_context(redirect_stdout(sys.stderr))
        if args.verbose:
            until_done.enter_context(_logging())
        yield
    summary = getattr(args, "summary", None)
    if getattr(args, "json", False) and summary is not None:
        is_file = isinstance(summary, Path)
        sys.stdout.write(summary.read_text("utf-8") if is_file else json_text(summary))


@contextmanager
def _set(variable, value) -> Iterator[None]:
    token = variable.set(value)
    try:
        yield
    finally:
        variable.reset(token)


@contextmanager
def _logging() -> Iterator[None]:
    """What this package logs, on the error stream."""
    log, handler = logging.getLogger("ase_fflux"), logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    level = log.level
    log.setLevel(logging.INFO)
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
