"""Labels that cannot be true, made from labels that are."""

from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms

from ase_fflux.base.errors import LabelError
from ase_fflux.base.units import BOHR, FORCE
from ase_fflux.labels.checks import believe, outlier
from ase_fflux.labels.label import Dataset, dataset_of
from ase_fflux.labels.tblite_source import GFN2

pytest.importorskip("tblite.interface", exc_type=ImportError)

N, ODD = 12, 7


@pytest.fixture(scope="module")
def labels():
    """A charged molecule, hot, and not at the origin."""
    rng = np.random.default_rng(0)
    shape = np.array([[0.0, 0.0, 0.0], [0.0, 0.9, 0.4], [0.8, -0.5, 0.3], [-0.8, -0.5, 0.3]])
    source = GFN2(charge=1)
    return dataset_of(
        source.label(Atoms("OH3", shape + 0.1 * rng.normal(size=(4, 3)) + [1.0, 2.0, -1.0]))
        for _ in range(N)
    )


def turned(x, axis=2, angle=0.1):
    """Vectors (..., 3) turned a little about an axis."""
    c, s = np.cos(angle), np.sin(angle)
    matrix = np.roll([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]], axis + 1, axis=(0, 1))
    return x @ matrix.T


def changed(labels, name, change):
    """The labels with the odd one's values changed."""
    values = getattr(labels, name).copy()
    values[ODD] = change(values[ODD])
    return replace(labels, **{name: values})


def test_labels_of_gfn2(labels):
    believe(labels)
    for name in ("energies", "gradients", "atomic_energies", "moments", "dipoles"):
        believe(replace(labels, **{name: None}))
    believe(labels.select(slice(1)))


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("gradients", lambda g: g + [0, 0, 0.2 / FORCE / 4], "a net force of 0.2 eV/A"),
        ("gradients", turned, "a net torque of .* eV .*turned against the positions"),
        ("moments", lambda q: q + 1e-4 * np.eye(4, 9), r"charges sum to 1.000100 e"),
        ("dipoles", lambda d: d + [0, 1e-3, 0], "dipole differs by 0.001 e bohr"),
        ("dipoles", turned, "the same orientation and origin"),
        ("atomic_energies", lambda e: e + 1e-7, "miss the total energy by 4.0e-07 Ha"),
        ("geometries", lambda x: 1.1 * x, "dipole differs"),
    ],
)
def test_what_cannot_be_true(labels, name, change, words):
    with pytest.raises(LabelError, match=f"^label {ODD + 1}: .*{words}"):
        believe(changed(labels, name, change))
    with pytest.raises(LabelError, match=f"^frame {ODD}: "):
        believe(changed(labels, name, change), lambda label: f"frame {label}")


def test_all_forces_turned(labels):
    with pytest.raises(LabelError, match="label 1: a net torque"):
        believe(replace(labels, gradients=turned(labels.gradients, axis=0)))


def test_charges_that_are_not_whole(labels):
    moments = labels.moments.copy()
    moments[:, 0, 0] -= 0.5
    with pytest.raises(LabelError, match=r"0.500000 e \(median\), which is not whole"):
        believe(replace(labels, moments=moments))


def test_limits_follow_the_tolerance(labels):
    """What integrals over atoms of a stated error leave."""
    rng = np.random.default_rng(1)
    moments = labels.moments + 1e-4 * rng.normal(size=labels.moments.shape)
    noisy = replace(
        labels, moments=moments, gradients=labels.gradients + 1e-5 * rng.normal(size=(N, 4, 3)),
        atomic_energies=labels.atomic_energies + 2e-5 * rng.normal(size=(N, 4)),
    )
    with pytest.raises(LabelError):
        believe(noisy)
    believe(replace(noisy, tolerance=2e-4))


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("energies", lambda e: 10 * e, "total energy is -5"),
        ("atomic_energies", lambda e: e * [10, 1, 1, 1], r"the energy of atom 1 \(O\) is -4"),
        ("gradients", lambda g: 100 * g, "the largest component of the gradient"),
        ("moments", lambda q: q + 2 * np.eye(4, 9, k=5), r"q21c of atom 1 \(O\)"),
    ],
)
def test_outliers(labels, name, change, words):
    alone = {
        other: None for other in ("energies", "gradients", "atomic_energies", "moments", "dipoles")
        if other != name
    }
    with pytest.raises(LabelError, match=f"label {ODD + 1}: .*{words}"):
        believe(changed(replace(labels, **alone), name, change))


def test_what_is_no_outlier():
    """Two kinds of geometries, heavy tails, constants, few values."""
    rng = np.random.default_rng(0)
    assert outlier(rng.normal(size=1000)) is None
    assert outlier(rng.standard_t(3, size=1000)) is None
    assert outlier(np.concatenate([rng.normal(size=90), rng.normal(20.0, 5.0, size=10)])) is None
    assert outlier(np.concatenate([np.zeros(50), 0.09 * rng.uniform(size=4)])) is None
    assert outlier(np.array([0.0] * 8 + [100.0])) is None
    assert outlier(np.array([0.0] * 9 + [100.0])) == 9
    assert outlier(np.append(-75 + 0.1 * rng.normal(size=50), -750.0)) == 50


def test_a_label_far_from_the_origin_of_its_dipole():
    """An ion's dipole is about the origin, wherever the ion is."""
    label = GFN2(charge=1).label(Atoms("OH3", [[0, 0, 0], [0, 1, 0], [1, 0, 0], [-1, 0, 0.3]]))
    shift = np.array([10.0, 0.0, 0.0])
    moved = replace(label, geometry=label.geometry + shift / BOHR)
    with pytest.raises(LabelError, match="origin of the coordinates"):
        believe(dataset_of([moved]))
    believe(dataset_of([replace(moved, dipole=label.dipole + shift / BOHR)]))


def test_labels_without_anything_to_doubt():
    believe(Dataset(("H", "H"), np.zeros((2, 2, 3))))
