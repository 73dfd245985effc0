"""How many threads linear algebra gets."""

import os

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from ase_fflux.base import machine
from ase_fflux.learn.gp.optimisers import LBFGS
from ase_fflux.learn.gp.settings import TrainingSettings
from ase_fflux.learn.gp.training import train


def threads():
    """Of the libraries of linear algebra."""
    return [lib["num_threads"] for lib in threadpool_info() if lib["user_api"] == "blas"]


@pytest.fixture
def two_threads():
    """Libraries that would use two threads."""
    with machine._libraries().limit(limits=2, user_api="blas"):
        if set(threads()) != {2}:
            pytest.skip("a library of linear algebra without threads")
        yield


def test_small_matrices_get_one_thread_and_large_ones_what_there_is(two_threads, monkeypatch):
    for name in machine.THREADS:
        monkeypatch.delenv(name, raising=False)
    for rows, count in ((10, 1), (1_000_000, 2)):
        with machine.threads_of(rows):
            assert set(threads()) == {count}
            with machine.threads_of(5):
                assert set(threads()) == {1}
            assert set(threads()) == {count}
        assert set(threads()) == {2}
        assert machine.threads_for(rows, 2) == count
    with pytest.raises(ZeroDivisionError), machine.threads_of(10):
        1 / 0  # noqa: B018
    assert set(threads()) == {2}


@pytest.mark.parametrize("transfer", [None, TrainingSettings().transfer], ids=["DL", "TL"])
def test_small_sets_are_trained_on_one_thread(two_threads, transfer, monkeypatch):
    """Threads of OpenBLAS spin: beside a busy process small sets took 170 times longer."""
    seen = []
    rng = np.random.default_rng(0)
    x = rng.normal(size=(120, 3))
    settings = TrainingSettings(transfer=transfer, optimiser=LBFGS(budget=5))
    train(x, np.sin(x).sum(axis=1), settings, on_step=lambda *step: seen.extend(threads()))
    assert set(seen) == {1} and set(threads()) == {2}


def test_this_machine():
    assert 1 <= machine.cores() <= os.cpu_count()
    assert 1e7 < machine.memory_available() < 1e15


def test_memory_of_the_machine_is_what_a_control_group_leaves(tmp_path, monkeypatch):
    free = machine.memory_of_machine()
    limits = {"one": "1000000\n", "none": "max\n", "two": "9223372036854771712"}
    for name, text in limits.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(machine, "_CONTROL_GROUPS", (str(tmp_path / "missing"),))
    physical = machine.memory_of_machine()
    assert free <= physical
    monkeypatch.setattr(machine, "_CONTROL_GROUPS", (str(tmp_path / "none"), str(tmp_path / "two")))
    assert machine.memory_of_machine() == physical
    monkeypatch.setattr(machine, "_CONTROL_GROUPS", (str(tmp_path / "none"), str(tmp_path / "one")))
    assert machine.memory_of_machine() == 1e6
