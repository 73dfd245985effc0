import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from scipy.spatial.transform import Rotation

from ase_fflux.base.units import BOHR
from ase_fflux.topology import Graph, bonds, rotational_symmetry_number, superposition
from ase_fflux.topology.superposition import deviations, orthogonal_maps, shape_symmetries


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("H2O", 2),
        ("NH3", 3),
        ("CH4", 12),
        ("C6H6", 12),
        ("CO2", 2),
        ("HCl", 1),
        ("CH3CH2OH", 1),
        ("C2H2", 2),
        ("HCN", 1),
        ("C2H6", 6),
        ("C2H4", 4),
        ("isobutane", 3),
        ("CH3Cl", 3),
        ("He", 1),
    ],
)
def test_rotational_symmetry_numbers(name, number):
    atoms = molecule(name) if name != "He" else Atoms("He")
    rng = np.random.default_rng(3)
    x = Rotation.random(rng=rng).apply(atoms.positions / BOHR) + rng.normal(size=3)
    x += rng.uniform(-0.01, 0.01, x.shape)
    assert rotational_symmetry_number(atoms.numbers, x) == number


def test_symmetry_numbers_beyond_the_graph(geometry, formic_acid_dimer):
    assert rotational_symmetry_number(*formic_acid_dimer()) == 2
    numbers, x = geometry("H2O")
    x[1] += (x[1] - x[0]) * 0.3
    assert rotational_symmetry_number(numbers, x) == 1
    assert rotational_symmetry_number(numbers, x, tolerance=1.0) == 2


def test_one_atom_out_of_place_breaks_symmetry(geometry):
    numbers, x = geometry("C6H6")
    hydrogen = np.flatnonzero(numbers == 1)[0]
    x[hydrogen] *= 1 + 0.16 / np.linalg.norm(x[hydrogen])
    assert rotational_symmetry_number(numbers, x) == 2


def test_symmetry_of_a_long_chain_is_found_without_all_its_labellings():
    x, numbers = [], []
    for i in range(14):  # all-trans C14H30: 2 * 6^2 * 2^12 automorphisms, C2h
        side = 1 if i % 2 else -1
        carbon = np.array([1.27 * i, 0.43 * side, 0])
        hydrogens = [[0, 0.63 * side, 0.89], [0, 0.63 * side, -0.89]]
        if i in (0, 13):
            hydrogens.append([-0.89 if i == 0 else 0.89, -0.63 * side, 0])
        x += [carbon, *(carbon + h for h in hydrogens)]
        numbers += [6] + [1] * len(hydrogens)
    assert rotational_symmetry_number(numbers, np.array(x) / BOHR) == 2


def test_superposition():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(6, 3))
    rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    rotation *= np.sign(np.linalg.det(rotation))
    assert superposition(x, x @ rotation + 3.0) == pytest.approx(0, abs=1e-7)
    assert superposition(x, x * [1, 1, -1]) > 0.1
    # breathing keeps orientation: |1.1 x - x| about the centre
    radius = np.sqrt(((x - x.mean(axis=0)) ** 2).sum(axis=1).mean())
    assert superposition(x, 1.1 * x @ rotation) == pytest.approx(0.1 * radius, rel=1e-6)


@pytest.mark.parametrize("improper", [False, True])
def test_best_maps_are_those_of_scipy(improper):
    rng = np.random.default_rng(1)
    x, targets = rng.normal(size=(7, 3)), rng.normal(size=(4, 7, 3))
    maps = orthogonal_maps(x, targets, improper)
    mirror = np.diag([1.0, 1.0, -1.0]) if improper else np.eye(3)
    for found, target in zip(maps, targets, strict=True):
        assert np.linalg.det(found) == pytest.approx(-1.0 if improper else 1.0)
        rotation, _ = Rotation.align_vectors(target, x @ mirror)
        np.testing.assert_allclose(x @ found, rotation.apply(x @ mirror), atol=1e-9)


@pytest.mark.parametrize("name, proper, improper", [
    ("CH4", 12, 12), ("C6H6", 12, 12), ("H2O", 2, 2), ("NH3", 3, 3), ("C2H6", 6, 6),
    ("H2O2", 2, 0),
])
def test_proper_and_improper_operations(geometry, name, proper, improper):
    """C6H6 is D6h: 24 operations by 12 relabellings, each of them by a rotation and a mirror."""
    numbers, x = geometry(name)
    graph = Graph(numbers, bonds(numbers, x)[0])
    permutations, rotations, mirrors = shape_symmetries(graph, x, 0.1)
    assert (rotations.sum(), mirrors.sum()) == (proper, improper)
    for p, r, m in zip(permutations, rotations, mirrors, strict=True):
        y = x - x.mean(axis=0)
        for wanted, kind in ((r, False), (m, True)):
            assert (deviations(y, y[p][None], kind).max() < 0.1) == wanted
