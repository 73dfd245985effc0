import shutil

import pytest

import ase_fflux.formats.locate as locate
from ase_fflux.base.errors import ModelError
from ase_fflux.formats.bundle import write_bundle
from ase_fflux.formats.model_directory import write_model_directory


@pytest.fixture
def bundled(tmp_path, make_molecule, monkeypatch):
    """A source tree: models/ beside the package; the working directory is elsewhere."""
    (tmp_path / "tree" / "ase_fflux").mkdir(parents=True)
    models = tmp_path / "tree" / "models"
    models.mkdir()
    write_bundle(models / "water.fflux", make_molecule(3, name="water"))
    shutil.copy(models / "water.fflux", models / "ethanol.fflux")
    monkeypatch.setattr(locate, "_PACKAGE", tmp_path / "tree" / "ase_fflux")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return models


def test_bundled_models_of_a_source_tree_and_of_an_installation(bundled):
    assert locate.bundled_models() == {
        "ethanol": bundled / "ethanol.fflux", "water": bundled / "water.fflux"
    }
    inside = bundled.parent / "ase_fflux" / "models"
    shutil.copytree(bundled, inside)
    assert locate.bundled_models()["water"] == inside / "water.fflux"
    shutil.rmtree(inside)
    shutil.rmtree(bundled)
    assert locate.bundled_models() == {}


def test_every_kind_of_model_is_found(bundled, tmp_path, make_molecule):
    assert locate.find_model("water") == bundled / "water.fflux"
    assert locate.load_molecule("water").name == "water"
    assert locate.load_molecule(bundled / "water.fflux").symbols == ("N", "H", "H")
    write_model_directory(tmp_path / "work" / "mine", make_molecule(4, name="mine"))
    assert locate.load_molecule("mine").symbols == ("N", "H", "H", "O")


def test_a_directory_without_models_does_not_hide_a_bundled_one(bundled, tmp_path):
    (tmp_path / "work" / "water").mkdir()
    assert locate.find_model("water") == bundled / "water.fflux"
    (tmp_path / "work" / "results").mkdir()
    with pytest.raises(ModelError, match="results: there are no .model files in this"):
        locate.find_model("results")
    inner = tmp_path / "work" / "results" / "model_krig"
    inner.mkdir()
    (inner / "a.model").write_text("")
    with pytest.raises(ModelError, match="but in results.model_krig: give that"):
        locate.find_model("results")


def test_home_is_expanded(bundled, monkeypatch):
    monkeypatch.setenv("HOME", str(bundled))
    assert locate.find_model("~/water.fflux") == bundled / "water.fflux"


def test_unknown_names_list_what_there_is(bundled):
    message = "no model 'etanol'.* ethanol, water. Did you mean ethanol?"
    with pytest.raises(ModelError, match=message):
        locate.find_model("etanol")
    with pytest.raises(ModelError, match="ethanol, water.$"):
        locate.find_model("qqqq")


def test_files_that_are_no_models(bundled, tmp_path):
    (tmp_path / "work" / "a.model").write_text("")
    with pytest.raises(ModelError, match="one property of one atom: give the directory"):
        locate.find_model("a.model")
    (tmp_path / "work" / "a.xyz").write_text("")
    with pytest.raises(ModelError, match="a.xyz is not a model"):
        locate.find_model("a.xyz")
