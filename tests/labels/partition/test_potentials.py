"""Potentials of Gaussians in closed form against integrals."""

import numpy as np
import pytest

pyscf = pytest.importorskip("pyscf", reason="ab initio labels need PySCF")


@pytest.mark.parametrize("cartesian", [True, False])
def test_potentials_are_those_of_integrals(cartesian):
    from ase_fflux.labels.partition.potentials import GaussianPotentials

    basis = {"C": [[0, [3.0, 0.3], [0.5, 0.8]]] + [[k, [0.9, 1.0]] for k in range(1, 6)]
             + [[2, [0.02, 1.0]], [0, [2000.0, 1.0]]]}
    mol = pyscf.gto.M(atom="C 0 0 0.3; C 0.2 1.5 0", basis=basis, cart=cartesian, verbose=0)
    rng = np.random.default_rng(0)
    points = rng.standard_normal((300, 3)) * rng.uniform(0.001, 8, (300, 1))
    points[0] = mol.atom_coords()[0]
    expected = pyscf.gto.intor_cross("int2c2e", mol, pyscf.gto.fakemol_for_charges(points))
    found = GaussianPotentials(mol).at(points)
    np.testing.assert_allclose(found, expected, atol=1e-9 * np.abs(expected).max())
