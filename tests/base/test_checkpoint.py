"""Checkpoints come back bitwise, and what has changed in them is noticed."""

import numpy as np
import pytest

from ase_fflux.base.checkpoint import known_checkpoint, read_checkpoint, write_checkpoint
from ase_fflux.base.store import DamagedError, read_arrays, write_arrays

ARRAYS = {
    "x": np.arange(6.0).reshape(2, 3), "y": np.array(3), "z": np.zeros((0, 3)),
    "f": np.asfortranarray(np.arange(6).reshape(2, 3)),
}


def test_checkpoints(tmp_path):
    path = tmp_path / "a.npz"
    write_checkpoint(path, "this", ARRAYS, {"n": np.float64(0.1), "list": [1]})
    fingerprint, arrays, record = read_checkpoint(path)
    assert fingerprint == "this" and record == {"n": 0.1, "list": [1]}
    assert all(np.array_equal(arrays[name], ARRAYS[name]) for name in ARRAYS)
    with pytest.raises(FileNotFoundError):
        read_checkpoint(tmp_path / "b.npz")
    # a number changed with care, so that every checksum of the archive is right
    stored = read_arrays(path)
    stored["x"][0, 0] += 1
    write_arrays(path, stored)
    with pytest.raises(DamagedError, match="not what was written"):
        read_checkpoint(path)
    del stored["sha256"]
    write_arrays(path, stored)
    with pytest.raises(DamagedError, match="of another version"):
        read_checkpoint(path)


def test_checkpoints_of_the_same_content_are_the_same_bytes(tmp_path):
    for name in "ab":
        write_checkpoint(tmp_path / name, "this", ARRAYS, {"n": 1})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_damage_of_every_byte_is_noticed_or_harmless(tmp_path):
    path = tmp_path / "a.npz"
    write_checkpoint(path, "this", {"x": ARRAYS["x"]}, {"n": 1})
    whole = path.read_bytes()
    for at in range(0, len(whole), 3):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1:])
        try:
            fingerprint, arrays, record = read_checkpoint(path)
        except DamagedError:
            continue
        assert (fingerprint, record) == ("this", {"n": 1})
        assert np.array_equal(arrays["x"], ARRAYS["x"])


def test_what_is_known_is_of_the_same_calculation(tmp_path):
    path = tmp_path / "a.npz"
    assert known_checkpoint(path, "this") is None
    write_checkpoint(path, "this", {"x": ARRAYS["x"]}, {"n": 1})
    arrays, record = known_checkpoint(path, "this")
    assert np.array_equal(arrays["x"], ARRAYS["x"]) and record == {"n": 1}
    assert known_checkpoint(path, "that") is None
    path.write_bytes(path.read_bytes()[:-40])
    assert known_checkpoint(path, "this") is None
