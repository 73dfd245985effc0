"""Terms of distances: which there are, their columns and slopes, and what symmetry they have."""

import numpy as np
import pytest
from ase.build import molecule
from ase.symbols import symbols2numbers

from ase_fflux.base.units import BOHR
from ase_fflux.model.symmetry import Symmetry, find_symmetry
from ase_fflux.model.terms import TermProcess, distance_terms
from ase_fflux.topology.graphs import bonds_between


def terms_of(name):
    atoms = molecule(name)
    x = atoms.positions / BOHR
    symmetry = find_symmetry(atoms.numbers, x)
    symbols = atoms.get_chemical_symbols()
    return x, symmetry, distance_terms(symbols, bonds_between(atoms.numbers, x), symmetry)


def test_bonds_between_atoms_of_methanol():
    atoms = molecule("CH3OH")  # C O H H H H, the second hydrogen that of O
    steps = bonds_between(atoms.numbers, atoms.positions / BOHR)
    assert np.array_equal(steps, steps.T) and steps[0, 1] == 1
    hydroxyl = next(i for i in range(2, 6) if steps[1, i] == 1)
    methyl = next(i for i in range(2, 6) if i != hydroxyl)
    assert (steps[0, hydroxyl], steps[1, methyl], steps[methyl, hydroxyl]) == (2, 2, 3)


def test_atoms_without_a_path_are_far_apart():
    steps = bonds_between([2, 2, 2], np.array([[0.0, 0, 0], [9, 0, 0], [0, 9, 0]]))
    assert np.array_equal(steps, 3 * (1 - np.eye(3)))


def test_terms_of_methanol():
    """One of all distances, and one for each pair of elements and number of bonds between."""
    _, symmetry, (whole, *pairs) = terms_of("CH3OH")
    assert whole.pairs.shape == (1, 15, 2)
    assert len(whole.view_column) == len(set(map(tuple, symmetry.permutations)))
    # C-H, C-H over O, C-O, H-H of the methyl group and over C and O, O-H and O-H over C
    assert sorted(len(t.pairs) for t in pairs) == [1, 1, 1, 3, 3, 3, 3]
    assert sum(len(t.pairs) for t in pairs) == 15
    for term in pairs:
        assert term.pairs.shape[1] == 1 and len(term.view_column) == 1


@pytest.mark.parametrize("name", ["CH3OH", "C6H6", "H2O", "C2H6"])
def test_the_sum_of_the_terms_has_the_symmetry_of_the_molecule(name):
    x, symmetry, terms = terms_of(name)
    rng = np.random.default_rng(0)
    geometries = x + 0.2 * rng.normal(size=(3, *x.shape))
    gradients = rng.normal(size=geometries.shape)
    trained = [
        TermProcess(t, rng.uniform(1, 5, len(t.tie))[t.tie], 0.3, False).expand(
            geometries, rng.normal(size=3), gradients
        ) for t in terms
    ]
    here = x + 0.2 * rng.normal(size=x.shape)
    images = np.array([
        here[p] * ([-1, 1, 1] if mirrored else [1, 1, 1])
        for p, mirrored in zip(symmetry.permutations, symmetry.mirrored, strict=True)
    ])
    energies = sum(term.energies(images) for term in trained)
    np.testing.assert_allclose(energies, energies[0], rtol=1e-11)
    assert np.ptp(sum(term.energies(geometries) for term in trained)) > 1e-3


def test_pairs_that_an_operation_exchanges_are_of_one_kind():
    """Where a proton travels, bonds of one moment tell the same pairs apart."""
    symbols = "OCO"
    steps = np.array([[0, 1, 2], [1, 0, 4], [2, 4, 0]])  # as if the second O were not bonded
    exchange = Symmetry(np.array([[0, 1, 2], [2, 1, 0]]), np.array([False, False]))
    _, *pairs = distance_terms(symbols, steps, exchange)
    assert sorted(t.pairs[:, 0].tolist() for t in pairs) == [[[0, 1], [1, 2]], [[0, 2]]]
    _, *pairs = distance_terms(symbols, steps, Symmetry.none(3))
    assert len(pairs) == 3


def test_slopes_are_derivatives_of_columns(central_differences):
    x, _, terms = terms_of("CH3OH")
    along = np.random.default_rng(1).normal(size=(1, *x.shape, 2))
    for term in terms:
        slopes = term.slopes(x[None], along)
        for d in range(2):
            expected = central_differences(
                lambda t, d=d, term=term: term.columns(x[None] + t[0] * along[..., d])[:, 0],
                np.zeros(1), 1e-3,
            )
            np.testing.assert_allclose(slopes[:, 0, :, d], expected[0], atol=1e-8)


def test_renumbered():
    x, _, terms = terms_of("H2O")
    atoms = np.array([2, 0, 1])
    moved = np.empty_like(x)
    moved[atoms] = x
    for t in terms:
        term = TermProcess(t, np.full(len(t.tie), 2.0), 0.5, True).expand(
            x[None], np.ones(1), np.ones((1, *x.shape))
        )
        np.testing.assert_allclose(
            term.renumbered(atoms).energies(moved[None]), term.energies(x[None]), rtol=1e-14
        )


def test_symbols_may_be_a_string():
    assert symbols2numbers("OHH") == [8, 1, 1]
    assert len(distance_terms("OHH", np.array([[0, 1, 1], [1, 0, 2], [1, 2, 0]]),
                              Symmetry.none(3))) == 3
