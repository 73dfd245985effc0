"""Arguments that several verbs share, and what is made of them."""

import argparse
import os
import warnings
from contextlib import nullcontext
from pathlib import Path

from ase_fflux.base.errors import FFLUXError, FFLUXWarning
from ase_fflux.cli import systems
from ase_fflux.cli.progress import progress as progress

_MOST = 10**6
"""Points, blocks and the like that a run may have."""


def add_geometry(parser: argparse.ArgumentParser, index: int | None = -1) -> None:
    """The input file and which of its frames; all of them by default where ``index`` is None."""
    parser.add_argument(
        "geometry",
        metavar="FILE",
        help="geometry in any format that ASE reads (xyz, traj, cif, POSCAR, ...), or a run "
        "directory of DL_FFLUX; - is the standard input",
    )
    parser.add_argument(
        "--index",
        type=int,
        default=index,
        metavar="I",
        help="frame of a file with several, counted from 0, negative from the end (default: "
        f"{'all' if index is None else 'last'})",
    )
    add_reading(parser)


def add_reading(parser: argparse.ArgumentParser) -> None:
    """How the geometry's file is understood."""
    parser.add_argument(
        "--format",
        metavar="F",
        help="format of FILE as ASE names it (`ase info --formats`), where name and content do "
        "not tell (default: found from them)",
    )
    parser.add_argument(
        "--vacuum",
        action="store_true",
        help="FILE is one molecule in vacuum, though its format (cif, POSCAR) is that of crystals: "
        "made whole across the boundaries, which are dropped (default: as FILE says)",
    )


def add_model(parser: argparse.ArgumentParser) -> None:
    """The force field and what it does outside of its training data."""
    parser.add_argument(
        "--model",
        action="append",
        metavar="MODEL",
        help="bundled name (such as ethanol), .fflux bundle or directory of .model files, given "
        "again for each further species; or a force-field file (.toml) of several species; needed "
        "unless FILE is a run directory, which has its own",
    )
    expert = parser.add_argument_group("outside of the training data (for experts)")
    expert.add_argument(
        "--min-coverage",
        type=share,
        metavar="C",
        help="an atom's largest kernel value to a training point, 0 to 1, below which the geometry "
        "counts as outside of the training data (default: what the test of each model suggests, "
        "else 0.9)",
    )
    expert.add_argument(
        "--on-low-coverage",
        choices=["warn", "raise", "ignore"],
        default="warn",
        help="what to do then (default: %(default)s)",
    )
    add_between(parser)


def add_between(parser: argparse.ArgumentParser) -> None:
    """What acts between molecules."""
    between = parser.add_argument_group("between molecules")
    between.add_argument(
        "--no-electrostatics",
        dest="electrostatics",
        action="store_false",
        help="leave the multipolar electrostatics out",
    )
    between.add_argument(
        "--level",
        type=natural,
        metavar="L",
        help="let moments of ranks a, b with a + b + 1 <= L interact (default: all, see --rank)",
    )
    between.add_argument(
        "--rank",
        type=int,
        metavar="R",
        help="let all moments up to rank R interact (default: the highest the models have)",
    )
    between.add_argument(
        "--short-range",
        action="append",
        type=pair_potential,
        metavar="A-B=KIND,P,...",
        help="pair potential between elements: O-O=lj,EPSILON,SIGMA or "
        "O-H=buckingham,A,RHO,C in eV and A; give it again for each pair (default: none)",
    )
    between.add_argument(
        "--short-range-cutoff",
        type=positive,
        metavar="RC",
        help="cut-off of the pair potentials in A, force-shifted (default: none)",
    )


def add_output(parser: argparse.ArgumentParser, ending: str) -> None:
    """The beginning of the output files' names."""
    parser.add_argument(
        "-o",
        "--output",
        metavar="PREFIX",
        help=f"beginning of all output names (default: FILE's name with {ending}, in the current "
        "directory; DIR/ puts that name there); files already there are kept as NAME.~1~, ...",
    )


def add_uncertainty(parser: argparse.ArgumentParser, what: str) -> None:
    """Whether there are standard deviations, of ``what``."""
    parser.add_argument(
        "--uncertainty",
        action="store_true",
        help=f"add the standard deviation of {what} (models trained on gradients; needs the time "
        "and memory of the last step of their training once, and for each geometry that of many "
        "calls)",
    )


def add_search(parser: argparse.ArgumentParser, *, asked: bool) -> None:
    """How conformers are looked for, and where it is ``asked`` for, whether they are."""
    if asked:
        parser.add_argument(
            "--conformers", action="store_true",
            help="look for other conformers first, with RDKit (pip install "
            "'ase-fflux[conformers]') or without it by hot dynamics, and take all minima found",
        )
    parser.add_argument(
        "--window", type=positive, metavar="E",
        help="energy above the lowest conformer, in kJ/mol, up to which others are kept "
        "(default: 40)",
    )


def search_of(args: argparse.Namespace):
    """What `add_search` says; None where conformers are not looked for."""
    from ase_fflux.labels.conformer_search import Search

    if not getattr(args, "conformers", True):
        if args.window is not None:
            raise FFLUXError("--window goes with --conformers: add it, or leave --window out")
        return None
    given = {"seed": args.seed} | ({} if args.window is None else {"window": args.window})
    return Search(**given)


def add_json(parser: argparse.ArgumentParser) -> None:
    """Whether the summary is printed, numbers and units apart or units in the names; the verb sets
    ``args.summary``."""
    parser.add_argument(
        "--json",
        action="store_true",
        help="print the summary as JSON and nothing else; other lines go to the error stream "
        "(default: print tables)",
    )


def positive(text: str) -> float:
    """Argument type: a finite number above zero."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise ValueError
    return value


def kelvin(text: str) -> float:
    """Argument type: a temperature at which molecules hold together for a while."""
    value = positive(text)
    if value > 10_000:
        raise ValueError
    return value


def not_negative(text: str) -> float:
    """Argument type: a finite number, zero or above."""
    value = float(text)
    if not 0 <= value < float("inf"):
        raise ValueError
    return value


def real(text: str) -> float:
    """Argument type: a finite number."""
    value = float(text)
    if not abs(value) < float("inf"):
        raise ValueError
    return value


def share(text: str) -> float:
    """Argument type: a number from 0 to 1."""
    value = float(text)
    if not 0 <= value <= 1:
        raise ValueError
    return value


def natural(text: str) -> int:
    """Argument type: a whole number above zero."""
    value = int(text)
    if value < 1:
        raise ValueError
    return value


def frames(text: str) -> slice:
    """Argument type: ``START:STOP:STEP``, or one number, as a slice."""
    parts = [int(part) if part.strip() else None for part in text.split(":")]
    if len(parts) == 1:
        (first,) = parts
        return slice(first, first + 1 if first != -1 else None)
    chosen = slice(*parts)
    if chosen.step == 0:
        raise ValueError
    return chosen


def several(text: str) -> int:
    """Argument type: a whole number from two, of things that are held in memory."""
    value = int(text)
    if not 2 <= value <= _MOST:
        raise ValueError
    return value


def pair_potential(text: str) -> tuple[str, dict]:
    """Argument type: ``O-O=lj,0.0079,3.17`` as an entry of FFLUX's ``short_range``."""
    pair, _, potential = text.partition("=")
    kind, *parameters = potential.split(",")
    return pair, {kind: [float(p) for p in parameters]}


# argparse names the type in its message: "invalid positive number value: '-1'"
positive.__name__ = "positive number"
kelvin.__name__ = "temperature, above 0 and up to 10000 K,"
not_negative.__name__ = "number of at least zero"
real.__name__ = "finite number"
frames.__name__ = "START:STOP:STEP"
share.__name__ = "number from 0 to 1"
natural.__name__ = "positive whole number"
several.__name__ = f"whole number from 2 to {_MOST}"
pair_potential.__name__ = "A-B=KIND,P,..."


def output_prefix(args: argparse.Namespace, ending: str, *, geometries: bool = True) -> str:
    """``--output``, or the input's name without folder and suffix and with this ending.

    Where ``geometries`` are written, a name that ASE would mistake for another format is told.
    """
    from ase_fflux.formats.geometry import misleads_ase, output_stem

    prefix = prefix_of(args.output, output_stem(args.geometry) + ending)
    if geometries and misleads_ase(f"{prefix}.xyz"):
        warnings.warn(
            f"ASE and `ase gui` go by the name {Path(prefix).name} and take the output for another "
            "format: tell them format='extxyz', or choose another name with -o",
            FFLUXWarning, stacklevel=1,
        )
    return prefix


def prefix_of(output: str | None, usual: str) -> str:
    """What ``-o`` asks for; in a folder that it names (``DIR/``, ``.``) the usual name."""
    if output is None:
        return usual
    if os.path.basename(output) in ("", os.curdir, os.pardir):
        return os.path.join(output, usual)
    return output


def about(args: argparse.Namespace, calculator) -> dict:
    """How a run was asked for and what errors its models have, for the head of its summary."""
    return {
        "command": args.command,
        "model": args.model,
        "input": args.geometry,
        "model_errors": systems.expected_errors(calculator),
    }


def add_scheduler(parser: argparse.ArgumentParser, task: str) -> None:
    """A Dask cluster."""
    parser.add_argument(
        "--scheduler", metavar="ADDRESS",
        help=f"dask scheduler, such as tcp://node1:8786, whose workers {task} (default: this "
        "machine)",
    )


def dask_client(address: str | None):
    """Client of a dask scheduler, a context of None without an address.

    Raises
    ------
    FFLUXError
        No dask, or no scheduler at the address.
    """
    if address is None:
        return nullcontext()
    try:
        from distributed import Client
    except ImportError as error:
        raise FFLUXError(
            "--scheduler needs dask, which is not installed: pip install 'ase-fflux[dask]'"
        ) from error
    try:
        return Client(address, timeout=10)
    except (OSError, ValueError, TypeError) as error:
        raise FFLUXError(
            f"--scheduler {address}: no dask scheduler answers there ({error})"
        ) from error
