"""A force field of several species as a file describes it, whichever file that is.

What the numbers make together is for `ase_fflux.forcefield.described` to check, which says the
``where`` of what it refuses.
"""

from dataclasses import dataclass, field
from pathlib import Path

from ase_fflux.formats.bundle import read_bundle
from ase_fflux.formats.locate import find_model
from ase_fflux.formats.model_directory import read_model_directory
from ase_fflux.model.molecule import MoleculeModel

MIXING = ("Lorentz-Berthelot", "geometric")
"""Rules by which Lennard-Jones potentials of unlike atoms follow from those of like ones."""


@dataclass(frozen=True)
class SpeciesEntry:
    """One species of molecules.

    Attributes
    ----------
    model : Path
        Bundle or directory of ``.model`` files.
    where : str
        File and line that name it.
    types : tuple of str or None
        Type of each atom in the order of the model; None where elements are the types.
    system : str or None
        Name in the ``.model`` files, of a directory that holds those of several species.
    """

    model: Path
    where: str
    types: tuple[str, ...] | None = None
    system: str | None = None

    def load(self) -> MoleculeModel:
        """Read the model."""
        path = find_model(self.model)
        return read_model_directory(path, self.system) if path.is_dir() else read_bundle(path)


@dataclass(frozen=True)
class PairEntries:
    """Pair potentials between types of atoms.

    Attributes
    ----------
    potentials : dict
        ``{(type, type): (kind, parameters)}``, the types in alphabetical order, kinds and
        parameters (eV, Angstrom) as those of `ShortRange.from_dict`.
    where : dict
        File and line of each.
    cutoff : float or None
        Angstrom.
    shifted, tail : bool
        As of `ShortRange`.
    mixing : str or None
        One of `MIXING`; without it types that are not listed together have no potential.
    """

    potentials: dict[tuple[str, str], tuple[str, tuple[float, ...]]]
    where: dict[tuple[str, str], str]
    cutoff: float | None = None
    shifted: bool = True
    tail: bool = False
    mixing: str | None = None


@dataclass(frozen=True)
class ForceFieldDescription:
    """All that makes a force field.

    Attributes
    ----------
    path : Path
        Of the file or folder.
    species : tuple of SpeciesEntry
    electrostatics : bool
    level, rank : int or None
        As of `ForceField`.
    accuracy : float or None
    pairs : PairEntries or None
    """

    path: Path
    species: tuple[SpeciesEntry, ...]
    electrostatics: bool = True
    level: int | None = None
    rank: int | None = None
    accuracy: float | None = None
    pairs: PairEntries | None = None
    files: tuple[Path, ...] = field(default=())
    """The description's own files, which its meaning depends on."""
