"""A small calculation for all tests of partitions."""

import numpy as np
import pytest
from ase import Atoms


@pytest.fixture(scope="session")
def bent_water():
    """Water off its minimum."""
    positions = [[0.1, 0.0, 0.06], [0.02, 0.80, -0.5], [-0.05, -0.74, -0.51]]
    return Atoms("OH2", np.array(positions))


@pytest.fixture(scope="session")
def water_run(bent_water):
    """A converged B3LYP/6-31G(d,p) calculation and its source."""
    pytest.importorskip("pyscf", reason="ab initio labels need PySCF")
    from ase_fflux.labels.pyscf_source import TIGHT, PySCF

    source = PySCF(basis="6-31G(d,p)")
    return source, source._run(bent_water, TIGHT)
