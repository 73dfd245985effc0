"""Labels that are refused before anything is trained."""

import numpy as np
import pytest

from ase_fflux.base.errors import LabelError, TrainingError
from ase_fflux.labels.dataset import Label, append_labels
from ase_fflux.training.from_labels import read_labels

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
