import numpy as np
import pytest
from ase import Atoms, units
from ase.build import molecule

from ase_fflux.base.units import FORCE, HARTREE
from ase_fflux.forcefield import ForceField
from ase_fflux.formats.locate import load_molecule
from ase_fflux.learn.joint.uncertainty import Posterior
from ase_fflux.workflows.feasibility import _reached, feasibility
from ase_fflux.workflows.select import (
    TEMPERATURES,
    Target,
    process_of_model,
    process_of_source,
    select,
    thermal_target,
)


@pytest.fixture(scope="module")
def pool():
    rng = np.random.default_rng(0)
    start = molecule("H2O")
    return [
        Atoms("OHH", start.positions + (0.02 if i % 3 else 0.08) * rng.normal(size=(3, 3)))
        for i in range(70)
    ]


def test_a_target_has_the_energies_of_its_temperatures():
    rng = np.random.default_rng(1)
    n_atoms, kt = 6, units.kB / HARTREE
    shape = 0.5 * (3 * n_atoms - 6)
    energies = rng.gamma(shape, 500 * kt, 4000)
    energies[:1000] = rng.gamma(shape, 60 * kt, 1000)
    target = thermal_target(energies, n_atoms, 3000)
    assert len(set(target.places)) == len(target.places)
    for part, temperature in enumerate(TEMPERATURES):
        some = target.parts == part
        mean = np.average(energies[target.places[some]], weights=target.weights[some])
        assert mean == pytest.approx(shape * kt * temperature, rel=0.1)
    assert (target.first.places == target.places[target.parts == 0]).all()


def test_a_target_of_one_energy_is_the_pool():
    target = thermal_target(np.full(10, 1e-3), 3, 15)
    assert target.places.tolist() == list(range(10)) and (target.weights == 1).all()


def test_what_a_model_expects_is_what_it_says_of_itself(pool):
    model = load_molecule("water")
    process = process_of_model(model, pool)
    posterior = Posterior(model)
    assert process.scale == posterior.scale >= 1
    assert (process.energies > 0).all()
    found = select(process, np.arange(60), Target.of(np.arange(60, 70)), 4)
    assert len(set(found.chosen)) == 4 and not found.checked
    assert (np.diff(found.force_rmse) < 0).all()
    report = feasibility(process, Target.of(np.arange(60, 70)), found, 0.1)
    assert report.numbers_of_label == 4 and report.degrees_of_freedom > 0


def test_atoms_in_another_order_than_those_of_the_model_make_no_difference(pool):
    model = load_molecule("water")
    turned = [atoms[[1, 0, 2]] for atoms in pool]
    target = Target.of(np.arange(60, 70))
    one, two = (
        select(process_of_model(model, frames), np.arange(60), target, 3)
        for frames in (pool, turned)
    )
    assert one.chosen.tolist() == two.chosen.tolist()
    assert one.force_rmse == pytest.approx(two.force_rmse)


def test_expected_errors_are_those_of_models_of_the_cheap_level(pool):
    pytest.importorskip("tblite", reason="GFN2-xTB labels need tblite")
    from ase_fflux.labels.tblite_source import GFN2

    process = process_of_source(GFN2(), pool)
    dataset = process.trainer.dataset
    assert dataset.atomic_energies is None  # what any level has
    target = thermal_target(process.energies, 3)
    found = select(process, np.arange(70), target, 6)
    assert list(found.checked) == [5, 6]
    for n, (force, energy) in found.checked.items():
        assert found.force_rmse[n - 1] == pytest.approx(force)
        assert found.energy_rmse[n - 1] == pytest.approx(energy)
    # what was tried is what a model of these labels is off by elsewhere
    solved = process.trainer.solve(process.hyperparameters, found.chosen)
    forcefield = ForceField([process.trainer.model("w", solved, [], found.chosen)])
    start = forcefield.models[0].reference_geometry
    as_trained = forcefield.match(start, [8, 1, 1], explicit=[[0, 1, 2]])
    square = {
        i: np.mean((
            forcefield.evaluate(dataset.geometries[i], [8, 1, 1], assignment=as_trained).forces
            + dataset.gradients[i]
        ) ** 2)
        for i in np.setdiff1d(target.first.places, found.chosen)
    }
    drawn = np.repeat(target.first.places, target.first.weights)
    mean = np.mean([square[i] for i in drawn if i in square])
    assert FORCE * np.sqrt(mean) == pytest.approx(found.checked[6][0], rel=1e-6)


def test_labels_that_a_goal_needs():
    errors = 1.0 / np.arange(1, 41)
    assert _reached(errors, 0.1) == (10, False)
    needed, extrapolated = _reached(errors, 0.01)
    assert needed == pytest.approx(100, abs=1) and extrapolated
    assert _reached(np.full(40, 0.5), 0.01) == (None, True)
    assert _reached(errors[:2], 0.1) == (None, True)
