"""Force fields from models given by name, path or as objects, and how they travel to a worker.

A path may also be that of a whole force field: a force-field file or a run directory of DL_FFLUX.

A model file is read once in a process: what was made of it is kept under the file's hash. A
calculator that is sent to another process takes paths and hashes along instead of the tables, and
is rebuilt there from what the process has already, or from the file.
"""

import hashlib
import json
from functools import lru_cache
from os import PathLike
from pathlib import Path
from typing import NamedTuple

from ase_fflux.base.errors import FFLUXError, ModelError
from ase_fflux.base.store import told
from ase_fflux.forcefield.described import described
from ase_fflux.forcefield.force_field import ForceField
from ase_fflux.forcefield.interactions.pairs import ShortRange
from ase_fflux.formats import force_field_file
from ase_fflux.formats.description import ForceFieldDescription
from ase_fflux.formats.dl_poly.directory import describe_directory, is_run_directory
from ase_fflux.formats.locate import find_model, load_molecule
from ase_fflux.model.molecule import MoleculeModel

OPTIONS = ("electrostatics", "level", "rank", "short_range", "short_range_cutoff", "accuracy")
"""What the calculator's parameters say of a force field beside its models."""

_ASKED = {"electrostatics": True, **dict.fromkeys(OPTIONS[1:])}
"""Where nothing is asked for."""


def as_parameter(model) -> str:
    """What stands in the calculator's parameters for a model: its name or path, or a description.

    Raises
    ------
    FFLUXError
        If it is neither a name or path, nor a `MoleculeModel` or `ForceField`.
    """
    if isinstance(model, str | PathLike):
        return str(model)
    if isinstance(model, MoleculeModel):
        return f"<MoleculeModel {model.name}>"
    if isinstance(model, ForceField):
        return f"<ForceField of {', '.join(m.name for m in model.models)}>"
    raise FFLUXError(
        f"the model is {type(model).__name__} {model!r}: give a name, a path, a MoleculeModel or "
        "a ForceField"
    )


def describes_all(path: str | Path) -> bool:
    """Whether a path is that of a whole force field, not of one molecule's model."""
    return Path(path).suffix == force_field_file.SUFFIX or is_run_directory(path)


def read_description(path: str | Path) -> ForceFieldDescription:
    """The description of a path for which `describes_all`."""
    path = Path(path)
    if path.suffix == force_field_file.SUFFIX:
        return force_field_file.read_force_field_file(path)
    return describe_directory(path)


class ModelFile(NamedTuple):
    """A bundle, a directory of models, a force-field file or a run directory.

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
        path = Path(given).expanduser()
        if not describes_all(path):
            path = find_model(given)
        path = path.resolve()
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
    """SHA-256 of a file, or of the names and contents of the files of a model directory.

    That of a whole force field is of all files that it depends on.
    """
    total = hashlib.sha256()
    if describes_all(path):
        description = read_description(path)
        for entry in description.species:
            total.update(_digest(find_model(entry.model)).encode())
        for file in description.files:
            with told(file, "read"):
                total.update(hashlib.sha256(file.read_bytes()).digest())
        return total.hexdigest()
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
    if describes_all(files[0][0]):
        return described(read_description(files[0][0]))
    return _force_field([load_molecule(path) for path, _ in files], json.loads(options))


def _force_field(models, options: dict) -> ForceField:
    pairs, cutoff = options["short_range"], options["short_range_cutoff"]
    if pairs is None and cutoff is not None:
        raise FFLUXError(
            f"a cut-off of pair potentials ({cutoff:g} Angstrom) and no pair potentials: give "
            "short_range too, or leave the cut-off away"
        )
    short_range = None if pairs is None else ShortRange.from_dict(pairs, cutoff=cutoff)
    if short_range is not None:
        _require_elements(pairs, models)
    return ForceField(
        models, electrostatics=options["electrostatics"], level=options["level"],
        rank=options["rank"], accuracy=options["accuracy"],
        short_range=short_range,
    )


def _require_elements(pairs: dict, models) -> None:
    """Refuse pair potentials of elements that no model has: they would do nothing."""
    known = {symbol for model in models for symbol in model.symbols}
    for pair in pairs:
        for symbol in pair.split("-"):
            if symbol not in known:
                raise FFLUXError(
                    f"short-range pair {pair}: there is no {symbol} in the models, which have "
                    f"{', '.join(sorted(known))}"
                )


def force_field(models, options: dict) -> tuple[ForceField, tuple[ModelFile, ...] | None]:
    """A force field as the calculator's parameters describe it.

    Parameters
    ----------
    models : sequence
        Names, paths and `MoleculeModel` objects, or one `ForceField`, force-field file or run
        directory.
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
        if any(options[name] != _ASKED[name] for name in OPTIONS):
            raise FFLUXError(
                f"a ForceField has its interactions already: leave {', '.join(OPTIONS)} away"
            )
        return ready[0], None
    objects = [m for m in models if isinstance(m, MoleculeModel)]
    whole = [m for m in models if not isinstance(m, MoleculeModel) and describes_all(m)]
    if whole:
        if len(models) > 1:
            raise FFLUXError(
                f"{whole[0]} describes a whole force field: give it alone, or write the other "
                "models into it"
            )
        if asked := [name for name in OPTIONS if options[name] != _ASKED[name]]:
            raise FFLUXError(
                f"{whole[0]} says how molecules interact: change it there, and leave "
                f"{', '.join(asked)} away"
            )
    if not objects:
        files = tuple(ModelFile.find(m) for m in models)
        return made_from(files, options), files
    return _force_field(
        [m if isinstance(m, MoleculeModel) else load_molecule(m) for m in models], options
    ), None


def made_from(files: tuple[ModelFile, ...], options: dict) -> ForceField:
    """The force field of files that are there; see `ModelFile.found_here`."""
    chosen = json.dumps({name: options[name] for name in OPTIONS}, default=float)
    return _made(tuple((file.path, file.digest) for file in files), chosen)


def load(model, **options) -> ForceField:
    """Load a force field.

    Parameters
    ----------
    model : str, Path, MoleculeModel or list of them
        Name of a bundled model, a bundle (``.fflux``) or a directory of ``.model`` files; several
        for several species of molecules. A force-field file (``.toml``) or a run directory of
        DL_FFLUX comes alone and without options.
    **options
        Passed on to `ForceField`.

    Examples
    --------
    >>> load("water").evaluate(positions, [8, 1, 1]).energy  # bohr in, hartree out
    """
    models = model if isinstance(model, list | tuple) else [model]
    if any(not isinstance(m, MoleculeModel) and describes_all(m) for m in models):
        return force_field(models, {**_ASKED, **options})[0]
    return ForceField(
        [m if isinstance(m, MoleculeModel) else load_molecule(m) for m in models], **options
    )
