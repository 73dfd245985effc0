"""Molecules that have several shapes."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule


@pytest.fixture
def ethanol():
    return molecule("CH3CH2OH")


@pytest.fixture
def cyclohexane():
    """A chair."""
    x, numbers = [], []
    for k in range(6):
        up = 0.25 * (-1) ** k
        out = np.array([np.cos(k * np.pi / 3), np.sin(k * np.pi / 3), 0])
        carbon = 1.46 * out + [0, 0, up]
        x += [carbon, carbon + [0, 0, 4.4 * up], carbon + 1.05 * out - [0, 0, 1.2 * up]]
        numbers += [6, 1, 1]
    return Atoms(numbers, x)
