import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ase_fflux.base.errors import GeometryError
from ase_fflux.base.jit import njit
from ase_fflux.forcefield.evaluation import ADJOINT, SLOPES, VALUES, check, sweep
from ase_fflux.forcefield.loops import exponentials
from ase_fflux.forcefield.packing import pack
from ase_fflux.model.frames import features, n_features
from ase_fflux.model.kernels import Form, Kernel, azimuths, distances
from ase_fflux.model.molecule import AtomProcess
from ase_fflux.model.process import GaussianProcess

# every azimuth is at least 1.1 away from the cut at pi
SHAPE = np.array(
    [[0, 0, 0], [1.2, 1.1, 1.3], [1.6, -1.5, -1.5], [-1.9, 2.4, -1.7], [-2.4, -2.0, 2.3]]
)
SPREAD = 0.12
ALF = np.array([[0, 1, 2], [1, 0, 2], [2, 0, 1], [3, 0, 4], [4, 0, 3]])
F = n_features(5)
PHI = azimuths(F)
NONE = np.zeros(F)
INVERSE = Form(inverse=True)
seeds = st.integers(0, 2**32 - 1)


def kernel(kind, rng):
    """Kernels by the functions that act on azimuths and on the other features."""
    theta = rng.uniform(0.02, 0.4, F)
    off = np.where(rng.random(F) < 0.2, 0.0, theta)  # a feature may have no part at all
    some = np.where(rng.random(F) < 0.5, 0.0, rng.uniform(0, 0.2, F))
    return {
        "rbf": Kernel(theta, NONE, NONE),
        "rbf-cyclic": Kernel(np.where(PHI, 0, theta), np.where(PHI, theta, 0), NONE),
        "periodic": Kernel.periodic_on_phi(theta),
        "periodic on all": Kernel(NONE, NONE, theta),
        "products": Kernel(off, np.where(PHI, off[::-1], 0), some),
        "smooth products": Kernel(off, NONE, some),
        "inverse": Kernel.periodic_on_phi(np.where(distances(F), 30, 1) * theta, INVERSE),
        "rational": Kernel(off, NONE, some, Form(rational=True)),
        "inverse rational": Kernel(
            off, NONE, np.where(distances(F), 0.0, some), Form(inverse=True, rational=True)
        ),
    }[kind]


FORMED = ["inverse", "rational", "inverse rational"]
KINDS = ["rbf", "rbf-cyclic", "periodic", "periodic on all", "products", *FORMED]
SMOOTH = ["rbf", "periodic", "periodic on all", "smooth products", *FORMED]
KINDS_AND_SLOPES = [(kind, False) for kind in KINDS] + [(kind, True) for kind in SMOOTH]


def processes(kind, n, rng, alf=ALF, shape=SHAPE, slopes=False):
    """Three outputs in two processes on each atom, of n and n + 3 points."""
    found = []
    for atom in range(len(alf)):
        for extra, names in ((0, ("a", "b")), (3, ("c",))):
            geometries = shape + SPREAD * rng.normal(size=(n + extra, *shape.shape))
            x = features(geometries, alf, atom)
            gp = GaussianProcess(
                x, kernel(kind, rng), rng.normal(size=len(names)),
                rng.normal(size=(len(names), len(x))) / np.sqrt(len(x)), 0.0,
                rng.normal(size=(len(names), *x.shape)) / np.sqrt(len(x)) if slopes else None,
            )
            found.append(AtomProcess(atom, names, gp))
    return found


def given_to_sweep(packed):
    return packed.arrays, packed.wrapped, packed.bent, packed.room()


@njit
def compiled_exponentials(e, n):
    exponentials(e, n)


def run(packed, x, slopes=False, weights=None, torques=None):
    """Outcome of a sweep over copies x (M, N, 3)."""
    m, n_atoms, _ = x.shape
    values, frames = np.full((m, n_atoms, 3), np.nan), np.empty((m, n_atoms, 3, 3))
    gradient, exponents = np.zeros(x.shape), np.empty((m, n_atoms))
    failure = np.zeros(3, dtype=np.int64)
    weights = np.ones((m, n_atoms, 3)) if weights is None else weights
    torques = np.zeros(x.shape) if torques is None else torques
    sweep(x, *given_to_sweep(packed), SLOPES if slopes else VALUES, weights, torques, values,
          frames, gradient, exponents, np.empty((m, 0)), failure)
    check(failure, np.arange(m * n_atoms).reshape(m, n_atoms), np.full(m * n_atoms, 6))
    return values, frames, gradient, exponents


SLOTS = {"a": 2, "b": 0, "c": 1}


@pytest.mark.parametrize("kind, slopes", KINDS_AND_SLOPES)
@pytest.mark.parametrize("n", [1, 7, 128, 300, 515])
def test_values_and_coverage_are_those_of_the_processes(kind, slopes, n):
    rng = np.random.default_rng(n)
    given = processes(kind, n, rng, slopes=slopes)
    x = SHAPE + SPREAD * rng.normal(size=(4, 5, 3))
    values, frames, _, exponents = run(pack(ALF, given, SLOTS), x)
    largest = np.zeros((4, 5))
    for process in given:
        f = features(x, ALF, process.atom)
        expected = process.gp.predict(f)
        size = np.abs(process.gp.weights).sum() + np.abs(process.gp.mean).max()
        if slopes:
            size += np.abs(process.gp.derivative_weights).sum()
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


@pytest.mark.parametrize("kind, slopes", KINDS_AND_SLOPES)
@given(seed=seeds)
@settings(max_examples=6, deadline=None)
def test_the_adjoint_is_the_derivative(central_differences, kind, slopes, seed):
    """Of weighted outputs plus an energy that depends on the frames' orientations."""
    rng = np.random.default_rng(seed)
    packed = pack(ALF, processes(kind, 132, rng, slopes=slopes), SLOTS)
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


@pytest.mark.parametrize("kind, slopes", KINDS_AND_SLOPES)
def test_a_process_of_another_atom_seen_in_a_mirror(central_differences, kind, slopes):
    """Features in another order, polar angles reflected, odd moments of the opposite sign."""
    rng = np.random.default_rng(7)
    order = np.array([0, 1, 2, 6, 7, 8, 3, 4, 5])
    given = [
        AtomProcess(p.atom, names, p.gp, order, p.atom != 1)
        for p in processes(kind, 132, rng, slopes=slopes)
        for names in [("q00", "q10") if len(p.properties) == 2 else ("q11c",)]
    ]
    slots = {"q00": 2, "q10": 0, "q11c": 1}
    packed = pack(ALF, given, slots)
    x = SHAPE[None] + SPREAD * rng.normal(size=(1, 5, 3))
    weights = rng.normal(size=(1, 5, 3))
    values, _, gradient, _ = run(packed, x, True, weights)
    for process in given:
        f = features(x, ALF, process.atom)[:, order]
        if process.mirrored:
            f[:, [4, 7]] = np.pi - f[:, [4, 7]]
        expected = process.gp.predict(f)
        for name, value in zip(process.properties, expected[:, 0], strict=True):
            sign = -1 if name == "q10" and process.mirrored else 1
            found = values[0, process.atom, slots[name]]
            np.testing.assert_allclose(found, sign * value, rtol=0, atol=1e-11)
    numeric = central_differences(lambda y: (weights * run(packed, y)[0]).sum(), x)
    np.testing.assert_allclose(gradient, numeric, rtol=0, atol=1e-7 * np.abs(numeric).max())


def test_forces_are_exact_where_weights_are_large(central_differences):
    """As those of trained models are: a million hartree, which nearly cancel."""
    rng = np.random.default_rng(0)
    geometries = SHAPE + SPREAD * rng.normal(size=(300, 5, 3))
    x, kernel = features(geometries, ALF, 0), Kernel.periodic_on_phi(np.full(F, 0.02))
    k = kernel.matrix(x, x) + 1e-8 * np.eye(300)
    weights = np.linalg.solve(k, np.sin(x.sum(axis=1)))[None]
    assert np.abs(weights).sum() > 1e4
    gp = GaussianProcess(x, kernel, [0.0], weights, 0.0, rng.normal(size=(1, *x.shape)))
    packed = pack(ALF, [AtomProcess(0, ("a",), gp)], {"a": 0})
    y = SHAPE[None] + 0.5 * SPREAD * rng.normal(size=(1, 5, 3))
    gradient = run(packed, y, True)[2]
    numeric = central_differences(lambda z: run(packed, z)[0][0, 0, 0], y, 0.04)
    np.testing.assert_allclose(gradient, numeric, rtol=0, atol=1e-6 * np.abs(numeric).max())


def test_atoms_that_share_a_process_share_its_table():
    rng = np.random.default_rng(1)
    gp = processes("periodic", 140, rng, slopes=True)[0].gp
    twin = GaussianProcess(
        gp.inputs, gp.kernel, gp.mean, gp.weights, gp.noise, gp.derivative_weights
    )
    order = np.array([0, 1, 2, 6, 7, 8, 3, 4, 5])
    given = [
        AtomProcess(0, ("a", "b"), gp), AtomProcess(1, ("a", "b"), gp, order, True),
        AtomProcess(2, ("a", "c"), gp), AtomProcess(3, ("a", "b"), twin),
    ]
    packed = pack(ALF, given, {"a": 0, "b": 1})
    assert len(packed.size) == 3, "other outputs, or a process that is merely equal"
    of = [packed.atom[a:b].tolist() for a, b in zip(packed.first, packed.first[1:], strict=False)]
    assert of == [[0, 1], [2], [3]]
    n_columns = -(-(1 + gp.kernel.columns(gp.inputs).shape[1]) // 4) * 4
    assert packed.table.size == 3 * 144 * n_columns, "140 points filled up to a multiple of 8"
    assert packed.weights.size == (2 + 1 + 2) * 144 * n_columns
    assert packed.table.ctypes.data % 64 == packed.weights.ctypes.data % 64 == 0
    alone = pack(ALF, given[1:2], {"a": 0, "b": 1})
    both, one = run(packed, SHAPE[None])[0], run(alone, SHAPE[None])[0]
    np.testing.assert_array_equal(both[0, 1, :2], one[0, 1, :2])


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
    sweep(x, *given_to_sweep(packed), SLOPES, np.ones((1, 5, 3)), np.zeros((1, 5, 3)),
          np.empty((1, 5, 3)), np.empty((1, 5, 3, 3)), gradient, np.empty((1, 5)), np.empty((1, 0)),
          np.zeros(3, dtype=np.int64))
    np.testing.assert_allclose(gradient, 2 * once, rtol=1e-13)


@pytest.mark.parametrize("distance", [1.2, 1.9, 4.0])
def test_diatomic(central_differences, distance):
    alf = np.array([[0, 1, -1], [1, 0, -1]])
    rng = np.random.default_rng(0)
    inputs = rng.uniform(1, 3, (9, 1))
    for *theta, form in (
        ([0.5], [0], [0], Form()), ([0], [0], [0.7], Form()), ([0.2], [0], [0.3], Form()),
        ([5.0], [0], [0], INVERSE),
    ):
        kernel = Kernel(*map(np.array, theta), form)
        gp = GaussianProcess(inputs, kernel, [1.0], rng.normal(size=(1, 9)))
        packed = pack(alf, [AtomProcess(1, ("a",), gp)], {"a": 0})
        axis = np.array([2.0, -1.0, 2.0]) / 3
        x = np.array([[axis * 0.3, axis * (0.3 + distance)]])
        weights = np.ones((1, 2, 3))
        values, _, gradient, _ = run(packed, x, True, weights)
        np.testing.assert_allclose(values[0, 1, 0], gp.predict([[distance]])[0, 0], rtol=1e-13)
        numeric = central_differences(lambda y, p=packed: run(p, y)[0][0, 1, 0], x)
        np.testing.assert_allclose(gradient, numeric, atol=1e-8 * np.abs(numeric).max())


def assertexponentials(e):
    """To rounding: half of what the rounding of e itself does to exp(-e), and 1e-14 to e = 160."""
    found = e.copy()
    compiled_exponentials(found, len(e))
    error = np.abs(found / np.exp(-e) - 1)
    assert (error <= 1e-15 + np.finfo(float).eps * e / 4).all(), error.max()


@given(st.lists(st.floats(0, 700), min_size=1, max_size=256))
@settings(deadline=None)
def testexponentials(values):
    assertexponentials(np.array(values))


def test_exponentials_everywhere_and_beyond():
    assertexponentials(np.concatenate([np.linspace(0, 700, 100_003), np.geomspace(1e-300, 1, 99)]))
    far = np.array([707.0, 708.0, 1e4, 1e300])
    compiled_exponentials(far, 4)
    assert (far >= 0).all() and (far < 1e-306).all()


def test_a_distance_is_an_inverse_or_an_angle_of_an_atom():
    rng = np.random.default_rng(0)
    x = features(SHAPE + SPREAD * rng.normal(size=(4, 5, 3)), ALF, 0)
    both = [
        AtomProcess(0, (name,), GaussianProcess(x, kernel(kind, rng), [0.0], np.ones((1, 4))))
        for name, kind in (("a", "inverse"), ("b", "periodic on all"))
    ]
    with pytest.raises(ValueError, match="the same distance as 1/R and as an angle"):
        pack(ALF, both, SLOTS)


def test_failures_name_the_atom_of_the_input():
    rng = np.random.default_rng(0)
    packed = pack(ALF, processes("periodic", 5, rng), SLOTS)
    x = np.array([SHAPE, SHAPE])
    x[1, 4] = 3 * x[1, 3] - 2 * x[1, 0]
    with pytest.raises(GeometryError, match=r"local frame of atom \d \(C\) is linear"):
        run(packed, x)


@pytest.mark.parametrize("kind, slopes", KINDS_AND_SLOPES)
def test_the_adjoint_from_kernels_that_were_kept(kind, slopes):
    """As if they were computed again, of several copies."""
    rng = np.random.default_rng(5)
    packed = pack(ALF, processes(kind, 300, rng, slopes=slopes), SLOTS)
    x = SHAPE + SPREAD * rng.normal(size=(3, 5, 3))
    weights, torques = rng.normal(size=(3, 5, 3)), rng.normal(size=(3, 5, 3))
    expected = run(packed, x, True, weights, torques)[2]
    kept, failure = np.full((3, packed.n_kept), np.nan), np.zeros(3, dtype=np.int64)
    values, frames = np.empty((3, 5, 3)), np.empty((3, 5, 3, 3))
    gradient, exponents = np.zeros(x.shape), np.empty((3, 5))
    sweep(x, *given_to_sweep(packed), VALUES, weights, torques, values, frames, gradient,
          exponents, kept, failure)
    assert not gradient.any() and np.isfinite(kept).all()
    before = values.copy()
    sweep(x, *given_to_sweep(packed), ADJOINT, weights, torques, values, frames, gradient,
          exponents, kept, failure)
    np.testing.assert_array_equal(values, before)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(gradient, expected, rtol=0, atol=1e-13 * scale)
