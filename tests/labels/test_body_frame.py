"""Axes fixed to a molecule."""

import numpy as np
import pytest
from ase.build import molecule

from ase_fflux.labels.body_frame import BodyFrame


def _frame(atoms):
    return BodyFrame(atoms.numbers, atoms.get_masses(), atoms.positions)


@pytest.mark.parametrize("name", ["CH3CH2OH", "H2O", "CO2", "N2"])
def test_coordinates_do_not_feel_rotation_and_translation(name):
    atoms = molecule(name)
    there = _frame(atoms).into(atoms.positions)
    atoms.rotate(77, (1, 2, 3))
    atoms.translate((3, -1, 2))
    np.testing.assert_allclose(_frame(atoms).into(atoms.positions), there, atol=1e-13)


@pytest.mark.parametrize("name", ["CH3CH2OH", "H2O", "N2"])
def test_gradient_is_that_of_an_energy_calculated_in_the_frame(name):
    atoms = molecule(name)
    atoms.rattle(0.1 if name != "N2" else 0.0, seed=1)
    anisotropic = np.random.default_rng(0).standard_normal((len(atoms), 3, 3))

    def energy(positions):
        y = BodyFrame(atoms.numbers, atoms.get_masses(), positions).into(positions)
        y = y - y.mean(axis=0)
        # a grid that is fixed in the frame makes some directions dearer than others
        return np.einsum("ni,nij,nj->", y, anisotropic, y) + np.sin(y).sum()

    frame = _frame(atoms)
    y = frame.into(atoms.positions)
    y -= y.mean(axis=0)
    local = np.einsum("nij,nj->ni", anisotropic + anisotropic.transpose(0, 2, 1), y) + np.cos(y)
    local -= local.mean(axis=0)
    gradient = frame.gradient(y, local)
    np.testing.assert_allclose(gradient.sum(axis=0), 0, atol=1e-12)
    if name == "N2":
        return
    np.testing.assert_allclose(np.cross(atoms.positions, gradient).sum(axis=0), 0, atol=1e-12)
    step = np.random.default_rng(1).standard_normal(atoms.positions.shape)
    h = 1e-5
    slope = (energy(atoms.positions + h * step) - energy(atoms.positions - h * step)) / (2 * h)
    assert slope == pytest.approx((gradient * step).sum(), rel=1e-7)
