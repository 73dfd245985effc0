"""Training on a made-up surface: everything a smooth function of the distances of a molecule."""

import json
from dataclasses import replace

import numpy as np
import pytest
from ase.build import molecule

from ase_fflux.base.errors import TrainingError
from ase_fflux.base.units import BOHR
from ase_fflux.forcefield import ForceField
from ase_fflux.labels.dataset import Dataset
from ase_fflux.learn.gp.settings import TrainingSettings, Transfer
from ase_fflux.learn.gp.training import train
from ase_fflux.model.alf import choose_alf
from ase_fflux.model.frames import features
from ase_fflux.model.molecule import ENERGY
from ase_fflux.model.multipoles import MOMENT_NAMES, spherical_from_cartesian
from ase_fflux.training.jobs import run_jobs
from ase_fflux.training.molecule import (
    LINKS,
    MOMENTS,
    equivalent_atoms,
    local_properties,
    molecule_jobs,
    molecule_model,
    training_record,
)

SYMBOLS = ("O", "H", "H")
ALF = np.array([[0, 1, 2], [1, 0, 2], [2, 0, 1]])
REFERENCE = np.array([[0.0, 0.0, 0.12], [0.0, 1.46, -0.95], [0.0, -1.46, -0.95]])
WEIGHTS = np.array([[0.0, 1.0, 0.7], [0.9, 0.0, 0.3], [0.8, 0.2, 0.0]])
SETTINGS = TrainingSettings(noise=1e-10)
ONE_SOURCE = TrainingSettings(transfer=Transfer(fractions=(0.2,)))
NAMES = MOMENT_NAMES[:9]


def made_up(geometries, symbols=SYMBOLS, weights=WEIGHTS):
    """Labels of (n, N, 3) geometries in bohr, covariant under rotation by construction."""
    n, n_atoms, _ = geometries.shape
    bonds = geometries[:, None, :, :] - geometries[:, :, None, :]
    distances = np.linalg.norm(bonds, axis=-1)
    decay = weights * np.exp(-0.5 * distances)
    energies = -75 + np.arange(1.0, 1 + n_atoms) + decay.sum(axis=2)
    charges = decay.sum(axis=2) - decay.sum(axis=(1, 2))[:, None] / n_atoms
    dipoles = (decay[..., None] * bonds).sum(axis=2)
    # a component out of the plane, where pseudo-vectors would show
    dipoles += 0.1 * np.cross(bonds[:, :, 0], bonds[:, :, 1])
    quadrupoles = np.einsum("nab,nabi,nabj->naij", decay, bonds, bonds)
    quadrupoles -= np.trace(quadrupoles, axis1=2, axis2=3)[..., None, None] / 3 * np.eye(3)
    higher = spherical_from_cartesian(dipoles, quadrupoles)
    return Dataset(
        symbols=tuple(symbols), geometries=geometries, energies=energies.sum(axis=1),
        gradients=np.zeros_like(geometries), atomic_energies=energies,
        moments=np.concatenate([charges[..., None], higher], axis=-1),
        dipoles=np.einsum("na,nai->ni", charges, geometries) + dipoles.sum(axis=1),
        origins=np.full(n, "made_up"), method="none",
    )


def displaced(reference, count, scale, seed=0):
    random = np.random.default_rng(seed)
    return reference + random.normal(scale=scale, size=(count, *reference.shape))


def prepared(name):
    """Symbols, geometry (bohr) and local frames of a molecule of ASE's collection."""
    atoms = molecule(name)
    geometry = atoms.positions / BOHR
    return tuple(atoms.symbols), geometry, choose_alf(list(atoms.symbols), geometry)


@pytest.fixture(scope="module")
def dataset():
    return made_up(displaced(REFERENCE, 40, 0.08))


@pytest.fixture(scope="module")
def large():
    """Enough points for a source."""
    return made_up(displaced(REFERENCE, 90, 0.08, seed=3))


@pytest.fixture(scope="module", params=["shared", "separate"])
def model(dataset, request):
    jobs = molecule_jobs(dataset, ALF, SETTINGS, request.param)
    return molecule_model(
        "made-up", dataset.symbols, ALF, REFERENCE, jobs, run_jobs(jobs), dataset.geometries
    )


def test_local_moments_do_not_turn_with_the_molecule(dataset):
    """What is learnt from a dataset in which every geometry is turned and moved is the same."""
    rng = np.random.default_rng(1)
    rotations = np.linalg.qr(rng.normal(size=(len(dataset), 3, 3)))[0]
    rotations *= np.sign(np.linalg.det(rotations))[:, None, None]
    turned = made_up(np.einsum("nij,naj->nai", rotations, dataset.geometries) + 2.0)
    assert not np.allclose(turned.moments[:, :, 1:], dataset.moments[:, :, 1:], atol=0.1)
    for atom in range(3):
        inputs, targets = local_properties(dataset, ALF, atom)
        turned_inputs, turned_targets = local_properties(turned, ALF, atom)
        assert np.allclose(turned_inputs, inputs, rtol=0, atol=1e-12)
        assert np.allclose(turned_targets, targets, rtol=0, atol=1e-12)
    assert np.ptp(targets[2]) > 1e-3


def test_local_dipole_is_in_the_frame_of_the_atom(dataset):
    """x from the atom to its first frame atom, y in the plane, z = x cross y."""
    targets = local_properties(dataset, ALF, 1)[1]
    a, x, xy = dataset.geometries[:, ALF[1]].transpose(1, 0, 2)
    axes = [x - a, None, np.cross(x - a, xy - a)]
    axes[1] = np.cross(axes[2], axes[0])
    z0, x0, y0 = dataset.moments[:, 1, 1:4].T
    dipole = np.stack([x0, y0, z0], axis=1)
    local = dict(zip((ENERGY, *NAMES), targets, strict=True))
    assert np.array_equal(local[ENERGY], dataset.atomic_energies[:, 1])
    assert np.array_equal(local["q00"], dataset.moments[:, 1, 0])
    for name, axis in zip(("q11c", "q11s", "q10"), axes, strict=True):
        expected = (dipole * axis).sum(axis=1) / np.linalg.norm(axis, axis=1)
        assert np.allclose(local[name], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("moments, groups", [
    ("shared", [(ENERGY,), NAMES]), ("separate", [(ENERGY,), *((name,) for name in NAMES)]),
    ("charges", [(ENERGY,), ("q00",)]), ("none", [(ENERGY,)]),
])
def test_jobs_are_the_groups_of_every_atom(dataset, moments, groups):
    jobs = molecule_jobs(dataset, ALF, SETTINGS, moments)
    assert [(job.atom, job.properties) for job in jobs] == [
        (atom, group) for atom in range(3) for group in groups
    ]
    assert len({job.name for job in jobs}) == len(jobs)
    assert [job.name.split()[0] for job in jobs[:: len(groups)]] == ["O1", "H2", "H3"]
    for job in jobs:
        inputs, targets = local_properties(dataset, ALF, job.atom)
        rows = [(ENERGY, *NAMES).index(name) for name in job.properties]
        assert np.array_equal(job.features, inputs) and np.array_equal(job.targets, targets[rows])
        assert job.settings == SETTINGS and job.after == () and job.guesses == ()


def test_unknown_moments_and_links_are_refused(dataset):
    with pytest.raises(TrainingError, match=f"'all' is not one of {', '.join(MOMENTS)}"):
        molecule_jobs(dataset, ALF, SETTINGS, "all")
    with pytest.raises(TrainingError, match=f"'atoms' is not one of {', '.join(LINKS)}"):
        molecule_jobs(dataset, ALF, SETTINGS, links=["properties", "atoms"])


def test_layout(model, dataset):
    assert model.name == "made-up" and model.symbols == SYMBOLS and model.rank == 2
    assert np.array_equal(model.alf, ALF) and np.array_equal(model.reference_geometry, REFERENCE)
    assert np.array_equal(model.geometries, dataset.geometries)
    for atom in range(3):
        processes = [p for p in model.processes if p.atom == atom]
        assert sum((p.properties for p in processes), ()) == (ENERGY, *NAMES)
        inputs = features(dataset.geometries, ALF, atom)
        assert all(np.array_equal(p.gp.inputs, inputs) for p in processes)


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
    test = made_up(displaced(REFERENCE, 10, 0.05, seed=5))
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
    inputs, targets = local_properties(replace(dataset, moments=moments), ALF, 0)
    constant = train(inputs, targets[1:], SETTINGS).process
    other = train(inputs, local_properties(dataset, ALF, 0)[1][1:], SETTINGS).process
    nearby = inputs + 0.01
    assert np.allclose(constant.predict(nearby)[0], -0.6, atol=1e-10)
    assert np.allclose(constant.predict(nearby)[1:], other.predict(nearby)[1:], atol=1e-3)


@pytest.mark.parametrize("name, twins", [
    ("H2O", {2: 1}), ("C6H6", None), ("C2H6", None), ("CH3CH2OH", None), ("CH3CHO", None),
])
def test_features_of_equivalent_atoms(name, twins):
    """Relabelling a geometry without any symmetry carries one atom's features to its equivalent's.

    If Y is X with labels such that twin and atom change places, the features of the atom in Y are
    those of the twin in X, in the order that is told.
    """
    symbols, geometry, alf = prepared(name)
    found = equivalent_atoms(symbols, geometry, alf)
    assert found and (twins is None or {a: twin for a, (twin, _) in found.items()} == twins)
    x = displaced(geometry, 3, 0.1)
    for atom, (twin, order) in found.items():
        assert twin < atom and symbols[twin] == symbols[atom] and twin not in found
        others = [[n for n in range(len(alf)) if n not in alf[a]] for a in (twin, atom)]
        # the order itself says which atom becomes which; only elements may be exchanged for it
        image = np.empty(len(alf), dtype=int)
        image[alf[twin]] = alf[atom]
        image[[others[0][i] for i in (order[3::3] - 3) // 3]] = others[1]
        assert np.array_equal(np.array(symbols)[image], symbols)
        y = np.empty_like(x)
        y[:, image] = x
        assert np.array_equal(features(y, alf, atom), features(x, alf, twin)[:, order])


def test_equivalence_keeps_the_bonds():
    """The relabelling behind an order maps bonds on bonds: checked by distances of the minimum.

    Bonded neighbours of ethane are 2.9 bohr apart at most, all others 4 or more from carbon and
    3.3 or more from hydrogen.
    """
    symbols, geometry, alf = prepared("C2H6")
    for atom, (twin, order) in equivalent_atoms(symbols, geometry, alf).items():
        ours, theirs = (features(geometry[None], alf, a)[0] for a in (atom, twin))
        distances = np.r_[0, 1, 3 : len(order) : 3]
        assert np.array_equal(ours[distances] < 3, theirs[order][distances] < 3)


def test_atoms_of_other_frames_are_not_equivalent():
    """Equivalent by bonds, but one frame is spanned by atoms that no relabelling maps on it."""
    symbols, geometry, alf = prepared("CH3OH")
    hydrogens = [i for i in equivalent_atoms(symbols, geometry, alf) if symbols[i] == "H"]
    assert hydrogens
    carbon, oxygen = symbols.index("C"), symbols.index("O")
    changed = alf.copy()
    changed[hydrogens[0], 1:] = (oxygen, carbon) if alf[hydrogens[0], 1] == carbon else (
        carbon, oxygen)
    assert hydrogens[0] not in equivalent_atoms(symbols, geometry, changed)


def test_no_equivalent_atoms_without_symmetry():
    symbols, geometry, alf = prepared("HCOOH")
    assert equivalent_atoms(symbols, geometry, alf) == {}


def stages(result):
    return [step.stage for step in result.steps]


def test_without_links_every_model_has_its_own_source(large):
    results = run_jobs(molecule_jobs(large, ALF, ONE_SOURCE, "charges"))
    assert all(stages(result) == ["source", "relaxation"] for result in results.values())


def test_moments_take_over_the_length_scales_of_the_energy(large):
    jobs = molecule_jobs(large, ALF, ONE_SOURCE, "charges", ["properties"])
    assert [job.after for job in jobs] == [
        (), ("O1 iqa",), (), ("H2 iqa",), (), ("H3 iqa",)
    ]
    for name, result in run_jobs(jobs).items():
        took = ["source" if name.endswith(ENERGY) else "comparison", "relaxation"]
        assert stages(result) == took
        # those of the energy, or the initial ones where these turn out to be better
        assert name.endswith(ENERGY) or result.steps[1].transferred.endswith("1 other model")


def test_equivalent_atoms_take_over_their_length_scales():
    """With one evaluation after the transfer, exactly those of the other atom, feature by feature.

    Methanol's hydrogens have features in different orders.
    """
    symbols, geometry, alf = prepared("CH3OH")
    weights = np.random.default_rng(0).uniform(0.2, 1.0, (6, 6))
    dataset = made_up(displaced(geometry, 90, 0.08), symbols, weights)
    same = equivalent_atoms(symbols, geometry, alf)
    assert same and any((order != np.arange(12)).any() for _, order in same.values())
    settings = TrainingSettings(transfer=Transfer(fractions=(0.2,), relaxation=1))
    jobs = molecule_jobs(dataset, alf, settings, "charges", LINKS)
    results = run_jobs(jobs)
    for job in jobs:
        result, kind = results[job.name], job.properties[0]
        if job.atom in same:
            twin, order = same[job.atom]
            (source,) = job.after
            assert source == f"{symbols[twin]}{twin + 1} {kind}"
            assert stages(result) == ["comparison", "relaxation"]
            assert np.array_equal(result.log_theta, results[source].log_theta[order])
        else:
            assert len(job.after) == (kind != ENERGY)


def test_record_is_json(large):
    settings = replace(ONE_SOURCE, seed=4)
    jobs = molecule_jobs(large, ALF, settings, "charges", ["properties"])
    results = run_jobs(jobs)
    record = training_record(settings, jobs, results)
    back = json.loads(json.dumps(record, allow_nan=False))
    assert back["protocol"] == "transfer learning" and back["seed"] == 4
    assert back["optimiser"]["name"] == "LBFGS"
    assert list(back["models"]) == [job.name for job in jobs]
    for job in jobs:
        told, result = back["models"][job.name], results[job.name]
        assert [step.split(":")[0] for step in told] == stages(result)
        assert f"to {result.objective:.6g}," in told[-1]
        assert all(f"from {source}" in step for source in job.after for step in told)
