from dataclasses import replace

import numpy as np
import pytest
from ase.build import molecule
from ase.symbols import symbols2numbers

from ase_fflux.base.units import BOHR
from ase_fflux.forcefield import ForceField
from ase_fflux.forcefield.packing import pack
from ase_fflux.model.alf import choose_alf
from ase_fflux.model.frames import features
from ase_fflux.model.kernels import Kernel
from ase_fflux.model.molecule import ENERGY, shared_model
from ase_fflux.model.multipoles import MAX_RANK, MOMENT_NAMES
from ase_fflux.model.shared import Shared, SharedProcess, transformed
from ase_fflux.model.symmetry import find_symmetry, reflection_signs

MIRROR = np.diag([1.0, 1.0, -1.0])
NAMES = MOMENT_NAMES[:9]
LABELS = 12
MOLECULES = ["H2O", "H2O2", "CH3OH", "CH3CH2OH"]


@pytest.fixture(scope="module", params=MOLECULES)
def model(request):
    """Random weights on energies, gradients and moments up to quadrupoles of all atoms."""
    atoms, rng = molecule(request.param), np.random.default_rng(5)
    x = atoms.positions / BOHR
    found = find_symmetry(atoms.numbers, x)
    alf = found.carried_alf(choose_alf(atoms.numbers, x, found.permutations))
    geometries = x + 0.15 * rng.normal(size=(LABELS, *x.shape))
    processes = []
    for c in found.classes(alf):
        for names, variance in (((ENERGY,), 0.02), (NAMES, 0.0)):
            kernel = Kernel.periodic_on_phi(rng.uniform(0.02, 0.2, len(c.tie))[c.tie])
            mean = rng.normal(size=len(names))
            if c.view_mirrored.any():  # what is odd is zero on average
                mean[reflection_signs(names) < 0] = 0.0
            weights = rng.normal(scale=0.1, size=(len(names), len(c.atoms), LABELS))
            if len(x) == 3:  # and in a plane, always
                mean[reflection_signs(names) < 0] = weights[reflection_signs(names) < 0] = 0.0
            processes.append(SharedProcess(c, names, kernel, mean, weights, 1e-6, variance))
    slopes = rng.normal(size=geometries.shape)
    return shared_model(
        request.param, tuple(atoms.get_chemical_symbols()), alf,
        Shared(found, tuple(processes), slopes), x, geometries,
    )


def evaluate(model, x):
    field = ForceField([model])
    numbers = molecule(model.name).numbers
    assignment = field.match(x, numbers, explicit=[list(range(len(x)))])
    return field.evaluate(x, numbers, assignment=assignment, moments=True)


def test_moments_are_trained_on_points_of_their_own(model):
    """The last labels count for the moments alone: energies are those without their weights."""
    first = LABELS - 4
    shared, geometries = model.shared, model.geometries

    def of_first(process):
        return replace(process, weights=process.weights[:, :, :first])

    energies = [of_first(p) if ENERGY in p.properties else p for p in shared.processes]
    both = replace(
        shared, processes=tuple(energies), gradient_weights=shared.gradient_weights[:first],
        moment_geometries=geometries[first:],
    )
    neither = replace(both, processes=tuple(
        p if ENERGY in p.properties else of_first(p) for p in energies
    ), moment_geometries=None)
    args = model.name, model.symbols, model.alf
    both, neither = (
        shared_model(*args, s, model.reference_geometry, geometries[:first], charge=model.charge)
        for s in (both, neither)
    )
    x = geometries[0] + 0.01
    found, all_labels, fewer = evaluate(both, x), evaluate(model, x), evaluate(neither, x)
    np.testing.assert_allclose(found.moments, all_labels.moments, rtol=0, atol=1e-12)
    assert np.abs(found.moments - fewer.moments).max() > 1e-3
    for name in ("energies", "forces", "coverage"):
        np.testing.assert_allclose(getattr(found, name), getattr(fewer, name), rtol=0, atol=1e-12)


def frames_kept(model):
    """Operations that take every atom's frame to the frame of the atom in its place."""
    return np.array([
        (p[model.alf] == model.alf[p]).all() for p in model.shared.symmetry.permutations
    ])


def test_energies_forces_and_moments_follow_the_operations(model):
    """Of every operation under which the frames correspond: all but the exchange in water."""
    symmetry, kept = model.shared.symmetry, frames_kept(model)
    assert kept.sum() == (2 if model.name == "H2O" else len(symmetry))
    rng = np.random.default_rng(6)
    x = model.reference_geometry + 0.1 * rng.normal(size=model.reference_geometry.shape)
    here = evaluate(model, x)
    assert np.ptp(here.energies) > 1e-3 and (np.ptp(here.moments, axis=0)[:4] > 1e-3).all()
    signs = reflection_signs(NAMES)
    for p, mirrored in zip(symmetry.permutations[kept], symmetry.mirrored[kept], strict=True):
        mirror = MIRROR if mirrored else np.eye(3)
        there = evaluate(model, x[p] @ mirror)
        np.testing.assert_allclose(there.energies, here.energies[p], rtol=0, atol=1e-11)
        np.testing.assert_allclose(there.forces, here.forces[p] @ mirror, rtol=0, atol=1e-11)
        np.testing.assert_allclose(
            there.moments, here.moments[p] * (signs if mirrored else 1.0), rtol=0, atol=1e-11
        )
        np.testing.assert_allclose(there.coverage, here.coverage[p], rtol=1e-11)


def test_forces_are_the_derivative(model, central_differences):
    rng = np.random.default_rng(7)
    x = model.reference_geometry + 0.1 * rng.normal(size=model.reference_geometry.shape)
    numeric = central_differences(lambda y: evaluate(model, y).energy, x)
    found = evaluate(model, x).forces
    np.testing.assert_allclose(found, -numeric, rtol=0, atol=1e-8 * np.abs(numeric).max())


def test_atoms_of_a_class_share_one_table_without_images(model):
    """Every atom of a class in every image is a query to the points of the first image."""
    slots = {name: i for i, name in enumerate(NAMES)}
    for chosen in ({ENERGY: 0}, slots):
        packed = pack(model.alf, model.processes, chosen)
        shared = [s for s in model.shared.processes if set(s.properties) & set(chosen)]
        assert len(packed.size) == len(shared)
        for t, process in enumerate(shared):
            members, views = process.atoms.atoms, len(process.atoms.view_order)
            queries = packed.atom[packed.first[t]:packed.first[t + 1]].tolist()
            assert sorted(queries) == sorted(members * views)
            assert packed.size[t] - 8 < LABELS * len(members) <= packed.size[t]


def test_values_are_those_of_the_expanded_processes(model):
    """With images of the query in place of images of the points."""
    x = model.reference_geometry + 0.1 * np.random.default_rng(3).normal(
        size=model.reference_geometry.shape
    )
    field = ForceField([replace(model, charge=None)])
    (species,) = field._species
    own = np.arange(len(x))[None]
    numbers = np.array(symbols2numbers(model.symbols))
    energies = species.add_energies(x[None], own, numbers, np.zeros((1, *x.shape))).values[0]
    moments = species.moments_at(x[None], own, numbers, MAX_RANK, False).local[0]
    for process in model.processes:
        f = features(x[None], model.alf, process.atom)
        expected = process.gp.predict(transformed(
            f, np.arange(f.shape[1]) if process.order is None else process.order,
            process.mirrored, np.pi,
        ))[:, 0]
        if process.mirrored:
            expected = expected * reflection_signs(process.properties)
        size = np.abs(process.gp.weights).sum() + np.abs(process.gp.mean).max()
        if process.gp.derivative_weights is not None:
            size += np.abs(process.gp.derivative_weights).sum()
        for name, value in zip(process.properties, expected, strict=True):
            found = energies[process.atom, 0] if name == ENERGY else moments[
                process.atom, NAMES.index(name)
            ]
            np.testing.assert_allclose(found, value, rtol=0, atol=1e-14 * size)


def points(process, model, geometries=None):
    """Inputs of the expanded process as (V, m, n, F)."""
    geometries = model.geometries if geometries is None else geometries
    gp = process.expand(geometries, model.alf, model.shared.gradient_weights)
    v, m = len(process.atoms.view_order), len(process.atoms.atoms)
    return gp, gp.inputs.reshape(v, m, LABELS, -1)


def test_images_are_features_of_transformed_labels(model):
    symmetry = model.shared.symmetry
    for process in model.shared.processes:
        _, inputs = points(process, model)
        first = process.atoms.atoms[0]
        images = [
            (p[first], m, features(model.geometries[:, p] @ (MIRROR if m else np.eye(3)),
                                   model.alf, first))
            for p, m in zip(symmetry.permutations, symmetry.mirrored, strict=True)
        ]
        for v, a in np.ndindex(inputs.shape[:2]):
            assert any(
                atom == process.atoms.atoms[a] and np.allclose(f, inputs[v, a], atol=1e-10)
                for atom, m, f in images
            )


def test_weights_of_images_of_odd_moments_have_the_opposite_sign(model):
    for process in model.shared.processes:
        gp, inputs = points(process, model)
        weights = gp.weights.reshape(-1, *inputs.shape[:3])
        signs = reflection_signs(process.properties)[:, None, None]
        for v, mirrored in enumerate(process.atoms.view_mirrored):
            expected = (signs if mirrored else 1.0) * process.weights
            np.testing.assert_array_equal(weights[:, v], expected)


def test_derivative_weights_are_the_change_of_the_inputs_along_the_dual_weights(model):
    """What couples an atom to the total gradients is the derivative along their dual weights."""
    slopes, step = model.shared.gradient_weights, 1e-5
    for process in model.shared.processes:
        gp, _ = points(process, model)
        if process.variance == 0:
            assert gp.derivative_weights is None
            continue
        _, ahead = points(process, model, model.geometries + step * slopes)
        _, behind = points(process, model, model.geometries - step * slopes)
        change = (ahead - behind + np.pi) % (2 * np.pi) - np.pi  # azimuths may pass pi
        expected = process.variance * change.reshape(gp.inputs.shape) / (2 * step)
        np.testing.assert_allclose(gp.derivative_weights[0], expected, rtol=1e-6, atol=1e-8)


def test_without_views_and_equivalent_atoms_a_process_is_the_plain_one(model):
    process = model.shared.processes[1]
    none = np.zeros(1, dtype=bool)
    c = replace(
        process.atoms, atoms=process.atoms.atoms[:1], order=process.atoms.order[:1], mirrored=none,
        view_order=process.atoms.view_order[:1], view_mirrored=none,
    )
    alone = SharedProcess(
        c, process.properties, process.kernel, process.mean, process.weights[:, :1], process.noise
    )
    gp = alone.expand(model.geometries, model.alf)
    np.testing.assert_array_equal(gp.inputs, features(model.geometries, model.alf, c.atoms[0]))
    np.testing.assert_array_equal(gp.weights, process.weights[:, 0])
    assert gp.noise == process.noise
