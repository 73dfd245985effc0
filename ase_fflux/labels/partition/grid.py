"""Quadrature over a whole molecule, for atoms that overlap."""

import numpy as np
from pyscf import dft

RADIAL, ANGULAR = 75, 434
"""Points per atom; within a quarter and a half of its radius 50 and 194 directions are enough."""
_LEAST_RADIUS = 0.9
"""bohr; hydrogen's own radius is too short for its density in a molecule."""
_NEGLIGIBLE = 1e-12
"""Electrons at a point that does not matter, far from all nuclei."""


def molecular_grid(densities) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points that integrate the densities of a molecule.

    Parameters
    ----------
    densities : MolecularDensities

    Returns
    -------
    points : (g, 3) array
        In bohr.
    weights : (g,) array
        In bohr^3.
    electrons : (g,) array
        Electron density at the points (e/bohr^3).
    """
    grid = dft.gen_grid.Grids(densities.mol)
    grid.atom_grid, grid.prune = (RADIAL, ANGULAR), _directions
    grid.verbose = 0
    grid.build()
    rho = densities.electrons(grid.coords)
    kept = (rho * grid.weights > _NEGLIGIBLE) | (rho > 1e-3)
    return grid.coords[kept], grid.weights[kept], rho[kept]


def _directions(number: int, radii: np.ndarray, n: int, *_) -> np.ndarray:
    """Directions at each radius of an atom."""
    scaled = radii / max(dft.radi.BRAGG_RADII[number], _LEAST_RADIUS)
    return np.where(scaled < 0.25, 50, np.where(scaled < 0.5, 194, n))
