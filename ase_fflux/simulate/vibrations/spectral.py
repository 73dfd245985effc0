r"""Infrared and vibrational spectra of classical trajectories.

The absorption of light is the Fourier transform of the autocorrelation of the dipole, times
omega (1 - exp(-beta hbar omega)). Of classical dynamics the harmonic quantum correction
beta hbar omega / (1 - exp(-beta hbar omega)) makes it that of the time derivative of the dipole,
divided by k_B T (R. Ramirez et al., J. Chem. Phys. 121, 3973 (2004)), which of harmonic modes is
exactly what the double-harmonic approximation gives:

.. math:: A(\tilde\nu) = \frac{N_A}{12 \epsilon_0 c^2} \frac{S_{\dot\mu}(\tilde\nu)}{k_B T},
          \qquad \int S_{\dot\mu} d\tilde\nu = \langle |\dot\mu|^2 \rangle .

Nuclei move classically: hot bands and couplings at the temperature of the dynamics are in it,
zero-point motion is not.
"""

import numpy as np
from ase import units

from ase_fflux.base.errors import FFLUXError
from ase_fflux.simulate.vibrations.infrared import DECADIC, E2_PER_AMU
from ase_fflux.topology.superposition import orthogonal_maps

PER_CM = units._c * 100 * 1e-15
"""Light speed in cm/fs: frequency (1/fs) per wavenumber (1/cm)."""

_FEWEST = 64
"""Frames of a block at least."""


def require_frames(number: int) -> None:
    """Refuse a series too short for a spectrum.

    Raises
    ------
    FFLUXError
        How many frames it has, and needs.
    """
    if number < _FEWEST:
        raise FFLUXError(
            f"{number} frames in a block are too few for a spectrum: it needs {_FEWEST} or more"
        )


def highest_wavenumber(spacing: float) -> float:
    """What frames so far apart (fs) show at most (cm^-1): half the frequency of sampling."""
    return 0.5 / (spacing * PER_CM)


def power_of_derivative(
    series: np.ndarray, spacing: float, timestep: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Spectral density of the time derivative of a series, under a Hann window.

    Parameters
    ----------
    series : (m, ...) array
        At equal intervals; components are summed.
    spacing : float
        Interval (fs).
    timestep : float
        Of the velocity Verlet dynamics behind it (fs), whose harmonic oscillators are too fast:
        2 sin(omega' dt/2)/dt is their true frequency. Zero leaves frequencies as they are.

    Returns
    -------
    wavenumbers : (k,) array
        cm^-1.
    density : (k,) array
        Square of the unit of the series per fs^2, per cm^-1; it integrates to the mean square of
        the derivative.

    Raises
    ------
    FFLUXError
        Too few frames.
    """
    m = len(series)
    require_frames(m)
    series = np.reshape(series, (m, -1))
    window = np.hanning(m + 2)[1:-1][:, None]
    padded = 1 << (2 * m - 1).bit_length()
    transformed = np.fft.rfft(window * (series - series.mean(axis=0)), n=padded, axis=0)
    frequency = np.fft.rfftfreq(padded, spacing)
    density = 2 * spacing * (np.abs(transformed) ** 2).sum(axis=1) / (window**2).sum()
    density *= (2 * np.pi * frequency) ** 2
    wavenumbers = frequency / PER_CM
    if timestep:
        true = np.sin(np.pi * frequency * timestep) / (np.pi * timestep) / PER_CM
        # the same area on the compressed axis
        density *= 1 / np.cos(np.pi * frequency * timestep)
        wavenumbers = true
    return wavenumbers, density * PER_CM


def absorptivity(
    dipoles: np.ndarray, spacing: float, temperature: float, timestep: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Decadic molar absorptivity of a trajectory.

    Parameters
    ----------
    dipoles : (m, 3) array
        e Angstrom, in a frame that turns with the molecule for the spectrum of its vibrations.
    spacing, timestep : float
        As for `power_of_derivative`.
    temperature : float
        Of the dynamics (K).

    Returns
    -------
    wavenumbers, absorptivity : (k,) arrays
        cm^-1 and L mol^-1 cm^-1.
    """
    wavenumbers, density = power_of_derivative(dipoles, spacing, timestep)
    # from (e Angstrom/fs)^2 / eV to e^2/amu
    squares = density / units.fs**2 / (units.kB * temperature)
    return wavenumbers, DECADIC * E2_PER_AMU * squares


def mode_density(
    positions: np.ndarray, masses: np.ndarray, spacing: float, temperature: float,
    timestep: float = 0.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Power spectrum of the mass-weighted velocities over k_B T: modes per cm^-1.

    Parameters
    ----------
    positions : (m, N, 3) array
        Angstrom, aligned (`aligned`).
    masses : (N,) array
        amu.
    spacing, temperature, timestep
        As for `absorptivity`.

    Returns
    -------
    wavenumbers, density : (k,) arrays
        cm^-1 and modes per cm^-1; each harmonic mode in equilibrium has the area 1.
    """
    weighted = np.sqrt(masses)[:, None] * positions
    wavenumbers, density = power_of_derivative(weighted, spacing, timestep)
    return wavenumbers, density / units.fs**2 / (units.kB * temperature)


def aligned(
    positions: np.ndarray, dipoles: np.ndarray, reference: np.ndarray, masses: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Positions and dipoles in a frame that moves and turns with the molecule.

    Parameters
    ----------
    positions : (m, N, 3) array
    dipoles : (m, 3) array
    reference : (N, 3) array
        Geometry that each frame is laid onto, by mass-weighted least squares.
    masses : (N,) array
    """
    root = np.sqrt(masses)[:, None]
    share = masses / masses.sum()
    centred = positions - np.einsum("a,tai->ti", share, positions)[:, None]
    fixed = reference - share @ reference
    turns = orthogonal_maps(root * fixed, root * centred)  # fixed @ turn is nearest to a frame
    return np.einsum("tai,tji->taj", centred, turns), np.einsum("ti,tji->tj", dipoles, turns)
