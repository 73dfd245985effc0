import numpy as np
import pytest

from ase_fflux.base.errors import TrainingError


@pytest.fixture
def case(make_case):
    return make_case(
        "fluoromethane", 6, with_gradient=np.array([4, 1, 2]), source=np.array([0, 1, 0, 1, 1, 0])
    )


def test_observations_are_the_labels(case):
    data, labels = case.data, case.labels
    assert len(data) == 6
    np.testing.assert_array_equal(data.with_gradient, [1, 2, 4])
    for c, energies in zip(data.classes, data.energies, strict=True):
        np.testing.assert_array_equal(energies, labels.atomic_energies[:, c.atoms].T)
    whole = np.einsum("nxd,nd->nx", data.directions, data.gradients)
    np.testing.assert_allclose(whole, labels.gradients.reshape(6, -1), atol=1e-14)
    assert sorted(a for c in data.classes for a in c.atoms) == [0, 1, 2, 3, 4]
    assert data.n_observed == (30, 27)


def test_by_default_all_gradients_of_one_source(make_case):
    data = make_case("water", 4).data
    assert data.with_gradient.tolist() == [0, 1, 2, 3] and data.source.tolist() == [0] * 4


def test_selected_labels_keep_what_they_have(case):
    data = case.data
    some = data.select(np.array([4, 0, 2]))
    np.testing.assert_array_equal(some.with_gradient, [0, 2])
    np.testing.assert_array_equal(some.source, [1, 0, 0])
    np.testing.assert_array_equal(some.gradients, data.gradients[[4, 0, 2]])
    np.testing.assert_array_equal(some.directions, data.directions[[4, 0, 2]])
    for mine, all_ in zip(some.points, data.points, strict=True):
        np.testing.assert_array_equal(mine.columns, all_.columns[:, [4, 0, 2]])
    for mine, all_ in zip(some.energies, data.energies, strict=True):
        np.testing.assert_array_equal(mine, all_[:, [4, 0, 2]])
    fewer = data.select_gradients(np.array([4, 1]))
    assert len(fewer) == 6 and fewer.with_gradient.tolist() == [1, 4]


@pytest.mark.parametrize("field, words", [
    ("geometries", "label 3 has numbers that are not finite in its geometry"),
    ("atomic_energies", "label 3 has numbers that are not finite in its atomic energies"),
    ("gradients", "label 3 has numbers that are not finite in its gradient"),
])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_labels_that_are_no_numbers(make_labels, observe, shapes, field, words, bad):
    labels = make_labels("water", 4)
    getattr(labels, field)[2].flat[1] = bad
    with pytest.raises(TrainingError, match=words):
        observe(labels, shapes["water"][1])
