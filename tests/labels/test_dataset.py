import dataclasses

import numpy as np
import pytest
from ase.io import read
from hypothesis import given, settings
from hypothesis import strategies as st

from ase_fflux.base.errors import LabelError
from ase_fflux.base.units import BOHR, FORCE, HARTREE
from ase_fflux.labels.dataset import Label, append_labels, count_labels, read_dataset
from ase_fflux.model.multipoles import MOMENT_NAMES


def make_label(seed, symbols=("O", "H", "H"), method="made-up"):
    rng = np.random.default_rng(seed)
    n = len(symbols)
    energies = rng.normal(scale=40, size=n)
    quadrupoles = rng.normal(size=(n, 3, 3))
    quadrupoles += quadrupoles.transpose(0, 2, 1)
    quadrupoles -= np.trace(quadrupoles, axis1=1, axis2=2)[:, None, None] * np.eye(3) / 3
    return Label(
        symbols=symbols,
        geometry=rng.normal(scale=3, size=(n, 3)),
        energy=energies.sum(),
        gradient=rng.normal(size=(n, 3)),
        atomic_energies=energies,
        charges=rng.normal(size=n),
        atomic_dipoles=rng.normal(size=(n, 3)),
        atomic_quadrupoles=quadrupoles,
        dipole=rng.normal(size=3),
        method=method,
    )


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
            expected = label.charges + label.atomic_dipoles @ u
            expected = expected + np.einsum("iab,a,b->i", label.atomic_quadrupoles, u, u)
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


def test_appending_is_for_one_molecule_at_one_level(path):
    size = path.stat().st_size
    with pytest.raises(LabelError, match="holds made-up labels of OHH"):
        append_labels(path, [make_label(9, symbols=("H", "O", "H"))], ["md"])
    with pytest.raises(LabelError, match="cannot append other labels"):
        append_labels(path, [make_label(9), make_label(9, method="other")], ["md", "md"])
    assert path.stat().st_size == size


def test_not_finite_label_is_not_written(path, labels):
    bad = dataclasses.replace(labels[0], charges=np.array([0.0, np.nan, 0.0]))
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


@pytest.mark.parametrize(
    ("line", "change", "words"),
    [
        (5, lambda text: "three", "frame 2, line 6: expected a number of atoms, found 'three'"),
        (7, lambda text: " ".join(text.split()[:-1]), "frame 2: cannot be read"),
        (7, lambda text: text.replace("O ", "N "), "frame 2: symbols"),
        (6, lambda text: text.replace("method=made-up", "method=other"), "frame 2: method other"),
        (6, lambda text: text.replace("atomic_energies", "e"), "frame 2: no atomic_energies"),
        (11, lambda text: text.replace(" energy=-", " energy="), "frame 3: atomic energies miss"),
        (12, lambda text: "O" + " nan" * 20, "frame 3: geometries holds values .* not finite"),
    ],
)
def test_malformed_files_are_refused_by_frame(path, line, change, words):
    edit(path, line, change)
    with pytest.raises(LabelError, match=words) as error:
        read_dataset(path)
    assert str(path) in str(error.value)


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
