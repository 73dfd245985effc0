"""What a command wrote, handed over to ``ase gui``."""

import argparse
import importlib.util
import os
import subprocess
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

from ase_fflux.base.errors import FFLUXWarning


def add_view(parser: argparse.ArgumentParser, what: str) -> None:
    """Whether it is shown; the verb sets ``args.viewed``, the files to show."""
    parser.add_argument(
        "--view", action="store_true",
        help=f"show {what} with `ase gui` at the end; the window stays when the command is done",
    )


def show(files: Sequence[str | Path]) -> None:
    """Start ``ase gui`` on files and leave it to itself; without Tk or a screen, a warning."""
    command = ["ase", "gui", *map(str, files)]
    if importlib.util.find_spec("tkinter") is None:
        missing = "this Python has no tkinter (on Debian: apt install python3-tk)"
    elif sys.platform == "linux" and not {"DISPLAY", "WAYLAND_DISPLAY"} & {*os.environ}:
        missing = "there is no screen (DISPLAY is not set)"
    else:
        subprocess.Popen(
            [sys.executable, "-m", *command], start_new_session=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        return
    few = command if len(command) < 6 else [*command[:4], "..."]
    warnings.warn(f"--view: {missing}; elsewhere `{' '.join(few)}` shows it", FFLUXWarning,
                  stacklevel=2)
