import contextlib
import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from ase import Atoms, units
from ase.build import molecule
from ase.constraints import FixAtoms
from ase.vibrations import Infrared
from hypothesis import given, settings
from hypothesis import strategies as st
from phonopy import Phonopy
from scipy.spatial.transform import Rotation

from ase_fflux.base.errors import FFLUXError, GeometryError
from ase_fflux.simulate.optimise import optimise
from ase_fflux.simulate.vibrations.analysis import is_linear, normal_modes, vibrations


def per_cm(square):
    """cm^-1 of omega^2 = k/m in eV/(A^2 amu), from SI constants."""
    omega = np.sqrt(square * units._e / 1e-20 / units._amu)
    return omega / (2 * np.pi * units._c * 100)


def test_diatomic(diatomic):
    result = vibrations(diatomic)
    c, o = diatomic.get_masses()
    reduced = c * o / (c + o)
    assert result.linear
    assert result.wavenumbers == pytest.approx([per_cm(30.0 / reduced)], abs=1e-3)
    assert result.zero_point_energy == pytest.approx(result.wavenumbers[0] * units.invcm / 2)
    assert len(result.external_wavenumbers) == 5
    # Gaussian's reduced mass of a stretching diatomic with both atoms moving
    expected = (c**2 * o + o**2 * c) / (c**2 + o**2)
    assert result.reduced_masses == pytest.approx([expected])
    omega2 = (result.energies / (units._hbar * 1e10 / np.sqrt(units._e * units._amu))) ** 2
    assert result.force_constants == pytest.approx(omega2 * expected)
    axis = diatomic.positions[1] - diatomic.positions[0]
    along = result.displacements[0] @ axis / np.linalg.norm(axis)
    assert along[0] / along[1] == pytest.approx(-o / c)
    assert np.linalg.norm(result.displacements[0]) == pytest.approx(1)


def test_equilateral_triangle(triangle):
    result = vibrations(triangle)
    m = triangle.get_masses()[0]
    expected = [per_cm(30.0 / m), per_cm(30.0 / m), per_cm(60.0 / m)]
    assert result.wavenumbers == pytest.approx(expected, abs=1e-2)
    assert not result.linear
    assert result.ir_intensities is None
    assert np.abs(result.external_wavenumbers[:3]).max() < 2


def test_linear_triatomic(linear_triatomic):
    result = vibrations(linear_triatomic)
    o, c, _ = linear_triatomic.get_masses()
    bend = per_cm(6.0 * (2 / o + 4 / c) / 1.2**2)
    expected = [bend, bend, per_cm(90.0 / o), per_cm(90.0 / o * (1 + 2 * o / c))]
    assert result.linear
    assert result.wavenumbers == pytest.approx(expected, abs=0.02)


def test_almost_linear_keeps_both_bends(linear_triatomic):
    straight = vibrations(linear_triatomic)
    # bent by less than the tolerance, in a direction off the axes
    linear_triatomic.positions[1] += (0, 0.003, 0.002)
    bent = vibrations(linear_triatomic)
    assert bent.linear
    assert bent.wavenumbers == pytest.approx(straight.wavenumbers, abs=0.1)


@pytest.mark.parametrize("name, linear", [("CO2", True), ("C2H2", True), ("H2O", False)])
def test_linear_in_any_orientation(name, linear):
    atoms = molecule(name)
    atoms.rotate(57, (1, 2, 3))
    assert is_linear(atoms.positions) is linear


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_translations_and_rotations_are_removed_exactly(seed):
    # any Hessian: here one that is not invariant at all and would mix them in
    random = np.random.default_rng(seed)
    masses, positions = random.uniform(1, 20, 5), random.normal(size=(5, 3))
    hessian = random.normal(size=(15, 15))
    wavenumbers, modes, external = normal_modes(hessian + hessian.T, masses, positions, False)
    assert len(wavenumbers) == 9 and len(external) == 6
    assert (np.diff(wavenumbers) >= 0).all() and (wavenumbers < 0).any()
    assert modes @ modes.T == pytest.approx(np.eye(9), abs=1e-10)
    momenta = modes.reshape(9, 5, 3) * np.sqrt(masses)[:, None]
    assert momenta.sum(axis=1) == pytest.approx(0, abs=1e-10)
    centred = positions - masses @ positions / masses.sum()
    assert np.cross(centred, momenta).sum(axis=1) == pytest.approx(0, abs=1e-10)


def test_orientation_place_and_atom_order_do_not_matter(tetrahedron):
    reference = vibrations(tetrahedron)
    order = [2, 0, 3, 1]
    turned = tetrahedron[order]
    turned.positions = Rotation.random(rng=5).apply(turned.positions) + (11, -7, 3)
    place = np.argsort(order)
    calc = tetrahedron.calc
    lengths = [(place[i], place[j], k, length) for i, j, k, length in calc.springs]
    turned.calc = type(calc)(lengths, charges=[calc.charges[i] for i in order])
    result = vibrations(turned)
    assert result.wavenumbers == pytest.approx(reference.wavenumbers, abs=0.02)
    assert result.ir_intensities == pytest.approx(reference.ir_intensities, rel=2e-4)


def test_hessian_is_that_of_the_springs(tetrahedron):
    expected = np.zeros((4, 3, 4, 3))
    for i, j, k, length in tetrahedron.calc.springs:
        n = (tetrahedron.positions[j] - tetrahedron.positions[i]) / length
        block = k * np.outer(n, n)
        expected[i, :, i] += block
        expected[j, :, j] += block
        expected[i, :, j] -= block
        expected[j, :, i] -= block
    result = vibrations(tetrahedron)
    assert result.hessian == pytest.approx(expected.reshape(12, 12), abs=1e-4)


def test_error_falls_as_the_square_of_the_distance(diatomic):
    # an anharmonic direction: across the axis of a diatomic the energy is quartic
    exact = np.zeros(5)
    errors = [
        np.abs(vibrations(diatomic, distance=d).external_wavenumbers - exact).max() ** 2
        for d in (0.01, 0.02)
    ]
    assert errors[1] / errors[0] == pytest.approx(4, rel=0.02)


def test_saddle_point_has_negative_wavenumbers(linear_triatomic):
    i, j, k, b = linear_triatomic.calc.bends[0]
    linear_triatomic.calc.bends = [(i, j, k, -b)]
    result = vibrations(linear_triatomic)
    assert (result.wavenumbers[:2] < -100).all() and (result.wavenumbers[2:] > 0).all()
    assert result.zero_point_energy == pytest.approx(
        result.wavenumbers[2:].sum() * units.invcm / 2
    )
    assert (result.force_constants[:2] < 0).all()


def test_isotopes(diatomic):
    light = vibrations(diatomic).wavenumbers[0]
    diatomic.set_masses([13.003355, None])
    c, o = diatomic.get_masses()
    heavy = vibrations(diatomic).wavenumbers[0]
    assert heavy == pytest.approx(per_cm(30.0 * (c + o) / (c * o)), abs=1e-3)
    assert heavy < light - 10


def test_symmetry_of_the_geometry_is_not_forced_on_the_model(triangle):
    # a model whose energy is less symmetric than the geometry: phonopy's symmetry would average
    # the atoms, the model's own modes must come out
    (i, j, k, length), *others = triangle.calc.springs
    triangle.calc.springs = [(i, j, 1.1 * k, length), *others]
    result = vibrations(triangle)
    hessian = np.zeros((3, 3, 3, 3))
    for i, j, k, length in triangle.calc.springs:
        n = (triangle.positions[j] - triangle.positions[i]) / length
        for a, b, sign in ((i, i, 1), (j, j, 1), (i, j, -1), (j, i, -1)):
            hessian[a, :, b] += sign * k * np.outer(n, n)
    squares = np.linalg.eigvalsh(hessian.reshape(9, 9))[-3:] / triangle.get_masses()[0]
    assert result.wavenumbers == pytest.approx(per_cm(squares), abs=0.01)
    assert result.wavenumbers[1] - result.wavenumbers[0] > 5


def test_input_is_left_alone(tetrahedron):
    before = tetrahedron.positions.copy()
    result = vibrations(tetrahedron)
    assert (tetrahedron.positions == before).all()
    assert tetrahedron.calc is not None and result.atoms.calc is None
    assert (result.atoms.positions == before).all()


def test_errors(diatomic):
    calc = diatomic.calc
    with pytest.raises(FFLUXError, match="1 atom"):
        vibrations(Atoms("H", calculator=calc))
    periodic = diatomic.copy()
    periodic.calc, periodic.cell, periodic.pbc = calc, [9, 9, 9], True
    with pytest.raises(FFLUXError, match="periodic"):
        vibrations(periodic)
    fixed = diatomic.copy()
    fixed.calc = calc
    fixed.set_constraint(FixAtoms([0]))
    with pytest.raises(FFLUXError, match="constraints"):
        vibrations(fixed)
    with pytest.raises(FFLUXError, match="calc"):
        vibrations(diatomic.copy())
    calc.springs = [(0, 1, np.nan, 1.2)]
    with pytest.raises(GeometryError, match="not finite"):
        vibrations(diatomic)


@pytest.fixture(scope="module")
def water():
    """GFN2-xTB water at its minimum, in a general orientation."""
    tblite = pytest.importorskip("tblite.ase")
    atoms = molecule("H2O")
    atoms.rotate(40, (1, 2, 3))
    atoms.calc = tblite.TBLite(method="GFN2-xTB", verbosity=0, accuracy=0.001)
    minimum = optimise(atoms, fmax=1e-4).atoms
    minimum.calc = atoms.calc
    return minimum


def test_agrees_with_ase(water, tmp_path):
    ours = vibrations(water, distance=0.005)
    theirs = Infrared(water, delta=0.005, name=str(tmp_path / "ir"))
    with contextlib.redirect_stdout(io.StringIO()):
        theirs.run()
    theirs.read()
    assert ours.wavenumbers == pytest.approx(theirs.get_frequencies().real[-3:], abs=0.5)
    intensities = theirs.intensities[-3:] * theirs.intensity_prefactor("km/mol")[0]
    assert ours.ir_intensities == pytest.approx(intensities, rel=1e-3, abs=0.01)


def test_phonopy_symmetry_would_give_the_same(triangle):
    """Where energy and geometry do share their symmetry, phonopy's use of it changes nothing."""
    ours = vibrations(triangle)
    cell = ours.phonon.unitcell
    phonon = Phonopy(cell, np.eye(3, dtype=int), primitive_matrix=np.eye(3), is_symmetry=True)
    phonon.generate_displacements(distance=0.001, is_plusminus=True, is_diagonal=False)
    assert len(phonon.displacements) < len(ours.phonon.displacements)
    forces = []
    for supercell in phonon.supercells_with_displacements:
        moved = triangle.copy()
        moved.positions, moved.calc = supercell.positions, triangle.calc
        forces.append(moved.get_forces())
    phonon.forces = forces
    phonon.produce_force_constants()
    hessian = phonon.force_constants.transpose(0, 2, 1, 3).reshape(9, 9)
    modes = normal_modes(hessian, triangle.get_masses(), triangle.positions, False)
    assert modes[0] == pytest.approx(ours.wavenumbers, abs=0.1)


def test_phonopy_goes_on_from_its_file(water, tmp_path):
    ours = vibrations(water)
    ours.phonon.save(tmp_path / "params.yaml", settings={"force_constants": True})
    command = Path(sys.executable).with_name("phonopy-load")
    # phases at a general q-point must cancel: a box has no dispersion
    arguments = ["params.yaml", "--qpoints", "0 0 0 0.3 0.1 0.4"]
    done = subprocess.run(
        [command, *arguments], cwd=tmp_path, capture_output=True, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    points = yaml.safe_load((tmp_path / "qpoints.yaml").read_text())["phonon"]
    for point in points:
        frequencies = [band["frequency"] for band in point["band"]]
        theirs = np.sort(frequencies)[-3:] * 1e12 / (units._c * 100)
        assert theirs == pytest.approx(ours.wavenumbers, abs=0.5)
