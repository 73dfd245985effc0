import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ase_fflux.model.kernels import FORMS, Kernel, azimuths, distances

RNG = np.random.default_rng(1)
thetas = st.lists(st.floats(0.0, 2.0), min_size=6, max_size=6).map(np.array)


def by_definition(kernel, f, g):
    d = f - g
    wrapped = np.angle(np.exp(1j * d))
    exponent = (kernel.rbf * d**2 + kernel.cyclic * wrapped**2).sum()
    return np.exp(-exponent - (4 * kernel.periodic * np.sin(d / 2) ** 2).sum())


@given(thetas, thetas, thetas)
def test_matrix_is_the_formula(a, b, c):
    kernel = Kernel(a, b, c)
    x, y = RNG.normal(scale=2, size=(4, 6)), RNG.normal(scale=2, size=(3, 6))
    expected = [[by_definition(kernel, f, g) for g in y] for f in x]
    np.testing.assert_allclose(kernel.matrix(x, y), expected, rtol=1e-11, atol=1e-300)


@given(thetas)
def test_product_of_kernels_adds_theta(theta):
    x = RNG.normal(size=(5, 6))
    zero = np.zeros(6)
    rbf, periodic = Kernel(theta, zero, zero), Kernel(zero, zero, theta)
    both = Kernel(theta, zero, theta)
    np.testing.assert_allclose(rbf.matrix(x, x) * periodic.matrix(x, x), both.matrix(x, x))


def test_periodic_kernel_is_periodic_and_positive_definite():
    kernel = Kernel.periodic_on_phi(np.full(6, 0.7))
    x = RNG.uniform(-np.pi, np.pi, size=(60, 6))
    turned = x.copy()
    turned[:, 5] += 2 * np.pi
    np.testing.assert_allclose(kernel.matrix(x, x), kernel.matrix(turned, x), atol=1e-14)
    assert np.linalg.eigvalsh(kernel.matrix(x, x)).min() > -1e-12


def test_wrapped_kernel_is_not_positive_definite_in_general():
    """Why it is only read, never trained."""
    x = np.linspace(-np.pi, np.pi, 7)[:-1, None]
    kernel = Kernel(np.zeros(1), np.array([0.1]), np.zeros(1))
    assert np.linalg.eigvalsh(kernel.matrix(x, x)).min() < -1e-3


def test_azimuths_are_every_third_feature_from_the_sixth():
    assert np.flatnonzero(azimuths(12)).tolist() == [5, 8, 11]
    assert not azimuths(3).any()


@pytest.mark.parametrize("theta", [[-1.0], [np.nan], [np.inf]])
def test_bad_theta_is_refused(theta):
    with pytest.raises(ValueError, match="theta of the rbf kernel"):
        Kernel(np.array(theta), np.zeros(1), np.zeros(1))


def test_distances_are_the_first_two_features_and_every_third_from_the_fourth():
    assert np.flatnonzero(distances(9)).tolist() == [0, 1, 3, 6]
    assert distances(1).all() and distances(3).tolist() == [True, True, False]


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_forms_are_functions_of_the_exponent(form):
    """In 1/R where it says so; positive definite; the fall is minus the derivative."""
    theta, x = RNG.uniform(0.1, 0.5, 6), RNG.uniform(1.0, 3.0, (30, 6))
    kernel = Kernel.periodic_on_phi(theta, form)
    entering, slopes = kernel.entering(x)
    moved = np.where(distances(6), 1 / x, x) if form.inverse else x
    np.testing.assert_allclose(entering, moved, rtol=1e-15)
    step = 1e-6
    np.testing.assert_allclose(
        (kernel.entering(x + step)[0] - kernel.entering(x - step)[0]) / (2 * step), slopes,
        rtol=1e-7,
    )
    e = Kernel.periodic_on_phi(theta).exponent(moved, moved)
    expected = (1 + e / 2) ** -2.0 if form.rational else np.exp(-e)
    np.testing.assert_allclose(kernel.matrix(x, x), expected, rtol=1e-10)
    fall = (form.value(e - step) - form.value(e + step)) / (2 * step)
    np.testing.assert_allclose(form.fall(e), fall, rtol=1e-6, atol=1e-9)
    assert np.linalg.eigvalsh(kernel.matrix(x, x)).min() > -1e-12


def test_forms_go_with_plain_parts_alone():
    zero, some = np.zeros(6), np.full(6, 0.1)
    for cyclic, periodic in ((some, zero), (zero, some)):
        with pytest.raises(ValueError, match="neither a wrapped nor a periodic part"):
            Kernel(zero, cyclic, periodic, FORMS["rbf-inverse"])
    with pytest.raises(ValueError, match="the wrapped kernel is exponential"):
        Kernel(zero, some, zero, FORMS["rq"])
