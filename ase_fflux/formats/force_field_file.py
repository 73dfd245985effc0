"""Force-field files: several species, their electrostatics and pair potentials, in TOML.

Docs: docs/force-field-files.md. Everything but the models is checked here or in
`ase_fflux.forcefield.described`; every refusal names the line.
"""

import re
import tomllib
from math import isfinite
from pathlib import Path

from ase_fflux.base.errors import FFLUXError, ModelError, reason
from ase_fflux.base.text import toml_fault
from ase_fflux.base.units import KCAL_PER_MOL, KJ_PER_MOL
from ase_fflux.formats.description import (
    MIXING,
    ForceFieldDescription,
    PairEntries,
    SpeciesEntry,
)
from ase_fflux.formats.locate import bundled_models, find_model

SUFFIX = ".toml"

_ENERGY = {"eV": 1.0, "kJ/mol": KJ_PER_MOL, "kcal/mol": KCAL_PER_MOL}
_TRUNCATION = {"force-shifted": True, "plain": False}
_KINDS = {"lj": ("epsilon", "sigma"), "buckingham": ("A", "rho", "C")}
_ENERGIES = {"lj": (0,), "buckingham": (0, 2)}
"""Which parameters are energies, or energies times a length."""

_PART = re.compile(r'"([^"]*)"|\'([^\']*)\'|([A-Za-z0-9_-]+)')


def read_force_field_file(path: str | Path) -> ForceFieldDescription:
    """Read a force-field file.

    Parameters
    ----------
    path : str or Path
        Of the file. Models in it are paths relative to it, or names of bundled models.

    Raises
    ------
    FFLUXError
        A file that cannot be read or is no TOML; keys that are not known, missing, or not what they
        should be: file and line.
    ModelError
        A model that is not there.
    """
    source = _Source(Path(path))
    source.require_known((), ("species", "electrostatics", "pairs"))
    species = source.table(("species",), needed=True)
    if not species:
        source.refuse(("species",), "there are no species")
    entries = tuple(_species(source, name) for name in species)
    electrostatics = _electrostatics(source)
    return ForceFieldDescription(
        source.path, entries, **electrostatics, pairs=_pairs(source), files=(source.path,)
    )


class _Source:
    """The file's content and where in it things stand."""

    def __init__(self, path: Path):
        self.path = path
        try:
            self._text = path.read_text(encoding="utf-8")
            self.content = tomllib.loads(self._text)
        except OSError as error:
            raise FFLUXError(f"{path}: cannot be read: {reason(error)}") from None
        except UnicodeDecodeError:
            raise FFLUXError(f"{path}: is no text in UTF-8") from None
        except tomllib.TOMLDecodeError as error:
            raise FFLUXError(f"{path}: {toml_fault(error, self._text)}") from None

    def line(self, keys: tuple[str, ...]) -> int:
        """Line of a key, or of the nearest table around it."""
        table, best, found = (), -1, 1
        for number, text in enumerate(self._text.splitlines(), start=1):
            stripped = text.strip()
            if stripped.startswith("["):
                table = here = _keys(stripped.strip("[] "))
            elif "=" in stripped and not stripped.startswith("#"):
                here = table + _keys(stripped.split("=")[0])
            else:
                continue
            common = min(len(here), len(keys))  # a table may be named by those inside it alone
            same = common if keys[:common] == here[:common] else -1
            if same > best:
                best, found = same, number
        return found

    def where(self, keys: tuple[str, ...]) -> str:
        return f"{self.path}, line {self.line(keys)}"

    def refuse(self, keys: tuple[str, ...], why: str):
        raise FFLUXError(f"{self.where(keys)}: {why}")

    def table(self, keys: tuple[str, ...], needed: bool = False) -> dict:
        """A table, empty where there is none."""
        here = self.content
        for depth, key in enumerate(keys):
            if not isinstance(here, dict):
                self.refuse(keys[:depth], f"{'.'.join(keys[:depth])} should be a table")
            if key not in here:
                if needed:
                    raise FFLUXError(f"{self.path}: there is no table [{'.'.join(keys)}]")
                return {}
            here = here[key]
        if not isinstance(here, dict):
            self.refuse(keys, f"{'.'.join(keys)} should be a table")
        return here

    def require_known(self, keys: tuple[str, ...], known: tuple[str, ...]) -> None:
        for key in self.table(keys):
            if key not in known:
                place = f"[{'.'.join(keys)}]" if keys else "a force-field file"
                self.refuse(
                    (*keys, key), f"{key!r} is not known in {place}: {', '.join(known)} are"
                )

    def choice(self, keys: tuple[str, ...], options, default: str) -> str:
        """A word out of several."""
        value = self.table(keys[:-1]).get(keys[-1], default)
        if value not in options:
            self.refuse(keys, f"{keys[-1]} is {value!r}: choose from {', '.join(options)}")
        return value

    def flag(self, keys: tuple[str, ...]) -> bool:
        """True or false."""
        value = self.table(keys[:-1]).get(keys[-1], False)
        if not isinstance(value, bool):
            self.refuse(keys, f"{keys[-1]} is {value!r}: it is true or false")
        return value


def _keys(text: str) -> tuple[str, ...]:
    return tuple("".join(parts) for parts in _PART.findall(text))


def _species(source: _Source, name: str) -> SpeciesEntry:
    keys = ("species", name)
    table = source.table(keys)
    source.require_known(keys, ("model", "types"))
    given = table.get("model")
    if not isinstance(given, str) or not given:
        source.refuse(keys, f"the species {name} needs a model: a bundle, a directory of .model "
                            "files or the name of a bundled model")
    here = source.path.parent / Path(given).expanduser()
    where = source.where((*keys, "model"))
    try:
        model = find_model(here if here.exists() or given not in bundled_models() else given)
    except ModelError as error:
        raise ModelError(f"{where}: {error}") from None
    types = table.get("types")
    if types is not None:
        if not isinstance(types, list) or not all(isinstance(t, str) and t for t in types):
            source.refuse((*keys, "types"), f"types is {types!r}: give a list of names, one for "
                                            "each atom of the model")
        for kind in types:
            if "-" in kind:
                source.refuse((*keys, "types"), f"the type {kind!r} has a hyphen, by which pairs "
                                                "are written: choose another name")
        types = tuple(types)
    return SpeciesEntry(model, where, types)


def _electrostatics(source: _Source) -> dict:
    keys = ("electrostatics",)
    table = source.table(keys)
    source.require_known(keys, ("rank", "level", "accuracy", "off"))
    for name in ("rank", "level"):
        value = table.get(name)
        low, high = (0, 4) if name == "rank" else (1, 9)
        if value is not None and (type(value) is not int or not low <= value <= high):
            source.refuse((*keys, name), f"{name} is {value!r}: it goes from {low} to {high}")
    accuracy = table.get("accuracy")
    if accuracy is not None and not (
        type(accuracy) in (int, float) and 1e-12 <= accuracy <= 1e-2
    ):
        source.refuse((*keys, "accuracy"), f"accuracy is {accuracy!r}: give 1e-12 to 1e-2")
    if "rank" in table and "level" in table:
        source.refuse((*keys, "level"), "give the interaction rank or the level, not both")
    off = source.flag((*keys, "off"))
    if off and len(table) > 1:
        source.refuse((*keys, "off"), "electrostatics are off: leave the other keys away")
    return {
        "electrostatics": not off, "rank": table.get("rank"), "level": table.get("level"),
        "accuracy": accuracy,
    }


def _pairs(source: _Source) -> PairEntries | None:
    keys = ("pairs",)
    table = source.table(keys)
    if not table:
        return None
    source.require_known(keys, ("units", "cutoff", "truncation", "tail", "mixing", *_KINDS))
    unit = _ENERGY[source.choice((*keys, "units"), _ENERGY, "eV")]
    shifted = _TRUNCATION[source.choice((*keys, "truncation"), _TRUNCATION, "force-shifted")]
    mixing = None
    if "mixing" in table:
        mixing = source.choice((*keys, "mixing"), MIXING, "")
    cutoff = table.get("cutoff")
    if cutoff is not None and not _positive(cutoff):
        source.refuse((*keys, "cutoff"), f"cutoff is {cutoff!r}: it is a positive length "
                                         "(Angstrom)")
    if "truncation" in table and cutoff is None:
        source.refuse((*keys, "truncation"), "a truncation without a cutoff: give one")
    tail = source.flag((*keys, "tail"))
    if tail and (shifted or cutoff is None):
        source.refuse((*keys, "tail"), "tail corrections are of plain potentials with a cutoff: "
                                       "set truncation = \"plain\"")
    potentials, where = {}, {}
    for kind in _KINDS:
        for name, values in source.table((*keys, kind)).items():
            place = (*keys, kind, name)
            pair = tuple(sorted(name.split("-")))
            if len(pair) != 2 or not all(pair):
                source.refuse(place, f"{name!r} is no pair: write two types of atoms, such as O-H")
            if pair in potentials:
                source.refuse(place, f"the pair {name} is given twice, also at {where[pair]}")
            potentials[pair] = kind, _parameters(source, place, kind, values, unit)
            where[pair] = source.where(place)
    if not potentials:
        tables = " or ".join(f"[pairs.{kind}]" for kind in _KINDS)
        source.refuse(keys, f"there are no potentials: give them in {tables}")
    return PairEntries(potentials, where, cutoff, shifted, tail, mixing)


def _positive(value) -> bool:
    return type(value) in (int, float) and isfinite(value) and value > 0


def _parameters(source: _Source, place, kind: str, values, unit: float) -> tuple[float, ...]:
    wanted = _KINDS[kind]
    if (
        not isinstance(values, list) or len(values) != len(wanted)
        or not all(type(value) in (int, float) and isfinite(value) for value in values)
    ):
        source.refuse(place, f"{kind} takes {len(wanted)} numbers, {', '.join(wanted)}")
    return tuple(
        float(value) * (unit if k in _ENERGIES[kind] else 1.0) for k, value in enumerate(values)
    )
