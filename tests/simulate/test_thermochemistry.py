from dataclasses import replace

import numpy as np
import pytest
from ase import units
from ase.build import molecule

from ase_fflux.base.errors import FFLUXError
from ase_fflux.simulate.thermochemistry import thermochemistry
from ase_fflux.simulate.vibrations.analysis import vibrations

J_PER_MOL_K = units.J / units.mol


@pytest.fixture
def water(tetrahedron):
    """Experimental geometry and fundamentals of water in the place of computed ones."""
    atoms = molecule("H2O")
    for hydrogen in (1, 2):
        atoms.set_distance(0, hydrogen, 0.9575, fix=0)
    atoms.set_angle(1, 0, 2, 104.51)
    return replace(
        vibrations(tetrahedron),
        atoms=atoms,
        energy=-7.0,
        wavenumbers=np.array([1594.6, 3656.7, 3755.8]),
    )


def test_water_against_the_tables(water):
    # JANAF tables (4th ed., 1998), H2O(g) at 298.15 K and 1 bar: S = 188.834, Cp = 33.590 J/mol/K,
    # H(298) - H(0) = 9.904 kJ/mol. A rigid rotor at the equilibrium geometry misses 0.17 of S: the
    # tables have ground-state rotational constants and centrifugal distortion (0.11 of Cp)
    gas = thermochemistry(water, pressure=1e5, symmetry_number=2)
    assert gas.entropy / J_PER_MOL_K == pytest.approx(188.834, abs=0.2)
    assert gas.cp / J_PER_MOL_K == pytest.approx(33.590, abs=0.15)
    thermal = gas.enthalpy - water.energy - gas.zero_point_energy
    assert thermal / (1e3 * J_PER_MOL_K) == pytest.approx(9.904, abs=0.03)
    assert gas.geometry == "nonlinear"
    assert gas.notes == ()


def test_relations(water):
    gas = thermochemistry(water, temperature=400.0, pressure=2e5, symmetry_number=2)
    assert gas.gibbs_energy == pytest.approx(gas.enthalpy - 400 * gas.entropy)
    assert gas.enthalpy - gas.internal_energy == pytest.approx(units.kB * 400)
    assert gas.cp - gas.cv == pytest.approx(units.kB)
    hot, cold = (
        thermochemistry(water, temperature=t, pressure=2e5, symmetry_number=2)
        for t in (400.05, 399.95)
    )
    assert (hot.internal_energy - cold.internal_energy) / 0.1 == pytest.approx(gas.cv, rel=1e-6)
    assert -(hot.gibbs_energy - cold.gibbs_energy) / 0.1 == pytest.approx(gas.entropy, rel=1e-6)


def test_limits(water):
    cold = thermochemistry(water, temperature=5.0, symmetry_number=2)
    assert cold.cv == pytest.approx(3 * units.kB)
    hot = thermochemistry(water, temperature=3e5, symmetry_number=2)
    assert hot.cv == pytest.approx(6 * units.kB, rel=1e-3)
    two = thermochemistry(water, symmetry_number=2)
    one = thermochemistry(water, symmetry_number=1)
    assert one.entropy - two.entropy == pytest.approx(units.kB * np.log(2))
    low = thermochemistry(water, pressure=1e4, symmetry_number=2)
    high = thermochemistry(water, pressure=1e5, symmetry_number=2)
    assert low.entropy - high.entropy == pytest.approx(units.kB * np.log(10))


def test_linear_molecule(diatomic):
    # CO at its experimental distance and fundamental: JANAF S = 197.653, Cp = 29.142 J/mol/K
    found = vibrations(diatomic)
    atoms = found.atoms.copy()
    atoms.set_distance(0, 1, 1.1283)
    found = replace(found, atoms=atoms, wavenumbers=np.array([2143.3]))
    gas = thermochemistry(found, pressure=1e5, symmetry_number=1)
    assert gas.geometry == "linear"
    assert gas.entropy / J_PER_MOL_K == pytest.approx(197.653, abs=0.05)
    assert gas.cp / J_PER_MOL_K == pytest.approx(29.142, abs=0.05)


DEUTERIUM = 2.014


@pytest.mark.parametrize("name, isotopes, number", [
    ("H2O", {}, 2), ("C6H6", {}, 12), ("NH3", {}, 3), ("CH4", {}, 12), ("N2", {}, 2),
    ("H2O", {1: DEUTERIUM}, 1), ("H2O", {1: DEUTERIUM, 2: DEUTERIUM}, 2),
    ("H2O", {0: 17.999}, 2), ("C6H6", {6: DEUTERIUM}, 2), ("CH4", {2: DEUTERIUM}, 3),
    ("CH4", {1: DEUTERIUM, 2: DEUTERIUM}, 2), ("NH3", {1: DEUTERIUM}, 1), ("N2", {1: 15.0001}, 1),
    ("CO2", {}, 2), ("CO2", {1: 17.999}, 1), ("C2H2", {2: DEUTERIUM}, 1),
    # the isotope itself instead of the element's mean is no other atom
    ("H2O", {1: 1.00783}, 2), ("C6H6", {0: 12.0}, 12),
])
def test_symmetry_number_is_found(water, name, isotopes, number):
    atoms = molecule(name)
    masses = atoms.get_masses()
    for atom, mass in isotopes.items():
        masses[atom] = mass
    atoms.set_masses(masses)
    found = replace(water, atoms=atoms, linear=name in ("N2", "CO2", "C2H2"))
    assert thermochemistry(found).symmetry_number == number


def test_isotopes_count_in_moments_of_inertia_and_symmetry(water):
    """HDO with its fundamentals: S = 199.5 J/mol/K at 298.15 K and 1 bar."""
    atoms = water.atoms.copy()
    atoms.set_masses([15.999, DEUTERIUM, 1.008])
    gas = thermochemistry(
        replace(water, atoms=atoms, wavenumbers=np.array([1403.5, 2723.7, 3707.5])), pressure=1e5
    )
    assert gas.entropy / J_PER_MOL_K == pytest.approx(199.5, abs=0.3)
    assert gas.symmetry_number == 1


def test_imaginary_and_soft_modes_are_noted(water):
    odd = replace(water, wavenumbers=np.array([-80.0, 20.0, 1594.6]))
    gas = thermochemistry(odd, symmetry_number=2)
    assert "1 imaginary mode left out" in gas.notes[0]
    assert "20.0" in gas.notes[1]
    without = replace(water, wavenumbers=np.array([20.0, 1594.6]))
    assert gas.entropy == thermochemistry(without, symmetry_number=2).entropy


@pytest.mark.parametrize(
    "wrong", [{"temperature": 0.0}, {"pressure": -1.0}, {"symmetry_number": 0}]
)
def test_errors(water, wrong):
    with pytest.raises(FFLUXError):
        thermochemistry(water, **wrong)


@pytest.mark.parametrize("temperature", [1e-300, 1e300])
def test_conditions_beyond_all_numbers_are_refused(water, temperature):
    with pytest.raises(FFLUXError, match="not finite"):
        thermochemistry(water, temperature=temperature)
