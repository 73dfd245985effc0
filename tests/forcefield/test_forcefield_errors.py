import re
from dataclasses import replace

import numpy as np
import pytest

from ase_fflux.base.errors import FFLUXError, GeometryError, TopologyError
from ase_fflux.forcefield import ForceField, load
from ase_fflux.topology.graphs import atom_label


def without_moments(model):
    return replace(model, processes=model.processes[::2])


def test_molecules_without_charges_do_not_interact_silently(cluster, chiral_model):
    bare = without_moments(chiral_model)
    assert bare.rank == -1
    numbers, x = cluster(np.random.default_rng(0), bare)
    forcefield = ForceField([bare])
    full = ForceField([chiral_model])
    assert forcefield.evaluate(x, numbers).energy == full.evaluate(x, numbers).energy
    with pytest.raises(FFLUXError, match="CHFClBr has no charges or moments"):
        forcefield.evaluate(x, numbers, moments=True)
    numbers, x = cluster(np.random.default_rng(0), bare, bare)
    with pytest.raises(FFLUXError, match="CHFClBr has no charges .* electrostatics=False"):
        forcefield.evaluate(x, numbers)
    assert ForceField([bare], electrostatics=False).evaluate(x, numbers).energy < 0


def test_periodic_electrostatics_is_refused(cluster, chiral_model):
    numbers, x = cluster(np.random.default_rng(0), chiral_model)
    with pytest.raises(FFLUXError, match="periodic .* electrostatics=False"):
        ForceField([chiral_model]).evaluate(x, numbers, 20 * np.eye(3), [False, True, False])
    assert ForceField([chiral_model]).evaluate(x, numbers, 20 * np.eye(3), [False] * 3).energy < 0


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"level": 2, "rank": 1}, "not both"),
        ({"rank": 5}, "rank 5: ranks go from 0 to 4"),
        ({"rank": -1}, "rank -1: ranks go from 0 to 4"),
        ({"level": 0}, "level 0: levels go from 1 to 9"),
        ({"level": 10}, "level 10: levels go from 1 to 9"),
        ({"level": 2.5}, "level 2.5: levels go"),
        ({"rank": 3}, "rank 3 needs .* CFHHH has them up to 2"),
    ],
)
def test_levels_and_ranks_that_there_are_not(chiral_model, methyl_model, choice, message):
    with pytest.raises(FFLUXError, match=message):
        ForceField([chiral_model, methyl_model], **choice)


def test_geometries_without_a_value(cluster, chiral_model, methyl_model):
    forcefield = ForceField([chiral_model, methyl_model])
    numbers, x = cluster(np.random.default_rng(0), chiral_model, methyl_model)
    with pytest.raises(GeometryError, match="no atoms"):
        forcefield.evaluate(np.zeros((0, 3)), np.zeros(0, dtype=int))
    bad = x.copy()
    bad[7, 1] = np.nan
    with pytest.raises(GeometryError, match=r"position of atom \d \(\w+\) is not a number"):
        forcefield.evaluate(bad, numbers)
    bad = x.copy()
    bad[7] = bad[2]
    with pytest.raises(GeometryError, match=r"atom \d .* and atom \d .* are on one spot"):
        forcefield.evaluate(bad, numbers)
    assignment = forcefield.match(x, numbers)
    same = np.flatnonzero(assignment.molecule == assignment.molecule[0])
    bad = x.copy()
    bad[same[1]] = bad[same[0]]
    with pytest.raises(GeometryError, match="spot"):
        forcefield.evaluate(bad, numbers, assignment=assignment)
    other = np.flatnonzero(assignment.molecule != assignment.molecule[0])
    bad = x.copy()
    bad[other[0]] = bad[0]
    with pytest.raises(GeometryError, match=r"atom \d .* and atom \d .* of different molecules"):
        forcefield.evaluate(bad, numbers, assignment=assignment)


def test_a_linear_frame_is_refused_by_the_atom_of_the_input(published_water):
    """Whatever the order of the input, the atom named is one whose frame is linear."""
    water = np.array([[0, 0, 0], [1.8, 0, 0], [-0.5, 1.7, 0]])
    linear = np.array([[10.0, 0, 0], [11.8, 0, 0], [8.2, 0, 0]])
    x, numbers = np.concatenate([water, linear]), np.array([8, 1, 1] * 2)
    forcefield = ForceField([published_water])
    label = re.escape(atom_label(3, numbers))
    with pytest.raises(GeometryError, match=f"local frame of {label} is linear"):
        forcefield.evaluate(x, numbers)
    order = [4, 0, 1, 5, 3, 2]
    label = re.escape(atom_label(4, numbers[order]))
    with pytest.raises(GeometryError, match=f"local frame of {label} is linear"):
        forcefield.evaluate(x[order], numbers[order])


def test_a_molecule_that_no_model_fits(cluster, chiral_model, methyl_model):
    numbers, x = cluster(np.random.default_rng(0), chiral_model, methyl_model)
    with pytest.raises(TopologyError, match="no model fits CH3F"):
        ForceField([chiral_model]).evaluate(x, numbers)


def test_a_force_field_needs_models():
    with pytest.raises(FFLUXError, match="at least one model"):
        ForceField([])
    with pytest.raises(FFLUXError, match="no model 'unobtainium'"):
        load("unobtainium")
