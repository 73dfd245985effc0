"""Topological atoms."""

from itertools import pairwise

import numpy as np
import pytest
from ase import Atoms

from ase_fflux.base.units import BOHR, HARTREE_KJ

pytest.importorskip("pyscf", reason="ab initio labels need PySCF")


def test_splines_have_the_slope_of_the_density(water_run):
    from ase_fflux.labels.partition.densities import MolecularDensities
    from ase_fflux.labels.partition.density_spline import SplineDensity

    densities = MolecularDensities(water_run[1].mf)
    points = np.random.default_rng(0).standard_normal((2000, 3)) * 2
    distances = np.linalg.norm(points[:, None] - densities.atoms, axis=2)
    points = points[(distances > (0.7, 0.25, 0.25)).all(axis=1)]
    rho = densities.electrons(points)
    points, rho = points[rho > 1e-3], rho[rho > 1e-3, None]
    step = 1e-4 * np.eye(3)
    numbers = np.transpose([
        densities.electrons(points + h) - densities.electrons(points - h) for h in step
    ]) / 2e-4
    np.testing.assert_allclose(densities.slopes(points), numbers, atol=1e-6)
    error = SplineDensity(densities).slope(points) - densities.slopes(points) / rho
    assert np.sqrt((error**2).mean()) < 2e-4
    assert np.abs(error).max() < 5e-3


def test_shares_along_rays_are_integrals_between_crossings():
    from ase_fflux.labels.partition.rays import _NODES, _WEIGHTS, _integrals

    ends = np.array([-1.0, -0.3, 0.45, 1.0])
    found = _integrals(ends) @ _NODES**5
    np.testing.assert_allclose(found, (ends**6 - 1) / 6, atol=1e-13)
    np.testing.assert_allclose(_integrals(ends)[-1], _WEIGHTS, atol=1e-13)


def test_core_and_rays_integrate_a_density():
    from ase_fflux.labels.partition.rays import Rays, core

    points, weights = core(0.3)
    rays = Rays(0.3, 50)

    def density(points):
        r = np.linalg.norm(points, axis=-1)
        return np.exp(-12 * r) + np.exp(-2 * r)

    total = weights @ density(points) + (rays.weights * density(rays.points)).sum()
    assert total == pytest.approx(8 * np.pi * (12**-3 + 2**-3), rel=1e-5)


def test_atoms_of_a_molecule_with_fins_between_its_hydrogens_sum_to_it():
    from ase_fflux.labels.partition.densities import MolecularDensities
    from ase_fflux.labels.partition.qtaim import topological_atoms
    from ase_fflux.labels.pyscf_source import PySCF

    atoms = Atoms("CH4", np.array([
        [0, 0, 0], [1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1.06, -1.06, 1.06],
    ]) * 0.63)
    run = PySCF(basis="6-31G")._run(atoms, 1e-6)
    found = topological_atoms(MolecularDensities(run.mf), 194, (194, 194))
    assert abs(found.excess) * HARTREE_KJ < 0.05
    assert abs(found.missing) < 5e-5
    assert found.errors.max() < 5e-4
    # three hydrogens are alike
    assert np.ptp(found.energies[1:4]) * HARTREE_KJ < 1.0
    assert np.ptp(found.moments[1:4, 0]) < 5e-4


def test_carbon_at_oxygen_is_that_of_a_plane_quadrature():
    """The axis of CO makes its surface a curve, and basins plain integrals over r and theta."""
    from ase_fflux.labels.partition.densities import MolecularDensities
    from ase_fflux.labels.partition.qtaim import topological_atoms
    from ase_fflux.labels.pyscf_source import PySCF

    atoms = Atoms("CO", [[0, 0, 0], [0, 0, 1.128]])
    densities = MolecularDensities(PySCF(basis="6-31G(d)")._run(atoms, 1e-6).mf)
    found = topological_atoms(densities)
    electrons, laplacian, energy = _first_of_two(densities)
    assert abs(laplacian / 4) < 1e-6
    assert found.errors.max() < 1.5e-4
    assert found.moments[0, 0] == pytest.approx(6 - electrons, abs=2.5e-4)
    assert found.energies[0] == pytest.approx(energy + densities.nuclear[0], abs=1e-4)
    assert abs(found.excess) * HARTREE_KJ < 0.05


def _first_of_two(densities):
    """Integrals over the first atom of a linear molecule, its surface traced from the saddle."""
    from scipy.integrate import solve_ivp
    from scipy.interpolate import CubicSpline
    from scipy.optimize import brentq

    first, second = densities.atoms
    axis = (second - first) / np.linalg.norm(second - first)
    side = np.cross(axis, [0.3, 0.8, 0.1])
    side /= np.linalg.norm(side)

    def uphill(place):
        point = first + place[0] * axis + place[1] * side
        slope = densities.slopes(point[None])[0]
        return np.array([slope @ axis, slope @ side])

    saddle = brentq(lambda z: uphill((z, 0.0))[0], 0.4, 1.6, xtol=1e-12)
    path = solve_ivp(
        lambda _, place: -uphill(place) / np.linalg.norm(uphill(place)), [0, 17],
        [saddle, 1e-4], rtol=1e-9, atol=1e-10, max_step=0.2,
    ).y
    r = np.hypot(*path)
    assert (np.diff(r) > 0).all()
    surface = CubicSpline(np.sqrt(r - saddle), np.arctan2(path[1], path[0]))

    def rule(low, high, n):
        x, w = np.polynomial.legendre.leggauss(n)
        return low + (high - low) * (x + 1) / 2, w * (high - low) / 2

    edges = np.array([0.9, 1.2, 1.7, 2.5, 4, 6, 9, 16])
    radii = [
        (r, w, 0.0) for low, high in pairwise([0, 0.02, 0.08, 0.2, 0.4, 0.55, saddle])
        for r, w in zip(*rule(low, high, 14), strict=True)
    ] + [
        (saddle + u * u, 2 * u * w, float(surface(u)))
        for low, high in pairwise(np.sqrt(np.append(0, edges - saddle)))
        for u, w in zip(*rule(low, high, 14), strict=True)
    ]
    points, weights = [], []
    for r, w, edge in radii:
        theta, part = rule(edge, np.pi, 40)
        points.append(first + r * (np.cos(theta)[:, None] * axis + np.sin(theta)[:, None] * side))
        weights.append(2 * np.pi * r * r * w * part * np.sin(theta))
    values, weights = densities.at(np.vstack(points), laplacian=True), np.concatenate(weights)
    return weights @ values.electrons, weights @ values.laplacian, weights @ values.energy


def test_a_maximum_that_is_no_nucleus_is_refused_by_name():
    from pyscf import gto, scf

    from ase_fflux.labels.partition.densities import MolecularDensities
    from ase_fflux.labels.partition.qtaim import topological_atoms
    from ase_fflux.labels.source import Rejected

    mol = gto.M(atom="Li 0 0 0; Li 0 0 2.7", basis="6-31G", verbose=0)
    mf = scf.RHF(mol).density_fit(auxbasis="def2-universal-jkfit").run()
    with pytest.raises(Rejected, match=r"1\.35 A from atom . \(Li\), 1\.35 A from atom . \(Li\)"):
        topological_atoms(MolecularDensities(mf), 50, (50, 50))


def test_halves_of_a_symmetric_molecule_are_alike():
    from ase_fflux.labels.partition.densities import MolecularDensities
    from ase_fflux.labels.partition.qtaim import topological_atoms
    from ase_fflux.labels.pyscf_source import PySCF

    run = PySCF(basis="6-31G(d,p)")._run(Atoms("H2", [[0, 0, 0], [0, 0, 0.76]]), 1e-7)
    found = topological_atoms(MolecularDensities(run.mf))
    np.testing.assert_allclose(found.energies, run.energy / 2, atol=1e-5)
    np.testing.assert_allclose(found.moments[:, 0], 0, atol=1e-5)
    assert abs(found.excess) * HARTREE_KJ < 0.05
    assert found.errors.max() < 1e-4


def test_water_is_that_of_aimall(reference):
    from ase_fflux.labels.importers.aimall import read_aimall
    from ase_fflux.labels.partition.densities import MolecularDensities
    from ase_fflux.labels.partition.qtaim import topological_atoms
    from ase_fflux.labels.pyscf_source import PySCF

    expected = read_aimall(reference / "aimall")
    atoms = Atoms(expected.symbols, expected.geometries[0] * BOHR)
    source = PySCF(partition="qtaim")
    run = source._run(atoms, 1e-7)
    assert run.energy == pytest.approx(expected.energies[0], abs=5e-6)
    label = source.label_of(run, topological_atoms(MolecularDensities(run.mf)))
    difference = np.abs(label.moments - expected.moments[0])
    assert np.abs(label.atomic_energies - expected.atomic_energies[0]).max() * HARTREE_KJ < 0.2
    assert difference[:, 0].max() < 2e-4
    assert difference[:, 1:9].max() < 5e-4
    np.testing.assert_allclose(label.gradient, expected.gradients[0], atol=1e-4)
