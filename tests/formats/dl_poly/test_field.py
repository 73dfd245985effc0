import pytest

from ase_fflux.base.errors import FFLUXError
from ase_fflux.base.units import KJ_PER_MOL
from ase_fflux.formats.dl_poly.field import read_field


def test_what_it_says(run):
    field = read_field(run / "FIELD")
    water, neon = field.molecules
    assert (water.name, water.number, neon.name, neon.number) == ("Water", 2, "Neon", 1)
    assert [site.name for site in water.sites] == ["OW", "HW", "HW"]  # a line that is repeated
    assert [site.mass for site in water.sites] == [15.9994, 1.00797, 1.00797]
    assert field.n_atoms == 7
    kind, values, record = field.potentials["OW", "OW"]
    assert kind == "lj" and values == pytest.approx((0.763 * KJ_PER_MOL, 3.17))
    assert record.number == 20
    kind, values, _ = field.potentials["HW", "OW"]
    assert kind == "buckingham"
    assert values == pytest.approx((1000 * KJ_PER_MOL, 0.3, 20 * KJ_PER_MOL))
    kind, (epsilon, sigma), _ = field.potentials["Ne", "OW"]  # A/r^12 - B/r^6
    assert kind == "lj"
    assert 4 * epsilon * sigma**12 == pytest.approx(4e5 * KJ_PER_MOL)
    assert 4 * epsilon * sigma**6 == pytest.approx(400 * KJ_PER_MOL)


@pytest.mark.parametrize("unit, factor", [
    ("Units kcal", 4.184 * KJ_PER_MOL), ("UNITS eV", 1.0), ("units internal", 0.01 * KJ_PER_MOL),
    ("units", 0.01 * KJ_PER_MOL), ("# none", 0.01 * KJ_PER_MOL),
])
def test_units(run, edit, unit, factor):
    edit("FIELD", "Units kJ", unit)
    assert read_field(run / "FIELD").potentials["OW", "OW"][1][0] == pytest.approx(0.763 * factor)


@pytest.mark.parametrize("old, new, message", [
    ("Units kJ", "Units hartree", "line 2: energies in 'hartree': known units are eV"),
    ("harm 1 3 0.0 1.0", "harm 1 3 50.0 1.0", "line 12: bonds with a force constant of 50.0"),
    ("bonds 2\n", "constraints 2\n", "line 10: constraints of the molecule Water"),
    ("bonds 2\n", "sticks 2\n", "line 10: a section 'sticks' of a molecule is not known"),
    ("  1  0\n", "  1  1\n", "line 8: frozen atoms are not known here"),
    ("HW   1.00797  0.6  2  0", "HW   1.00797  0.6  3  0", "line 7: 3 atoms are announced"),
    ("HW   1.00797", "HW   0.0", "line 9: the mass of HW is 0.0"),
    ("OW OW lj", "OW OW mors", "line 20: pair potentials 'mors' are not known here"),
    ("OW OW lj 0.763 3.17", "OW OW lj 0.763", "line 20: parameter 2 of lj is missing"),
    ("OW HW buck", "OW OW buck", "line 21: the pair OW-OW is there twice, also on line 20"),
    ("4.0e5 400.0", "4.0e5 0.0", "line 22: both parameters of 12-6 must be positive"),
    ("vdw 3", "metal 3", "line 19: a section 'metal' is not known here"),
    ("nummols 2", "number 2", "line 6: NUMMOLS should follow the name of the molecule Water"),
    ("nummols 2", "nummols 2.5", "line 6: the number of molecules is 2.5, not a whole number"),
])
def test_refused(run, edit, old, new, message):
    edit("FIELD", old, new)
    with pytest.raises(FFLUXError, match=rf"FIELD, {message}"):
        read_field(run / "FIELD")


def test_cut_off(run, edit):
    edit("FIELD", "close\n", "")
    with pytest.raises(FFLUXError, match="FIELD: ends where CLOSE should be"):
        read_field(run / "FIELD")
    (run / "FIELD").write_text("title\nunits kJ\nclose\n")
    with pytest.raises(FFLUXError, match="FIELD: there are no molecules"):
        read_field(run / "FIELD")
