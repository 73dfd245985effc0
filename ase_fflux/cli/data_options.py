"""Arguments that say how a data set of another program is read."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ase_fflux.labels.label import Dataset

_KEYS = "energy_key", "forces_key", "energy_unit", "length_unit", "isolated", "molecule"


def add_reading(parser: argparse.ArgumentParser) -> None:
    """Keys, units and molecules of data sets; label files say all that themselves."""
    from ase_fflux.labels.importers.frames import ENERGY_UNITS, LENGTH_UNITS

    group = parser.add_argument_group("data sets of other programs")
    add = group.add_argument
    add("--energy-key", metavar="KEY",
        help="name of the total energies (default: what ASE's reader of the format takes; E or "
        "energies in .npz)")
    add("--forces-key", metavar="KEY", help="name of the forces (default: likewise)")
    add("--energy-unit", choices=ENERGY_UNITS,
        help="unit of the energies and, with --length-unit, of the forces (default: eV; kcal/mol "
        "in .npz, unless it says another)")
    add("--length-unit", choices=LENGTH_UNITS, help="unit of the positions (default: Angstrom)")
    add("--isolated", type=_isolated, metavar="H=E,C=E,...",
        help="energies of isolated atoms in that unit: total energies far from their sum are "
        "refused (default: single atoms in the file)")
    add("--molecule", metavar="NAME",
        help="which of several molecules in the file: its formula, as the refusal lists them "
        "(default: the only one)")
    add("--format", metavar="F",
        help="format as ASE names it (`ase info --formats`) (default: as name and content tell)")
    add("--vacuum", action="store_true",
        help="each frame is one molecule in vacuum, though it has a periodic cell (default: such "
        "cells are refused)")


def reading_of(args: argparse.Namespace) -> dict:
    """Options of `read_foreign` that were given."""
    found = {name: getattr(args, name) for name in (*_KEYS, "format", "vacuum")}
    return {name: value for name, value in found.items() if value}


def summary_of(args: argparse.Namespace, path: Path, dataset: Dataset) -> dict:
    """What stands in a file of labels that was written, for ``--json``."""
    from ase_fflux.base.outputs import versions

    return {
        "command": args.command, "labels": len(dataset),
        "molecule": "".join(dataset.symbols), "method": dataset.method,
        "partition": dataset.partition or None, "gradients": dataset.gradients is not None,
        "atomic_energies": dataset.atomic_energies is not None,
        "rank_of_moments": dataset.rank if dataset.rank >= 0 else None,
        "files": [str(path)], "versions": versions(),
    }


def _isolated(text: str) -> dict[str, float]:
    pairs = [pair.split("=") for pair in text.split(",")]
    return {symbol: float(energy) for symbol, energy in pairs}


_isolated.__name__ = "H=E,C=E,..."
