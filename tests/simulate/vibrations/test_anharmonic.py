"""Levels of second order against exact ones of small quartic force fields."""

import math

import numpy as np
import pytest
from ase import Atoms, units
from ase.calculators.calculator import Calculator

from ase_fflux.base.errors import FFLUXError
from ase_fflux.simulate.vibrations.analysis import vibrations
from ase_fflux.simulate.vibrations.anharmonic import (
    Quartic,
    anharmonic,
    coriolis,
    force_field,
    fundamentals,
)

QUANTA = 8


def exact(field):
    """Fundamentals of three modes by diagonalisation in products of harmonic functions."""
    size = QUANTA
    ladder = np.diag(np.sqrt(np.arange(1, size)), 1)
    one = np.eye(size)

    def of_mode(mode, matrix):
        first, second, third = (matrix if k == mode else one for k in range(3))
        return np.kron(np.kron(first, second), third)

    q = [of_mode(mode, (ladder + ladder.T) / np.sqrt(2)) for mode in range(3)]
    number = np.diag(np.arange(size))
    h = sum(w * of_mode(mode, number) for mode, w in enumerate(field.harmonic))
    for i in range(3):
        for j in range(3):
            for k in range(3):
                h = h + field.cubic[i, j, k] / 6 * q[i] @ q[j] @ q[k]
            factor = 1 / 24 if i == j else 1 / 8
            h = h + factor * field.quartic[i, j] * q[i] @ q[i] @ q[j] @ q[j]
    values, vectors = np.linalg.eigh(h)
    found = []
    for place in (size * size, size, 1):
        found.append(values[np.argmax(vectors[place] ** 2)] - values[0])
    return np.array(found)


def made_up(scale, harmonic=(1000.0, 1730.0, 3350.0)):
    rng = np.random.default_rng(5)
    cubic = rng.normal(size=(3, 3, 3))
    cubic = sum(cubic.transpose(p) for p in (
        (0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)
    )) / 6
    quartic = rng.normal(size=(3, 3))
    return Quartic(
        np.array(harmonic), scale * 300 * cubic, scale**2 * 50 * (quartic + quartic.T),
        np.zeros((3, 3)),
    )


def test_second_order_is_exact_to_second_order():
    """The error falls with the fourth power of the anharmonicity, the shift with the second."""
    errors, shifts = [], []
    for scale in (0.2, 0.1):
        field = made_up(scale)
        found, _, resonances = fundamentals(field)
        assert not resonances
        errors.append(np.abs(found - exact(field)).max())
        shifts.append(np.abs(found - field.harmonic).max())
    assert shifts[0] / shifts[1] == pytest.approx(4, rel=1e-6)
    assert errors[0] / errors[1] == pytest.approx(16, rel=0.2)
    assert errors[1] < 1e-3 * shifts[1]


def test_resonances_are_diagonalised():
    """Twice the first mode 5 cm^-1 above the third: bare second order is off by far."""
    field = made_up(0.6, (1000.0, 1430.0, 1995.0))
    found, _, resonances = fundamentals(field)
    assert (0, 0, 2) in resonances
    assert found == pytest.approx(exact(field), abs=1.5)


class Morse(Calculator):
    """Two atoms, D (1 - exp(-a (r - r0)))^2, a third that is bound by weak springs alone."""

    implemented_properties = ["energy", "forces"]
    depth, decay, length = 4.6, 2.2, 0.95

    def calculate(self, atoms=None, properties=("energy",), system_changes=()):
        super().calculate(atoms, properties, system_changes)
        x = self.atoms.positions
        energy, forces = 0.0, np.zeros_like(x)
        for i, j, morse, length in ((0, 1, True, 0.95), (0, 2, False, 1.4), (1, 2, False, 1.7)):
            d = x[j] - x[i]
            r = np.linalg.norm(d)
            if morse:
                e = np.exp(-self.decay * (r - length))
                energy += self.depth * (1 - e) ** 2
                slope = 2 * self.depth * self.decay * e * (1 - e)
            else:
                energy += 1.5 * (r - length) ** 2
                slope = 3.0 * (r - length)
            forces[i] += slope * d / r
            forces[j] -= slope * d / r
        self.results = {"energy": energy, "forces": forces}


@pytest.fixture(scope="module")
def triangle():
    """A bent molecule whose stretch is nearly that of a Morse oscillator."""
    from ase.optimize import BFGS

    atoms = Atoms("HOXe", [(0, 0, 0), (0.95, 0, 0), (-0.5, 1.3, 0)])
    atoms.calc = Morse()
    BFGS(atoms, logfile=None).run(fmax=1e-9, steps=500)
    return atoms, vibrations(atoms)


def test_derivatives_of_a_morse_oscillator(triangle):
    """x_ii of a Morse oscillator is -omega^2 / 4D, to which springs at rest add next to nothing."""
    atoms, modes = triangle
    found = anharmonic(modes, Morse())
    omega = modes.wavenumbers[-1]
    expected = -omega**2 / (4 * Morse.depth / units.invcm)
    assert found.constants[-1, -1] == pytest.approx(expected, rel=0.03)
    assert found.evaluations == 12 * 3 * 3
    assert found.wavenumbers[-1] < omega + 1.7 * expected


def test_derivatives_are_those_of_the_energy(triangle):
    """Against differences of the energy itself along the modes."""
    atoms, modes = triangle
    field = force_field(modes, Morse())
    i = 2
    scale = np.sqrt(units._hbar**2 / (units._e * units._amu)) * 1e10
    along = modes.normal_coordinates[i] * scale / np.sqrt(modes.wavenumbers[i] * units.invcm)
    moved = atoms.copy()
    moved.calc = Morse()

    def energy(q):
        moved.positions = atoms.positions + q * along
        return moved.get_potential_energy() / units.invcm

    at = np.arange(-4, 5) * 0.1
    fit = np.polynomial.Polynomial.fit(at, [energy(q) for q in at], 8).convert().coef
    factorials = [math.factorial(k) for k in range(5)]
    assert 2 * fit[2] == pytest.approx(modes.wavenumbers[i], rel=1e-4)
    assert field.cubic[i, i, i] == pytest.approx(factorials[3] * fit[3], rel=0.01)
    assert field.quartic[i, i] == pytest.approx(factorials[4] * fit[4], rel=0.02)


def test_coriolis_coupling_keeps_to_the_sum_rule(triangle):
    """In-plane modes of three atoms couple about the axis normal to the plane alone, with
    zeta_12^2 + zeta_13^2 + zeta_23^2 = 1 (J. K. G. Watson)."""
    _, modes = triangle
    omega, added = modes.wavenumbers, coriolis(modes)
    moments = modes.atoms.get_moments_of_inertia()
    constant = units._hbar / (4 * np.pi * units._c * 100 * moments[2] * units._amu * 1e-20)
    ratio = omega[:, None] / omega + omega / omega[:, None]
    assert np.triu(added / ratio / constant, 1).sum() == pytest.approx(1, abs=1e-6)
    assert np.diag(added) == pytest.approx(0)


def test_what_is_no_asymmetric_top_is_refused(triangle, springs):
    linear = Atoms("CO", [(0, 0, 0), (0, 0, 1.2)])
    linear.calc = springs([(0, 1, 30.0, 1.2)])
    with pytest.raises(FFLUXError, match="asymmetric tops: the molecule is linear"):
        anharmonic(vibrations(linear), linear.calc)
    corners = Atoms("O3", [(0, 0, 0), (1.5, 0, 0), (0.75, 1.5 * np.sqrt(0.75), 0)])
    corners.calc = springs([(i, j, 20.0, 1.5) for i, j in ((0, 1), (1, 2), (0, 2))])
    with pytest.raises(FFLUXError, match="modes 1 and 2 are degenerate"):
        anharmonic(vibrations(corners), corners.calc)
