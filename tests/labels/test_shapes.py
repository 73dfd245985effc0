import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

from ase_fflux.base.units import BOHR
from ase_fflux.labels import shapes
from ase_fflux.labels.shapes import Shapes, has_one_shape, turns
from ase_fflux.topology import Connectivity, Pattern


def pattern_of(atoms):
    return Pattern.from_geometry("", atoms.numbers, atoms.positions / BOHR)


def shapes_of(atoms, **settings):
    return Shapes(pattern_of(atoms), atoms.positions, 1, **settings)


def test_turns_are_random_but_bonds_stay(ethanol):
    made = shapes_of(ethanol)
    first, second, third = made.varied([ethanol] * 3, 2)
    assert first is third is ethanol
    pattern = pattern_of(ethanol)
    i, j = pattern.bonds.T
    lengths = [np.linalg.norm(a.positions[i] - a.positions[j], axis=1) for a in (first, second)]
    assert lengths[0] == pytest.approx(lengths[1])
    assert abs(second.get_dihedral(0, 1, 2, 3) - first.get_dihedral(0, 1, 2, 3)) > 1
    connectivity = Connectivity(ethanol.numbers, ethanol.positions / BOHR)
    assert connectivity.change(second.positions / BOHR) == ""


def test_one_in_so_many_is_left_as_it_is(ethanol):
    made = list(shapes_of(ethanol).varied([ethanol] * 6, 3))
    assert [a is ethanol for a in made] == [True, False, False] * 2
    benzene = molecule("C6H6")
    assert not shapes_of(benzene).has_several
    assert all(a is benzene for a in shapes_of(benzene).varied([benzene] * 3, 2))


def test_rings_are_puckered_as_asked(cyclohexane):
    """Heights above the mean plane of Cremer and Pople, which stays; angles to hydrogens stay."""
    assert not shapes_of(cyclohexane, puckered=False).has_several
    (ring,) = shapes._rings(pattern_of(cyclohexane))
    assert sorted(ring) == [0, 3, 6, 9, 12, 15]
    angle = np.arange(6) * np.pi / 3
    heights = []
    for atoms in list(shapes_of(cyclohexane).varied([cyclohexane] * 9, 9))[1:]:
        x = atoms.positions[ring] - atoms.positions[ring].mean(axis=0)
        normal = np.cross(np.sin(angle) @ x, np.cos(angle) @ x)
        heights.append(x @ normal / np.linalg.norm(normal))
        for other in (np.ones(6), np.sin(angle), np.cos(angle)):
            assert heights[-1] @ other == pytest.approx(0, abs=1e-9)
        for carbon in ring:
            hydrogens = [carbon + 1, carbon + 2]
            for a in hydrogens:
                assert atoms.get_distance(carbon, a) == pytest.approx(
                    cyclohexane.get_distance(carbon, a)
                )
            two = (hydrogens[0], carbon, hydrogens[1])
            assert atoms.get_angle(*two) == pytest.approx(cyclohexane.get_angle(*two))
    assert np.sqrt(np.mean(np.square(heights), axis=1)) == pytest.approx(0.3)
    assert np.std(heights, axis=0).min() > 0.1


def test_axes_of_a_ring_are_rotations(cyclohexane):
    """So that what hangs on it is turned and not deformed."""
    (ring,) = shapes._rings(pattern_of(cyclohexane))
    axes = shapes._bisectors(cyclohexane.positions[ring])
    assert axes @ axes.transpose(0, 2, 1) == pytest.approx(np.tile(np.eye(3), (6, 1, 1)))
    assert np.linalg.det(axes) == pytest.approx(1)


def test_which_rings_are_puckered():
    """Those of four and more atoms with single bonds."""
    def rings(name):
        return [len(ring) for ring in shapes._rings(pattern_of(molecule(name)))]

    assert rings("C6H6") == rings("bicyclobutane") == rings("CH3CH2OH") == []
    assert rings("cyclobutane") == rings("cyclobutene") == [4]


def test_several_molecules_have_more_than_one_shape():
    water = molecule("H2O")
    two = water + Atoms(water.symbols, water.positions + [0, 3, 0])
    assert has_one_shape(pattern_of(water)) and not has_one_shape(pattern_of(two))


@pytest.mark.parametrize("name, may", [
    ("H2O", False), ("CH4", False), ("C6H6", False), ("C2H6", False), ("C2H4", False),
    ("CH3OH", False), ("CH3CH2OH", True), ("trans-butane", True), ("HCOOH", True), ("H2O2", True),
])
def test_molecules_that_may_have_conformers(name, may):
    assert turns(molecule(name)) is may


def test_rings_may_have_conformers(cyclohexane):
    assert turns(cyclohexane)
