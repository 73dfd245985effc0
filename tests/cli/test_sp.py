import json
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.io import read, write

from ase_fflux import FFLUX
from ase_fflux.base.units import BOHR
from ase_fflux.cli.main import main
from ase_fflux.formats.bundle import write_bundle

pytestmark = pytest.mark.filterwarnings("ignore:the cell has a net charge")

FORCE_FIELD = """\
[species.methyl]
model = "methyl.fflux"
types = ["C", "F", "H", "H", "H"]

[pairs]
cutoff = 6.0

[pairs.lj]
F-H = [0.004, 2.6]
C-C = [0.005, 3.4]
"""


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch, methyl_model, plausible):
    """A folder with methyl.fflux, methyl.toml, one molecule in three frames, and two in a box."""
    monkeypatch.chdir(tmp_path)
    methyl_model = plausible(methyl_model)
    write_bundle("methyl.fflux", methyl_model)
    Path("methyl.toml").write_text(FORCE_FIELD)
    rng = np.random.default_rng(0)
    shape = methyl_model.reference_geometry
    frames = [
        Atoms(methyl_model.symbols, BOHR * (shape + 0.04 * rng.normal(size=shape.shape)))
        for _ in range(3)
    ]
    write("one.xyz", frames)
    box = frames[0].copy()
    other = frames[1].copy()
    other.translate((6.0, 0.5, 0.3))
    box += other
    box.set_cell([13.0, 12.5, 12.8])
    box.pbc = True
    write("box.xyz", box)


def test_everything_of_a_box(capsys):
    assert main(["sp", "box.xyz", "--model", "methyl.toml"]) == 0
    out = capsys.readouterr().out
    atoms = read("box.xyz")
    atoms.calc = FFLUX("methyl.toml")
    energy = atoms.get_potential_energy()
    assert f" {energy:.6f} " in out and "\nshort range" in out and "\ntotal" in out
    assert "atom 7 (F)" in out and "stress (eV/A^3): xx yy zz yz xz xy = " in out
    assert "dipole (e A): " in out and "smallest coverage: " in out
    summary = json.loads(Path("box-sp.json").read_text())
    (frame,) = summary["frames"]
    assert frame["energy_eV"] == energy
    assert sum(frame["energy_terms_eV"].values()) == pytest.approx(energy)
    assert sum(frame["energies_of_atoms_eV"]) == pytest.approx(energy)
    np.testing.assert_allclose(frame["forces_eV_per_A"], atoms.get_forces())
    np.testing.assert_allclose(frame["stress_xx_yy_zz_yz_xz_xy_eV_per_A3"], atoms.get_stress())
    np.testing.assert_allclose(frame["dipole_e_A"], atoms.get_dipole_moment())
    np.testing.assert_allclose(frame["multipoles_atomic_units"], atoms.calc.get_multipoles())
    back = read("box-sp.xyz")
    assert back.get_potential_energy() == pytest.approx(energy)
    np.testing.assert_allclose(back.get_stress(), atoms.get_stress(), atol=1e-8)
    np.testing.assert_allclose(back.get_charges(), atoms.get_charges(), atol=1e-8)


def test_a_line_for_each_frame_or_one_of_them(capsys):
    assert main(["sp", "one.xyz", "--model", "methyl.fflux"]) == 0
    lines = capsys.readouterr().out.splitlines()
    head = next(k for k, line in enumerate(lines) if line.startswith("frame"))
    assert [line.split()[0] for line in lines[head + 1:head + 4]] == ["0", "1", "2"]
    assert len(read("one-sp.xyz", ":")) == 3
    assert main(["sp", "one.xyz", "--model", "methyl.fflux", "--index", "1"]) == 0
    out = capsys.readouterr().out
    assert "frame 1 of 0 to 2" in out and "kept the earlier output" in out
    assert len(json.loads(Path("one-sp.json").read_text())["frames"]) == 1


def test_json_alone(capsys):
    assert main(["sp", "one.xyz", "--model", "methyl.fflux", "--json"]) == 0
    said = capsys.readouterr()
    assert len(json.loads(said.out)["frames"]) == 3 and "wrote" in said.err


def test_uncertainty(make_shared, capsys):
    model = make_shared()
    write_bundle("shared.fflux", model)
    write("it.xyz", Atoms(model.symbols, BOHR * model.geometries[3]))
    assert main(["sp", "it.xyz", "--model", "shared.fflux", "--uncertainty"]) == 0
    assert "standard deviation of the energy: " in capsys.readouterr().out
    (frame,) = json.loads(Path("it-sp.json").read_text())["frames"]
    assert frame["energy_standard_deviation_eV"] > 0
    assert np.shape(frame["forces_standard_deviation_eV_per_A"]) == (5, 3)


def test_models_without_moments(make_made_up, capsys):
    model = make_made_up(["C", "F", "H", "H", "H"], rank=-1, seed=1)
    write_bundle("bare.fflux", model)
    assert main(["sp", "one.xyz", "--model", "bare.fflux", "--no-electrostatics"]) == 0
    assert "dipole" not in capsys.readouterr().out


def test_slips_are_one_line_and_touch_nothing(capsys):
    def refused(*arguments):
        assert main(["sp", *arguments]) == 2
        error = capsys.readouterr().err.splitlines()[-1]
        assert error.startswith("fflux: error: ")
        return error

    assert "which model? Give --model" in refused("one.xyz")
    assert "says how molecules interact" in refused(
        "box.xyz", "--model", "methyl.toml", "--rank", "1"
    )
    write("two.xyz", [read("one.xyz", 0), Atoms("H2", [[0, 0, 0], [0, 0, 0.7]])])
    assert "frame 1: " in refused("two.xyz", "--model", "methyl.fflux")
    assert "one.xyz: no frame 7" in refused("one.xyz", "--model", "methyl.fflux", "--index", "7")
    assert not list(Path().glob("*-sp.*"))


def test_published_dimer(reference, capsys):
    """Molecules 1 and 214 at level 3, each whole; energies by the published engine."""
    published = reference / "water343"
    with np.load(published / "expected_dimer_cluster_L3.npz") as content:
        expected = dict(content)
    path = Path("water")
    path.mkdir()
    (path / "model_krig").symlink_to(published / "model_krig")
    rows = ["dimer", "0 0 6"]
    for name, x in zip("OHHOHH", expected["positions_ang"], strict=True):
        rows += [name, " ".join(f"{value:.12f}" for value in x)]
    (path / "CONFIG").write_text("\n".join(rows) + "\n")
    (path / "FIELD").write_text((published / "FIELD").read_text().replace("343", "2"))
    control = (published / "CONTROL").read_text().replace("fflux ewald L3", "fflux cluster L3")
    (path / "CONTROL").write_text(control.replace("scale 100", "scale 100\ncap 50\nfloat 3"))
    assert main(["sp", "water"]) == 0
    out = capsys.readouterr().out
    assert "CONTROL, line 33: 'cap 50' is not done" in out
    assert "CONTROL, line 34: 'float 3' is not known here, and nothing is done" in out
    (frame,) = json.loads(Path("water-sp.json").read_text())["frames"]
    unit = 1036.42696e-7  # eV per 10 J/mol
    for name, key in (("electrostatic", "e_coul"), ("short_range", "e_vdw")):
        wanted = float(expected[f"{key}_10Jmol"]) * unit
        assert frame["energy_terms_eV"][name] == pytest.approx(wanted, rel=1e-6)
    forces = expected["forces_10Jmol_per_ang"] * unit
    np.testing.assert_allclose(
        frame["forces_eV_per_A"], forces, rtol=0, atol=2e-6 * np.abs(forces).max()
    )


def test_a_directory_for_the_published_engine_and_back(capsys):
    """Written by `fflux convert`, read by `fflux sp`."""
    box = read("box.xyz")
    order = np.random.default_rng(1).permutation(len(box))
    write("shuffled.xyz", box[order])
    convert = ["convert", "shuffled.xyz", "run", "--model", "methyl.toml"]
    assert main([*convert, "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert made["reordered"] and made["atoms"] == len(box) and "run/FIELD" in made["files"]
    assert main(convert) == 0
    out = capsys.readouterr().out
    assert "atoms of CONFIG are in another order" in out
    assert "kept the earlier output as run.~1~" in out
    assert sorted(path.name for path in Path("run").iterdir()) == [
        "CONFIG", "CONTROL", "FIELD", "MPOLES", "model_krig",
    ]
    found = []
    for arguments in (["run"], ["box.xyz", "--model", "methyl.toml"]):
        assert main(["sp", *arguments, "--json"]) == 0
        found.append(json.loads(capsys.readouterr().out)["frames"][0])
    for name, value in found[0]["energy_terms_eV"].items():
        assert found[1]["energy_terms_eV"][name] == pytest.approx(value, abs=1e-8)
    np.testing.assert_allclose(
        found[0]["stress_xx_yy_zz_yz_xz_xy_eV_per_A3"],
        found[1]["stress_xx_yy_zz_yz_xz_xy_eV_per_A3"], atol=1e-9,
    )


def test_a_directory_that_is_not_written(make_shared, capsys):
    Path("other").mkdir()
    Path("other", "notes.txt").write_text("mine")
    for output, said in (
        ("other", "other holds other files"), ("box.xyz", "is a file and no directory"),
        ("new", "trained on gradients"),
    ):
        model = "methyl.toml"
        if output == "new":
            write_bundle("shared.fflux", make_shared())
            model = "shared.fflux"
        assert main(["convert", "one.xyz", output, "--model", model]) == 2
        assert said in capsys.readouterr().err
    assert not Path("new").exists() and [*Path("other").iterdir()] == [Path("other/notes.txt")]
