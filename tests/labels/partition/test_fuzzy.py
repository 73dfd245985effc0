"""Hirshfeld and MBIS atoms."""

import numpy as np
import pytest
from ase import Atoms

pytest.importorskip("pyscf", reason="ab initio labels need PySCF")


@pytest.mark.parametrize("partition", ["hirshfeld", "mbis"])
def test_atoms_sum_to_the_molecule(water_run, partition):
    source, run = water_run
    found = source.integrate(run, partition)
    assert abs(found.excess) < 0.05 / 2625.5
    assert abs(found.missing) < 1e-6
    positions = run.mf.mol.atom_coords()
    dipole = found.moments[:, 0] @ positions + found.moments[:, [2, 3, 1]].sum(axis=0)
    np.testing.assert_allclose(dipole, run.mf.dip_moment(unit="AU", verbose=0), atol=1e-5)
    assert found.moments[0, 0] < 0 < found.moments[1:, 0].min()


def test_hirshfeld_atom_of_an_atom_is_the_atom(water_run):
    from ase_fflux.labels.pyscf_source import PySCF

    label = PySCF(basis="6-31G", partition="hirshfeld").label(Atoms("Ne", [[0.3, 0, 0]]))
    assert label.atomic_energies[0] == pytest.approx(label.energy, abs=1e-9)
    np.testing.assert_allclose(label.moments[0], 0, atol=1e-6)


def test_mbis_shells_have_the_moments_of_their_share(water_run):
    from ase_fflux.labels.partition.densities import MolecularDensities
    from ase_fflux.labels.partition.fuzzy import mbis
    from ase_fflux.labels.partition.grid import molecular_grid

    densities = MolecularDensities(water_run[1].mf)
    grid = molecular_grid(densities)
    shares, shells = mbis(densities, *grid)
    np.testing.assert_allclose(shares.sum(axis=0), 1, atol=1e-12)
    assert len(shells[0]) == 4  # two of oxygen, one of each hydrogen
    # shells of an atom together have the population of its share
    populations = shares @ (grid[1] * grid[2])
    np.testing.assert_allclose(populations, [shells[0, :2].sum(), *shells[0, 2:]], rtol=1e-7)
    again, same = mbis(densities, *grid, start=1.05 * shells)
    np.testing.assert_allclose(same, shells, rtol=1e-6)
    np.testing.assert_allclose(again, shares, atol=1e-6)
