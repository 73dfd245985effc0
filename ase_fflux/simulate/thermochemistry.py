"""Ideal-gas thermochemistry of a harmonic molecule in its rigid-rotor approximation."""

from dataclasses import dataclass

import numpy as np
from ase import units
from ase.thermochemistry import IdealGasThermo

from ase_fflux.base.errors import FFLUXError
from ase_fflux.base.units import BOHR
from ase_fflux.simulate.vibrations.analysis import Vibrations

SOFT = 50.0
"""Below this wavenumber (cm^-1) a mode is rarely harmonic and its entropy is doubtful."""


@dataclass(frozen=True)
class Thermochemistry:
    """Molar functions as energies of one molecule: eV and eV/K.

    ``internal_energy``, ``enthalpy`` and ``gibbs_energy`` contain the potential energy and the
    zero-point energy. ``notes`` says what to mind when using the numbers.
    """

    temperature: float
    pressure: float
    geometry: str
    symmetry_number: int
    zero_point_energy: float
    internal_energy: float
    enthalpy: float
    entropy: float
    gibbs_energy: float
    cv: float
    cp: float
    notes: tuple[str, ...]


def thermochemistry(
    vibrations: Vibrations,
    *,
    temperature: float = 298.15,
    pressure: float = 101325.0,
    symmetry_number: int | None = None,
) -> Thermochemistry:
    """Thermodynamic functions of the ideal gas, all electrons paired.

    Imaginary modes are left out, and this is noted. U and S are those of
    `ase.thermochemistry.IdealGasThermo`; the heat capacity is the harmonic oscillators'
    k x^2 e^x/(e^x - 1)^2 (x = hc nu/kT) with 3/2 k for translation and k/2 per rotation.

    Parameters
    ----------
    vibrations : Vibrations
        Modes and potential energy.
    temperature : float
        K.
    pressure : float
        Pa.
    symmetry_number : int, optional
        Number of rotations that map the molecule onto itself, isotopes told apart by their masses;
        found from geometry and masses if absent.

    Raises
    ------
    FFLUXError
        Temperature, pressure or symmetry number that is not positive, or so far out that the
        results are not finite.
    """
    if not (temperature > 0 and pressure > 0):
        raise FFLUXError(
            f"temperature {temperature:g} K and pressure {pressure:g} Pa must be positive"
        )
    if symmetry_number is None:
        symmetry_number = _symmetry_number(vibrations)
    if symmetry_number < 1:
        raise FFLUXError(f"symmetry number {symmetry_number}: it is 1 or more")
    geometry = "linear" if vibrations.linear else "nonlinear"
    energies = vibrations.energies[vibrations.wavenumbers > 0]
    gas = IdealGasThermo(
        energies, geometry, vibrations.energy, vibrations.atoms, symmetry_number, spin=0,
        vib_selection="all",
    )
    x = energies / (units.kB * temperature)
    # x^2 e^x/(e^x - 1)^2, written so that a stiff mode or a low temperature cannot overflow
    oscillators = ((x / 2 / np.sinh(np.minimum(x / 2, 350.0))) ** 2).sum()
    cv = units.kB * (1.5 + (1.0 if vibrations.linear else 1.5) + oscillators)
    # exp(x) of a stiff mode at a low temperature is infinite, and right in 1/exp(x)
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        internal_energy = gas.get_internal_energy(temperature, verbose=False)
        entropy = gas.get_entropy(temperature, pressure, verbose=False)
        enthalpy = internal_energy + units.kB * temperature
        gibbs_energy = enthalpy - temperature * entropy
    if not np.isfinite([cv, enthalpy, entropy, gibbs_energy]).all():
        raise FFLUXError(
            f"at {temperature:g} K and {pressure:g} Pa the thermochemistry of an ideal gas is not "
            "finite: choose other conditions"
        )
    return Thermochemistry(
        temperature=temperature,
        pressure=pressure,
        geometry=geometry,
        symmetry_number=symmetry_number,
        zero_point_energy=vibrations.zero_point_energy,
        internal_energy=internal_energy,
        enthalpy=enthalpy,
        entropy=entropy,
        gibbs_energy=gibbs_energy,
        cv=cv,
        cp=cv + units.kB,
        notes=_notes(vibrations),
    )


def _symmetry_number(vibrations: Vibrations) -> int:
    from ase_fflux.topology import rotational_symmetry_number

    atoms = vibrations.atoms
    return rotational_symmetry_number(
        atoms.numbers, atoms.positions / BOHR, masses=atoms.get_masses()
    )


def _notes(vibrations: Vibrations) -> tuple[str, ...]:
    notes = []
    imaginary = int((vibrations.wavenumbers < 0).sum())
    if imaginary:
        notes.append(
            f"{imaginary} imaginary mode{'s' * (imaginary > 1)} left out: the geometry is not a "
            "minimum and these are not the functions of a stable molecule"
        )
    soft = vibrations.wavenumbers[(vibrations.wavenumbers > 0) & (vibrations.wavenumbers < SOFT)]
    if len(soft):
        listed = ", ".join(f"{value:.1f}" for value in soft)
        notes.append(
            f"modes below {SOFT:g} cm-1 ({listed}) treated as harmonic: "
            "their part in the entropy is uncertain"
        )
    return tuple(notes)
