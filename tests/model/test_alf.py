import numpy as np
import pytest
from ase.build import molecule
from ase.collections import g2
from scipy.spatial.transform import Rotation

from ase_fflux.base.errors import GeometryError, ModelError
from ase_fflux.base.units import BOHR
from ase_fflux.model.alf import check_alf, choose_alf
from ase_fflux.model.symmetry import find_symmetry


def frames(atoms):
    return choose_alf(atoms.get_chemical_symbols(), atoms.positions / BOHR).tolist()


def sines(alf, positions):
    a, x, xy = positions[np.asarray(alf).T]
    u, v = x - a, xy - a
    cross = np.linalg.norm(np.cross(u, v), axis=1)
    return cross / np.linalg.norm(u, axis=1) / np.linalg.norm(v, axis=1)


def angles_from_z(alf, x):
    """Degrees, of all atoms but those of the frame."""
    found = []
    for a, i, j in alf:
        z = np.cross(x[i] - x[a], x[j] - x[a])
        for n in set(range(len(x))) - {a, i, j}:
            d = x[n] - x[a]
            cosine = abs(z @ d) / np.linalg.norm(z) / np.linalg.norm(d)
            found.append(np.degrees(np.arccos(min(cosine, 1.0))))
    return np.array(found)


def test_water_has_the_frames_of_the_published_models():
    assert frames(molecule("H2O")) == [[0, 1, 2], [1, 0, 2], [2, 0, 1]]


def test_ethanol_frames_follow_mass_then_the_next_sphere():
    atoms = molecule("CH3CH2OH")  # CH3 0 (H 6, 7, 8), CH2 1 (H 4, 5), O 2 (H 3)
    assert frames(atoms) == [
        [0, 1, 6],
        [1, 2, 0],
        [2, 1, 3],
        [3, 2, 1],
        [4, 1, 2],
        [5, 1, 2],
        [6, 0, 1],
        [7, 0, 1],
        [8, 0, 1],
    ]


def test_a_tie_in_mass_is_decided_by_the_neighbours():
    # Propane with fluorine on one of its ends.
    positions = [[0, 0, 0], [1.25, 0.85, 0], [-1.25, 0.85, 0], [0, -0.6, 0.9], [0, -0.6, -0.9]]
    positions += [[-1.25, 1.5, 0.9], [-1.25, 1.5, -0.9], [-2.1, 0.2, 0]]
    positions += [[1.25, 1.7, 1.0], [1.25, 1.7, -1.0], [2.3, 0.0, 0.0]]
    symbols = ["C", "C", "C", "H", "H"]
    light_first = choose_alf(symbols + ["F"] * 3 + ["H"] * 3, np.array(positions) / BOHR)
    heavy_first = choose_alf(symbols + ["H"] * 3 + ["F"] * 3, np.array(positions) / BOHR)
    assert light_first[0].tolist() == [0, 2, 1]
    assert heavy_first[0].tolist() == [0, 1, 2]


def test_frames_of_atoms_in_line_take_the_next_candidate():
    atoms = molecule("CH3CN")
    alf = frames(atoms)
    nitrogen = int(np.flatnonzero(atoms.numbers == 7)[0])
    nitrile = int(np.argsort(atoms.get_distances(range(len(atoms)), nitrogen))[1])
    assert alf[nitrile][1] == nitrogen
    assert atoms.numbers[alf[nitrile][2]] == 1, "the methyl carbon is in line with C and N"
    assert alf[nitrogen][1] == nitrile
    assert atoms.numbers[alf[nitrogen][2]] == 1


def test_every_neutral_of_g2_has_frames_of_its_own_atoms_out_of_line():
    checked = 0
    for name in g2.names:
        atoms = molecule(name)
        positions = atoms.positions / BOHR
        linear = np.linalg.matrix_rank(positions - positions[0], tol=1e-3) < 2
        if len(atoms) < 3 or linear:
            continue
        alf = choose_alf(atoms.get_chemical_symbols(), positions)
        check_alf(alf, len(atoms))
        assert sines(alf, positions).min() > np.sin(np.radians(5)), name
        checked += 1
    assert checked > 100


def test_frames_do_not_depend_on_place_or_orientation():
    for name in ("CH3CH2OH", "C6H6", "isobutane", "CH3CONH2"):
        atoms = molecule(name)
        turned = Rotation.random(rng=np.random.default_rng(7)).apply(atoms.positions) + [3, -8, 1]
        there = choose_alf(atoms.numbers, turned / BOHR)
        assert there.tolist() == frames(atoms)


def test_atoms_of_other_fragments_complete_frames_nearest_first():
    positions = np.array([[0, 0, 0], [3.3, 0, 0], [3.9, 0.76, 0], [3.9, -0.70, 0]]) / BOHR
    alf = choose_alf(["Ar", "O", "H", "H"], positions)
    assert alf[0].tolist() == [0, 1, 3]
    assert alf[1:].tolist() == [[1, 2, 3], [2, 1, 3], [3, 1, 2]]


def operations(atoms):
    return find_symmetry(atoms.numbers, atoms.positions / BOHR).permutations


@pytest.mark.filterwarnings("ignore::ase_fflux.base.errors.SymmetryWarning")
@pytest.mark.parametrize(
    "name", ["H2O", "CH3CH2OH", "CH3Cl", "C6H6", "CH3CONH2", "H2CO", "isobutane"]
)
def test_frames_are_kept_by_as_many_relabellings_as_can_be(name):
    """Of all frames that are defined, and stay so in vibrations, the first by the rule."""
    atoms = molecule(name)
    numbers, x, permutations = atoms.numbers, atoms.positions / BOHR, operations(atoms)

    def kept(frames):
        return (permutations[:, frames] == np.array(frames)).all(axis=-1).sum(axis=0)

    alf = choose_alf(numbers, x, permutations)
    check_alf(alf, len(atoms))
    assert sines(alf, x).min() > np.sin(np.radians(5))
    plain = choose_alf(numbers, x)
    for a, frame in enumerate(alf):
        others = [b for b in range(len(atoms)) if b != a]
        frames = np.array([(a, b, c) for b in others for c in others if b != c])
        frames = frames[sines(frames, x) > np.sin(np.radians(5))]
        frames = frames[[angles_from_z([frame], x).min(initial=90) > 15 for frame in frames]]
        most = kept(frames).max()
        assert kept(frame[None])[0] == most
        if kept(plain[a][None])[0] == most:
            assert frame.tolist() == plain[a].tolist()


def test_identity_alone_leaves_the_rule_as_it_is():
    atoms = molecule("CH3CH2OH")
    x = atoms.positions / BOHR
    assert choose_alf(atoms.numbers, x, np.arange(9)[None]).tolist() == frames(atoms)


def test_methyl_hydrogens_do_not_define_the_frame_of_their_carbon():
    """Its frame is kept by all relabellings, as oxygen and the other carbon are their own."""
    atoms = molecule("CH3CH2OH")
    assert frames(atoms)[0] == [0, 1, 6]
    assert choose_alf(atoms.numbers, atoms.positions / BOHR, operations(atoms))[0].tolist() == [
        0, 1, 2
    ]


def test_a_hydrogen_bond_in_line_is_no_frame():
    # Hydrogen fluoride dimer with a linear F-H...F: the acceptor's hydrogen makes the frame.
    positions = np.array([[0, 0, 0], [0.93, 0, 0], [2.8, 0, 0], [3.1, 0.85, 0]]) / BOHR
    alf = choose_alf(["F", "H", "F", "H"], positions)
    assert alf[:2].tolist() == [[0, 1, 3], [1, 0, 3]]
    assert sines(alf, positions).min() > np.sin(np.radians(5))


def test_diatomics_have_no_xy_atom():
    alf = choose_alf(["H", "Cl"], np.array([[0, 0, 0], [0, 0, 2.4]]))
    assert alf.tolist() == [[0, 1, -1], [1, 0, -1]]
    check_alf(alf, 2)


def test_what_has_no_frame_is_refused():
    with pytest.raises(GeometryError, match="single atom"):
        choose_alf(["He"], np.zeros((1, 3)))
    carbon_dioxide = molecule("CO2")
    with pytest.raises(GeometryError, match=r"atom 1 \(C\) .* in line"):
        frames(carbon_dioxide)
    with pytest.raises(GeometryError, match="one spot"):
        choose_alf("H2O", np.zeros((3, 3)))


def test_centres_of_octahedra_are_refused():
    """The normal of every plane of two neighbours points at a third."""
    octahedron = np.vstack([np.zeros(3), np.eye(3), -np.eye(3)]) * 1.56 / BOHR
    with pytest.raises(GeometryError, match=r"atom 1 \(S\) has no local frame: .* z-axis"):
        choose_alf(["S"] + ["F"] * 6, octahedron)
    # four neighbours in a plane have no atom there
    square = 1.25 * octahedron[[0, 1, 2, 4, 5]]
    assert angles_from_z(choose_alf(["Xe"] + ["F"] * 4, square), square).min() > 15


def test_frames_keep_other_atoms_off_their_z_axis():
    """Axial fluorine of PF5: on the normal of the equatorial plane, where the rule looks first."""
    turn = np.arange(3) * 2 * np.pi / 3
    ring = np.column_stack([np.cos(turn), np.sin(turn), 0 * turn]) * 1.53
    x = np.vstack([np.zeros(3), ring, [0, 0, 1.58], [0, 0, -1.58]]) / BOHR
    alf = choose_alf(["P"] + ["F"] * 5, x)
    assert angles_from_z(alf, x).min() > 15
    assert alf[0].tolist() == [0, 1, 4]
    butane = molecule("isobutane")
    assert angles_from_z(frames(butane), butane.positions).min() > 15


@pytest.mark.parametrize(
    ("alf", "n_atoms", "message"),
    [
        ([[0, 1, 2]], 3, r"shape \(3, 3\)"),
        ([[0.0, 1, 2], [1, 0, 2], [2, 0, 1]], 3, "integers"),
        ([[0, 1, 2], [2, 0, 1], [1, 0, 2]], 3, "atom 2 is centred on atom 3"),
        ([[0, 1, 3], [1, 0, 2], [2, 0, 1]], 3, "atom 1 names atom 4"),
        ([[0, 1, 2], [1, 0, -1], [2, 0, 1]], 3, "atom 2 names atom 0"),
        ([[0, 1, 2], [1, 0, 2], [2, 0, 0]], 3, "atom 3 names one atom twice"),
        ([[0, 1, 1], [1, 0, -1]], 2, "atom 1 names an xy atom"),
        ([[0, 0, -1], [1, 0, -1]], 2, "atom 1 names one atom twice"),
        ([[0, 0, 0]], 1, "at least two"),
    ],
)
def test_frames_that_are_none_are_refused(alf, n_atoms, message):
    with pytest.raises(ModelError, match=message):
        check_alf(alf, n_atoms)
