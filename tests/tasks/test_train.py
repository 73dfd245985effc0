"""Training on a made-up surface: everything a smooth function of the distances of a molecule."""

from dataclasses import replace

import numpy as np
import pytest

from ase_fflux.electrostatics.multipoles import MOMENT_NAMES, spherical_from_cartesian
from ase_fflux.forcefield import ForceField
from ase_fflux.frames import features
from ase_fflux.gp.training import TrainingSettings
from ase_fflux.molecule import ENERGY
from ase_fflux.reference.dataset import Dataset
from ase_fflux.tasks.train import train_atom, train_molecule

SYMBOLS = ("O", "H", "H")
ALF = np.array([[0, 1, 2], [1, 0, 2], [2, 0, 1]])
REFERENCE = np.array([[0.0, 0.0, 0.12], [0.0, 1.46, -0.95], [0.0, -1.46, -0.95]])
SETTINGS = TrainingSettings(noise=1e-10)


def made_up(geometries):
    """Labels of (n, 3, 3) geometries in bohr, covariant under rotation by construction."""
    n = len(geometries)
    bonds = geometries[:, None, :, :] - geometries[:, :, None, :]
    distances = np.linalg.norm(bonds, axis=-1)
    weights = np.array([[0.0, 1.0, 0.7], [0.9, 0.0, 0.3], [0.8, 0.2, 0.0]])
    decay = weights * np.exp(-0.5 * distances)
    energies = -75 + np.array([1.0, 2.0, 3.0]) + decay.sum(axis=2)
    charges = decay.sum(axis=2) - decay.sum(axis=(1, 2))[:, None] / 3
    dipoles = (decay[..., None] * bonds).sum(axis=2)
    # a component out of the plane, where pseudo-vectors would show
    dipoles += 0.1 * np.cross(bonds[:, :, 0], bonds[:, :, 1])
    quadrupoles = np.einsum("nab,nabi,nabj->naij", decay, bonds, bonds)
    quadrupoles -= np.trace(quadrupoles, axis1=2, axis2=3)[..., None, None] / 3 * np.eye(3)
    higher = spherical_from_cartesian(dipoles, quadrupoles)
    return Dataset(
        symbols=SYMBOLS, geometries=geometries, energies=energies.sum(axis=1),
        gradients=np.zeros((n, 3, 3)), atomic_energies=energies,
        moments=np.concatenate([charges[..., None], higher], axis=-1),
        dipoles=np.einsum("na,nai->ni", charges, geometries) + dipoles.sum(axis=1),
        origins=np.full(n, "made_up"), method="none",
    )


@pytest.fixture(scope="module")
def dataset():
    rng = np.random.default_rng(0)
    return made_up(REFERENCE + rng.normal(scale=0.08, size=(40, 3, 3)))


@pytest.fixture(scope="module")
def model(dataset):
    return train_molecule(dataset, "made-up", ALF, REFERENCE, SETTINGS)


def test_local_moments_do_not_turn_with_the_molecule(dataset):
    """What is learnt from a dataset in which every geometry is turned and moved is the same."""
    rng = np.random.default_rng(1)
    rotations = np.linalg.qr(rng.normal(size=(len(dataset), 3, 3)))[0]
    rotations *= np.sign(np.linalg.det(rotations))[:, None, None]
    turned = made_up(np.einsum("nij,naj->nai", rotations, dataset.geometries) + 2.0)
    assert not np.allclose(turned.moments[:, :, 1:], dataset.moments[:, :, 1:], atol=0.1)
    for atom in range(3):
        _, expected, _ = train_atom(dataset, ALF, atom, SETTINGS)
        _, moments, _ = train_atom(turned, ALF, atom, SETTINGS)
        assert np.allclose(moments.gp.targets(), expected.gp.targets(), atol=1e-6)
    assert np.ptp(expected.gp.targets()[1]) > 1e-3


def test_local_dipole_is_in_the_frame_of_the_atom(dataset):
    """x from the atom to its first frame atom, y in the plane, z = x cross y."""
    _, moments, _ = train_atom(dataset, ALF, 1, SETTINGS)
    a, x, xy = dataset.geometries[:, ALF[1]].transpose(1, 0, 2)
    axes = [x - a, None, np.cross(x - a, xy - a)]
    axes[1] = np.cross(axes[2], axes[0])
    z0, x0, y0 = dataset.moments[:, 1, 1:4].T
    dipole = np.stack([x0, y0, z0], axis=1)
    local = dict(zip(moments.properties, moments.gp.targets(), strict=True))
    for name, axis in zip(("q11c", "q11s", "q10"), axes, strict=True):
        expected = (dipole * axis).sum(axis=1) / np.linalg.norm(axis, axis=1)
        assert np.allclose(local[name], expected, atol=1e-6)


def test_layout(model, dataset):
    assert model.name == "made-up" and model.symbols == SYMBOLS and model.rank == 2
    assert np.array_equal(model.alf, ALF) and np.array_equal(model.reference_geometry, REFERENCE)
    assert np.array_equal(model.geometries, dataset.geometries)
    assert [p.atom for p in model.processes] == [0, 0, 1, 1, 2, 2]
    for energy, moments in zip(model.processes[::2], model.processes[1::2], strict=True):
        assert energy.properties == (ENERGY,) and moments.properties == MOMENT_NAMES[:9]
        inputs = features(dataset.geometries, ALF, energy.atom)
        assert np.array_equal(energy.gp.inputs, inputs)
        assert np.array_equal(moments.gp.inputs, inputs)


def test_processes_reproduce_their_labels(model, dataset):
    """Through the force field, which turns local moments back into the global frame."""
    forcefield = ForceField([model])
    numbers = [8, 1, 1]
    assignment = forcefield.match(REFERENCE, numbers, explicit=[[0, 1, 2]])
    for i in range(0, len(dataset), 8):
        x = dataset.geometries[i]
        result = forcefield.evaluate(x, numbers, assignment=assignment, moments=True)
        assert np.allclose(result.energies, dataset.atomic_energies[i], rtol=0, atol=1e-5)
        assert np.allclose(result.moments, dataset.moments[i], rtol=0, atol=1e-5)
        assert result.coverage == pytest.approx(1.0)


def test_it_learns(model, dataset):
    """Geometries between the training points, and forces that no label told it of."""
    forcefield = ForceField([model])
    numbers = [8, 1, 1]
    assignment = forcefield.match(REFERENCE, numbers, explicit=[[0, 1, 2]])
    rng = np.random.default_rng(5)
    test = made_up(REFERENCE + rng.normal(scale=0.05, size=(10, 3, 3)))
    for x, energies, moments in zip(
        test.geometries, test.atomic_energies, test.moments, strict=True
    ):
        result = forcefield.evaluate(x, numbers, assignment=assignment, moments=True)
        assert np.allclose(result.energies, energies, rtol=0, atol=2e-4)
        assert np.allclose(result.moments, moments, rtol=0, atol=2e-3)
        step = 1e-4
        steps = step * np.eye(9).reshape(9, 3, 3)
        expected = -(made_up(x + steps).energies - made_up(x - steps).energies) / (2 * step)
        assert np.allclose(result.forces.ravel(), expected, rtol=0, atol=2e-3)


def test_constant_property_keeps_its_value(dataset):
    """A moment may vanish by symmetry; it must not spoil the others."""
    moments = dataset.moments.copy()
    moments[:, :, 0] = [[-0.6, 0.3, 0.3]]
    _, constant, _ = train_atom(replace(dataset, moments=moments), ALF, 0, SETTINGS)
    _, other, _ = train_atom(dataset, ALF, 0, SETTINGS)
    nearby = constant.gp.inputs + 0.01
    assert np.allclose(constant.gp.predict(nearby)[0], -0.6, atol=1e-10)
    assert np.allclose(constant.gp.predict(nearby)[1:], other.gp.predict(nearby)[1:], atol=1e-3)


def test_progress_names_every_atom(dataset):
    seen = []
    train_molecule(
        dataset.select(slice(None, None, 4)), "made-up", ALF, REFERENCE, SETTINGS, seen.append
    )
    assert seen == [0, 1, 2]
