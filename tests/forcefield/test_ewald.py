"""Ewald sums of multipoles: known lattices, derivatives, and what must not change."""

import numpy as np
import pytest

from ase_fflux.base.errors import FFLUXError, FFLUXWarning, GeometryError
from ase_fflux.base.jit import plain
from ase_fflux.forcefield import ForceField
from ase_fflux.forcefield.interactions.direct import direct_sum
from ase_fflux.forcefield.interactions.electrostatics import Electrostatics
from ase_fflux.forcefield.interactions.ewald import Ewald
from ase_fflux.forcefield.interactions.quasi_internal import ZERO_ROW
from ase_fflux.forcefield.interactions.screened import _excluded_chain, _radial_table
from ase_fflux.model.multipoles import moments_of_charges, n_moments

PERIODIC = (True,) * 3
CELL = np.array([[9.0, 0.0, 0.0], [2.0, 8.0, 0.0], [-1.0, 1.5, 10.0]])
MOLECULE = np.array([0, 0, 1, 1, 1, 2, 3])


def converged(rank, alpha):
    return Ewald(rank, alpha, 6.6 / alpha, 14.5 * alpha)


def sites(seed=0, width=25):
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid([0.0, 0.5], [0.0, 0.5], [0.0, 0.5]), axis=-1).reshape(-1, 3)[:7]
    positions = (grid + rng.uniform(-0.08, 0.08, grid.shape)) @ CELL
    moments = 0.3 * rng.normal(size=(7, width))
    moments[:, 0] -= moments[:, 0].mean()
    return positions, moments


@pytest.mark.parametrize("alpha", [0.9, 1.4])
@pytest.mark.parametrize("name, cell, other, distance, madelung", [
    ("NaCl", [[0, 1, 1], [1, 0, 1], [1, 1, 0]], [1, 1, 1], 1.0, 1.747564594633182),
    ("CsCl", np.eye(3), [0.5, 0.5, 0.5], np.sqrt(0.75), 1.762674773070989),
    ("ZnS", [[0, 1, 1], [1, 0, 1], [1, 1, 0]], [0.5] * 3, np.sqrt(0.75), 1.638055053388791),
])
def test_madelung_constants(evaluated, name, cell, other, distance, madelung, alpha):
    found = evaluated(
        converged(0, alpha), [[0, 0, 0], other], [11, 17], [0, 1], cell, PERIODIC,
        np.array([[1.0], [-1.0]]),
    )
    assert found.energies.sum() * distance == pytest.approx(-madelung, rel=1e-12)
    # Coulomb's law scales as the inverse of all lengths
    assert np.trace(found.virial) == pytest.approx(-found.energies.sum(), rel=1e-12)


def test_lattice_of_dipoles(evaluated):
    """Lorentz: a cubic lattice of parallel dipoles in a conductor, E = -2 pi/3 mu^2 / V."""
    moments = np.array([[0.0, 0.3, -0.5, 0.2]])
    found = evaluated(
        converged(1, 0.6), [[0.3, 0.1, 0.0]], [1], [0], 4 * np.eye(3), PERIODIC, moments
    )
    expected = -2 * np.pi / 3 * 0.38 / 64
    assert found.energies.sum() == pytest.approx(expected, rel=1e-12)


def test_constants_of_the_interaction_tensor():
    """The series of any radial function, with b_n = (2n - 1)!! of 1/R, is that of Coulomb."""
    from ase_fflux.forcefield.interactions.quasi_internal import _COEFFICIENT

    row, n, coefficient, _, _ = _radial_table()
    factorials = np.array([np.prod(np.arange(1, 2 * k, 2), initial=1) for k in n])
    total = np.zeros(ZERO_ROW)
    np.add.at(total, row, coefficient * factorials)
    np.testing.assert_allclose(total, _COEFFICIENT, rtol=1e-13, atol=1e-13)


def test_boys_functions_on_both_sides_of_the_switch():
    """Series and recursion meet: b_n of erf at alpha r just below and above."""
    r = np.full(32, np.sqrt(30.0))
    r[16:] *= 1 + 1e-13
    r[:16] *= 1 - 1e-13
    chain = np.empty((10, 32))
    plain(_excluded_chain)(r, 1.0, 9, chain)
    np.testing.assert_allclose(chain[:, 0], chain[:, -1], rtol=1e-10)


@pytest.mark.parametrize("rank", range(5))
def test_alpha_makes_no_difference(evaluated, rank):
    positions, moments = sites()
    found = [
        evaluated(converged(rank, alpha), positions, np.ones(7), MOLECULE, CELL, PERIODIC, moments)
        for alpha in (0.5, 0.75)
    ]
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-12 * np.abs(one).max())


@pytest.mark.parametrize("rank", range(5))
def test_central_differences(evaluated, central_differences, rank):
    """Forces, dE/dQ and stress at constant moments."""
    positions, moments = sites(1)
    moments[0, 0] += 0.04 if rank < 4 else 0.0  # with a background
    sum_ = converged(rank, 0.55)

    def energy(x, cell=CELL, q=moments):
        return evaluated(sum_, x, np.ones(7), MOLECULE, cell, PERIODIC, q).energies.sum()

    found = evaluated(sum_, positions, np.ones(7), MOLECULE, CELL, PERIODIC, moments)

    def compare(analytic, numerical):
        scale = np.abs(numerical).max()
        np.testing.assert_allclose(analytic, numerical, rtol=0, atol=1e-7 * scale)

    one = slice(2, 4)  # an atom of a molecule of three and its neighbour
    compare(found.gradient[one], central_differences(
        lambda y: energy(np.vstack([positions[:2], y, positions[4:]])), positions[one]
    ))
    def strained(e):
        e = np.eye(3) + 0.5 * (e + e.T)
        return energy(positions @ e, CELL @ e)

    compare(
        0.5 * (found.virial + found.virial.T),
        central_differences(strained, np.zeros((3, 3)), 2e-3),
    )
    other = sites(2)[1]
    other[:, n_moments(rank):] = 0.0
    slope = central_differences(lambda t: energy(positions, q=moments + t[0] * other), [0.0], 0.1)
    compare([np.vdot(found.potential, other)], slope)


def test_point_charges_imitate_moments(evaluated):
    """Sites with moments to l = 4 against the charges that they stand for: error of order 5."""
    rng = np.random.default_rng(3)
    charges, offsets = rng.normal(size=(2, 6)), rng.normal(size=(2, 6, 3))
    charges -= charges.mean(axis=1)[:, None]
    centres = np.array([[0.0, 0.0, 0.0], [4.0, 4.5, 5.0]])
    errors = []
    for size in (0.2, 0.1):
        points = (centres[:, None] + size * offsets).reshape(-1, 3)
        clusters = np.repeat([0, 1], 6)
        exact = evaluated(
            converged(0, 0.5), points, np.ones(12), clusters, CELL, PERIODIC,
            charges.reshape(-1, 1),
        ).energies.sum()
        found = evaluated(
            converged(4, 0.5), centres, np.ones(2), [0, 1], CELL, PERIODIC,
            moments_of_charges(charges, size * offsets, 4),
        ).energies.sum()
        errors.append(abs(found - exact) / abs(exact))
    assert errors[0] < 1e-3
    assert errors[1] < errors[0] / 6


def test_huge_cell_is_the_direct_sum(evaluated):
    """What is left of the images is that of the dipole of the cell in a conductor."""
    rng = np.random.default_rng(4)
    positions = np.array([[0.0, 0, 0], [1.5, 0.5, 0], [5.0, 1.0, 2.0], [6.0, 2.0, 1.0]])
    moments = 0.3 * rng.normal(size=(4, 25))
    moments[:, 0] -= moments[:, 0].mean()
    molecule = [0, 0, 1, 1]
    expected = direct_sum(positions, moments, molecule, rank=4)[0]
    # the images of a cell with quadrupoles remain as 1/L^5
    charge, dipole = moments[:, 0], moments[:, [2, 3, 1]]
    total = charge @ positions + dipole.sum(axis=0)
    # of a cube of dipoles in a conductor
    errors = []
    for length in (30.0, 60.0):
        sum_ = Electrostatics(rank=4, accuracy=1e-10)
        found = evaluated(
            on(sum_, positions, length), positions, np.ones(4), molecule,
            length * np.eye(3), PERIODIC, moments,
        ).energies.sum()
        lorentz = -2 * np.pi / 3 * total @ total / length**3
        errors.append(abs(found - expected - lorentz))
    assert errors[0] < 3e-5
    assert errors[1] < errors[0] / 20


def on(electrostatics, positions, length):
    from ase_fflux.forcefield.interactions.base import System

    n = len(positions)
    return electrostatics.on(System(
        positions, np.ones(n), np.zeros(n), length * np.eye(3), np.ones(3, dtype=bool)
    ))


def test_a_net_charge_is_said(evaluated):
    with pytest.warns(FFLUXWarning, match=r"net charge of \+1.0 e: a uniform background"):
        found = evaluated(
            converged(0, 0.6), [[0.0, 0, 0]], [1], [0], 5 * np.eye(3), PERIODIC, np.ones((1, 1))
        )
    # an ion in a cubic box of its background (Wigner)
    assert found.energies.sum() == pytest.approx(-2.837297479480619 / 2 / 5, rel=1e-12)


def test_what_is_refused(chiral_model, evaluated):
    with pytest.raises(FFLUXError, match="accuracy 2.0 of the electrostatics"):
        ForceField([chiral_model], accuracy=2.0)
    positions, moments = sites()
    for choice, pbc, message in [
        ({"rank": 1}, (True, True, False), "is a slab"),
        ({"rank": 1}, (False, True, False), "is a wire"),
        ({"level": 3}, PERIODIC, "level 3 is for clusters.* give rank=2"),
    ]:
        with pytest.raises(FFLUXError, match=message):
            evaluated(Electrostatics(**choice), positions, np.ones(7), MOLECULE, CELL, pbc, moments)
    with pytest.raises(FFLUXError, match="has no volume"):
        evaluated(
            Electrostatics(rank=1), positions, np.ones(7), MOLECULE, 0 * CELL, PERIODIC, moments
        )
    positions[5] = positions[6]
    with pytest.raises(GeometryError, match=r"atom 6 \(H\) and atom 7 \(H\) .* on one spot"):
        evaluated(
            converged(1, 0.6), positions, np.ones(7, dtype=int), MOLECULE, CELL, PERIODIC, moments
        )


@pytest.mark.filterwarnings("ignore:the cell has a net charge")
def test_flexible_moments_of_a_periodic_system(
    periodic, central_differences, chiral_model, methyl_model
):
    """Forces and stress of models: moments and frames move with the atoms."""
    numbers, x, cell = periodic(np.random.default_rng(5), methyl_model, chiral_model)
    forcefield = ForceField([chiral_model, methyl_model], accuracy=1e-12)
    pbc = np.ones(3, dtype=bool)
    assignment = forcefield.match(x, numbers, cell, pbc)

    def energy(x, cell=cell):
        return forcefield.evaluate(x, numbers, cell, pbc, assignment=assignment).energy

    found = forcefield.evaluate(x, numbers, cell, pbc, assignment=assignment)
    assert found.terms["electrostatic"] != 0.0
    numerical = -central_differences(lambda y: energy(np.vstack([y, x[1:]])), x[:1])
    scale = np.abs(found.forces).max()
    np.testing.assert_allclose(found.forces[:1], numerical, rtol=0, atol=1e-6 * scale)

    def strained(t):
        e = np.eye(3) + t[0] * np.array([[0.5, 0.2, 0.1], [0.2, -0.3, 0.4], [0.1, 0.4, 0.8]])
        return energy(found.positions @ e, cell @ e)

    slope = central_differences(strained, [0.0], 2e-3)[0]
    direction = np.array([[0.5, 0.2, 0.1], [0.2, -0.3, 0.4], [0.1, 0.4, 0.8]])
    expected = np.vdot(found.virial, direction)
    assert slope == pytest.approx(expected, rel=1e-6)
