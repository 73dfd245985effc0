"""Settings of a command in a TOML file: read in place of options, written beside the output.

Names are those of the long options without their dashes, and of the arguments without dashes as
``fflux VERB --help`` lists them in its usage (``geometry``, ``model``, ...). What the command line
gives comes before what the file says.
"""

import argparse
import difflib
import json
import tomllib
from collections.abc import Callable
from datetime import date, datetime, time
from pathlib import Path

from ase_fflux.base.errors import FFLUXError, reason
from ase_fflux.base.text import printable, toml_fault

_OF_THE_SCREEN = {"help", "config", "quiet", "verbose", "json", "view"}
"""Options that change no number: not written, and not read from a file."""

Parsers = Callable[[], argparse.ArgumentParser]
"""Makes a verb's own parser, a new one each time."""


def with_config(argv: list[str], make: Parsers, verb: str) -> list[str]:
    """Arguments of a verb with those of its ``--config`` file added.

    Parameters
    ----------
    argv : list of str
        After the verb.
    make : callable
    verb : str
        For messages.

    Raises
    ------
    FFLUXError
        A file that cannot be read, an option that there is not, a value of a wrong kind.
    """
    given = vars(_as_text(argv, make))
    if "config" not in given:
        return argv
    parser, path = make(), given["config"]
    named = _named(parser)
    taken = {*given}
    for group in parser._mutually_exclusive_groups:
        members = {action.dest for action in group._group_actions}
        if members & taken:
            taken |= members
    if taken & {a.dest for a in parser._actions if not a.option_strings}:
        # arguments without dashes stand together, on one side or on the other
        taken |= {a.dest for a in parser._actions if not a.option_strings}
    bare, options = [], []
    values = _read(path)
    for name in values:
        if name not in named:
            close = difflib.get_close_matches(name, named, n=1)
            raise FFLUXError(
                f"{printable(path)}: fflux {verb} has no option '{name}'"
                + (f"; did you mean '{close[0]}'?" if close else "")
            )
    for name, action in named.items():
        if name in values and action.dest not in taken:
            tokens = _tokens(action, name, values[name], path)
            (options if action.option_strings else bare).extend(tokens)
    end = argv.index("--") if "--" in argv else len(argv)
    return [*bare, *argv[:end], *options, *argv[end:]]


def settings_text(argv: list[str], make: Parsers, verb: str, head: list[str]) -> str:
    """What a command was given and its defaults, as such a file.

    Parameters
    ----------
    argv : list of str
        After the verb, with those of a ``--config`` file.
    make, verb
        As for `with_config`.
    head : list of str
        Comments.
    """
    given, parser = vars(_as_text(argv, make, complete=True)), make()
    lines = [f"# {printable(line)}" for line in head]
    for name, action in _named(parser).items():
        value = given.get(action.dest, parser.get_default(action.dest))
        if isinstance(action, argparse._StoreTrueAction | argparse._StoreFalseAction):
            value = True if value == action.const else None
        if value is not None:
            lines.append(f"{name} = {_toml(value)}")
    return "\n".join(lines) + "\n"


def _named(parser: argparse.ArgumentParser) -> dict[str, argparse.Action]:
    """Actions by their names in a file."""
    found = {}
    for action in parser._actions:
        long = [o.removeprefix("--") for o in action.option_strings if o.startswith("--")]
        for name in long or [action.dest]:
            if action.dest not in _OF_THE_SCREEN:
                found[name] = action
    return found


def _as_text(argv: list[str], make: Parsers, *, complete: bool = False) -> argparse.Namespace:
    """What was given, as it was typed, and nothing else; of arguments that are not complete, those
    without dashes may all come as the first of them."""
    parser = make()
    parser._defaults = {}
    for action in parser._actions:
        action.default, action.type, action.choices = argparse.SUPPRESS, None, None
        action.required = action.required and complete
        if not action.option_strings and not complete:
            action.nargs = "*"
    for group in parser._mutually_exclusive_groups:
        group.required = group.required and complete
    return parser.parse_known_args(argv)[0]


def _read(path: str) -> dict:
    try:
        text = Path(path).read_bytes().decode("utf-8")
        content = tomllib.loads(text)
    except OSError as error:
        raise FFLUXError(f"{printable(path)}: {reason(error)}") from None
    except tomllib.TOMLDecodeError as error:
        raise FFLUXError(f"{printable(path)} is not TOML: {toml_fault(error, text)}") from None
    except (UnicodeDecodeError, RecursionError) as error:
        raise FFLUXError(f"{printable(path)} is not TOML: {error}") from None
    return content


def _tokens(action: argparse.Action, name: str, value, path: str) -> list[str]:
    """Arguments that say what a file says."""
    def wrong(what: str) -> FFLUXError:
        shown = json.dumps(value, default=str)
        return FFLUXError(f"{printable(path)}: {name} is {what}, not {shown}")

    option = action.option_strings[-1] if action.option_strings else None
    if action.nargs == 0:
        if not isinstance(value, bool):
            raise wrong("true or false")
        return [option] if value else []
    values = value if isinstance(value, list) else [value]
    if any(isinstance(v, bool | dict | list | date | datetime | time) for v in values):
        raise wrong("a number or a text, or a list of them")
    texts = [str(v) for v in values]
    several = isinstance(action, argparse._AppendAction) or action.nargs is not None
    if isinstance(value, list) and not several:
        raise wrong("one value")
    if option is None:
        return texts
    if action.nargs is not None and not isinstance(action, argparse._AppendAction):
        return [option, *texts]
    return [f"{option}={text}" for text in texts]


def _toml(value) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    text = str(value)
    for kind in (int, float):
        try:
            if repr(kind(text)) == text and text not in ("nan", "inf", "-inf"):
                return text
        except ValueError:
            pass
    return json.dumps(printable(text), ensure_ascii=False)
