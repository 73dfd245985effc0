import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from ase_fflux.base.errors import GeometryError, TopologyError
from ase_fflux.base.units import BOHR
from ase_fflux.topology import Graph, Pattern, bonds, isomorphisms, match

TRICLINIC = np.array([[30.0, 0, 0], [11.0, 27.0, 0], [-9.0, 8.0, 26.0]])
quick = settings(max_examples=25, deadline=None)
seeds = st.integers(0, 2**32 - 1)


def laid_out(assignment, positions):
    """What an assignment means physically: per model the set of coordinates in model order."""
    return [
        sorted(np.round(positions[row], 6).ravel().tolist() for row in atoms)
        for atoms in assignment.atoms_of_model
    ]


def mixture(geometry, join, rng):
    """Ethanol, two waters and HCl, off their symmetric shapes, apart from each other."""
    parts = [("CH3CH2OH", [0, 0, 0]), ("H2O", [9, 0, 0]), ("HCl", [0, 9, 0]), ("H2O", [0, 0, 9])]
    numbers, x = join(*((*geometry(name), shift) for name, shift in parts))
    return numbers, x + rng.uniform(-0.08, 0.08, x.shape)


@quick
@given(seeds)
def test_any_order_of_the_input_gives_the_same_physical_assignment(
    geometry, model, join, unlike, seed
):
    rng = np.random.default_rng(seed)
    numbers, x = mixture(geometry, join, rng)
    patterns = [model("H2O"), model("CH3CH2OH"), model("HCl")]
    plain = match(patterns, numbers, x, None, None, unlike)
    order = rng.permutation(len(numbers))
    mixed = match(patterns, numbers[order], x[order], None, None, unlike)
    assert [len(a) for a in mixed.atoms_of_model] == [2, 1, 1]
    assert laid_out(mixed, x[order]) == laid_out(plain, x)
    for pattern, atoms in zip(patterns, mixed.atoms_of_model, strict=True):
        assert (numbers[order][atoms] == pattern.numbers).all()
    assert sorted(Counter(mixed.molecule.tolist()).values()) == [2, 3, 3, 9]
    for molecule_id, (_, atoms) in enumerate(mixed.molecules):
        assert (mixed.molecule[atoms] == molecule_id).all()


@quick
@given(seeds)
def test_wrapping_changes_neither_assignment_nor_molecules(geometry, model, join, unlike, seed):
    rng = np.random.default_rng(seed)
    numbers, x = mixture(geometry, join, rng)
    patterns = [model("H2O"), model("CH3CH2OH"), model("HCl")]
    plain = match(patterns, numbers, x, None, None, unlike)
    order = rng.permutation(len(numbers))
    moved = x + rng.uniform(-20, 20, 3)
    fractional = moved @ np.linalg.inv(TRICLINIC) % 1 + rng.integers(-2, 3, x.shape)
    wrapped = (fractional @ TRICLINIC)[order]
    found = match(patterns, numbers[order], wrapped, TRICLINIC, True, unlike)
    whole = found.unwrap(wrapped, TRICLINIC, True)
    shift = (whole - wrapped) @ np.linalg.inv(TRICLINIC)
    assert np.allclose(shift, np.rint(shift), atol=1e-9)
    for a, b in zip(plain.atoms_of_model, found.atoms_of_model, strict=True):

        def shapes(atoms, positions):
            return sorted(
                np.round(positions[r] - positions[r[0]], 5).ravel().tolist() for r in atoms
            )

        assert np.allclose(shapes(a, x), shapes(b, whole), atol=2e-5)
    assert not found.long_bonds(wrapped, TRICLINIC, True, 1.4)


def test_methyl_hydrogens_get_the_handedness_of_the_training_data(geometry, model):
    pattern = model("CH3CH2OH")
    numbers, reference = geometry("CH3CH2OH")
    methyl = [6, 7, 8]

    def volume(x):
        arms = x[..., methyl, :] - x[..., [0], :]
        return np.linalg.det(arms)

    def score(k, coordinates):
        return (volume(coordinates) - volume(reference)) ** 2

    for swap in itertools.permutations(methyl):
        order = [0, 1, 2, 3, 4, 5, *swap]
        x = reference[order] @ Rotation.from_euler("xyz", [1, 2, 3]).as_matrix()
        for y in (x, x * [1, 1, -1]):
            (atoms,) = match([pattern], numbers, y, None, None, score).atoms_of_model
            assert np.isclose(volume(y[atoms[0]]), volume(reference))


def test_equal_scores_keep_the_order_of_the_input(geometry, model, no_preference):
    pattern = model("CH3CH2OH")
    numbers, x = geometry("CH3CH2OH")
    (atoms,) = match([pattern], numbers, x, None, None, no_preference).atoms_of_model
    assert atoms.tolist() == [list(range(9))]
    order = np.random.default_rng(5).permutation(9)
    (atoms,) = match([pattern], numbers[order], x[order], None, None, no_preference).atoms_of_model
    graph = Graph(numbers[order], bonds(numbers[order], x[order])[0])
    assert atoms[0].tolist() == min(isomorphisms(pattern, graph).tolist())

    def noise(k, coordinates):
        return -1000 + 1e-8 * np.arange(len(coordinates))[::-1]

    (noisy,) = match([pattern], numbers[order], x[order], None, None, noise).atoms_of_model
    assert noisy.tolist() == atoms.tolist()


def test_scores_are_asked_in_batches_and_only_where_there_is_a_choice(geometry, model, join):
    calls = []

    def score(k, coordinates):
        calls.append((k, coordinates.shape))
        return np.zeros(len(coordinates))

    numbers, x = mixture(geometry, join, np.random.default_rng(1))
    match([model("HCl"), model("H2O"), model("CH3CH2OH")], numbers, x, None, None, score)
    assert calls == [(1, (4, 3, 3)), (2, (12, 9, 3))]


def test_an_undefined_score_is_refused(geometry, model):
    numbers, x = geometry("H2O")
    with pytest.raises(GeometryError, match="atoms O1, H2, H3 .*'H2O'"):
        match([model("H2O")], numbers, x, None, None, lambda k, c: np.full(len(c), np.nan))


def test_water_box(geometry, model, join, no_preference, unlike, reference):
    lines = (reference / "water343" / "CONFIG").read_text().splitlines()
    cell = np.array([line.split() for line in lines[2:5]], dtype=float) / BOHR
    numbers = np.array([{"O": 8, "H": 1}[line.split()[0]] for line in lines[5::4]])
    x = np.array([line.split() for line in lines[6::4]], dtype=float) / BOHR
    water = model("H2O")
    plain = match([water], numbers, x, cell, True, unlike)
    assert (plain.atoms_of_model[0] // 3 == np.arange(343)[:, None]).all()
    order = np.random.default_rng(0).permutation(len(numbers))
    mixed = match([water], numbers[order], x[order], cell, True, unlike)
    assert sorted(order[mixed.atoms_of_model[0]].tolist()) == plain.atoms_of_model[0].tolist()
    whole = mixed.unwrap(x[order], cell, True)[mixed.atoms_of_model[0]]
    assert np.linalg.norm(whole[:, 1:] - whole[:, :1], axis=-1).max() * BOHR < 1.2
    assert not mixed.long_bonds(x[order], cell, True, 1.4)
    assert plain.long_bonds(x[order], cell, True, 1.4)

    dimer = Pattern.from_geometry("dimer", *join((*geometry("H2O"), 0), (*geometry("H2O"), 6)))
    found = match([water, dimer], numbers, x, cell, True, no_preference)
    assert [len(a) for a in found.atoms_of_model] == [1, 171]
    whole = found.unwrap(x, cell, True)[found.atoms_of_model[1]]
    gap = np.linalg.norm(whole[:, :3, None] - whole[:, None, 3:], axis=-1).min(axis=(1, 2))
    assert gap.min() * BOHR < 1.8
    assert np.median(gap) * BOHR < 2.2


@quick
@given(seeds)
def test_dimers_are_units_of_nearest_molecules(
    geometry, model, join, formic_acid_dimer, unlike, seed
):
    rng = np.random.default_rng(seed)
    numbers, x = formic_acid_dimer()
    x = x + rng.uniform(-0.08, 0.08, x.shape)
    other = x @ Rotation.random(rng=rng).as_matrix() + [0, 0, 16]
    water = geometry("H2O")
    numbers, x = join((numbers, x, 0), (numbers, other, 0), (*water, [0, 0, -10]))
    patterns = [model("H2O"), Pattern.from_geometry("dimer", *formic_acid_dimer())]
    cell = TRICLINIC * 1.5
    order = rng.permutation(len(numbers))
    moved = x + rng.uniform(-20, 20, 3)
    wrapped = (moved @ np.linalg.inv(cell) % 1 @ cell)[order]
    found = match(patterns, numbers[order], wrapped, cell, True, unlike)
    units = sorted(sorted(row) for row in order[found.atoms_of_model[1]].tolist())
    assert units == [list(range(10)), list(range(10, 20))]
    whole = found.unwrap(wrapped, cell, True)
    back = np.empty_like(whole)
    back[order] = whole
    for unit in (slice(0, 10), slice(10, 20), slice(20, 23)):
        assert np.allclose(back[unit] - back[unit][0], x[unit] - x[unit][0], atol=1e-8)
    # The spanning trees built at matching also hold later, when an atom leaves the cell.
    later = wrapped + rng.integers(-1, 2, wrapped.shape) @ cell
    again = found.unwrap(later, cell, True)
    for row in found.atoms_of_model[1]:
        assert np.allclose(again[row] - again[row[0]], whole[row] - whole[row[0]], atol=1e-8)


def test_leftover_monomers_go_to_their_own_model_or_are_named(
    join, formic_acid_dimer, no_preference
):
    dimer_numbers, dimer = formic_acid_dimer()
    acid = (dimer_numbers[:5], dimer[:5])
    numbers, x = join((*acid, [0, 0, 12]), (dimer_numbers, dimer, 0))
    pair = Pattern.from_geometry("pair", dimer_numbers, dimer)
    with pytest.raises(
        TopologyError, match=r"CH2O2 \(atoms O1, C2, O3, H4, H5\) is left over: model 'pair'"
    ):
        match([pair], numbers, x, None, None, no_preference)
    found = match(
        [Pattern.from_geometry("acid", *acid), pair], numbers, x, None, None, no_preference
    )
    assert found.atoms_of_model[0].tolist() == [[0, 1, 2, 3, 4]]
    assert sorted(found.atoms_of_model[1][0]) == list(range(5, 15))


def test_units_of_three_fragments_of_two_kinds(geometry, join, no_preference):
    water, hcl = geometry("H2O"), geometry("HCl")
    line = [(*hcl, [0, 0, 0]), (*water, [6, 0, 0]), (*water, [12, 0, 0])]
    pattern = Pattern.from_geometry("trimer", *join(*line))
    far = [(n, x, np.add(shift, [0, 18, 0])) for n, x, shift in line]
    numbers, x = join(line[2], far[1], line[0], far[2], far[0], line[1])
    cell = np.diag([26.0, 40.0, 20.0])
    inside = (x + [20, 3, 3]) % [26.0, 40.0, 20.0]
    (units,) = match([pattern], numbers, inside, cell, True, no_preference).atoms_of_model
    sets = sorted(sorted(row) for row in units.tolist())
    assert sets == [[0, 1, 2, 6, 7, 13, 14, 15], [3, 4, 5, 8, 9, 10, 11, 12]]
    found = match([pattern], numbers, inside, cell, True, no_preference)
    whole = found.unwrap(inside, cell, True)
    for row in found.atoms_of_model[0]:
        assert np.allclose(whole[row] - whole[row[0]], x[row] - x[row[0]])
