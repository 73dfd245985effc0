"""Labels and training sets that are refused before anything is trained."""

import numpy as np
import pytest

from ase_fflux.base.errors import LabelError, TrainingError
from ase_fflux.formats.training_set import TrainingSet, write_training_set
from ase_fflux.labels.dataset import Label, append_labels
from ase_fflux.training.inputs import read_labels, read_sets

SHAPE = np.array([[0.0, 0.0, 0.12], [0.0, 1.46, -0.95], [0.0, -1.46, -0.95]])


def geometries(n=12):
    return SHAPE + np.random.default_rng(0).normal(scale=0.05, size=(n, 3, 3))


def write_labels(path, **change):
    labels = []
    for x in geometries():
        given = dict(energy=-76.0, gradient=np.zeros((3, 3)),
                     atomic_energies=np.array([-75.0, -0.5, -0.5]))
        labels.append(Label(("O", "H", "H"), x, **given | change))
    append_labels(path, labels, ["md"] * len(labels))
    return path


def test_totals_alone_are_refused_in_one_line(tmp_path):
    path = write_labels(tmp_path / "plain.xyz", atomic_energies=None)
    with pytest.raises(TrainingError, match="plain.xyz: no atomic energies: .* give --gradients"):
        read_labels(path, None, 0.1, 0, None)


def test_labels_without_moments_train_energies(tmp_path):
    data = read_labels(write_labels(tmp_path / "labels.xyz"), None, 0.1, 0, None)
    assert [set(atom.training.targets) for atom in data.atoms] == [{"iqa"}] * 3


def test_labels_that_cannot_be_true_are_refused(tmp_path):
    path = write_labels(tmp_path / "labels.xyz", gradient=np.full((3, 3), 0.1))
    with pytest.raises(LabelError, match="labels.xyz, frame 1: a net force"):
        read_labels(path, None, 0.1, 0, None)


@pytest.mark.parametrize("where", ["training", "test"])
def test_an_energy_ten_times_too_large_names_its_point(tmp_path, where):
    rng = np.random.default_rng(0)
    paths = {}
    for name in ("training", "test"):
        targets = {"iqa": -75.0 + 0.01 * rng.normal(size=30)}
        if name == where:
            targets["iqa"][16] *= 10
        paths[name] = tmp_path / f"WATER_O1_{name.upper()}_SET.csv"
        write_training_set(paths[name], TrainingSet(rng.uniform(1, 2, (30, 3)), targets))
    with pytest.raises(TrainingError, match=f"{where.upper()}_SET.csv, point 17: iqa is -7"):
        read_sets([paths["training"]], [paths["test"]], 0.0, 0, [(1, 2, 3)], None)
