"""Geometries, energies, forces and dipoles in outputs of Gaussian and ORCA, by ASE's readers.

These take what comes last, or first, of each thing; here is seen to it that what they put together
belongs together, and is in the same axes. Gaussian turns molecules into a standard orientation, in
which it prints dipoles, and prints forces in the axes of the input.
"""

import logging
import re
import warnings
from contextlib import contextmanager
from io import StringIO

import numpy as np
from ase import Atoms, units
from ase.io.gaussian import read_gaussian_out
from ase.io.orca import get_chunks, read_orca_output
from scipy.spatial.transform import Rotation

from ase_fflux.base.errors import LabelError
from ase_fflux.labels.importers.programs import GAUSSIAN, Program, state_of

_SAME = 1e-3
"""Angstrom; root mean square distance of atoms in two orientations of one geometry."""

_NEXT_JOB = re.compile(r"^ *1[\\|]1[\\|]|Proceeding to internal job step|^ Link1:", re.MULTILINE)
_ORIENTATION = re.compile(r"^ +(Input|Z-Matrix|Standard) orientation:\s*$")
_ATOM = re.compile(r"^ +\d+ +(-?\d+)(?: +-?\d+)? +(-?\d+\.\d+) +(-?\d+\.\d+) +(-?\d+\.\d+)\s*$")
_ENERGY = re.compile(r"^ *(SCF Done:|Energy=)")
_DIPOLE = re.compile(r"X= *(-?\d+\.\d+) +Y= *(-?\d+\.\d+) +Z= *(-?\d+\.\d+)")


def read_by_ase(program: Program, text: str) -> list[Atoms]:
    """Frames of an output of Gaussian or ORCA; energies and forces are those of a calculator.

    Raises
    ------
    LabelError
        What cannot be read, or does not belong together; without the name of the file.
    """
    return _gaussian(text) if program is GAUSSIAN else _orca(text)


def _gaussian(text: str) -> list[Atoms]:
    """Of the first job; the next ones of an output (frequencies) repeat its last geometry."""
    if end := _NEXT_JOB.search(text):
        text = text[: end.start()]
    dipoles = _gaussian_dipoles(text)
    with _reading():
        frames = read_gaussian_out(StringIO(text), index=slice(None))
    for atoms in frames:
        results = atoms.calc.results
        results.pop("charges", None)  # of whichever analysis was printed last
        results.pop("dipole", None)
        if (dipole := dipoles.get(atoms.positions.tobytes())) is not None:
            results["dipole"] = dipole
    return [atoms for atoms in frames if atoms.calc.results.get("energy") is not None]


def _gaussian_dipoles(text: str) -> dict[bytes, np.ndarray]:
    """Dipoles (e Angstrom) in the axes of the geometries that ASE takes, by their positions.

    ASE takes the first orientation before an energy.
    """
    symmetric = not re.search(r"^ #.*\bnosymm", text, re.MULTILINE | re.IGNORECASE)
    charge = state_of(GAUSSIAN, text).get("charge", 0)
    found: dict[bytes, np.ndarray] = {}
    taken, last, name, energy = None, None, "", True
    lines = iter(text.splitlines())
    for line in lines:
        if orientation := _ORIENTATION.match(line):
            last = _positions(lines)
            if energy:
                taken, name, energy = last, orientation[1], False
        elif _ENERGY.match(line):
            energy = True
        elif "Forces (Hartrees/Bohr)" in line and name == "Standard" and symmetric:
            raise LabelError(
                "its forces are in the axes of the input, but its geometry is printed in the "
                "standard orientation only: run with nosymm, or with #P"
            )
        elif line.startswith(" Dipole moment (") and taken is not None:
            if numbers := _DIPOLE.search(next(lines, "")):
                dipole = units.Debye * np.array([float(x) for x in numbers.groups()])
                found[taken.tobytes()] = _turned(dipole, charge, last, taken)
    return found


def _positions(lines) -> np.ndarray:
    """Angstrom, after the heading of an orientation."""
    for _ in range(4):
        next(lines, "")
    rows = []
    while atom := _ATOM.match(next(lines, "")):
        rows.append([float(x) for x in atom.groups()[1:]])
    return np.array(rows).reshape(-1, 3)


def _turned(dipole: np.ndarray, charge: int, there: np.ndarray, here: np.ndarray) -> np.ndarray:
    """A dipole about the origin of other axes, in these and about their origin."""
    if there is here:
        return dipole
    if there.shape != here.shape:
        raise LabelError("its two orientations are not of the same atoms")
    centre, other = here.mean(axis=0), there.mean(axis=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # linear molecules: any turn about the axis will do
        turn, deviation = Rotation.align_vectors(here - centre, there - other)
    if deviation > _SAME * len(here) ** 0.5:
        raise LabelError("its two orientations are not of the same geometry")
    return turn.apply(dipole) + charge * (centre - turn.apply(other))


def _orca(text: str) -> list[Atoms]:
    with _reading():
        chunks = list(get_chunks(text.splitlines(keepends=True)))
        frames = read_orca_output(StringIO(text), index=slice(None))
    for number, chunk in enumerate(chunks, 1):
        geometry, energy, gradient = (
            [n for n, line in enumerate(chunk) if what in line]
            for what in ("CARTESIAN COORDINATES (ANGSTROEM)", "FINAL SINGLE POINT ENERGY",
                         "CARTESIAN GRADIENT")
        )
        if not energy or energy[-1] < geometry[-1]:
            raise LabelError(f"no final energy of geometry {number}")
        if len(gradient) > 1 or gradient and gradient[0] < geometry[-1]:
            raise LabelError(
                f"which energy and gradient are of geometry {number} cannot be told: several "
                "calculations in one output, or several states"
            )
    return frames


@contextmanager
def _reading():
    """What ASE's readers raise is the fault of the output; what they warn of has been seen to."""
    log = logging.getLogger("ase.io.gaussian")
    before, log.disabled = log.disabled, True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise LabelError(f"cannot be read ({reason[:200]})") from error
    finally:
        log.disabled = before
