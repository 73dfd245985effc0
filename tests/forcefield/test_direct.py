import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from ase_fflux.base.errors import FFLUXError, GeometryError
from ase_fflux.base.units import BOHR, HARTREE_KJ
from ase_fflux.forcefield.interactions.direct import DirectSum, direct_sum
from ase_fflux.model.frames import features_and_frames
from ase_fflux.model.multipoles import (
    MOMENT_NAMES,
    moment_rank,
    moments_of_charges,
    n_moments,
    rotation_matrices,
    solid_harmonics,
    to_global,
    torque,
)

SELECTIONS = [{"level": level} for level in range(1, 10)] + [{"rank": rank} for rank in range(5)]
RANKS = np.array([moment_rank(name) for name in MOMENT_NAMES])
MOLECULE = np.array([7, 0, 0, 3, 0, 7, 3])  # neither sorted nor consecutive


def sites(seed, molecule=MOLECULE, width=25):
    rng = np.random.default_rng(seed)
    molecule = np.asarray(molecule)
    while True:
        positions = rng.uniform(-1, 1, size=(len(molecule), 3)) * 4 * len(molecule) ** (1 / 3)
        distances = np.linalg.norm(positions[:, None] - positions, axis=2)
        if np.min(distances + 10 * np.eye(len(molecule))) > 1.5:
            return positions, rng.normal(size=(len(molecule), width)), molecule


def central_differences(function, x, h):
    out = np.empty_like(x)
    for index in np.ndindex(x.shape):
        values = []
        for step in (2 * h, h, -h, -2 * h):
            moved = x.copy()
            moved[index] += step
            values.append(function(moved))
        out[index] = (-values[0] + 8 * values[1] - 8 * values[2] + values[3]) / (12 * h)
    return out


def turned(moments, rotation):
    matrices, out = np.zeros((5, 9, 9)), np.zeros_like(moments)
    rotation_matrices(np.ascontiguousarray(rotation.T), 4, matrices)
    for q, new in zip(moments, out, strict=True):
        to_global(matrices, 4, q, new)
    return out


def reference_energy(positions, moments, molecule, interact):
    """Independent of the implementation: solid harmonics of Cartesian derivatives.

    E = sum Q_A Q_B R_l1m1(-grad) R_l2m2(grad) (1/r) / [(2 l1 - 1)!! (2 l2 - 1)!!].
    """
    def polynomials(l):  # noqa: E741
        """Solid harmonics of rank l as {(i, j, k): coefficient of x^i y^j z^k}."""
        powers = [p for p in itertools.product(range(l + 1), repeat=3) if sum(p) == l]
        points = np.random.default_rng(0).normal(size=(4 * len(powers), 3))
        basis = np.prod(points[:, None] ** np.array(powers), axis=2)
        values = solid_harmonics(points, l)[:, l * l :]
        return np.array(powers), np.linalg.lstsq(basis, values, rcond=None)[0]

    table = [polynomials(l) for l in range(5)]  # noqa: E741

    def derivative(r, n):
        """d^n (1/|r|) for n = (i, j, k), the sum over contractions of a Legendre tensor."""
        total, order, r2 = 0.0, sum(n), r @ r
        for t in itertools.product(*(range(k // 2 + 1) for k in n)):
            term = (-1.0) ** (order - sum(t))
            term *= math.prod(range(1, 2 * (order - sum(t)), 2))
            for k, a in zip(n, t, strict=True):
                term *= math.factorial(k) / (2**a * math.factorial(a) * math.factorial(k - 2 * a))
            powers = np.array(n) - 2 * np.array(t)
            total += term * np.prod(r**powers) / r2 ** (order - sum(t) + 0.5)
        return total

    energy = 0.0
    for a, b in itertools.combinations(range(len(positions)), 2):
        if molecule[a] == molecule[b]:
            continue
        r = positions[b] - positions[a]
        for l1, l2 in itertools.product(range(5), repeat=2):
            if not interact(l1, l2):
                continue
            (p1, c1), (p2, c2) = table[l1], table[l2]
            d = np.array([[derivative(r, tuple(u + v)) for v in p2] for u in p1])
            scale = math.prod(range(1, 2 * l1, 2)) * math.prod(range(1, 2 * l2, 2))
            left = c1 @ moments[a, l1 * l1 : (l1 + 1) ** 2]
            right = c2 @ moments[b, l2 * l2 : (l2 + 1) ** 2]
            energy += (-1) ** l1 * left @ d @ right / scale
    return energy


def test_charges_are_coulombs_law():
    energy, gradient, potential = direct_sum(
        np.array([[0, 0, 0], [0, 3.0, 4.0]]), np.array([[2.0], [-3.0]]), [0, 1], rank=0
    )
    assert energy == pytest.approx(-6 / 5)
    assert potential[:, 0] == pytest.approx([-3 / 5, 2 / 5])
    assert gradient[1] == pytest.approx(np.array([0, 3, 4]) * 6 / 125)


@pytest.mark.parametrize("selection", SELECTIONS)
def test_energy_of_each_level_and_rank_by_cartesian_derivatives(selection):
    def interact(l1, l2):
        if "level" in selection:
            return l1 + l2 + 1 <= selection["level"]
        return max(l1, l2) <= selection["rank"]

    positions, moments, molecule = sites(1, [0, 0, 1])
    expected = reference_energy(positions, moments, molecule, interact)
    energy = direct_sum(positions, moments, molecule, **selection)[0]
    assert energy == pytest.approx(expected, rel=1e-10)


def test_converges_to_point_charges():
    """Ranks to 4 about two sites leave an error of the fifth power of the clusters' size."""
    rng = np.random.default_rng(2)
    charges, offsets = rng.normal(size=(2, 5)), rng.normal(size=(2, 5, 3))
    centres = np.array([[0, 0, 0], [3.0, 4.0, -5.0]])
    errors = []
    for size in (0.4, 0.2):
        moments = moments_of_charges(charges, size * offsets, 4)
        points = centres[:, None] + size * offsets
        distances = np.linalg.norm(points[0][:, None] - points[1], axis=2)
        exact = charges[0] @ (1 / distances) @ charges[1]
        errors.append(abs(direct_sum(centres, moments, [0, 1], level=5)[0] - exact))
    assert errors[0] < 1e-3
    assert math.log2(errors[0] / errors[1]) == pytest.approx(5, abs=0.6)


@pytest.mark.parametrize("selection", SELECTIONS)
def test_derivatives(selection):
    positions, moments, molecule = sites(3)
    _, gradient, potential = direct_sum(positions, moments, molecule, **selection)
    numerical = central_differences(
        lambda x: direct_sum(x, moments, molecule, **selection)[0], positions, 2e-3
    )
    assert gradient == pytest.approx(numerical, abs=1e-8 * abs(gradient).max())
    numerical = central_differences(
        lambda q: direct_sum(positions, q, molecule, **selection)[0], moments, 1e-2
    )
    assert potential == pytest.approx(numerical, abs=1e-10 * abs(potential).max())


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.sampled_from(SELECTIONS))
def test_invariances(seed, selection):
    positions, moments, molecule = sites(seed)
    energy, gradient, potential = direct_sum(positions, moments, molecule, **selection)
    scale = abs(potential * moments).sum()

    rotation = Rotation.random(random_state=seed).as_matrix()
    new = direct_sum(
        positions @ rotation.T + [1, 2, 3], turned(moments, rotation), molecule, **selection
    )
    assert new[0] == pytest.approx(energy, abs=1e-12 * scale)
    assert new[1] == pytest.approx(gradient @ rotation.T, abs=1e-11 * scale)
    assert new[2] == pytest.approx(turned(potential, rotation), abs=1e-11 * scale)

    order = np.random.default_rng(seed).permutation(len(positions))
    new = direct_sum(positions[order], moments[order], molecule[order], **selection)
    assert new[0] == pytest.approx(energy, abs=1e-12 * scale)
    assert new[1] == pytest.approx(gradient[order], abs=1e-11 * scale)
    assert new[2] == pytest.approx(potential[order], abs=1e-11 * scale)

    assert gradient.sum(axis=0) == pytest.approx(np.zeros(3), abs=1e-12 * scale)
    torques = np.cross(positions, gradient)
    for site in range(len(positions)):
        out = np.empty(3)
        torque(potential[site], moments[site], 4, out)
        torques[site] += out
    assert torques.sum(axis=0) == pytest.approx(np.zeros(3), abs=1e-11 * scale)


@pytest.mark.parametrize("direction", [*np.eye(3), *-np.eye(3)])
@pytest.mark.parametrize("tilt", [0.0, 1e-160, 1e-9])
def test_no_direction_is_singular(direction, tilt):
    """Also along the z-axis, where the azimuth of the pair has no value."""
    moments = sites(5, [0, 1])[1]
    rotation = Rotation.from_rotvec([0.3, -0.5, 0.9]).as_matrix()
    positions = np.array([[0, 0, 0], 3 * direction + tilt])
    energy, gradient, potential = direct_sum(positions, moments, [0, 1], rank=4)
    turned_energy, turned_gradient, turned_potential = direct_sum(
        positions @ rotation.T, turned(moments, rotation), [0, 1], rank=4
    )
    assert energy == pytest.approx(turned_energy, rel=1e-10)
    assert gradient @ rotation.T == pytest.approx(turned_gradient, rel=1e-8, abs=1e-10)
    assert turned(potential, rotation) == pytest.approx(turned_potential, rel=1e-8, abs=1e-10)


@pytest.mark.parametrize("molecule", [np.arange(90) // 3, np.arange(90) % 2, np.arange(90) // 40])
def test_large_systems_are_sums_of_their_pairs(molecule):
    """Blocks of pairs of the implementation must not show."""
    positions, moments, molecule = sites(6, molecule, 4)
    energy, gradient, potential = direct_sum(positions, moments, molecule, rank=1)
    charge, dipole = moments[:, 0], moments[:, [2, 3, 1]]
    r = positions - positions[:, None]
    distance = np.linalg.norm(r, axis=2) + np.eye(len(r))
    mask = molecule != molecule[:, None]
    field = np.where(mask, 1 / distance, 0)
    potentials = field @ charge - np.einsum("ijk,jk,ij->i", r, dipole, field**3)
    assert potential[:, 0] == pytest.approx(potentials, abs=1e-11)
    assert energy == pytest.approx(0.5 * np.sum(potential * moments))
    for m, n in ((0, 1), (5, 60), (88, 89), (30, 75)):
        moved = positions.copy()
        step = 1e-4 * (positions[n] - positions[m])
        values = []
        for sign in (1, -1):
            moved[m] = positions[m] + sign * step
            values.append(direct_sum(moved, moments, molecule, rank=1)[0])
        assert gradient[m] @ step == pytest.approx((values[0] - values[1]) / 2, rel=1e-4, abs=1e-11)


@pytest.mark.parametrize("rank", range(5))
def test_only_as_many_moments_as_needed(rank):
    positions, moments, molecule = sites(7)
    full = direct_sum(positions, moments, molecule, rank=rank)
    k = n_moments(rank)
    cut = direct_sum(positions, moments[:, :k], molecule, rank=rank)
    assert cut[0] == full[0]
    assert cut[2].shape == (len(positions), k)
    assert np.array_equal(full[2][:, :k], cut[2])
    assert not full[2][:, k:].any()


@pytest.mark.parametrize("n", [0, 1, 3])
def test_one_molecule_has_none(n):
    energy, gradient, potential = direct_sum(
        np.zeros((n, 3)), np.ones((n, 9)), np.zeros(n, dtype=int), level=3
    )
    assert energy == 0.0
    assert gradient.shape == (n, 3) and not gradient.any()
    assert potential.shape == (n, 9) and not potential.any()


def test_published_water_dimer(reference):
    data = np.load(reference / "water343" / "expected_dimer_cluster_L3.npz")
    positions = data["positions_ang"] / BOHR
    local = data["local_spherical_moments_au"]  # in the order of MOMENT_NAMES, q30 is zero
    alf = np.array([[0, 1, 2], [1, 0, 2], [2, 0, 1]])
    moments = np.zeros((6, 9))
    matrices = np.zeros((5, 9, 9))
    for molecule, atom in itertools.product(range(2), range(3)):
        frames = features_and_frames(positions[None, 3 * molecule : 3 * molecule + 3], alf, atom)[1]
        rotation_matrices(frames[0], 2, matrices)
        site = 3 * molecule + atom
        to_global(matrices, 2, local[site, :9].copy(), moments[site])
    energy = direct_sum(positions, moments, [0, 0, 0, 1, 1, 1], level=3)[0]
    assert energy * HARTREE_KJ == pytest.approx(-30.4203718, abs=2e-5)


@pytest.mark.parametrize("shift", [0.0, 1e-6])
def test_coincident_atoms(evaluated, shift):
    positions, moments, molecule = sites(8)
    positions[3] = positions[1] + shift
    with pytest.raises(GeometryError, match="on one spot"):
        direct_sum(positions, moments, molecule, rank=2)
    numbers = np.arange(1, 1 + len(positions))
    with pytest.raises(GeometryError, match=r"atom \d \(He\) and atom \d \(Be\) of different"):
        evaluated(DirectSum(rank=2), positions, numbers, molecule, moments=moments)
    positions[3] += 2.0
    positions[2] = positions[1]  # of the same molecule: does not matter here
    assert math.isfinite(direct_sum(positions, moments, molecule, rank=2)[0])


@pytest.mark.parametrize("where", ["positions", "moments"])
def test_not_finite(where):
    positions, moments, molecule = sites(9)
    (positions if where == "positions" else moments)[2, 0] = np.nan
    with pytest.raises(GeometryError, match="not finite"):
        direct_sum(positions, moments, molecule, rank=2)


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        ({}, "either the level"),
        ({"level": 3, "rank": 2}, "either the level"),
        ({"level": 0}, "level 0 .* from 1 to 9"),
        ({"level": 10}, "level 10 .* from 1 to 9"),
        ({"rank": -1}, "rank -1 .* from 0 to 4"),
        ({"rank": 5}, "rank 5 .* from 0 to 4"),
        ({"rank": 3}, "16 moments .* up to q33s; there are 9"),
        ({"level": 5}, "25 moments .* up to q44s; there are 9"),
    ],
)
def test_selection_errors(selection, message):
    positions, moments, molecule = sites(10, width=9)
    with pytest.raises(FFLUXError, match=message):
        direct_sum(positions, moments, molecule, **selection)
