import ctypes
import os
import subprocess
import sys

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

from ase_fflux.base.errors import LabelError
from ase_fflux.base.units import BOHR, FORCE, HARTREE
from ase_fflux.labels.checks import believe
from ase_fflux.labels.label import dataset_of
from ase_fflux.labels.source import LabelSource
from ase_fflux.labels.tblite_source import GFN2
from ase_fflux.model.multipoles import cartesian_from_spherical
from ase_fflux.simulate.vibrations.analysis import vibrations

interface = pytest.importorskip("tblite.interface", exc_type=ImportError)


@pytest.fixture(scope="module")
def source():
    return GFN2()


@pytest.fixture
def ethanol():
    """Away from its minimum, from the origin and from any symmetry."""
    rng = np.random.default_rng(4)
    atoms = molecule("CH3CH2OH")
    atoms.rotate(40, (1, 2, 3))
    atoms.positions += rng.normal(scale=0.05, size=(9, 3)) + [0.3, -0.8, 0.5]
    return atoms


def quadrupoles(label):
    return cartesian_from_spherical(label.moments)[1]


def traceless(matrix):
    return 1.5 * matrix - 0.5 * np.trace(matrix) * np.eye(3)


def test_atomic_moments_add_up_to_molecular_ones_of_tblite(source, ethanol):
    label = source.label(ethanol)
    calculator = interface.Calculator("GFN2-xTB", ethanol.numbers, ethanol.positions / BOHR)
    calculator.set("verbosity", 0)
    calculator.set("accuracy", 1e-3)
    result = calculator.singlepoint()
    r, q, mu = label.geometry, label.charges, label.atomic_dipoles
    assert np.allclose(q @ r + mu.sum(0), result.get("dipole"), atol=1e-10)
    assert np.allclose(label.dipole, result.get("dipole"), atol=1e-10)
    second = np.einsum("i,ia,ib->ab", q, r, r) + r.T @ mu + mu.T @ r
    quadrupole = traceless(second) + quadrupoles(label).sum(0)
    xx, xy, yy, xz, yz, zz = result.get("quadrupole")
    assert np.allclose(np.diag(quadrupole), [xx, yy, zz], atol=1e-10)
    # tblite counts charges and dipoles twice off the diagonal: this fails once it is mended there
    double = quadrupole + traceless(second)
    assert np.allclose([double[0, 1], double[0, 2], double[1, 2]], [xy, xz, yz], atol=1e-10)


def test_label_turns_with_the_molecule(source, ethanol):
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    label = source.label(ethanol)
    turned = source.label(Atoms(ethanol.numbers, ethanol.positions @ rotation.T + 1.0))
    assert turned.energy == pytest.approx(label.energy, abs=1e-11)
    assert np.allclose(turned.atomic_energies, label.atomic_energies, atol=1e-11)
    assert np.allclose(turned.gradient, label.gradient @ rotation.T, atol=1e-10)
    assert np.allclose(turned.atomic_dipoles, label.atomic_dipoles @ rotation.T, atol=1e-10)
    expected = rotation @ quadrupoles(label) @ rotation.T
    assert np.allclose(quadrupoles(turned), expected, atol=1e-10)
    assert np.allclose(np.trace(quadrupoles(label), axis1=1, axis2=2), 0, atol=1e-12)


def test_quadrupoles_give_the_long_range_energy_of_gfn2(source):
    """GFN2 has charge-quadrupole terms: the absolute scale of the quadrupole of N2.

    Turning HF around far from N2 changes the energy to first order, free of induction and
    dispersion; doing so with N2 along and across the line between them leaves the anisotropic part,
    free of GFN2's isotropic damping. Without the quadrupole of N2 three quarters would be missing.
    """
    fluoride = molecule("HF")
    fluoride.positions -= fluoride.positions.mean(0)
    measured = expected = 0.0
    for axis, part in (("x", 1), ("z", -1)):
        nitrogen = Atoms("N2", [[0, 0, 0.55], [0, 0, -0.55]])
        nitrogen.rotate("z", axis)
        for sign in (1, -1):
            moved = fluoride.copy()
            moved.positions = sign * fluoride.positions + [0.0, 0.0, 60.0 * BOHR]
            a, b = source.label(nitrogen), source.label(moved)
            pair = source.label(nitrogen + moved).energy - a.energy - b.energy
            measured += part * sign * pair
            for i, j in np.ndindex(2, 2):
                expected += part * sign * pair_energy(a, i, b, j)
    assert measured == pytest.approx(expected, rel=0.02)


def pair_energy(a, i, b, j):
    r = b.geometry[j] - a.geometry[i]
    d = np.linalg.norm(r)
    q, p = a.charges[i], b.charges[j]
    mu, nu = a.atomic_dipoles[i], b.atomic_dipoles[j]
    energy = q * p / d + (p * mu @ r - q * nu @ r) / d**3
    energy += (mu @ nu - 3 * (mu @ r) * (nu @ r) / d**2) / d**3
    return energy + (r @ (p * quadrupoles(a)[i] + q * quadrupoles(b)[j]) @ r) / d**5


def test_gradient_and_smoothness(source, ethanol):
    """Energies on a line of 1e-4 Angstrom steps: noise below 1e-11 Ha, slope as the gradient."""
    direction = np.random.default_rng(1).uniform(-1, 1, size=(9, 3))
    steps = np.arange(-20, 21) * 1e-4
    labels = []
    for step in steps:
        labels.append(source.label(Atoms(ethanol.numbers, ethanol.positions + step * direction)))
    for values in (
        [label.energy for label in labels],
        [label.atomic_energies[0] for label in labels],
    ):
        fit = np.polynomial.Polynomial.fit(steps, values, 4)
        assert np.abs(fit(steps) - values).max() < 1e-11
    fit = np.polynomial.Polynomial.fit(steps, [label.energy for label in labels], 4)
    slope = (labels[20].gradient * direction).sum() / BOHR
    assert fit.deriv()(0.0) == pytest.approx(slope, rel=1e-6)


def test_label_does_not_depend_on_history(source, ethanol):
    first = source.label(ethanol)
    source.label(molecule("H2O"))
    other = ethanol.copy()
    other.rattle(0.1, seed=1)
    source.label(other)
    again = source.label(ethanol)
    assert again.energy == first.energy
    assert np.array_equal(again.gradient, first.gradient)
    assert np.array_equal(again.moments, first.moments)


def test_atomic_energies_sum_to_total(source, ethanol):
    label = source.label(ethanol)
    assert label.atomic_energies.sum() == pytest.approx(label.energy, abs=1e-11)
    assert label.charges.sum() == pytest.approx(0, abs=1e-10)


def test_charged_molecule():
    label = GFN2(charge=-1).label(molecule("OH"))
    assert label.charges.sum() == pytest.approx(-1, abs=1e-10)


@pytest.mark.parametrize("name, spin", [("CH3", 1), ("O2", 2), ("NO2", 1)])
def test_open_shells(name, spin):
    """Spin-polarised: moments add up, the gradient is that of the energy, it is lower than without.
    """
    source = GFN2(spin=spin)
    atoms = molecule(name)
    atoms.rattle(0.05, seed=1)
    source.check(atoms)
    label = source.label(atoms)
    assert label.method == "spGFN2-xTB" and label.settings["spin"] == spin
    believe(dataset_of([label]))
    unpolarised = interface.Calculator("GFN2-xTB", atoms.numbers, label.geometry, uhf=spin)
    unpolarised.set("verbosity", 0)
    assert label.energy < unpolarised.singlepoint().get("energy") - 1e-3
    direction = np.random.default_rng(0).normal(size=atoms.positions.shape)
    step = 1e-3
    ends = [
        source.label(Atoms(atoms.numbers, atoms.positions + sign * step * direction)).energy
        for sign in (1, -1)
    ]
    slope = (label.gradient * direction).sum() / BOHR
    assert (ends[0] - ends[1]) / (2 * step) == pytest.approx(slope, abs=1e-5)


def test_closed_shell_above_the_triplet_is_refused():
    with pytest.raises(LabelError, match="O2 with charge 0 is .* kJ/mol lower .*--spin 2"):
        GFN2().check(molecule("O2"))
    for source, name in (
        (GFN2(spin=0), "O2"), (GFN2(spin=2), "O2"), (GFN2(), "O3"), (GFN2(), "C2H4"),
        (GFN2(-1), "OH"),
    ):
        source.check(molecule(name))
    with pytest.raises(LabelError, match="CH3 .* 9 electrons, .* 0 unpaired"):
        GFN2().check(molecule("CH3"))
    with pytest.raises(LabelError, match="10 electrons, which cannot leave 1 unpaired"):
        GFN2(spin=1).check(molecule("H2O"))
    with pytest.raises(LabelError, match="-1 unpaired"):
        GFN2(spin=-1)


def test_is_a_label_source(source):
    assert isinstance(source, LabelSource)
    assert source.engine is source


def test_hessian_is_that_of_the_calculator(source):
    atoms = molecule("H2O")
    atoms.calc = source.calculator()
    matrix = vibrations(atoms, distance=0.002).hessian * BOHR**2 / HARTREE
    assert np.allclose(source.hessian(atoms), matrix, atol=1e-7)


def test_calculator_agrees_with_label(source, ethanol):
    label = source.label(ethanol)
    ethanol.calc = source.calculator()
    assert ethanol.get_potential_energy() == pytest.approx(label.energy * HARTREE, abs=1e-10)
    assert np.allclose(ethanol.get_forces(), -label.gradient * FORCE, atol=1e-9)
    assert np.allclose(ethanol.get_dipole_moment(), label.dipole * BOHR, atol=1e-9)
    assert np.allclose(ethanol.get_charges(), label.charges, atol=1e-10)


@pytest.mark.parametrize(
    ("atoms", "words"),
    [
        (Atoms(), "no atoms"),
        (Atoms("OH", [[0, 0, 0], [0, 0, 1.0]]), "9 electrons, .* cannot leave 0 unpaired.*--spin"),
        (Atoms("H2", [[0, 0, 0], [0, 0, 0]]), r"atom 1 \(H\) and atom 2 \(H\), 0.000"),
        (Atoms("H2", [[0, 0, 0], [0, 0, np.nan]]), r"atom 2 \(H\) of H2 is not finite"),
        (Atoms("H2", [[0, 0, 0], [0, 0, 0.7]], cell=[9, 9, 9], pbc=True), 'pbc="F F F"'),
    ],
)
def test_bad_geometries_are_named(source, atoms, words):
    with pytest.raises(LabelError, match=words):
        source.label(atoms)


def test_failed_scf_is_named(source, monkeypatch):
    monkeypatch.setattr("ase_fflux.labels.tblite_source.ACCURACY", 1e-30)
    with pytest.raises(LabelError, match=r"failed for OH2 .*not converged"):
        source.label(molecule("H2O"))


def test_missing_tblite_says_how_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "tblite", None)
    with pytest.raises(LabelError, match=r"pip install 'ase-fflux\[all\]'"):
        GFN2()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks libgomp")
def test_one_thread_unless_told_otherwise():
    def threads(**environment):
        clean = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}
        code = (
            "import ctypes, os\n"
            "from ase_fflux.labels.tblite_source import GFN2\n"
            "GFN2()\n"
            "print(ctypes.CDLL('libgomp.so.1').omp_get_max_threads(),"
            " os.environ.get('OMP_NUM_THREADS'))"
        )
        run = [sys.executable, "-c", code]
        env = {**clean, **environment}
        return subprocess.run(run, env=env, capture_output=True, text=True, check=True).stdout

    ctypes.CDLL("libgomp.so.1")
    assert threads().split() == ["1", "None"]
    assert threads(OMP_NUM_THREADS="3").split() == ["3", "3"]
