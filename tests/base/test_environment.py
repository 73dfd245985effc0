import json

from ase_fflux import __version__
from ase_fflux.base.environment import environment
from ase_fflux.cli.main import main


def test_what_matters_is_there():
    found = environment()
    assert found["ase_fflux"] == __version__
    assert {"numpy", "ase", "numba", "phonopy"} <= found["packages"].keys()
    assert found["machine"]["cores"] >= 1 and found["machine"]["memory"]["unit"] == "GB"
    assert all(library["num_threads"] >= 1 for library in found["threads"]["libraries"])


def test_cache_is_where_numba_was_told(monkeypatch, tmp_path):
    import numba

    monkeypatch.setattr(numba.core.config, "CACHE_DIR", str(tmp_path))
    assert environment()["caches"]["numba"].startswith(str(tmp_path))


def test_json_of_the_version(capsys):
    assert main(["--version", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["ase_fflux"] == __version__
