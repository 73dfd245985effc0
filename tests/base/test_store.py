"""Files are whole or not there, and damage is told from content."""

import io
import os
import struct
import zipfile

import numpy as np
import pytest

from ase_fflux.base import store
from ase_fflux.base.errors import FFLUXError, reason
from ase_fflux.base.store import (
    Appended,
    DamagedError,
    parse_json,
    read_arrays,
    read_json,
    replacing,
    write_arrays,
    write_bytes,
    write_text,
)

ARRAYS = {
    "x": np.arange(6.0).reshape(2, 3), "y": np.array(3), "z": np.zeros((0, 3)),
    "f": np.asfortranarray(np.arange(6).reshape(2, 3)),
}


def no_space(*args, **kwargs):
    raise OSError(28, "No space left on device")


def test_a_file_is_whole_or_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    write_text(path, "first\n")
    with pytest.raises(ZeroDivisionError), replacing(path) as partial:
        partial.write_text("seco")
        raise ZeroDivisionError
    with pytest.raises(KeyboardInterrupt), replacing(path) as partial:
        partial.write_text("seco")
        raise KeyboardInterrupt
    with monkeypatch.context() as full:
        full.setattr(os, "fsync", no_space)
        with pytest.raises(FFLUXError, match="a.txt: cannot be written: No space left"):
            write_text(path, "second\n")
    assert path.read_text() == "first\n" and list(tmp_path.iterdir()) == [path]
    write_text(path, "second\n")
    assert path.read_text() == "second\n" and list(tmp_path.iterdir()) == [path]


def test_content_is_on_the_disk_before_it_has_the_name(tmp_path, monkeypatch):
    done = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda number: (done.append("sync"), fsync(number)))
    monkeypatch.setattr(os, "replace", lambda *names: (done.append("name"), replace(*names)))
    write_bytes(tmp_path / "a", b"a")
    assert done == ["sync", "name", "sync"]


def test_folders_and_links(tmp_path):
    folder = tmp_path / "models"
    folder.mkdir()
    with replacing(folder, new=True) as partial:
        partial.mkdir()
        (partial / "one").touch()
    assert [p.name for p in folder.iterdir()] == ["one"]
    with pytest.raises(FFLUXError, match="models is not empty"), replacing(folder, new=True):
        pass
    (tmp_path / "there").write_text("1")
    (tmp_path / "link").symlink_to(tmp_path / "there")
    write_text(tmp_path / "link", "2")
    assert (tmp_path / "there").read_text() == "2" and (tmp_path / "link").is_symlink()
    with pytest.raises(FFLUXError, match="there exists"):
        write_text(tmp_path / "there", "3", new=True)


def test_reasons():
    assert reason(OSError("12 requested and 0 written")) == "No space left on device"
    assert reason(PermissionError(13, "Permission denied")) == "Permission denied"
    with pytest.raises(FFLUXError, match="nowhere/a: cannot be written: No such file"):
        write_text("nowhere/a", "")


def test_an_addition_that_fails_is_taken_back(tmp_path):
    path = tmp_path / "log"
    with Appended(path) as file:
        with pytest.raises(KeyboardInterrupt), file.addition():
            file.write(b"half")
            raise KeyboardInterrupt
        assert not path.exists()
    with Appended(path) as file:
        file.add("1 \u00e9\n")
        with pytest.raises(FFLUXError, match="log: cannot be written: No space left"):
            with file.addition(head=2):
                file.write(b"half")
                file.seek(0)
                file.write(b"22")
                no_space()
        file.add("2\n")
    assert path.read_text(encoding="utf-8") == "1 \u00e9\n2\n"


def test_arrays_come_back(tmp_path):
    write_arrays(tmp_path / "a.npz", ARRAYS)
    back = read_arrays(tmp_path / "a.npz")
    assert back.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert np.array_equal(back[name], array) and back[name].dtype == array.dtype


def npy(shape, dtype="'<f8'", content=b"", nested=0):
    head = f"{{'descr': {dtype}, 'fortran_order': False, 'shape': {shape}, }}"
    head = "(" * nested + head + ")" * nested
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head.encode() + content


@pytest.mark.parametrize("content", [
    npy("(10**9, 10**9)"), npy((1 << 40,)), npy((1 << 62, 1 << 62)), npy((-1,)), npy((-1, -8)),
    npy((2,), "'|O'", bytes(16)), npy((2,), "'<f8'", bytes(15)), npy((2, "'")), npy("(1, (2,)"),
    npy((1,), "[('a', '<f8')]", bytes(8)), npy((1,), nested=3000), npy((1.5,)), b"", b"\x93NUMPY",
])
def test_headers_that_lie(content, tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as file:
        file.writestr("x.npy", content)
    with pytest.raises(DamagedError, match="a.npz is damaged"):
        read_arrays(tmp_path / "a.npz")


def test_bombs_are_not_unpacked(tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("x.npy", npy((8 << 20,), "'|u1'", bytes(32 << 20)))
    assert (tmp_path / "a.npz").stat().st_size < 1e5
    monkeypatch.setattr(zipfile.ZipFile, "read", None)
    with pytest.raises(DamagedError, match="would unpack"):
        read_arrays(tmp_path / "a.npz")
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_LZMA) as file:
        file.writestr("x.npy", npy((1,), content=bytes(8)))
    with pytest.raises(DamagedError, match="compression"):
        read_arrays(tmp_path / "a.npz")


@pytest.mark.parametrize("text", ["", "[1, 2]", "{", "[" * 10**5, '{"a": NaN}', "\xb9", "9" * 9999])
def test_records_that_are_none(text, tmp_path):
    (tmp_path / "a.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(DamagedError, match="a.json is damaged"):
        read_json(tmp_path / "a.json")


def test_json():
    assert parse_json(b'{"a": [1, 2.5, null]}') == {"a": [1, 2.5, None]}


def test_numbers_of_files_are_hidden_from_numpy(tmp_path):
    """`ndarray.tofile` writes through a buffer of its own, whose failure it does not notice."""
    with Appended(tmp_path / "a") as file, pytest.raises(io.UnsupportedOperation):
        file.fileno()


def test_long_work_is_kept_now_and_then_and_at_the_end(monkeypatch):
    now, kept, done = [0.0], [], []
    monkeypatch.setattr(store, "monotonic", lambda: now[0])
    with (
        pytest.raises(KeyboardInterrupt),
        store.kept_meanwhile(lambda: kept.append(len(done)), 10.0) as more,
    ):
        for step in range(1, 8):
            now[0] += 4.0
            done.append(step)
            more()
        raise KeyboardInterrupt
    assert kept == [3, 6, 7]
