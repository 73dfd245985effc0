"""Dispersion corrections, atom by atom."""

import sys

import numpy as np
import pytest
from ase.build import molecule

from ase_fflux.base.differences import central_differences
from ase_fflux.base.errors import LabelError
from ase_fflux.base.units import BOHR
from ase_fflux.labels.dispersion import DISPERSIONS, Dispersion

_LIBRARY = {"d3bj": "dftd3", "d4": "dftd4"}


@pytest.fixture(params=DISPERSIONS)
def kind(request):
    library = _LIBRARY[request.param]
    pytest.importorskip(f"{library}.interface", reason=f"dispersion needs {library}")
    return request.param


@pytest.fixture
def ethanol():
    atoms = molecule("CH3CH2OH")
    return atoms.numbers, atoms.positions / BOHR


def test_atoms_sum_to_the_energy_that_the_gradient_is_of(kind, ethanol):
    numbers, positions = ethanol
    dispersion = Dispersion(kind, "B3LYP", 0)
    energies, gradient = dispersion(numbers, positions)
    slopes = central_differences(
        lambda x: dispersion(numbers, x)[0].sum(keepdims=True), positions, 1e-3
    )
    assert (energies < 0).all()
    np.testing.assert_allclose(gradient.ravel(), slopes[:, 0], atol=1e-9)
    hessian = dispersion.hessian(numbers, positions)
    np.testing.assert_allclose(hessian.reshape(27, 9, 3).sum(axis=1), 0, atol=1e-9)


def test_equivalent_atoms_have_equal_energies(kind, ethanol):
    """The hydrogens of methylene are images of each other."""
    energies, _ = Dispersion(kind, "PBE0", 0)(*ethanol)
    assert len(set(np.round(energies, 9))) == 7


def test_far_atoms_keep_their_own_share(kind):
    """Two methanes beyond each other's reach: each has what it has alone."""
    one = molecule("CH4")
    alone, _ = Dispersion(kind, "B3LYP", 0)(one.numbers, one.positions / BOHR)
    both, _ = Dispersion(kind, "B3LYP", 0)(
        np.tile(one.numbers, 2), np.vstack([one.positions, one.positions + [200, 0, 0]]) / BOHR
    )
    np.testing.assert_allclose(both, np.tile(alone, 2), atol=1e-10)


def test_refused(kind):
    with pytest.raises(LabelError, match="no parameters for no-such: use another functional"):
        Dispersion(kind, "no-such", 0)


def test_unknown():
    with pytest.raises(LabelError, match="no dispersion 'd5': use one of d3bj, d4"):
        Dispersion("d5", "B3LYP", 0)


def test_labels_have_it(kind):
    """Energy, gradient, atoms and second derivatives, by its name in the method."""
    pytest.importorskip("pyscf", reason="ab initio labels need PySCF")
    from ase_fflux.labels.pyscf_source import PySCF

    atoms = molecule("H2")
    atoms.rotate(30, (1, 1, 0))
    plain = PySCF(basis="sto-3g", partition="hirshfeld")
    corrected = PySCF(basis="sto-3g", partition="hirshfeld", dispersion=kind)
    assert corrected.method == f"B3LYP-{DISPERSIONS[kind]}/sto-3g"
    assert _LIBRARY[kind] in corrected.versions
    energies, gradient = corrected.dispersion(atoms.numbers, atoms.positions / BOHR)
    one, other = plain.label(atoms), corrected.label(atoms)
    assert other.energy - one.energy == pytest.approx(energies.sum(), abs=1e-9)
    assert other.atomic_energies.sum() == pytest.approx(other.energy, abs=1e-9)
    np.testing.assert_allclose(other.gradient - one.gradient, gradient, atol=1e-7)
    np.testing.assert_allclose(
        corrected.hessian(atoms) - plain.hessian(atoms),
        corrected.dispersion.hessian(atoms.numbers, atoms.positions / BOHR), atol=1e-7,
    )


def test_what_is_missing_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "dftd3.interface", None)
    with pytest.raises(LabelError, match=r"D3\(BJ\) needs dftd3 .*pip install 'ase-fflux.disp"):
        Dispersion("d3bj", "B3LYP", 0)
