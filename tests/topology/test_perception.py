"""Bonds of hot and rough geometries, as the models want them."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from ase_fflux.base.errors import TopologyError
from ase_fflux.base.units import BOHR
from ase_fflux.topology import Pattern, bonds, match
from ase_fflux.topology.graphs import contacts
from ase_fflux.topology.lattice import Lattice
from ase_fflux.topology.perception import model_bonds

quick = settings(max_examples=25, deadline=None)
seeds = st.integers(0, 2**32 - 1)


def rough_ethanol(rng, rattle=0.08):
    """Random torsions about C-C and C-O, all atoms displaced; random order and orientation.

    Returns numbers, positions (bohr) and the atom of ``molecule("CH3CH2OH")`` that each one is.
    """
    atoms = molecule("CH3CH2OH")  # C 0 (H 6, 7, 8), C 1 (H 4, 5), O 2 (H 3)
    atoms.rotate_dihedral(6, 0, 1, 2, rng.uniform(0, 360), indices=[6, 7, 8])
    atoms.rotate_dihedral(3, 2, 1, 0, rng.uniform(0, 360), indices=[3])
    atoms.positions += rattle * rng.normal(size=(9, 3))
    order = rng.permutation(9)
    x = Rotation.random(rng=rng).apply(atoms.positions[order]) / BOHR
    return atoms.numbers[order], x, order


def test_rough_starts_are_all_matched(model, unlike):
    """By distances alone 1 in 15 has a bond too few or too many."""
    pattern = model("CH3CH2OH")
    edges = {frozenset(b) for b in pattern.bonds.tolist()}
    missed = 0
    for seed in range(200):
        numbers, x, order = rough_ethanol(np.random.default_rng(seed))
        missed += len(bonds(numbers, x)[0]) != 8
        (row,) = match([pattern], numbers, x, None, None, unlike).atoms_of_model[0]
        place = np.empty(9, dtype=int)
        place[row] = np.arange(9)
        true = {frozenset(place[np.flatnonzero(order == a)[0]] for a in b) for b in edges}
        assert true == edges
    assert missed >= 5, "the case this test is about"


@quick
@given(seeds)
def test_neither_order_nor_orientation_matters(seed):
    rng = np.random.default_rng(seed)
    pattern = Pattern.from_geometry("e", molecule("CH3CH2OH").numbers,
                                    molecule("CH3CH2OH").positions / BOHR)
    numbers, x, _ = rough_ethanol(rng, rattle=0.12)
    found = {frozenset(b) for b in model_bonds([pattern], numbers, x).tolist()}
    order = rng.permutation(9)
    y = Rotation.random(rng=rng).apply(x[order]) + rng.normal(size=3)
    again = model_bonds([pattern], numbers[order], y).tolist()
    assert {frozenset(order[list(b)].tolist()) for b in again} == found
    wrapped = y % 12.0
    cell = np.diag([12.0] * 3)
    again = model_bonds([pattern], numbers[order], wrapped, cell, True).tolist()
    if len({frozenset(b) for b in again}) == 8:  # the molecule is smaller than the cell
        assert {frozenset(order[list(b)].tolist()) for b in again} == found


@pytest.mark.parametrize("length", [1.3, 1.45, 1.6])
def test_long_bonds_of_water(model, join, no_preference, length):
    """Alone, and with a neighbour whose oxygen is nearly as near."""
    atoms = molecule("H2O")
    atoms.set_distance(0, 1, length, fix=0)
    numbers, x = atoms.numbers, atoms.positions / BOHR
    assert len(bonds(numbers, x)[0]) == 1
    (row,) = match([model("H2O")], numbers, x, None, None, no_preference).atoms_of_model[0]
    assert sorted(row) == [0, 1, 2]
    away = (x[1] - x[0]) / np.linalg.norm(x[1] - x[0])
    other = molecule("H2O").positions / BOHR
    other += x[0] + away * (length + 1.9) / BOHR - other[0]
    pair = np.concatenate([x, other])
    found = match([model("H2O")], np.tile(numbers, 2), pair, None, None, no_preference)
    assert sorted(sorted(r) for r in found.atoms_of_model[0].tolist()) == [[0, 1, 2], [3, 4, 5]]


def test_a_bond_too_far_is_none(model, no_preference):
    atoms = molecule("H2O")
    atoms.set_distance(0, 1, 1.75, fix=0)
    with pytest.raises(TopologyError, match=r"no model fits .* stretched too far"):
        match([model("H2O")], atoms.numbers, atoms.positions / BOHR, None, None, no_preference)


def test_a_shared_proton_is_the_nearer_oxygens(model, join, no_preference):
    """Within the range of bonds of both oxygens, at 1.12 and 1.24 Angstrom."""
    donor = Atoms("OHH", [[0, 0, 0], [1.12, 0, 0], [-0.24, 0.93, 0]])
    acceptor = Atoms("OHH", [[2.36, 0, 0], [2.6, -0.6, 0.72], [2.6, -0.6, -0.72]])
    both = donor + acceptor
    assert len(bonds(both.numbers, both.positions / BOHR)[0]) == 5
    found = match([model("H2O")], both.numbers, both.positions / BOHR, None, None, no_preference)
    assert sorted(sorted(r) for r in found.atoms_of_model[0].tolist()) == [[0, 1, 2], [3, 4, 5]]


def test_hydrogens_near_each_other_are_no_molecule(model, no_preference):
    """At 0.79 Angstrom, within the range of a bond that no model has."""
    x = np.array([[0, 0, 0], [0.8, 0, 0.0], [0.41, 0.69, 0]]) * 0.99 / BOHR
    assert len(bonds([8, 1, 1], x)[0]) == 3
    (row,) = match([model("H2O")], [8, 1, 1], x, None, None, no_preference).atoms_of_model[0]
    assert sorted(row) == [0, 1, 2]


def test_rings_close_where_a_bond_is_long(no_preference):
    """A ring of six is the model; one bond of the molecule is 1.4 times the sum of radii."""
    angle = np.arange(6) * np.pi / 3
    hexagon = 1.5 * np.column_stack([np.cos(angle), np.sin(angle), 0 * angle])
    ring = Pattern.from_geometry("C6", [6] * 6, hexagon / BOHR)
    torn = hexagon.copy()
    torn[0] += [0.25, -0.55, 0.0]
    assert len(bonds([6] * 6, torn / BOHR)[0]) == 5
    (row,) = match([ring], [6] * 6, torn / BOHR, None, None, no_preference).atoms_of_model[0]
    assert sorted(row) == list(range(6))


def test_contacts_without_a_cell_are_those_of_a_large_one():
    rng = np.random.default_rng(4)
    numbers = rng.choice([1, 6, 8, 16], 80)
    x = rng.uniform(0, 20, (80, 3))
    near = np.linalg.norm(x[:, None] - x, axis=-1) + 9 * np.eye(80) < 0.6
    x = x[~near.any(axis=1)]
    numbers = numbers[~near.any(axis=1)]
    open_, closed = (
        contacts(numbers, x, lattice, 1.7)
        for lattice in (Lattice(None, None), Lattice(np.diag([99.0] * 3), True))
    )
    np.testing.assert_array_equal(open_[0], closed[0])
    np.testing.assert_allclose(open_[2], closed[2], rtol=1e-12)
