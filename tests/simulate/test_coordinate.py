import numpy as np
import pytest
from ase.build import molecule

from ase_fflux.base.errors import FFLUXError
from ase_fflux.simulate.coordinate import Coordinate


@pytest.fixture
def ethanol():
    """C1 C2 O3 H4(O) H5 H6(C2) H7 H8 H9(C1), of ASE."""
    return molecule("CH3CH2OH")


def chain(ethanol):
    """Methyl carbon, carbon, oxygen, its hydrogen, from 0."""
    o = int(np.flatnonzero(ethanol.numbers == 8)[0])
    distances = ethanol.get_all_distances()
    h = min(np.flatnonzero(ethanol.numbers == 1), key=lambda a: distances[o, a])
    near, far = sorted(np.flatnonzero(ethanol.numbers == 6), key=lambda a: distances[o, a])
    return int(far), int(near), o, int(h)


@pytest.mark.parametrize("value", [-120.0, 10.0, 179.0])
def test_a_torsion_turns_what_hangs_on_it_and_nothing_else(ethanol, value):
    far, near, o, h = chain(ethanol)
    for atoms in ((far, near, o, h), (h, o, near, far)):
        coordinate, turned = Coordinate(atoms), ethanol.copy()
        moved = coordinate.moved(ethanol)
        coordinate.turn(turned, value, moved)
        assert coordinate.value(turned) == pytest.approx(value)
        for part in (moved, np.setdiff1d(np.arange(9), moved)):
            before, after = (x[part].get_all_distances() for x in (ethanol, turned))
            assert after == pytest.approx(before)
        assert turned.get_distance(near, o) == pytest.approx(ethanol.get_distance(near, o))


def test_distances_and_angles(ethanol):
    far, near, o, h = chain(ethanol)
    angle = Coordinate((near, o, h))
    assert angle.moved(ethanol).tolist() == [h]
    turned = ethanol.copy()
    angle.turn(turned, 120.0, angle.moved(ethanol))
    assert angle.value(turned) == pytest.approx(120.0)
    assert turned.get_distance(o, h) == pytest.approx(ethanol.get_distance(o, h))
    bond = Coordinate((near, o))
    assert bond.moved(ethanol).tolist() == sorted([o, h])
    bond.turn(turned, 1.6, bond.moved(ethanol))
    assert turned.get_distance(near, o) == pytest.approx(1.6)
    assert turned.get_angle(near, o, h) == pytest.approx(120.0)


def test_rings_and_atoms_of_one_side_do_not_divide():
    benzene = molecule("C6H6")
    assert Coordinate((0, 1, 2, 3)).moved(benzene) is None
    assert Coordinate((0, 2)).moved(benzene) is None
    hydrogen = int(benzene.get_all_distances()[0, 6:].argmin()) + 6
    assert Coordinate((1, 0, hydrogen)).moved(benzene).tolist() == [hydrogen]


def test_molecules_apart_move_as_a_whole():
    pair = molecule("H2O") + molecule("H2O")
    pair.positions[3:] += [3.0, 0, 0]
    assert Coordinate((0, 3)).moved(pair).tolist() == [3, 4, 5]


@pytest.mark.parametrize(
    "atoms, said",
    [((0, 9), "atoms 1 to 9"), ((-1, 0), "atoms 1 to 9"), ((0, 1, 0), "stands twice")],
)
def test_atoms_that_make_no_coordinate(ethanol, atoms, said):
    with pytest.raises(FFLUXError, match=said):
        Coordinate(atoms).check(ethanol)


def test_torsions_about_a_straight_line_are_not_defined(linear_triatomic):
    linear_triatomic += molecule("H")
    linear_triatomic.positions[3] = [2, 1, 0]
    with pytest.raises(FFLUXError, match="on one line"):
        Coordinate((0, 1, 2, 3)).check(linear_triatomic)


def test_missing_bonds_are_named(ethanol):
    far, near, o, h = chain(ethanol)
    assert Coordinate((far, near, o, h)).unbonded(ethanol) == ""
    assert f"atom {far + 1} (C) and atom {o + 1} (O)" == Coordinate((far, o, h)).unbonded(ethanol)


@pytest.mark.parametrize("atoms, value", [((0, 1), 0.0), ((0, 1), -1.0), ((0, 1, 2), 180.0)])
def test_values_that_there_are_not(atoms, value):
    with pytest.raises(FFLUXError):
        Coordinate(atoms).check_value(value)
