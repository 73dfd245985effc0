import numpy as np
import pytest
from ase import units
from hypothesis import given
from hypothesis import strategies as st

from ase_fflux.base.errors import FFLUXError
from ase_fflux.simulate.vibrations.analysis import vibrations
from ase_fflux.simulate.vibrations.infrared import E2_PER_AMU, mode_intensities, spectrum


def test_unit_of_intensity():
    # Porezag and Pederson, Phys. Rev. B 54, 7830 (1996): 1 (D/A)^2/amu = 42.255 km/mol
    assert E2_PER_AMU * units.Debye**2 == pytest.approx(42.255, rel=5e-5)


def test_charged_diatomic(diatomic):
    # d mu/dQ = q/sqrt(reduced mass) for fixed charges
    c, o = diatomic.get_masses()
    expected = E2_PER_AMU * 0.4**2 * (c + o) / (c * o)
    assert vibrations(diatomic).ir_intensities == pytest.approx([expected], rel=1e-6)


def test_symmetric_stretch_is_silent_and_bends_are_alike(linear_triatomic):
    bend, other, symmetric, antisymmetric = vibrations(linear_triatomic).ir_intensities
    assert symmetric == pytest.approx(0, abs=1e-6)
    assert bend == pytest.approx(other, rel=1e-4)
    o, c, _ = linear_triatomic.get_masses()
    # fixed charges -q/2, q, -q/2: the mode moves C against both O, with reduced mass 2 m_O m_C/M
    expected = E2_PER_AMU * 0.6**2 * (2 * o + c) / (2 * o * c)
    assert [bend, antisymmetric] == pytest.approx([expected, expected], rel=1e-4)


def test_intensities_do_not_depend_on_the_axes():
    random = np.random.default_rng(1)
    gradient, modes = random.normal(size=(9, 3)), random.normal(size=(3, 9))
    turn = np.linalg.qr(random.normal(size=(3, 3)))[0]
    rotated = mode_intensities(gradient @ turn, modes)
    assert rotated == pytest.approx(mode_intensities(gradient, modes))


@given(
    width=st.floats(2, 40),
    lines=st.lists(st.tuples(st.floats(1500, 2500), st.floats(0, 300)), min_size=1, max_size=5),
)
def test_area_of_the_spectrum_is_the_intensity(width, lines):
    centres, heights = np.array(lines).T
    reach = 400 * width
    grid = np.arange(1500 - reach, 2500 + reach, width / 8)
    _, curve = spectrum(centres, heights, width, grid)
    # a Lorentzian has 2/pi * width/(2 reach) of its area beyond reach
    area = np.trapezoid(curve, grid) / 100 * np.log(10)
    assert area == pytest.approx(heights.sum(), rel=2e-3, abs=1e-9)


def test_width_is_that_at_half_maximum():
    _, curve = spectrum(np.array([1000.0]), np.array([50.0]), 12.0, np.array([994, 1000, 1006.0]))
    assert curve / curve[1] == pytest.approx([0.5, 1, 0.5])
    # peak of a Lorentzian of unit area: 2/(pi width)
    assert curve[1] == pytest.approx(50 * 100 / np.log(10) * 2 / (np.pi * 12))


def test_imaginary_modes_do_not_absorb():
    both = spectrum(np.array([-200.0, 900.0]), np.array([80.0, 10.0]), 10.0)
    real = spectrum(np.array([900.0]), np.array([10.0]), 10.0)
    assert (both[0] == real[0]).all() and (both[1] == real[1]).all()
    assert both[0][0] == 0 and both[0][-1] > 1000


def test_lines_too_narrow_to_draw_are_refused():
    with pytest.raises(FFLUXError, match="points: take"):
        spectrum(np.array([3000.0]), np.array([1.0]), 1e-9)
