import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ase_fflux.base.errors import ModelError
from ase_fflux.model.kernels import Kernel
from ase_fflux.model.process import GaussianProcess

F = 6
RNG = np.random.default_rng(3)
thetas = st.lists(st.floats(0.0, 0.6), min_size=F, max_size=F).map(np.array)


def process(kernel, n=5, outputs=2, slopes=True):
    return GaussianProcess(
        RNG.normal(size=(n, F)), kernel, RNG.normal(size=outputs), RNG.normal(size=(outputs, n)),
        0.1, RNG.normal(size=(outputs, n, F)) if slopes else None,
    )


@given(thetas, thetas)
def test_prediction_with_derivative_weights_is_the_formula(central_differences, rbf, periodic):
    """The kernel's derivative by its second argument, by finite differences."""
    kernel = Kernel(rbf, np.zeros(F), periodic)
    gp, x = process(kernel), RNG.normal(size=(4, F))
    expected = gp.mean[:, None] + gp.weights @ kernel.matrix(gp.inputs, x)
    for j, training in enumerate(gp.inputs):
        slope = central_differences(lambda f: kernel.matrix(x, f[None])[:, 0], training)  # (F, m)
        expected += gp.derivative_weights[:, j] @ slope
    np.testing.assert_allclose(gp.predict(x), expected, rtol=1e-9, atol=1e-9)


def test_prediction_far_from_the_origin_is_that_near_it():
    """Distances of a hundred bohr do not cost digits: only differences count."""
    kernel = Kernel.plain(np.full(F, 0.3))
    near, x = process(kernel), RNG.normal(size=(4, F))
    far = GaussianProcess(
        near.inputs + 100.0, kernel, near.mean, near.weights, 0.1, near.derivative_weights
    )
    np.testing.assert_allclose(far.predict(x + 100.0), near.predict(x), rtol=0, atol=2e-12)


def test_targets_are_those_the_weights_were_solved_for():
    kernel = Kernel.periodic_on_phi(np.full(F, 0.2))
    gp = process(kernel, slopes=False)
    k = kernel.matrix(gp.inputs, gp.inputs) + 0.1 * np.eye(5)
    np.testing.assert_allclose(gp.targets(), gp.mean[:, None] + gp.weights @ k, rtol=1e-13)


def test_a_process_trained_on_gradients_has_no_targets():
    with pytest.raises(ModelError, match="trained on gradients"):
        process(Kernel.plain(np.full(F, 0.2))).targets()


def test_wrapped_kernels_take_no_derivative_weights():
    with pytest.raises(ValueError, match="wrapped kernel"):
        process(Kernel(np.zeros(F), np.full(F, 0.2), np.zeros(F)))


def test_shapes_have_to_agree():
    kernel = Kernel.plain(np.full(F, 0.2))
    x, w = np.zeros((3, F)), np.zeros((1, 3))
    with pytest.raises(ValueError, match="inconsistent shapes: inputs"):
        GaussianProcess(x, kernel, [0.0], w[:, :2])
    with pytest.raises(ValueError, match="inconsistent shapes: derivative weights"):
        GaussianProcess(x, kernel, [0.0], w, 0.0, np.zeros((1, 3, F - 1)))
