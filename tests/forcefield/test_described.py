import numpy as np
import pytest

from ase_fflux import ForceField
from ase_fflux.base.errors import FFLUXError
from ase_fflux.base.units import BOHR, HARTREE
from ase_fflux.forcefield.described import pairs_between, typed_pairs
from ase_fflux.formats.description import PairEntries

LIKE = {("A", "A"): ("lj", (0.004, 3.0)), ("B", "B"): ("lj", (0.009, 2.0))}


def entries(potentials, **options):
    return PairEntries(potentials, dict.fromkeys(potentials, "ff.toml, line 7"), 8.0, **options)


@pytest.mark.parametrize("rule, epsilon, sigma", [
    ("Lorentz-Berthelot", 0.006, 2.5), ("geometric", 0.006, np.sqrt(6.0)),
])
def test_mixing(rule, epsilon, sigma):
    pairs = typed_pairs(entries(LIKE, mixing=rule), ["B", "A", "A", "C"])
    assert pairs.names == ("A", "B", "C") and pairs.types.tolist() == [1, 0, 0, 2]
    kind, values = pairs_between(pairs)["A", "B"]
    assert kind == "lj" and values == pytest.approx((epsilon, sigma))
    assert pairs_between(pairs)["B", "B"][1] == pytest.approx((0.009, 2.0))
    assert ("A", "C") not in pairs_between(pairs)


def test_listed_pairs_come_before_mixed_ones():
    listed = LIKE | {("A", "B"): ("buckingham", (80.0, 0.3, 2.0))}
    pairs = typed_pairs(entries(listed, mixing="geometric"), ["A", "B"])
    kind, values = pairs_between(pairs)["A", "B"]
    assert kind == "buckingham" and values == pytest.approx((80.0, 0.3, 2.0))
    assert ("A", "B") not in pairs_between(typed_pairs(entries(LIKE), ["A", "B"]))


@pytest.mark.parametrize("potentials, options, message", [
    ({("A", "X"): ("lj", (1, 1))}, {}, "ff.toml, line 7: no atom is of type 'X'; types are A, B"),
    ({("A", "A"): ("lj", (1, -1))}, {}, "ff.toml, line 7: .* A-A: sigma of lj is -1"),
    (LIKE | {("A", "A"): ("buckingham", (1, 1, 1))}, {"mixing": "geometric"},
     "ff.toml, line 7: mixing rules are of Lennard-Jones .* list the pair A-B"),
    ({("A", "A"): ("lj", (-1, 1)), ("B", "B"): ("lj", (1, 1))}, {"mixing": "geometric"},
     "epsilon of lj is -1"),
])
def test_refused(potentials, options, message):
    with pytest.raises(FFLUXError, match=message):
        typed_pairs(entries(potentials, **options), ["A", "B"])


def test_types_of_one_element(methyl_model, cluster, periodic, central_differences):
    """Hydrogens of which one has another potential: energy by hand, forces and stress."""
    kinds = ["C", "F", "H1", "H2", "H2"]
    pairs = typed_pairs(entries({
        ("H1", "H2"): ("lj", (0.02, 2.6)), ("F", "H1"): ("buckingham", (300.0, 0.25, 4.0))
    }), kinds)
    forcefield = ForceField([methyl_model], electrostatics=False, short_range=pairs)
    numbers, x = cluster(np.random.default_rng(3), *[methyl_model] * 3, gap=9.0)
    results = forcefield.evaluate(x, numbers)
    found = forcefield.match(x, numbers).atoms_of_model[0]
    c = {key: np.array(values) for key, values in {
        ("H1", "H2"): (0.02, 2.6), ("F", "H1"): (300.0, 0.25, 4.0)
    }.items()}

    def energy(key, r):
        if key == ("H1", "H2"):
            s = (c[key][1] / r) ** 6
            return 4 * c[key][0] * (s * s - s)
        return c[key][0] * np.exp(-r / c[key][1]) - c[key][2] / r**6

    wanted = 0.0
    for m in range(3):
        for n in range(m):
            for i, j in np.ndindex(5, 5):
                key = tuple(sorted((kinds[i], kinds[j])))
                r = BOHR * np.linalg.norm(x[found[m, i]] - x[found[n, j]])
                if key in c and r < 8.0:
                    slope = (energy(key, 8.0 + 1e-4) - energy(key, 8.0 - 1e-4)) / 2e-4
                    wanted += energy(key, r) - energy(key, 8.0) - (r - 8.0) * slope
    assert results.terms["short_range"] * HARTREE == pytest.approx(wanted, rel=1e-6)

    numbers, x, cell = periodic(np.random.default_rng(4), *[methyl_model] * 3)
    pbc = np.ones(3, dtype=bool)
    assignment = forcefield.match(x, numbers, cell, pbc)
    results = forcefield.evaluate(x, numbers, cell, pbc, assignment)
    x = results.positions

    def total(x, cell=cell):
        return forcefield.evaluate(x, numbers, cell, pbc, assignment).energy

    some = found[0][:3]

    def moved(part):
        y = x.copy()
        y[some] = part
        return total(y)

    numerical = central_differences(moved, x[some], step=2e-3)
    np.testing.assert_allclose(results.forces[some], -numerical, rtol=0, atol=1e-8)

    def strained(e):
        f = np.eye(3) + e.reshape(3, 3)
        return total(x @ f.T, cell @ f.T)

    numerical = central_differences(strained, np.zeros(9), step=2e-4).reshape(3, 3)
    scale = np.abs(numerical).max()
    np.testing.assert_allclose(
        results.virial, 0.5 * (numerical + numerical.T), rtol=0, atol=1e-6 * scale
    )
