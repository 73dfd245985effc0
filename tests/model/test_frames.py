import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ase_fflux.base.errors import GeometryError
from ase_fflux.base.jit import njit
from ase_fflux.model import frames
from ase_fflux.model.frames import (
    features,
    features_and_frames,
    geometry_from_features,
    n_features,
)


@njit  # kernels of kernels cannot be called from Python
def local_features(coordinates, alf, atom, azimuth, ext, frame, zeta):
    return frames.local_features(coordinates, alf, atom, azimuth, ext, frame, zeta)


@njit
def add_frame_adjoint(coordinates, alf, atom, ext, frame, zeta, adjoint, torque, gradient):
    frames.add_frame_adjoint(coordinates, alf, atom, ext, frame, zeta, adjoint, torque, gradient)


ALF = np.array([[0, 1, 2], [1, 0, 3], [2, 4, 0], [3, 1, 4], [4, 2, 3]])


def geometry(seed, n=5):
    return 2.5 * np.random.default_rng(seed).normal(size=(n, 3))


def rotation(rng):
    q, r = np.linalg.qr(rng.normal(size=(3, 3)))
    q *= np.sign(np.diag(r))
    return q * np.linalg.det(q)


seeds = st.integers(0, 2**32 - 1)


@given(seeds, st.integers(0, 4))
@settings(deadline=None)
def test_features_are_the_published_definition(seed, atom):
    r = geometry(seed)
    (f,), (frame,) = features_and_frames(r[None], ALF, atom)
    a, ix, iy = r[ALF[atom]]
    x = (ix - a) / np.linalg.norm(ix - a)
    y = (iy - a) - (iy - a) @ x * x
    y /= np.linalg.norm(y)
    np.testing.assert_allclose(frame, [x, y, np.cross(x, y)], atol=1e-9)
    expected = [np.linalg.norm(ix - a), np.linalg.norm(iy - a)]
    expected.append(np.arccos(x @ (iy - a) / expected[1]))
    for other in sorted(set(range(5)) - set(ALF[atom])):
        zeta = frame @ (r[other] - a)
        distance = np.linalg.norm(zeta)
        expected += [distance, np.arccos(zeta[2] / distance), np.arctan2(zeta[1], zeta[0])]
    np.testing.assert_allclose(f, expected, atol=1e-7)


@given(seeds, st.integers(0, 4))
@settings(deadline=None)
def test_features_do_not_change_under_rotation_and_translation(seed, atom):
    rng = np.random.default_rng(seed)
    r = geometry(seed)
    moved = r @ rotation(rng).T + rng.normal(size=3)
    np.testing.assert_allclose(
        features(moved[None], ALF, atom), features(r[None], ALF, atom), atol=1e-9
    )


def test_mirror_image_turns_the_sign_of_phi():
    r = geometry(3)
    f, mirrored = features(np.array([r, r * [1, 1, -1]]), ALF, 0)
    sign = np.array([1, 1, 1, 1, 1, -1, 1, 1, -1])
    # theta is measured from z = x cross y, which a reflection turns against the atoms
    np.testing.assert_allclose(np.cos(f[[4, 7]]), -np.cos(mirrored[[4, 7]]), atol=1e-12)
    keep = [0, 1, 2, 3, 6]
    np.testing.assert_allclose(f[keep], (sign * mirrored)[keep], atol=1e-12)


@given(seeds, st.integers(0, 4))
@settings(deadline=None)
def test_geometry_from_features_is_the_inverse(seed, atom):
    f = features(geometry(seed)[None], ALF, atom)
    back = geometry_from_features(f[0], ALF[atom], 5)
    np.testing.assert_allclose(features(back[None], ALF, atom), f, atol=1e-9)


@given(seeds, st.integers(0, 4))
@settings(deadline=None)
def test_adjoint_of_features_and_frame(seed, atom):
    """Central differences of a linear function of features, their images and the frame."""
    rng = np.random.default_rng(seed)
    r, n = geometry(seed), n_features(5)
    weights = rng.normal(size=3 * n)
    weights[n:] *= np.tile(np.isin(np.arange(n), [5, 8]), 2)
    turn = rng.normal(size=(3, 3))

    def evaluate(coordinates):
        ext, frame, zeta = np.zeros(3 * n), np.zeros((3, 3)), np.zeros((5, 3))
        assert local_features(coordinates, ALF, atom, True, ext, frame, zeta) == 0
        return ext, frame, zeta

    ext, frame, zeta = evaluate(r)
    # dE = sum turn o dC, and rows of C turn as dc = omega x c
    torque = frame @ sum(np.cross(c, t) for c, t in zip(frame, turn, strict=True))
    gradient = np.zeros((5, 3))
    add_frame_adjoint(r, ALF, atom, ext, frame, zeta, weights, torque, gradient)
    numeric = np.zeros((5, 3))
    h = 1e-5
    for i in np.ndindex(5, 3):
        step = np.zeros((5, 3))
        step[i] = h
        (e1, c1, _), (e0, c0, _) = evaluate(r + step), evaluate(r - step)
        d_ext = e1 - e0
        d_ext[[5, 8]] = np.angle(np.exp(1j * d_ext[[5, 8]]))
        numeric[i] = (weights @ d_ext + (turn * (c1 - c0)).sum()) / (2 * h)
    scale = np.abs(numeric).max()
    np.testing.assert_allclose(gradient, numeric, atol=1e-5 * scale)


def test_diatomic_has_one_feature():
    alf = np.array([[0, 1, -1], [1, 0, -1]])
    r = np.array([[[0.0, 0, 0], [0, 0, 1.7]]])
    assert features(r, alf, 0).tolist() == [[1.7]]
    np.testing.assert_allclose(geometry_from_features([1.7], alf[0], 2), [[0, 0, 0], [1.7, 0, 0]])


@pytest.mark.parametrize(
    "positions, words",
    [
        ([[0, 0, 0], [1, 0, 0], [2, 0, 0], [0, 1, 1]], "atom 1 in geometry 1 is linear"),
        ([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 0]], "on the spot of atom 1 in"),
        ([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 2]], "z-axis of the local frame of atom 1 in"),
    ],
)
def test_geometries_without_a_value_are_refused(positions, words):
    with pytest.raises(GeometryError, match=words):
        features(np.array([positions], dtype=float), np.array([[0, 1, 2]] * 4), 0)


@given(seeds, st.integers(0, 4))
@settings(deadline=None)
def test_fast_features_are_those_of_the_definition(seed, atom):
    r, n = geometry(seed), n_features(5)
    ext, frame, zeta = np.zeros(3 * n), np.zeros((3, 3)), np.zeros((5, 3))
    assert local_features(r, ALF, atom, True, ext, frame, zeta) == 0
    (f,), (expected,) = features_and_frames(r[None], ALF, atom)
    np.testing.assert_allclose(ext[:n], f, atol=1e-9)
    np.testing.assert_allclose(frame, expected, atol=1e-9)
    phi = [5, 8]
    np.testing.assert_allclose(ext[[n + h for h in phi]], np.cos(f[phi]), atol=1e-9)
    np.testing.assert_allclose(ext[[2 * n + h for h in phi]], np.sin(f[phi]), atol=1e-9)
