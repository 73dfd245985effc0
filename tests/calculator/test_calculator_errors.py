import warnings

import numpy as np
import pytest
from ase import Atoms

from ase_fflux import FFLUX
from ase_fflux.base.errors import (
    CoverageError,
    CoverageWarning,
    FFLUXError,
    GeometryError,
    TopologyError,
)

pytestmark = pytest.mark.filterwarnings("error::ase_fflux.base.errors.CoverageWarning")


@pytest.fixture
def stretched(distorted, chiral_model, bundles):
    """A molecule larger than those of the training data, and its lowest coverage."""
    atoms = distorted(chiral_model)
    atoms.positions *= 1.15
    calc = FFLUX(bundles["chiral"], on_low_coverage="ignore")
    calc.get_potential_energy(atoms)
    return atoms, calc.coverage.min()


def test_low_coverage_warns_once(stretched, bundles):
    atoms, lowest = stretched
    calc = FFLUX(bundles["chiral"], min_coverage=lowest + 0.01)
    message = rf"atom \d \(\w+\) has a coverage of {lowest:.3g} \(below"
    with pytest.warns(CoverageWarning, match=message):
        calc.get_potential_energy(atoms)
    atoms.rattle(0.001)
    calc.get_potential_energy(atoms)  # a warning would be an error here
    calc.set(min_coverage=lowest + 0.02)
    with pytest.warns(CoverageWarning):
        calc.get_potential_energy(atoms)
    FFLUX(bundles["chiral"], min_coverage=lowest - 0.01).get_potential_energy(atoms)


def test_the_warning_points_at_the_caller(stretched, bundles):
    atoms, lowest = stretched
    for ask in (Atoms.get_potential_energy, Atoms.get_forces):
        atoms.calc = FFLUX(bundles["chiral"], min_coverage=lowest + 0.01)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            ask(atoms)
        caught = [w for w in caught if w.category is CoverageWarning]
        assert [w.filename for w in caught] == [__file__]


def test_where_nothing_is_known_is_an_error(stretched, bundles):
    atoms, _ = stretched
    atoms.positions *= 1.3
    calc = FFLUX(bundles["chiral"])
    with pytest.raises(CoverageError, match=r"atom \d \(\w+\) .* know nothing"):
        calc.get_potential_energy(atoms)
    calc.set(on_low_coverage="ignore")
    assert np.isfinite(calc.get_potential_energy(atoms)) and calc.coverage.min() < 0.09


def test_low_coverage_raises_or_is_ignored(stretched, bundles):
    atoms, lowest = stretched
    calc = FFLUX(bundles["chiral"], min_coverage=lowest + 0.01, on_low_coverage="raise")
    for _ in range(2):
        with pytest.raises(CoverageError, match="outside of the training data"):
            calc.get_potential_energy(atoms)
    assert not calc.results
    calc.set(on_low_coverage="ignore")
    calc.get_potential_energy(atoms)
    assert calc.coverage.min() == lowest
    calc.set(on_low_coverage="raise", min_coverage=lowest - 0.01)
    calc.get_potential_energy(atoms)


def test_parameters_that_there_are_not(bundles):
    with pytest.raises(FFLUXError, match="which model"):
        FFLUX()
    with pytest.raises(FFLUXError, match="no parameter 'lewel'; it has model, electrostatics"):
        FFLUX(bundles["chiral"], lewel=3)
    with pytest.raises(FFLUXError, match="level or the interaction rank, not both"):
        FFLUX(bundles["chiral"], level=3, rank=2)
    with pytest.raises(FFLUXError, match="'warn', 'raise' or 'ignore'"):
        FFLUX(bundles["chiral"], on_low_coverage="panic")
    with pytest.raises(FFLUXError, match="no model 'unobtainium'"):
        FFLUX("unobtainium")
    with pytest.raises(FFLUXError, match="unknown potential 'morse'"):
        FFLUX(bundles["chiral"], short_range={"C-C": {"morse": [1, 2]}})
    with pytest.raises(FFLUXError, match="get_multipoles"):
        FFLUX(bundles["chiral"]).get_multipoles()


def test_a_set_that_fails_changes_nothing(molecule, bundles):
    energy = molecule.get_potential_energy()
    parameters = dict(molecule.calc.parameters)
    for wrong in ({"model": "unobtainium"}, {"rank": 9}, {"min_coverage": 0.1, "level": 77}):
        with pytest.raises(FFLUXError):
            molecule.calc.set(**wrong)
        assert molecule.calc.parameters == parameters
        assert molecule.get_potential_energy() == energy


def test_set_rebuilds_what_depends_on_it(mixture):
    full = mixture.get_potential_energy()
    mixture.calc.set(electrostatics=False)
    without = mixture.get_potential_energy()
    assert set(mixture.calc.energy_terms) == {"intramolecular", "short_range"}
    mixture.calc.set(electrostatics=True)
    assert mixture.get_potential_energy() == full != without
    mixture.calc.set(level=1)
    assert mixture.get_potential_energy() not in (full, without)


def _put(atoms, i, position):
    atoms.positions[i] = position
    return atoms


def _in_line(atoms):
    """Br moved to where C is between Cl and it, F to where Br was."""
    atoms.positions[2] = 0.67 * atoms.positions[4]
    return _put(atoms, 4, -1.2 * atoms.positions[3])


@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (lambda a: a[:0], GeometryError, "no atoms"),
        (lambda a: _put(a, 2, [np.nan, 0, 0]), GeometryError, r"atom 3 \(F\) .* not finite"),
        (lambda a: _put(a, 2, a.positions[4]), GeometryError, r"atom 3 \(F\) and atom 5 \(Br\)"),
        (lambda a: a[1:], TopologyError, "no model fits"),
        (_in_line, GeometryError, r"frame of atom \d \(Cl\) is linear"),
    ],
)
def test_atoms_without_an_energy(molecule, spoil, error, message):
    calc = molecule.calc
    molecule.positions -= molecule.positions[0]
    calc.get_potential_energy(molecule)
    bad = spoil(molecule.copy())
    for _ in range(2):
        with pytest.raises(error, match=message):
            calc.get_potential_energy(bad)
    assert not calc.results
    assert calc.energy_terms is None
    assert np.isfinite(calc.get_potential_energy(molecule))


def test_electrostatics_of_a_slab_are_refused(molecule):
    molecule.set_cell([20, 20, 20])
    molecule.pbc = [True, True, False]
    with pytest.raises(FFLUXError, match="slab.*pbc = True .* electrostatics=False"):
        molecule.get_potential_energy()
    molecule.calc.set(electrostatics=False)
    molecule.pbc = True
    assert molecule.get_stress().shape == (6,)


@pytest.mark.parametrize("options, message", [
    ({"electrostatics": "no"}, "True or False"),
    ({"short_range_cutoff": 8.0}, "no pair potentials"),
])
def test_options_that_would_mean_something_else(bundles, options, message):
    with pytest.raises(FFLUXError, match=message):
        FFLUX(bundles["chiral"], **options)
