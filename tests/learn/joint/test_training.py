from dataclasses import asdict, replace

import numpy as np
import pytest

from ase_fflux.base.errors import TrainingError
from ase_fflux.learn.joint import training
from ase_fflux.learn.joint.blocks import add_gradient_blocks, mixed_block
from ase_fflux.learn.joint.likelihood import JointLikelihood
from ase_fflux.learn.joint.settings import JointSettings
from ase_fflux.learn.joint.system import JointSystem
from ase_fflux.learn.joint.training import (
    find_hyperparameters,
    initial_hyperparameters,
    solve,
)
from ase_fflux.model.kernels import FORMS, OF_ATOMS, USUAL

SETTINGS = JointSettings(sizes=(8, 16, 24), evaluations=(30, 10, 6), forms=(USUAL,))
NO_NOISE = dict(
    energy_noise=1e-14, least_energy_noise=1e-14, gradient_noise=1e-14, least_gradient_noise=1e-14
)


@pytest.fixture(scope="module")
def case(make_case):
    return make_case("fluoromethane", 24)


@pytest.fixture(scope="module")
def data(case):
    return case.data


@pytest.fixture(scope="module")
def found(data):
    return find_hyperparameters(data, SETTINGS)


def value(data, h):
    likelihood = JointLikelihood(data)
    return likelihood.value(likelihood.pack(h))


def logarithms(h):
    return np.log(np.concatenate([*h.theta, h.variance, h.energy_noise, h.gradient_noise]))


def test_start_correlates_typical_points(make_case):
    """Mean exponent of all pairs: 1/2, where no theta meets its bounds."""
    data = make_case("fluoromethane", 24, spread=0.3).data
    h = initial_hyperparameters(data, JointSettings(bounds=(1e-9, 1e9)))
    for points, theta, energies, variance in zip(
        data.points, h.theta, data.energies, h.variance, strict=True
    ):
        columns = points.flat_columns * np.sqrt(theta[points.feature])
        square = np.square(columns[:, None] - columns).sum(axis=2)
        assert square.mean() == pytest.approx(0.5, rel=1e-9)
        # so do all features by themselves
        by_column = np.square(columns[:, None] - columns).mean(axis=(0, 1))
        np.testing.assert_allclose(
            np.bincount(points.feature, by_column), 0.5 / len(theta), rtol=1e-9
        )
        assert variance > energies.var()
    bounded = initial_hyperparameters(data, JointSettings(bounds=(0.2, 0.3)))
    assert all(((t >= 0.2) & (t <= 0.3)).all() for t in bounded.theta)


def test_noise_of_the_start_is_asked_for(make_case):
    data = make_case("water", 6, source=np.array([0, 0, 1, 1, 2, 2])).data
    h = initial_hyperparameters(data, JointSettings(energy_noise=2e-4, gradient_noise=3e-5))
    assert h.energy_noise.tolist() == [2e-4] * 3 and h.gradient_noise.tolist() == [3e-5] * 3


def test_transfer_ends_below_its_start_and_near_direct_learning(data, found):
    h, steps = found
    start = value(data, initial_hyperparameters(data, SETTINGS))
    direct, _ = find_hyperparameters(data, JointSettings(
        sizes=(24,), evaluations=(80,), transfer=False, forms=(USUAL,)
    ))
    best = value(data, direct)
    assert best < start
    assert value(data, h) - best < 0.1 * (start - best)
    assert value(data, h) == pytest.approx(steps[-1].value, rel=1e-6)


def test_every_step_starts_from_the_one_before(found):
    _, steps = found
    assert [(s.stage, s.points) for s in steps] == [("source", 8), ("ladder", 16), ("ladder", 24)]
    assert [s.transferred for s in steps] == ["nothing", "source", "ladder"]
    for step, limit in zip(steps, SETTINGS.evaluations, strict=True):
        assert 1 <= step.evaluations <= limit
        assert step.value <= step.start


def test_curvature_grows_with_the_labels(data, monkeypatch):
    """What a rung begins with is what the step before learned, in proportion to the labels."""
    learned, given = [], []
    curvature, relax = training._Recorded.curvature, training.relax

    def recorded(self):
        learned.append(curvature(self))
        return learned[-1].copy()

    def relaxed(objective, x, box, hessian, evaluations):
        given.append(hessian.copy())
        found = relax(objective, x, box, hessian, evaluations)
        learned.append(found.curvature)
        return found

    monkeypatch.setattr(training._Recorded, "curvature", recorded)
    monkeypatch.setattr(training, "relax", relaxed)
    find_hyperparameters(data, SETTINGS)
    assert len(given) == 2
    for before, after, growth in zip(learned, given, (16 / 8, 24 / 16), strict=False):
        np.testing.assert_allclose(after, growth * before)
        assert np.linalg.eigvalsh(after)[0] > 0


def test_hyperparameters_stay_in_their_box(data):
    """The noise of energies is not above what was asked for; floors hold both."""
    settings = JointSettings(
        bounds=(0.02, 0.05), energy_noise=3e-4, least_energy_noise=2e-4, gradient_noise=2e-5,
        least_gradient_noise=1.5e-5, sizes=(8, 16), evaluations=(15, 5), forms=(USUAL,),
    )
    h, _ = find_hyperparameters(data, settings)
    for theta in h.theta:
        assert (theta > 0.02 * (1 - 1e-12)).all() and (theta < 0.05 * (1 + 1e-12)).all()
    assert 2e-4 * (1 - 1e-12) <= h.energy_noise[0] <= 3e-4 * (1 + 1e-12)
    assert 1.5e-5 * (1 - 1e-12) <= h.gradient_noise[0] <= 2e-2


def test_learned_hyperparameters_predict_better(case, data, found, make_labels):
    """Labels that were not seen, by the definition of the process."""
    unseen = make_labels("fluoromethane", 10, seed=7)
    errors = []
    for h in (initial_hyperparameters(data, SETTINGS), found[0]):
        _, gradients = case.predicted(h, unseen.geometries)
        errors.append(np.sqrt(np.mean(np.square(gradients - unseen.gradients))))
    spread = np.std(unseen.gradients)
    assert errors[1] < 0.5 * errors[0] and errors[1] < 0.02 * spread


def test_on_step_hears_of_every_evaluation(data):
    heard = []
    _, steps = find_hyperparameters(data, SETTINGS, on_step=lambda *a: heard.append(a))
    assert [e[0] for e in heard] == [s.stage for s in steps for _ in range(s.evaluations)]
    assert [e[1] for e in heard] == [s.points for s in steps for _ in range(s.evaluations)]
    assert [e[2] for e in heard] == [i + 1 for s in steps for i in range(s.evaluations)]


def test_same_seed_same_hyperparameters(data, found):
    again, steps = find_hyperparameters(data, SETTINGS)
    np.testing.assert_array_equal(logarithms(again), logarithms(found[0]))
    for mine, theirs in zip(steps, found[1], strict=True):
        assert asdict(mine) | {"seconds": 0} == asdict(theirs) | {"seconds": 0}
    other, _ = find_hyperparameters(data, JointSettings(
        sizes=SETTINGS.sizes, evaluations=SETTINGS.evaluations, seed=1, forms=(USUAL,)
    ))
    assert not np.array_equal(logarithms(other), logarithms(again))


@pytest.mark.parametrize("n, sizes", [(24, [8, 16, 24]), (20, [8, 16, 20]), (16, [8, 16]),
                                      (10, [8, 10]), (8, [8]), (3, [3])])
def test_sizes_end_with_the_labels(data, n, sizes):
    settings = JointSettings(sizes=(8, 16, 40), evaluations=(3, 2, 2), forms=(USUAL,))
    _, steps = find_hyperparameters(data.select(np.arange(n)), settings)
    assert [s.points for s in steps] == sizes
    settings = replace(settings, transfer=False)
    _, (step,) = find_hyperparameters(data.select(np.arange(n)), settings)
    assert (step.stage, step.points) == ("direct", sizes[-1])


def test_a_source_of_labels_may_be_missing_among_the_first(make_case):
    """The only label of the second source is not among those of the smallest set."""
    n = 20
    last = np.random.default_rng(SETTINGS.seed).permutation(n)[-1]
    data = make_case("water", n, source=(np.arange(n) == last).astype(int)).data
    h, _ = find_hyperparameters(data, replace(
        SETTINGS, sizes=(8, 20), evaluations=(10, 4)
    ))
    assert len(h.energy_noise) == len(h.gradient_noise) == 2
    assert np.isfinite(value(data, h))


def test_noisy_source_is_told_from_the_other(make_labels, observe, shapes):
    """Gradients with errors of 0.01 hartree/bohr in every other label."""
    labels, rng = make_labels("water", 40), np.random.default_rng(0)
    source = np.arange(40) % 2
    labels.gradients[source == 1] += 0.01 * rng.normal(size=(20, 3, 3))
    data = observe(labels, shapes["water"][1], source=source).data
    h, _ = find_hyperparameters(data, replace(SETTINGS, sizes=(40,), evaluations=(60,)))
    assert h.gradient_noise[1] == pytest.approx(0.01, rel=0.3)
    assert h.gradient_noise[0] < 1e-3


@pytest.mark.parametrize("transfer", [True, False])
class TestErrors:
    def test_too_few_labels(self, data, transfer):
        for n in (0, 1):
            with pytest.raises(TrainingError, match=f"{n} labels are too few: at least 2"):
                find_hyperparameters(
                    data.select(np.arange(n)), JointSettings(transfer=transfer)
                )

    def test_two_are_enough(self, data, transfer):
        h, _ = find_hyperparameters(data.select(np.arange(2)), JointSettings(
            sizes=(2,), evaluations=(3,), transfer=transfer
        ))
        assert np.isfinite(logarithms(h)).all()

    def test_duplicates(self, data, transfer):
        copies = data.select(np.zeros(12, dtype=int))
        settings = JointSettings(
            **NO_NOISE, sizes=(6, 12), evaluations=(5, 3), transfer=transfer, forms=(USUAL,)
        )
        with pytest.raises(TrainingError, match="remove duplicate labels or raise the noise") as e:
            find_hyperparameters(copies, settings)
        assert e.value.__cause__ is None
        with pytest.raises(TrainingError, match="covariance of 12 labels is not positive definite"):
            solve(copies, initial_hyperparameters(copies, settings))


def test_duplicates_on_a_rung(data):
    """The source is sound, what is added to it is not."""
    order = np.random.default_rng(0).permutation(12)
    labels = np.arange(12)
    labels[order[8:]] = order[0]
    settings = replace(SETTINGS, **NO_NOISE, sizes=(4, 12), evaluations=(5, 3))
    with pytest.raises(TrainingError, match="covariance of 12 labels is not positive definite"):
        find_hyperparameters(data.select(labels), settings)


@pytest.mark.parametrize("transfer", [True, False])
def test_much_noise_has_two_starts_and_the_better_is_taken(data, transfer):
    loose = replace(
        SETTINGS, energy_noise=5e-2, sizes=(8,), evaluations=(20,), transfer=transfer
    )
    h, steps = find_hyperparameters(data, loose)
    first, second = steps
    assert (first.points, first.transferred) == (second.points, second.transferred)
    assert first.start != second.start and first.value != second.value
    (_, budget), = loose.budget(len(data))
    assert first.evaluations + second.evaluations <= budget == 40
    source = data.select(np.random.default_rng(0).permutation(len(data))[:8])
    reached = value(source, h)
    assert reached == pytest.approx(min(first.value, second.value), rel=1e-9)
    assert JointSettings().starts == (1e-4,)


def test_of_the_two_most_likely_forms_that_with_the_smaller_error_is_kept(data):
    """All forms are searched on the same labels; the error is that of labels left out.

    Where labels have atomic energies there are no terms.
    """
    settings = replace(
        SETTINGS, sizes=(6, 12, 16), evaluations=(12, 4, 2), forms=tuple(FORMS.values())
    )
    assert settings.budget(len(data)) == [(6, 48), (12, 8), (16, 2)]
    h, steps = find_hyperparameters(data, settings)
    *searched, one, two, last = steps
    assert [s.form for s in searched] == [str(form) for form in OF_ATOMS.values()]
    assert {(s.stage, s.points) for s in searched} == {("source", 6)}
    likely = sorted(searched, key=lambda step: step.value)[:2]
    assert [(s.stage, s.form) for s in (one, two)] == [("ladder", s.form) for s in likely]
    kept = min((one, two), key=lambda step: step.left_out)
    assert str(h.form) == kept.form == last.form and last.points == 16 and last.left_out is None
    assert last.transferred == one.stage and one.transferred == searched[0].stage
    alone, _ = find_hyperparameters(data, replace(settings, forms=(h.form,)))
    np.testing.assert_array_equal(logarithms(h), logarithms(alone))
    assert solve(data, h).processes[0].kernel.form == h.form
    assert sum(s.evaluations for s in steps) <= sum(n for _, n in settings.budget(len(data)))
    order = np.random.default_rng(0).permutation(len(data))[:12]
    errors = []
    settings = replace(settings, sizes=(6, 12), evaluations=(12, 4), forms=(h.form,))
    h, _ = find_hyperparameters(data, settings)
    for left in order:
        rest, label = np.setdiff1d(order, left), data.select(np.array([left])).in_form(h.form)
        system = JointSystem(data.select(rest), h)
        found = gradients_by(system, label)
        errors.append(np.abs(found - label.gradients[0]).mean())
    assert min(s.left_out for s in (one, two)) == pytest.approx(np.mean(errors), rel=1e-3)


def gradients_by(system, label):
    """Gradient (D,) at the point of a label, by its covariances with all observations."""
    found = 0.0
    for a, points in enumerate(label.points):
        own, _, some = system.data.observed(a)
        how = system.theta[a], 1
        by_gradients = np.zeros((label.gradients.size, system.gradient_weights.size))
        add_gradient_blocks(by_gradients, [(points, some, *how[:1], 1.0)], 1)
        by_energies = mixed_block(own, points, *how)
        found = found + system.hyperparameters.variance[a] * (
            by_gradients @ system.gradient_weights.ravel()
            + system.energy_weights[a].ravel() @ by_energies
        )
    return found


def test_terms_are_for_latent_energies(make_case):
    """There all forms that are searched have them; labels with atomic energies refuse them."""
    settings = replace(SETTINGS, sizes=(6,), evaluations=(3,), forms=tuple(FORMS.values()))
    latent = make_case(
        "formaldehyde", 6, with_energies=[], with_total=np.arange(6), form=FORMS["rbf-terms"]
    ).data
    h, steps = find_hyperparameters(latent.in_form(USUAL), settings)
    assert h.form.terms and len(steps) == 4
    assert all(step.form.endswith("with second frames and terms of distances") for step in steps)
    assert not find_hyperparameters(
        latent, replace(settings, forms=(FORMS["rq"],))
    )[0].form.terms
    with pytest.raises(TrainingError, match="kernels with terms are for total energies alone"):
        find_hyperparameters(
            make_case("formaldehyde", 6).data, replace(settings, forms=(FORMS["rbf-terms"],))
        )


def test_bounds_of_inverse_distances_are_those_of_distances(data):
    """What 1/R changes by is smaller by R^2, and theta is larger by its square."""
    inverse = data.in_form(FORMS["rbf-inverse"])
    for points, other in zip(data.points, inverse.points, strict=True):
        of_column = other.units[points.feature]
        slopes = np.linalg.norm(other.slopes, axis=3) / np.linalg.norm(points.slopes, axis=3)
        np.testing.assert_allclose(slopes.mean(axis=(0, 1)), of_column, rtol=1e-8)
    assert all((points.units == 1).all() for points in data.points)
    settings = JointSettings(bounds=(0.02, 0.05), sizes=(8,), evaluations=(10,), forms=(
        FORMS["rbf-inverse"],
    ))
    h, _ = find_hyperparameters(data, settings)
    for theta, points, c in zip(h.theta, inverse.points, data.classes, strict=True):
        unit = points.units
        alike = unit == unit[c.tie]  # features that images exchange have one bound
        like = (theta * unit**2)[alike]
        assert (like > 0.02 * (1 - 1e-9)).all() and (like < 0.05 * (1 + 1e-9)).all()
