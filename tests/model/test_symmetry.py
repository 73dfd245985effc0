import numpy as np
import pytest
from ase.build import molecule

from ase_fflux.base.errors import SymmetryWarning
from ase_fflux.base.units import BOHR
from ase_fflux.model import symmetry
from ase_fflux.model.alf import choose_alf
from ase_fflux.model.frames import features, features_and_frames
from ase_fflux.model.multipoles import MOMENT_NAMES
from ase_fflux.model.symmetry import (
    Symmetry,
    find_symmetry,
    polar_angles,
    reflection_signs,
    symmetry_and_frames,
)

MIRROR = np.diag([1.0, 1.0, -1.0])


def named(name):
    """Atomic numbers and a geometry (bohr) of the G2 set."""
    atoms = molecule(name)
    return atoms.numbers, atoms.positions / BOHR


def formic_acid_dimer():
    """Two acids whose O-H groups point at each other's C=O, related by inversion."""
    numbers, x = named("HCOOH")
    oxygen, carbon, hydroxyl = 0, 1, 2
    assert numbers.tolist() == [8, 6, 8, 1, 1]
    middle = 0.5 * (x[oxygen] + x[hydroxyl])
    out = (middle - x[carbon]) / np.linalg.norm(middle - x[carbon])
    return np.concatenate([numbers, numbers]), np.vstack([x, 2.0 * (middle + 2.5 * out) - x])


def chfclbr():
    corners = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) / np.sqrt(3)
    lengths = np.array([2.05, 2.6, 3.3, 3.7])[:, None]
    return np.array([6, 1, 9, 17, 35]), np.vstack([np.zeros(3), corners * lengths])


def neopentane():
    """Tetrahedral, so that 12 rotations and 12 others are symmetries of the geometry."""
    corners = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) / np.sqrt(3)
    hydrogens = [2.9 * corners[i] - 2.06 * corners[j] for i in range(4) for j in range(4) if i != j]
    return np.repeat([6, 1], [5, 12]), np.vstack([np.zeros(3), 2.9 * corners, hydrogens])


def axes(neighbours):
    """Unit vectors to the corners of an octahedron, the first of opposite ones first."""
    return np.concatenate([np.eye(3), -np.eye(3)])[neighbours]


def sf6():
    return np.repeat([16, 9], [1, 6]), np.vstack([np.zeros(3), 2.95 * axes(range(6))])


def xef4():
    return np.repeat([54, 9], [1, 4]), np.vstack([np.zeros(3), 3.7 * axes([0, 1, 3, 4])])


def pf5():
    turn = 2 * np.pi * np.arange(3) / 3
    ring = np.column_stack([np.cos(turn), np.sin(turn), np.zeros(3)])
    return np.repeat([15, 9], [1, 5]), 2.9 * np.vstack([np.zeros(3), ring, axes([2, 5])])


def cage():
    """B12H12, an icosahedron in another."""
    golden = (1 + np.sqrt(5)) / 2
    corners = np.array([
        p for a in (1, -1) for b in (golden, -golden) for p in ([0, a, b], [a, b, 0], [b, 0, a])
    ]) * 1.67
    return np.repeat([5, 1], 12), np.vstack([corners, 1.71 * corners])


def tetradecane():
    """All-trans: 331,776 relabellings keep its bonds."""
    x, numbers = [], []
    for i in range(14):
        side = 1 if i % 2 else -1
        carbon = np.array([1.27 * i, 0.43 * side, 0])
        hydrogens = [[0, 0.63 * side, 0.89], [0, 0.63 * side, -0.89]]
        if i in (0, 13):
            hydrogens.append([-0.89 if i == 0 else 0.89, -0.63 * side, 0])
        x += [carbon, *(carbon + h for h in hydrogens)]
        numbers += [6] + [1] * len(hydrogens)
    return np.array(numbers), np.array(x) / BOHR


def members(found):
    return [
        (tuple(p), bool(m)) for p, m in zip(found.permutations, found.mirrored, strict=True)
    ]


@pytest.mark.parametrize("shape, size, mirrored", [
    (named("H2O"), 4, 2),
    (named("CH3CH2OH"), 6, 3),  # 3 turns of the methyl group, and its mirror image
    (named("C6H6"), 24, 12),
    (formic_acid_dimer(), 4, 2),
    (named("CH4"), 24, 12),
    (chfclbr(), 1, 0),
    (named("LiH"), 2, 1),
    (named("C2H6"), 36, 18),  # with free turns of its halves
    (named("CCl4"), 24, 12),
    (sf6(), 48, 24),  # of 720 exchanges of its fluorines
    (xef4(), 16, 8),  # neighbours in a plane have no hand
    (pf5(), 12, 6),
    (cage(), 120, 60),
    (tetradecane(), 36, 18),
])
def test_number_of_operations(shape, size, mirrored):
    found = find_symmetry(*shape)
    assert (len(found), found.mirrored.sum()) == (size, mirrored)


@pytest.mark.parametrize("shape", [
    named("H2O"), named("CH3CH2OH"), named("C6H6"), named("CH4"), named("C2H6"),
    formic_acid_dimer(), neopentane(), named("isobutane"), sf6(), pf5(),
])
@pytest.mark.filterwarnings("ignore::ase_fflux.base.errors.SymmetryWarning")
def test_operations_are_a_group_of_relabellings_of_like_atoms(shape):
    numbers, _ = shape
    found = find_symmetry(*shape)
    group = set(members(found))
    assert len(group) == len(found)
    assert members(found)[0] == (tuple(range(len(numbers))), False)
    for p, m in members(found):
        np.testing.assert_array_equal(numbers[list(p)], numbers)
        # x'' = P Q x[p][q] = P Q x[p[q]]
        assert all((tuple(np.array(p)[list(q)]), m != n) in group for q, n in group)


def test_hands_of_a_methylene_group_are_exchanged_in_a_mirror_only():
    numbers, x = named("CH3CH2OH")
    found = find_symmetry(numbers, x)
    near = np.linalg.norm(x[:, None] - x, axis=-1) < 2.5
    carbon = next(c for c in (0, 1) if near[c, numbers == 1].sum() == 2)
    one, other = np.flatnonzero(near[carbon] & (numbers == 1))
    swapped = found.permutations[:, one] == other
    np.testing.assert_array_equal(swapped, found.mirrored)


@pytest.mark.parametrize("shape", [sf6(), cage(), pf5(), named("CH4")])
def test_proper_operations_are_rotations_and_mirrored_ones_are_not(shape):
    numbers, x = shape
    x = x - x.mean(axis=0)
    found = find_symmetry(numbers, x)
    for permutation, mirrored in members(found):
        turn = np.linalg.lstsq(x, x[list(permutation)], rcond=None)[0]
        np.testing.assert_allclose(x @ turn, x[list(permutation)], atol=1e-8)
        assert np.linalg.det(turn) == pytest.approx(-1.0 if mirrored else 1.0)


def test_of_too_many_operations_those_of_the_geometry_are_kept():
    numbers, x = neopentane()
    with pytest.warns(SymmetryWarning, match="C5H12 has 1,944 relabellings .* 24 of them are used"):
        found = find_symmetry(numbers, x)
    assert len(found) == 24
    distance = np.linalg.norm(x[:, None] - x, axis=-1)
    for p in found.permutations:
        np.testing.assert_allclose(distance[np.ix_(p, p)], distance, atol=1e-9)
    turned = x @ np.linalg.qr(np.arange(9.0).reshape(3, 3) ** 2)[0]
    with pytest.warns(SymmetryWarning):
        rotated = find_symmetry(numbers, turned)
    assert set(members(rotated)) == set(members(found))


@pytest.mark.filterwarnings("ignore::ase_fflux.base.errors.SymmetryWarning")
def test_feasible_motions_are_added_while_they_fit(monkeypatch):
    """Of isobutane's 162 the 6 of its shape, and turns of all three methyl groups together."""
    numbers, x = named("isobutane")
    found = find_symmetry(numbers, x)
    assert len(found) == 18
    monkeypatch.setattr(symmetry, "MAX_ELEMENTS", 200)
    assert len(find_symmetry(numbers, x)) == 162


@pytest.mark.filterwarnings("ignore::ase_fflux.base.errors.SymmetryWarning")
def test_a_rough_geometry_still_gives_a_group():
    numbers, x = neopentane()
    for seed in range(5):
        rough = x + 0.12 * np.random.default_rng(seed).normal(size=x.shape)
        group = set(members(find_symmetry(numbers, rough)))
        assert all(
            (tuple(np.array(p)[list(q)]), m != n) in group for p, m in group for q, n in group
        )


def test_of_still_too_many_there_is_a_smaller_group(monkeypatch):
    monkeypatch.setattr(symmetry, "MAX_ELEMENTS", 10)
    monkeypatch.setattr(symmetry, "MAX_OF_SHAPE", 10)
    with pytest.warns(SymmetryWarning, match="9 of them are used"):
        assert len(find_symmetry(*neopentane())) == 9
    monkeypatch.setattr(symmetry, "_MOST", 100)
    with pytest.warns(SymmetryWarning, match="C5H12 has more than 100 relabellings"):
        assert members(find_symmetry(*neopentane())) == [(tuple(range(17)), False)]


def test_no_symmetry_leaves_every_atom_on_its_own():
    numbers, x = named("CH3OH")
    alf = choose_alf(numbers, x)
    none = Symmetry.none(6)
    np.testing.assert_array_equal(none.carried_alf(alf), alf)
    for atom, found in enumerate(none.classes(alf)):
        assert found.atoms == (atom,) and not found.mirrored.any()
        np.testing.assert_array_equal(found.order, [np.arange(12)])
        np.testing.assert_array_equal(found.view_order, [np.arange(12)])
        np.testing.assert_array_equal(found.tie, np.arange(12))


def carried(values, order, mirrored):
    values = values[..., order].copy()
    polar = polar_angles(values.shape[-1])
    values[..., polar] = np.where(mirrored, np.pi - values[..., polar], values[..., polar])
    return values


@pytest.mark.parametrize("shape", [
    named("H2O"), named("H2O2"), named("CH3CH2OH"), named("C6H6"), formic_acid_dimer(),
    neopentane(), named("LiH"), named("H2"), xef4(), pf5(),
])
@pytest.mark.filterwarnings("ignore::ase_fflux.base.errors.SymmetryWarning")
def test_members_and_views_are_the_first_atom_of_transformed_molecules(shape):
    numbers, x = shape
    found = find_symmetry(numbers, x)
    alf = found.carried_alf(choose_alf(numbers, x, found.permutations))
    geometries = x + 0.1 * np.random.default_rng(0).normal(size=(3, *x.shape))
    images = [
        geometries[:, p] @ (MIRROR if m else np.eye(3)) for p, m in members(found)
    ]
    classes = found.classes(alf)
    assert sorted(a for c in classes for a in c.atoms) == list(range(len(numbers)))
    for c in classes:
        first = c.atoms[0]
        of_images = [features(y, alf, first) for y in images]
        assert len({numbers[a] for a in c.atoms}) == 1
        seen = [
            carried(features(geometries, alf, a), order, m)
            for a, order, m in zip(c.atoms, c.order, c.mirrored, strict=True)
        ]
        np.testing.assert_array_equal(seen[0], features(geometries, alf, first))
        assert len(c.view_order) == len(c.view_mirrored)
        np.testing.assert_array_equal(c.view_order[0], np.arange(seen[0].shape[1]))
        assert not c.view_mirrored[0]
        for one in seen:
            for order, m in zip(c.view_order, c.view_mirrored, strict=True):
                view = carried(one, order, m)
                assert any(np.allclose(view, other, atol=1e-10) for other in of_images)
        np.testing.assert_array_equal(c.tie[c.view_order], np.tile(c.tie, (len(c.view_order), 1)))


def test_polar_angles_are_those_that_a_mirror_in_the_plane_of_the_frame_reflects():
    _, x = named("CH3CH2OH")
    alf = choose_alf(named("CH3CH2OH")[0], x)
    x = x + 0.1 * np.random.default_rng(0).normal(size=x.shape)
    f, frame = features_and_frames(x[None], alf, 0)
    mirror = np.eye(3) - 2.0 * np.outer(frame[0, 2], frame[0, 2])
    reflected = features((x @ mirror)[None], alf, 0)
    polar = polar_angles(f.shape[1])
    np.testing.assert_allclose(reflected[:, polar], np.pi - f[:, polar], atol=1e-12)
    np.testing.assert_allclose(reflected[:, ~polar], f[:, ~polar], atol=1e-12)


def test_reflection_signs_are_those_of_moments_of_reflected_charges():
    """Of ranks 0 to 2, by their Cartesian definition; energies do not change."""
    rng = np.random.default_rng(0)
    x, q = rng.normal(size=(7, 3)), rng.normal(size=7)

    def moments(x):
        a, b, c = x.T
        r2 = (x**2).sum(axis=1)
        s = np.sqrt(3.0)
        polynomials = [
            np.ones(7), c, a, b, (3 * c * c - r2) / 2, s * a * c, s * b * c,
            s * (a * a - b * b) / 2, s * a * b,
        ]
        return np.array(polynomials) @ q

    names = ["q00", "q10", "q11c", "q11s", "q20", "q21c", "q21s", "q22c", "q22s"]
    assert list(MOMENT_NAMES[:9]) == names
    np.testing.assert_allclose(moments(x @ MIRROR), reflection_signs(names) * moments(x))
    assert reflection_signs(["iqa"]).tolist() == [1.0]


ENOL = np.array([
    [0.0, -1.0, 0.0], [-1.2, -0.3, 0.0], [1.2, -0.3, 0.0], [-1.2, 0.97, 0.0], [1.2, 0.97, 0.0],
    [0.0, -2.09, 0.0], [-2.14, -0.85, 0.0], [2.14, -0.85, 0.0], [-0.25, 1.25, 0.0],
]) / BOHR
"""Malonaldehyde whose proton is at the first oxygen."""
ENOL_NUMBERS = [6, 6, 6, 8, 8, 1, 1, 1, 1]


def test_a_proton_that_travels_makes_the_oxygens_equivalent():
    """From the set of bonded graphs seen, of which those between the two are not the minimum's."""
    other = ENOL.copy()
    other[8, 0] *= -1
    between, apart = ENOL.copy(), ENOL.copy()
    between[8, 0] = 0.0
    apart[8, 1] += 1.5
    fixed = members(find_symmetry(ENOL_NUMBERS, ENOL))
    assert fixed == [(tuple(range(9)), False), (tuple(range(9)), True)]
    for seen in (ENOL[None], np.array([ENOL, between, apart])):
        assert members(find_symmetry(ENOL_NUMBERS, ENOL, seen)) == fixed
    exchange = 0, 2, 1, 4, 3, 5, 7, 6, 8
    seen = np.array([between, ENOL, other])
    found = find_symmetry(ENOL_NUMBERS, ENOL, seen)
    assert set(members(found)) == {*fixed, (exchange, False), (exchange, True)}
    found, alf = symmetry_and_frames("CCCOOHHHH", ENOL, True, seen)
    assert (3, 4) in {c.atoms for c in found.classes(alf)}
    # relabelled back, it is the minimum itself
    assert members(find_symmetry(ENOL_NUMBERS, ENOL, other[list(exchange)][None])) == fixed


def test_turns_of_methyl_groups_go_on_while_a_proton_travels():
    """Products with what bonds of one moment allow: acetylacetone has 36 operations."""
    numbers, x = list(ENOL_NUMBERS), list(ENOL)
    for h, c in ((7, 2), (6, 1)):  # hydrogens of the ends become methyl groups
        away = (ENOL[h] - ENOL[c]) / np.linalg.norm(ENOL[h] - ENOL[c])
        side = np.cross(away, [0, 0, 1.0])
        centre = ENOL[c] + 1.5 / BOHR * away
        numbers[h], x[h] = 6, centre
        for turn in 2 * np.pi * np.arange(3) / 3:
            arm = 0.36 * away + 1.03 * (np.cos(turn) * side + np.sin(turn) * np.array([0, 0, 1.0]))
            numbers.append(1)
            x.append(centre + arm / BOHR)
    x = np.array(x)
    other = x.copy()
    other[8, 0] *= -1
    assert len(find_symmetry(numbers, x)) == 18
    found = find_symmetry(numbers, x, other[None])
    assert len(found) == 36
    group = set(members(found))
    assert all((tuple(np.array(p)[list(q)]), m != n) in group for p, m in group for q, n in group)
