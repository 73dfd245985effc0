import json
from pathlib import Path

import numpy as np
import pytest
from ase.build import molecule
from ase.io import write

from ase_fflux.cli import systems
from ase_fflux.cli.main import main

tblite = pytest.importorskip("tblite.ase", exc_type=ImportError)


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch):
    """An empty folder with water.xyz; GFN2-xTB stands in for FFLUX."""
    calculator = tblite.TBLite(method="GFN2-xTB", verbosity=0)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(systems, "build_calculator", lambda args: calculator)
    monkeypatch.setattr(systems, "expected_errors", lambda calculator: {})
    write("water.xyz", molecule("H2O"))


def test_from_optimisation_to_spectrum(capsys):
    assert main(["opt", "water.xyz", "--model", "water"]) == 0
    assert main(["vib", "water-opt.xyz", "--model", "water", "--symmetry-number", "2"]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    summary = json.loads(Path("water-opt-vib.json").read_text())
    wavenumbers = summary["modes"]["wavenumber_per_cm"]
    assert [1400, 3400, 3400] < wavenumbers < [1700, 3900, 3900]
    assert f"{wavenumbers[0]:.1f}" in said.out
    assert summary["input"] == "water-opt.xyz"
    assert Path("water-opt-vib.txt").read_text().splitlines()[0] in said.out
    assert len(list(Path("water-opt-vib-modes").iterdir())) == 3
    for ending in (".csv", ".png", "-spectrum.csv", "-phonopy_params.yaml"):
        assert Path(f"water-opt-vib{ending}").stat().st_size > 0


def test_page(capsys):
    main(["opt", "water.xyz", "--model", "water"])
    assert main(["vib", "water-opt.xyz", "--model", "water", "--html"]) == 0
    text = Path("water-opt-vib.html").read_text("utf-8")
    summary = json.loads(Path("water-opt-vib.json").read_text())
    assert "water-opt-vib.html" in summary["files"] and "water-opt-vib.html" in (
        capsys.readouterr().out
    )
    for wavenumber in summary["modes"]["wavenumber_per_cm"]:
        assert f"<td>{wavenumber:.1f}</td>" in text
    assert "data:image/png;base64," in text and "kJ/mol" in text
    assert "fflux vib water-opt.xyz --model water --html" in text


def test_anharmonic(capsys):
    """Water of GFN2-xTB, once with what it is told in the page."""
    main(["opt", "water.xyz", "--model", "water", "--fmax", "1e-4"])
    assert main(["vib", "water-opt.xyz", "--model", "water", "--anharmonic", "--html"]) == 0
    out = capsys.readouterr().out
    assert "(VPT2 from a quartic force field, 108 forces)" in out
    found = json.loads(Path("water-opt-vib.json").read_text())["anharmonic"]
    shifts = np.subtract(found["wavenumbers_per_cm"], found["harmonic_wavenumbers_per_cm"])
    assert shifts == pytest.approx([-43, -202, -208], abs=6)
    assert f"{found['wavenumbers_per_cm'][0]:.1f}" in out
    assert "Anharmonic fundamentals" in Path("water-opt-vib.html").read_text("utf-8")


def test_no_anharmonic_wavenumbers_away_from_a_minimum(capsys):
    assert main(["vib", "water.xyz", "--model", "water", "--anharmonic"]) == 2
    assert "no anharmonic wavenumbers away from a minimum" in capsys.readouterr().err
    assert not list(Path().glob("water-vib*"))


def test_away_from_a_minimum_it_warns_and_goes_on(capsys):
    assert main(["vib", "water.xyz", "--model", "water"]) == 0
    error = capsys.readouterr().err
    assert error.startswith("fflux: warning: water.xyz is not at a minimum")
    assert "fflux opt" in error and error.count("\n") == 1
    assert Path("water-vib.json").exists()


def test_options_reach_the_numbers():
    main(["vib", "water.xyz", "--model", "water", "--symmetry-number", "2"])
    main(
        ["vib", "water.xyz", "--model", "water", "--symmetry-number", "1", "--width", "40",
         "--temperature", "500", "--pressure", "1000", "-o", "hot"]
    )
    thermo = json.loads(Path("hot.json").read_text())["thermochemistry"]
    assert (thermo["temperature_K"], thermo["pressure_Pa"]) == (500, 1000)
    assert thermo["symmetry_number"] == 1
    broad, narrow = (
        np.genfromtxt(f"{prefix}-spectrum.csv", delimiter=",", skip_header=1)[:, 1].max()
        for prefix in ("hot", "water-vib")
    )
    assert narrow / broad == pytest.approx(4, rel=0.1)


def test_earlier_output_is_kept(capsys):
    main(["vib", "water.xyz", "--model", "water"])
    main(["vib", "water.xyz", "--model", "water"])
    assert "water-vib-modes.~1~" in capsys.readouterr().out
    assert len(list(Path("water-vib-modes.~1~").iterdir())) == 3


def test_one_atom_is_an_error(capsys):
    Path("h.xyz").write_text("1\n\nH 0 0 0\n")
    assert main(["vib", "h.xyz", "--model", "water"]) == 2
    assert capsys.readouterr().err.startswith("fflux: error: 1 atom")


@pytest.mark.parametrize(
    "arguments", [["--temperature", "0"], ["--pressure", "-1"], ["--symmetry-number", "0"]]
)
def test_wrong_arguments(arguments, capsys):
    with pytest.raises(SystemExit) as done:
        main(["vib", "water.xyz", "--model", "water", *arguments])
    assert done.value.code == 2
    assert arguments[0] in capsys.readouterr().err


def test_lines_too_narrow_leave_earlier_output_in_place(capsys):
    main(["vib", "water.xyz", "--model", "water"])
    before = Path("water-vib.json").read_bytes()
    assert main(["vib", "water.xyz", "--model", "water", "--width", "1e-9"]) == 2
    assert "--width" in capsys.readouterr().err
    assert Path("water-vib.json").read_bytes() == before
    assert not list(Path().glob("*.~1~"))
