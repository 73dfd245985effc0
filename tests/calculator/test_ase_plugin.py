import shutil
import subprocess
import sys
from importlib.metadata import entry_points

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.calculator import get_calculator_class
from ase.io import read

from ase_fflux import FFLUX
from ase_fflux.base.units import BOHR
from ase_fflux.formats.locate import bundled_models


def test_registered_with_ase(bundles, molecule):
    from ase_fflux import ase_plugin

    assert get_calculator_class("fflux") is FFLUX
    assert ase_plugin.fflux_model_format.glob == ["*.fflux"]
    atoms = ase_plugin.read_fflux_model(str(bundles["chiral"]))
    assert list(atoms.symbols) == list(molecule.symbols)
    np.testing.assert_allclose(
        atoms.positions, BOHR * molecule.calc.forcefield.models[0].reference_geometry
    )


def run_python(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


HEAVY = ("numba", "llvmlite", "phonopy", "matplotlib", "tblite", "scipy")


def test_imports_are_light():
    """ASE imports the plug-in with every file it reads: nothing heavy comes with it."""
    show = "import sys; print(*{name.split('.')[0] for name in sys.modules})"
    assert not set(run_python(f"import ase_fflux; {show}")) & set(HEAVY)
    with_ase = set(run_python(f"import ase.io; {show}"))
    with_plugin = set(run_python(f"import ase.io, ase_fflux.ase_plugin; {show}"))
    assert not (with_plugin - with_ase) & set(HEAVY)
    loaded = "print(*(name for name in sys.modules if name.startswith('ase_fflux')))"
    names = set(run_python(f"import sys, ase_fflux.ase_plugin; {loaded}"))
    assert names == {f"ase_fflux{n}" for n in ("", ".ase_plugin", ".calculator", ".base",
                                               ".base.errors", ".base.units")}


def test_public_names():
    import ase_fflux

    assert set(ase_fflux.__all__) <= set(dir(ase_fflux))
    for name in ase_fflux.__all__:
        assert getattr(ase_fflux, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        ase_fflux.Nothing  # noqa: B018


needs_plugin = pytest.mark.skipif(
    not entry_points(group="ase.ioformats", name="fflux-model"),
    reason="ase-fflux is not installed, so that ASE does not know of it (pip install .)",
)


def ase_run(folder, *arguments):
    command = [sys.executable, "-m", "ase", "run", "fflux", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@needs_plugin
def test_ase_run(molecule, bundles, tmp_path):
    molecule.write(tmp_path / "mol.xyz")
    shutil.copy(bundles["chiral"], tmp_path / "made_up.fflux")
    ase_run(tmp_path, "mol.xyz", "-p", "model=made_up.fflux,level=2", "-o", "out.xyz")
    found = read(tmp_path / "out.xyz")
    assert abs(found.get_potential_energy() - molecule.get_potential_energy()) < 1e-5
    np.testing.assert_allclose(found.get_forces(), molecule.get_forces(), atol=1e-5)
    np.testing.assert_allclose(found.get_dipole_moment(), molecule.get_dipole_moment(), atol=1e-5)


@needs_plugin
@pytest.mark.parametrize("name", list(bundled_models())[:1])
def test_ase_run_optimises(name, tmp_path):
    """As the README says: ``ase run fflux mol.xyz -p model=name -f 0.01``."""
    calc = FFLUX(name)
    model = calc.forcefield.models[0]
    atoms = Atoms(model.symbols, BOHR * model.reference_geometry)
    atoms.rattle(0.02, seed=2)
    atoms.write(tmp_path / "mol.xyz")
    ase_run(tmp_path, "mol.xyz", "-p", f"model={name}", "-f", "0.01")
    images = read(tmp_path / "mol.traj", index=":")
    assert np.linalg.norm(images[0].get_forces(), axis=1).max() > 0.1
    assert np.linalg.norm(images[-1].get_forces(), axis=1).max() < 0.01
    for image in images:  # from the first to the last, so that equivalent atoms keep their labels
        np.testing.assert_allclose(calc.get_forces(image), image.get_forces(), atol=1e-6)


@needs_plugin
def test_ase_reads_bundles(bundles):
    atoms = read(bundles["chiral"])
    assert atoms.get_chemical_formula() == "CHBrClF"
