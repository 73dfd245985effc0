"""Points of one model, read from a dataset or from training sets."""

import numpy as np
import pytest

from ase_fflux.base.errors import FFLUXError, TrainingError
from ase_fflux.formats.training_set import TrainingSet, write_training_set
from ase_fflux.labels.dataset import Label, append_labels, read_dataset
from ase_fflux.model.alf import choose_alf
from ase_fflux.model.frames import features
from ase_fflux.workflows.ablation_points import AblationPoints, read_points

REFERENCE = np.array([[0.0, 0.0, 0.12], [0.0, 1.46, -0.95], [0.0, -1.46, -0.95]])


def write_labels(path, count, seed, symbols=("O", "H", "H")):
    """Random labels: nothing here looks at what they say but at where they go."""
    rng, labels = np.random.default_rng(seed), []
    for _ in range(count):
        energies = rng.normal(size=3)
        geometry = REFERENCE + rng.normal(scale=0.05, size=(3, 3))
        moments = rng.normal(size=(3, 9))
        moments[:, 0] -= moments[:, 0].mean()
        labels.append(Label(
            symbols, geometry, energies.sum(), np.zeros((3, 3)), energies, moments, method="none",
        ))
    append_labels(path, labels, ["made_up"] * count)


@pytest.fixture
def folder(tmp_path):
    write_labels(tmp_path / "labels.xyz", 20, 0)
    write_labels(tmp_path / "test.xyz", 5, 1)
    for name, count, seed in (("TRAINING", 20, 2), ("VALIDATION", 5, 3)):
        rng = np.random.default_rng(seed)
        targets = {key: rng.normal(size=count) for key in ("iqa", "q00")}
        points = TrainingSet(rng.uniform(1, 2, (count, 3)), targets)
        write_training_set(tmp_path / f"WATER_O1_{name}_SET.csv", points)
    return tmp_path


def expected(path, atom):
    data = read_dataset(path)
    return data, features(data.geometries, choose_alf(data.symbols, REFERENCE), atom)


def test_dataset(folder):
    points = read_points(folder / "labels.xyz", folder / "test.xyz", "H2", "q00")
    assert points.name == "H2 q00"
    for path, x, y in (("labels.xyz", points.features, points.targets),
                       ("test.xyz", points.test_features, points.test_targets)):
        data, inputs = expected(folder / path, 1)
        assert np.array_equal(x, inputs) and np.array_equal(y, data.moments[:, 1, 0])


@pytest.mark.parametrize("atom, name", [(None, "O1"), ("3", "H3"), ("h3", "H3"), ("O1", "O1")])
def test_atoms(folder, atom, name):
    points = read_points(folder / "labels.xyz", folder / "test.xyz", atom)
    assert points.name == f"{name} iqa"
    data, inputs = expected(folder / "labels.xyz", int(name[1]) - 1)
    assert np.array_equal(points.features, inputs)
    assert np.array_equal(points.targets, data.atomic_energies[:, int(name[1]) - 1])


def test_related_models(folder):
    """The energy of the same atom, and the same property of an equivalent one."""
    test = folder / "test.xyz"
    assert read_points(folder / "labels.xyz", test).related == {}
    related = read_points(folder / "labels.xyz", test, "H3", "q00").related
    assert list(related) == ["from H3 iqa", "from H2 q00"]
    for (x, y), atom, column in zip(related.values(), (2, 1), (None, 0), strict=True):
        data, inputs = expected(folder / "labels.xyz", atom)
        values = data.atomic_energies if column is None else data.moments[..., column]
        assert np.array_equal(x, inputs) and np.array_equal(y, values[:, atom])


@pytest.mark.parametrize("file", ["labels.xyz", "WATER_O1_TRAINING_SET.csv"])
def test_a_tenth_is_held_out(folder, file):
    first, again, other = (read_points(folder / file, seed=seed) for seed in (1, 1, 2))
    assert len(first.targets) == 18 and len(first.test_targets) == 2
    assert np.array_equal(first.test_targets, again.test_targets)
    assert not np.array_equal(first.test_targets, other.test_targets)
    split, whole = (
        sorted((*row, y) for row, y in zip(np.vstack(x), np.concatenate(t), strict=True))
        for x, t in (
            ([first.features, first.test_features], [first.targets, first.test_targets]),
            ([other.features, other.test_features], [other.targets, other.test_targets]),
        )
    )
    assert split == whole


def test_training_set(folder):
    points = read_points(
        folder / "WATER_O1_TRAINING_SET.csv", folder / "WATER_O1_VALIDATION_SET.csv", name="q00"
    )
    assert points.name == "O1 q00" and list(points.related) == ["from O1 iqa"]
    rng = np.random.default_rng(2)
    energies, charges = rng.normal(size=20), rng.normal(size=20)
    assert np.array_equal(points.targets, charges) and points.test_targets.shape == (5,)
    features, related = points.related["from O1 iqa"]
    assert np.array_equal(related, energies) and np.array_equal(features, points.features)


@pytest.mark.parametrize("file, more, said", [
    ("labels.xyz", dict(test="WATER_O1_VALIDATION_SET.csv"), "of the same kind"),
    ("WATER_O1_TRAINING_SET.csv", dict(test="test.xyz"), "of the same kind"),
    ("labels.xyz", dict(atom="H1"), "no atom 'H1'; there are O1, H2, H3"),
    ("labels.xyz", dict(atom="0"), "no atom '0'"),
    ("labels.xyz", dict(atom="4"), "no atom '4'"),
    ("labels.xyz", dict(atom="O"), "no atom 'O'"),
    ("labels.xyz", dict(name="q30"), "no property 'q30'; there are iqa, q00"),
    ("labels.xyz", dict(test="sulphide.xyz"), "symbols .* are not those of"),
    ("WATER_O1_TRAINING_SET.csv", dict(atom="O1"), "leave --atom O1 out"),
    ("WATER_O1_TRAINING_SET.csv", dict(name="q10"), "no property 'q10'; there are iqa, q00"),
    ("WATER_O1_TRAINING_SET.csv", dict(test="energies.csv", name="q00"), "energies.csv: no prop"),
    ("WATER_O1_TRAINING_SET.csv", dict(test="larger.csv"), "6 features .* must be of one"),
    ("WATER_O1_TRAINING_SET.csv", dict(test="WATER_H2_SET.csv"), "of H2.* must be of one atom"),
    ("energies.csv", {}, "too few to hold a tenth out"),
    ("nothing.xyz", {}, "no such label file"),
])
def test_what_does_not_fit_is_refused(folder, file, more, said):
    write_labels(folder / "sulphide.xyz", 2, 0, ("S", "H", "H"))
    x = np.random.default_rng(0).uniform(1, 2, (4, 6))
    write_training_set(folder / "energies.csv", TrainingSet(x[:, :3], {"iqa": x[:, 3]}))
    write_training_set(folder / "WATER_H2_SET.csv", TrainingSet(x[:, :3], {"iqa": x[:, 3]}))
    write_training_set(folder / "larger.csv", TrainingSet(x, {"iqa": x[:, 3]}))
    if "test" in more:
        more = more | dict(test=folder / more["test"])
    with pytest.raises(FFLUXError, match=said):
        read_points(folder / file, **more)


def test_constant_properties_are_refused():
    x = np.random.default_rng(0).uniform(1, 2, (4, 3))
    with pytest.raises(TrainingError, match="C1 q00 is constant"):
        AblationPoints("C1 q00", x, np.full(4, 0.1), x, x[:, 0])
