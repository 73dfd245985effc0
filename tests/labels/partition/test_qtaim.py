"""Topological atoms."""

import numpy as np
import pytest
from ase import Atoms

from ase_fflux.base.units import BOHR, HARTREE_KJ

pytest.importorskip("pyscf", reason="ab initio labels need PySCF")


def test_density_at_points_is_that_of_the_calculation(water_run):
    from ase_fflux.labels.partition.gradient_paths import PointDensity

    mf = water_run[1].mf
    points = np.random.default_rng(0).standard_normal((50, 3)) * 2
    ao = mf._numint.eval_ao(mf.mol, points, deriv=1)
    expected = mf._numint.eval_rho(mf.mol, ao, mf.make_rdm1(), xctype="GGA")[:4]
    found = PointDensity(mf.mol, mf.mo_coeff[:, mf.mo_occ > 0]).gradient(points)
    np.testing.assert_allclose(found.T, expected, atol=1e-10)


def test_halves_of_a_symmetric_molecule_are_alike():
    from ase_fflux.labels.partition.densities import MolecularDensities
    from ase_fflux.labels.partition.qtaim import topological_atoms
    from ase_fflux.labels.pyscf_source import PySCF

    run = PySCF(basis="6-31G(d,p)")._run(Atoms("H2", [[0, 0, 0], [0, 0, 0.76]]), 1e-7)
    found = topological_atoms(MolecularDensities(run.mf), hydrogen=974)
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
