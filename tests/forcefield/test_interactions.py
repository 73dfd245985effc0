"""The force field and the interactions between molecules, whichever they are."""

import numpy as np
import pytest

from ase_fflux.base.errors import FFLUXError
from ase_fflux.forcefield import ForceField, force_field
from ase_fflux.forcefield.interactions.base import Derivatives
from ase_fflux.forcefield.interactions.direct import DirectSum
from ase_fflux.forcefield.interactions.neighbours import NeighbourList
from ase_fflux.forcefield.interactions.pairs import ShortRange


class Field:
    """Charges and dipoles in the field of an infinitely heavy charge at the origin.

    It acts between molecules as little as anything could; it is here for its simple derivatives.
    """

    name, rank, cutoff, short_ranged = "field", 1, None, False

    def check(self, system, models):
        if min(m.rank for m in models) < 1:
            raise FFLUXError("no dipoles")

    def on(self, system):
        return self

    def evaluate(self, system):
        x = system.positions
        r = np.linalg.norm(x, axis=1)
        potential = np.zeros_like(system.moments)
        potential[:, 0] = 1 / r
        direction = np.array([2, 0, 1])  # q10, q11c, q11s are z, x, y
        potential[:, 1:4] = -x[:, direction] / r[:, None] ** 3
        dipole = system.moments[:, [2, 3, 1]]
        energies = np.einsum("ak,ak->a", potential[:, :4], system.moments[:, :4])
        gradient = -system.moments[:, :1] * x / r[:, None] ** 3
        gradient -= dipole / r[:, None] ** 3
        gradient += 3 * np.einsum("ai,ai->a", dipole, x)[:, None] * x / r[:, None] ** 5
        virial = x.T @ gradient
        return Derivatives(energies, gradient, 0.5 * (virial + virial.T), potential)


def test_any_interaction_enters_energy_forces_and_virial(
    cluster, central_differences, chiral_model, methyl_model
):
    """One that is not of this package, beside one that is: dE/dQ of both goes back to the atoms."""
    rng = np.random.default_rng(3)
    numbers, x = cluster(rng, methyl_model, chiral_model, gap=9.0)
    x = x + 9.0
    models = [chiral_model, methyl_model]
    forcefield = ForceField(models, interactions=[Field(), DirectSum(rank=1)])
    assignment = forcefield.match(x, numbers)
    results = forcefield.evaluate(x, numbers, assignment=assignment)
    assert list(results.terms) == ["intramolecular", "field", "electrostatic"]
    assert abs(sum(results.terms.values()) - results.energy) < 1e-12
    assert abs(results.energies.sum() - results.energy) < 1e-12

    def energy(y):
        return forcefield.evaluate(y, numbers, assignment=assignment).energy

    expected = -central_differences(energy, x)
    np.testing.assert_allclose(
        results.forces, expected, rtol=0, atol=1e-6 * np.abs(expected).max()
    )
    expected = central_differences(
        lambda strain: energy(x @ (np.eye(3) + (strain + strain.T) / 2)), np.zeros((3, 3)), 1e-3
    )
    np.testing.assert_allclose(
        results.virial, expected, rtol=0, atol=1e-6 * np.abs(expected).max()
    )


def test_the_list_is_what_the_keywords_make(
    cluster, pair_potentials, chiral_model, methyl_model
):
    short_range = ShortRange.from_dict(pair_potentials)
    numbers, x = cluster(np.random.default_rng(0), chiral_model, methyl_model)
    models = [chiral_model, methyl_model]
    one = ForceField(models, level=3, short_range=short_range)
    other = ForceField(models, interactions=[DirectSum(level=3), short_range])
    np.testing.assert_array_equal(
        one.evaluate(x, numbers).forces, other.evaluate(x, numbers).forces
    )
    assert ForceField(models, electrostatics=False).interactions == ()


def test_lists_that_make_no_sense(chiral_model, pair_potentials):
    short_range = ShortRange.from_dict(pair_potentials)
    with pytest.raises(FFLUXError, match="not both"):
        ForceField([chiral_model], level=3, interactions=[short_range])
    with pytest.raises(FFLUXError, match="different names; these are short_range, short_range"):
        ForceField([chiral_model], interactions=[short_range, short_range])
    with pytest.raises(FFLUXError, match="not both"):
        DirectSum()


def test_what_cannot_be_done_is_said_before_the_first_sweep(
    cluster, chiral_model, pair_potentials, monkeypatch
):
    numbers, x = cluster(np.random.default_rng(0), chiral_model, chiral_model)
    system = dict(cell=30 * np.eye(3), pbc=[True, True, False])
    cases = [
        (ForceField([chiral_model]), "slab, periodic in 2 of 3 directions"),
        (ForceField([chiral_model], electrostatics=False,
                    short_range=ShortRange.from_dict(pair_potentials)), "cut-off"),
    ]
    assignments = [forcefield.match(x, numbers, **system) for forcefield, _ in cases]

    def no_sweep(*arguments, **keywords):
        raise AssertionError("a sweep")

    monkeypatch.setattr(force_field.Species, "_run", no_sweep)
    for (forcefield, message), assignment in zip(cases, assignments, strict=True):
        with pytest.raises(FFLUXError, match=message):
            forcefield.evaluate(x, numbers, assignment=assignment, **system)


def test_one_neighbour_list_serves_a_trajectory(periodic, chiral_model, pair_potentials):
    rng = np.random.default_rng(1)
    numbers, x, cell = periodic(rng, chiral_model, chiral_model)
    system = dict(cell=cell, pbc=np.ones(3, dtype=bool))
    forcefield = ForceField(
        [chiral_model], electrostatics=False,
        short_range=ShortRange.from_dict(pair_potentials, 4.5),
    )
    assignment, listed = forcefield.match(x, numbers, **system), NeighbourList()
    for _ in range(10):
        x = x + 0.02 * rng.normal(size=x.shape)
        kept = forcefield.evaluate(x, numbers, assignment=assignment, neighbours=listed, **system)
        fresh = forcefield.evaluate(x, numbers, assignment=assignment, **system)
        np.testing.assert_allclose(kept.forces, fresh.forces, atol=1e-13)
        np.testing.assert_allclose(kept.virial, fresh.virial, atol=1e-12)
    assert listed.built == 1


def test_results_have_whole_molecules(periodic, chiral_model, methyl_model):
    """Dipole and positions of molecules that the boundary cuts are those of the whole ones."""
    numbers, x, cell = periodic(np.random.default_rng(2), methyl_model, chiral_model)
    x = (x - x[0]) @ np.linalg.inv(cell) % 1 @ cell  # cuts the molecule of the first atom
    forcefield = ForceField([chiral_model, methyl_model], electrostatics=False)
    system = dict(cell=cell, pbc=np.ones(3, dtype=bool))
    assignment = forcefield.match(x, numbers, **system)
    cut = forcefield.evaluate(x, numbers, assignment=assignment, moments=True, **system)
    moved = np.linalg.norm(cut.positions - x, axis=1)
    assert moved.max() > 5, "the case this test is about"
    alone = forcefield.evaluate(cut.positions, numbers, assignment=assignment, moments=True)
    np.testing.assert_array_equal(alone.positions, cut.positions)
    np.testing.assert_allclose(cut.dipole(), alone.dipole(), atol=1e-9)
    for atoms in (atoms for rows in assignment.atoms_of_model for atoms in rows):
        assert np.ptp(cut.positions[atoms], axis=0).max() < 9
    x[0] += 1.0
    assert np.abs(x - alone.positions).max() > 0.5
    assert alone.positions is not cut.positions
