import pickle

import numpy as np
import pytest

from ase_fflux.base.errors import GeometryError, TopologyError
from ase_fflux.topology import match


def test_partly_periodic_and_not_periodic(geometry, model, no_preference):
    numbers, x = geometry("H2O")
    slab = x.copy()
    slab[1, 0] += 20
    found = match([model("H2O")], numbers, slab, np.diag([20.0, 0, 0]), [1, 0, 0], no_preference)
    whole = found.unwrap(slab, np.diag([20.0, 0, 0]), [True, False, False])
    assert np.allclose(whole - whole[0], x - x[0])
    assert found.unwrap(slab) is slab
    assert found.unwrap(slab, np.diag([20.0, 20, 20]), False) is slab
    with pytest.raises(TopologyError, match="no model fits HO"):
        match([model("H2O")], numbers, slab, np.diag([20.0, 20, 0]), [0, 1, 0], no_preference)


def test_cells_too_small_to_tell_images_apart_are_refused(geometry, model, no_preference):
    numbers, x = geometry("H2O")
    found = match([model("H2O")], numbers, x, None, None, no_preference)
    with pytest.raises(GeometryError, match="larger cell"):
        found.unwrap(x, np.eye(3) * 3.0, True)


def test_bonds_that_are_long(geometry, model, no_preference):
    numbers, x = geometry("CH3CH2OH")
    found = match([model("CH3CH2OH")], numbers, x, None, None, no_preference)
    assert found.long_bonds(x, None, None, 1.2) == []
    x[3] = x[2] + (x[3] - x[2]) * 1.5
    (bond,) = found.long_bonds(x, None, None, 1.4)
    assert bond[:2] == (2, 3) and bond[2] == pytest.approx(np.linalg.norm(x[3] - x[2]))
    assert found.long_bonds(x, None, None, 1.6) == []
    assert len(found.long_bonds(x * np.nan, None, None, 1.6)) == 8


def test_assignments_can_be_pickled(geometry, model, no_preference):
    numbers, x = geometry("H2O")
    found = pickle.loads(pickle.dumps(match([model("H2O")], numbers, x, None, None, no_preference)))
    assert found.patterns[0].name == "H2O"
    assert found.atoms_of_model[0].tolist() == [[0, 1, 2]]
