"""Densities of energy: integrals over all space are the energies of the calculation."""

import numpy as np
import pytest

pytest.importorskip("pyscf", reason="ab initio labels need PySCF")


@pytest.mark.parametrize("method", ["B3LYP", "HF", "TPSS", "LDA,VWN"])
def test_energy_density_integrates_to_the_total_energy(bent_water, method):
    from ase_fflux.labels.partition.densities import MolecularDensities
    from ase_fflux.labels.partition.grid import molecular_grid
    from ase_fflux.labels.pyscf_source import PySCF

    run = PySCF(method=method, basis="6-31G(d,p)")._run(bent_water, 1e-6)
    densities = MolecularDensities(run.mf)
    points, weights, electrons = molecular_grid(densities)
    found = densities.at(points, laplacian=True)
    assert weights @ electrons == pytest.approx(10, abs=1e-6)
    # 0.02 kJ/mol
    assert weights @ found.energy + densities.nuclear.sum() == pytest.approx(run.energy, abs=8e-6)
    assert weights @ found.laplacian == pytest.approx(0, abs=0.02)
    np.testing.assert_allclose(found.electrons, electrons, rtol=1e-9)


def test_laplacian_is_that_of_the_density(water_run):
    from ase_fflux.labels.partition.densities import MolecularDensities

    densities = MolecularDensities(water_run[1].mf)
    point, h = np.array([0.4, 0.9, -0.3]), 1e-3
    moved = point + h * np.concatenate([np.eye(3), -np.eye(3)])
    numerical = (densities.electrons(moved).sum() - 6 * densities.electrons(point[None])[0]) / h**2
    assert densities.at(point[None], True).laplacian[0] == pytest.approx(numerical, rel=1e-4)
