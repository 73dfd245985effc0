import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from scipy.special import sph_harm_y

from ase_fflux.model.multipoles import (
    MAX_RANK,
    MOMENT_NAMES,
    moment_rank,
    moments_of_charges,
    n_moments,
    rotation_matrices,
    solid_harmonics,
    spherical_from_cartesian,
    to_global,
    to_local,
    torque,
)

quaternions = st.lists(st.floats(-1, 1), min_size=4, max_size=4).filter(
    lambda q: np.linalg.norm(q) > 1e-3
)
angles = st.lists(st.floats(-4, 4), min_size=3, max_size=3)


def matrices(frame):
    rotation = np.zeros((5, 9, 9))
    rotation_matrices(np.ascontiguousarray(frame), MAX_RANK, rotation)
    return rotation


def turn(frame, moments):
    out = np.empty_like(moments)
    to_global(matrices(frame), MAX_RANK, moments, out)
    return out


def cluster(seed, n=6):
    rng = np.random.default_rng(seed)
    return rng.normal(size=n), rng.normal(size=(n, 3))


def test_names():
    assert len(MOMENT_NAMES) == 25
    assert MOMENT_NAMES[:10] == (
        "q00", "q10", "q11c", "q11s", "q20", "q21c", "q21s", "q22c", "q22s", "q30",
    )
    assert MOMENT_NAMES[-1] == "q44s"
    assert [moment_rank(name) for name in MOMENT_NAMES] == sorted(
        l for l in range(5) for _ in range(2 * l + 1)  # noqa: E741
    )
    assert [n_moments(rank) for rank in range(5)] == [1, 4, 9, 16, 25]


def test_solid_harmonics_are_racah_normalised_without_condon_shortley_phase():
    points = np.random.default_rng(1).normal(size=(20, 3))
    r = np.linalg.norm(points, axis=1)
    theta, phi = np.arccos(points[:, 2] / r), np.arctan2(points[:, 1], points[:, 0])
    for name, value in zip(MOMENT_NAMES, solid_harmonics(points, 4).T, strict=True):
        l, m = int(name[1]), int(name[2])  # noqa: E741
        racah = r**l * np.sqrt(4 * np.pi / (2 * l + 1)) * sph_harm_y(l, m, theta, phi)
        racah *= (-1) ** m * (np.sqrt(2) if m else 1)
        assert value == pytest.approx(racah.imag if name.endswith("s") else racah.real, abs=1e-12)


@pytest.mark.parametrize("rank", range(5))
def test_lower_rank_is_the_beginning_of_a_higher_one(rank):
    charges, positions = cluster(2)
    full = moments_of_charges(charges, positions, 4)
    assert moments_of_charges(charges, positions, rank) == pytest.approx(full[: n_moments(rank)])


@settings(deadline=None, max_examples=50)
@given(quaternions)
def test_rotation_turns_moments_as_it_turns_the_charges(quaternion):
    frame = Rotation.from_quat(quaternion).as_matrix()
    charges, positions = cluster(3)
    local = moments_of_charges(charges, positions, 4)
    turned = moments_of_charges(charges, positions @ frame, 4)
    assert turn(frame, local) == pytest.approx(turned, abs=1e-10)
    back = np.empty(25)
    to_local(matrices(frame), 4, turned, back)
    assert back == pytest.approx(local, abs=1e-10)


@settings(deadline=None, max_examples=50)
@given(quaternions, quaternions)
def test_rotation_matrices_are_orthogonal_and_a_representation(one, two):
    one, two = (Rotation.from_quat(q).as_matrix() for q in (one, two))
    d1, d2, d21 = matrices(one), matrices(two), matrices(two @ one)
    for l in range(5):  # noqa: E741
        size = 2 * l + 1
        a, b, ab = (d[l, :size, :size] for d in (d1, d2, d21))
        assert a @ a.T == pytest.approx(np.eye(size), abs=1e-12)
        assert a @ b == pytest.approx(ab, abs=1e-12)


def test_lower_rank_rotates_only_what_it_needs():
    rotation = np.full((5, 9, 9), np.nan)
    rotation_matrices(np.eye(3), 2, rotation)
    assert rotation[2, :5, :5] == pytest.approx(np.eye(5))
    assert np.isnan(rotation[3]).all()


@settings(deadline=None, max_examples=20)
@given(angles, st.integers(0, 4))
def test_torque_is_the_derivative_of_rotation(angle, rank):
    rng = np.random.default_rng(4)
    k = n_moments(rank)
    potential = rng.normal(size=k)
    moments = turn(Rotation.from_rotvec(angle).as_matrix(), rng.normal(size=25))
    out = np.empty(3)
    torque(potential, moments[:k], rank, out)
    h = 1e-5
    for axis in range(3):
        plus, minus = (
            # rows of the frame are the turned axes
            turn(Rotation.from_rotvec(s * h * np.eye(3)[axis]).as_matrix().T, moments)[:k]
            for s in (1, -1)
        )
        assert out[axis] == pytest.approx(potential @ (plus - minus) / (2 * h), abs=1e-7)


def test_spherical_from_cartesian():
    charges, positions = cluster(5)
    dipole = charges @ positions
    outer = np.einsum("ia,ib->iab", positions, positions)
    trace = np.einsum("iaa->i", outer)[:, None, None] * np.eye(3)
    quadrupole = np.einsum("i,iab->ab", charges, 1.5 * outer - 0.5 * trace)
    expected = moments_of_charges(charges, positions, 2)[1:]
    assert spherical_from_cartesian(dipole, quadrupole) == pytest.approx(expected, abs=1e-12)
    stacked = spherical_from_cartesian(np.stack([dipole] * 4), np.stack([quadrupole] * 4))
    assert stacked.shape == (4, 8)
    assert stacked[3] == pytest.approx(expected, abs=1e-12)
