"""One process writes an output, one set of settings owns a folder."""

import json
import os
import socket
import subprocess
import sys

import pytest

from ase_fflux.base import claims
from ase_fflux.base.claims import claim, differences, held
from ase_fflux.base.errors import FFLUXError


def test_a_lock_names_its_process_and_goes(tmp_path):
    lock = tmp_path / "out/w-md.lock"
    with held(tmp_path / "out/w-md", "fflux md w.xyz"):
        assert json.loads(lock.read_text()) == {
            "process": os.getpid(), "host": socket.gethostname(), "command": "fflux md w.xyz",
        }
        with pytest.raises(FFLUXError) as refused, held(tmp_path / "out/w-md", "again"):
            pass
        for words in (f"process {os.getpid()}", "(fflux md w.xyz)", "wait", str(lock)):
            assert words in str(refused.value)
        assert lock.exists()
        with held(tmp_path / "out/w", "another output"):
            pass
    assert not lock.exists()
    with pytest.raises(ZeroDivisionError), held(tmp_path / "out/w-md", "c"):
        raise ZeroDivisionError
    assert not lock.exists()


_HOLD = """
import os, sys
from ase_fflux.base.claims import held
with held(sys.argv[1], "fflux md"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_killed_process_leaves_a_stale_lock(tmp_path):
    prefix = str(tmp_path / "w")
    other = subprocess.Popen(
        [sys.executable, "-c", _HOLD, prefix], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        text=True,
    )
    assert other.stdout.readline() == "held\n"
    with pytest.raises(FFLUXError, match=f"process {other.pid} on .*fflux md"), held(prefix, "b"):
        pass
    leftover = tmp_path / f".w.xyz.{other.pid}-0.part"
    leftover.touch()
    inside = tmp_path / f"w-train/models/.C1_iqa.npz.{other.pid}-3.part"
    inside.mkdir(parents=True)
    (tmp_path / f".other.{other.pid}-0.part").touch()
    (tmp_path / f".w.xyz.{os.getpid()}-9.part").touch()
    other.kill()
    other.communicate()
    assert (tmp_path / "w.lock").exists()
    with held(prefix, "b"):
        assert not leftover.exists() and not inside.exists()
        assert len(list(tmp_path.glob(".*.part"))) == 2
    assert not (tmp_path / "w.lock").exists()


def test_without_locks_of_the_system_the_process_is_looked_up(tmp_path, monkeypatch):
    monkeypatch.setattr(claims, "_flock", lambda number: None)
    lock = tmp_path / "w.lock"
    lock.write_text(json.dumps({"process": os.getpid(), "host": socket.gethostname()}))
    with pytest.raises(FFLUXError, match="being written"), held(tmp_path / "w", "c"):
        pass
    stale = json.dumps({"process": 2**22 + 1, "host": socket.gethostname()})
    for text in (stale, "", "[1]", "[" * 50000, "\xb9"):
        lock.write_text(text)
        with held(tmp_path / "w", "c"):
            pass
    lock.write_text(json.dumps({"process": 2**22 + 1, "host": "elsewhere"}))
    with pytest.raises(FFLUXError, match="on elsewhere"), held(tmp_path / "w", "c"):
        pass


def test_a_claim_names_what_differs(tmp_path):
    wanted = {"source": "GFN2", "settings": {"charge": 0, "seed": 1}}
    folder = tmp_path / "a-build"
    assert claim(folder, "build.json", wanted, "a build") == []
    assert claim(folder, "build.json", wanted, "a build") == []
    other = {"source": "GFN2", "settings": {"charge": 1, "seed": 1}}
    with pytest.raises(FFLUXError, match=r"a build with .*settings.charge was 0, is 1"):
        claim(folder, "build.json", other, "a build")
    assert claim(folder, "build.json", wanted, "a build") == []
    assert claim(folder, "build.json", other, "a build", replace=True) == [
        "settings.charge was 0, is 1"
    ]
    assert claim(folder, "build.json", other, "a build") == []
    (folder / "build.json").write_text("{")
    with pytest.raises(FFLUXError, match="build.json is damaged.*delete"):
        claim(folder, "build.json", other, "a build")


def test_foreign_folders_are_refused(tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(FFLUXError, match="is not of a build"):
        claim(tmp_path, "build.json", {}, "a build")
    with pytest.raises(FFLUXError, match="is not of a build"):
        claim(tmp_path / "thesis.tex", "build.json", {}, "a build")
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_differences():
    assert differences({"a": {"b": 1}, "c": 2}, {"a": {"b": 1}, "d": [1] * 99}) == [
        "c was 2, is not there", f"d was not there, is {str([1] * 99)[:40]}...",
    ]
