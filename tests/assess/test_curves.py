import csv

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ase_fflux.assess.curves import (
    learning_curve,
    s_curve,
    subset_predictions,
    unit_of,
    write_learning_curves,
    write_s_curves,
)
from ase_fflux.base.errors import TrainingError
from ase_fflux.learn.gp.likelihood import ConcentratedLikelihood

NOISE = 1e-6


def surface(x):
    """Two smooth functions of two distances, a polar angle, and distances and azimuth."""
    y = np.stack([np.sin(x[:, 0]) + x[:, 1] * x[:, 2], np.cos(x[:, 5]) * np.exp(-x[:, 3])])
    return 0.1 * y - np.array([[37.0], [0.0]])


def points(n, seed):
    random = np.random.default_rng(seed)
    phi = random.uniform(-np.pi, np.pi, n)
    return np.column_stack([random.uniform(-0.7, 0.7, (n, 5)), phi])


X, HELD_OUT = points(320, 0), points(150, 1)
THETA = np.array([0.3, 0.3, 0.3, 0.3, 0.01, 0.3])
FULL = ConcentratedLikelihood(X, surface(X), NOISE).process(THETA)


@given(st.lists(st.integers(-9, 9), min_size=1, max_size=30))
def test_percentile_counts_errors_at_most_as_large(values):
    errors, percentiles = s_curve(np.array(values, dtype=float))
    assert sorted(map(abs, values)) == errors.tolist()
    counts = [np.mean(np.abs(values) <= e) for e in errors]
    assert percentiles == pytest.approx(100 * np.array(counts))
    assert (np.diff(percentiles) >= 0).all() and percentiles[-1] == 100


def test_median_is_in_the_middle():
    errors, percentiles = s_curve(np.random.default_rng(0).normal(size=401))
    middle = errors == np.median(errors)
    assert percentiles[middle] == pytest.approx(50, abs=0.2)


@pytest.mark.parametrize("errors", [[], [1.0, np.nan], [np.inf]])
def test_s_curve_of_nothing_is_refused(errors):
    with pytest.raises(TrainingError, match="held-out"):
        s_curve(np.array(errors))


def test_learning_curve_ends_at_the_model_and_falls():
    truth = surface(HELD_OUT)
    sizes, rmse = learning_curve(FULL, HELD_OUT, truth, seed=3)
    assert sizes.tolist() == [20, 40, 80, 160, 320]
    direct = np.sqrt(np.mean((FULL.predict(HELD_OUT) - truth) ** 2, axis=1))
    assert (rmse[:, -1] == direct).all()
    assert (np.diff(rmse, axis=1) < 0).all()


def test_subset_models_are_those_trained_on_the_subset():
    sizes, predictions = subset_predictions(FULL, HELD_OUT, seed=3, sizes=[50, 7, 120])
    assert sizes.tolist() == [7, 50, 120]
    order = np.random.default_rng(3).permutation(len(X))
    for size, found in zip(sizes, predictions, strict=True):
        subset = X[order[:size]]
        process = ConcentratedLikelihood(subset, surface(subset), NOISE).process(THETA)
        np.testing.assert_allclose(found, process.predict(HELD_OUT), atol=1e-8)


def test_predictions_of_several_processes_are_at_the_same_points():
    parts = [
        ConcentratedLikelihood(X, y, NOISE).process(THETA) for y in (*surface(X), surface(X).sum(0))
    ]
    first, second, total = (subset_predictions(p, HELD_OUT, seed=5)[1] for p in parts)
    np.testing.assert_allclose(first + second, total, atol=1e-8)


def test_noise_is_that_of_the_process():
    noisy = ConcentratedLikelihood(X, surface(X), 0.5).process(THETA)
    _, predictions = subset_predictions(noisy, HELD_OUT, seed=0, sizes=[319])
    # one point less of a smooth model changes little, another noise much
    np.testing.assert_allclose(predictions[0], noisy.predict(HELD_OUT), atol=2e-3)
    assert np.abs(predictions[0] - FULL.predict(HELD_OUT)).max() > 1e-2


def test_few_points_have_one_size():
    few = ConcentratedLikelihood(X[:15], surface(X[:15]), NOISE).process(THETA)
    sizes, rmse = learning_curve(few, HELD_OUT, surface(HELD_OUT), seed=0)
    assert sizes.tolist() == [15] and rmse.shape == (2, 1)


@pytest.mark.parametrize("sizes", [[], [1, 10], [10, 321]])
def test_impossible_sizes_are_refused(sizes):
    with pytest.raises(TrainingError, match="from 2 to 320"):
        subset_predictions(FULL, HELD_OUT, seed=0, sizes=sizes)


def test_no_held_out_points_are_refused():
    with pytest.raises(TrainingError, match="held-out"):
        learning_curve(FULL, HELD_OUT[:0], surface(HELD_OUT[:0]), seed=0)


def test_duplicates_without_noise_are_refused():
    twice = np.vstack([X[:20], X[:20]])
    good = ConcentratedLikelihood(twice, surface(twice), 1e-3).process(THETA)
    exact = type(good)(good.inputs, good.kernel, good.mean, good.weights, 0.0)
    with pytest.raises(TrainingError, match="not positive definite"):
        subset_predictions(exact, HELD_OUT, seed=0, sizes=[39])


def test_units():
    assert unit_of("iqa").factor == pytest.approx(2625.4996, rel=1e-7)
    assert [unit_of(p).name for p in ("iqa", "q00", "q11c")] == ["kJ/mol", "e", "au"]
    assert unit_of("q00").factor == unit_of("q44s").factor == 1


def read(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_s_curves_survive_the_file(tmp_path):
    random = np.random.default_rng(0)
    curves = {(a, "iqa"): s_curve(random.normal(size=n)) for a, n in (("O1", 5), ("H2", 8))}
    write_s_curves(tmp_path / "s.csv", curves)
    rows = read(tmp_path / "s.csv")
    assert list(rows[0]) == ["atom", "property", "abs_error_kJ_per_mol", "percentile"]
    for (atom, name), curve in curves.items():
        mine = [r for r in rows if (r["atom"], r["property"]) == (atom, name)]
        found = [[float(r[c]) for r in mine] for c in ("abs_error_kJ_per_mol", "percentile")]
        assert (np.array(found) == curve).all()
    assert len(rows) == 13


@pytest.mark.parametrize(("name", "unit"), [("iqa", "kJ_per_mol"), ("q00", "e"), ("q20", "au")])
def test_learning_curves_survive_the_file(tmp_path, name, unit):
    rmse = np.array([1 / 3, 1e-17])
    write_learning_curves(tmp_path / "l.csv", {("C3", name): (np.array([10, 20]), rmse)})
    column = f"rmse_{unit}_with_kernel_of_full_model"
    rows = read(tmp_path / "l.csv")
    assert list(rows[0]) == ["atom", "property", "points", column]
    assert [int(row["points"]) for row in rows] == [10, 20]
    assert [float(row[column]) for row in rows] == rmse.tolist()


def test_one_unit_in_a_file(tmp_path):
    curve = s_curve(np.ones(3))
    with pytest.raises(ValueError, match="one unit"):
        write_s_curves(tmp_path / "s.csv", {("O1", "iqa"): curve, ("O1", "q00"): curve})
    write_s_curves(tmp_path / "s.csv", {("O1", "q10"): curve, ("O1", "q20"): curve})
    assert len(read(tmp_path / "s.csv")) == 6
