from types import SimpleNamespace

import numpy as np
import pytest

from ase_fflux.base.errors import FFLUXError
from ase_fflux.formats.dl_poly import is_run_directory, read_run_directory

WATER = SimpleNamespace(name="water", symbols=("O", "H", "H"))
NEON = SimpleNamespace(name="neon", symbols=("Ne",))


def test_what_it_says(run):
    assert is_run_directory(run) and not is_run_directory(run.parent)
    found = read_run_directory(run)
    assert found.assignment() == [[[0, 1, 2], [3, 4, 5]], [[6]]]
    assert found.numbers([WATER, NEON]).tolist() == [8, 1, 1, 8, 1, 1, 10]
    np.testing.assert_allclose(found.masses()[[0, 1, 6]], [15.9994, 1.00797, 20.18])


@pytest.mark.parametrize("name, old, new, message", [
    ("CONFIG", "Ne  7\n 9.0 1.0d0 9.0\n 0.0 0.0 0.0\n", "",
     "CONFIG has 6 atoms, and FIELD's molecules have 7: 1 of 1 Neon are missing"),
    ("FIELD", "nummols 2", "nummols 3",
     r"has 7 atoms, .* 10: molecule 3 of Water ends after 1 of its 3 atoms \(.*CONFIG, line 24\)"),
    ("FIELD", "nummols 2", "nummols 1", "CONFIG has 7 atoms, and FIELD's molecules have 4"),
    ("CONFIG", "HW  2", "OW  2", "CONFIG, line 9: atom 2 is OW, and atom 2 of molecule 1 of "
     "Water should be here, HW .*FIELD, line 9"),
    ("CONFIG", " 5.0 5.0 5.1", " 17.0 0.05 0.1",
     r"CONFIG, line 15: atom 4 \(OW\) and atom 1 \(OW, line 6\) are on one spot"),
    ("CONFIG", "  0.0  0.0  18.0", "  0.0  0.0  15.9", "CONTROL, line 8: a cut-off of 8 Angstrom "
     "needs a cell at least 16 wide, and that of .*CONFIG is 15.9000"),
    ("CONTROL", "rvdw 7.5", "rvdw 9.5", "CONTROL, line 9: a cut-off of 9.5 Angstrom needs a cell"),
])
def test_contradictions(run, edit, name, old, new, message):
    edit(name, old, new)
    with pytest.raises(FFLUXError, match=message):
        read_run_directory(run)


@pytest.mark.parametrize("models, message", [
    ([SimpleNamespace(name="w", symbols=("H", "O", "H")), NEON],
     r"FIELD, line 8: atom 1 of Water is OW with a mass of 15.9994, and the models have "
     r"atom 1 \(H\) there"),
    ([SimpleNamespace(name="w", symbols=("O", "H")), NEON],
     r"FIELD, line 5: Water has 3 atoms in FIELD, its models have 2 \(O H\)"),
])
def test_field_contradicts_the_models(run, models, message):
    with pytest.raises(FFLUXError, match=message):
        read_run_directory(run).numbers(models)


def test_isotopes_are_what_they_are(run, edit):
    edit("FIELD", "HW   1.00797", "HW   2.014")
    found = read_run_directory(run)
    assert found.numbers([WATER, NEON])[1] == 1 and found.masses()[1] == 2.014


@pytest.mark.parametrize("name", ["CONFIG", "CONTROL", "FIELD"])
def test_files_that_are_missing(run, name):
    (run / name).unlink()
    with pytest.raises(FFLUXError, match=f"no run directory of DL_FFLUX, for it has no {name}"):
        read_run_directory(run)
    with pytest.raises(FFLUXError, match="there is no such directory"):
        read_run_directory(run / "nowhere")


def test_models_of_a_molecule_are_missing(run):
    found = read_run_directory(run)
    with pytest.raises(FFLUXError, match="model_krig: there are no .model files"):
        found.description()
    (run / "model_krig").mkdir()
    (run / "model_krig" / "WATER_iqa_O1.model").write_text("[system]\nname WATER\n")
    with pytest.raises(FFLUXError, match="FIELD, line 14: there are no models of Neon in .* WATER"):
        found.description()


def test_pair_potentials_need_a_cutoff(run, edit):
    edit("CONTROL", "cutoff 8.0\nrvdw 7.5\n", "")
    (run / "model_krig").mkdir()
    for name in ("WATER", "NEON"):
        (run / "model_krig" / f"{name}_iqa_O1.model").write_text(f"[system]\nname {name}\n")
    with pytest.raises(FFLUXError, match="no line says where they end: give rvdw or cutoff"):
        read_run_directory(run).description()
