"""AIMAll's files: the numbers that stand there, and refusals that name the file."""

import shutil

import numpy as np
import pytest

from ase_fflux.base.errors import LabelError
from ase_fflux.labels.importers.aimall import read_aimall
from ase_fflux.model.multipoles import MOMENT_NAMES

POSITIONS = np.array([[0.0, 0.0, 0.2], [0.1, 1.5, -0.9], [0.0, -1.4, -1.0]])
ENERGIES = [-75.4, -0.5, -0.52]
TOTAL = sum(ENERGIES) + 2e-5


def _int(atom, energy, moments):
    lines = [" AIMInt (Version 19.10.12, Professional)", f" Integration is over atom {atom}",
             "          L = -2.8725236559E-05",
             " Real Spherical Harmonic Moments Q[l,|m|,?] of the Electronic Charge Density"]
    for name, value in zip(MOMENT_NAMES, moments, strict=True):
        part = f",{name[3]}" if len(name) > 3 else ""
        lines.append(f" Q[{name[1]},{name[2]}{part}]         = {value:18.10E}")
    lines += [" Q[5,0]         =   -2.4411738335E-01",
              f"E_IQA(A)                          = {energy:.10E}",
              "E_IQA_Intra(A)                    = -7.4983977028E+01", " AIMInt is Done."]
    return "\n".join(lines) + "\n"


def _wfn(positions, energy=TOTAL):
    lines = [" WATER", "GAUSSIAN              5 MOL ORBITALS     46 PRIMITIVES        3 NUCLEI"
             "   B3LYP"]
    for k, (symbol, x) in enumerate(zip("OHH", positions, strict=True), 1):
        place = "".join(f"{value:12.8f}" for value in x)
        lines.append(f"{symbol:<2s}{k:5d}    (CENTRE{k:3d}) {place}  CHARGE = 1.0")
    return "\n".join([*lines, "END DATA",
                      f" TOTAL ENERGY =  {energy:20.12f} THE VIRIAL(-V/T)=   2.01177209"]) + "\n"


@pytest.fixture
def point(tmp_path):
    """A point directory of water."""
    folder = tmp_path / "set" / "W0001.pointdir"
    atoms = folder / "W0001_atomicfiles"
    atoms.mkdir(parents=True)
    rng = np.random.default_rng(0)
    moments = rng.standard_normal((3, 25)) / 10
    moments[:, 0] = [-9.0, -0.5, -0.5]
    for k, name in enumerate(("o1", "h2", "h3")):
        (atoms / f"{name}.int").write_text(_int(name.capitalize(), ENERGIES[k], moments[k]))
    (folder / "W0001.wfn").write_text(_wfn(POSITIONS))
    return folder


def test_point_directory_and_folder_of_them(point):
    other = point.with_name("W0002.pointdir")
    shutil.copytree(point, other)
    one, two = read_aimall(point), read_aimall(point.parent)
    assert (len(one), len(two)) == (1, 2)
    assert one.symbols == ("O", "H", "H") and one.partition == "qtaim" and one.rank == 4
    np.testing.assert_allclose(one.geometries[0], POSITIONS, atol=1e-8)
    np.testing.assert_array_equal(one.atomic_energies[0], ENERGIES)
    assert one.energies[0] == pytest.approx(TOTAL, abs=1e-12)
    np.testing.assert_allclose(one.moments[0, :, 0], [-1.0, 0.5, 0.5], atol=1e-12)
    np.testing.assert_allclose(one.errors, 2.8725236559e-05)
    assert one.versions == {"AIMAll": "19.10.12"} and one.method == "B3LYP"
    assert list(two.origins) == ["W0001.pointdir", "W0002.pointdir"]


def test_published_water_reads_exactly(reference):
    found = read_aimall(reference / "aimall")
    np.testing.assert_array_equal(
        found.atomic_energies[0], [-7.5446714709e01, -4.8880091691e-01, -4.8619221042e-01]
    )
    assert found.moments[0, 0, 0] == -9.0519211990 + 8
    names = {"q20": -3.7266216811e-02, "q21c": -7.9780613831e-01, "q33s": 1.6211677693e-01,
             "q44c": -1.3853362266}
    for name, value in names.items():
        assert found.moments[0, 0, MOMENT_NAMES.index(name)] == value
    assert found.method == "B3LYP/6-31+G(d,p)"
    assert found.gradients[0, 0, 0] == -0.029533145


def test_moments_turn_into_local_frames_to_rank_4(reference):
    """The local moments of the published water are those of its mirror image and of any turn."""
    from scipy.spatial.transform import Rotation

    from ase_fflux.model.frames import features_and_frames
    from ase_fflux.model.multipoles import rotation_matrices, to_global, to_local

    found = read_aimall(reference / "aimall")
    alf = np.array([[0, 1, 2], [1, 0, 2], [2, 0, 1]])

    def local(geometry, moments):
        out = np.empty(25)
        _, frames = features_and_frames(geometry[None], alf, 0)
        rotation = np.zeros((5, 9, 9))
        rotation_matrices(frames[0], 4, rotation)
        to_local(rotation, 4, moments, out)
        return out

    turn = Rotation.from_euler("zyx", [1.0, 0.4, -2.0]).as_matrix()
    rotation, turned = np.zeros((5, 9, 9)), np.empty(25)
    rotation_matrices(np.ascontiguousarray(turn.T), 4, rotation)
    to_global(rotation, 4, found.moments[0, 0], turned)
    here = local(found.geometries[0], found.moments[0, 0])
    np.testing.assert_allclose(local(found.geometries[0] @ turn.T, turned), here, atol=1e-12)
    # a planar molecule has no moments that change sign under reflection by its plane, z; AIMAll's
    # angular grid leaves some, of rank 4 as large as 1e-3
    odd = [k for k, name in enumerate(MOMENT_NAMES) if (int(name[1]) + int(name[2])) % 2]
    np.testing.assert_allclose(here[[k for k in odd if k < 16]], 0, atol=1e-4)
    np.testing.assert_allclose(here[odd], 0, atol=2e-3)
    assert abs(here[MOMENT_NAMES.index("q44c")]) > 0.1


def _change(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: (p / "W0001_atomicfiles" / "h2.int").unlink(), r"no \.int file of atom 2 \(H\)"),
        (lambda p: _change(p / "W0001_atomicfiles" / "h2.int", " AIMInt is Done.\n", ""),
         r"h2\.int: no end: the file is truncated"),
        (lambda p: _change(p / "W0001_atomicfiles" / "o1.int", " Q[4,4,s]", " #"),
         r"o1\.int: no moment q44s"),
        (lambda p: _change(p / "W0001_atomicfiles" / "o1.int", "E_IQA(A)  ", "E_X  "),
         r"o1\.int: no E_IQA\(A\)"),
        (lambda p: _change(p / "W0001_atomicfiles" / "o1.int", "-7.54000000", "-7.53900000"),
         r"atomic energies miss the total energy of W0001\.wfn by 26\.\d+ kJ/mol"),
        (lambda p: _change(p / "W0001_atomicfiles" / "h3.int", "atom H3", "atom H2"),
         "atom H2 has been read already"),
        (lambda p: _change(p / "W0001_atomicfiles" / "h3.int", "atom H3", "atom H7"),
         r"h3\.int: is of atom H7"),
        (lambda p: (p / "W0001.wfn").unlink(), r"no \.wfn or \.sum file"),
        (lambda p: (p / "W0001.wfn").write_text(_wfn(POSITIONS)[:200]), "not a whole .wfn file"),
        (lambda p: (p / "a.wfn").write_text(_wfn(POSITIONS + [[0, 0, 0], [0, 0.1, 0], [0, 0, 0]])),
         r"is of another geometry than .*: atom 2 \(H\) is 0\.1 bohr away"),
        (lambda p: (p / "W0001.xyz").write_text("3\n\nO 0 0 0\nH 0 1 0\nF 0 0 1\n"),
         r"W0001\.xyz: is of OHF"),
    ],
)
def test_what_does_not_belong_together_is_refused(point, change, message):
    change(point)
    with pytest.raises(LabelError, match=message):
        read_aimall(point)


def test_folder_without_labels(tmp_path):
    with pytest.raises(LabelError, match=r"no \.int files"):
        read_aimall(tmp_path)
