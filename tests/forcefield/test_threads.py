"""One large system on several threads: the same numbers to the last bit, the same errors."""

import numpy as np
import pytest
from ase.build import molecule
from scipy.spatial.transform import Rotation

from ase_fflux import FFLUX
from ase_fflux.base.errors import FFLUXError, GeometryError
from ase_fflux.forcefield import ForceField, load
from ase_fflux.forcefield.force_field import _LARGE
from ase_fflux.forcefield.interactions.neighbours import NeighbourList
from ase_fflux.forcefield.interactions.pairs import ShortRange

EDGE = 6.0
NUMBERS = np.tile([8, 1, 1], 5**3)
CELL, PBC = 5 * EDGE * np.eye(3), np.ones(3, dtype=bool)


@pytest.fixture(scope="module")
def forcefield():
    (model,) = load("water").models
    short_range = ShortRange.from_dict({"O-O": {"lj": [0.0067, 3.166]}}, cutoff=6.0)
    return ForceField([model], rank=2, short_range=short_range)


@pytest.fixture(scope="module")
def system(forcefield):
    rng = np.random.default_rng(0)
    turns = Rotation.random(5**3, random_state=0).as_matrix()
    sites = EDGE * np.array(list(np.ndindex(5, 5, 5)), dtype=float)[:, None]
    shapes = forcefield.models[0].reference_geometry + rng.normal(scale=0.02, size=(125, 3, 3))
    x = (sites + np.einsum("nij,naj->nai", turns, shapes)).reshape(-1, 3)
    explicit = np.arange(len(x)).reshape(-1, 3).tolist()
    return x, forcefield.match(x, NUMBERS, CELL, PBC, explicit=explicit)


@pytest.mark.parametrize("periodic", [True, False])
def test_threads_change_nothing(forcefield, system, periodic):
    x, assignment = system
    assert len(x) >= _LARGE
    place = {"cell": CELL, "pbc": PBC} if periodic else {}
    one, *others = (
        forcefield.evaluate(x, NUMBERS, assignment=assignment, threads=threads, **place)
        for threads in (1, 2, 3)
    )
    assert one.terms["short_range"] and one.terms["electrostatic"]
    for other in others:
        for name in ("energy", "energies", "forces", "virial", "coverage", "moments"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_memory_kept_from_call_to_call_changes_nothing(forcefield, system):
    """Nor does a later call touch results of an earlier one."""
    x, assignment = system
    here = (NUMBERS, CELL, PBC, assignment)
    names = ("energies", "forces", "virial", "moments")
    expected = forcefield.evaluate(x, *here)
    listed = NeighbourList()
    first = forcefield.evaluate(x, *here, neighbours=listed)
    before = {name: getattr(first, name).copy() for name in names}
    forcefield.evaluate(x + 0.01 * np.sin(1.7 * x), *here, neighbours=listed)
    for name in names:
        np.testing.assert_array_equal(getattr(first, name), before[name])
    second = forcefield.evaluate(x, *here, neighbours=listed)
    for name in names:
        np.testing.assert_allclose(
            getattr(second, name), getattr(expected, name), rtol=1e-9, atol=1e-11
        )
        np.testing.assert_array_equal(getattr(second, name), before[name])


def test_errors_name_the_atom(forcefield, system):
    x, assignment = system
    x = x.copy()
    x[3 * 100 + 1] = x[3 * 100]
    for threads in (1, 3):
        with pytest.raises(GeometryError, match=r"O301|301 \(O\)|H302|302 \(H\)"):
            forcefield.evaluate(x, NUMBERS, CELL, PBC, assignment, threads=threads)


def test_threads_of_a_calculator(monkeypatch):
    """They come with any model, and no force field is made again for them."""
    seen = []
    evaluate = ForceField.evaluate

    def watched(self, *given, threads=None, **more):
        seen.append(threads)
        return evaluate(self, *given, threads=threads, **more)

    monkeypatch.setattr(ForceField, "evaluate", watched)
    atoms = molecule("H2O")
    atoms.calc = FFLUX(load("water"), threads=2)
    made = atoms.calc.forcefield
    energy = atoms.get_potential_energy()
    atoms.calc.set(threads=1)
    assert atoms.get_potential_energy() == energy
    assert seen == [2, 1]
    assert atoms.calc.forcefield is made
    with pytest.raises(FFLUXError, match="threads=0: give a whole number from 1 on"):
        atoms.calc.set(threads=0)
