import os
import subprocess
import sys
import warnings
from pathlib import Path

import numba
import pytest

from ase_fflux.base import jit
from ase_fflux.base.errors import FFLUXWarning


def double(x):
    return 2 * x


@pytest.fixture
def call(tmp_path, monkeypatch):
    """Compiles and calls a function with a cache of its own; gives the warnings."""
    monkeypatch.setattr(numba.core.config, "CACHE_DIR", str(tmp_path))

    def call():
        monkeypatch.setattr(jit, "_told", set())
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            function = jit.njit(double)
            assert function(2.0) == 4.0 and function(3) == 6
        assert all(w.category is FFLUXWarning for w in caught)
        hits = sum(function.stats.cache_hits.values())
        return hits, [str(w.message) for w in caught]

    return call


@pytest.mark.parametrize(
    "ending, length", [("nbi", 0), ("nbi", 30), ("nbc", 0), ("nbc", 1000)]
)
def test_damaged_files_are_compiled_anew(call, tmp_path, ending, length):
    assert call() == (0, [])
    assert call() == (2, [])
    files = list(tmp_path.rglob(f"*.{ending}"))
    assert files
    for file in files:
        os.truncate(file, length)
    _, (told,) = call()
    assert told.startswith("compiled code in") and "damaged" in told and "compiled anew" in told
    assert call() == (2, [])


def test_what_is_no_pickle_is_compiled_anew(call, tmp_path):
    call()
    for file in tmp_path.rglob("*.nb?"):
        file.write_bytes(b"\0" * 4000)
    assert len(call()[1]) == 1
    assert call() == (2, [])


def test_a_disk_that_is_full_costs_the_cache_alone(call, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(numba.core.caching.IndexDataCacheFile, "save", full)
    hits, (told,) = call()
    assert hits == 0 and "No space left on device" in told and "NUMBA_CACHE_DIR" in told


CODE = """
import warnings
from ase_fflux.base.jit import njit

def triple(x):
    return 3 * x

def quarter(x):
    return x / 4

with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    print(njit(triple)(2.0), njit(quarter)(2.0))
for w in caught:
    print(w.category.__name__, w.message)
"""


def run(folder, **environment):
    (folder / "kernels.py").write_text(CODE)
    root = str(Path(__file__).resolve().parents[2])
    environment = os.environ | {"PYTHONPATH": root} | environment
    done = subprocess.run(
        [sys.executable, "kernels.py"], cwd=folder, env=environment, text=True,
        capture_output=True, check=True,
    )
    values, *told = done.stdout.splitlines()
    assert values == "6.0 0.5" and done.stderr == ""
    return told


def test_no_folder_to_write_to_is_told_once(tmp_path):
    for name in ("file", "__pycache__"):
        (tmp_path / name).write_text("")
    blocked = str(tmp_path / "file")
    told = run(tmp_path, NUMBA_CACHE_DIR="", HOME=blocked, XDG_CACHE_HOME=blocked)
    assert len(told) == 1 and "NUMBA_CACHE_DIR" in told[0]


def test_without_compilation_functions_stay_as_they_are(tmp_path):
    assert run(tmp_path, NUMBA_DISABLE_JIT="1") == []
    assert not list(tmp_path.rglob("*.nbi"))
