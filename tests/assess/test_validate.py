from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms, units
from ase.calculators.calculator import Calculator, all_changes
from scipy.spatial.transform import Rotation

from ase_fflux.assess.validate import HeldOutErrors, held_out_errors, minimum_errors, table
from ase_fflux.base.errors import TrainingError
from ase_fflux.forcefield import ForceField
from ase_fflux.labels.dataset import Dataset
from ase_fflux.labels.differences import dipole_derivatives, hessian
from ase_fflux.model.frames import features
from ase_fflux.model.kernels import Kernel
from ase_fflux.model.molecule import AtomProcess, MoleculeModel
from ase_fflux.model.multipoles import MOMENT_NAMES
from ase_fflux.model.process import GaussianProcess
from ase_fflux.simulate.vibrations.analysis import vibrations

SYMBOLS = ("O", "H", "H")
REFERENCE = np.array([[0.0, 0.0, 0.12], [0.0, 1.46, -0.95], [0.0, -1.46, -0.95]])


@pytest.fixture(scope="module")
def model():
    """Water with made-up weights."""
    rng = np.random.default_rng(0)
    geometries = REFERENCE + rng.normal(scale=0.1, size=(15, 3, 3))
    alf = np.array([[0, 1, 2], [1, 0, 2], [2, 0, 1]])
    names = ("iqa", *MOMENT_NAMES[:9])
    processes = []
    for atom in range(3):
        gp = GaussianProcess(
            features(geometries, alf, atom), Kernel.periodic_on_phi([0.3, 0.2, 0.4]),
            rng.normal(size=10), rng.normal(size=(10, 15)),
        )
        processes.append(AtomProcess(atom, names, gp))
    return MoleculeModel("water", SYMBOLS, alf, tuple(processes), REFERENCE, geometries)


@pytest.fixture(scope="module")
def perfect(model):
    """Labels that are the model's own predictions."""
    forcefield = ForceField([model])
    rng = np.random.default_rng(1)
    turns = Rotation.random(8, random_state=2).as_matrix()
    geometries = REFERENCE + rng.normal(scale=0.05, size=(8, 3, 3))
    geometries = np.einsum("nij,naj->nai", turns, geometries) + rng.normal(size=(8, 1, 3))
    assignment = forcefield.match(REFERENCE, [8, 1, 1], explicit=[[0, 1, 2]])
    results = [
        forcefield.evaluate(x, [8, 1, 1], assignment=assignment, moments=True) for x in geometries
    ]
    moments = np.array([r.moments for r in results])
    atomic_dipoles = moments[:, :, [2, 3, 1]].sum(axis=1)
    return Dataset(
        symbols=SYMBOLS, geometries=geometries,
        energies=np.array([r.energy for r in results]),
        gradients=-np.array([r.forces for r in results]),
        atomic_energies=np.array([r.energies for r in results]), moments=moments,
        dipoles=np.einsum("na,nai->ni", moments[:, :, 0], geometries) + atomic_dipoles,
        origins=np.full(8, "made_up"), method="none",
    )


def test_perfect_model_has_no_errors(model, perfect):
    errors = held_out_errors(model, perfect)
    assert errors.frames == 8
    assert errors.energy_max_kj_per_mol < 1e-8 and errors.atomic_energy_rmse_kj_per_mol < 1e-8
    assert errors.force_max_ev_per_angstrom < 1e-9
    assert errors.charge_rmse_e < 1e-12 and errors.dipole_rmse_e_angstrom < 1e-11
    assert 0.5 < errors.coverage_min < 1


def test_energies_alone_have_no_charges_to_err_in(model, perfect):
    energies = tuple(p for p in model.processes if "iqa" in p.properties)
    only = replace(model, processes=tuple(
        replace(p, properties=("iqa",), gp=replace(
            p.gp, mean=p.gp.mean[:1], weights=p.gp.weights[:1]
        )) for p in energies
    ))
    errors = held_out_errors(only, perfect)
    assert errors.charge_rmse_e is None and errors.dipole_rmse_e_angstrom is None
    assert errors.energy_max_kj_per_mol < 1e-8
    assert not any(name.startswith(("charge", "dipole")) for name, *_ in table(errors, []))


def test_known_shifts_are_found(model, perfect):
    """Every quantity shifted by a pattern of its own, in units of the report."""
    energies = np.array([2.0, 0, 0, 0, 0, 0, 0, -4.0]) * (units.kJ / units.mol) / units.Hartree
    # what one atom gains another loses, so that the total knows nothing of it
    atomic_energies = perfect.atomic_energies.copy()
    atomic_energies[2, :2] += np.array([3.0, -3.0]) * (units.kJ / units.mol) / units.Hartree
    gradients = perfect.gradients.copy()
    gradients[3, 1, 2] += 0.6 * units.Bohr / units.Hartree
    moments = perfect.moments.copy()
    moments[..., 0] += 0.01
    moments[..., 1:] += 5.0  # only charges are reported
    errors = held_out_errors(model, replace(
        perfect, energies=perfect.energies + energies, gradients=gradients, moments=moments,
        atomic_energies=atomic_energies, dipoles=perfect.dipoles + 0.02 / units.Bohr,
    ))
    assert errors.energy_rmse_kj_per_mol == pytest.approx(np.sqrt(20 / 8))
    assert errors.energy_mae_kj_per_mol == pytest.approx(6 / 8)
    assert errors.energy_max_kj_per_mol == pytest.approx(4)
    assert errors.atomic_energy_rmse_kj_per_mol == pytest.approx(np.sqrt(18 / 24))
    assert errors.force_rmse_ev_per_angstrom == pytest.approx(0.6 / np.sqrt(8 * 9))
    assert errors.force_max_ev_per_angstrom == pytest.approx(0.6)
    assert errors.charge_rmse_e == pytest.approx(0.01)
    assert errors.dipole_rmse_e_angstrom == pytest.approx(0.02)


def test_coverage_is_that_of_the_farthest_frame(model, perfect):
    expected = held_out_errors(model, perfect).coverage_min
    geometries = perfect.geometries.copy()
    geometries[5, 2] += geometries[5, 2] - geometries[5, 0]
    worse = held_out_errors(model, replace(perfect, geometries=geometries)).coverage_min
    assert worse < 0.9 * expected


class Source:
    """A label source with a given calculator."""

    def __init__(self, make):
        self.calculator = make

    def hessian(self, atoms):
        return hessian(atoms, self.calculator(), step=0.001)

    def dipole_derivatives(self, atoms):
        return dipole_derivatives(atoms, self.calculator())


@pytest.fixture
def stretched(springs, triangle):
    """Calculator of an O3 with sides `scale` times longer and springs `stiffness` times stiffer."""
    def make(scale=1.0, stiffness=1.0):
        pairs = [(i, j, 20.0 * stiffness, 1.5 * scale) for i, j in ((0, 1), (1, 2), (0, 2))]
        return springs(pairs, charges=[0.4, -0.4, 0.0])

    return make


def test_own_calculator_has_no_errors_at_its_minimum(triangle, stretched):
    errors = minimum_errors(triangle, stretched(), Source(stretched))
    assert errors.rmsd_angstrom < 1e-7
    assert errors.wavenumber_max_per_cm < 1e-3
    assert errors.intensity_max_km_per_mol < 1e-9


def test_optimisation_does_not_begin_at_the_minimum_of_the_source(triangle, springs, stretched):
    """A model without forces there, but with its minimum elsewhere, must not pass by staying."""
    class Flat(springs):
        """No force within 1e-3 Angstrom of where it begins."""

        def calculate(self, atoms=None, properties=("energy",), system_changes=()):
            super().calculate(atoms, properties, system_changes)
            if np.abs(self.atoms.positions - triangle.positions).max() < 1e-3:
                self.results["forces"] = np.zeros((3, 3))

    pairs = [(i, j, 20.0, 1.6) for i, j in ((0, 1), (1, 2), (0, 2))]
    errors = minimum_errors(triangle, Flat(pairs, charges=[0, 0, 0]), Source(stretched))
    assert errors.rmsd_angstrom == pytest.approx(0.1 / np.sqrt(3), rel=1e-2)


def test_model_without_minimum_is_refused(triangle, springs, stretched):
    repulsive = springs([(i, j, -1.0, 1.0) for i, j in ((0, 1), (1, 2), (0, 2))])
    with pytest.raises(TrainingError, match="has no minimum that 1000 steps"):
        minimum_errors(triangle, repulsive, Source(stretched))


class Scaled(Calculator):
    """A calculator with dipoles 1.1 times as large."""

    implemented_properties = ["energy", "forces", "dipole"]

    def __init__(self, other):
        super().__init__()
        self.other = other

    def calculate(self, atoms=None, properties=("energy",), system_changes=()):
        super().calculate(atoms, properties, system_changes)
        self.other.calculate(self.atoms, ["energy"], all_changes)
        self.results = dict(self.other.results, dipole=1.1 * self.other.results["dipole"])


def test_own_calculator_of_gfn2_has_no_errors():
    pytest.importorskip("tblite.interface", exc_type=ImportError)
    from ase_fflux.labels.conformers import minima
    from ase_fflux.labels.tblite_source import GFN2

    source = GFN2()
    (minimum,) = minima([Atoms(SYMBOLS, REFERENCE * units.Bohr)], source)
    atoms = minimum.atoms
    errors = minimum_errors(atoms, source.calculator(), source, minimum.hessian)
    assert errors == minimum_errors(atoms, source.calculator(), source)
    assert errors.rmsd_angstrom < 1e-5
    assert errors.wavenumber_max_per_cm < 0.15  # other steps of the differences
    assert errors.intensity_max_km_per_mol == 0
    # the intensities are those of the vibrations of the source
    atoms.calc = source.calculator()
    known = vibrations(atoms)
    charged = minimum_errors(atoms, Scaled(source.calculator()), source)
    assert charged.intensity_mae_km_per_mol == pytest.approx(
        0.21 * known.ir_intensities.mean(), rel=1e-3
    )
    assert charged.intensity_max_km_per_mol == pytest.approx(
        0.21 * known.ir_intensities.max(), rel=1e-3
    )


def test_known_errors_at_a_minimum(triangle, stretched):
    """Springs of 1.21 times the stiffness have 1.1 times the wavenumbers, whatever the length."""
    before = triangle.positions.copy()
    errors = minimum_errors(triangle, stretched(1.02, 1.21), Source(stretched))
    expected = 0.1 * vibrations(triangle).wavenumbers
    assert errors.wavenumber_mae_per_cm == pytest.approx(expected.mean(), rel=1e-4)
    assert errors.wavenumber_max_per_cm == pytest.approx(expected.max(), rel=1e-4)
    # corners of an equilateral triangle are side / sqrt(3) from its centre
    assert errors.rmsd_angstrom == pytest.approx(0.02 * 1.5 / np.sqrt(3), rel=1e-3)
    assert np.array_equal(triangle.positions, before)


def test_report_has_every_error_with_its_unit(triangle, stretched):
    held_out = HeldOutErrors(7, 1.0, 2.0, 3.0, 3.5, 4.0, 5.0, 6.0, 7.0, 0.8)
    minimum = minimum_errors(triangle, stretched(1.02, 1.21), Source(stretched))
    rows = table(held_out, [minimum, minimum])
    found = {name: (value, unit) for name, value, unit in rows}
    assert len(found) == len(rows)
    assert found["energy RMSE"] == (1.0, "kJ/mol")
    assert found["energy, largest error"] == (3.0, "kJ/mol")
    assert found["atomic energy RMSE"] == (3.5, "kJ/mol")
    assert found["force RMSE"] == (4.0, "eV/A")
    assert found["force, largest error"] == (5.0, "eV/A")
    assert found["charge RMSE"] == (6.0, "e")
    assert found["dipole RMSE"] == (7.0, "e A")
    assert found["smallest coverage"] == (0.8, "")
    assert found["minimum 1: geometry RMSD"] == (minimum.rmsd_angstrom, "A")
    assert found["minimum 2: wavenumber MAE"] == (minimum.wavenumber_mae_per_cm, "cm-1")
    assert found["minimum 2: wavenumber, largest error"] == (
        minimum.wavenumber_max_per_cm, "cm-1"
    )
