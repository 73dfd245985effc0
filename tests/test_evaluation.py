import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ase_fflux.errors import GeometryError
from ase_fflux.evaluation import _exponentials, check, pack, sweep
from ase_fflux.frames import features, n_features
from ase_fflux.gp.kernels import Kernel, azimuths
from ase_fflux.gp.process import GaussianProcess
from ase_fflux.molecule import AtomProcess

# every azimuth is at least 1.1 away from the cut at pi
SHAPE = np.array(
    [[0, 0, 0], [1.2, 1.1, 1.3], [1.6, -1.5, -1.5], [-1.9, 2.4, -1.7], [-2.4, -2.0, 2.3]]
)
SPREAD = 0.12
ALF = np.array([[0, 1, 2], [1, 0, 2], [2, 0, 1], [3, 0, 4], [4, 0, 3]])
F = n_features(5)
PHI = azimuths(F)
NONE = np.zeros(F)
seeds = st.integers(0, 2**32 - 1)


def kernel(kind, rng):
    """Kernels by the functions that act on azimuths and on the other features."""
    theta = rng.uniform(0.02, 0.4, F)
    off = np.where(rng.random(F) < 0.2, 0.0, theta)  # a feature may have no part at all
    return {
        "rbf": Kernel(theta, NONE, NONE),
        "rbf-cyclic": Kernel(np.where(PHI, 0, theta), np.where(PHI, theta, 0), NONE),
        "periodic": Kernel.periodic_on_phi(theta),
        "periodic on all": Kernel(NONE, NONE, theta),
        "products": Kernel(off, np.where(PHI, off[::-1], 0), rng.uniform(0, 0.2, F)),
    }[kind]


KINDS = ["rbf", "rbf-cyclic", "periodic", "periodic on all", "products"]


def processes(kind, n, rng, alf=ALF, shape=SHAPE):
    """Three outputs in two processes on each atom, of n and n + 3 points."""
    found = []
    for atom in range(len(alf)):
        for extra, names in ((0, ("a", "b")), (3, ("c",))):
            geometries = shape + SPREAD * rng.normal(size=(n + extra, *shape.shape))
            x = features(geometries, alf, atom)
            gp = GaussianProcess(
                x, kernel(kind, rng), rng.normal(size=len(names)),
                rng.normal(size=(len(names), len(x))) / np.sqrt(len(x)),
            )
            found.append(AtomProcess(atom, names, gp))
    return found


def run(packed, x, slopes=False, weights=None, torques=None):
    """Outcome of a sweep over copies x (M, N, 3)."""
    m, n_atoms, _ = x.shape
    values, frames = np.full((m, n_atoms, 3), np.nan), np.empty((m, n_atoms, 3, 3))
    gradient, exponents = np.zeros(x.shape), np.empty((m, n_atoms))
    failure = np.zeros(3, dtype=np.int64)
    weights = np.ones((m, n_atoms, 3)) if weights is None else weights
    torques = np.zeros(x.shape) if torques is None else torques
    sweep(x, packed.arrays(), slopes, weights, torques, values, frames, gradient, exponents,
          failure)
    check(failure, np.arange(m * n_atoms).reshape(m, n_atoms))
    return values, frames, gradient, exponents


SLOTS = {"a": 2, "b": 0, "c": 1}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [1, 7, 256, 300, 515])
def test_values_and_coverage_are_those_of_the_processes(kind, n):
    rng = np.random.default_rng(n)
    given = processes(kind, n, rng)
    x = SHAPE + SPREAD * rng.normal(size=(4, 5, 3))
    values, frames, _, exponents = run(pack(ALF, given, SLOTS), x)
    largest = np.zeros((4, 5))
    for process in given:
        f = features(x, ALF, process.atom)
        expected = process.gp.predict(f)
        size = np.abs(process.gp.weights).sum() + np.abs(process.gp.mean).max()
        found = values[:, process.atom, [SLOTS[name] for name in process.properties]].T
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-14 * size)
        kernel_values = process.gp.kernel.matrix(f, process.gp.inputs).max(axis=1)
        largest[:, process.atom] = np.maximum(largest[:, process.atom], kernel_values)
    np.testing.assert_allclose(np.exp(-exponents), largest, rtol=1e-13)
    np.testing.assert_allclose(frames @ frames.transpose(0, 1, 3, 2), [[np.eye(3)] * 5] * 4,
                               atol=1e-14)


def test_azimuths_on_both_sides_of_the_cut_are_near():
    """With azimuths that jump between pi and -pi, wrapped and periodic kernels do not see it."""
    x = SHAPE.copy()
    f = features(x[None], ALF, 0)[0]
    turn = np.pi - f[5]
    # turn the fourth atom about the z-axis of atom 0's frame until its azimuth is pi
    frame = run(pack(ALF, [], {}), x[None])[1][0, 0]
    c, s = np.cos(turn), np.sin(turn)
    x[3] = x[0] + frame.T @ np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ frame @ (x[3] - x[0])
    rng = np.random.default_rng(4)
    around = x + 0.05 * rng.normal(size=(40, 5, 3))
    inputs = features(around, ALF, 0)
    assert np.ptp(inputs[:, 5]) > 6, "the case this test is about"
    for kind in ("rbf-cyclic", "periodic"):
        gp = GaussianProcess(inputs[1:], kernel(kind, rng), [0.0], rng.normal(size=(1, 39)))
        values, _, _, exponents = run(pack(ALF, [AtomProcess(0, ("a",), gp)], {"a": 0}), around)
        np.testing.assert_allclose(values[:, 0, 0], gp.predict(inputs)[0], atol=1e-13)
        assert exponents[0, 0] < 0.1


@pytest.mark.parametrize("kind", KINDS)
@given(seed=seeds)
@settings(max_examples=6, deadline=None)
def test_the_adjoint_is_the_derivative(central_differences, kind, seed):
    """Of weighted outputs plus an energy that depends on the frames' orientations."""
    rng = np.random.default_rng(seed)
    packed = pack(ALF, processes(kind, 260, rng), SLOTS)
    x = SHAPE + SPREAD * rng.normal(size=(2, 5, 3))
    weights = rng.normal(size=(2, 5, 3))
    turn = rng.normal(size=(2, 5, 3, 3))
    _, frames, _, _ = run(packed, x)
    # rows c of a frame turn as dc = omega x c; torques are in components along the axes
    torques = np.einsum("mnij,mnj->mni", frames, np.cross(frames, turn).sum(axis=2))
    _, _, gradient, _ = run(packed, x, True, weights, torques)

    def energy(y):
        values, frames, _, _ = run(packed, y)
        return (weights * values).sum() + (turn * frames).sum()

    numeric = central_differences(energy, x)
    np.testing.assert_allclose(gradient, numeric, rtol=0, atol=1e-7 * np.abs(numeric).max())


def test_coverage_does_not_depend_on_the_weights():
    """A process that has learnt nothing but its mean still tells where it was trained."""
    x = features(SHAPE + SPREAD * np.random.default_rng(2).normal(size=(9, 5, 3)), ALF, 0)
    gp = GaussianProcess(x, Kernel.periodic_on_phi(np.full(F, 0.1)), [3.0], np.zeros((1, 9)))
    packed = pack(ALF, [AtomProcess(0, ("iqa",), gp)], {"iqa": 0})
    values, _, gradient, exponents = run(packed, SHAPE[None], True)
    expected = gp.kernel.exponent(features(SHAPE[None], ALF, 0), x).min()
    assert values[0, 0, 0] == 3.0
    assert not gradient.any()
    np.testing.assert_allclose(exponents[0, 0], expected, rtol=1e-13)


def test_outputs_not_asked_for_are_left_out():
    rng = np.random.default_rng(1)
    given = processes("periodic", 20, rng)
    x = SHAPE[None]
    all_values, _, all_slopes, _ = run(pack(ALF, given, SLOTS), x, True,
                                       np.ones((1, 5, 3)) * [1, 0, 0])
    values, _, slopes, _ = run(pack(ALF, given, {"b": 0}), x, True)
    np.testing.assert_allclose(values[..., 0], all_values[..., 0], rtol=1e-14)
    assert np.isnan(values[..., 1:]).all(), "slots without a process are not touched"
    np.testing.assert_allclose(slopes, all_slopes, atol=1e-14)


def test_the_gradient_is_added_to_what_is_there():
    rng = np.random.default_rng(1)
    packed = pack(ALF, processes("periodic", 20, rng), SLOTS)
    x = SHAPE[None]
    once = run(packed, x, True)[2]
    gradient = once.copy()
    sweep(x, packed.arrays(), True, np.ones((1, 5, 3)), np.zeros((1, 5, 3)), np.empty((1, 5, 3)),
          np.empty((1, 5, 3, 3)), gradient, np.empty((1, 5)), np.zeros(3, dtype=np.int64))
    np.testing.assert_allclose(gradient, 2 * once, rtol=1e-13)


@pytest.mark.parametrize("distance", [1.2, 1.9, 4.0])
def test_diatomic(central_differences, distance):
    alf = np.array([[0, 1, -1], [1, 0, -1]])
    rng = np.random.default_rng(0)
    inputs = rng.uniform(1, 3, (9, 1))
    for theta in ([[0.5], [0], [0]], [[0], [0], [0.7]], [[0.2], [0], [0.3]]):
        gp = GaussianProcess(inputs, Kernel(*map(np.array, theta)), [1.0], rng.normal(size=(1, 9)))
        packed = pack(alf, [AtomProcess(1, ("a",), gp)], {"a": 0})
        axis = np.array([2.0, -1.0, 2.0]) / 3
        x = np.array([[axis * 0.3, axis * (0.3 + distance)]])
        weights = np.ones((1, 2, 3))
        values, _, gradient, _ = run(packed, x, True, weights)
        np.testing.assert_allclose(values[0, 1, 0], gp.predict([[distance]])[0, 0], rtol=1e-13)
        numeric = central_differences(lambda y, p=packed: run(p, y)[0][0, 1, 0], x)
        np.testing.assert_allclose(gradient, numeric, atol=1e-8 * np.abs(numeric).max())


def assert_exponentials(e):
    """To rounding: half of what the rounding of e itself does to exp(-e), and 1e-14 to e = 160."""
    found = e.copy()
    _exponentials(found, np.empty(len(e), dtype=np.int64), len(e))
    error = np.abs(found / np.exp(-e) - 1)
    assert (error <= 1e-15 + np.finfo(float).eps * e / 4).all(), error.max()


@given(st.lists(st.floats(0, 700), min_size=1, max_size=256))
@settings(deadline=None)
def test_exponentials(values):
    assert_exponentials(np.array(values))


def test_exponentials_everywhere_and_beyond():
    assert_exponentials(np.concatenate([np.linspace(0, 700, 100_003), np.geomspace(1e-300, 1, 99)]))
    far = np.array([707.0, 708.0, 1e4, 1e300])
    _exponentials(far, np.empty(4, dtype=np.int64), 4)
    assert (far >= 0).all() and (far < 1e-306).all()


def test_failures_name_the_atom_of_the_input():
    rng = np.random.default_rng(0)
    packed = pack(ALF, processes("periodic", 5, rng), SLOTS)
    x = np.array([SHAPE, SHAPE])
    x[1, 4] = 3 * x[1, 3] - 2 * x[1, 0]
    with pytest.raises(GeometryError, match="local frame of atom 8 is linear"):
        run(packed, x)
