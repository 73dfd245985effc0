"""What ASE reads with energies and forces: extended XYZ, trajectories, databases, outputs.

Energies and forces are those of the calculator that ASE's reader leaves with a frame, or stand
under a name of their own: of a number in ``Atoms.info`` (of a database also among its key-value
pairs and data) and of an array of the atoms.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from ase import Atoms

from ase_fflux.base.errors import LabelError
from ase_fflux.formats.geometry import read_frames
from ase_fflux.labels.importers.frames import Frame, Units, word
from ase_fflux.labels.label import UNKNOWN

_ORIGIN = "config_type"
"""What data sets call the kind of a configuration."""


def read_ase(
    path: Path, format: str | None = None, energy_key: str | None = None,
    forces_key: str | None = None, units: Units | None = None, vacuum: bool = False,
) -> list[Frame]:
    """Read a file.

    Parameters
    ----------
    path : Path
    format : str, optional
        As ASE names it; by default found from name and content.
    energy_key, forces_key : str, optional
        Names under which energies and forces stand; by default those of a calculator.
    units : Units, optional
        Of positions, energies and forces; ASE's by default.
    vacuum : bool
        Each frame is one molecule in vacuum, whatever its cell says.

    Raises
    ------
    FFLUXError
        What `read_frames` raises; frames that are periodic, or without what a key names; numbers
        that are not finite.
    """
    frames = read_frames(str(path), format, vacuum=vacuum, calculators=True)
    return [
        frame_of(atoms, f"{path}, frame {number}", energy_key, forces_key, units)
        for number, atoms in enumerate(frames, 1)
    ]


def frame_of(
    atoms: Atoms, where: str, energy_key: str | None = None, forces_key: str | None = None,
    units: Units | None = None, level: str | None = None, settings: Mapping | None = None,
) -> Frame:
    """A frame of what ASE has read; arguments and errors as by `read_ase`.

    Level of theory and settings are those given, where they are known from elsewhere.
    """
    units = units or Units()
    if atoms.pbc.any():
        raise LabelError(
            f"{where}: is periodic, and labels are of molecules: give --vacuum if it is one "
            "molecule in a cell that is only a box"
        )
    results = getattr(atoms.calc, "results", {}) or {}
    energy = _named(atoms, energy_key, (1,), where) if energy_key else results.get("energy")
    forces = results.get("forces")
    if forces_key:  # an isolated atom has none
        forces = None if len(atoms) == 1 else _named(atoms, forces_key, (len(atoms), 3), where)
    if energy is None:
        raise LabelError(
            f"{where}: no energy; if it stands under another name, give --energy-key (numbers in "
            f"the frame: {_offered(atoms, 1)})"
        )
    numbers = {"energy": (energy, ()), "forces": (forces, (len(atoms), 3)),
               "charges": (results.get("charges"), (len(atoms),)),
               "dipole": (results.get("dipole"), (3,))}
    found = {}
    for name, (value, shape) in numbers.items():
        if value is None:
            found[name] = None
            continue
        value = np.asarray(value, dtype=float).reshape(shape)
        if not np.isfinite(value).all():
            raise LabelError(f"{where}: its {name} {'are' if shape else 'is'} not finite")
        found[name] = value
    return Frame(
        where, atoms.numbers.copy(), units.in_bohr * atoms.positions,
        units.in_hartree * float(found["energy"]),
        None if found["forces"] is None else -units.in_gradient * found["forces"],
        found["charges"], None if found["dipole"] is None else units.in_bohr * found["dipole"],
        word(atoms.info.get(_ORIGIN, UNKNOWN)), level or word(atoms.info.get("method", UNKNOWN)),
        settings or {},
    )


def _named(atoms: Atoms, key: str, shape: tuple[int, ...], where: str) -> np.ndarray:
    """The numbers of a frame under a name."""
    for name, value in _numbers(atoms):
        if name == key and value.size == np.prod(shape):
            return value.reshape(shape)[0] if shape == (1,) else value.reshape(shape)
    what = "number" if shape == (1,) else f"array of {shape[0]} times 3 numbers"
    raise LabelError(
        f"{where}: no {what} called {key!r}; there is {_offered(atoms, int(np.prod(shape)))}"
    )


def _offered(atoms: Atoms, size: int) -> str:
    """Names of what has so many numbers."""
    names = dict.fromkeys(name for name, value in _numbers(atoms) if value.size == size)
    return ", ".join(name for name in names if name not in ("numbers", "positions")) or "none"


def _numbers(atoms: Atoms) -> Iterator[tuple[str, np.ndarray]]:
    """Everything in a frame that is a number or an array of numbers."""
    places = [
        atoms.info, atoms.info.get("key_value_pairs", {}), atoms.info.get("data", {}),
        atoms.arrays, getattr(atoms.calc, "results", {}) or {},
    ]
    for place in places:
        for name, value in place.items():
            if isinstance(value, int | float | np.ndarray | np.number | list):
                value = np.asarray(value)
                if value.dtype.kind in "fiu":
                    yield str(name), value.astype(float)
