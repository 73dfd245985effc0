"""Topological atoms: basins of the density's gradient, integrated ray by ray.

Around every nucleus is a sphere inside which the density rises towards it; there an ordinary
quadrature does. Outside, rays run from the nucleus to where they leave the atom, found by bisection
with gradient paths, and on if they enter it again.
"""

import numpy as np
from pyscf.dft.gen_grid import MakeAngularGrid

from ase_fflux.labels.partition.gradient_paths import PointDensity, crossings
from ase_fflux.model.multipoles import MAX_RANK, n_moments, solid_harmonics

DIRECTIONS, DIRECTIONS_H = 1454, 590
"""Rays of an atom, and of hydrogen, of which less is integrated."""

_REACH = 13.0
"""bohr; end of a ray that leaves into space."""
_CROSSING = 1e-4
"""bohr; error of a crossing."""
_INNER = 64, 194
"""Radial and angular points inside the sphere."""
_PIECES = np.array([0.0, 0.6, 1.4, 2.6, 4.2, 6.5, 10.0, 13.0])
"""bohr beyond the sphere; a piece has a Gauss-Legendre rule of its own."""
_NODES = 8


def topological_atoms(densities, directions: int = DIRECTIONS, hydrogen: int = DIRECTIONS_H):
    """Energies and moments of topological atoms.

    Parameters
    ----------
    densities : MolecularDensities
    directions, hydrogen : int
        Rays of an atom and of hydrogen, sizes of Lebedev's rules.

    Returns
    -------
    AtomicProperties
        With |L|, an atom's integral of the Laplacian over 4, as error.
    """
    from ase_fflux.labels.partition.atoms import AtomicProperties

    found = PointDensity(densities.mol, densities.orbitals)
    radius = np.array([_sphere(found, atom) for atom in range(len(found.atoms))])
    n = len(found.atoms)
    energies, moments = np.array(densities.nuclear), np.zeros((n, n_moments(MAX_RANK)))
    errors = np.zeros(n)
    for atom, position in enumerate(found.atoms):
        points, weights = _inner(radius[atom])
        outer = _outer(
            found, radius, atom, hydrogen if densities.charges[atom] == 1 else directions
        )
        points, weights = np.vstack([points, outer[0]]), np.concatenate([weights, outer[1]])
        values = densities.at(points + position, laplacian=True)
        energies[atom] += weights @ values.energy
        moments[atom] = -(weights * values.electrons) @ solid_harmonics(points, MAX_RANK)
        errors[atom] = abs(weights @ values.laplacian) / 4
    populations = -moments[:, 0].copy()
    moments[:, 0] += densities.charges
    return AtomicProperties(
        energies, moments, float(energies.sum() - densities.total),
        float(densities.mol.nelectron - populations.sum()), errors,
    )


def _sphere(found: PointDensity, atom: int) -> float:
    """Largest radius at which the density rises steeply inwards in all directions."""
    directions = MakeAngularGrid(110)[:, :3]
    others = np.linalg.norm(found.atoms - found.atoms[atom], axis=1)
    others[atom] = np.inf
    best = 0.05
    for r in np.arange(0.1, min(0.9 * others.min(), 3.0), 0.05):
        values = found.gradient(found.atoms[atom] + r * directions)
        inwards = -np.einsum("gk,gk->g", values[:, 1:], directions)
        if (inwards < 0.7 * np.linalg.norm(values[:, 1:], axis=1)).any():
            break
        best = r
    return best


def _inner(radius: float) -> tuple[np.ndarray, np.ndarray]:
    """Points and weights inside a sphere, dense near the nucleus."""
    nodes, weights = np.polynomial.legendre.leggauss(_INNER[0])
    t = 0.5 * (nodes + 1)
    r, w = radius * t**3, 0.5 * weights * 3 * t**2 * radius
    angular = MakeAngularGrid(_INNER[1])
    points = (r[:, None, None] * angular[:, :3]).reshape(-1, 3)
    return points, (4 * np.pi * (w * r**2)[:, None] * angular[:, 3]).ravel()


def _outer(found, radius, atom, directions):
    """Points and weights of an atom outside its sphere."""
    angular = MakeAngularGrid(directions)
    start = radius[atom]
    scan = start + np.concatenate([[0.0], np.cumsum(0.08 * 1.05 ** np.arange(45))])
    scan = np.append(scan[scan < _REACH], _REACH)
    found_crossings = crossings(
        found.atoms[atom], np.ascontiguousarray(angular[:, :3]), atom, scan, radius, found.tables,
        _CROSSING,
    )
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    points, all_weights = [], []
    for direction, row in zip(angular, found_crossings, strict=True):
        ends = [start, *row[1 : int(row[0]) + 1]]
        if len(ends) % 2:
            ends.append(_REACH)
        for low, high in zip(ends[::2], ends[1::2], strict=True):
            cuts = start + _PIECES
            cuts = np.concatenate([[low], cuts[(cuts > low) & (cuts < high)], [high]])
            for a, b in zip(cuts[:-1], cuts[1:], strict=True):
                r = 0.5 * (a + b) + 0.5 * (b - a) * nodes
                points.append(r[:, None] * direction[:3])
                all_weights.append(4 * np.pi * direction[3] * 0.5 * (b - a) * weights * r**2)
    return np.concatenate(points), np.concatenate(all_weights)
