import json
import pickle
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad

from ase_fflux.base.errors import FFLUXError, GeometryError
from ase_fflux.base.units import BOHR, HARTREE, HARTREE_KJ, KJ_PER_MOL
from ase_fflux.forcefield.interactions.pairs import ShortRange, tail

PAIRS = {
    "O-O": {"lj": [0.008, 3.1]},
    "O-H": {"buckingham": [120.0, 0.3, 5.0]},
    "C-O": {"lj": [0.005, 2.0]},
}
NUMBERS = np.array([8, 1, 1, 8, 1, 6, 8, 8])
MOLECULE = np.array([0, 0, 0, 1, 1, 1, 2, 2])


def atoms(seed, edge=13.0):
    """Positions in bohr; molecules may reach out of the cell, as unwrapped ones do."""
    rng = np.random.default_rng(seed)
    centres = np.array([[0.5, 0, 0], [0, 0.4, 0.1], [0.2, 0, 0.5]]) * edge
    return centres[MOLECULE] + rng.normal(size=(len(MOLECULE), 3))


def cell_of(edge=13.0):
    return edge * (np.eye(3) + [[0, 0.1, -0.2], [0.05, 0, 0.1], [0.1, -0.1, 0]])


def by_hand(positions, numbers, molecule, cutoff=None, cell=None, images=0, shifted=True):
    """Total energy in hartree with plain loops in ASE's units."""
    def energy(key, r):
        if key == (8, 8):
            return 4 * 0.008 * ((3.1 / r) ** 12 - (3.1 / r) ** 6)
        if key == (6, 8):
            return 4 * 0.005 * ((2.0 / r) ** 12 - (2.0 / r) ** 6)
        return 120 * np.exp(-r / 0.3) - 5 / r**6 if key == (1, 8) else 0.0

    total = 0.0
    shifts = np.array(list(np.ndindex(*(2 * images + 1,) * 3))) - images
    for shift in shifts:
        for i in range(len(positions)):
            for j in range(len(positions)):
                if not shift.any() and molecule[i] == molecule[j]:
                    continue
                vector = positions[j] - positions[i]
                if images:
                    vector = vector + shift @ cell
                r = np.linalg.norm(vector) * BOHR
                key = tuple(sorted((numbers[i], numbers[j])))
                if cutoff is None or (not shifted and r < cutoff):
                    total += 0.5 * energy(key, r)
                elif shifted and r < cutoff:
                    h = 1e-5
                    slope = (energy(key, cutoff + h) - energy(key, cutoff - h)) / (2 * h)
                    total += 0.5 * (energy(key, r) - energy(key, cutoff) - (r - cutoff) * slope)
    return total / HARTREE


@pytest.mark.parametrize("cutoff", [None, 4.0])
def test_energy_is_that_of_the_formulas(evaluated, cutoff):
    model = ShortRange.from_dict(json.loads(json.dumps(PAIRS)), cutoff)
    energies, *_ = evaluated(model, atoms(1), NUMBERS, MOLECULE)
    expected = by_hand(atoms(1), NUMBERS, MOLECULE, cutoff)
    assert energies.sum() == pytest.approx(expected, rel=1e-9)


def test_periodic_energy_has_the_images_of_the_own_molecule(evaluated):
    cutoff, cell = 8.0, cell_of()
    model = ShortRange.from_dict(PAIRS, cutoff)
    energies, *_ = evaluated(model, atoms(2), NUMBERS, MOLECULE, cell, (True,) * 3)
    expected = by_hand(atoms(2), NUMBERS, MOLECULE, cutoff, cell, 2)
    assert energies.sum() == pytest.approx(expected, rel=1e-8)
    one = np.zeros(len(NUMBERS), dtype=int)
    assert evaluated(model, atoms(2), NUMBERS, one)[0].sum() == 0.0
    assert evaluated(model, atoms(2), NUMBERS, one, cell, (True,) * 3)[0].sum() != 0.0


def test_large_cell_is_the_cluster(evaluated):
    model = ShortRange.from_dict(PAIRS, 8.0)
    alone = evaluated(model, atoms(3), NUMBERS, MOLECULE)
    periodic = evaluated(model, atoms(3), NUMBERS, MOLECULE, 100 * np.eye(3), (True, False, True))
    for a, b in zip(alone[:3], periodic[:3], strict=True):
        assert a == pytest.approx(b, abs=1e-12)


def test_supercell(evaluated):
    model, cell, pbc = ShortRange.from_dict(PAIRS, 7.0), cell_of(), (True,) * 3
    energies, gradient, virial, _ = evaluated(model, atoms(4), NUMBERS, MOLECULE, cell, pbc)
    twice = evaluated(
        model, np.vstack([atoms(4), atoms(4) + cell[1]]),
        np.tile(NUMBERS, 2),
        np.append(MOLECULE, MOLECULE + 3),
        cell * [[1], [2], [1]],
        pbc,
    )
    assert twice[0] == pytest.approx(np.tile(energies, 2), abs=1e-13)
    assert twice[1] == pytest.approx(np.tile(gradient, (2, 1)), abs=1e-13)
    assert twice[2] == pytest.approx(2 * virial, abs=1e-12)


@settings(deadline=None, max_examples=10)
@given(st.integers(0, 10**6), st.booleans(), st.sampled_from([5.0, 8.0]))
def test_derivatives(evaluated, seed, periodic, cutoff):
    model = ShortRange.from_dict(PAIRS, cutoff)
    positions, cell, pbc = atoms(seed), cell_of(), (periodic,) * 3

    def energy(positions, cell):
        return evaluated(model, positions, NUMBERS, MOLECULE, cell, pbc)[0].sum()

    _, gradient, virial, _ = evaluated(model, positions, NUMBERS, MOLECULE, cell, pbc)
    scale = abs(gradient).max() + 1e-3
    h = 1e-4
    for index in [(0, 0), (1, 1), (3, 2), (5, 0), (7, 1)]:
        step = np.zeros_like(positions)
        step[index] = h
        numerical = (energy(positions + step, cell) - energy(positions - step, cell)) / (2 * h)
        assert gradient[index] == pytest.approx(numerical, abs=1e-5 * scale)
    for a, b in [(0, 0), (1, 2), (2, 1)]:
        strains = [np.eye(3), np.eye(3)]
        strains[0][a, b] += 1e-5
        strains[1][a, b] -= 1e-5
        plus, minus = (energy(positions @ s.T, cell @ s.T) for s in strains)
        assert virial[a, b] == pytest.approx((plus - minus) / 2e-5, abs=1e-4 * scale)
    assert gradient.sum(axis=0) == pytest.approx(np.zeros(3), abs=1e-12 * scale)
    assert virial == pytest.approx(virial.T, abs=1e-12 * scale * 10)


def test_energy_and_force_vanish_at_the_cutoff(evaluated):
    model = ShortRange.from_dict(PAIRS, 6.0)
    for delta, order in ((1e-3, 1), (1e-4, 1)):
        energies, gradient, *_ = evaluated(
        model,     np.array([[0, 0, 0], [0, 0, 6.0 / BOHR - delta]]), [8, 8], [0, 1]
        )
        assert 0 < abs(gradient[0, 2]) < delta**order
        assert 0 < abs(energies.sum()) < delta**2
    beyond = evaluated(model, np.array([[0, 0, 0], [0, 0, 6.0 / BOHR + 1e-6]]), [8, 8], [0, 1])
    assert not beyond[0].any() and not beyond[1].any()


def test_atomic_energies_are_halves_of_pairs(evaluated):
    model = ShortRange.from_dict({"O-O": {"lj": [0.01, 3.0]}})
    x = np.array([[0, 0, 0], [0, 2 ** (1 / 6) * 3.0 / BOHR, 0], [1, 0, 0]])
    energies, *_ = evaluated(model, x, [8, 8, 1], [0, 1, 1])
    assert energies * HARTREE == pytest.approx([-0.005, -0.005, 0.0])


def test_published_water_dimer(evaluated, reference):
    data = np.load(reference / "water343" / "expected_dimer_cluster_L3.npz")
    model = ShortRange.from_dict(
        {
            "O-O": {"lj": [0.763 * KJ_PER_MOL, 3.170]},
            "H-O": {"lj": [0.106 * KJ_PER_MOL, 1.902]},
        },
        cutoff=8.0,
    )
    energies, *_ = evaluated(
        model, data["positions_ang"] / BOHR, [8, 1, 1] * 2, [0, 0, 0, 1, 1, 1]
    )
    assert energies.sum() * HARTREE_KJ * 100 == pytest.approx(float(data["e_vdw_10Jmol"]), rel=1e-6)


def test_pickles(evaluated):
    model = pickle.loads(pickle.dumps(ShortRange.from_dict(PAIRS, 5.0)))
    again = evaluated(ShortRange.from_dict(PAIRS, 5.0), atoms(5), NUMBERS, MOLECULE)
    assert np.array_equal(evaluated(model, atoms(5), NUMBERS, MOLECULE)[1], again[1])


@pytest.mark.parametrize("numbers", [np.zeros(0, dtype=int), np.array([92, 118])])
def test_nothing_interacts(evaluated, numbers):
    n = len(numbers)
    for pairs in (PAIRS, {}):
        energies, gradient, virial, _ = evaluated(
            ShortRange.from_dict(pairs), np.zeros((n, 3)), numbers, np.arange(n)
        )
        assert energies.shape == (n,) and gradient.shape == (n, 3)
        assert not energies.any() and not gradient.any() and not virial.any()


@pytest.mark.parametrize("cell", [None, 20 * np.eye(3)])
def test_coincident_atoms(evaluated, cell):
    positions = atoms(6)
    positions[6] = positions[3]
    model = ShortRange.from_dict(PAIRS, 5.0)
    with pytest.raises(GeometryError, match=r"atom \d \(O\) and atom \d \(O\) of different"):
        evaluated(model, positions, NUMBERS, MOLECULE, cell, (cell is not None,) * 3)


def test_not_finite(evaluated):
    positions = atoms(7)
    positions[1, 1] = np.nan
    with pytest.raises(GeometryError, match="not finite"):
        evaluated(ShortRange.from_dict(PAIRS), positions, NUMBERS, MOLECULE)


def test_periodic_boundaries_need_a_cutoff(evaluated):
    with pytest.raises(FFLUXError, match="cut-off with periodic"):
        evaluated(
            ShortRange.from_dict(PAIRS), atoms(8), NUMBERS, MOLECULE, cell_of(),
            (True, False, False),
        )


@pytest.mark.parametrize(
    ("pairs", "cutoff", "message"),
    [
        ({"O": {"lj": [1, 1]}}, None, "'O': write two elements"),
        ({"O-Hx": {"lj": [1, 1]}}, None, "'O-Hx': 'Hx' is not an element"),
        ({"O-X": {"lj": [1, 1]}}, None, "'X' is not an element"),
        ({"O-H": {"morse": [1, 1]}}, None, "O-H: unknown potential 'morse', known are lj"),
        ({"O-H": {"lj": [1, 1, 1]}}, None, "O-H: lj takes 2 numbers, epsilon, sigma"),
        ({"O-H": {"lj": ["a", 1]}}, None, "O-H: lj takes 2 numbers"),
        ({"O-H": {"lj": 3}}, None, "O-H: lj takes 2 numbers"),
        ({"O-H": {"buckingham": [1, 1]}}, None, "buckingham takes 3 numbers, A, rho, C"),
        ({"O-H": {"lj": [1, float("nan")]}}, None, "O-H: lj takes 2 numbers"),
        ({"O-H": {"lj": [1, -1]}}, None, "sigma of lj is -1.0, it must be positive"),
        ({"O-H": {"lj": [-1, 1]}}, None, "epsilon of lj is -1.0, it must not be negative"),
        ({"O-H": {"buckingham": [1, 0, 1]}}, None, "rho of buckingham is 0.0"),
        ({"O-H": [1, 1]}, None, "O-H: give one potential"),
        ({"O-H": {}}, None, "O-H: give one potential"),
        ({"O-H": {"lj": [1, 1]}, "H-O": {"lj": [1, 1]}}, None, "H-O is given twice"),
        (PAIRS, 0.0, "cut-off 0.0"),
        (PAIRS, -1.0, "cut-off -1.0"),
        (PAIRS, float("inf"), "cut-off inf"),
    ],
)
def test_bad_input(pairs, cutoff, message):
    with pytest.raises(FFLUXError, match=message):
        ShortRange.from_dict(pairs, cutoff)


def plain(cutoff, tail=True):
    return replace(ShortRange.from_dict(PAIRS, cutoff), shifted=False, tail=tail)


def test_plain_potentials_are_cut_off_as_they_are(evaluated):
    cell, pbc = cell_of(), (True,) * 3
    energies, *_ = evaluated(plain(8.0, False), atoms(2), NUMBERS, MOLECULE, cell, pbc)
    expected = by_hand(atoms(2), NUMBERS, MOLECULE, 8.0, cell, 2, shifted=False)
    assert energies.sum() == pytest.approx(expected, rel=1e-9)
    cluster, *_ = evaluated(plain(8.0), atoms(2), NUMBERS, MOLECULE)
    expected = by_hand(atoms(2), NUMBERS, MOLECULE, 8.0, shifted=False)
    assert cluster.sum() == pytest.approx(expected, rel=1e-9)  # no tail


@pytest.mark.parametrize("c", [(3e5, 40.0, 0.0, 0.0), (0.0, 12.0, 30.0, 1.7)])
def test_tail_is_the_integral_of_the_potential(c):
    def potential(r):
        return c[0] / r**12 - c[1] / r**6 + c[2] * np.exp(-c[3] * r)

    def slope(r):
        return -12 * c[0] / r**13 + 6 * c[1] / r**7 - c[3] * c[2] * np.exp(-c[3] * r)

    energy, virial = tail(np.array(c), 9.0)
    wanted = quad(lambda r: 2 * np.pi * r**2 * potential(r), 9.0, np.inf)[0]
    assert energy == pytest.approx(wanted, rel=1e-7)
    wanted = quad(lambda r: 2 * np.pi / 3 * r**3 * slope(r), 9.0, np.inf)[0]
    assert virial == pytest.approx(wanted, rel=1e-7)


def test_tail_stands_for_what_is_beyond(evaluated):
    """Of a lattice with one atom in a cell, against a cut-off five times as long."""
    cell = np.array([[6.0, 0, 0], [1.5, 6.5, 0], [-1.0, 2.0, 7.0]])
    model = replace(
        ShortRange.from_dict({"O-O": {"lj": [0.008, 3.1]}}, 6.0), shifted=False
    )

    def at(cutoff, tail):
        found = evaluated(
            replace(model, cutoff=cutoff, tail=tail), np.zeros((1, 3)), [8], [0], cell, (True,) * 3
        )
        return np.array([found[0].sum(), np.trace(found[2])])

    exact = at(120.0, True)
    without, with_tail = abs(at(24.0, False) - exact), abs(at(24.0, True) - exact)
    assert (with_tail < 0.1 * without).all()


def test_derivatives_with_tail(evaluated):
    """The virial has the forces in passing the cut-off too, which the energy's slope has not."""
    model, positions, cell = plain(7.0), atoms(11), cell_of()

    def energy(positions, cell):
        found = evaluated(model, positions, NUMBERS, MOLECULE, cell, (True,) * 3)
        return found[0].sum()

    _, gradient, virial, _ = evaluated(model, positions, NUMBERS, MOLECULE, cell, (True,) * 3)
    h = 1e-4
    for index in [(0, 0), (3, 2), (7, 1)]:
        step = np.zeros_like(positions)
        step[index] = h
        numerical = (energy(positions + step, cell) - energy(positions - step, cell)) / (2 * h)
        assert gradient[index] == pytest.approx(numerical, rel=1e-5, abs=1e-10)
    rc = model.cutoff
    c12, c6, a, b = np.moveaxis(model.coefficients, -1, 0)
    last = c12 / rc**12 - c6 / rc**6 + a * np.exp(-b * rc)
    counts = np.array([np.sum(number == NUMBERS) for number in model.numbers])
    passing = -2 * np.pi / 3 * rc**3 * (counts @ last @ counts) / np.linalg.det(cell)
    for i, j in [(0, 0), (1, 1), (2, 2), (1, 2)]:
        strains = [np.eye(3), np.eye(3)]
        strains[0][i, j] += 1e-6
        strains[1][i, j] -= 1e-6
        plus, minus = (energy(positions @ s.T, cell @ s.T) for s in strains)
        numerical = (plus - minus) / 2e-6 + passing * (i == j)
        assert virial[i, j] == pytest.approx(numerical, rel=1e-5, abs=1e-9)


def test_tail_needs_a_plain_cutoff_and_a_whole_cell(evaluated):
    for change in ({"shifted": True}, {"cutoff": None}):
        with pytest.raises(FFLUXError, match="tail corrections are of plain"):
            replace(plain(7.0), **change)
    with pytest.raises(FFLUXError, match="periodic in three directions, and this one is in 2"):
        evaluated(plain(7.0), atoms(8), NUMBERS, MOLECULE, cell_of(), (True, False, True))
