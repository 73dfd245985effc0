"""Whole commands with a bundled model, in surroundings and on files that once broke them."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from ase.build import molecule
from ase.io import read, write

from ase_fflux.cli.main import main
from ase_fflux.formats.geometry import read_frames

MODEL = ["--model", "water"]


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch):
    """A folder with water.xyz."""
    monkeypatch.chdir(tmp_path)
    write("water.xyz", molecule("H2O"), format="extxyz")


def test_names_with_an_at_sign(capsys):
    Path("water.xyz").rename("a@0.xyz")
    assert main(["opt", "a@0.xyz", *MODEL]) == 0
    assert main(["vib", "a@0-opt.xyz", *MODEL]) == 0
    assert "wrote a@0-opt-vib.txt" in capsys.readouterr().out


@pytest.mark.skipif(sys.platform == "darwin", reason="its file names are UTF-8")
def test_names_that_are_not_utf8(capsys):
    name = os.fsdecode(b"b\xfcd.xyz")
    Path("water.xyz").rename(name)
    assert main(["vib", name, *MODEL]) == 0
    assert main(["md", name, *MODEL, "--time", "0.02", "--interval", "5"]) == 0
    said = capsys.readouterr()
    assert "b\\xfcd.xyz (H2O)" in said.out and "not drawn" not in said.err
    stem = name.removesuffix(".xyz")
    for ending in ("-vib.txt", "-vib.png", "-md.png", "-md.json"):
        assert Path(stem + ending).stat().st_size > 0
    assert json.loads(Path(stem + "-md.json").read_text())["command"].startswith("fflux md 'b\\xfc")


def test_poscar(capsys):
    atoms = molecule("H2O")
    atoms.center(vacuum=4.0)
    atoms.positions[:, 0] -= 4.0
    atoms.pbc = True
    atoms.wrap()
    write("POSCAR", atoms, format="vasp")
    assert main(["opt", "POSCAR", *MODEL, "--vacuum"]) == 0
    assert "extxyz" in capsys.readouterr().err
    assert main(["vib", "POSCAR-opt.xyz", *MODEL]) == 0
    lengths = read("POSCAR-opt.xyz", format="extxyz").get_all_distances()
    assert lengths[0, 1:] == pytest.approx([0.96, 0.96], abs=0.02)


def test_a_periodic_molecule_is_told_of_vacuum(capsys):
    atoms = molecule("H2O")
    atoms.center(vacuum=4.0)
    atoms.pbc = True
    write("box.xyz", atoms)
    assert main(["vib", "box.xyz", *MODEL]) == 2
    assert "--vacuum" in capsys.readouterr().err
    assert main(["vib", "box.xyz", *MODEL, "--vacuum"]) == 0


def test_isotopes_change_the_vibrations_by_the_product_rule():
    main(["opt", "water.xyz", *MODEL, "-o", "light"])
    Path("heavy.xyz").write_text(Path("light.xyz").read_text().replace("\nH", "\nD"))
    products = []
    for name in ("light", "heavy"):
        assert main(["vib", f"{name}.xyz", *MODEL]) == 0
        summary = json.loads(Path(f"{name}-vib.json").read_text())
        (atoms,) = read_frames(f"{name}.xyz")
        masses, inertia = atoms.get_masses(), atoms.get_moments_of_inertia()
        whole = masses.sum() ** 3 * inertia.prod() / masses.prod() ** 3
        products.append(np.prod(summary["modes"]["wavenumber_per_cm"]) / np.sqrt(whole))
    # E. Teller, O. Redlich, Z. Phys. Chem. B 28, 371 (1935)
    assert products[0] == pytest.approx(products[1], rel=1e-5)


def test_standard_input(monkeypatch, capsys):
    stream = SimpleNamespace(buffer=io.BytesIO(Path("water.xyz").read_bytes()))
    monkeypatch.setattr(sys, "stdin", stream)
    assert main(["opt", "-", *MODEL]) == 0
    assert len(read("stdin-opt.xyz")) == 3


def test_a_folder_for_the_output():
    assert main(["opt", "water.xyz", *MODEL, "-o", "runs/"]) == 0
    assert sorted(p.name for p in Path("runs").iterdir()) == [
        f"water-opt.{kind}" for kind in ("json", "log", "toml", "traj", "xyz")
    ]


@pytest.mark.parametrize("value", ["nan", "-1", "2"])
def test_coverage_is_a_share(value, capsys):
    with pytest.raises(SystemExit) as done:
        main(["opt", "water.xyz", *MODEL, "--min-coverage", value])
    assert done.value.code == 2 and "number from 0 to 1" in capsys.readouterr().err


def test_a_notebook_as_parent(tmp_path):
    (tmp_path / "matplotlibrc").write_text("text.usetex: True\n")
    environment = os.environ | {
        "MPLBACKEND": "module://matplotlib_inline.backend_inline", "MATPLOTLIBRC": str(tmp_path),
        "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
    }
    done = subprocess.run(
        [sys.executable, "-c", "import sys; from ase_fflux.cli.main import main; sys.exit(main())",
         "vib", "water.xyz", *MODEL],
        env=environment, capture_output=True, text=True,
    )
    assert done.returncode == 0 and "Traceback" not in done.stderr
    assert "not drawn" not in done.stderr
    assert Path("water-vib.png").stat().st_size > 0 and Path("water-vib.json").exists()


def test_a_picture_that_fails_costs_no_summary(monkeypatch, capsys):
    from matplotlib.figure import Figure

    def broken(figure, *args, **kwargs):
        raise RuntimeError("latex was not able to process the following string")

    monkeypatch.setattr(Figure, "savefig", broken)
    assert main(["vib", "water.xyz", *MODEL]) == 0
    assert main(["md", "water.xyz", *MODEL, "--time", "0.02", "--interval", "5"]) == 0
    said = capsys.readouterr()
    assert said.err.count("not drawn (RuntimeError: latex") == 2
    for name in ("water-vib", "water-md"):
        assert Path(f"{name}.json").exists() and not Path(f"{name}.png").exists()
