import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from scipy.spatial.distance import pdist

from ase_fflux.base.errors import FFLUXError
from ase_fflux.simulate.radial import Molecules, radial_distribution, reach

TRICLINIC = np.array([[14.0, 0, 0], [3.0, 13.0, 0], [-2.0, 4.0, 12.0]])


def gas(rng, symbols, cell=TRICLINIC):
    """Independent points, of which no two coincide."""
    while True:
        atoms = Atoms(symbols, rng.uniform(0, 1, (len(Atoms(symbols)), 3)) @ cell, cell=cell)
        if pdist(atoms.positions).min() > 0.3:
            atoms.pbc = True
            return atoms


def test_ideal_gas():
    """1 - 1/N of one kind and 1 of two, in a triclinic cell."""
    rng = np.random.default_rng(0)
    frames = [gas(rng, "He150Ne50") for _ in range(60)]
    found = radial_distribution(
        frames, [("He", "He"), ("He", "Ne")], width=0.25, intramolecular=True
    )
    assert found.r[-1] < reach(frames[0]) < 6.01 and found.frames == 60
    like, unlike = (found.g[pair][4:] for pair in (("He", "He"), ("He", "Ne")))
    weight = found.r[4:] ** 2 / np.sum(found.r[4:] ** 2)
    assert weight @ like == pytest.approx(1 - 1 / 150, abs=0.004)
    assert weight @ unlike == pytest.approx(1, abs=0.006)
    assert like == pytest.approx(np.ones_like(like), abs=0.15)
    ideal = 50 / abs(np.linalg.det(TRICLINIC)) * 4 / 3 * np.pi * (found.r[-1] + 0.125) ** 3
    assert found.coordination["He", "Ne"][-1] == pytest.approx(ideal, rel=0.02)


@pytest.mark.parametrize("cubic", [True, False])
def test_shells_of_a_lattice(cubic):
    """12, 6 and 24 neighbours of fcc, also where all of them are images of one atom."""
    crystal = bulk("Ar", "fcc", a=5.3, cubic=cubic)
    found = radial_distribution([crystal], r_max=7.0, width=0.1)
    around = found.coordination["Ar", "Ar"]
    for distance, neighbours in ((3.5, 0), (4.0, 12), (5.6, 18), (6.8, 42)):
        assert around[np.searchsorted(found.r, distance)] == pytest.approx(neighbours)
    shells = np.flatnonzero(found.g["Ar", "Ar"])
    assert found.r[shells] == pytest.approx(5.3 * np.sqrt([0.5, 1.0, 1.5]), abs=0.05)
    volume = 4 * np.pi / 3 * np.diff((found.r[shells[0]] + np.array([-0.05, 0.05])) ** 3)[0]
    density = 4 / 5.3**3
    assert found.g["Ar", "Ar"][shells[0]] == pytest.approx(12 / (density * volume))


def test_atoms_of_one_molecule_do_not_count(water_box):
    """Molecules that lie across the cell are found all the same."""
    apart = radial_distribution([water_box], [("O", "H")], r_max=3.0)
    assert apart.coordination["O", "H"][np.searchsorted(apart.r, 1.2)] == 0
    together = radial_distribution([water_box], [("O", "H")], r_max=3.0, intramolecular=True)
    near = np.searchsorted(together.r, 1.2)
    assert together.coordination["O", "H"][near] == pytest.approx(2)
    beyond = together.coordination["O", "H"] - apart.coordination["O", "H"]
    assert beyond[near:] == pytest.approx(np.full(len(beyond) - near, 2.0))


def test_a_cell_that_changes_counts_with_its_own_density(water_box):
    large = water_box.copy()
    large.set_cell(1.1 * water_box.cell, scale_atoms=True)
    one, other, both = (
        radial_distribution(frames, [("O", "O")], r_max=3.0, width=0.5).g["O", "O"]
        for frames in ([water_box], [large], [water_box, large])
    )
    assert both == pytest.approx((one + other) / 2)


def test_sites():
    ethanol = molecule("CH3CH2OH", vacuum=5, pbc=True)
    found = Molecules(ethanol)
    assert found.names() == ["C(CHHH)", "C(CHHO)", "H(C)", "H(O)", "O(CH)"]
    assert [len(found.site(s)) for s in ("H", "H(C)", "H(O)", "C(CHHH)", "C(HCHH)")] == [
        6, 5, 1, 1, 1
    ]
    assert Molecules(bulk("Ar", "fcc", a=5.3)).site("Ar()") == [0]
    for name, said in (("Xx", "no site"), ("H(N)", "no atom is H.N.: there are C.CHHH.")):
        with pytest.raises(FFLUXError, match=said):
            found.site(name)


def test_a_network_is_no_molecule(water_box):
    salt = bulk("NaCl", "rocksalt", a=5.2, cubic=True)
    assert len(set(Molecules(salt).molecule)) == 8
    assert len(set(Molecules(water_box).molecule)) == 8
    found = radial_distribution([salt], [("Na", "Cl")], r_max=3.0)
    assert found.coordination["Na", "Cl"][-1] == 6


def test_what_has_no_functions(water_box):
    with pytest.raises(FFLUXError, match="no frame"):
        radial_distribution([])
    with pytest.raises(FFLUXError, match="periodic in three"):
        radial_distribution([molecule("H2O")])
    with pytest.raises(FFLUXError, match="frame 1 has other atoms"):
        radial_distribution([water_box, water_box[:-3]])
    with pytest.raises(FFLUXError, match="do not fit"):
        radial_distribution([water_box], r_max=0.01)
