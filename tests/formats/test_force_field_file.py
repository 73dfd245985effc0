import numpy as np
import pytest

from ase_fflux.base.errors import FFLUXError, ModelError
from ase_fflux.base.units import KJ_PER_MOL
from ase_fflux.formats import locate, write_bundle
from ase_fflux.formats.force_field_file import read_force_field_file

TEXT = """\
# two species
[species.alcohol]
model = "models/chiral.fflux"

[species.methyl]
model = "methyl.fflux"
types = ["C", "FM", "HM", "HM", "HM"]

[electrostatics]
rank = 2
accuracy = 1e-5

[pairs]
units = "kJ/mol"
cutoff = 8.0
truncation = "plain"
tail = true
mixing = "Lorentz-Berthelot"

[pairs.lj]
"FM-FM" = [0.4, 3.0]
C-C = [0.5, 3.4]

[pairs.buckingham]
HM-FM = [2000.0, 0.3, 20.0]
"""


@pytest.fixture
def file(tmp_path, chiral_model, methyl_model):
    (tmp_path / "ff" / "models").mkdir(parents=True)
    write_bundle(tmp_path / "ff" / "models" / "chiral.fflux", chiral_model)
    write_bundle(tmp_path / "ff" / "methyl.fflux", methyl_model)
    path = tmp_path / "ff" / "mixture.toml"
    path.write_text(TEXT)
    return path


def test_what_it_says(file, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # paths are relative to the file
    found = read_force_field_file("ff/mixture.toml")
    first, second = found.species
    assert first.types is None and second.types == ("C", "FM", "HM", "HM", "HM")
    assert first.where.endswith("mixture.toml, line 3")
    assert [entry.load().name for entry in found.species] == ["CHFClBr", "CFHHH"]
    assert (found.electrostatics, found.rank, found.level, found.accuracy) == (True, 2, None, 1e-5)
    pairs = found.pairs
    assert (pairs.cutoff, pairs.shifted, pairs.tail) == (8.0, False, True)
    assert pairs.mixing == "Lorentz-Berthelot"
    kind, values = pairs.potentials["FM", "HM"]
    assert kind == "buckingham"
    np.testing.assert_allclose(values, (2000 * KJ_PER_MOL, 0.3, 20 * KJ_PER_MOL))
    np.testing.assert_allclose(pairs.potentials["FM", "FM"][1], (0.4 * KJ_PER_MOL, 3.0))
    assert pairs.where["FM", "HM"].endswith("line 25")


def test_the_least_that_a_file_can_say(file):
    file.write_text('[species.methyl]\nmodel = "methyl.fflux"\n')
    found = read_force_field_file(file)
    assert found.electrostatics and found.rank is found.level is found.pairs is None
    file.write_text(file.read_text() + "[electrostatics]\noff = true\n")
    assert not read_force_field_file(file).electrostatics


def test_bundled_models_by_name(file, monkeypatch, methyl_model):
    folder = file.parent.parent / "models"
    folder.mkdir()
    write_bundle(folder / "known.fflux", methyl_model)
    monkeypatch.setattr(locate, "_PACKAGE", folder.parent / "ase_fflux")
    file.write_text('species.a.model = "known"\n')
    assert read_force_field_file(file).species[0].load().name == "CFHHH"


@pytest.mark.parametrize("old, new, message", [
    ("[species.alcohol]", "[molecules.alcohol]", "line 2: 'molecules' is not known in a force-fi"),
    ("types = [", "kinds = [", r"line 7: 'kinds' is not known in \[species.methyl\]: model, types"),
    ('model = "methyl.fflux"\n', "", "line 5: the species methyl needs a model"),
    ('"methyl.fflux"', "3", "line 5: the species methyl needs a model"),
    ('["C", "FM", "HM", "HM", "HM"]', '"C"', "line 7: types is 'C': give a list of names"),
    ('"FM", "HM", "HM", "HM"]', '"F-M"]', "line 7: the type 'F-M' has a hyphen"),
    ("rank = 2", "rnak = 2", r"line 10: 'rnak' is not known in \[electrostatics\]"),
    ("rank = 2", "rank = 5", "line 10: rank is 5: it goes from 0 to 4"),
    ("rank = 2", "rank = true", "line 10: rank is True: it goes from 0 to 4"),
    ("rank = 2", "rank = 2\nlevel = 3", "line 11: give the interaction rank or the level"),
    ("rank = 2", "off = true", "line 10: electrostatics are off: leave the other keys away"),
    ("rank = 2", 'off = "yes"', "line 10: off is 'yes': it is true or false"),
    ("1e-5", "1.0", "line 11: accuracy is 1.0: give 1e-12 to 1e-2"),
    ("kJ/mol", "hartree", "line 14: units is 'hartree': choose from eV, kJ/mol, kcal/mol"),
    ("cutoff = 8.0", "cutoff = 0", "line 15: cutoff is 0: it is a positive length"),
    ("cutoff = 8.0\n", "", "line 15: a truncation without a cutoff"),
    ('"plain"', '"smooth"', "line 16: truncation is 'smooth': choose from force-shifted, plain"),
    ('"plain"', '"force-shifted"', "line 17: tail corrections are of plain potentials"),
    ('"Lorentz-Berthelot"', '"magic"', "line 18: mixing is 'magic': choose from Lorentz-Berth"),
    ("C-C = [0.5, 3.4]", "C-C = [0.5]", "line 22: lj takes 2 numbers, epsilon, sigma"),
    ("C-C = [0.5, 3.4]", 'C-C = ["0.5", 3.4]', "line 22: lj takes 2 numbers, epsilon, sigma"),
    ("C-C = [0.5, 3.4]", "CC = [0.5, 3.4]", "line 22: 'CC' is no pair"),
    ("HM-FM", "FM-FM", "line 25: the pair FM-FM is given twice, also at .*line 21"),
    ("[pairs.buckingham]", "[pairs.morse]", r"line 24: 'morse' is not known in \[pairs\]"),
    ("[pairs.lj]\n", "lj = 3\n[pairs.more]\n", r"'more' is not known in \[pairs\]"),
])
def test_refused(file, old, new, message):
    assert old in TEXT
    file.write_text(TEXT.replace(old, new, 1))
    with pytest.raises(FFLUXError, match=f"mixture.toml, {message}|{message}"):
        read_force_field_file(file)


def test_files_that_are_none(file):
    with pytest.raises(FFLUXError, match="nothing.toml: cannot be read: No such file"):
        read_force_field_file(file.parent / "nothing.toml")
    file.write_text("[species\n")
    with pytest.raises(FFLUXError, match=r"mixture.toml: .*line 1"):
        read_force_field_file(file)
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(FFLUXError, match="is no text in UTF-8"):
        read_force_field_file(file)
    file.write_text("[electrostatics]\nrank = 1\n")
    with pytest.raises(FFLUXError, match=r"there is no table \[species\]"):
        read_force_field_file(file)
    file.write_text("[species]\n")
    with pytest.raises(FFLUXError, match="there are no species"):
        read_force_field_file(file)
    file.write_text('[species.a]\nmodel = "gone.fflux"\n')
    with pytest.raises(ModelError, match="mixture.toml, line 2: there is no model '.*gone.fflux'"):
        read_force_field_file(file)
    file.write_text(TEXT[: TEXT.index("[pairs.lj]")])
    with pytest.raises(FFLUXError, match=r"line 13: there are no potentials: .*\[pairs.lj\]"):
        read_force_field_file(file)
