import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from ase_fflux.base.units import BOHR
from ase_fflux.forcefield import ForceField, load
from ase_fflux.forcefield.interactions.pairs import ShortRange
from ase_fflux.formats.locate import bundled_models
from ase_fflux.model.multipoles import MOMENT_NAMES

seeds = st.integers(0, 2**32 - 1)
a_few = settings(max_examples=8, deadline=None)


def assert_forces(central_differences, forcefield, numbers, x, step=1e-2, **system):
    """Forces are central differences of the energy to 1e-6 of the largest force."""
    assignment = forcefield.match(x, numbers, **system)
    found = forcefield.evaluate(x, numbers, assignment=assignment, **system).forces

    def energy(y):
        return forcefield.evaluate(y, numbers, assignment=assignment, **system).energy

    expected = -central_differences(energy, x, step)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6 * np.abs(expected).max())


@given(seed=seeds)
@a_few
def test_forces_of_a_molecule(cluster, central_differences, chiral_model, methyl_model, seed):
    rng = np.random.default_rng(seed)
    for model in (chiral_model, methyl_model):
        assert_forces(central_differences, ForceField([model]), *cluster(rng, model))


@pytest.mark.parametrize(
    "choice", [{"level": n} for n in range(1, 10)] + [{"rank": n} for n in range(5)], ids=str
)
def test_forces_with_every_rank_of_multipoles(cluster, central_differences, chiral_model, choice):
    rng = np.random.default_rng(8)
    numbers, x = cluster(rng, chiral_model, chiral_model, gap=9.0)
    assert_forces(central_differences, ForceField([chiral_model], **choice), numbers, x)


@pytest.mark.parametrize(
    "choice", [{"level": n} for n in range(1, 6)] + [{"rank": n} for n in range(3)], ids=str
)
def test_forces_of_the_published_water(central_differences, published_water, water_dimer, choice):
    x = water_dimer["positions_ang"] / BOHR
    forcefield = ForceField([published_water], **choice)
    assert_forces(central_differences, forcefield, np.array([8, 1, 1] * 2), x)
    assert_forces(central_differences, forcefield, np.array([8, 1, 1]), x[:3])


def test_forces_of_the_published_ammonia(cluster, central_differences, reference):
    """Products of rbf and periodic kernels, energies only."""
    forcefield = load(reference / "ammonia")
    numbers, x = cluster(np.random.default_rng(2), forcefield.models[0], noise=0.03)
    assert_forces(central_differences, forcefield, numbers, x)


def test_forces_of_two_species(
    pair_potentials, cluster, central_differences, chiral_model, methyl_model
):
    """Three molecules of models with different ranks, with short-range potentials."""
    rng = np.random.default_rng(3)
    numbers, x = cluster(rng, methyl_model, chiral_model, methyl_model, gap=9.0)
    short_range = ShortRange.from_dict(pair_potentials)
    for models in ([chiral_model, methyl_model], [methyl_model, chiral_model]):
        for choice in ({"level": 3}, {}):
            forcefield = ForceField(models, short_range=short_range, **choice)
            assert_forces(central_differences, forcefield, numbers, x)


@pytest.mark.parametrize("cutoff", [None, 6.0])
def test_forces_with_short_range_alone(
    pair_potentials, cluster, central_differences, chiral_model, methyl_model, cutoff
):
    rng = np.random.default_rng(5)
    numbers, x = cluster(rng, methyl_model, chiral_model, gap=8.0)
    forcefield = ForceField(
        [chiral_model, methyl_model], electrostatics=False,
        short_range=ShortRange.from_dict(pair_potentials, cutoff),
    )
    assert forcefield.evaluate(x, numbers).terms["short_range"] != 0
    assert_forces(central_differences, forcefield, numbers, x)


def test_forces_and_virial_of_a_periodic_system(
    pair_potentials, periodic, central_differences, chiral_model, methyl_model
):
    rng = np.random.default_rng(6)
    numbers, x, cell = periodic(rng, methyl_model, chiral_model, methyl_model)
    forcefield = ForceField(
        [chiral_model, methyl_model], electrostatics=False,
        short_range=ShortRange.from_dict(pair_potentials, 4.5),
    )
    system = dict(cell=cell, pbc=np.array([True] * 3))
    assert_forces(central_differences, forcefield, numbers, x, **system)
    results = forcefield.evaluate(x, numbers, **system)

    def energy(strain):
        deformation = np.eye(3) + strain
        return forcefield.evaluate(
            x @ deformation, numbers, cell @ deformation, system["pbc"]
        ).energy

    expected = central_differences(energy, np.zeros((3, 3)), 1e-3)
    assert np.abs(expected - expected.T).max() < 1e-6 * np.abs(expected).max()
    np.testing.assert_allclose(
        results.virial, expected, rtol=0, atol=1e-6 * np.abs(expected).max()
    )


def test_virial_of_a_cluster_with_electrostatics(
    cluster, central_differences, chiral_model, methyl_model
):
    rng = np.random.default_rng(7)
    numbers, x = cluster(rng, methyl_model, chiral_model)
    forcefield = ForceField([chiral_model, methyl_model], level=3)
    found = forcefield.evaluate(x, numbers).virial
    expected = central_differences(
        lambda strain: forcefield.evaluate(x @ (np.eye(3) + strain), numbers).energy,
        np.zeros((3, 3)), 1e-3,
    )
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6 * np.abs(expected).max())


@pytest.mark.parametrize("name", bundled_models())
def test_bundled_models(cluster, central_differences, name):
    """Forces are derivatives; motion and order of the atoms do not matter."""
    forcefield = load(name)
    rng = np.random.default_rng(0)
    numbers, x = cluster(rng, forcefield.models[0], noise=0.1)
    assert_forces(central_differences, forcefield, numbers, x)
    first = forcefield.evaluate(x, numbers)
    turn, order = Rotation.random(rng=rng), rng.permutation(len(numbers))
    second = forcefield.evaluate((turn.apply(x) + 3)[order], numbers[order])
    bound = rounding(forcefield.models[0])
    assert abs(second.energy - first.energy) < 1e-10 + bound
    np.testing.assert_allclose(second.forces, turn.apply(first.forces)[order], atol=1e-10 + bound)


def rounding(model):
    """Three standard deviations of the rounding error of a sum over large weights of both signs."""
    squares = 0.0
    for process in model.processes:
        if "iqa" in process.properties:
            squares += np.square(process.gp.weights).sum()
            squares += np.square(process.gp.column_weights()).sum()
    return 3 * np.finfo(float).eps * np.sqrt(squares)


@pytest.mark.parametrize("name", bundled_models())
def test_bundled_models_interact(cluster, name):
    forcefield = load(name)
    model = forcefield.models[0]
    rng = np.random.default_rng(1)
    size = np.ptp(model.reference_geometry, axis=0).max()
    numbers, x = cluster(rng, model, model, gap=size + 7.0, noise=0.03)
    assert len(forcefield.match(x, numbers).molecules) == 2
    results = forcefield.evaluate(x, numbers)
    assert model.rank >= 0
    assert results.terms["electrostatic"] != 0
    assert results.moments.shape[1] == len(MOMENT_NAMES[: (model.rank + 1) ** 2])
