"""Any ASE calculator as a source of labels: total energies and forces."""

import pickle

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.calculators.calculator import CalculationFailed, Calculator

from ase_fflux.base.errors import LabelError
from ase_fflux.base.units import BOHR, FORCE, HARTREE
from ase_fflux.cli.main import main
from ase_fflux.formats import load_molecule
from ase_fflux.labels.calculator_source import CalculatorSource
from ase_fflux.labels.dataset import read_dataset
from ase_fflux.labels.references import label_source
from ase_fflux.labels.source import LabelSource, Rejected

SPRINGS = '''
import numpy as np
from ase.calculators.calculator import Calculator, all_changes


class Springs(Calculator):
    """Springs between all atoms of water, and a dipole."""

    implemented_properties = ["energy", "forces", "dipole"]

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        x, energy, forces = self.atoms.positions, -2000.0, np.zeros((3, 3))
        for i, j, k, length in ((0, 1, 40.0, 0.96), (0, 2, 40.0, 0.96), (1, 2, 12.0, 1.52)):
            d = x[j] - x[i]
            r = np.linalg.norm(d)
            energy += k * (r - length) ** 2 / 2
            forces[i] += k * (r - length) * d / r
            forces[j] -= k * (r - length) * d / r
        dipole = np.array([-0.8, 0.4, 0.4]) @ x
        self.results = {"energy": energy, "forces": forces, "dipole": dipole}


def make():
    return Springs()


def nothing():
    return 3


def broken():
    raise RuntimeError("no parameters here")
'''


@pytest.fixture
def water(tmp_path, monkeypatch):
    """Water beside a module with calculators."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)  # for workers of the tests
    (tmp_path / "water_springs.py").write_text(SPRINGS)
    atoms = molecule("H2O")
    atoms.write(tmp_path / "water.xyz")
    return atoms


def test_labels_are_the_calculators_numbers(water):
    source = label_source("ase:water_springs:make")
    assert isinstance(source, LabelSource) and source.engine is source
    assert source.gives.dipole and not source.gives.atomic_energies and source.gives.rank == -1
    source.check(water)
    label = source.label(water)
    water.calc = source.calculator()
    assert HARTREE * label.energy == pytest.approx(water.get_potential_energy())
    np.testing.assert_allclose(-FORCE * label.gradient, water.get_forces(), atol=1e-12)
    np.testing.assert_allclose(BOHR * label.dipole, water.get_dipole_moment())
    assert label.atomic_energies is None and label.moments is None
    assert label.method == "water_springs:make"
    again = pickle.loads(pickle.dumps(source)).label(water)
    assert again.energy == label.energy
    hessian = source.hessian(water)
    assert np.abs(hessian - hessian.T).max() < 1e-12 and hessian.shape == (9, 9)
    assert source.dipole_derivatives(water).sum() == pytest.approx(0.0, abs=1e-6)


def test_classes_and_packages(water):
    pytest.importorskip("tblite")
    from ase_fflux.labels.tblite_source import GFN2

    source = label_source("ase:tblite.ase:TBLite", method="GFN2")
    assert source.method == "GFN2" and source.gives.rank == 0 and source.versions["tblite"]
    label, own = source.label(water), GFN2().label(water)
    assert label.energy == pytest.approx(own.energy, abs=1e-8)
    np.testing.assert_allclose(label.gradient, own.gradient, atol=1e-6)
    np.testing.assert_allclose(label.charges, own.charges, atol=1e-5)


@pytest.mark.parametrize("reference, message", [
    ("ase:water_springs", "give ase:module:factory"),
    ("ase:no_such_module:make", "cannot be imported"),
    ("ase:water_springs:absent", "water_springs has no absent"),
    ("ase:water_springs:nothing", "makes int, not an ASE calculator"),
    ("ase:water_springs:broken", "no parameters here"),
])
def test_what_makes_no_calculator(water, reference, message):
    with pytest.raises(LabelError, match=message):
        label_source(reference)


def test_charge_belongs_to_the_factory(water):
    with pytest.raises(LabelError, match="are set by its factory"):
        label_source("ase:water_springs:make", charge=1)


class Fails(Calculator):
    implemented_properties = ["energy", "forces"]
    error, energy = CalculationFailed, 0.0

    def calculate(self, atoms=None, properties=("energy",), system_changes=()):
        if self.error is not None:
            raise self.error("did not converge")
        self.results = {"energy": np.nan, "forces": np.zeros((len(atoms), 3))}


def test_failures_are_rejections_and_everything_else_an_error():
    source, atoms = CalculatorSource(Fails), Atoms("CO", [[0, 0, 0], [0, 0, 1.1]])
    with pytest.raises(Rejected, match="did not converge"):
        source.label(atoms)
    with pytest.raises(LabelError, match="did not converge"):
        source.check(atoms)

    class Unknown(Fails):
        error = KeyError

    class NotANumber(Fails):
        error = None

    with pytest.raises(LabelError, match="cannot be calculated") as found:
        CalculatorSource(Unknown).label(atoms)
    assert not isinstance(found.value, Rejected)
    with pytest.raises(Rejected, match="not finite"):
        CalculatorSource(NotANumber).label(atoms)
    atoms.pbc = True
    with pytest.raises(LabelError, match="is periodic"):
        source.check(atoms)


def test_a_model_is_built_of_it(water, capsys):
    """Total energies and forces of springs, learned with latent atomic energies."""
    assert main([
        *"build water.xyz --reference ase:water_springs:make --labels 20 --test-frames 4".split(),
        *"--workers 1 --temperature 300 -o springs.fflux".split(),
    ]) == 0
    said = capsys.readouterr().out
    assert "latent atomic energies, 20 totals" in said
    model = load_molecule("springs.fflux")
    assert model.latent and model.provenance["label_source"] == "water_springs:make"
    errors = model.provenance["errors"]
    assert errors["force RMSE"]["value"] < 0.05 and "atomic energy RMSE" not in errors
    assert main("label water.xyz --reference ase:water_springs:make --workers 1".split()) == 0
    found = read_dataset("water-labels.xyz")
    assert found.atomic_energies is None and found.gradients is not None
