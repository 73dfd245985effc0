import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from scipy.spatial.transform import Rotation

from ase_fflux import FFLUX

WATER_PAIRS = {"O-O": {"lj": [0.0079, 3.17]}, "O-H": {"lj": [0.0011, 1.902]}}


@pytest.fixture
def water_box():
    """Eight water molecules, turned at random, in a triclinic cell of 1 g/cm^3, some across it."""
    rng = np.random.default_rng(4)
    cell = np.array([[6.3, 0, 0], [0.5, 6.2, 0], [-0.4, 0.3, 6.2]])
    shape = molecule("H2O").positions
    grid = np.stack(np.meshgrid(*[[0.0, 0.5]] * 3), axis=-1).reshape(-1, 3)
    places = (grid + 0.02 * rng.uniform(-1, 1, grid.shape)) @ cell
    turns = Rotation.random(len(grid), rng=rng)
    positions = [place + t.apply(shape) for place, t in zip(places, turns, strict=True)]
    box = Atoms("OH2" * 8, np.concatenate(positions), cell=cell, pbc=True)
    box.wrap()
    box.calc = FFLUX(
        "water", short_range=WATER_PAIRS, short_range_cutoff=6.0, on_low_coverage="ignore",
        assignment=np.arange(24).reshape(8, 3).tolist(),
    )
    return box
