"""The command ``fflux``: finds the verb, runs it, turns errors into one line."""

import argparse
import difflib
import importlib
import logging
import os
import shlex
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from ase_fflux import __version__
from ase_fflux.base.errors import FFLUXError, FFLUXWarning, reason
from ase_fflux.base.text import printable
from ase_fflux.cli.common import add_common, arguments, told

VERBS = {
    "sp": "energy, forces and moments of geometries as they are",
    "opt": "optimise a geometry",
    "vib": "harmonic vibrations, infrared spectrum and thermochemistry",
    "ir": "infrared spectrum from dynamics, beside the harmonic one",
    "md": "dynamics at constant energy, temperature or pressure",
    "box": "fill a periodic box with molecules",
    "drive": "forces for i-PI and other programs through a socket",
    "rdf": "radial distribution functions of a trajectory",
    "scan": "the energy along a distance, an angle or a torsion",
    "neb": "the path between two minima and its barrier",
    "ts": "a saddle point and the minima that it joins",
    "conformers": "the minima of a molecule, found from one geometry",
    "build": "make a model for a molecule",
    "select": "the geometries of a pool that are worth a label",
    "label": "reference data of geometries, ab initio or semi-empirical",
    "import": "labels from AIMAll, wave functions and other data sets",
    "export": "labels in the formats of MACE and sGDML",
    "train": "train models on labels or training sets of your own",
    "test": "errors of a model against labelled data",
    "ablate": "show what each step of the training protocol buys",
    "convert": "turn bundles into .model and DL_FFLUX directories and back",
    "list": "the bundled models and what they are good for",
    "info": "say what is in a model",
    "complete": "a script by which a shell completes commands",
}
"""Each is a module of ase_fflux.cli with ``add_parser(subparsers)`` and ``run(args)``.

The module of ``import`` is importing, because of Python's own word.
``run`` returns the exit status (None for 0); ``args.command`` is the command as it was typed. A
verb with ``--json`` (`options.add_json`) sets ``args.summary``, a dict or the path of its summary,
one with ``--view`` (`view.add_view`) ``args.viewed``, the files to show.
"""

_EPILOG = """\
example:
  fflux opt ethanol.xyz --model ethanol
  fflux vib ethanol-opt.xyz --model ethanol

`fflux VERB --help` explains a verb. Exit status: 0 done, 1 not converged, 2 error (one line says
what is wrong; nothing is overwritten), 130 interrupted.
"""


def parser(verb: str | None = None) -> argparse.ArgumentParser:
    """The command's parser, with the arguments of one verb; the others' modules stay unloaded."""
    result = _Parser(
        prog="fflux",
        description="FFLUX machine-learned force fields: geometries, vibrations, models.",
        epilog=_EPILOG,
        formatter_class=_Help,
    )
    result.add_argument("--version", action="version", version=f"fflux {__version__}")
    result.add_argument(
        "--json", action="store_true", dest="all_versions",
        help="with --version: versions of everything that matters, machine, threads and caches",
    )
    subparsers = result.add_subparsers(dest="verb", metavar="VERB", required=True)
    for name, summary in VERBS.items():
        if name == verb:
            _module(name).add_parser(subparsers)
            add_common(subparsers.choices[name])
        else:
            subparsers.add_parser(name, help=summary)
    return result


class _Parser(argparse.ArgumentParser):
    """Its errors are one line, as all others are; texts of help are shown as they are written."""

    def __init__(
        self, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **given
    ):
        super().__init__(formatter_class=formatter_class, allow_abbrev=allow_abbrev, **given)

    def error(self, message: str):
        self.exit(2, f"fflux: error: {printable(message)} (`{self.prog} --help` explains)\n")


class _Help(argparse.RawDescriptionHelpFormatter):
    """With room for the longest verb on its line, whose indentation argparse forgets."""

    def __init__(self, prog: str):
        super().__init__(prog)
        self._action_max_length = max(map(len, VERBS)) + 4


def main(argv: list[str] | None = None) -> int:
    """Run ``fflux`` with these arguments (those of the process by default)."""
    argv = sys.argv[1:] if argv is None else argv
    verb = argv[0] if argv and argv[0] in VERBS else None
    _print_anything()
    with warnings.catch_warnings(), _silent_logs():
        _show_ours_alone()
        try:
            if not argv:
                parser().print_help(sys.stderr)
                return 2
            if {*argv} == {"--version", "--json"}:
                from ase_fflux.base.environment import environment

                _print_json(environment())
                return 0
            if verb is None and not argv[0].startswith("-"):
                parser().error(f"there is no verb {argv[0]!r}{_meant(argv[0], VERBS)}")
            args, own = _parsed(argv, verb)
            with told(args, own, lambda: parser_of(args.verb)):
                status = _module(args.verb).run(args) or 0
            if getattr(args, "view", False) and getattr(args, "viewed", None):
                from ase_fflux.cli.view import show

                show(args.viewed)
            sys.stdout.flush()  # here, where a full disk behind it can still be told
            return status
        except FFLUXError as error:
            return _fail(str(error))
        except BrokenPipeError:
            # the reader of our output (head, less) has gone: nothing more to say, not an error
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            return _fail(f"{where}{reason(error)}")
        except MemoryError as error:
            return _fail(f"out of memory ({str(error) or 'no more to be had'})")
        except KeyboardInterrupt:
            print("fflux: interrupted", file=sys.stderr)
            return 130


def _parsed(argv: list[str], verb: str | None) -> tuple[argparse.Namespace, list[str]]:
    """What was asked for, and the arguments after the verb with those of a file of settings."""
    own = argv[1:]
    if verb is not None and not {"-h", "--help"} & {*own}:
        own = arguments(own, lambda: parser_of(verb), verb)
    chosen = parser(verb)
    args, strangers = chosen.parse_known_args([*argv[:1], *own])
    if strangers:
        mine = parser_of(verb) if verb else chosen
        mine.error(f"unrecognized arguments: {shlex.join(strangers)}"
                   + _meant(strangers[0], mine._option_string_actions))
    if args.all_versions:
        chosen.error("--json before the verb goes with --version: put it after the verb")
    args.command = printable(shlex.join(["fflux", *argv]))
    return args, own


def _meant(word: str, known) -> str:
    """The word that was meant, for a message, if there is one like it."""
    # dashes alone make short names alike
    bare = {name.lstrip("-"): name for name in known}
    close = difflib.get_close_matches(word.split("=")[0].lstrip("-"), bare, n=1, cutoff=0.5)
    return f"; did you mean {bare[close[0]]}?" if close else ""


def parser_of(verb: str) -> argparse.ArgumentParser:
    """The verb's own parser."""
    (subparsers,) = (a for a in parser(verb)._actions if a.dest == "verb")
    return subparsers.choices[verb]


def _print_json(content: dict) -> None:
    from ase_fflux.base.outputs import json_text

    sys.stdout.write(json_text(content))


def _module(verb: str):
    name = "importing" if verb == "import" else verb
    return importlib.import_module(f"ase_fflux.cli.{name}")


def _fail(message: str) -> int:
    print("fflux: error:", printable(" ".join(message.split())), file=sys.stderr)
    return 2


def _print_anything() -> None:
    """Print whole lines at once, also into files, and what an encoding lacks as escapes."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace", line_buffering=True)


def _show_ours_alone() -> None:
    """One line for each warning of ours; those of libraries are for developers."""
    warnings.showwarning = _show_warning
    if not sys.warnoptions:  # by -W or PYTHONWARNINGS everything may be asked for
        warnings.simplefilter("ignore")
        warnings.simplefilter("default", FFLUXWarning)


@contextmanager
def _silent_logs() -> Iterator[None]:
    """Keep what libraries log off the screen; a handler that somebody has set gets it as before."""
    nowhere = logging.NullHandler()
    logging.getLogger().addHandler(nowhere)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(nowhere)


def _show_warning(message, category, filename, lineno, file=None, line=None):
    print("fflux: warning:", printable(" ".join(str(message).split())), file=sys.stderr)
