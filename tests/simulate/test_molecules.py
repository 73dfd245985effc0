import numpy as np
import pytest
from ase.build import molecule

from ase_fflux import FFLUX
from ase_fflux.base.errors import GeometryError, TopologyError
from ase_fflux.simulate.molecules import prepare


def test_molecules_become_whole_in_the_cell(water_box):
    energy, forces = water_box.get_potential_energy(), water_box.get_forces()
    before = water_box.positions.copy()
    assert np.ptp(before.reshape(8, 3, 3), axis=1).max() > 3
    prepare(water_box)
    moved = np.linalg.solve(water_box.cell.array.T, (water_box.positions - before).T)
    assert moved == pytest.approx(moved.round(), abs=1e-12) and np.abs(moved).max() > 0.5
    whole = water_box.positions.reshape(8, 3, 3)
    assert np.ptp(whole, axis=1).max() < 1.7
    centres = np.einsum("a,mai->mi", [15.999, 1.008, 1.008], whole) / 18.015
    scaled = water_box.cell.scaled_positions(centres)
    assert ((scaled >= 0) & (scaled < 1)).all()
    assert water_box.get_potential_energy() == pytest.approx(energy, abs=1e-7)
    assert water_box.get_forces() == pytest.approx(forces, abs=1e-6)


def test_overlapping_molecules_are_refused(water_box):
    water_box.positions[3:6] += water_box.positions[0] + [0, 1.25, 0] - water_box.positions[3]
    with pytest.raises(GeometryError, match=r"atom \d+ .* and atom \d+ .*overlap"):
        prepare(water_box)


def test_molecules_that_overlap_across_the_cell_are_refused(water_box):
    """As above, with one of them moved by a cell."""
    shift = water_box.positions[0] + [0, 1.25, 0] - water_box.positions[3]
    water_box.positions[3:6] += shift + water_box.cell.array[1]
    with pytest.raises(GeometryError, match="overlap"):
        prepare(water_box)


def test_half_molecules_are_refused(water_box):
    del water_box[5]
    with pytest.raises(TopologyError):
        prepare(water_box)


def test_clusters_stay_where_they_are():
    water = molecule("H2O", calculator=FFLUX("water"), cell=[3, 3, 3])
    before = water.positions.copy()
    prepare(water)
    assert (water.positions == before).all()
