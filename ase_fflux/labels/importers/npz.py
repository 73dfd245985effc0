"""Archives of arrays as sGDML and rMD17 keep them, and what is read from them.

==================  ====================  =========================================================
sGDML               rMD17                 what
==================  ====================  =========================================================
z                   nuclear_charges       (N,) atomic numbers, the same for all geometries
R                   coords                (n, N, 3) positions
E                   energies              (n,) or (n, 1) total energies
F                   forces                (n, N, 3)
e_unit, r_unit                            units of energies and positions, otherwise kcal/mol and
                                          Angstrom, as both programs have them
theory                                    level of theory
==================  ====================  =========================================================

(sGDML: Chmiela et al., Comput. Phys. Commun. 240, 38 (2019); rMD17: Christensen, von Lilienfeld,
Mach. Learn.: Sci. Technol. 1, 045018 (2020).)
"""

from pathlib import Path

import numpy as np
from ase.data import chemical_symbols

from ase_fflux.base.errors import LabelError
from ase_fflux.base.store import DamagedError, read_arrays
from ase_fflux.labels.importers.frames import Frame, Units, word
from ase_fflux.labels.label import UNKNOWN

_NAMES = {
    "numbers": ("z", "nuclear_charges", "atomic_numbers", "numbers"),
    "positions": ("R", "coords", "positions", "coordinates"),
    "energies": ("E", "energies", "energy"),
    "forces": ("F", "forces"),
}
_ENERGY = {"kcal/mol": "kcal/mol", "ev": "eV", "kj/mol": "kJ/mol", "hartree": "hartree",
           "ha": "hartree", "eh": "hartree", "mev": "meV"}
_LENGTH = {"ang": "Angstrom", "angstrom": "Angstrom", "a": "Angstrom", "bohr": "bohr", "au": "bohr",
           "a0": "bohr", "nm": "nm"}
"""Spellings of units, in lower case."""


def read_npz(
    path: Path, energy_key: str | None = None, forces_key: str | None = None,
    energy_unit: str | None = None, length_unit: str | None = None,
) -> tuple[list[Frame], Units]:
    """Read an archive.

    Parameters
    ----------
    path : Path
    energy_key, forces_key : str, optional
        Names of the arrays, where they have others.
    energy_unit, length_unit : str, optional
        Names of `frames.ENERGY_UNITS` and `frames.LENGTH_UNITS`; by default what the file says,
        else kcal/mol and Angstrom.

    Returns
    -------
    frames : list of Frame
    units : Units
        Those of the file.

    Raises
    ------
    LabelError
        Arrays that are missing, of a wrong shape, or not finite; units that are not known.
    """
    try:
        arrays = read_arrays(path)
    except DamagedError as error:
        raise LabelError(f"{path}: cannot be read as an archive of arrays ({error})") from None
    names = dict(_NAMES)
    for what, key in (("energies", energy_key), ("forces", forces_key)):
        if key is not None:
            if key not in arrays:
                raise LabelError(f"{path}: no array {key}; there are {_listed(arrays)}")
            names[what] = (key,)

    def find(what):
        return next((arrays[name] for name in names[what] if name in arrays), None)

    numbers, positions = find("numbers"), find("positions")
    energies, forces = find("energies"), find("forces")
    for what, found in (("numbers", numbers), ("positions", positions), ("energies", energies)):
        if found is None:
            raise LabelError(
                f"{path}: no array {' or '.join(_NAMES[what])}; there are {_listed(arrays)}"
            )
    n = len(positions) if positions.ndim else 0
    shape = n, numbers.size, 3
    if numbers.ndim != 1 or numbers.dtype.kind not in "iu" or not numbers.size or not (
        (numbers > 0) & (numbers < len(chemical_symbols))
    ).all():
        raise LabelError(f"{path}: its atomic numbers are no list of elements")
    if not n or positions.shape != shape:
        raise LabelError(
            f"{path}: positions of the shape {positions.shape} do not fit {numbers.size} atoms"
        )
    if energies.size != n:
        raise LabelError(f"{path}: {energies.size} energies of {n} geometries")
    energies = energies.reshape(n)
    if forces is not None and forces.shape != shape:
        raise LabelError(f"{path}: forces of the shape {forces.shape}, not {shape}")
    for what, values in (("positions", positions), ("energies", energies), ("forces", forces)):
        if values is None:
            continue
        if values.dtype.kind not in "fiu":
            raise LabelError(f"{path}: its {what} are no numbers")
        good = np.isfinite(values.reshape(n, -1)).all(axis=1)
        if not good.all():
            raise LabelError(
                f"{path}, geometry {np.argmin(good) + 1}: its {what} are not finite"
            )
    units = Units(
        energy_unit or _unit(arrays, "e_unit", _ENERGY, "kcal/mol", path),
        length_unit or _unit(arrays, "r_unit", _LENGTH, "Angstrom", path),
    )
    method = word(_text(arrays["theory"])) if "theory" in arrays else UNKNOWN
    numbers = numbers.astype(int)
    return [
        Frame(
            f"{path}, geometry {i + 1}", numbers, units.in_bohr * positions[i].astype(float),
            units.in_hartree * float(energies[i]),
            None if forces is None else -units.in_gradient * forces[i].astype(float),
            method=method,
        )
        for i in range(n)
    ], units


def _listed(arrays) -> str:
    return ", ".join(f"{name} {value.shape}" for name, value in sorted(arrays.items())) or "none"


def _text(array: np.ndarray) -> str:
    value = array.item() if array.size == 1 else ""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _unit(arrays, name: str, known: dict[str, str], default: str, path: Path) -> str:
    if name not in arrays:
        return default
    text = _text(arrays[name])
    if text.lower() not in known:
        raise LabelError(
            f"{path}: {name} is {text[:40]!r}, which is no unit that is known here: give "
            f"--{'energy' if name == 'e_unit' else 'length'}-unit"
        )
    return known[text.lower()]
