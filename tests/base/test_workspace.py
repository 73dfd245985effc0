"""Memory that is used again."""

import numpy as np

from ase_fflux.base.workspace import Workspace


def test_memory_is_used_again():
    room = Workspace()
    first = room.array("mesh", (3, 4))
    first[:] = 1.0
    other = room.array("field", 12)
    again = room.zeros("mesh", (2, 5))
    assert np.shares_memory(first, again) and not np.shares_memory(first, other)
    assert again.shape == (2, 5) and not again.any()
    larger = room.array("mesh", (5, 5), complex)
    assert larger.dtype == complex and not np.shares_memory(first, larger)
