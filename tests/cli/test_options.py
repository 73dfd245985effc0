import argparse

import numpy as np
import pytest
from ase.build import molecule
from ase.io import write

from ase_fflux.base.errors import FFLUXError, GeometryError
from ase_fflux.cli import options


@pytest.fixture
def frames(tmp_path):
    """A file of three frames of water, O at x = 0, 1, 2."""
    images = [molecule("H2O") for _ in range(3)]
    for x, image in enumerate(images):
        image.positions[:, 0] += x
    write(tmp_path / "water.xyz", images)
    return str(tmp_path / "water.xyz")


@pytest.mark.parametrize("index, x", [(-1, 2), (0, 0), (1, 1), (-3, 0)])
def test_frames(frames, index, x):
    atoms, description = options.read_geometry(frames, index)
    assert atoms.positions[0, 0] == pytest.approx(x)
    assert description == f"{frames}, frame {x} of 0 to 2 (H2O)"


def test_single_frame_is_not_numbered(tmp_path):
    write(tmp_path / "w.xyz", molecule("H2O"))
    assert options.read_geometry(str(tmp_path / "w.xyz"))[1] == f"{tmp_path}/w.xyz (H2O)"


@pytest.mark.parametrize("index", [3, -4])
def test_missing_frame(frames, index):
    with pytest.raises(FFLUXError, match=f"no frame {index}, the file has 3"):
        options.read_geometry(frames, index)


@pytest.mark.parametrize(
    "name, content",
    [
        ("empty.xyz", ""),
        ("short.xyz", "3\nwater\nO 0 0 0\nH 0 0 1\n"),
        ("words.xyz", "3\nwater\nO 0 0 zero\nH 0 0 1\nH 0 1 0\n"),
        ("element.xyz", "1\n\nQq 0 0 0\n"),
        ("noise.traj", "not a trajectory"),
        ("unknown.format", "what is this"),
        ("none.xyz", "0\n\n"),
    ],
)
def test_unreadable_files_are_named(tmp_path, name, content):
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(FFLUXError, match=name) as error:
        options.read_geometry(str(path))
    assert str(error.value).startswith(f"{path}: ")


def test_missing_file():
    with pytest.raises(FFLUXError, match="nowhere.xyz: no such file"):
        options.read_geometry("nowhere.xyz")


def test_coordinates_must_be_numbers(tmp_path):
    atoms = molecule("H2O")
    atoms.positions[2, 1] = np.nan
    write(tmp_path / "w.xyz", atoms)
    with pytest.raises(GeometryError, match=r"atom 2 \(H\)"):
        options.read_geometry(str(tmp_path / "w.xyz"))


def test_output_names_follow_the_input():
    args = argparse.Namespace(geometry="runs/ethanol.tight.xyz", output=None)
    assert options.output_prefix(args, "-opt") == "ethanol.tight-opt"
    args.output = "elsewhere/e"
    assert options.output_prefix(args, "-opt") == "elsewhere/e"


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "x"])
def test_positive(text):
    with pytest.raises(ValueError):
        options.positive(text)
    assert options.positive("1e-3") == 1e-3


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "x"])
def test_natural(text):
    with pytest.raises(ValueError):
        options.natural(text)
    assert options.natural("7") == 7
