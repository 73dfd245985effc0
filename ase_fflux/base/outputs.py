"""Output files: their names, what becomes of files already there, and what is said in each."""

import json
import platform
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from importlib.metadata import version
from pathlib import Path

import numpy as np

from ase_fflux import __version__
from ase_fflux.base.claims import held
from ase_fflux.base.errors import FFLUXError
from ase_fflux.base.store import told, write_text


@contextmanager
def silent(description: str, total: int | None, done: int = 0) -> Iterator[Callable]:
    """A progress bar that shows nothing; gives a function to call with increments and notes."""
    yield lambda n, note="": None


settings_of_run: ContextVar[str | None] = ContextVar("settings_of_run", default=None)
"""What the running command was given, as a file of settings; None outside of commands."""


class OutputFiles:
    """The files one task writes, all named ``prefix + suffix``.

    Those of a command have beside them what was run, ``prefix.toml`` (`settings_of_run`); where
    the prefix is the name of a file itself, `record_run` does it.

    Parameters
    ----------
    prefix : str or Path
        Folder and beginning of every name; the folder is made if it is not there.
    suffixes : iterable of str
        Ends of the names, such as ``".xyz"``; a folder's ends in ``/``.
    """

    def __init__(self, prefix: str | Path, suffixes: Iterable[str]):
        self.prefix = prefix
        self._paths = {suffix: Path(f"{prefix}{suffix}") for suffix in suffixes}
        self._settings = None if "" in self._paths else settings_of_run.get()
        if self._settings is not None:
            self._paths[_SETTINGS] = Path(f"{prefix}{_SETTINGS}")

    def __getitem__(self, suffix: str) -> Path:
        return self._paths[suffix]

    @property
    def names(self) -> list[str]:
        """Names of all files, in the order of the suffixes."""
        return [str(path) for path in self._paths.values()]

    @property
    def written(self) -> list[str]:
        """Names of the files that exist, in the order of the suffixes."""
        return [str(path) for path in self._paths.values() if path.exists()]

    def require_apart(self, source: str | Path) -> None:
        """Refuse an input that would be set aside as earlier output.

        Raises
        ------
        FFLUXError
            One of the files is the input.
        """
        for path in self._paths.values():
            if path.exists() and Path(source).exists() and path.samefile(source):
                raise FFLUXError(
                    f"the output {path} would take the place of the input: choose another output"
                )

    def held(self, command: str):
        """A context in which no other command writes files of this prefix, see `claims.held`."""
        return held(self.prefix, command)

    @contextmanager
    def made_anew(self, command: str, say: Callable[[str], None] = print) -> Iterator[None]:
        """A context that is `held`, in which what was there is `set_aside` already, and said."""
        with self.held(command):
            if moved := self.set_aside():
                say(moved)
            yield

    def set_aside(self) -> str | None:
        """Rename whatever is there under these names to numbered backups ``name.~n~``, and write
        what was run.

        All files of one set get the same, so far unused, number, so that an earlier run stays
        together.

        Returns
        -------
        str or None
            One line that says what was moved, None if nothing was there.
        """
        paths = self._paths.values()
        for parent in {path.parent for path in paths}:
            with told(parent, "made"):
                parent.mkdir(parents=True, exist_ok=True)
        there = [path for path in paths if path.exists()]
        told_of = self._moved(there, paths) if there else None
        if self._settings is not None:
            write_text(self._paths[_SETTINGS], self._settings)
        return told_of

    def _moved(self, there, paths) -> str:
        number = 1
        while any(_backup(path, number).exists() for path in paths):
            number += 1
        for path in there:
            with told(path, "renamed"):
                path.rename(_backup(path, number))
        names = ", ".join(_backup(path, number).name for path in there)
        return f"kept the earlier output as {names}"


_SETTINGS = ".toml"


def record_run(output: str | Path) -> None:
    """Write what was run beside an output of one file or folder, as ``output.settings.toml``.

    Earlier ones are kept with numbers: a label file is made by several commands in turn. Beside
    ``.`` and outside of commands nothing is written.
    """
    settings, output = settings_of_run.get(), Path(output)
    if settings is None or not output.name:
        return
    path = output.with_name(f"{output.name}.settings{_SETTINGS}")
    OutputFiles(path, [""]).set_aside()
    write_text(path, settings)


def _backup(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.~{number}~")


def write_json(path: Path, content: dict) -> None:
    """Write a summary; numpy arrays and numbers become lists and numbers.

    Raises
    ------
    ValueError
        A number that is not finite, which JSON does not have.
    FFLUXError
        A file that cannot be written.
    """
    write_text(path, json_text(content))


def json_text(content: dict) -> str:
    """The text of a summary, see `write_json`."""
    return json.dumps(content, indent=2, default=_plain, allow_nan=False) + "\n"


def _plain(value):
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} has no place in a summary")


def write_csv(path: Path, columns: dict[str, Iterable]) -> None:
    """Write equally long columns under their names, numbers with the digits that restore them."""
    rows = zip(*columns.values(), strict=True)
    lines = [",".join(columns), *(",".join(_cell(value) for value in row) for row in rows)]
    write_text(path, "\n".join(lines) + "\n")


def _cell(value) -> str:
    return str(value.item() if isinstance(value, np.generic) else value)


def versions() -> dict[str, str]:
    """Versions of what the numbers depend on."""
    packages = {name: version(name) for name in ("ase", "numpy", "phonopy")}
    return {"ase_fflux": __version__, "python": platform.python_version(), **packages}
