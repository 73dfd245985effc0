"""Topological atoms: basins of the density's gradient.

Rays from its nucleus measure an atom's basin badly: between two hydrogens of a methyl group the
carbon's basin is a fin that reaches into space, along whose faces the rays run. So the molecule is
integrated as for atoms that overlap, with rays around every nucleus and smooth weights (Becke's)
that fade them out where another nucleus is nearer, and every ray is divided among all the basins
that it passes. What is a fin for one nucleus' rays is met squarely by its neighbours', which have
the weight there. As all of every ray is given away, atoms sum to the molecule whatever the
surfaces between them.
"""

import numpy as np
from pyscf import gto
from pyscf.dft.gen_grid import MakeAngularGrid

from ase_fflux.base.units import BOHR
from ase_fflux.labels.partition.density_spline import SplineDensity
from ase_fflux.labels.partition.gradient_paths import known_atoms
from ase_fflux.labels.partition.rays import EDGES, NODES, Rays, core
from ase_fflux.labels.pyscf_numerics import becke_shares
from ase_fflux.labels.source import Rejected
from ase_fflux.model.multipoles import MAX_RANK, n_moments, solid_harmonics
from ase_fflux.topology.graphs import atom_label

DIRECTIONS = 434
"""Rays of an atom on which densities are evaluated."""
FINE = 974, 2354
"""Rays of hydrogens and of other atoms on which basins are told apart. The edge of a basin on a
sphere is a step, whose integral converges slowly, and the density is steep where a carbon meets an
oxygen."""

_NEGLIGIBLE = 1e-12
"""Electrons at a point that does not matter, far from all nuclei."""
_LEAST_SPHERE = 0.15
"""bohr; the maximum of a density of Gaussians lies up to half as far beside a proton at oxygen."""
_FEW_LOST = 50
"""Paths that may end on saddles, of a symmetric molecule's points between its atoms."""
_FLAT = 1e-3
"""Slope of the density's logarithm (1/bohr) where a path has ended."""


def topological_atoms(densities, directions: int = DIRECTIONS, fine: tuple[int, int] = FINE):
    """Energies and moments of topological atoms.

    Parameters
    ----------
    densities : MolecularDensities
    directions : int
        Rays of an atom for densities, size of a rule of Lebedev's.
    fine : tuple of int
        Those for basins, of hydrogens and of other atoms.

    Returns
    -------
    AtomicProperties
        With |L|, an atom's integral of the Laplacian over 4, as error.

    Raises
    ------
    Rejected
        The density has a maximum that is no nucleus: what belongs to it belongs to no atom.
    """
    from ase_fflux.labels.partition.atoms import AtomicProperties

    atoms = densities.atoms
    n = len(atoms)
    radius = np.array([_sphere(densities, atom) for atom in range(n)])
    spline = SplineDensity(densities)
    known, lost = known_atoms(spline, radius)
    _refuse_attractors(densities, spline, lost)
    paths = radius, spline.tables, known
    energies, moments = np.array(densities.nuclear), np.zeros((n, n_moments(MAX_RANK)))
    laplacians = np.zeros(n)
    for atom in range(n):
        rays = directions, fine[int(densities.charges[atom] > 1)]
        points, weights = _basins(densities, atom, paths, *rays)
        values = densities.at(points, laplacian=True)
        energies += weights @ values.energy
        laplacians += weights @ values.laplacian
        for basin, row in enumerate(weights):
            met = row != 0
            charge = row[met] * values.electrons[met]
            moments[basin] -= charge @ solid_harmonics(points[met] - atoms[basin], MAX_RANK)
    populations = -moments[:, 0].copy()
    moments[:, 0] += densities.charges
    return AtomicProperties(
        energies, moments, float(energies.sum() - densities.total),
        float(densities.mol.nelectron - populations.sum()), np.abs(laplacians) / 4,
    )


def _sphere(densities, atom: int) -> float:
    """Radius inside which all paths end at an atom: the density rises steeply inwards."""
    lines = densities.atoms - densities.atoms[atom]
    distances = np.linalg.norm(lines, axis=1)
    others = np.arange(len(lines)) != atom
    # surfaces are nearest on the lines to neighbours, which a rule's directions may miss
    directions = np.vstack([
        MakeAngularGrid(110)[:, :3], lines[others] / distances[others, None]
    ])
    best = _LEAST_SPHERE
    for r in np.arange(best + 0.05, min([3.0, *0.9 * distances[others]]), 0.05):
        slopes = densities.slopes(densities.atoms[atom] + r * directions)
        inwards = -np.einsum("gk,gk->g", slopes, directions)
        if (inwards < 0.7 * np.linalg.norm(slopes, axis=1)).any():
            break
        best = r
    return max(_LEAST_SPHERE, 0.9 * best)


def _refuse_attractors(densities, spline: SplineDensity, lost: np.ndarray) -> None:
    """Refuse maxima of the density among the ends of paths that reached no nucleus."""
    step = 0.02 * np.concatenate([np.eye(3), -np.eye(3)])
    for end in lost:
        slopes = spline.slope(end + step)
        hessian = (slopes[:3] - slopes[3:]) / 0.04
        if np.linalg.norm(spline.slope(end[None])) > _FLAT or np.linalg.eigvalsh(hessian)[-1] > 0:
            continue
        distances = np.linalg.norm(densities.atoms - end, axis=1)
        numbers = [gto.charge(densities.mol.atom_pure_symbol(a)) for a in range(len(distances))]
        near = ", ".join(
            f"{distances[a] * BOHR:.2f} A from {atom_label(a, numbers)}"
            for a in np.argsort(distances)[:2]
        )
        raise Rejected(
            f"the density has a maximum that is no nucleus (non-nuclear attractor), {near}: its "
            "basin belongs to no atom; use another partition (mbis, hirshfeld)"
        )
    if len(lost) > _FEW_LOST:
        raise Rejected(
            f"paths of steepest ascent of the density end at no atom ({len(lost)} and more): use "
            "another partition (mbis, hirshfeld)"
        )


def _basins(densities, atom, paths, directions, fine):
    """Points (g, 3) of an atom's grid, and weights (N, g) of all basins."""
    atoms, n = densities.atoms, len(densities.atoms)
    origin, radius = atoms[atom], paths[0][atom]
    start = min(EDGES[0], radius)

    def becke(points):
        return becke_shares(points, atoms, np.zeros((n, n)), atom)

    inner, inner_weights = core(start)
    inner += origin
    cores = np.zeros((n, len(inner)))
    cores[atom] = inner_weights * becke(inner)
    rays = Rays(start, directions)
    points = origin + rays.points
    shape = points.shape[:2]
    flat = points.reshape(-1, 3)
    weights = rays.weights * becke(flat).reshape(shape)
    matter = densities.electrons(flat).reshape(shape) * weights > _NEGLIGIBLE
    reached = matter.any(axis=0).reshape(-1, NODES).any(axis=1)
    pieces = int(np.flatnonzero(reached)[-1]) + 1
    shares = rays.shares(origin, fine, pieces, n, paths)
    nodes = shares.shape[2]
    used = matter[:, :nodes]
    outer = (shares * weights[:, :nodes])[:, used]
    return np.vstack([inner, points[:, :nodes][used]]), np.hstack([cores, outer])
