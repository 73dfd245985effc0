import argparse

import pytest
from ase.build import molecule
from ase.io import write

from ase_fflux.base.errors import FFLUXError, FFLUXWarning
from ase_fflux.cli import options, systems


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
    atoms, description = systems.read_geometry(frames, index)
    assert atoms.positions[0, 0] == pytest.approx(x)
    assert description == f"{frames}, frame {x} of 0 to 2 (H2O)"


def test_single_frame_is_not_numbered(tmp_path):
    write(tmp_path / "w.xyz", molecule("H2O"))
    assert systems.read_geometry(str(tmp_path / "w.xyz"))[1] == f"{tmp_path}/w.xyz (H2O)"


@pytest.mark.parametrize("index", [3, -4])
def test_missing_frame(frames, index):
    with pytest.raises(FFLUXError, match=f"no frame {index}, the file has 3"):
        systems.read_geometry(frames, index)


def test_output_names_follow_the_input():
    args = argparse.Namespace(geometry="runs/ethanol.tight.xyz", output=None)
    assert options.output_prefix(args, "-opt") == "ethanol.tight-opt"
    args.output = "elsewhere/e"
    assert options.output_prefix(args, "-opt") == "elsewhere/e"


@pytest.mark.parametrize("file, prefix", [("-", "stdin-opt"), ("/dev/stdin", "stdin-opt")])
def test_output_names_of_the_standard_input(file, prefix):
    args = argparse.Namespace(geometry=file, output=None)
    assert options.output_prefix(args, "-opt") == prefix


def test_names_that_ase_misreads_are_told(tmp_path):
    args = argparse.Namespace(geometry="POSCAR", output=None)
    with pytest.warns(FFLUXWarning, match="extxyz"):
        assert options.output_prefix(args, "-opt") == "POSCAR-opt"
    write(tmp_path / "POSCAR-opt.xyz", molecule("H2O"), format="extxyz")
    assert len(systems.read_geometry(str(tmp_path / "POSCAR-opt.xyz"))[0]) == 3


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "x"])
def test_positive(text):
    with pytest.raises(ValueError):
        options.positive(text)
    assert options.positive("1e-3") == 1e-3


@pytest.mark.parametrize("text", ["nan", "-0.1", "1.1", "inf", "x"])
def test_share(text):
    with pytest.raises(ValueError):
        options.share(text)
    assert options.share("0") == 0 and options.share("0.9") == 0.9


@pytest.mark.parametrize(
    "output, prefix",
    [(None, "w-opt"), ("runs/", "runs/w-opt"), (".", "./w-opt"), ("a/..", "a/../w-opt"),
     ("runs/a", "runs/a")],
)
def test_a_folder_as_output(output, prefix):
    assert options.prefix_of(output, "w-opt") == prefix


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "x"])
def test_natural(text):
    with pytest.raises(ValueError):
        options.natural(text)
    assert options.natural("7") == 7


@pytest.mark.parametrize("verb", [["train", "l.xyz", "--gradients"], ["build", "m.xyz"]])
def test_kernels_of_energies_can_be_those_of_model_files(verb):
    from ase_fflux.cli.main import parser_of
    from ase_fflux.cli.training_options import joint_settings_of
    from ase_fflux.model.kernels import FORMS, USUAL

    for form, forms in (("rbf", (USUAL,)), (None, tuple(FORMS.values()))):
        given = [] if form is None else ["--joint-kernel", form]
        args = parser_of(verb[0]).parse_args([*verb[1:], *given])
        assert set(joint_settings_of(args, "mbis").forms) == set(forms)
