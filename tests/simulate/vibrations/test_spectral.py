import numpy as np
import pytest
from ase import units

from ase_fflux.base.errors import FFLUXError
from ase_fflux.simulate.vibrations.analysis import vibrations
from ase_fflux.simulate.vibrations.infrared import DECADIC
from ase_fflux.simulate.vibrations.spectral import (
    PER_CM,
    absorptivity,
    aligned,
    highest_wavenumber,
    mode_density,
    power_of_derivative,
)
from ase_fflux.simulate.vibrations.thermal import (
    Block,
    bands,
    require_spacing,
    thermal_blocks,
    thermal_spectra,
)

TEMPERATURE, SPACING = 300.0, 2.0


def test_the_derivative_has_its_mean_square_where_its_frequency_is():
    wavenumber, amplitude = 1500.0, 0.3
    time = SPACING * np.arange(4000)
    omega = 2 * np.pi * PER_CM * wavenumber
    series = amplitude * np.cos(omega * time + 0.7) + 5.0
    x, density = power_of_derivative(series, SPACING)
    assert np.trapezoid(density, x) == pytest.approx((amplitude * omega) ** 2 / 2, rel=1e-3)
    assert x[density.argmax()] == pytest.approx(wavenumber, abs=1.5)
    near = np.abs(x - wavenumber) < 15
    assert np.trapezoid(density[near], x[near]) == pytest.approx(
        (amplitude * omega) ** 2 / 2, rel=1e-2
    )


def test_too_few_frames():
    with pytest.raises(FFLUXError, match="10 frames"):
        power_of_derivative(np.zeros(10), SPACING)


def harmonic_trajectory(atoms, modes, n=4000, seed=0):
    """The analytic motion of all modes, each with the energy k_B T, and the dipole of it."""
    rng = np.random.default_rng(seed)
    time = SPACING * np.arange(n)
    omega = 2 * np.pi * PER_CM * modes.wavenumbers
    # amplitude of Q in sqrt(amu) Angstrom: omega^2 A^2 / 2 = k_B T
    amplitude = np.sqrt(2 * units.kB * TEMPERATURE) / (omega / units.fs)
    q = amplitude * np.cos(np.outer(time, omega) + rng.uniform(0, 2 * np.pi, len(omega)))
    return atoms.positions + np.einsum("tk,kai->tai", q, modes.normal_coordinates)


@pytest.fixture
def modes(tetrahedron):
    return vibrations(tetrahedron)


def test_harmonic_motion_has_the_harmonic_intensities(tetrahedron, modes):
    x = harmonic_trajectory(tetrahedron, modes)
    dipoles = np.einsum("a,tai->ti", tetrahedron.calc.charges, x)
    grid, light = absorptivity(dipoles, SPACING, TEMPERATURE)
    for wavenumber, intensity in zip(modes.wavenumbers, modes.ir_intensities, strict=True):
        near = np.abs(grid - wavenumber) < 20
        area = np.trapezoid(light[near], grid[near]) / DECADIC
        assert area == pytest.approx(intensity, rel=0.03, abs=0.01 * modes.ir_intensities.max())
    grid, motion = mode_density(x, tetrahedron.get_masses(), SPACING, TEMPERATURE)
    assert np.trapezoid(motion, grid) == pytest.approx(len(modes.wavenumbers), rel=0.01)


def test_rotation_is_taken_out(tetrahedron, modes):
    from scipy.spatial.transform import Rotation

    x = harmonic_trajectory(tetrahedron, modes, 200)
    turns = Rotation.from_rotvec(np.outer(np.arange(200), [0.01, 0.02, -0.015])).as_matrix()
    turned = np.einsum("tij,taj->tai", turns, x) + np.arange(200)[:, None, None]
    dipoles = np.einsum("a,tai->ti", tetrahedron.calc.charges, x)
    masses = tetrahedron.get_masses()
    reference = tetrahedron.positions
    y, seen = aligned(turned, np.einsum("tij,tj->ti", turns, dipoles), reference, masses)
    z, expected = aligned(x, dipoles, reference, masses)
    assert y == pytest.approx(z, abs=1e-9) and seen == pytest.approx(expected, abs=1e-9)
    # the modes are orthogonal to rotation: Eckart's frame is the one they were given in
    assert y == pytest.approx(x - (masses @ reference) / masses.sum(), abs=2e-3)


def test_the_time_step_is_corrected():
    """Verlet dynamics of an oscillator at 3000 cm^-1 with a long step."""
    timestep, wavenumber = 1.0, 3000.0
    omega = 2 * np.pi * PER_CM * wavenumber
    x = [1.0, 1.0 - (omega * timestep) ** 2 / 2]
    for _ in range(8000):
        x.append((2 - (omega * timestep) ** 2) * x[-1] - x[-2])
    grid, density = power_of_derivative(np.array(x[::2]), 2 * timestep)
    assert grid[density.argmax()] > wavenumber + 30
    grid, corrected = power_of_derivative(np.array(x[::2]), 2 * timestep, timestep)
    assert grid[corrected.argmax()] == pytest.approx(wavenumber, abs=1.0)


def test_frames_too_far_apart_are_refused(modes):
    fine = 0.9 / (2 * PER_CM * 1.05 * modes.wavenumbers.max())
    require_spacing(fine, modes)
    with pytest.raises(FFLUXError, match="show nothing above"):
        require_spacing(1.2 * fine, modes)
    assert highest_wavenumber(5.0) == pytest.approx(3335.6, abs=0.1)


def test_bands_have_errors_from_blocks(tetrahedron, modes):
    charges = tetrahedron.calc.charges
    blocks = []
    for seed in range(3):
        x = harmonic_trajectory(tetrahedron, modes, 3000, seed)
        blocks.append(Block(x, np.einsum("a,tai->ti", charges, x)))
    spectra = thermal_spectra(
        blocks, tetrahedron, spacing=SPACING, temperature=TEMPERATURE
    )
    found = bands(spectra, modes)
    assert sum(band.modes for band in found) == len(modes.wavenumbers)
    assert sum(b.harmonic_intensity for b in found) == pytest.approx(modes.ir_intensities.sum())
    for band in found:
        assert band.intensity == pytest.approx(
            band.harmonic_intensity, rel=0.05, abs=0.02 * modes.ir_intensities.max()
        )
        assert band.intensity_error < 0.1 * modes.ir_intensities.max()
    with pytest.raises(FFLUXError, match="no error bar"):
        thermal_spectra(blocks[:1], tetrahedron, spacing=SPACING, temperature=TEMPERATURE)


def test_dynamics_of_a_stiff_diatomic_give_its_harmonic_line(diatomic):
    """From momenta to intensity: the mean over blocks, within four standard errors."""
    modes = vibrations(diatomic)
    done = []
    blocks = list(thermal_blocks(
        diatomic, temperature=100.0, blocks=4, time=0.3, timestep=2.0, interval=2, seed=3,
        advance=done.append,
    ))
    assert sum(done) == 4 * 650 and len(blocks) == 4 and blocks[0].dipoles.shape == (75, 3)
    spectra = thermal_spectra(
        blocks, diatomic, spacing=4.0, temperature=100.0, timestep=2.0
    )
    (band,) = bands(spectra, modes)
    assert band.centre == pytest.approx(modes.wavenumbers[0], rel=0.02)
    assert abs(band.intensity - modes.ir_intensities[0]) < 4 * band.intensity_error
