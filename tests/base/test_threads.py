import multiprocessing

import numpy as np
import pytest

from ase_fflux.base import threads
from ase_fflux.base.errors import FFLUXError
from ase_fflux.base.threads import number_of_threads, run, slices


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    for name in threads.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(threads, "cores", lambda: 6)
    return monkeypatch


def test_number(environment):
    assert number_of_threads(None) == 6
    environment.setenv("OMP_NUM_THREADS", "3,1")
    assert number_of_threads(None) == 3
    environment.setenv("NUMBA_NUM_THREADS", "2")
    assert number_of_threads(None) == 2
    assert number_of_threads(np.int64(5)) == 5
    environment.setenv("NUMBA_NUM_THREADS", "many")
    assert number_of_threads(None) == 3


def test_one_in_workers(environment):
    environment.setattr(multiprocessing, "parent_process", lambda: object())
    assert number_of_threads(None) == 1
    assert number_of_threads(4) == 4


@pytest.mark.parametrize("wanted", [0, -1, 2.0, "2", True])
def test_what_is_no_number(wanted):
    with pytest.raises(FFLUXError, match=r"threads=.*: give a whole number from 1 on"):
        number_of_threads(wanted)


@pytest.mark.parametrize("n, parts", [(10, 3), (2, 5), (7, 1), (0, 2)])
def test_slices_cover_all(n, parts):
    found = slices(n, parts)
    assert np.concatenate([np.arange(n)[part] for part in found]).tolist() == list(range(n))
    assert len(found) <= max(1, min(n, parts))


@pytest.mark.parametrize("count", [1, 3])
def test_results_in_order(count):
    assert run(lambda a, b: a - b, [(i, 1) for i in range(20)], count) == list(range(-1, 19))


@pytest.mark.parametrize("count", [1, 3])
def test_errors_arrive(count):
    def divide(x):
        return 1 / x

    with pytest.raises(ZeroDivisionError):
        run(divide, [(1,), (0,), (2,)], count)
