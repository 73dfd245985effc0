"""Force fields from models given by name, path or as objects, and how they travel to a worker.

A model file is read once in a process: what was made of it is kept under the file's hash. A
calculator that is sent to another process takes paths and hashes along instead of the tables, and
is rebuilt there from what the process has already, or from the file.
"""

import hashlib
import json
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from ase_fflux.base.errors import FFLUXError, ModelError
from ase_fflux.forcefield.force_field import ForceField
from ase_fflux.forcefield.interactions.pairs import ShortRange
from ase_fflux.formats.locate import find_model, load_molecule
from ase_fflux.model.molecule import MoleculeModel

_OPTIONS = ("electrostatics", "level", "rank", "short_range", "short_range_cutoff", "accuracy")


class ModelFile(NamedTuple):
    """A bundle or a directory of models.

    Attributes
    ----------
    given : str
        The name or path that the user gave.
    path : str
        Absolute.
    digest : str
        SHA-256 of its contents.
    """

    given: str
    path: str
    digest: str

    @classmethod
    def find(cls, given: str | Path) -> "ModelFile":
        """The file that a name or path stands for, as it is now."""
        path = find_model(given).resolve()
        return cls(str(given), str(path), _digest(path))

    def found_here(self) -> "ModelFile":
        """The same contents in this process; raises ModelError where they are not to be had."""
        for place in (self.path, self.given):
            try:
                here = ModelFile.find(place)
            except ModelError:
                continue
            if here.digest == self.digest:
                return here
        raise ModelError(
            f"{self.path}: the calculator that was sent here was made from this model, which is "
            "missing here or has changed since; make the calculator again, or give it the model "
            "itself (read_bundle) in place of the path"
        )


def _digest(path: Path) -> str:
    """SHA-256 of a file, or of the names and contents of the files of a model directory."""
    total = hashlib.sha256()
    try:
        if path.is_file():
            total.update(path.read_bytes())
        else:
            for file in sorted(p for p in path.iterdir() if p.suffix in (".model", ".json")):
                total.update(f"{file.name}\0".encode(errors="surrogateescape"))
                total.update(hashlib.sha256(file.read_bytes()).digest())
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror or error}") from None
    return total.hexdigest()


@lru_cache(maxsize=4)
def _made(files: tuple[tuple[str, str], ...], options: str) -> ForceField:
    """The force field of files (path, digest), kept for whoever asks for the same."""
    return _force_field([load_molecule(path) for path, _ in files], json.loads(options))


def _force_field(models, options: dict) -> ForceField:
    pairs, cutoff = options["short_range"], options["short_range_cutoff"]
    if pairs is None and cutoff is not None:
        raise FFLUXError(
            f"a cut-off of pair potentials ({cutoff:g} Angstrom) and no pair potentials: give "
            "short_range too, or leave the cut-off away"
        )
    return ForceField(
        models, electrostatics=options["electrostatics"], level=options["level"],
        rank=options["rank"], accuracy=options["accuracy"],
        short_range=None if pairs is None else ShortRange.from_dict(pairs, cutoff=cutoff),
    )


def force_field(models, options: dict) -> tuple[ForceField, tuple[ModelFile, ...] | None]:
    """A force field as the calculator's parameters describe it.

    Parameters
    ----------
    models : sequence
        Names, paths and `MoleculeModel` objects, or one `ForceField`.
    options : dict
        ``electrostatics``, ``level``, ``rank``, ``short_range``, ``short_range_cutoff``,
        ``accuracy`` of `FFLUX`.

    Returns
    -------
    ForceField
    tuple of ModelFile or None
        What it can be made from again; None where there are objects among the models.
    """
    ready = [m for m in models if isinstance(m, ForceField)]
    if ready:
        if len(models) > 1:
            raise FFLUXError("give one ForceField, or models, not both: ForceField([...]) has all")
        asked = {"electrostatics": True, **dict.fromkeys(_OPTIONS[1:])}
        if any(options[name] != asked[name] for name in _OPTIONS):
            raise FFLUXError(
                f"a ForceField has its interactions already: leave {', '.join(_OPTIONS)} away"
            )
        return ready[0], None
    objects = [m for m in models if isinstance(m, MoleculeModel)]
    if not objects:
        files = tuple(ModelFile.find(m) for m in models)
        return made_from(files, options), files
    return _force_field(
        [m if isinstance(m, MoleculeModel) else load_molecule(m) for m in models], options
    ), None


def made_from(files: tuple[ModelFile, ...], options: dict) -> ForceField:
    """The force field of files that are there; see `ModelFile.found_here`."""
    chosen = json.dumps({name: options[name] for name in _OPTIONS}, default=float)
    return _made(tuple((file.path, file.digest) for file in files), chosen)


def load(model, **options) -> ForceField:
    """Load a force field.

    Parameters
    ----------
    model : str, Path, MoleculeModel or list of them
        Name of a bundled model, a bundle (``.fflux``) or a directory of ``.model`` files; several
        for several species of molecules.
    **options
        Passed on to `ForceField`.

    Examples
    --------
    >>> load("water").evaluate(positions, [8, 1, 1]).energy  # bohr in, hartree out
    """
    models = model if isinstance(model, list | tuple) else [model]
    return ForceField(
        [m if isinstance(m, MoleculeModel) else load_molecule(m) for m in models], **options
    )
