"""Sums on a mesh agree with plain ones to the accuracy that is asked for, and with themselves."""

import numpy as np
import pytest

from ase_fflux.forcefield.interactions.base import _PAIRS, System
from ase_fflux.forcefield.interactions.cartesian import (
    POWERS,
    RAISED,
    TO_MONOMIALS,
    n_monomials,
    substitute,
)
from ase_fflux.forcefield.interactions.electrostatics import Electrostatics
from ase_fflux.forcefield.interactions.ewald import Ewald
from ase_fflux.forcefield.interactions.neighbours import NeighbourList
from ase_fflux.forcefield.interactions.particle_mesh import ParticleMesh
from ase_fflux.forcefield.interactions.tuning import mesh_parameters
from ase_fflux.model.multipoles import solid_harmonics

PERIODIC = (True,) * 3
CELL = np.array([[21.0, 0.0, 0.0], [3.0, 19.0, 0.0], [-4.0, 2.0, 22.0]])
N = 64
MOLECULE = np.arange(N) // 2


def liquid(seed=0):
    """Pairs of atoms on a disturbed lattice: neutral molecules with all moments."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*[np.arange(4)] * 2, [0, 0.55, 2, 2.55], indexing="ij"), axis=-1)
    x = (grid.reshape(-1, 3) / 4 + rng.uniform(-0.03, 0.03, (N, 3))) @ CELL
    size = np.repeat([1.0, 0.4, 0.4, 0.3, 0.3], [1, 3, 5, 7, 9])
    moments = size * rng.normal(size=(N, 25))
    moments[:, 0] -= np.repeat(moments[:, 0].reshape(-1, 2).mean(axis=1), 2)
    return x, moments


@pytest.mark.parametrize("accuracy", [1e-4, 1e-6, 1e-9])
@pytest.mark.parametrize("rank", range(5))
def test_agrees_with_the_plain_sum(evaluated, rank, accuracy):
    x, moments = liquid()
    volume = np.linalg.det(CELL)
    mesh = ParticleMesh(rank, *mesh_parameters(N, volume, rank, accuracy)[1])
    plain = Ewald(rank, 0.4, 15.5, 5.2)
    common = (x, np.ones(N), MOLECULE, CELL, PERIODIC, moments)
    found, expected = evaluated(mesh, *common), evaluated(plain, *common)
    energy = expected.energies.sum()
    assert abs(found.energies.sum() - energy) < accuracy * abs(energy)
    for name in ("gradient", "potential"):
        one, other = getattr(found, name), getattr(expected, name)
        assert np.abs(one - other).max() < accuracy * np.abs(other).max()
    assert np.abs(found.virial - expected.virial).max() < 10 * accuracy * abs(energy)


@pytest.mark.parametrize("rank", range(5))
def test_central_differences(evaluated, central_differences, rank):
    """However coarse the mesh, forces, dE/dQ and stress are derivatives of the energy."""
    x, moments = liquid(1)
    mesh = ParticleMesh(rank, 0.5, 15.0, 1.5, 12)

    def energy(y, cell=CELL, q=moments):
        return evaluated(mesh, y, np.ones(N), MOLECULE, cell, PERIODIC, q).energies.sum()

    found = evaluated(mesh, x, np.ones(N), MOLECULE, CELL, PERIODIC, moments)
    numerical = central_differences(lambda y: energy(np.vstack([y, x[1:]])), x[:1], 2e-3)
    scale = np.abs(found.gradient).max()
    np.testing.assert_allclose(found.gradient[:1], numerical, rtol=0, atol=1e-6 * scale)
    direction = np.array([[0.5, 0.2, 0.1], [0.2, -0.3, 0.4], [0.1, 0.4, 0.8]])

    def strained(t):
        e = np.eye(3) + t[0] * direction
        return energy(x @ e, CELL @ e)

    # so small that the number of mesh points stays the same
    slope = central_differences(strained, [0.0], 1e-4)[0]
    assert mesh.shape(CELL) == mesh.shape(CELL @ (np.eye(3) + 4e-4 * direction))
    assert np.vdot(found.virial, direction) == pytest.approx(slope, rel=1e-6)
    other = liquid(2)[1]
    slope = central_differences(lambda t: energy(x, q=moments + t[0] * other), [0.0], 0.1)
    assert np.vdot(found.potential, other) == pytest.approx(slope[0], rel=1e-8)


def test_atoms_on_the_faces_of_the_cell(evaluated):
    """Positions that are whole numbers of mesh points, and those outside of the cell."""
    x, moments = liquid(3)
    mesh = ParticleMesh(2, 0.35, 11.0, 1.0, 8)
    x[0] = 0.0
    x[1] -= x[1] @ np.linalg.inv(CELL) * [0, 0, 1] @ CELL
    one = evaluated(mesh, x, np.ones(N), MOLECULE, CELL, PERIODIC, moments)
    moved = x - 1e-17
    moved[MOLECULE == 1] += CELL[0] - 2 * CELL[2]
    other = evaluated(mesh, moved, np.ones(N), MOLECULE, CELL, PERIODIC, moments)
    np.testing.assert_allclose(one.gradient, other.gradient, atol=1e-11)


def test_solid_harmonics_are_polynomials():
    x = np.random.default_rng(0).normal(size=(5, 3))
    monomials = np.prod(x[:, None] ** POWERS[: n_monomials(4)], axis=2)
    factorials = np.repeat([1, 1, 3, 15, 105], [1, 3, 5, 7, 9])
    np.testing.assert_allclose(
        monomials @ TO_MONOMIALS.T, solid_harmonics(x, 4) / factorials, rtol=0, atol=1e-13
    )


def test_substitution():
    rng = np.random.default_rng(1)
    matrix, x = rng.normal(size=(3, 3)), rng.normal(size=3)
    change = np.zeros((len(POWERS), len(POWERS)))
    substitute(matrix, 5, POWERS, RAISED, change)
    np.testing.assert_allclose(
        change @ np.prod(x**POWERS, axis=1), np.prod((matrix @ x) ** POWERS, axis=1), rtol=1e-10
    )


def test_large_systems_are_summed_on_a_mesh():
    def chosen(n, length):
        return Electrostatics(rank=2).on(System(
            np.zeros((n, 3)), np.ones(n), np.zeros(n), length * np.eye(3), np.ones(3, dtype=bool)
        ))

    assert type(chosen(3, 6.0)) is Ewald
    assert type(chosen(1029, 41.0)) is ParticleMesh
    # the same parameters while a cell breathes
    assert chosen(1029, 41.0) is chosen(1029, 41.1)


@pytest.mark.parametrize("rank", [0, 1, 3, 4])
def test_threads_change_nothing(rank):
    """To the last bit, on any number of them."""
    x, moments = liquid(4)
    mesh = ParticleMesh(rank, 0.5, 30.0, 1.5, 12)
    pbc = np.ones(3, dtype=bool)
    pairs = NeighbourList().pairs(x, MOLECULE, CELL, pbc, 30.0)
    assert len(pairs.first) > 2 * _PAIRS
    one, *others = (
        mesh.evaluate(System(x, np.ones(N), MOLECULE, CELL, pbc, moments, pairs, threads=threads))
        for threads in (1, 2, 5)
    )
    for other in others:
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)
