"""The solution of the joint process against dense matrices, and what symmetry makes of it."""

from dataclasses import replace

import numpy as np
import pytest

from ase_fflux.forcefield import ForceField
from ase_fflux.learn.joint.data import joint_data
from ase_fflux.learn.joint.system import Hyperparameters, JointSystem
from ase_fflux.learn.joint.training import solve
from ase_fflux.model.kernels import FORMS
from ase_fflux.model.molecule import shared_model
from ase_fflux.model.shared import Shared, Totals
from ase_fflux.model.symmetry import Symmetry

CASES = {
    "water": ("water", 6, {}),
    "fluoromethane": ("fluoromethane", 5, {}),
    "without symmetry": ("fluoromethane", 4, dict(symmetric=False)),
    "formaldehyde": ("formaldehyde", 5, {}),
    "nitrogen": ("nitrogen", 5, {}),
    "sources": ("fluoromethane", 6, dict(source=np.array([0, 1, 0, 1, 1, 0]))),
    "some gradients": (
        "fluoromethane", 6,
        dict(with_gradient=np.array([0, 3, 4]), source=np.array([0, 1, 0, 1, 1, 0])),
    ),
    "no gradient": ("fluoromethane", 6, dict(with_gradient=np.array([], dtype=int))),
    "totals": ("fluoromethane", 5, dict(with_energies=[], with_total=np.arange(5))),
    "totals of water": ("water", 6, dict(with_energies=[], with_total=np.arange(6))),
    "totals alone": ("formaldehyde", 6, dict(
        with_energies=[], with_total=np.arange(6), with_gradient=np.array([], dtype=int)
    )),
    "totals beside": ("formaldehyde", 5, dict(with_total=np.arange(5))),
    "mixture": ("fluoromethane", 6, dict(
        with_energies=np.array([1, 2]), with_total=np.array([0, 2, 3, 5]),
        with_gradient=np.array([0, 1, 4]), source=np.array([0, 1, 0, 1, 1, 0]),
    )),
    "inverse distances": ("fluoromethane", 5, dict(form=FORMS["rbf-inverse"])),
    "rational": ("formaldehyde", 5, dict(
        with_energies=[], with_total=np.arange(5), form=FORMS["rq"]
    )),
    "both": ("fluoromethane", 5, dict(form=FORMS["rq-inverse"])),
    "both in two atoms": ("nitrogen", 5, dict(form=FORMS["rq-inverse"])),
    "terms": ("fluoromethane", 5, dict(
        with_energies=[], with_total=np.arange(5), form=FORMS["rq-inverse-terms"]
    )),
    "exponential terms": ("formaldehyde", 6, dict(
        with_energies=[], with_total=np.array([0, 2, 3]), with_gradient=np.array([0, 1, 4]),
        form=FORMS["rbf-terms"]
    )),
    "terms of one distance": ("nitrogen", 5, dict(
        with_energies=[], with_total=np.arange(5), form=FORMS["rbf-inverse-terms"]
    )),
}


@pytest.fixture(params=CASES)
def case(request, make_case):
    molecule, n, options = CASES[request.param]
    return make_case(molecule, n, **options)


@pytest.fixture
def h(case, made_up_hyperparameters):
    return made_up_hyperparameters(case.data)


def model_of(case, result):
    """The model of a result, energies alone."""
    totals = None
    if result.total_weights is not None:
        totals = Totals(result.total_weights, (0.0,), result.with_energies)
    shared = Shared(
        case.symmetry, tuple(result.processes), result.gradient_weights, totals=totals,
        terms=result.terms, second=result.second,
    )
    return shared_model(
        "toy", case.labels.symbols, case.alf, shared, case.labels.geometries[0],
        case.labels.geometries,
    )


def predict(model, x):
    """Atomic energies (n, N) and gradients (n, N, 3), atoms in the order of the model."""
    forcefield = ForceField([model])
    numbers = [dict(zip("HCNOF", (1, 6, 7, 8, 9), strict=True))[s] for s in model.symbols]
    assignment = forcefield.in_order(numbers)
    found = [forcefield.evaluate(y, numbers, assignment=assignment) for y in x]
    return np.array([f.energies for f in found]), -np.array([f.forces for f in found])


def test_weights_means_and_likelihood_are_those_of_dense_matrices(case, h):
    mean, weights, value = case.solved(h)
    system = JointSystem(case.data, h)
    np.testing.assert_allclose(system.mean, mean, rtol=1e-9)
    found = np.concatenate([
        *(w.ravel() for w in system.energy_weights), system.total_weights,
        system.gradient_weights.ravel(),
    ])
    np.testing.assert_allclose(found, weights, rtol=0, atol=1e-8 * np.abs(weights).max())
    assert system.negative_log_likelihood == pytest.approx(value, rel=1e-9)


def test_a_total_beside_atomic_energies_is_noise_that_cancels_in_their_sum(
    make_case, made_up_hyperparameters
):
    """Likelihood, means and weights are those of atomic energies alone, their noise correlated."""
    case = make_case("formaldehyde", 5, with_total=np.arange(5))
    h = made_up_hyperparameters(case.data)
    n, n_atoms, t = 5, 4, 5
    rows = case.observed().reshape(-1, 4 * n * n_atoms)
    rows = np.delete(rows, np.arange(n * n_atoms, n * n_atoms + t), axis=0)
    noise = np.diag(np.delete(case.noise(h), np.arange(n * n_atoms, n * n_atoms + t)))
    one = np.eye(n_atoms) / h.energy_noise[0] ** 2 + 1.0 / h.total_noise[0] ** 2
    noise[: n * n_atoms, : n * n_atoms] = np.kron(np.linalg.inv(one), np.eye(n))
    x = case.labels.geometries
    k = rows @ case.covariance(h, x, x).reshape(rows.shape[1], -1) @ rows.T + noise
    order = [a for c in case.data.classes for a in c.atoms]
    y = np.concatenate([
        case.labels.atomic_energies[:, order].T.ravel(),
        *(case.labels.gradients[j].ravel() @ case.data.directions[j] for j in range(n)),
    ])
    constant = np.zeros((len(y), len(case.data.classes)))
    owner = np.repeat(np.arange(len(case.data.classes)), [
        n * len(c.atoms) for c in case.data.classes
    ])
    constant[np.arange(n * n_atoms), owner] = 1.0
    solved = np.linalg.solve(k, constant)
    mean = np.linalg.solve(constant.T @ solved, solved.T @ y)
    residual = y - constant @ mean
    weights = np.linalg.solve(k, residual)
    value = 0.5 * (residual @ weights + np.linalg.slogdet(k)[1])
    system = JointSystem(case.data, h)
    np.testing.assert_allclose(system.mean, mean, rtol=1e-9)
    assert system.negative_log_likelihood == pytest.approx(value, rel=1e-9)
    found = np.concatenate([
        *((w + system.total_weights).ravel() for w in system.energy_weights),
        system.gradient_weights.ravel(),
    ])
    np.testing.assert_allclose(found, weights, rtol=0, atol=1e-7 * np.abs(weights).max())


def test_predictions_are_those_of_dense_matrices(case, h, make_labels):
    """From the weights to the energies and gradients that the calculator gives."""
    molecule = {2: "nitrogen", 3: "water", 4: "formaldehyde", 5: "fluoromethane"}[len(case.alf)]
    x = make_labels(molecule, 3, seed=9).geometries
    energies, gradients = case.predicted(h, x)
    found = predict(model_of(case, solve(case.data, h)), x)
    np.testing.assert_allclose(found[0], energies, atol=1e-9)
    np.testing.assert_allclose(found[1], gradients, atol=1e-8)


def test_result_says_what_it_was_made_of(case, h):
    result, system = solve(case.data, h), JointSystem(case.data, h)
    assert result.n_gradients == len(case.data.with_gradient)
    assert result.negative_log_likelihood == system.negative_log_likelihood
    without = np.setdiff1d(np.arange(len(case.data)), case.data.with_gradient)
    assert not result.gradient_weights[without].any()
    assert result.gradient_weights[case.data.with_gradient].any(axis=(1, 2)).all()
    for process, theta, c in zip(result.processes, h.theta, case.data.classes, strict=False):
        assert process.atoms is c and process.properties == ("iqa",)
        np.testing.assert_array_equal(process.kernel.theta, theta)
    assert len(result.processes) == len(case.data.classes)
    beside = [*result.second, *result.terms]
    assert len(beside) == h.form.terms * len(case.data.beside)
    assert len(result.second) == h.form.terms * (len(case.alf) > 3) * len(result.processes)
    for process, theta, variance in zip(
        beside, h.theta[len(result.processes):], h.variance[len(result.processes):], strict=True
    ):
        kernel = getattr(process, "kernel", None)
        np.testing.assert_array_equal(process.theta if kernel is None else kernel.theta, theta)
        assert process.variance == variance
        assert (process if kernel is None else kernel.form).rational == h.form.rational


def assert_same_weights(one, other, rtol, atol):
    """Those of atomic energies and those of what couples them, each on a scale of its own."""
    for mine, theirs in zip(*(
        (np.concatenate([w.ravel() for w in s.energy_weights]), s.coupling_weights)
        for s in (one, other)
    ), strict=True):
        scale = np.abs(mine).max(initial=0.0)
        np.testing.assert_allclose(theirs, mine, rtol=rtol, atol=atol * scale)


def test_values_are_on_a_scale_of_their_own(case, h):
    """A shift of all energies is one of the means, and of nothing else."""
    data = case.data
    shifts = np.arange(1.0, 1 + len(data.classes)) * 100.0
    whole = sum(s * len(e) for e, s in zip(data.energies, shifts, strict=True))
    moved = replace(
        data, energies=[e + s for e, s in zip(data.energies, shifts, strict=True)],
        totals=None if data.totals is None else data.totals + whole,
    )
    first, second = JointSystem(data, h), JointSystem(moved, h)
    if data.latent:  # totals do not tell which class is meant
        shifts = np.full(len(shifts), whole / data.n_atoms)
    shifts = np.append(shifts, np.zeros(len(h.variance) - len(shifts)))  # terms have no means
    np.testing.assert_allclose(second.mean - first.mean, shifts, rtol=1e-10)
    assert_same_weights(first, second, rtol=1e-7, atol=1e-7)


def test_two_threads_give_the_same(case, h):
    one, two = (JointSystem(case.data, h, threads) for threads in (1, 2))
    assert two.negative_log_likelihood == pytest.approx(one.negative_log_likelihood, rel=1e-11)
    assert_same_weights(one, two, rtol=0, atol=1e-9)


def test_half_solved_gives_the_quadratic_form(case, h):
    """y^T K^-1 y of any values, by the factor alone."""
    system, rng = JointSystem(case.data, h), np.random.default_rng(0)
    size, coupling = case.data.n_observed
    y = rng.normal(size=(size + coupling, 2))
    ends = np.cumsum([len(e) * len(case.data.with_energies) for e in case.data.energies])
    tops = np.split(y[:size], ends[:-1])
    tops += [y[:0]] * (len(case.data.points) - len(tops))  # terms are not observed
    tops, bottom = system.half_solved(tops, y[size:])
    whole = np.vstack([*tops, bottom])
    rows, x = case.observed(), case.labels.geometries
    rows = rows.reshape(len(rows), -1)
    k = rows @ case.covariance(h, x, x).reshape(rows.shape[1], -1) @ rows.T + np.diag(case.noise(h))
    expected = y.T @ np.linalg.solve(k, y)
    np.testing.assert_allclose(whole.T @ whole, expected, rtol=1e-8)


MIRROR = np.array([1.0, 1.0, -1.0])


def images(labels, symmetry):
    """All labels as the operations show them, operation by operation."""
    geometries, energies, gradients = [], [], []
    for p, mirrored in zip(symmetry.permutations, symmetry.mirrored, strict=True):
        mirror = MIRROR if mirrored else 1.0
        geometries.append(labels.geometries[:, p] * mirror)
        energies.append(labels.atomic_energies[:, p])
        gradients.append(labels.gradients[:, p] * mirror)
    return replace(
        labels, geometries=np.concatenate(geometries), atomic_energies=np.concatenate(energies),
        gradients=np.concatenate(gradients),
    )


@pytest.mark.parametrize("molecule", ["fluoromethane", "formaldehyde"])
def test_an_image_of_a_label_has_the_prediction_of_the_label(
    make_case, make_labels, made_up_hyperparameters, molecule
):
    case = make_case(molecule, 5)
    model = model_of(case, solve(case.data, made_up_hyperparameters(case.data)))
    operations = [
        (p, MIRROR if mirrored else np.ones(3))
        for p, mirrored in zip(case.symmetry.permutations, case.symmetry.mirrored, strict=True)
        if kept(case, p)
    ]
    assert len(operations) == 2
    for x in (case.labels.geometries[:2], make_labels(molecule, 2, seed=9).geometries):
        energies, gradients = predict(model, x)
        for p, mirror in operations:
            found = predict(model, x[:, p] * mirror)
            np.testing.assert_allclose(found[0], energies[:, p], atol=1e-9)
            np.testing.assert_allclose(found[1], gradients[:, p] * mirror, atol=1e-8)


def kept(case, p):
    """Whether an operation carries frames onto frames."""
    return all(np.array_equal(p[frame], case.alf[p[a]]) for a, frame in enumerate(case.alf))


ONE_MIRROR = Symmetry(np.array([[0, 1, 2, 3, 4], [0, 1, 2, 4, 3]]), np.array([False, True]))
"""Of fluoromethane: all frames but those of the exchanged hydrogens are their own images."""


def test_symmetry_is_training_on_all_images(make_labels, observe, shapes, made_up_hyperparameters):
    """Each atom by itself, from all images of the labels: the same at a higher cost."""
    labels, shape = make_labels("fluoromethane", 5), shapes["fluoromethane"][1]
    small = observe(labels, shape, ONE_MIRROR)
    assert all(kept(small, p) for p in ONE_MIRROR.permutations)
    h = made_up_hyperparameters(small.data)
    large = observe(images(labels, ONE_MIRROR), shape, False)
    np.testing.assert_array_equal(small.alf[[0, 1, 2, 3]], large.alf[[0, 1, 2, 3]])
    large = replace(large, alf=small.alf, data=joint_data(
        large.labels.geometries, large.labels.atomic_energies, large.labels.gradients, small.alf,
        large.symmetry,
    ))
    theta, variance = [None] * 5, np.zeros(5)
    for c, t, v in zip(small.data.classes, h.theta, h.variance, strict=True):
        for atom, order in zip(c.atoms, c.order, strict=True):
            theta[atom], variance[atom] = np.empty_like(t), v
            theta[atom][order] = t
    x = make_labels("fluoromethane", 3, seed=9).geometries
    expected = predict(model_of(large, solve(large.data, Hyperparameters(
        theta, variance, h.energy_noise, h.gradient_noise
    ))), x)
    found = predict(model_of(small, solve(small.data, h)), x)
    np.testing.assert_allclose(found[0], expected[0], atol=1e-9)
    np.testing.assert_allclose(found[1], expected[1], atol=1e-8)
