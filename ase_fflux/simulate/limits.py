"""Where a run has left what its force field describes, and inputs that have no dynamics.

Of runs that make sense none comes near these limits; a collapse or an explosion crosses them within
a few steps. A coverage that says so is the calculator's to refuse.
"""

import numpy as np
from ase import Atoms
from ase.symbols import symbols2numbers

from ase_fflux.base.errors import FFLUXError
from ase_fflux.base.units import BOHR, HARTREE
from ase_fflux.topology.graphs import atom_label

DEPTH = 5.0
"""eV per atom that a geometry may lie below its molecules at their models' reference geometries.
These are minima or near them, and molecules bind each other by less than an eV per atom, salts by
3."""

HOTTEST = 1e8
"""K that may be asked for; beyond, steps of any length leave the range of numbers."""

LARGEST_PRESSURE = 1e9
"""bar that may be asked for, either way: no atom withstands it."""

HEAT = 100.0
"""Times the temperature asked for (at least `ROOM`) that a run may reach. By chance it does not
happen: the chi-squared distribution of three degrees of freedom leaves 1e-64."""

ROOM = 300.0
"""K."""


def require_asked(temperature: float | None = None, pressure: float | None = None) -> None:
    """Refuse a temperature (K) or pressure (bar) that no run stands.

    Raises
    ------
    FFLUXError
        Which, and what is the most.
    """
    if temperature is not None and not temperature <= HOTTEST:
        raise FFLUXError(f"a temperature of {temperature:g} K: give at most {HOTTEST:g} K")
    if pressure is not None and not abs(pressure) <= LARGEST_PRESSURE:
        raise FFLUXError(
            f"a pressure of {pressure:g} bar: give at most {LARGEST_PRESSURE:g} bar, either way"
        )


class UnphysicalError(FFLUXError):
    """A run that has left what its force field describes; what came before is kept."""


class Limits:
    """Limits of a run.

    Parameters
    ----------
    atoms : Atoms
        Start, with a calculator; energies are limited where it is of models (`FFLUX`).
    temperature : float, optional
        Highest that was asked for or given (K).
    """

    def __init__(self, atoms: Atoms, temperature: float | None = None):
        self._n = len(atoms)
        self._floor = _floor(atoms)
        self._hottest = HEAT * max(temperature or 0.0, ROOM)

    def check(self, energy: float, temperature: float = 0.0) -> None:
        """Check energy (eV) and temperature (K).

        Raises
        ------
        UnphysicalError
            The number, its limit and what to do.
        """
        if energy < self._floor - DEPTH * self._n:
            below = (self._floor - energy) / self._n
            raise UnphysicalError(
                f"the energy is {below:.3g} eV per atom below that of the models' reference "
                f"geometries, which is no chemistry (limit {DEPTH:g}): molecules that collapse "
                "need a pair potential (--short-range)"
            )
        if temperature > self._hottest:
            raise UnphysicalError(
                f"the temperature is {temperature:.3g} K (limit {self._hottest:.3g}): shorten the "
                "time step, or start nearer to the training data"
            )


def _floor(atoms: Atoms) -> float:
    """Energy of all molecules at their models' reference geometries, apart from each other (eV)."""
    forcefield = getattr(atoms.calc, "forcefield", None)
    if forcefield is None:
        return -np.inf
    found = forcefield.match(
        atoms.positions / BOHR, atoms.numbers, atoms.cell.array / BOHR, atoms.pbc,
        atoms.calc.parameters.get("assignment"),
    )
    total = 0.0
    for model, molecules in zip(forcefield.models, found.atoms_of_model, strict=True):
        if len(molecules):
            numbers = symbols2numbers(model.symbols)
            one = forcefield.evaluate(model.reference_geometry, numbers)
            total += HARTREE * one.energy * len(molecules)
    return total


def require_isolated(atoms: Atoms, what: str) -> None:
    """Refuse periodic boundaries; ``what`` begins the message, such as "paths are of molecules".

    Raises
    ------
    FFLUXError
    """
    if atoms.pbc.any():
        raise FFLUXError(
            f"{what} and this input is periodic: take its Lattice out, set "
            'pbc="F F F" or give --vacuum if the cell is only a box'
        )


def require_masses(atoms: Atoms) -> None:
    """Refuse atoms without a mass.

    Raises
    ------
    FFLUXError
        The atom, its mass and what to do.
    """
    masses = atoms.get_masses()
    bad = np.flatnonzero(~(np.isfinite(masses) & (masses > 0)))
    if len(bad):
        raise FFLUXError(
            f"{atom_label(bad[0], atoms.numbers)} has a mass of {masses[bad[0]]:g}: correct the "
            "masses in the file, or leave them out"
        )
