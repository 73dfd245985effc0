import numpy as np
import pytest
from ase import Atoms
from scipy.spatial.transform import Rotation

from ase_fflux import FFLUX
from ase_fflux.base.errors import TopologyError
from ase_fflux.base.units import BOHR, FORCE, HARTREE

pytestmark = pytest.mark.filterwarnings("error::ase_fflux.base.errors.CoverageWarning")


def test_hydrogens_exchanged_between_calls_are_found_again(distorted, methyl_model, bundles):
    """They are as far apart as no step of a trajectory is."""
    atoms = distorted(methyl_model)
    calc = FFLUX(bundles["methyl"])
    forces = calc.get_forces(atoms)
    for order in ([0, 1, 3, 2, 4], [0, 1, 4, 2, 3], [0, 1, 2, 4, 3]):
        exchanged = atoms[order]
        np.testing.assert_allclose(calc.get_forces(exchanged), forces[order], atol=1e-9)


def test_the_assignment_is_kept_along_a_trajectory(methyl_model, bundles):
    """Three unequal hydrogens change parts in small steps; labels stay, the energy is smooth."""
    start = methyl_model.geometries[0] - methyl_model.geometries[0][0]
    end = start[[0, 1, 3, 4, 2]]
    end = Rotation.align_vectors(start, end)[0].apply(end)
    atoms = Atoms(methyl_model.symbols, BOHR * start)
    calc = FFLUX(bundles["methyl"], on_low_coverage="ignore")
    first = calc.forcefield.match(start, atoms.numbers)
    for fraction in np.linspace(0, 1, 6):
        x = start + fraction * (end - start)
        atoms.positions = BOHR * x
        expected = calc.forcefield.evaluate(x, atoms.numbers, assignment=first).energy
        assert abs(calc.get_potential_energy(atoms) - HARTREE * expected) < 1e-10
    fresh = FFLUX(bundles["methyl"])
    assert abs(fresh.get_potential_energy(atoms) - HARTREE * expected) > 1e-3
    np.testing.assert_allclose(fresh.coverage, 1, atol=1e-12)
    atoms.translate([1.1, 0, 0])  # a jump is another trajectory
    assert abs(calc.get_potential_energy(atoms) - fresh.get_potential_energy(atoms)) < 1e-9


def test_explicit_assignment(distorted, methyl_model, bundles, mixture):
    atoms = distorted(methyl_model)
    rows = [[0, 1, 3, 4, 2]]
    calc = FFLUX(bundles["methyl"], assignment=rows, on_low_coverage="ignore")
    forcefield = calc.forcefield
    x = atoms.positions / BOHR
    expected = forcefield.evaluate(
        x, atoms.numbers, assignment=forcefield.match(x, atoms.numbers, explicit=rows)
    )
    np.testing.assert_allclose(calc.get_forces(atoms), FORCE * expected.forces, rtol=1e-12)
    free = FFLUX(bundles["methyl"]).get_potential_energy(atoms)
    assert abs(calc.get_potential_energy(atoms) - free) > 1e-4
    calc.set(assignment=None)
    assert calc.get_potential_energy(atoms) == free

    found = mixture.calc.forcefield.match(mixture.positions / BOHR, mixture.numbers)
    names = [m.name for m in mixture.calc.forcefield.models]
    both = dict(zip(names, (a.tolist() for a in found.atoms_of_model), strict=True))
    energy = mixture.get_potential_energy()
    mixture.calc.set(assignment=both)
    assert mixture.calc.parameters.assignment == both
    assert mixture.get_potential_energy() == energy


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([[0, 1, 2, 3]], "has 4 atoms, the model has 5"),
        ([[0, 1, 2, 3, 9]], "names atom 9"),
        ([[0, 1, 2, 3, 4.5]], "list of its atoms"),
        ([0, 1, 2, 3, 4], "list of its atoms"),
        ([[0, 1, 2, 3, 4], [5]], "different numbers of atoms"),
    ],
)
def test_explicit_assignments_that_are_none(distorted, methyl_model, bundles, rows, message):
    with pytest.raises(TopologyError, match=message):
        FFLUX(bundles["methyl"], assignment=rows).get_potential_energy(distorted(methyl_model))
