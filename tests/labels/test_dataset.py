import dataclasses

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write
from hypothesis import given, settings
from hypothesis import strategies as st

from ase_fflux.base.errors import LabelError
from ase_fflux.base.units import BOHR, FORCE, HARTREE
from ase_fflux.labels.dataset import Label, append_labels, count_labels, read_dataset
from ase_fflux.labels.label import dataset_of
from ase_fflux.model.multipoles import MOMENT_NAMES, cartesian_from_spherical


def make_label(seed, symbols=("O", "H", "H"), method="made-up", rank=2, **change):
    """Random numbers, but forces without net force or torque and charges that sum to zero."""
    rng = np.random.default_rng(seed)
    n = len(symbols)
    energies = rng.normal(scale=40, size=n)
    geometry = rng.normal(scale=3, size=(n, 3))
    pull = rng.normal(size=(n, n))
    moments = rng.normal(size=(n, (rank + 1) ** 2))
    moments[:, 0] -= moments[:, 0].mean()
    label = Label(
        symbols=symbols,
        geometry=geometry,
        energy=energies.sum(),
        gradient=np.einsum("ab,abi->ai", pull + pull.T, geometry[:, None] - geometry),
        atomic_energies=energies,
        moments=moments,
        dipole=moments[:, 0] @ geometry + moments[:, [2, 3, 1]].sum(axis=0) if rank > 0 else None,
        method=method,
    )
    return dataclasses.replace(label, **change)


@pytest.fixture
def labels():
    return [make_label(seed) for seed in range(5)]


@pytest.fixture
def path(tmp_path, labels):
    file = tmp_path / "water.xyz"
    append_labels(file, labels[:3], ["md500K"] * 3)
    append_labels(file, labels[3:], ["nm50K"] * 2)
    return file


def test_what_is_written_is_read(path, labels):
    data = read_dataset(path)
    assert len(data) == count_labels(path) == 5
    assert data.symbols == ("O", "H", "H")
    assert data.method == "made-up"
    assert list(data.origins) == ["md500K"] * 3 + ["nm50K"] * 2
    for field, stored, atol in (
        ("geometry", data.geometries, 2e-12),
        ("energy", data.energies, 1e-12),
        ("gradient", data.gradients, 1e-12),
        ("atomic_energies", data.atomic_energies, 1e-12),
        ("charges", data.moments[..., 0], 1e-12),
        ("dipole", data.dipoles, 2e-12),
    ):
        expected = np.array([getattr(label, field) for label in labels])
        assert np.allclose(stored, expected, rtol=1e-15, atol=atol)


def test_moments_have_the_potential_of_the_cartesian_ones(path, labels):
    """Potential far out along every direction, from regular harmonics written out here."""
    data = read_dataset(path)
    assert data.moments.shape == (5, 3, 9)
    for direction in np.random.default_rng(0).normal(size=(6, 3)):
        x, y, z = u = direction / np.linalg.norm(direction)
        harmonics = {
            "q00": 1.0, "q10": z, "q11c": x, "q11s": y,
            "q20": 1.5 * z * z - 0.5,
            "q21c": 3**0.5 * x * z, "q21s": 3**0.5 * y * z,
            "q22c": 3**0.5 / 2 * (x * x - y * y), "q22s": 3**0.5 * x * y,
        }  # fmt: skip
        values = np.array([harmonics[name] for name in MOMENT_NAMES[:9]])
        for label, moments in zip(labels, data.moments, strict=True):
            _, quadrupoles = cartesian_from_spherical(label.moments)
            expected = label.charges + label.atomic_dipoles @ u
            expected = expected + np.einsum("iab,a,b->i", quadrupoles, u, u)
            assert np.allclose(moments @ values, expected, atol=1e-10)


def test_other_programs_read_it(path, labels):
    frames = read(path, ":")
    assert len(frames) == 5
    atoms, label = frames[3], labels[3]
    assert np.allclose(atoms.positions, label.geometry * BOHR, atol=1e-11)
    assert atoms.get_potential_energy() == pytest.approx(label.energy * HARTREE, abs=1e-9)
    assert np.allclose(atoms.get_forces(), -label.gradient * FORCE, atol=1e-9)
    assert np.allclose(atoms.get_charges(), label.charges, atol=1e-11)
    assert np.allclose(atoms.get_dipole_moment(), label.dipole * BOHR, atol=1e-11)
    assert np.allclose(atoms.arrays["dipoles"], label.atomic_dipoles * BOHR, atol=1e-11)
    assert atoms.info["origin"] == "nm50K"
    assert not atoms.pbc.any()


def test_select(path):
    data = read_dataset(path)
    near = data.select(data.origins == "nm50K")
    assert len(near) == 2
    assert np.array_equal(near.geometries, data.geometries[3:])
    assert np.array_equal(near.moments, data.moments[3:])
    assert near.symbols == data.symbols


@settings(max_examples=40, deadline=None)
@given(fraction=st.floats(0, 1, exclude_max=True))
def test_killed_run_loses_no_complete_frame(tmp_path_factory, fraction):
    """Cut the file anywhere: what is complete stays, what is not goes, and the run goes on."""
    labels = [make_label(seed) for seed in range(3)]
    file = tmp_path_factory.mktemp("cut") / "labels.xyz"
    ends = [0]
    for label in labels:
        append_labels(file, [label], ["md"])
        ends.append(file.stat().st_size)
    cut = int(fraction * ends[-1])
    with open(file, "r+b") as handle:
        handle.truncate(cut)
    complete = sum(end <= cut for end in ends[1:])
    assert count_labels(file) == complete
    assert file.stat().st_size == cut
    if cut > ends[complete]:
        with pytest.raises(LabelError, match=f"frame {complete + 1} is incomplete"):
            read_dataset(file)
    append_labels(file, labels[complete:], ["md"] * (3 - complete))
    assert file.stat().st_size == ends[-1]
    assert np.allclose(read_dataset(file).energies, [label.energy for label in labels], atol=1e-12)


@pytest.mark.parametrize("content", [
    b"- of UlmASE-Trajectory  \x03\x00",
    b"3\n\nO 0 0 0\nH 0.96 0 0\nH -0.24 0.93 0",
    b"3\nwater without a newline at its end\nO 0 0 0",
])
def test_what_is_no_label_file_is_not_cut(tmp_path, content):
    file = tmp_path / "other"
    file.write_bytes(content)
    with pytest.raises(LabelError, match="choose another output"):
        append_labels(file, [make_label(0)], ["md"])
    assert file.read_bytes() == content


def test_appending_is_for_one_molecule_at_one_level(path):
    size = path.stat().st_size
    with pytest.raises(LabelError, match="holds made-up labels of OHH"):
        append_labels(path, [make_label(9, symbols=("H", "O", "H"))], ["md"])
    with pytest.raises(LabelError, match="append other labels of OHH with method other"):
        append_labels(path, [make_label(9), make_label(9, method="other")], ["md", "md"])
    assert path.stat().st_size == size


def test_not_finite_label_is_not_written(path, labels):
    bad = dataclasses.replace(labels[0], moments=np.full((3, 9), np.nan))
    with pytest.raises(LabelError, match="not finite"):
        append_labels(path, [labels[0], bad], ["md", "md"])
    assert count_labels(path) == 5


@pytest.mark.parametrize("origin", ["", "two words", 'quo"te', "a=b"])
def test_origin_is_one_word(path, labels, origin):
    with pytest.raises(LabelError, match="one plain word"):
        append_labels(path, labels[:1], [origin])


def edit(path, line, change):
    lines = path.read_text().splitlines()
    lines[line] = change(lines[line])
    path.write_text("\n".join(lines) + "\n")


def column(number, text):
    """Replace one column of a row."""
    return lambda line: " ".join([*line.split()[:number], text, *line.split()[number + 1:]])


@pytest.mark.parametrize(
    ("line", "change", "words"),
    [
        (5, lambda text: "three", "frame 2, line 6: expected a number of atoms, found 'three'"),
        (5, lambda text: "9" * 5000, "frame 2, line 6: expected a number of atoms, found '999"),
        (7, lambda text: " ".join(text.split()[:-1]),
         r"frame 2, line 8, atom 1 \(O\): 20 columns instead of 21"),
        (8, column(4, "1.0.0"), r"frame 2, line 9, atom 2 \(H\): forces 1.0.0 .* not a number"),
        (7, column(0, "N"), "frame 2: atoms N, H, H instead of O, H, H"),
        (7, column(0, "Xx"), r"frame 2, line 8, atom 1 \(Xx\): no such element"),
        (7, column(12, "7.0"), "frame 2, the quadrupole of atom 1 is not symmetric"),
        (6, lambda text: text.replace("method=made-up", "method=other"), "frame 2: method other"),
        (6, lambda text: text.replace("atomic_energies", "e"),
         "frame 2: quantities energy, gradient, dipole.* instead of .*atomic_energies"),
        (6, lambda text: text.replace("charges", "c"), "frame 2, line 7: .* without charges"),
        (6, lambda text: text.replace('dipole="', 'dipole="1 '), "line 7: dipole .*not 3 numbers"),
        (6, lambda text: text.replace("energy=", "energy=a"), "line 7: energy is 'a.*not 1 number"),
        (6, lambda text: text.replace("dipoles:R:3", "dipoles:R:4"),
         "line 7: column dipoles has 4 numbers instead of 3"),
        (6, lambda text: text.replace("pos:R:3", "pos:R:99999999999"), "line 7: Properties=.*read"),
        (6, lambda text: text.replace("pos:R:3", f"pos:R:{'9' * 5000}"), "Properties=.*read"),
        (6, lambda text: text.replace("pos:R:3", "force:R:3"), "line 7: no column pos"),
        (6, lambda text: text.replace("F F F", "T F F"), "line 7: the frame is periodic"),
        (11, lambda text: text.replace(" energy=-", " energy="), "frame 3: atomic energies miss"),
        (12, lambda text: "O" + " nan" * 20, r"frame 3, line 13, atom 1 \(O\): pos .*not finite"),
    ],
)
def test_malformed_files_are_refused_by_frame(path, line, change, words):
    edit(path, line, change)
    with pytest.raises(LabelError, match=words) as error:
        read_dataset(path)
    assert str(path) in str(error.value)


def test_bytes_that_are_not_utf8(path):
    content = path.read_bytes().splitlines(keepends=True)
    content[6] = content[6].replace(b"origin=md500K", b"origin=caf\xe9")
    path.write_bytes(b"".join(content))
    with pytest.raises(LabelError, match=r"frame 2, line 7: byte 0xe9 at column \d+ is not UTF-8"):
        read_dataset(path)


@pytest.mark.parametrize("rank", [-1, 0, 1, 2, 3, 4])
def test_moments_of_any_rank(tmp_path, rank):
    """Written, read, and of use to other programs up to the quadrupole."""
    labels = [make_label(seed, rank=max(rank, 0)) for seed in range(2)]
    if rank < 0:
        labels = [dataclasses.replace(label, moments=None) for label in labels]
    file = tmp_path / "labels.xyz"
    append_labels(file, labels, ["md"] * 2)
    data = read_dataset(file)
    assert data.rank == labels[0].rank == rank
    if rank >= 0:
        assert np.allclose(data.moments, [label.moments for label in labels], atol=1e-11)
    assert set(read(file).arrays) >= {"dipoles", "quadrupoles"} or rank < 2


def test_everything_but_the_geometry_may_be_absent(tmp_path):
    file = tmp_path / "labels.xyz"
    bare = Label(("O", "H", "H"), make_label(0).geometry)
    append_labels(file, [bare], ["md"])
    data = read_dataset(file)
    names = ["energies", "gradients", "atomic_energies", "moments", "dipoles", "errors"]
    assert data.missing([*names, "geometries"]) == names
    assert len(data) == len(data.select(slice(1))) == 1
    assert np.allclose(data.geometries, [bare.geometry], atol=1e-11)
    with pytest.raises(LabelError, match="quantities energy.* instead of none"):
        append_labels(file, [make_label(1, method="unknown")], ["md"])


def test_frames_of_other_programs(tmp_path):
    """No method, no origin, further columns and keys."""
    atoms = Atoms("OHH", np.eye(3))
    atoms.calc = SinglePointCalculator(atoms, energy=-5.0, forces=np.zeros((3, 3)))
    atoms.arrays["tags_of_mine"] = np.arange(3)
    write(tmp_path / "plain.xyz", [atoms, atoms], format="extxyz")
    data = read_dataset(tmp_path / "plain.xyz")
    assert data.method == "unknown" and list(data.origins) == ["unknown"] * 2
    assert np.allclose(data.energies * HARTREE, -5.0)
    assert data.atomic_energies is None and data.moments is None


def test_settings_and_versions(tmp_path):
    """Settings must agree, versions are collected, labels without settings go with any."""
    file = tmp_path / "labels.xyz"
    settings = {"basis": "6-31+G(d,p)", "grid": 302, "conv": 1e-10, "fit": True}

    def label(seed, settings, version):
        energies = make_label(seed).atomic_energies
        return make_label(
            seed, settings=settings, versions={"pyscf": version}, partition="mbis",
            tolerance=1e-4, energy=energies.sum() + 9e-5, errors=np.full(3, 1e-6),
        )

    append_labels(file, [label(0, settings, "2.13"), label(1, {}, "2.13")], ["md"] * 2)
    append_labels(file, [label(2, settings, "2.14")], ["md"])
    data = read_dataset(file)
    assert data.settings == settings and data.versions == {"pyscf": "2.13, 2.14"}
    assert data.partition == "mbis" and data.tolerance == pytest.approx(1e-4)
    assert np.allclose(data.errors, 1e-6)
    with pytest.raises(LabelError, match="with setting grid 590 instead of 302: use another file"):
        append_labels(file, [label(3, {**settings, "grid": 590}, "2.14")], ["md"])
    with pytest.raises(LabelError, match="apostrophe"):
        append_labels(file, [label(3, {**settings, "basis": "d'"}, "2.14")], ["md"])
    edit(file, 1, lambda text: text.replace('{"basis"', '{basis'))
    with pytest.raises(LabelError, match="frame 1, line 2: settings .* is not a JSON object"):
        read_dataset(file)


@pytest.mark.parametrize("change", [
    dict(gradient=np.zeros((2, 3))), dict(moments=np.zeros((3, 8))), dict(moments=np.zeros(3)),
    dict(dipole=np.zeros(4)), dict(atomic_energies=np.zeros((3, 1))), dict(errors=np.zeros(2)),
])
def test_shapes(change):
    with pytest.raises(LabelError, match=f"{next(iter(change))} .* the shape"):
        make_label(0, **change)


def test_labels_that_differ_make_no_dataset():
    with pytest.raises(LabelError, match="label 2 is not like label 1: atoms N, N instead of"):
        dataset_of([make_label(0), make_label(0, symbols=("N", "N"))])
    with pytest.raises(LabelError, match="no labels"):
        dataset_of([])


def test_missing_and_empty_files(tmp_path):
    file = tmp_path / "none.xyz"
    assert count_labels(file) == 0
    with pytest.raises(LabelError, match="no such label file"):
        read_dataset(file)
    file.write_text("")
    with pytest.raises(LabelError, match="no labels"):
        read_dataset(file)
    append_labels(file, [], [])
    assert file.read_text() == ""
