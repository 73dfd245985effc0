import pickle

import numpy as np
import pytest
from ase import Atoms

from ase_fflux import FFLUX
from ase_fflux.base.errors import FFLUXError
from ase_fflux.base.units import BOHR, FORCE, HARTREE
from ase_fflux.formats.bundle import write_bundle
from ase_fflux.learn.joint.uncertainty import Posterior


@pytest.fixture(scope="module")
def model(make_shared):
    return make_shared(n_points=8)


@pytest.fixture(scope="module")
def bundle(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("bundle") / "fluoromethane.fflux"
    write_bundle(path, model)
    return path


@pytest.fixture
def calculator(bundle):
    return FFLUX(bundle, electrostatics=False, on_low_coverage="ignore")


@pytest.fixture
def molecules(model, distorted):
    """Two molecules, far apart."""
    first, second = distorted(model, seed=1), distorted(model, seed=2)
    second.translate([9.0, 1.0, 0.5])
    return first, second


def test_units_and_sums(model, calculator, molecules):
    expected = [Posterior(model).uncertainty(m.positions / BOHR) for m in molecules]
    atoms = molecules[0] + molecules[1]
    calculator.set(assignment=[list(range(5)), list(range(5, 10))])
    found = calculator.get_uncertainty(atoms)
    energies = [HARTREE * u.energy for u in expected]
    assert found.energy == pytest.approx(np.hypot(*energies), rel=1e-8)
    assert found.energies == pytest.approx(
        HARTREE * np.concatenate([u.energies for u in expected]), rel=1e-8
    )
    np.testing.assert_allclose(
        found.forces, FORCE * np.vstack([u.forces for u in expected]), rtol=1e-6
    )


def test_atoms_in_any_order_across_boundaries(calculator, molecules):
    atoms = molecules[0]
    expected = calculator.get_uncertainty(atoms)
    order = [3, 0, 4, 1, 2]
    moved = atoms[order]
    moved.set_cell([11.0, 12.0, 13.0])
    moved.pbc = True
    moved.translate([10.5, 0.2, 0.1])
    moved.wrap()
    assert np.ptp(moved.positions[:, 0]) > 9
    found = calculator.get_uncertainty(moved)
    assert found.energy == pytest.approx(expected.energy, rel=1e-6)
    assert found.energies == pytest.approx(expected.energies[order], rel=1e-6)
    assert found.forces == pytest.approx(expected.forces[order], rel=1e-5)


def test_of_the_atoms_of_the_last_call(calculator, molecules):
    with pytest.raises(FFLUXError, match="uncertainty of which atoms"):
        calculator.get_uncertainty()
    atoms = molecules[0]
    atoms.calc = calculator
    atoms.get_forces()
    assert calculator.get_uncertainty().energy == calculator.get_uncertainty(atoms).energy


def test_made_once_and_never_pickled(calculator, molecules, monkeypatch):
    made = []

    def counted(self, *args):
        made.append(args)
        original(self, *args)

    original = Posterior.__init__
    monkeypatch.setattr(Posterior, "__init__", counted)
    size = len(pickle.dumps(calculator.forcefield))
    first = calculator.get_uncertainty(molecules[0])
    calculator.get_uncertainty(molecules[1])
    assert len(made) == 1
    assert len(pickle.dumps(calculator.forcefield)) < 1.1 * size
    again = pickle.loads(pickle.dumps(calculator)).get_uncertainty(molecules[0])
    assert len(made) == 2 and again.energy == pytest.approx(first.energy)


def test_models_that_state_none(molecule):
    with pytest.raises(FFLUXError, match="not trained on gradients and states no uncertainty"):
        molecule.calc.get_uncertainty(molecule)


def test_a_position_that_is_not_a_number(calculator, molecules):
    atoms = molecules[0]
    atoms.positions[1, 2] = np.nan
    with pytest.raises(FFLUXError, match="atom 2 .* not finite"):
        calculator.get_uncertainty(Atoms(atoms))
