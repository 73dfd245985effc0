import numpy as np
import pytest

from ase_fflux.learn.joint.likelihood import JointLikelihood
from ase_fflux.learn.joint.system import Hyperparameters, JointSystem
from ase_fflux.model.kernels import FORMS

SOURCE = np.array([0, 1, 0, 2, 1])
CASES = {
    "water": ("water", dict()),
    "fluoromethane": ("fluoromethane", dict()),
    "without symmetry": ("fluoromethane", dict(symmetric=False)),
    "nitrogen": ("nitrogen", dict()),
    "sources": ("fluoromethane", dict(source=SOURCE)),
    "some gradients": ("fluoromethane", dict(source=SOURCE, with_gradient=np.array([1, 2]))),
    "no gradient": ("fluoromethane", dict(with_gradient=np.array([], dtype=int))),
    "sources without gradient": (
        "water", dict(source=SOURCE, with_gradient=np.array([], dtype=int))
    ),
    "totals": ("fluoromethane", dict(with_energies=[], with_total=np.arange(5))),
    "totals alone": ("water", dict(
        with_energies=[], with_total=np.arange(5), with_gradient=np.array([], dtype=int)
    )),
    "totals beside": ("formaldehyde", dict(with_total=np.arange(5))),
    "mixture": ("fluoromethane", dict(
        with_energies=np.array([1, 2]), with_total=np.array([0, 2, 3]),
        with_gradient=np.array([0, 1, 4]), source=SOURCE,
    )),
    "inverse distances": ("water", dict(form=FORMS["rbf-inverse"])),
    "rational": ("water", dict(
        with_energies=np.array([1, 2]), with_total=np.array([0, 2, 3]), form=FORMS["rq"]
    )),
    "both": ("fluoromethane", dict(
        with_energies=[], with_total=np.arange(5), form=FORMS["rq-inverse"]
    )),
    "terms": ("fluoromethane", dict(
        with_energies=[], with_total=np.arange(5), form=FORMS["rq-inverse-terms"]
    )),
    "exponential terms": ("water", dict(
        with_energies=[], with_total=np.array([0, 2, 3]), form=FORMS["rbf-terms"]
    )),
}


@pytest.fixture(params=CASES)
def data(request, make_case):
    molecule, options = CASES[request.param]
    return make_case(molecule, 5, **options).data


@pytest.fixture
def x(data, made_up_hyperparameters):
    h = made_up_hyperparameters(
        data, energy_noise=(1e-3, 4e-3, 2e-3), gradient_noise=(2e-3, 5e-4, 3e-3),
        total_noise=(3e-3, 1e-3, 2e-3),
    )
    return JointLikelihood(data).pack(h)


def test_gradient_is_that_of_the_value(data, x, central_differences):
    likelihood = JointLikelihood(data)
    value, gradient = likelihood.value_and_gradient(x)
    assert value == likelihood.value(x)
    expected = central_differences(likelihood.value, x, 3e-2)
    np.testing.assert_allclose(gradient, expected, rtol=0, atol=1e-7 * np.abs(expected).max())


def test_nothing_depends_on_noise_that_no_label_has(data, x):
    """Levels of sources without a quantity are in no covariance."""
    likelihood = JointLikelihood(data)
    _, gradient = likelihood.value_and_gradient(x)
    labels = [data.with_energies, data.with_gradient, data.with_total]
    for part, having in zip(likelihood.parts[2:], labels, strict=True):
        there, by_noise = np.unique(data.source[having]), gradient[part]
        assert len(by_noise) == (0 if part == likelihood.parts[4] and data.totals is None
                                 else data.source.max() + 1)
        if len(by_noise):
            assert (by_noise[there] != 0).all()
            assert not np.delete(by_noise, there).any()


def test_two_threads_give_the_same(data, x):
    one, two = (JointLikelihood(data, threads).value_and_gradient(x) for threads in (1, 2))
    assert two[0] == pytest.approx(one[0], rel=1e-11)
    np.testing.assert_allclose(two[1], one[1], atol=1e-9 * np.abs(one[1]).max())


def test_value_is_that_of_the_system(data, x):
    likelihood = JointLikelihood(data)
    system = JointSystem(data, likelihood.unpack(x))
    assert likelihood.value(x) == system.negative_log_likelihood


def test_packed_and_unpacked(data, x):
    likelihood = JointLikelihood(data)
    rng = np.random.default_rng(0)
    x = rng.normal(size=likelihood.size)
    h = likelihood.unpack(x)
    assert [len(t) for t in h.theta] == [len(tie) for tie in data.ties]
    assert len(h.variance) == len(data.ties)
    assert len(h.energy_noise) == len(h.gradient_noise) == data.source.max() + 1
    for c, theta in zip(data.classes, h.theta, strict=False):
        for order in c.view_order:  # what views exchange has one theta
            np.testing.assert_array_equal(theta[order], theta)
        assert len(np.unique(theta)) == len(np.unique(c.tie))
    np.testing.assert_allclose(likelihood.pack(h), x, atol=1e-14)
    parts = [x[part] for part in likelihood.parts]
    np.testing.assert_array_equal(np.concatenate(parts), x)
    np.testing.assert_allclose(parts[1], np.log(h.variance))
    np.testing.assert_allclose(parts[2], np.log(h.energy_noise))
    np.testing.assert_allclose(parts[3], np.log(h.gradient_noise))


def test_tied_theta_are_packed_as_their_geometric_mean(make_case):
    data = make_case("fluoromethane", 3).data
    likelihood, rng = JointLikelihood(data), np.random.default_rng(0)
    theta = [rng.uniform(0.1, 1.0, len(c.tie)) for c in data.classes]
    h = Hyperparameters(theta, np.ones(len(theta)), np.ones(1), np.ones(1))
    back = likelihood.unpack(likelihood.pack(h))
    assert any(len(np.unique(c.tie)) < len(c.tie) for c in data.classes)
    for c, mine, theirs in zip(data.classes, theta, back.theta, strict=True):
        for tie in np.unique(c.tie):
            expected = np.exp(np.log(mine[c.tie == tie]).mean())
            np.testing.assert_allclose(theirs[c.tie == tie], expected)


def test_infinite_where_it_is_not_defined(make_case):
    data = make_case("water", 4).data.select(np.array([0, 1, 1, 2]))  # a duplicate
    likelihood = JointLikelihood(data)
    count = len(data.classes)
    h = Hyperparameters(
        [np.full(3, 0.1)] * count, np.ones(count), np.full(1, 1e-12), np.full(1, 1e-12)
    )
    x = likelihood.pack(h)
    assert likelihood.value(x) == np.inf
    value, gradient = likelihood.value_and_gradient(x)
    assert value == np.inf and gradient.shape == x.shape and not gradient.any()


def test_sources_without_labels_have_levels_that_do_not_matter(make_case):
    data = make_case("water", 4).data
    more, fewer = JointLikelihood(data, n_sources=3), JointLikelihood(data)
    x = np.random.default_rng(0).normal(size=more.size)
    of_fewer = np.concatenate([x[:more.parts[2].start], x[more.parts[2]][:1], x[more.parts[3]][:1]])
    value, gradient = more.value_and_gradient(x)
    expected, by_fewer = fewer.value_and_gradient(of_fewer)
    assert value == expected and gradient.shape == x.shape
    np.testing.assert_array_equal(gradient[:more.parts[2].start + 1], by_fewer[:-1])
    assert not gradient[[-1, -2, -4, -5]].any()
