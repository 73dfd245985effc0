"""A run directory as a whole: what CONFIG, CONTROL, FIELD and the models say together."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase.data import atomic_masses, atomic_numbers
from ase.geometry import complete_cell
from ase.neighborlist import primitive_neighbor_list

from ase_fflux.base.errors import FFLUXError, GeometryError, TopologyError
from ase_fflux.formats.description import ForceFieldDescription, PairEntries, SpeciesEntry
from ase_fflux.formats.dl_poly.config import Config, read_config
from ase_fflux.formats.dl_poly.control import Control, read_control
from ase_fflux.formats.dl_poly.field import Field, MoleculeKind, read_field
from ase_fflux.formats.model_directory import systems_of
from ase_fflux.model.molecule import MoleculeModel
from ase_fflux.topology.graphs import atom_label

MODELS = "model_krig"
"""Folder of the models."""

_NEEDED = ("CONFIG", "CONTROL", "FIELD")

_MASS = 1.5
"""amu by which the mass of an isotope may differ from its element's: H and D are hydrogen, O and N
are two elements."""

_OVERLAP = 0.25
"""Angstrom; atoms as near as this are on one spot."""


@dataclass(frozen=True, eq=False)
class RunDirectory:
    """What a run directory says; it contradicts itself nowhere.

    Attributes
    ----------
    path : Path
    config, control, field
        Its files.
    """

    path: Path
    config: Config
    control: Control
    field: Field

    def description(self) -> ForceFieldDescription:
        """The force field."""
        return _description(self.path, self.control, self.field)

    def assignment(self) -> list[list[list[int]]]:
        """Atoms of each molecule of each kind, in the order of FIELD, counted from 0."""
        found, first = [], 0
        for kind in self.field.molecules:
            n = len(kind.sites)
            end = first + kind.number * n
            found.append(np.arange(first, end).reshape(-1, n).tolist())
            first = end
        return found

    def masses(self) -> np.ndarray:
        """(n,) masses in amu, as FIELD has them."""
        return np.concatenate([
            np.tile([site.mass for site in kind.sites], kind.number)
            for kind in self.field.molecules
        ])

    def numbers(self, models) -> np.ndarray:
        """(n,) atomic numbers, those of the models.

        Parameters
        ----------
        models : sequence of MoleculeModel
            One for each kind of molecules.

        Raises
        ------
        FFLUXError
            FIELD contradicts a model: the line, and what each of them says.
        """
        numbers = []
        for kind, model in zip(self.field.molecules, models, strict=True):
            _require_same(kind, model)
            numbers.append(np.tile([atomic_numbers[s] for s in model.symbols], kind.number))
        return np.concatenate(numbers)

    def told(self, error: GeometryError | TopologyError) -> FFLUXError:
        """A fault of the geometry with the file's name."""
        return type(error)(f"{self.config.path}: {error}")


def is_run_directory(path: str | Path) -> bool:
    """Whether this is a folder with a FIELD, which no other folder of models has."""
    return (Path(path) / "FIELD").is_file()


def read_run_directory(path: str | Path) -> RunDirectory:
    """Read the files of a run directory, but for the models.

    Raises
    ------
    FFLUXError
        A file that is missing or that cannot be read; names or numbers of atoms in CONFIG that are
        not those of FIELD, as of half a molecule; atoms on one spot; a cell that is smaller than
        the cut-offs need, which the published engine refuses too.
    """
    path = Path(path)
    if not path.is_dir():
        raise FFLUXError(f"{path}: there is no such directory")
    missing = [name for name in _NEEDED if not (path / name).is_file()]
    if missing:
        raise FFLUXError(
            f"{path}: no run directory of DL_FFLUX, for it has no {' and no '.join(missing)}"
        )
    config, field = read_config(path / "CONFIG"), read_field(path / "FIELD")
    control = read_control(path / "CONTROL")
    found = RunDirectory(path, config, control, field)
    _require_whole(config, field)
    _require_apart(config)
    _require_room(config, control)
    return found


def describe_directory(path: str | Path) -> ForceFieldDescription:
    """The force field of a run directory, whose geometry is left alone."""
    path = Path(path)
    return _description(path, read_control(path / "CONTROL"), read_field(path / "FIELD"))


def _description(path: Path, control: Control, field: Field) -> ForceFieldDescription:
    folder = path / MODELS
    species = tuple(
        SpeciesEntry(
            folder, kind.record.where, tuple(site.name for site in kind.sites),
            _system(folder, kind, len(field.molecules)),
        ) for kind in field.molecules
    )
    pairs = None
    if control.pairs and field.potentials:
        if control.pair_cutoff is None:
            raise FFLUXError(
                f"{control.path}: FIELD has pair potentials, and no line says where they end: give "
                "rvdw or cutoff"
            )
        pairs = PairEntries(
            {key: (kind, values) for key, (kind, values, _) in field.potentials.items()},
            {key: record.where for key, (_, _, record) in field.potentials.items()},
            control.pair_cutoff, control.shifted, not control.shifted, control.mixing,
        )
    return ForceFieldDescription(
        path, species, control.electrostatics, control.level, control.rank, control.accuracy,
        pairs, (path / "CONTROL", path / "FIELD"),
    )


def _system(folder: Path, kind: MoleculeKind, n_kinds: int) -> str:
    """Name by which the models' files know a kind of molecules."""
    systems = systems_of(folder)
    for name in systems:
        if name.lower() == kind.name.lower():
            return name
    if len(systems) == 1 and n_kinds == 1:
        return systems[0]
    kind.record.refuse(
        f"there are no models of {kind.name} in {folder}, where there are those of "
        f"{', '.join(systems) or 'nothing'}"
    )


def _require_same(kind: MoleculeKind, model: MoleculeModel) -> None:
    """FIELD's sites are the model's atoms."""
    if len(kind.sites) != len(model.symbols):
        kind.record.refuse(
            f"{kind.name} has {len(kind.sites)} atoms in FIELD, its models have "
            f"{len(model.symbols)} ({' '.join(model.symbols)})"
        )
    numbers = [atomic_numbers[symbol] for symbol in model.symbols]
    for k, (site, symbol) in enumerate(zip(kind.sites, model.symbols, strict=True)):
        if (
            abs(site.mass - atomic_masses[atomic_numbers[symbol]]) > _MASS
            and _element(site.name) != symbol
        ):
            site.record.refuse(
                f"atom {k + 1} of {kind.name} is {site.name} with a mass of {site.mass:g}, and "
                f"the models have {atom_label(k, numbers)} there"
            )


def _element(name: str) -> str | None:
    """Element that a site's name begins with, if any."""
    for part in (name[:2].capitalize(), name[:1].upper()):
        if part in atomic_numbers and part.isalpha():
            return part
    return None


def _require_whole(config: Config, field: Field) -> None:
    """CONFIG has FIELD's molecules, one after the other."""
    n = len(config.names)
    if n != field.n_atoms:
        say = f"{config.path} has {n} atoms, and FIELD's molecules have {field.n_atoms}"
        first = 0
        for kind in field.molecules:
            size, end = len(kind.sites), first + kind.number * len(kind.sites)
            if n < end:
                whole, rest = divmod(n - first, size)
                if rest:
                    say += (f": molecule {whole + 1} of {kind.name} ends after {rest} of its "
                            f"{size} atoms ({config.where(n - 1)})")
                else:
                    say += f": {kind.number - whole} of {kind.number} {kind.name} are missing"
                break
            first = end
        raise FFLUXError(say)
    first = 0
    for kind in field.molecules:
        size = len(kind.sites)
        for m in range(kind.number):
            for k, site in enumerate(kind.sites):
                atom = first + m * size + k
                if config.names[atom] != site.name:
                    raise FFLUXError(
                        f"{config.where(atom)}: atom {atom + 1} is {config.names[atom]}, and "
                        f"atom {k + 1} of molecule {m + 1} of {kind.name} should be here, "
                        f"{site.name} ({site.record.where})"
                    )
        first += kind.number * size


def _require_apart(config: Config) -> None:
    cell = complete_cell(config.cell)
    first, second = primitive_neighbor_list(
        "ij", config.pbc, cell, config.positions, _OVERLAP, self_interaction=False
    )
    for i, j in zip(first, second, strict=True):
        if i < j:
            raise GeometryError(
                f"{config.where(j)}: atom {j + 1} ({config.names[j]}) and atom {i + 1} "
                f"({config.names[i]}, line {config.lines[i]}) are on one spot, nearer than "
                f"{_OVERLAP} Angstrom"
            )


def _require_room(config: Config, control: Control) -> None:
    """No cut-off reaches beyond half the cell, as minimum images need it."""
    if not config.pbc.any():
        return
    heights = 1 / np.linalg.norm(np.linalg.inv(complete_cell(config.cell)), axis=0)
    least = heights[config.pbc].min()
    for name in ("cutoff", "pair_cutoff"):
        value = getattr(control, name)
        if value is not None and value > 0.5 * least:
            control.records[name].refuse(
                f"a cut-off of {value:g} Angstrom needs a cell at least {2 * value:g} wide, and "
                f"that of {config.path} is {least:.4f}: use a larger cell or a shorter cut-off"
            )
