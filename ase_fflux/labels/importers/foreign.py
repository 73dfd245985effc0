"""Data sets of other programs as labels: total energies and forces, no atomic energies.

Extended XYZ, archives of sGDML and rMD17, ASE's databases and trajectories, outputs of programs
and folders of them, and whatever else `ase.io.read` gives energies with. Frames of single atoms are
taken for isolated atoms: their energies are kept in the settings of the labels (``isolated_H``,
hartree) and tell whether the molecule's energies are plausible.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from ase.data import chemical_symbols

from ase_fflux.base.errors import LabelError
from ase_fflux.labels.checks import believe
from ase_fflux.labels.importers.ase_files import read_ase
from ase_fflux.labels.importers.frames import Frame, Units
from ase_fflux.labels.importers.molecules import chosen, told_apart
from ase_fflux.labels.importers.npz import read_npz
from ase_fflux.labels.importers.outputs import is_output, read_outputs
from ase_fflux.labels.importers.plausible import believe_units
from ase_fflux.labels.label import Dataset, Label, dataset_of

ISOLATED = "isolated_"
"""Beginning of the names of energies of isolated atoms in the settings of labels (hartree)."""
_QUANTITIES = {"gradient": "forces", "charges": "charges", "dipole": "dipole"}


def read_foreign(
    path: str | Path | Sequence[str | Path], *, format: str | None = None,
    energy_key: str | None = None, forces_key: str | None = None, energy_unit: str | None = None,
    length_unit: str | None = None, isolated: Mapping[str, float] | None = None,
    molecule: str | None = None, vacuum: bool = False,
) -> Dataset:
    """Labels of one molecule from a data set.

    Parameters
    ----------
    path : path or sequence of paths
        ``.npz`` for sGDML's and rMD17's archives; outputs of the programs of `outputs`, a folder
        of them, or several of both; anything else is read by ASE.
    format : str, optional
        As ASE names it; by default found from name and content.
    energy_key, forces_key : str, optional
        Names of the energies and forces, where they have others than the format's own.
    energy_unit, length_unit : str, optional
        Names of `frames.ENERGY_UNITS` and `frames.LENGTH_UNITS`; forces are in their quotient. By
        default what an archive says or else kcal/mol and Angstrom, and ASE's eV and Angstrom.
    isolated : mapping of str to float, optional
        Energies of isolated atoms by element, in the unit of the file's energies; they come before
        those in the file.
    molecule : str, optional
        Which of several molecules, by its name in the refusal that lists them.
    vacuum : bool
        Each frame is one molecule in vacuum, whatever its cell says.

    Returns
    -------
    Dataset
        Energies, gradients where the file has forces, charges as moments of rank 0 and dipoles
        where it has them.

    Raises
    ------
    FFLUXError
        What cannot be read; several molecules and none chosen; quantities that some frames have
        and others not; labels that cannot be true, or not in these units.
    """
    sources = [Path(path)] if isinstance(path, str | Path) else [Path(p) for p in path]
    path = sources[0]
    if len(sources) > 1 or path.is_dir() or is_output(path):
        asked = {"format": format, "energy-key": energy_key, "forces-key": forces_key,
                 "energy-unit": energy_unit, "length-unit": length_unit, "vacuum": vacuum}
        if given := [name for name, value in asked.items() if value]:
            raise LabelError(
                f"{path}: outputs of programs say themselves what is in them: leave --{given[0]} "
                "out"
            )
        frames, units = read_outputs(sources), Units()
    elif path.suffix.lower() == ".npz":
        if not path.is_file():
            raise LabelError(f"{path}: no such file")
        if format is not None or vacuum:
            raise LabelError(f"{path}: an archive of arrays has no format or cell to choose")
        frames, units = read_npz(path, energy_key, forces_key, energy_unit, length_unit)
    else:
        units = Units(energy_unit or "eV", length_unit or "Angstrom")
        frames = read_ase(path, format, energy_key, forces_key, units, vacuum)
    known = _isolated(frames, isolated or {}, units.in_hartree)
    frames = [frame for frame in frames if len(frame.numbers) > 1]
    if not frames:
        raise LabelError(f"{path}: no molecule in it, only single atoms")
    found = chosen(told_apart(frames), molecule, path)
    symbols = tuple(chemical_symbols[z] for z in found.frames[0].numbers)
    if known and (missing := sorted({s for s in symbols if s not in known})):
        raise LabelError(
            f"{path}: energies of isolated atoms of {', '.join(sorted(known))}, but none of "
            f"{', '.join(missing)}: give all or none"
        )
    known = {symbol: known[symbol] for symbol in sorted({*symbols}) if known}
    settings = {f"{ISOLATED}{symbol}": energy for symbol, energy in known.items()}
    labels = [_label(frame, symbols, found.frames[0], settings) for frame in found.frames]
    dataset = dataset_of(labels, [frame.origin for frame in found.frames])
    believe_units(dataset, path, known)
    believe(dataset, lambda i: found.frames[i].where)
    return dataset


def _isolated(frames: list[Frame], given: Mapping[str, float], in_hartree: float) -> dict:
    """Energies of isolated atoms by element (hartree)."""
    known: dict[str, float] = {}
    for frame in frames:
        if len(frame.numbers) > 1:
            continue
        symbol = chemical_symbols[frame.numbers[0]]
        if abs(known.setdefault(symbol, frame.energy) - frame.energy) > 1e-6:
            raise LabelError(f"{frame.where}: a second isolated {symbol} with another energy")
    for symbol, energy in given.items():
        if symbol not in chemical_symbols[1:]:
            raise LabelError(f"isolated atoms: {symbol!r} is no element")
        known[symbol] = in_hartree * energy
    return known


def _label(frame: Frame, symbols: tuple[str, ...], first: Frame, settings: Mapping) -> Label:
    """A frame as a label, with the quantities of the first one."""
    for name, what in _QUANTITIES.items():
        here, there = (getattr(f, name) is not None for f in (frame, first))
        if here != there:
            has, lacks = (frame, first) if here else (first, frame)
            raise LabelError(
                f"{lacks.where}: no {what}, which {has.where.rpartition(', ')[2]} has: all frames "
                "must have the same quantities"
            )
    if frame.method != first.method:
        raise LabelError(
            f"{frame.where}: method {frame.method}, that of {first.where} is {first.method}: one "
            "data set is of one level of theory"
        )
    for name in sorted({*frame.settings, *first.settings}):
        own, others = (f.settings.get(name, "unknown") for f in (frame, first))
        if own != others:
            raise LabelError(
                f"{frame.where}: {name} {own}, that of {first.where} is {others}: one data set is "
                "of one of them"
            )
    return Label(
        symbols, frame.positions, frame.energy, frame.gradient,
        moments=None if frame.charges is None else frame.charges[:, None], dipole=frame.dipole,
        method=frame.method, settings={**frame.settings, **settings},
    )

