"""Cells that hold no molecules are one line, not a hang or a crash of the list of neighbours."""

import numpy as np
import pytest

from ase_fflux.base.errors import GeometryError
from ase_fflux.topology.lattice import Lattice


@pytest.mark.parametrize("cell, why", [
    (np.eye(3) * 0.02, "thin"),
    (np.diag([17.0, 17.0, 2e-9]), "thin|span"),
    ([[20, 0, 0], [20, 0.1, 0], [0, 0, 20]], "thin"),  # long vectors, little between
    (np.eye(3) * 2e9, "long"),
    (np.diag([np.inf, 9, 9]), "not finite"),
    (np.diag([np.nan, 9, 9]), "not finite"),
    (np.zeros((3, 3)), "span"),
])
def test_absurd_cells_are_refused(cell, why):
    with pytest.raises(GeometryError, match=why):
        Lattice(cell, [True] * 3)


def test_what_is_not_periodic_may_be_anything():
    assert not Lattice(np.diag([np.nan, np.inf, 0]), [False] * 3).pbc.any()
    assert Lattice(np.diag([9.0, 9.0, 0.0]), [True, True, False]).half_height == pytest.approx(4.5)
