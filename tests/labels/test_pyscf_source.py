"""Ab initio labels: consistent forces, no feeling for how the input is turned, refusals."""

import os
import pickle
from types import SimpleNamespace

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

from ase_fflux.base.errors import LabelError
from ase_fflux.base.units import BOHR

pytest.importorskip("pyscf", reason="ab initio labels need PySCF")

from pyscf import lib  # noqa: E402

from ase_fflux.labels.pyscf_source import TIGHT, PySCF  # noqa: E402
from ase_fflux.labels.source import LabelSource, Rejected  # noqa: E402

WATER = Atoms("OH2", [[0.1, 0.0, 0.06], [0.02, 0.80, -0.5], [-0.05, -0.74, -0.51]])


@pytest.mark.parametrize("method", ["B3LYP", "LDA,VWN", "HF"])
def test_gradient_is_the_derivative_of_the_energy(method):
    source = PySCF(method=method, basis="6-31G")
    gradient = source._gradient(source._run(WATER, TIGHT))
    np.testing.assert_allclose(gradient.sum(axis=0), 0, atol=1e-10)
    step, h = np.random.default_rng(2).standard_normal((3, 3)), 2e-3

    def energy(factor):
        moved = WATER.copy()
        moved.positions += factor * h * step
        return source._run(moved, TIGHT).energy

    slope = (8 * (energy(1) - energy(-1)) - energy(2) + energy(-2)) / (12 * h / BOHR)
    assert slope == pytest.approx((gradient * step).sum(), abs=1e-7)


def test_energies_and_gradients_are_those_of_pyscf_alone():
    """The products with kept orbitals and the two grids change nothing."""
    from pyscf import dft

    source = PySCF(basis="6-31G")
    run = source._run(WATER, TIGHT)
    plain = dft.RKS(run.mf.mol, xc="b3lyp").density_fit()
    plain.grids.atom_grid, plain.grids.prune, plain.verbose = (75, 302), None, 0
    plain.conv_tol, plain.conv_tol_grad = 1e-12, 1e-7
    assert plain.kernel() == pytest.approx(run.energy, abs=1e-9)
    gradient = plain.nuc_grad_method()
    gradient.grid_response = True
    from ase_fflux.labels.pyscf_numerics import DenseGradients

    np.testing.assert_allclose(DenseGradients(run.mf).kernel(), gradient.kernel(), atol=1e-7)


def test_no_file_is_left_open(tmp_path, monkeypatch):
    """What is collected as garbage warns of such a file, wherever that happens to be."""
    monkeypatch.setattr(lib.param, "TMPDIR", str(tmp_path))
    run = PySCF(basis="sto-3g")._run(molecule("H2O"), 1e-6)
    assert not os.listdir(tmp_path) and run.mf.chkfile is None


def test_label_turns_with_the_molecule():
    source = PySCF(basis="6-31G", partition="mbis")
    turned = WATER.copy()
    turned.rotate(100, (1, 2, 3))
    turned.translate((1, 2, 3))
    one, two = source.label(WATER), source.label(turned)
    assert isinstance(source, LabelSource)
    assert one.energy == pytest.approx(two.energy, abs=1e-9)
    np.testing.assert_allclose(one.atomic_energies, two.atomic_energies, atol=1e-7)
    assert one.atomic_energies.sum() == pytest.approx(one.energy, abs=1e-10)
    for label in (one, two):
        made = label.charges @ label.geometry + label.atomic_dipoles.sum(axis=0)
        np.testing.assert_allclose(made, label.dipole, atol=2e-5)
        assert label.charges.sum() == pytest.approx(0, abs=1e-10)
    for rank in range(1, 5):  # lengths of moments do not turn
        part = slice(rank**2, (rank + 1) ** 2)
        np.testing.assert_allclose(
            np.linalg.norm(one.moments[:, part], axis=1),
            np.linalg.norm(two.moments[:, part], axis=1), atol=1e-5,
        )


@pytest.mark.parametrize("partition, excess, error, message", [
    ("hirshfeld", 2e-4, 1e-4, "OH2 .*: its hirshfeld atoms miss the total energy by 0.53 kJ/mol"),
    ("mbis", -2e-4, 1e-4, "OH2 .*: its mbis atoms miss the total energy by -0.53 kJ/mol"),
    ("qtaim", 2e-3, 1e-4, "OH2 .*: its qtaim atoms miss the total energy by 5.25 kJ/mol"),
    ("qtaim", 0.0, 3e-3, r"OH2 .*: its topological atom 2 \(H\) has |L| = 3.0e-03 Ha"),
])
def test_atoms_beyond_the_stated_error_are_rejected(
    monkeypatch, partition, excess, error, message
):
    source = PySCF(basis="6-31G", partition=partition)
    found = SimpleNamespace(excess=excess, errors=np.array([0.0, error, 0.0]))
    monkeypatch.setattr(source, "_run", lambda *_: SimpleNamespace(atoms=WATER))
    monkeypatch.setattr(source, "integrate", lambda run: found)
    with pytest.raises(Rejected, match=message.replace("|", r"\|")):
        source.label(WATER)


def test_dipole_of_an_ion_is_about_the_origin():
    ion = molecule("H2O")
    ion += Atoms("H", [[0, 0.2, 1.1]])
    source, h = PySCF(charge=1, basis="6-31G"), 1.0
    here = source._dipole(source._run(ion, 1e-6))
    ion.translate((0, 0, h))
    there = source._dipole(source._run(ion, 1e-6))
    np.testing.assert_allclose(there - here, [0, 0, h / BOHR], atol=1e-6)


def test_source_travels_and_starts_from_what_it_knows():
    source = PySCF(basis="6-31G")
    label = source.label(WATER)
    assert pickle.loads(pickle.dumps(source))._known == []
    moved = WATER.copy()
    moved.rattle(0.01, seed=1)
    fresh = PySCF(basis="6-31G").label(moved)
    assert source.label(moved).energy == pytest.approx(fresh.energy, abs=1e-9)
    assert label.method == "B3LYP/6-31G" and label.rank == 4


def test_calculation_that_does_not_converge_is_rejected(monkeypatch):
    from ase_fflux.labels import pyscf_numerics

    tried = []
    monkeypatch.setattr(pyscf_numerics, "converge", lambda *args: tried.append(args) or False)
    monkeypatch.setattr(pyscf_numerics, "newton", lambda mf, *args: tried.append("newton"))
    with pytest.raises(Rejected, match="does not converge for OH2"):
        PySCF(basis="6-31G").label(WATER)
    assert len(tried) == 3 and tried[-1] == "newton"


@pytest.mark.parametrize(
    ("options", "atoms", "message"),
    [
        ({}, Atoms("OH", [[0, 0, 0], [0, 0, 1]]), "9 electrons, and only closed shells"),
        ({"charge": 1}, WATER, r"with charge 1 has 9 electrons.*--charge"),
        ({"basis": "6-31G"}, Atoms("U2", [[0, 0, 0], [0, 0, 3]]),
         r"no basis 6-31G for atom 1 \(U\)"),
        ({"basis": "no-such"}, WATER, r"no basis no-such for atom 1 \(O\)"),
        ({}, Atoms("H2O", WATER.positions, cell=[9] * 3, pbc=True), "is periodic"),
        ({}, Atoms("He2", [[0, 0, 0], [0, 0, 0.05]]), "on top of each other"),
        ({"basis": "aug-cc-pv5z"}, Atoms("H8", [[0, 0, 0.4 * k] for k in range(8)]),
         "linearly dependent"),
    ],
)
def test_what_can_never_be_labelled(options, atoms, message):
    with pytest.raises(LabelError, match=message):
        PySCF(**options).check(atoms)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "nonsense"}, "no functional 'nonsense'"),
        ({"method": "wb97x"}, "range-separated"),
        ({"partition": "voronoi"}, "use one of hirshfeld, mbis, qtaim"),
        ({"spin": 2}, "closed shells only"),
    ],
)
def test_options_that_are_refused(options, message):
    with pytest.raises(LabelError, match=message):
        PySCF(**options)
