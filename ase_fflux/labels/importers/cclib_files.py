"""Outputs of programs that ASE does not read, by cclib: Psi4 and Q-Chem.

cclib gives energies in eV and positions in Angstrom, of its own constants (which are taken back
here), and what the program printed as gradients: of Psi4 and Q-Chem dE/dx in hartree/bohr, in the
axes of the geometry. Of others these are forces (Gaussian), or in other units (Turbomole), so that
no program is read that has not been looked at.
"""

import logging
from pathlib import Path

import numpy as np

from ase_fflux.base.errors import LabelError
from ase_fflux.base.units import BOHR
from ase_fflux.labels.importers.frames import Frame
from ase_fflux.labels.importers.programs import QCHEM, Program, one_word
from ase_fflux.labels.label import UNKNOWN


class NotInstalled(LabelError):
    """cclib is needed and not there."""


def read_by_cclib(program: Program, path: Path, where: str) -> list[Frame]:
    """Frames of an output of Psi4 or Q-Chem.

    Parameters
    ----------
    program : Program
    path : Path
    where : str
        For messages.

    Raises
    ------
    NotInstalled
        Names the file.
    LabelError
        What cclib cannot read, or what does not belong together; the reason alone.
    """
    try:
        from cclib import parser
        from cclib.parser.utils import convertor
    except ImportError:
        raise NotInstalled(
            f"{path}: an output of {program.name}, for which cclib is needed: pip install "
            "'ase-fflux[cclib]'"
        ) from None
    kind = parser.QChem if program is QCHEM else parser.Psi4
    try:
        data = kind(str(path), loglevel=logging.CRITICAL).parse()
    except Exception as error:  # whatever its parsers meet in a damaged file
        reason = " ".join(str(error).split()) or type(error).__name__
        raise LabelError(f"cannot be read by cclib ({reason[:200]})") from error
    if not data.metadata.get("success"):
        raise LabelError("did not end normally")
    if hasattr(data, "etenergies"):
        raise LabelError("excited states, whose gradients may not be those of the energy")
    positions = np.asarray(getattr(data, "atomcoords", []), dtype=float)
    energies = convertor(_energies(data), "eV", "hartree")
    gradients = getattr(data, "grads", None)
    counts = {len(positions), len(energies), *([] if gradients is None else [len(gradients)])}
    if len(counts) > 1 or 0 in counts:
        raise LabelError(
            f"{len(positions)} geometries, {len(energies)} energies and "
            f"{'no' if gradients is None else len(gradients)} gradients, of which it cannot be "
            "told what belongs together"
        )
    numbers = np.asarray(data.atomnos, dtype=int)
    if (numbers < 1).any():
        raise LabelError("ghost atoms")
    settings: dict[str, str | int] = {
        "program": program.name, "charge": int(data.charge), "spin": int(data.mult) - 1,
    }
    return [
        Frame(
            where if len(positions) == 1 else f"{where}, frame {n + 1}", numbers,
            positions[n] / BOHR, float(energies[n]),
            None if gradients is None else np.asarray(gradients[n], dtype=float),
            method=_level(data), settings=settings,
        )
        for n in range(len(positions))
    ]


def _energies(data) -> np.ndarray:
    """Of the highest method (eV)."""
    if hasattr(data, "mpenergies") and "functional" in data.metadata:
        raise LabelError("a double hybrid, whose energy cclib does not have")
    if hasattr(data, "ccenergies"):
        return np.asarray(data.ccenergies, dtype=float)
    if hasattr(data, "mpenergies"):
        return np.array([float(energies[-1]) for energies in data.mpenergies])
    return np.asarray(getattr(data, "scfenergies", []), dtype=float)


def _level(data) -> str:
    """Functional or last method, and basis."""
    method = data.metadata.get("functional") or next(reversed(data.metadata.get("methods", [])), "")
    basis = data.metadata.get("basis_set", "")
    return one_word("/".join(word for word in (method, basis) if word)) or UNKNOWN
