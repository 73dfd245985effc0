"""Labels in the formats of other programs: extended XYZ (MACE and others) and sGDML's archives.

What those programs have no use for, atomic energies and moments above the charge, is left out.
"""

import hashlib
import io
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from ase_fflux import __version__
from ase_fflux.base.errors import LabelError
from ase_fflux.base.store import replacing, write_bytes
from ase_fflux.base.units import BOHR, FORCE, HARTREE
from ase_fflux.labels.importers.foreign import ISOLATED
from ase_fflux.labels.importers.frames import ENERGY_UNITS
from ase_fflux.labels.label import UNKNOWN, Dataset

_ISOLATED = "IsolatedAtom"
"""What MACE calls frames of single atoms, whose energies it starts from."""
_UNIT = "kcal/mol"
"""Of energies in sGDML's archives."""


def write_extxyz(
    path: str | Path, dataset: Dataset, energy_key: str = "energy", forces_key: str = "forces"
) -> None:
    """Write extended XYZ in eV and Angstrom, whole or not at all.

    Parameters
    ----------
    path : path
    dataset : Dataset
        With energies. Forces, charges and dipoles are written where they are there; energies of
        isolated atoms in its settings (``isolated_H``) become frames of their own.
    energy_key, forces_key : str
        Their names; by default ASE's own, which its reader makes a calculator's results. Newer
        versions of MACE look for ``REF_energy`` and ``REF_forces``.

    Raises
    ------
    LabelError
        Labels without energies; keys that are no words.
    """
    _require_energies(dataset)
    for key in (energy_key, forces_key):
        if not key.replace("_", "").isalnum() or key in ("pos", "species", "charges", "dipole"):
            raise LabelError(f"{key!r} cannot be the name of energies or forces")
    frames = [
        _frame(Atoms(name.removeprefix(ISOLATED)), _ISOLATED, {energy_key: HARTREE * energy})
        for name, energy in dataset.settings.items() if name.startswith(ISOLATED)
    ]
    for i, x in enumerate(dataset.geometries):
        values = {energy_key: HARTREE * float(dataset.energies[i])}
        if dataset.gradients is not None:
            values[forces_key] = -FORCE * dataset.gradients[i]
        if dataset.moments is not None:
            values["charges"] = dataset.moments[i, :, 0]
        if dataset.dipoles is not None:
            values["dipole"] = BOHR * dataset.dipoles[i]
        frames.append(_frame(Atoms(dataset.symbols, BOHR * x), dataset.origins[i], values))
    with replacing(path) as partial:
        write(partial, frames, format="extxyz")


def _frame(atoms: Atoms, origin: str, values: dict) -> Atoms:
    """Atoms with values: what ASE knows as results, anything else under its name."""
    if origin != UNKNOWN:
        atoms.info["config_type"] = str(origin)
    results = {}
    for name, value in values.items():
        if name in ("energy", "forces", "charges", "dipole"):
            results[name] = value
        elif np.ndim(value) == 2:
            atoms.arrays[name] = value
        else:
            atoms.info[name] = value
    atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


def write_sgdml(path: str | Path, dataset: Dataset) -> None:
    """Write an archive as sGDML reads it (kcal/mol, Angstrom), whole or not at all.

    Raises
    ------
    LabelError
        Labels without energies or gradients.
    """
    _require_energies(dataset)
    if dataset.gradients is None:
        raise LabelError("sGDML learns forces, and the labels have no gradients")
    unit = ENERGY_UNITS[_UNIT]
    arrays = {
        "z": np.array(Atoms(dataset.symbols).numbers, dtype=np.uint8),
        "R": BOHR * dataset.geometries, "E": HARTREE / unit * dataset.energies,
        "F": -FORCE / unit * dataset.gradients,
    }
    # sGDML's own fingerprint of a data set, by which its models know what they were trained on
    digest = hashlib.md5(usedforsecurity=False)
    for name in ("z", "R", "E", "F"):
        content = np.ascontiguousarray(arrays[name]).tobytes()
        digest.update(hashlib.md5(content, usedforsecurity=False).digest())
    ranges = {
        f"{name}_{what}": getattr(arrays[name].ravel(), what)()
        for name in ("E", "F") for what in ("min", "max", "mean", "var")
    }
    content = io.BytesIO()
    np.savez_compressed(
        content, type=np.array("d"), code_version=np.array(f"ase-fflux {__version__}"),
        name=np.array(Path(path).stem), theory=np.array(dataset.method), **arrays, **ranges,
        r_unit=np.array("Ang"), e_unit=np.array(_UNIT),
        md5=np.array(digest.hexdigest().encode()),
    )
    write_bytes(path, content.getvalue())


def _require_energies(dataset: Dataset) -> None:
    if dataset.energies is None:
        raise LabelError("the labels have no energies, which every program needs")
