from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.io import read

from ase_fflux.base.errors import FFLUXWarning, LabelError
from ase_fflux.base.units import BOHR, FORCE
from ase_fflux.labels.conformers import distinct, minima, mirror_image
from ase_fflux.labels.sampling import normal_mode_displacements
from ase_fflux.labels.tblite_source import GFN2
from ase_fflux.model.symmetry import Symmetry, find_symmetry
from ase_fflux.topology import superposition

INPUTS = Path(__file__).resolve().parents[2] / "models" / "inputs"


@pytest.fixture(scope="module")
def source():
    pytest.importorskip("tblite.interface", exc_type=ImportError)
    return GFN2()


@pytest.fixture(scope="module")
def trans():
    return read(INPUTS / "ethanol.xyz", 0)


@pytest.fixture(scope="module")
def gauche():
    return read(INPUTS / "ethanol.xyz", 1)


@pytest.fixture
def halomethane():
    """CHFClBr."""
    corners = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) / np.sqrt(3)
    lengths = np.array([1.09, 1.36, 1.77, 1.93])
    return Atoms("CHFClBr", np.vstack([np.zeros(3), corners * lengths[:, None]]))


def handedness(atoms):
    """Signs of the volumes of methyl (C0) and methylene (C1) hydrogens of ethanol."""
    x = atoms.positions
    methyl = np.linalg.det(x[[3, 4, 5]] - x[0])
    methylene = np.linalg.det(x[[2, 6, 7]] - x[1])
    return np.sign([methyl, methylene]).tolist()


def torsion(atoms):
    """H-O-C-C in degrees, -180 to 180."""
    return (atoms.get_dihedral(8, 2, 1, 0) + 180) % 360 - 180


def atoms_of(found):
    return [minimum.atoms for minimum in found]


def test_gauche_ethanol_gets_its_mirror_image(source, gauche):
    minimum, image = minima([gauche], source)
    found = atoms_of([minimum, image])
    assert np.allclose(image.hessian, source.hessian(image.atoms), atol=1e-6)
    original, image = found
    assert abs(torsion(original)) == pytest.approx(60, abs=5)
    assert torsion(image) == pytest.approx(-torsion(original), abs=0.01)
    assert handedness(image) == handedness(original) == handedness(gauche)
    # the same molecule seen in a mirror: same distances, with the hydrogens of each group exchanged
    energies = [source.label(atoms).energy for atoms in found]
    assert energies[0] == pytest.approx(energies[1], abs=1e-10)
    distances = [np.sort(atoms.get_all_distances(), axis=None) for atoms in found]
    assert np.allclose(*distances, atol=1e-8)
    assert superposition(original.positions, image.positions) > 0.1


@pytest.mark.parametrize("name", ["water", "benzene", "formic_acid_dimer"])
def test_molecules_that_are_their_own_mirror_image(source, name):
    atoms = read(INPUTS / f"{name}.xyz")
    assert superposition(mirror_image(atoms).positions, atoms.positions) < 1e-3
    assert len(minima([atoms], source)) == 1


def test_all_conformers_once(source, trans, gauche):
    turned = gauche.copy()
    turned.rotate(100, (3, 2, 1))
    found = atoms_of(minima([trans, gauche, mirror_image(gauche), turned], source))
    first, *others = [round(torsion(atoms) / 60) for atoms in found]
    assert abs(first) == 3 and sorted(others) == [-1, 1]


def test_minima_of_the_source(source):
    atoms = molecule("H2O")
    atoms.positions[1] += [0.05, 0.1, -0.03]
    atoms.set_cell([9, 9, 9])
    (found,) = atoms_of(minima([atoms], source))
    # converged to 1e-5 eV/A, so that curvatures at a minimum are those of a minimum
    assert np.linalg.norm(source.label(found).gradient, axis=1).max() * FORCE < 1.1e-5
    assert np.allclose(found.get_center_of_mass(), 0, atol=1e-12)
    assert found.calc is None and not found.cell.any()


def test_stereocentre_has_no_mirror_image(source, halomethane):
    assert mirror_image(halomethane) is None
    (found,) = atoms_of(minima([halomethane], source))
    x = halomethane.positions
    volumes = [np.linalg.det(y[1:4] - y[4]) for y in (x, found.positions)]
    assert volumes[0] * volumes[1] > 0


def test_mirror_image_of_trans_ethanol_is_itself(trans):
    assert superposition(mirror_image(trans).positions, trans.positions) < 1e-3


def test_other_atoms_are_refused(source, trans, gauche):
    exchanged = gauche[[1, 2, 0, 3, 4, 5, 6, 7, 8]]
    with pytest.raises(LabelError, match="conformer 2 has other atoms, or in another order"):
        minima([trans, exchanged], source)


def test_unconverged_optimisation_is_refused(source, gauche):
    distorted = gauche.copy()
    distorted.rattle(0.1, seed=1)
    with pytest.raises(LabelError, match="conformer 2 of 2 with .* did not converge in 3 steps"):
        minima([gauche, distorted], source, steps=3)


def test_saddle_points_are_left_both_ways(source):
    """Planar ammonia: both sides are one minimum, its own mirror image but for the labels."""
    flat = Atoms("NH3", [[0, 0, 0], [1.0, 0, 0], [-0.5, 3**0.5 / 2, 0], [-0.5, -(3**0.5) / 2, 0]])
    with pytest.warns(FFLUXWarning, match="the start comes to a saddle point .* followed both"):
        found = minima([flat], source)
    assert len(found) == 1
    for minimum in found:
        volume = np.linalg.det(minimum.atoms.positions[1:] - minimum.atoms.positions[0])
        assert abs(volume) > 0.3
        normal_mode_displacements(minimum.atoms, minimum.hessian, 300.0, 1, seed=0)


def test_symmetric_start_of_ethanol(source, trans):
    """H-O-C-C of 0 degrees is a saddle point between the two gauche conformers."""
    start = trans.copy()
    start.set_dihedral(8, 2, 1, 0, 0.0, indices=[8])
    with pytest.warns(FFLUXWarning, match="conformer 2 of 2 comes to a saddle point"):
        found = atoms_of(minima([trans, start], source))
    assert sorted(round(torsion(atoms) / 60) % 6 for atoms in found) == [1, 3, 5]


def test_optimisation_starts_from_the_stiffness_of_a_cheaper_engine(source, gauche):
    """With the engine's second derivatives a dear source is asked far less often."""

    class Dear:
        method, hessian = "dear", source.hessian

        def __init__(self, engine):
            self.engine, self.asked = engine or self, 0

        def calculator(self):
            calculator = source.calculator()
            plain = calculator.calculate

            def counted(*args, **kwargs):
                self.asked += 1
                plain(*args, **kwargs)

            calculator.calculate = counted
            return calculator

    start = gauche.copy()
    start.rattle(0.05, seed=1)
    alone, helped = Dear(None), Dear(source)
    found = [minima([start], dear, fmax=1e-4)[0].atoms.positions for dear in (alone, helped)]
    assert superposition(*found) < 1e-3
    assert helped.asked < 0.6 * alone.asked


def test_minima_that_symmetry_takes_into_each_other_are_one(trans, gauche):
    """Ethanol turned, mirrored, and with hydrogens of its methyl group exchanged."""
    turned = gauche.copy()
    turned.rotate(50, (1, 2, 3))
    found = find_symmetry(trans.numbers, trans.positions / BOHR)
    exchanged = next(p for p, m in zip(found.permutations[1:], found.mirrored[1:], strict=True)
                     if not m)
    turned.positions = turned.positions[exchanged]
    all_minima = [trans, gauche, mirror_image(gauche), turned]
    assert distinct(all_minima, found) == [0, 1]
    assert distinct(all_minima, Symmetry.none(9)) == [0, 1, 2, 3]
