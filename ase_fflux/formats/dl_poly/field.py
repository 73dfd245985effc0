"""FIELD: kinds of molecules with their sites, and the pair potentials between sites.

What FIELD says within molecules (bonds, angles) is for the published engine to know which atoms
belong together: models hold all energy within molecules, so that force constants must be zero.
"""

from dataclasses import dataclass
from pathlib import Path

from ase_fflux.base.errors import FFLUXError
from ase_fflux.base.units import KCAL_PER_MOL, KJ_PER_MOL
from ase_fflux.formats.dl_poly.records import Record, read_records

_ENERGY = {
    "ev": 1.0, "kj": KJ_PER_MOL, "kcal": KCAL_PER_MOL, "internal": 0.01 * KJ_PER_MOL,
    "": 0.01 * KJ_PER_MOL,
}
"""eV in FIELD's unit of energy; without one it is 10 J/mol."""

_WITHIN = ("bonds", "angles", "dihedrals", "inversions")
_LEFT = ("constraints", "shell", "pmf", "rigid", "teth")
_POTENTIALS = {"lj": ("lj", 2), "12-6": ("12-6", 2), "buck": ("buckingham", 3)}


@dataclass(frozen=True)
class Site:
    """An atom of a molecule: its name, mass (amu) and record."""

    name: str
    mass: float
    record: Record


@dataclass(frozen=True)
class MoleculeKind:
    """A kind of molecules: name, how many, sites of one, and the records of name and number."""

    name: str
    number: int
    sites: tuple[Site, ...]
    record: Record


@dataclass(frozen=True)
class Field:
    """What a FIELD says.

    Attributes
    ----------
    path : Path
    title : str
    molecules : tuple of MoleculeKind
        In the order of the atoms in CONFIG.
    potentials : dict
        ``{(name, name): (kind, parameters, record)}`` with names in alphabetical order, parameters
        in eV and Angstrom.
    """

    path: Path
    title: str
    molecules: tuple[MoleculeKind, ...]
    potentials: dict[tuple[str, str], tuple[str, tuple[float, ...], Record]]

    @property
    def n_atoms(self) -> int:
        """Atoms of all molecules."""
        return sum(kind.number * len(kind.sites) for kind in self.molecules)


class _Reader:
    """The records one after the other."""

    def __init__(self, path: Path):
        self.path = path
        self.title, self._records = read_records(path)
        self._next = 0

    def take(self, what: str) -> Record:
        """The next record."""
        if self._next == len(self._records):
            raise FFLUXError(f"{self.path}: ends where {what} should be")
        self._next += 1
        return self._records[self._next - 1]


def read_field(path: str | Path) -> Field:
    """Read a FIELD.

    Raises
    ------
    FFLUXError
        A file that cannot be read or is cut off; a force constant within a molecule that is not
        zero; rigid bodies, constraints, shells, tethers, frozen atoms; a pair potential that is
        neither Lennard-Jones nor Buckingham; a section that is not known.
    """
    reader = _Reader(Path(path))
    unit, molecules, potentials = None, None, {}
    while True:
        record = reader.take("CLOSE")
        word = record.words[0].lower()
        if word == "close":
            break
        if word == "units":
            name = record.words[1].lower() if len(record.words) > 1 else ""
            if name not in _ENERGY:
                record.refuse(f"energies in {record.words[1]!r}: known units are eV, kJ, kcal "
                              "(per mol) and internal (10 J/mol)")
            unit = _ENERGY[name]
        elif word.startswith("multipol"):
            continue  # CONTROL says which moments interact, the models what they are
        elif word.startswith("molecu"):
            number = record.whole(len(record.words) - 1, "the number of kinds of molecules", 1)
            molecules = tuple(_molecule(reader) for _ in range(number))
        elif word == "vdw":
            if unit is None:
                unit = _ENERGY[""]
            for _ in range(record.whole(1, "the number of pair potentials")):
                _add_potential(reader.take("a pair potential"), unit, potentials)
        elif word == "rdf":
            for _ in range(record.whole(1, "the number of pairs")):
                reader.take("a pair of names")
        else:
            record.refuse(f"a section {record.words[0]!r} is not known here: FIELD has UNITS, "
                          "MULTIPOLAR, MOLECULES, VDW and RDF")
    if not molecules:
        raise FFLUXError(f"{reader.path}: there are no molecules in it")
    return Field(reader.path, reader.title, molecules, potentials)


def _molecule(reader: _Reader) -> MoleculeKind:
    name = reader.take("the name of a molecule")
    record = reader.take("NUMMOLS")
    if record.words[0].lower() != "nummols":
        record.refuse(f"NUMMOLS should follow the name of the molecule {name.text}")
    number = record.whole(1, "the number of molecules", 1)
    sites: list[Site] = []
    while True:
        record = reader.take(f"FINISH of the molecule {name.text}")
        word = record.words[0].lower()
        if word == "finish":
            break
        if word == "atoms":
            wanted = record.whole(1, "the number of atoms", 1)
            while len(sites) < wanted:
                sites += _sites(reader.take(f"an atom of {name.text}"))
            if len(sites) > wanted:
                record.refuse(f"{wanted} atoms are announced, and repetitions make {len(sites)}")
        elif word in _WITHIN:
            for _ in range(record.whole(1, f"the number of {word}")):
                _require_no_force(reader.take(f"one of the {word}"), word)
        elif word.startswith(_LEFT):
            record.refuse(f"{record.words[0]} of the molecule {name.text}: molecules move freely "
                          "in all their coordinates here; leave that section away")
        else:
            record.refuse(f"a section {record.words[0]!r} of a molecule is not known here")
    if not sites:
        name.refuse(f"the molecule {name.text} has no atoms")
    return MoleculeKind(name.text, number, tuple(sites), name)


def _sites(record: Record) -> list[Site]:
    mass = record.real(1, "the mass of an atom")
    repeat = record.whole(3, "the number of repetitions") if len(record.words) > 3 else 1
    frozen = record.whole(4, "whether the atom is frozen") if len(record.words) > 4 else 0
    if frozen:
        record.refuse("frozen atoms are not known here: set its last number to 0")
    if mass <= 0:
        record.refuse(f"the mass of {record.words[0]} is {mass}: it must be positive")
    return [Site(record.words[0], mass, record)] * max(repeat, 1)


_ATOMS = {"bonds": 2, "angles": 3, "dihedrals": 4, "inversions": 4}


def _require_no_force(record: Record, section: str) -> None:
    first = 1 + _ATOMS[section]
    if len(record.words) > first and record.real(first, "the force constant") != 0:
        record.refuse(
            f"{section} with a force constant of {record.words[first]}: the models hold all energy "
            "within molecules, to which this would come on top; set it to 0"
        )


def _add_potential(record: Record, unit: float, potentials: dict) -> None:
    words = record.words
    if len(words) < 3:
        record.refuse(f"a pair potential is two names, a kind and its parameters: {record.text!r}")
    kind = words[2].lower()
    if kind not in _POTENTIALS:
        record.refuse(f"pair potentials {words[2]!r} are not known here: use lj, 12-6 or buck")
    name, n = _POTENTIALS[kind]
    values = [record.real(3 + k, f"parameter {k + 1} of {kind}") for k in range(n)]
    if name == "12-6":
        a, b = values
        if not (a > 0 and b > 0):
            record.refuse("both parameters of 12-6 must be positive")
        name, values = "lj", [b * b / (4 * a), (a / b) ** (1 / 6)]
    values[0] *= unit
    if name == "buckingham":
        values[2] *= unit
        if values[0] == 0.0:
            values[1] = values[1] or 1.0
    key = tuple(sorted(words[:2]))
    if key in potentials:
        record.refuse(f"the pair {'-'.join(key)} is there twice, also on line "
                      f"{potentials[key][2].number}")
    potentials[key] = name, tuple(values), record
