import numpy as np

from ase_fflux.base.units import HARTREE
from ase_fflux.forcefield import ForceField
from ase_fflux.forcefield.interactions.pairs import ShortRange

PUBLISHED_BOHR = 0.52917721067
HARTREE_KJ = 2625.499638285


def test_published_monomer(published_water, reference):
    lines = (reference / "water343" / "CONFIG").read_text().splitlines()[6:18:4]
    x = np.array([line.split() for line in lines], dtype=float) / PUBLISHED_BOHR
    results = ForceField([published_water]).evaluate(x, np.array([8, 1, 1]))
    assert abs(results.energy + 76.464214418019) < 1e-10
    assert results.terms == {
        "intramolecular": results.energy, "electrostatic": 0.0
    }


def test_published_dimer(published_water, water_dimer):
    """E_IQA, electrostatics at level 3, Lennard-Jones, and the sum of all forces."""
    kj = HARTREE / HARTREE_KJ  # eV
    short_range = ShortRange.from_dict(
        {"O-O": {"lj": [0.763 * kj, 3.170]}, "O-H": {"lj": [0.106 * kj, 1.902]}}, cutoff=8.0
    )
    forcefield = ForceField([published_water], level=3, short_range=short_range)
    x = water_dimer["positions_ang"] / PUBLISHED_BOHR
    results = forcefield.evaluate(x, np.array([8, 1, 1] * 2))
    assert abs(results.terms["intramolecular"] + 152.929323260847) < 1e-10
    np.testing.assert_allclose(
        results.terms["electrostatic"] * HARTREE_KJ, -30.4203718, rtol=1e-8
    )
    np.testing.assert_allclose(
        results.terms["short_range"] * HARTREE_KJ, 11.378665734, rtol=1e-8
    )
    published = water_dimer["forces_10Jmol_per_ang"]
    forces = results.forces * 100 * HARTREE_KJ / PUBLISHED_BOHR
    np.testing.assert_allclose(forces, published, rtol=0, atol=1e-6 * np.abs(published).max())
