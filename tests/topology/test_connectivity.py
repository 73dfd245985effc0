"""Cyclic formic acid dimer: C O= O-H H(C), twice."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from ase_fflux.base.units import BOHR
from ase_fflux.topology import Connectivity


@pytest.fixture
def dimer(formic_acid_dimer):
    """Numbers and positions (bohr): O 0, C 1, O 2, H 3 towards O 5, H 4 on C, and the same again.
    """
    return formic_acid_dimer()


def test_minimum_and_rigid_motion(dimer):
    numbers, x = dimer
    turned = Rotation.from_rotvec([1, 2, 3]).apply(x) + 4.0
    assert Connectivity(numbers, x).change(turned) == ""


@pytest.mark.parametrize(("share", "words"), [
    (0.5, ""), (0.95, "atom 3 (O) separated from atom 4 (H)")
])
def test_proton_belongs_to_its_first_owner_until_it_has_gone(dimer, share, words):
    numbers, x = dimer
    connectivity = Connectivity(numbers, x)
    to_other = x[5] - x[2]
    length = np.linalg.norm(to_other) * BOHR
    distance = 1.0 + share * (length - 2.0)
    x[3] = x[2] + to_other * distance / length
    change = connectivity.change(x)
    assert change.startswith(words) and bool(change) == bool(words)


def test_opened_hydrogen_bond(dimer):
    numbers, x = dimer
    connectivity = Connectivity(numbers, x)
    away = x[6] - x[1]
    x[5:] += 1.2 / BOHR * away / np.linalg.norm(away)
    assert "separated from" in connectivity.change(x)


def test_new_bond(dimer):
    numbers, x = dimer
    connectivity = Connectivity(numbers, x)
    x[4] = x[0] + [0.0, 0.0, 0.95 / BOHR]
    assert connectivity.change(x).startswith("atom 1 (O) bonded to atom 5 (H) (0.95 Angstrom)")


def test_not_a_number(dimer):
    numbers, x = dimer
    connectivity = Connectivity(numbers, x)
    x[0] = np.nan
    assert connectivity.change(x)


def test_equivalent_hydrogens_take_turns_in_a_hydrogen_bond():
    numbers = np.array([8, 1, 1, 8, 1, 1])
    x = np.array([
        [0.0, 0.0, 0.0], [0.96, 0.0, 0.0], [-0.24, 0.93, 0.0],
        [2.9, 0.0, 0.0], [3.2, 0.5, 0.76], [3.2, 0.5, -0.76],
    ]) / BOHR
    connectivity = Connectivity(numbers, x)
    turned = x[[0, 2, 1, 3, 4, 5]]
    away = x + np.outer([0, 0, 0, 1, 1, 1], [1.6, 0.0, 0.0]) / BOHR
    assert connectivity.change(turned) == ""
    assert "separated from" in connectivity.change(away)
