import copy
import json
import pickle
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context

import numpy as np
import pytest
from ase import Atoms, units
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress
from ase.io import read, write
from ase.md.verlet import VelocityVerlet
from ase.optimize import BFGS
from ase.vibrations import Infrared

from ase_fflux import FFLUX
from ase_fflux.base.units import BOHR, FORCE, HARTREE
from ase_fflux.forcefield import ForceField
from ase_fflux.formats.bundle import write_bundle
from ase_fflux.formats.locate import bundled_models

pytestmark = pytest.mark.filterwarnings("error::ase_fflux.base.errors.CoverageWarning")


def test_units(mixture, chiral_model, methyl_model):
    x = mixture.positions / BOHR
    forcefield = mixture.calc.forcefield
    expected = forcefield.evaluate(x, mixture.numbers, moments=True)
    properties = ["energy", "free_energy", "energies", "forces", "charges", "dipole"]
    found = mixture.get_properties(properties)
    assert found["energy"] == mixture.get_potential_energy()
    assert found["free_energy"] == mixture.get_potential_energy(force_consistent=True)
    np.testing.assert_allclose(found["energy"], HARTREE * expected.energy, rtol=1e-14)
    np.testing.assert_allclose(found["energies"], HARTREE * expected.energies, rtol=1e-14)
    np.testing.assert_allclose(found["forces"], FORCE * expected.forces, rtol=1e-13)
    np.testing.assert_array_equal(found["charges"], expected.charges)
    centre = mixture.get_center_of_mass() / BOHR
    np.testing.assert_allclose(found["dipole"], BOHR * expected.dipole(centre), rtol=1e-12)
    np.testing.assert_array_equal(mixture.get_charges(), expected.charges)
    np.testing.assert_array_equal(mixture.calc.get_multipoles(mixture), expected.moments)
    assert mixture.calc.coverage.shape == (15,)


def test_energy_terms(mixture):
    energy = mixture.get_potential_energy()
    terms = mixture.calc.energy_terms
    assert set(terms) == {"intramolecular", "electrostatic", "short_range"}
    assert min(map(abs, terms.values())) > 1e-5
    assert abs(sum(terms.values()) - energy) < 1e-10
    assert abs(mixture.get_potential_energies().sum() - energy) < 1e-10


def test_forces_by_finite_differences(mixture):
    expected = calculate_numerical_forces(mixture, eps=1e-4)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(mixture.get_forces(), expected, rtol=0, atol=1e-6 * scale)


@pytest.mark.filterwarnings("ignore:the cell has a net charge")
@pytest.mark.parametrize("electrostatics", [False, True])
def test_stress_by_finite_differences(mixture, bundles, electrostatics):
    mixture.set_cell([[19.0, 0, 0], [2, 11, 0], [-1, 3, 12]])
    mixture.pbc = True
    mixture.wrap()
    mixture.calc.set(
        electrostatics=electrostatics, level=None, accuracy=1e-12, short_range_cutoff=5.0
    )
    stress = mixture.get_stress()
    np.testing.assert_allclose(
        stress, calculate_numerical_stress(mixture, eps=1e-4),
        rtol=0, atol=1e-6 * np.abs(stress).max(),
    )
    assert mixture.calc.energy_terms["short_range"] != 0


def test_slab_without_third_cell_vector(molecule):
    """Periodic along two directions, along which the trajectory may wrap: no stress."""
    molecule.calc.set(electrostatics=False)
    energy = molecule.get_potential_energy()
    molecule.set_cell([[14.0, 0, 0], [3, 13, 0], [0, 0, 0]])
    molecule.pbc = [True, True, False]
    assert abs(molecule.get_potential_energy() - energy) < 1e-10
    assignment = molecule.calc._kept.assignment
    molecule.positions[2] += molecule.cell[0] - molecule.cell[1]
    assert abs(molecule.get_potential_energy() - energy) < 1e-10
    assert molecule.calc._kept.assignment is assignment
    with pytest.raises(PropertyNotImplementedError):
        molecule.get_stress()


def test_stress_of_a_molecule_there_is_not(molecule):
    with pytest.raises(PropertyNotImplementedError):
        molecule.get_stress()
    energy = molecule.get_potential_energy()
    with pytest.raises(PropertyNotImplementedError):
        molecule.get_stress()
    assert molecule.get_potential_energy() == energy
    assert "stress" not in molecule.calc.results


def test_dipole_does_not_depend_on_the_place(molecule):
    dipole = molecule.get_dipole_moment()
    molecule.translate([4, -7, 2])
    np.testing.assert_allclose(molecule.get_dipole_moment(), dipole, atol=1e-12)
    molecule.rotate(90, "z")
    np.testing.assert_allclose(
        molecule.get_dipole_moment(), [-dipole[1], dipole[0], dipole[2]], atol=1e-12
    )


def test_dipole_of_a_molecule_that_the_boundary_cuts(molecule):
    """Of the whole molecule, wherever its atoms are wrapped to."""
    molecule.calc.set(electrostatics=False)
    molecule.center(vacuum=4)
    molecule.pbc = True
    dipole = molecule.get_dipole_moment()
    molecule.positions -= molecule.positions[0]
    molecule.wrap()
    assert np.ptp(molecule.positions, axis=0).max() > 6, "the case this test is about"
    np.testing.assert_allclose(molecule.get_dipole_moment(), dipole, atol=1e-9)


def test_results_are_computed_once(molecule, monkeypatch):
    calls = []
    evaluate = ForceField.evaluate

    def counted(*args, **kwargs):
        calls.append(1)
        return evaluate(*args, **kwargs)

    monkeypatch.setattr(ForceField, "evaluate", counted)
    molecule.get_potential_energy()
    molecule.get_forces()
    molecule.get_potential_energies()
    assert len(calls) == 1
    molecule.get_dipole_moment()  # moments are extra for a molecule alone
    molecule.get_charges()
    molecule.calc.get_multipoles()
    molecule.get_forces()
    assert len(calls) == 2
    molecule.rattle(0.01)
    molecule.get_forces()
    assert len(calls) == 3


def test_models_without_charges_have_no_dipole(distorted, chiral_model, tmp_path):
    """As ASE has it for properties that are not there; ``ase run`` asks for all of them."""
    processes = tuple(p for p in chiral_model.processes if p.properties == ("iqa",))
    write_bundle(tmp_path / "bare.fflux", replace(chiral_model, processes=processes))
    atoms = distorted(chiral_model)
    atoms.calc = FFLUX(tmp_path / "bare.fflux")
    energy = atoms.get_potential_energy()
    for ask in (atoms.get_dipole_moment, atoms.get_charges, atoms.calc.get_multipoles):
        with pytest.raises(PropertyNotImplementedError, match="CHFClBr has no charges"):
            ask()
    assert atoms.get_potential_energy() == energy
    assert atoms.calc.energy_terms["intramolecular"] == energy


def test_infrared(molecule, tmp_path, monkeypatch):
    """ASE's Infrared runs; its dipole derivatives sum to the total charge (translations)."""
    monkeypatch.chdir(tmp_path)
    infrared = Infrared(molecule, delta=0.005)
    infrared.run()
    energies = infrared.get_energies()
    assert energies.shape == (15,)
    assert np.isfinite(infrared.intensities).all()
    assert (infrared.intensities >= 0).all() and infrared.intensities.max() > 1e-3


@pytest.mark.parametrize(
    "duplicate", [copy.copy, copy.deepcopy, lambda c: pickle.loads(pickle.dumps(c))],
    ids=["copy", "deepcopy", "pickle"],
)
def test_copies_are_independent(mixture, duplicate):
    energy = mixture.get_potential_energy()
    twin = mixture.copy()
    twin.calc = duplicate(mixture.calc)
    assert twin.get_potential_energy() == energy
    twin.rattle(0.01)
    forces = twin.get_forces()
    assert mixture.calc.results["energy"] == energy
    np.testing.assert_allclose(mixture.calc.get_forces(twin), forces, atol=1e-12)
    assert twin.calc.parameters == mixture.calc.parameters
    twin.calc.set(electrostatics=False)
    assert twin.get_potential_energy() != energy
    assert mixture.get_potential_energy() == energy


def test_process_pool(mixture):
    images = [mixture.copy() for _ in range(3)]
    for seed, image in enumerate(images):
        image.rattle(0.02, seed=seed)
    expected = [mixture.calc.get_forces(image) for image in images]
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        found = list(pool.map(mixture.calc.get_forces, images))
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_one_calculator_for_different_atoms(mixture, molecule, bundles):
    calc = mixture.calc
    alone = [calc.get_potential_energy(a) for a in (mixture, molecule)]
    shuffled = mixture[np.random.default_rng(1).permutation(len(mixture))]
    for _ in range(2):
        assert calc.get_potential_energy(mixture) == alone[0]
        assert calc.get_potential_energy(molecule) == alone[1]
        assert abs(calc.get_potential_energy(shuffled) - alone[0]) < 1e-9
        assert calc.energy_terms["electrostatic"] != 0


def test_parameters_are_json(mixture, bundles):
    calc = FFLUX(
        (bundles["chiral"], bundles["methyl"]), level=3, assignment={"CHFClBr": np.arange(5)[None]},
        short_range={"F-H": {"lj": [0.004, 2.6]}}, short_range_cutoff=8.0, min_coverage=0.2,
    )
    text = json.dumps(calc.todict())
    again = FFLUX(**json.loads(text))
    assert again.parameters == calc.parameters
    assert set(json.loads(text)) == {
        "model", "level", "assignment", "short_range", "short_range_cutoff", "min_coverage"
    }
    assert json.loads(text)["model"] == [str(bundles["chiral"]), str(bundles["methyl"])]
    # what ASE writes beside a trajectory
    mixture.get_forces()
    assert mixture.calc.name == "fflux"


def test_trajectory_files_keep_the_results(molecule, tmp_path):
    molecule.get_dipole_moment()
    write(tmp_path / "a.traj", molecule)
    back = read(tmp_path / "a.traj")
    np.testing.assert_allclose(back.get_forces(), molecule.get_forces())
    np.testing.assert_allclose(back.get_dipole_moment(), molecule.get_dipole_moment())


def test_energy_is_conserved_by_dynamics(published_water, reference, water_dimer):
    """A hot water dimer on the published models; the drift shrinks with the step squared."""
    drift = []
    for step in (0.4, 0.2):
        atoms = Atoms("OHHOHH", water_dimer["positions_ang"])
        atoms.calc = FFLUX(
            reference / "water343" / "model_krig", on_low_coverage="ignore", level=3,
            short_range={"O-O": {"lj": [0.0079, 3.170]}, "O-H": {"lj": [0.0011, 1.902]}},
        )
        thermal = np.sqrt(150 * units.kB * atoms.get_masses())[:, None]
        atoms.set_momenta(thermal * np.random.default_rng(3).normal(size=(6, 3)))
        energies = [atoms.get_total_energy()]
        dynamics = VelocityVerlet(atoms, step * units.fs)
        dynamics.attach(lambda a=atoms, e=energies: e.append(a.get_total_energy()))
        dynamics.run(round(40 / step))
        drift.append(np.ptp(energies))
    assert drift[0] < 0.02
    assert 3 < drift[0] / drift[1] < 5


@pytest.mark.parametrize("name", bundled_models())
def test_bundled_models_have_a_minimum(name):
    calc = FFLUX(name)
    model = calc.forcefield.models[0]
    atoms = Atoms(model.symbols, BOHR * model.reference_geometry, calculator=calc)
    atoms.rattle(0.01, seed=1)
    assert BFGS(atoms, logfile=None).run(fmax=0.005, steps=200)
    assert calc.coverage.min() > model.least_coverage
    expected = calculate_numerical_forces(atoms, eps=1e-3, iatoms=[0])
    np.testing.assert_allclose(atoms.get_forces()[:1], expected, atol=1e-4)
    assert atoms.get_dipole_moment().shape == (3,)
    assert abs(atoms.get_charges().sum()) < 0.02
