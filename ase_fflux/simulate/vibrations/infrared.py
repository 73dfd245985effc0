"""Infrared intensities and spectra in the double-harmonic approximation."""

import numpy as np
from ase import units

from ase_fflux.base.errors import FFLUXError

E2_PER_AMU = units._Nav * units._e**2 / (12 * units._eps0 * units._c**2 * units._amu) / 1e3
"""km/mol of a mode with |d mu/dQ|^2 = 1 e^2/amu.

A fundamental's integrated Napierian absorption coefficient is N_A |d mu/dQ|^2 / (12 eps_0 c^2)
(Wilson, Decius and Cross, Molecular Vibrations, 1955, ch. 7-9, in SI units). In the customary
unit this is 42.2561 km/mol per (D/Angstrom)^2/amu.
"""

DECADIC = 1e5 / (1e3 * np.log(10))
"""Integral of the decadic molar absorptivity (L mol^-1 cm^-1) over cm^-1 per km/mol."""

_MOST_POINTS = 1_000_000


def mode_intensities(dipole_gradient: np.ndarray, normal_coordinates: np.ndarray) -> np.ndarray:
    """Intensities of fundamentals.

    Parameters
    ----------
    dipole_gradient : (3N, 3) array
        d mu_b / d r_a in e, Cartesian displacements in rows.
    normal_coordinates : (n, 3N) array
        dr/dQ of each mode in amu^-1/2.

    Returns
    -------
    (n,) array
        km/mol.
    """
    return E2_PER_AMU * ((normal_coordinates @ dipole_gradient) ** 2).sum(axis=1)


def line_height(width: float) -> float:
    """Decadic molar absorptivity (L mol^-1 cm^-1) at the centre of a Lorentzian of 1 km/mol.

    Parameters
    ----------
    width : float
        Full width at half maximum (cm^-1).
    """
    return 2 * DECADIC / (np.pi * width)


def spectrum(
    wavenumbers: np.ndarray, intensities: np.ndarray, width: float, grid: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Decadic molar absorptivity with a Lorentzian of unit area for each mode.

    Parameters
    ----------
    wavenumbers : (n,) array
        cm^-1; imaginary modes (negative) do not absorb.
    intensities : (n,) array
        km/mol.
    width : float
        Full width at half maximum (cm^-1).
    grid : (m,) array, optional
        Where (cm^-1); by default from 0 to beyond the last mode, ten points per width.

    Returns
    -------
    grid, absorptivity : (m,) arrays
        cm^-1 and L mol^-1 cm^-1.

    Raises
    ------
    FFLUXError
        As `spectrum_grid`.
    """
    real = wavenumbers > 0
    centres, areas = wavenumbers[real], intensities[real] * DECADIC
    if grid is None:
        grid = spectrum_grid(wavenumbers, width)
    half = width / 2
    lines = half / np.pi / ((grid[:, None] - centres) ** 2 + half**2)
    return grid, lines @ areas


def spectrum_grid(wavenumbers: np.ndarray, width: float) -> np.ndarray:
    """Where a spectrum of these modes is drawn by default (cm^-1), see `spectrum`.

    Raises
    ------
    FFLUXError
        Lines so narrow that it takes more than a million points.
    """
    end = max(wavenumbers.max(initial=0.0), 0.0) + max(200.0, 20 * width)
    if end > _MOST_POINTS * width / 10:
        raise FFLUXError(
            f"lines of {width:g} cm^-1 need a spectrum of more than {_MOST_POINTS:,} points: "
            f"take {10 * end / _MOST_POINTS:.2g} or more (--width)"
        )
    return np.arange(0.0, end, width / 10)
