"""Models as objects, and calculators that travel."""

import copy
import json
import os
import pickle
import shutil
import subprocess
import sys
import warnings
from importlib.util import find_spec

import numpy as np
import pytest

from ase_fflux import FFLUX
from ase_fflux.base.errors import FFLUXError, RepulsionWarning
from ase_fflux.forcefield import ForceField, loading
from ase_fflux.forcefield.interactions.pairs import ShortRange
from ase_fflux.formats.bundle import write_bundle


def test_names_paths_and_objects_are_the_same(molecule, chiral_model, bundles):
    forces = molecule.get_forces()
    for model in (
        chiral_model, ForceField([chiral_model]), bundles["chiral"], str(bundles["chiral"]),
        [chiral_model],
    ):
        np.testing.assert_allclose(FFLUX(model).get_forces(molecule), forces, atol=1e-12)


def test_a_mixture_of_paths_and_objects(mixture, chiral_model, bundles):
    calc = FFLUX([chiral_model, bundles["methyl"]], short_range=mixture.calc.parameters.short_range)
    np.testing.assert_allclose(calc.get_forces(mixture), mixture.get_forces(), atol=1e-12)
    assert calc.parameters.model == ["<MoleculeModel CHFClBr>", str(bundles["methyl"])]
    calc.set(electrostatics=False)
    assert calc.get_potential_energy(mixture) != mixture.get_potential_energy()


def test_parameters_of_objects_are_json(molecule, chiral_model, methyl_model):
    calc = FFLUX(chiral_model)
    assert json.loads(json.dumps(calc.todict())) == {"model": "<MoleculeModel CHFClBr>"}
    forcefield = ForceField([chiral_model, methyl_model])
    assert FFLUX(forcefield).todict() == {"model": "<ForceField of CHFClBr, CFHHH>"}
    with pytest.raises(FFLUXError, match="no model '<MoleculeModel CHFClBr>'"):
        FFLUX(**calc.todict())


def test_another_object_of_the_same_name_is_another_model(molecule, make_made_up, chiral_model):
    calc = FFLUX(chiral_model)
    energy = calc.get_potential_energy(molecule)
    calc.set(model=make_made_up(["C", "H", "F", "Cl", "Br"], seed=9))
    assert abs(calc.get_potential_energy(molecule) - energy) > 1e-3


def test_objects_that_are_no_models(chiral_model):
    with pytest.raises(FFLUXError, match="the model is int 3: give a name, a path"):
        FFLUX(3)
    with pytest.raises(FFLUXError, match="has its interactions already: leave electrostatics"):
        FFLUX(ForceField([chiral_model]), level=2)
    with pytest.raises(FFLUXError, match="one ForceField, or models, not both"):
        FFLUX([ForceField([chiral_model]), chiral_model])


def test_a_pickle_is_small(mixture, chiral_model, make_shared):
    forces = mixture.get_forces()
    sent = pickle.dumps(mixture)
    assert len(sent) < 20_000
    np.testing.assert_array_equal(pickle.loads(sent).calc.get_forces(mixture), forces)
    shared = make_shared(n_points=100)
    expanded = sum(
        p.gp.inputs.nbytes + p.gp.derivative_weights.nbytes for p in shared.processes
        if p.gp.derivative_weights is not None
    )
    for thing in (shared, ForceField([shared]), FFLUX(shared)):
        assert len(pickle.dumps(thing)) < expanded / 2
    back = pickle.loads(pickle.dumps(shared))
    for one, two in zip(shared.processes, back.processes, strict=True):
        np.testing.assert_array_equal(one.gp.weights, two.gp.weights)
        np.testing.assert_array_equal(one.gp.inputs, two.gp.inputs)


def test_a_model_that_changed_on_its_way_is_refused(tmp_path, distorted, chiral_model, bundles):
    path = tmp_path / "made_up.fflux"
    shutil.copy(bundles["chiral"], path)
    calc = FFLUX(path)
    atoms = distorted(chiral_model)
    energy = calc.get_potential_energy(atoms)
    sent = pickle.dumps(calc)
    path.unlink()
    loading._made.cache_clear()  # as in another process
    with pytest.raises(FFLUXError, match="made_up.fflux: .* missing here or has changed since"):
        pickle.loads(sent)
    twin = copy.deepcopy(calc)  # needs no file
    assert twin.get_potential_energy(atoms) == energy
    shutil.copy(bundles["methyl"], path)
    with pytest.raises(FFLUXError, match="missing here or has changed since"):
        pickle.loads(sent)
    path.unlink()
    shutil.copy(bundles["chiral"], path)
    assert pickle.loads(sent).get_potential_energy(atoms) == energy


def test_a_file_that_changes_is_read_again(tmp_path, distorted, make_made_up):
    path = tmp_path / "made_up.fflux"
    energies = []
    for seed in (0, 5):
        model = make_made_up(["C", "H", "F", "Cl", "Br"], seed=seed)
        path.unlink(missing_ok=True)
        write_bundle(path, model)
        energies.append(FFLUX(path).get_potential_energy(distorted(model)))
    assert abs(energies[0] - energies[1]) > 1e-3


def test_dipole_follows_the_masses(molecule):
    """CHFClBr with made-up charges is an ion: its dipole is about the centre of mass."""
    dipole = molecule.get_dipole_moment()
    charge = molecule.get_charges().sum()
    assert abs(charge) > 1e-3
    centre = molecule.get_center_of_mass()
    molecule.set_masses([2.014 if s == "H" else None for s in molecule.symbols])
    shift = molecule.get_center_of_mass() - centre
    np.testing.assert_allclose(molecule.get_dipole_moment(), dipole - charge * shift, atol=1e-12)
    molecule.set_masses("defaults")
    np.testing.assert_array_equal(molecule.get_dipole_moment(), dipole)


def test_molecules_that_nothing_keeps_apart(mixture, molecule, chiral_model, pair_range):
    calc = FFLUX([chiral_model, *mixture.calc.forcefield.models[1:]])
    with pytest.warns(RepulsionWarning, match="no short-range potential"):
        calc.get_potential_energy(mixture)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RepulsionWarning)
        mixture.rattle(0.01)
        calc.get_potential_energy(mixture)  # said once
        FFLUX(chiral_model).get_potential_energy(molecule)
        mixture.calc.get_potential_energy(mixture)
        FFLUX(ForceField(calc.forcefield.models, short_range=pair_range)).get_forces(mixture)
        FFLUX(
            [chiral_model, *calc.forcefield.models[1:]], electrostatics=False
        ).get_potential_energy(mixture)


@pytest.fixture
def pair_range():
    return ShortRange.from_dict({"C-C": {"lj": [0.01, 3.0]}})


def run_python(code, **environment):
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_without_compilation(molecule, bundles):
    """NUMBA_DISABLE_JIT=1, for debugging."""
    found = run_python(
        "from ase import Atoms; from ase_fflux import FFLUX\n"
        f"atoms = Atoms({list(molecule.symbols)!r}, {molecule.positions.tolist()!r})\n"
        f"atoms.calc = FFLUX({str(bundles['chiral'])!r})\n"
        "print(atoms.get_potential_energy(), atoms.get_forces().tolist())",
        NUMBA_DISABLE_JIT="1",
    ).split(maxsplit=1)
    assert abs(float(found[0]) - molecule.get_potential_energy()) < 1e-9
    np.testing.assert_allclose(json.loads(found[1]), molecule.get_forces(), atol=1e-9)


@pytest.mark.skipif(
    find_spec("ase.calculators.fflux") is None,
    reason="ase-fflux is not installed, so that ASE does not know of it (pip install .)",
)
def test_by_name_in_a_fresh_interpreter(molecule, bundles):
    found = run_python(
        "from ase import Atoms\n"
        "from ase.calculators.subprocesscalculator import NamedPackedCalculator\n"
        f"atoms = Atoms({list(molecule.symbols)!r}, {molecule.positions.tolist()!r})\n"
        f"pack = NamedPackedCalculator('fflux', {{'model': {str(bundles['chiral'])!r}}})\n"
        "with pack.calculator() as atoms.calc: print(atoms.get_potential_energy())"
    )
    assert abs(float(found) - molecule.get_potential_energy()) < 1e-9


def test_pairs_of_elements_that_are_not_there_are_refused(methyl_model):
    with pytest.raises(FFLUXError, match="pair Br-C: there is no Br in the models, which have C, "):
        FFLUX(methyl_model, short_range={"Br-C": {"lj": [0.005, 3.4]}})
