import numpy as np
import pytest
from ase.build import molecule
from ase.data import vdw_radii

from ase_fflux import FFLUX
from ase_fflux.base.errors import FFLUXError
from ase_fflux.simulate.packing import DISTANCE, Species, cubic_cell, density_of, pack

MIXTURE = [Species(molecule("H2O"), 40), Species(molecule("CH3CH2OH"), 8)]


def nearest(box, sizes):
    """Smallest distance of atoms of different molecules by the sum of their radii, by images."""
    owner = np.repeat(np.arange(len(sizes)), sizes)
    distance = np.full((len(box), len(box)), np.inf)
    for image in np.indices((3, 3, 3)).reshape(3, -1).T - 1:
        moved = box.positions + image @ box.cell.array
        here = np.linalg.norm(moved[None] - box.positions[:, None], axis=2)
        if not image.any():
            here[owner[:, None] == owner] = np.inf
        distance = np.minimum(distance, here)
    radii = vdw_radii[box.numbers]
    return (distance / (radii[:, None] + radii)).min()


@pytest.mark.parametrize("seed", [1, 2])
def test_molecules_of_a_mixture_are_apart(seed):
    cell = np.array([[13.0, 0, 0], [2.0, 12.0, 0], [-1.0, 2.0, 14.0]])
    box = pack(MIXTURE, cell, seed)
    assert str(box.symbols) == "OH2" * 40 + str(molecule("CH3CH2OH").symbols) * 8
    assert (box.cell.array == cell).all() and box.pbc.all()
    sizes = [3] * 40 + [9] * 8
    assert nearest(box, sizes) >= DISTANCE - 1e-9
    start = 0
    for size, shape in zip(sizes, [MIXTURE[0].atoms] * 40 + [MIXTURE[1].atoms] * 8, strict=True):
        one = box[start: start + size]
        one.pbc = False
        assert one.get_all_distances() == pytest.approx(shape.get_all_distances(), abs=1e-9)
        scaled = box.cell.scaled_positions(one.get_center_of_mass())
        assert ((scaled >= -1e-9) & (scaled < 1 + 1e-9)).all()
        start += size


def test_turns_are_random_and_handedness_stays():
    chiral = molecule("CH3CH2OH")
    box = pack([Species(chiral, 30)], cubic_cell([Species(chiral, 30)], 0.6))

    def volume(x):
        return np.linalg.det(x[1:4] - x[0])

    shapes = box.positions.reshape(30, 9, 3)
    expected = volume(chiral.positions)
    assert [volume(x) for x in shapes] == pytest.approx([expected] * 30)
    axes = shapes[:, 1] - shapes[:, 0]
    axes /= np.linalg.norm(axes, axis=1)[:, None]
    assert np.linalg.norm(axes.mean(axis=0)) < 0.4


def test_the_same_seed_gives_the_same_box():
    cell = cubic_cell(MIXTURE, 0.9)
    one, same, other = (pack(MIXTURE, cell, seed) for seed in (3, 3, 4))
    assert (one.positions == same.positions).all()
    assert np.abs(one.positions - other.positions).max() > 1


def test_density():
    water = [Species(molecule("H2O"), 343)]
    cell = cubic_cell(water, 0.997)
    assert cell == pytest.approx(21.75 * np.eye(3), abs=0.01)
    assert density_of(water, cell) == pytest.approx(0.997)


def test_a_model_takes_the_box(recwarn):
    water = [Species(molecule("H2O"), 64)]
    box = pack(water, cubic_cell(water, 0.997))
    assert nearest(box, [3] * 64) >= DISTANCE - 1e-9
    pairs = {"O-O": {"lj": [0.0079, 3.17]}, "O-H": {"lj": [0.0011, 1.902]}}
    box.calc = FFLUX("water", short_range=pairs, short_range_cutoff=6.0)
    assert np.abs(box.get_forces()).max() < 15
    # ASE uses what NumPy 2.5 calls deprecated
    assert not [w for w in recwarn if w.category is not DeprecationWarning]


def test_what_does_not_fit_is_told(monkeypatch):
    monkeypatch.setattr("ase_fflux.simulate.packing._STEPS", 50)
    water = [Species(molecule("H2O"), 20)]
    with pytest.raises(FFLUXError, match="lower the density"):
        pack(water, cubic_cell(water, 4.0))
