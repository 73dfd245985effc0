import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from ase.data import atomic_masses
from ase.symbols import symbols2numbers
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from ase_fflux.base.errors import TopologyError
from ase_fflux.base.units import BOHR
from ase_fflux.forcefield import ForceField
from ase_fflux.forcefield.interactions.pairs import ShortRange
from ase_fflux.model.frames import features_and_frames

seeds = st.integers(0, 2**32 - 1)
a_few = settings(max_examples=8, deadline=None)


@given(seed=seeds)
@a_few
def test_motion_and_order_of_the_atoms_do_not_matter(
    pair_potentials, cluster, chiral_model, methyl_model, seed
):
    rng = np.random.default_rng(seed)
    forcefield = ForceField(
        [chiral_model, methyl_model], short_range=ShortRange.from_dict(pair_potentials)
    )
    numbers, x = cluster(rng, methyl_model, chiral_model, methyl_model, chiral_model)
    first = forcefield.evaluate(x, numbers, moments=True)
    turn, order = Rotation.random(rng=rng), rng.permutation(len(numbers))
    shift = rng.uniform(-20, 20, 3)
    second = forcefield.evaluate(
        (turn.apply(x) + shift)[order], numbers[order], moments=True
    )
    assert abs(second.energy - first.energy) < 1e-10
    np.testing.assert_allclose(second.forces, turn.apply(first.forces)[order], atol=1e-10)
    np.testing.assert_allclose(second.energies, first.energies[order], atol=1e-10)
    np.testing.assert_allclose(second.charges, first.charges[order], atol=1e-10)
    np.testing.assert_allclose(second.coverage, first.coverage[order], atol=1e-10)
    r = turn.as_matrix()
    np.testing.assert_allclose(second.virial, r @ first.virial @ r.T, atol=1e-9)
    np.testing.assert_allclose(
        second.dipole(turn.apply(np.ones(3)) + shift), turn.apply(first.dipole(np.ones(3))),
        atol=1e-9,
    )


@given(seed=seeds)
@a_few
def test_order_of_atoms_in_published_water(published_water, water_dimer, seed):
    rng = np.random.default_rng(seed)
    forcefield = ForceField([published_water])
    numbers = np.array([8, 1, 1] * 2)
    x = water_dimer["positions_ang"] / BOHR + 0.03 * rng.normal(size=(6, 3))
    first = forcefield.evaluate(x, numbers)
    order = rng.permutation(6)
    second = forcefield.evaluate(x[order], numbers[order])
    assert abs(second.energy - first.energy) < 1e-10
    np.testing.assert_allclose(second.forces, first.forces[order], atol=1e-10)


def test_wrapping_does_not_matter(pair_potentials, periodic, chiral_model, methyl_model):
    rng = np.random.default_rng(2)
    forcefield = ForceField(
        [chiral_model, methyl_model], electrostatics=False,
        short_range=ShortRange.from_dict(pair_potentials, 4.5),
    )
    numbers, x, cell = periodic(rng, methyl_model, chiral_model)
    first = forcefield.evaluate(x, numbers, cell, [True] * 3)
    elsewhere = x + rng.integers(-2, 3, x.shape) @ cell
    second = forcefield.evaluate(elsewhere, numbers, cell, [True] * 3)
    assert abs(second.energy - first.energy) < 1e-10
    np.testing.assert_allclose(second.forces, first.forces, atol=1e-10)
    np.testing.assert_allclose(second.virial, first.virial, atol=1e-9)


def test_hydrogens_are_labelled_with_the_handedness_of_the_training_data(methyl_model):
    """A mirror image is met by exchanging two hydrogens: they are not labelled by their order."""
    forcefield = ForceField([methyl_model])
    numbers = np.array(symbols2numbers(methyl_model.symbols))
    x = methyl_model.geometries[0]
    plain = forcefield.match(x, numbers).atoms_of_model[0][0]
    assert plain.tolist() == [0, 1, 2, 3, 4]
    assert forcefield.evaluate(x, numbers).coverage.min() > 1 - 1e-12

    def handedness(y, row):
        return np.sign(np.linalg.det(y[row[2:]] - y[row[0]]))

    mirrored = x * [1, 1, -1]
    row = forcefield.match(mirrored, numbers).atoms_of_model[0][0]
    assert handedness(mirrored, row) == handedness(x, plain)
    with pytest.raises(TopologyError, match="order of the mirror image"):
        forcefield.match(mirrored, numbers, explicit=[[0, 1, 2, 3, 4]])


def test_mirror_images_of_a_chiral_molecule_differ(chiral_model):
    forcefield = ForceField([chiral_model])
    numbers = np.array(symbols2numbers(chiral_model.symbols))
    x = chiral_model.geometries[0]
    one, other = forcefield.evaluate(x, numbers), forcefield.evaluate(x * [1, 1, -1], numbers)
    assert abs(one.energy - other.energy) > 1e-4
    assert other.coverage.min() < one.coverage.min() - 0.01




@given(seed=seeds)
@a_few
def test_energies_add_up_and_a_free_cluster_has_no_net_force(
    pair_potentials, cluster, chiral_model, methyl_model, seed
):
    rng = np.random.default_rng(seed)
    forcefield = ForceField(
        [chiral_model, methyl_model], short_range=ShortRange.from_dict(pair_potentials)
    )
    numbers, x = cluster(rng, methyl_model, chiral_model, methyl_model)
    results = forcefield.evaluate(x, numbers)
    assert abs(results.energies.sum() - results.energy) < 1e-12
    assert abs(sum(results.terms.values()) - results.energy) < 1e-12
    assert min(map(abs, results.terms.values())) > 1e-8, "all terms are there"
    scale = np.abs(results.forces).max()
    np.testing.assert_allclose(results.forces.sum(axis=0), 0, atol=1e-12 * scale * len(x))
    np.testing.assert_allclose(np.cross(x, results.forces).sum(axis=0), 0, atol=1e-9 * scale)


def test_interactions_are_pairwise_and_shared_equally(cluster, chiral_model, methyl_model):
    """Rank 0 is Coulomb's law between the predicted charges; each atom has half of its pairs."""
    rng = np.random.default_rng(0)
    numbers, x = cluster(rng, methyl_model, chiral_model, methyl_model)
    models = [chiral_model, methyl_model]
    alone = ForceField(models, electrostatics=False).evaluate(x, numbers, moments=True)
    forcefield = ForceField(models, rank=0)
    results = forcefield.evaluate(x, numbers, moments=True)
    np.testing.assert_array_equal(results.moments, alone.moments)
    # those that do not interact are not predicted unasked, and asking changes no bit of the rest
    unasked = forcefield.evaluate(x, numbers)
    assert unasked.moments is None
    np.testing.assert_array_equal(unasked.forces, results.forces)
    molecule = forcefield.match(x, numbers).molecule
    distance = np.linalg.norm(x[:, None] - x, axis=-1) + np.eye(len(x))
    pairs = np.outer(alone.charges, alone.charges) / distance
    pairs[molecule[:, None] == molecule] = 0
    np.testing.assert_allclose(results.terms["electrostatic"], pairs.sum() / 2, rtol=1e-12)
    np.testing.assert_allclose(
        results.energies - alone.energies, pairs.sum(axis=1) / 2, atol=1e-13
    )


def test_ranks_beyond_those_of_the_models_count_as_zero(cluster, methyl_model, make_made_up):
    """Level 5 of models with quadrupoles holds all their pairs, as rank 2 does."""
    numbers, x = cluster(np.random.default_rng(1), methyl_model, methyl_model, gap=8.0)
    by_level = ForceField([methyl_model], level=5).evaluate(x, numbers)
    by_rank = ForceField([methyl_model], rank=2).evaluate(x, numbers)
    np.testing.assert_allclose(by_level.energy, by_rank.energy, rtol=1e-14)
    np.testing.assert_allclose(by_level.forces, by_rank.forces, atol=1e-13)
    assert by_level.moments.shape == (10, 9)
    charges = make_made_up(methyl_model.symbols, rank=0, seed=1)
    by_level = ForceField([charges], level=3).evaluate(x, numbers)
    by_rank = ForceField([charges]).evaluate(x, numbers)
    np.testing.assert_allclose(by_level.forces, by_rank.forces, atol=1e-13)


def test_molecules_far_apart_are_charges(cluster, chiral_model):
    forcefield = ForceField([chiral_model])
    rng = np.random.default_rng(4)
    (numbers, x), (others, y) = cluster(rng, chiral_model), cluster(rng, chiral_model)
    one = forcefield.evaluate(x, numbers, moments=True)
    other = forcefield.evaluate(y, others, moments=True)
    both = forcefield.evaluate(np.concatenate([x, y + 1e5]), np.concatenate([numbers, others]))
    coulomb = one.charges.sum() * other.charges.sum() / (1e5 * np.sqrt(3))
    np.testing.assert_allclose(both.terms["electrostatic"], coulomb, rtol=1e-3)
    assert abs(both.energy - one.energy - other.energy - coulomb) < 1e-8


def test_dipole_of_charges_and_atomic_dipoles(cluster, chiral_model):
    """From the definition: local dipoles in frames whose axes are rebuilt here."""
    numbers, x = cluster(np.random.default_rng(9), chiral_model)
    forcefield = ForceField([chiral_model])
    results = forcefield.evaluate(x, numbers, moments=True)
    (row,) = forcefield.match(x, numbers).atoms_of_model[0]
    expected = np.zeros(3)
    centre = atomic_masses[numbers] @ x / atomic_masses[numbers].sum()
    for process in chiral_model.processes:
        if process.properties == ("iqa",):
            continue
        f, frame = features_and_frames(x[row][None], chiral_model.alf, process.atom)
        q, z, along_x, along_y = process.gp.predict(f)[:4, 0]
        expected += q * (x[row[process.atom]] - centre)
        expected += np.array([along_x, along_y, z]) @ frame[0]
    np.testing.assert_allclose(results.dipole(centre), expected, atol=1e-12)
    shift = np.array([3.0, -8.0, 5.0])
    moved = forcefield.evaluate(x + shift, numbers, moments=True)
    np.testing.assert_allclose(moved.dipole(centre + shift), expected, atol=1e-11)


def test_moments_and_coverage(cluster, chiral_model):
    numbers, x = cluster(np.random.default_rng(9), chiral_model)
    forcefield = ForceField([chiral_model])
    results = forcefield.evaluate(x, numbers)
    assert results.moments is None and results.charges is None
    results = forcefield.evaluate(x, numbers, moments=True)
    assert results.moments.shape == (5, 25)
    assert ((results.coverage > 0) & (results.coverage <= 1)).all()
    training = forcefield.evaluate(
        chiral_model.geometries[3], np.array(symbols2numbers(chiral_model.symbols))
    )
    np.testing.assert_allclose(training.coverage, 1, atol=1e-12)


def test_copies_and_threads_give_the_same(cluster, chiral_model, methyl_model):
    forcefield = pickle.loads(pickle.dumps(ForceField([chiral_model, methyl_model])))
    rng = np.random.default_rng(0)
    systems = [cluster(rng, methyl_model, chiral_model) for _ in range(16)]
    expected = [ForceField([chiral_model, methyl_model]).evaluate(x, n).forces for n, x in systems]
    with ThreadPoolExecutor(2) as pool:
        found = pool.map(lambda s: forcefield.evaluate(s[1], s[0]).forces, systems)
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_array_equal(a, b)
