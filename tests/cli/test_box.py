import json

import pytest
from ase.build import molecule
from ase.io import read, write

from ase_fflux.cli.main import main


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_number_and_density(capsys):
    assert main(["box", "water", "--number", "30", "--density", "0.997"]) == 0
    said = capsys.readouterr().out
    assert "30 water: 90 atoms" in said and "0.997 g/cm^3" in said
    box = read("water-box.xyz")
    assert str(box.symbols) == "OH2" * 30 and box.pbc.all()
    assert box.get_masses().sum() / box.get_volume() * 1.66054 == pytest.approx(0.997, rel=1e-4)
    assert main(["box", "water=30", "--density", "0.997", "-o", "again"]) == 0
    assert (read("again.xyz").positions == box.positions).all()
    assert main(["box", "water=30", "--density", "0.997", "--seed", "2"]) == 0
    assert "kept the earlier output as water-box.xyz.~1~" in capsys.readouterr().out
    assert (read("water-box.xyz").positions != box.positions).any()


def test_summary(capsys):
    assert main(["box", "water=3", "--cell", "9", "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["molecules"] == {"water": 3} and summary["atoms"] == 9
    assert summary["cell_lengths"] == {"value": [9, 9, 9], "unit": "A"}
    density = 3 * 18.015 * 1.66054 / 9**3
    assert summary["density"]["value"] == pytest.approx(density, rel=1e-4)
    assert summary["files"] == ["water-box.xyz", "water-box.toml"]


def test_density_and_cell(capsys):
    assert main(["box", "water", "--density", "0.9", "--cell", "9", "10", "11", "80", "90", "95"]
                ) == 0
    box = read("water-box.xyz")
    assert box.cell.cellpar() == pytest.approx([9, 10, 11, 80, 90, 95], abs=1e-6)
    expected = 0.9 / 1.66054 * box.get_volume() / 18.015
    assert len(box) == 3 * round(expected)


def test_mixture_of_a_model_and_a_file(capsys):
    write("argon.xyz", molecule("CH4"))
    assert main(["box", "ethanol=5,argon.xyz=7", "--cell", "12"]) == 0
    assert "5 ethanol, 7 argon.xyz: 80 atoms" in capsys.readouterr().out
    box = read("ethanol-argon-box.xyz")
    assert len(box) == 80 and box.cell.lengths() == pytest.approx([12, 12, 12])


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["water"], "give two of"), (["water", "--density", "1"], "give two of"),
        (["water=3"], "either --density or --cell"),
        (["water=3", "--density", "1", "--cell", "9"], "either --density or --cell"),
        (["water=3", "--number", "3", "--density", "1"], "leave one of them out"),
        (["water=3,ethanol", "--cell", "20"], "how many of ethanol? Write ethanol=N"),
        (["watr=3", "--cell", "20"], "Did you mean water?"),
        (["water=3", "--cell", "20", "20"], "has 2 numbers"),
        (["water=3", "--cell", "9", "9", "9", "60", "60", "150"], "no cell with angles"),
        (["water", "--density", "1", "--cell", "2"], "too small for a single"),
        (["water", "--number", "99999999999", "--density", "1"], "3e+11 atoms"),
        (["water", "--number", "20", "--cell", "1"], "do not fit"),
        (["water", "--number", "20", "--density", "1e300"], "do not fit"),
        (["water", "--number", "20", "--density", "1e-300"], "wide: give a larger density"),
        (["water", "--density", "1", "--cell", "1e300"], "wider than any box"),
    ],
)
def test_slips_are_one_line_and_touch_nothing(arguments, said, tmp_path, capsys):
    assert main(["box", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("fflux: error: ") and said in error and error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_box_is_no_molecule(capsys):
    box = molecule("H2O", cell=[9, 9, 9], pbc=True)
    write("crystal.xyz", box)
    assert main(["box", "crystal.xyz=2", "--density", "1"]) == 2
    assert "crystal.xyz (H2O) is periodic" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["water=0"], ["=3"], ["water", "--number", "x"]])
def test_wrong_arguments(arguments):
    with pytest.raises(SystemExit):
        main(["box", *arguments, "--density", "1"])
