import json
import sys
from pathlib import Path

import pytest
from ase.build import molecule
from ase.io import read, write

from ase_fflux.cli.main import main
from ase_fflux.labels import conformer_search, sampling

pytest.importorskip("tblite.interface", exc_type=ImportError)


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch):
    """An empty folder with ethanol.xyz; short dynamics are all that is there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sampling, "EQUILIBRATION", 20.0)
    monkeypatch.setattr(sampling, "TIME_STEP", 1.0)
    monkeypatch.setattr(conformer_search, "_STRIDE", 20.0)
    monkeypatch.setitem(sys.modules, "rdkit", None)
    monkeypatch.setattr(conformer_search.Search, "__init__", _short(conformer_search.Search))
    write("ethanol.xyz", molecule("CH3CH2OH"))


def _short(search):
    plain = search.__init__

    def made(self, **given):
        plain(self, **{"patience": 4} | given)

    return made


def test_ethanol(capsys):
    assert main(["conformers", "ethanol.xyz"]) == 0
    out = capsys.readouterr().out
    assert "2 minima of GFN2-xTB" in out and "dynamics at 1000 K" in out
    frames = read("ethanol-conformers.xyz", ":")
    energies = [frame.get_potential_energy() for frame in frames]
    assert len(frames) == 2 and energies == sorted(energies)
    summary = json.loads(Path("ethanol-conformers.json").read_text())
    assert sorted(summary["mirror_images"]) == [1, 2]
    assert summary["energies_eV"] == pytest.approx(energies)
    assert all(w > 0 for w in summary["softest_modes_per_cm"])
    assert Path("ethanol-conformers.toml").exists()


def test_window_without_conformers_is_refused(capsys):
    assert main(["build", "ethanol.xyz", "--window", "10"]) == 2
    error = capsys.readouterr().err
    assert "--window goes with --conformers" in error and error.count("\n") == 1


def test_what_cannot_be_labelled_is_refused_at_once(capsys):
    assert main(["conformers", "ethanol.xyz", "--charge", "1"]) == 2
    error = capsys.readouterr().err
    assert "electrons" in error and error.count("\n") == 1
    assert not list(Path().glob("ethanol-conformers*"))
