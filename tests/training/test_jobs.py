"""Many trainings: order, processes, interrupts."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import Executor, Future
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest

from ase_fflux.base.errors import TrainingError
from ase_fflux.base.workers import THREADS, WorkerPool
from ase_fflux.learn.gp.optimisers import GreyWolf
from ase_fflux.learn.gp.settings import TrainingSettings
from ase_fflux.learn.gp.training import train
from ase_fflux.training import jobs as module
from ase_fflux.training.jobs import Job, Plan, plan_jobs, run_jobs

RNG = np.random.default_rng(0)
FEATURES = RNG.normal(size=(100, 6))
HERE = Plan(1, 1, 1, 0, "")


def job(name, after=(), shift=0.0, **options):
    targets = np.stack([np.sin(FEATURES.sum(axis=1) / 3 + shift), FEATURES[:, 0] * FEATURES[:, 1]])
    given = dict(atom=0, properties=("iqa", "q00"), features=FEATURES, targets=targets,
                 settings=TrainingSettings(), after=tuple(after))
    return Job(name=name, **given | options)


def bad(name, **options):
    """A job whose training points are all the same."""
    return job(name, features=np.ones((100, 6)), **options)


def sized(count, points, **settings):
    """Jobs of which only the sizes count."""
    features, settings = np.zeros((points, 1)), TrainingSettings(**settings)
    targets = np.zeros((1, points))
    return [Job(f"{i}", 0, ("iqa",), features, targets, settings) for i in range(count)]


CHAIN = [job("moments", ["iqa", "start"], 2.0), job("iqa", ["start"], 1.0), job("start"),
         job("alone", shift=3.0)]
"""Not in the order in which they can be trained."""


@pytest.fixture
def calls(monkeypatch):
    """What `train` was called with in this process: (targets, guesses)."""
    seen = []

    def counted(features, targets, settings, guesses):
        seen.append((targets, guesses))
        return train(features, targets, settings, guesses)

    monkeypatch.setattr(module, "train", counted)
    return seen


@pytest.fixture(scope="module")
def pool():
    with WorkerPool(2) as executor:
        yield executor


@pytest.fixture(scope="module")
def expected():
    return run_jobs(CHAIN, plan=HERE)


def equal(one, other):
    return one.keys() == other.keys() and all(
        np.array_equal(one[name].process.weights, other[name].process.weights)
        and np.array_equal(one[name].process.mean, other[name].process.mean)
        and np.array_equal(one[name].log_theta, other[name].log_theta) for name in one
    )


class Interrupting:
    """An `on_finished` that notes names and presses Ctrl-C after so many."""

    def __init__(self, after=None):
        self.after, self.new, self.restored = after, [], []

    def __call__(self, job, result, restored):
        (self.restored if restored else self.new).append(job.name)
        if len(self.new) == self.after:
            raise KeyboardInterrupt


def test_guesses_come_from_the_jobs_before(calls):
    own = np.zeros(3)
    jobs = [replace(each, guesses=(own,)) for each in CHAIN]
    results = run_jobs(jobs, plan=HERE)
    assert list(results) == ["moments", "iqa", "start", "alone"]
    guesses = {each.name: g for each in jobs for y, g in calls if np.array_equal(y, each.targets)}
    for each in jobs:
        *given, last = guesses[each.name]
        assert last is own and len(given) == len(each.after)
        for guess, name in zip(given, each.after, strict=True):
            assert guess is results[name].log_theta


@pytest.mark.parametrize("jobs, message", [
    ([job("a", ["b"]), job("b", ["c"]), job("c", ["a"])], "wait for each other"),
    ([job("a", ["a"])], "wait for each other"),
    ([job("a"), job("b", ["a", "d e"])], "b: there is no job d e"),
    ([job("a"), job("a", shift=1.0)], "share a name"),
])
def test_impossible_orders(jobs, message, calls):
    for use in (run_jobs, plan_jobs):
        with pytest.raises(TrainingError, match=message):
            use(jobs)
    assert not calls


def test_shapes_of_a_job():
    with pytest.raises(ValueError, match="C1 iqa: targets"):
        job("C1 iqa", properties=("iqa",))


def test_workers_give_the_same_bits(pool, expected, tmp_path):
    watch = Interrupting()
    assert equal(run_jobs(CHAIN, executor=pool, folder=tmp_path, on_finished=watch), expected)
    assert sorted(watch.new) == sorted(expected) and watch.new.index("start") < watch.new.index(
        "iqa") < watch.new.index("moments")
    again = Interrupting()
    assert equal(run_jobs(CHAIN, plan=HERE, folder=tmp_path, on_finished=again), expected)
    assert again.new == []


def test_workers_have_one_thread_and_we_keep_ours(pool, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    before = dict(os.environ)
    with WorkerPool(1) as late:
        assert os.environ == before
        future = late.submit(os.getenv, "OMP_NUM_THREADS")
        assert os.environ == before
        assert future.result() == "1"
        assert late.submit(os.getenv, "MKL_NUM_THREADS").result() == "1"


def test_strided_arrays_are_trained_as_contiguous_ones():
    wide = np.zeros((100, 4))
    wide[:, ::2] = CHAIN[0].targets.T
    strided = replace(CHAIN[0], targets=wide[:, ::2].T, features=FEATURES.copy("F"), after=())
    assert equal(run_jobs([strided]), run_jobs([replace(CHAIN[0], after=())]))


@pytest.mark.parametrize("where", ["here", "pool"])
def test_resume_after_an_interrupt(where, request, tmp_path, expected):
    options = {"plan": HERE} if where == "here" else {"executor": request.getfixturevalue("pool")}
    first, second = Interrupting(after=2), Interrupting()
    with pytest.raises(KeyboardInterrupt):
        run_jobs(CHAIN, folder=tmp_path / "new", on_finished=first, **options)
    done = {path.stem for path in (tmp_path / "new").iterdir()}
    assert done >= set(first.new) and len(first.new) == 2
    results = run_jobs(CHAIN, folder=tmp_path / "new", on_finished=second, **options)
    assert set(second.restored) == done and set(second.new) == results.keys() - done
    assert equal(results, expected)


class AtOnce(Executor):
    """Everything is finished as soon as it is submitted."""

    def submit(self, function, /, *args):
        future = Future()
        future.set_result(function(*args))
        return future


def test_what_finished_before_an_interrupt_is_kept_though_nobody_looked_at_it(tmp_path):
    jobs = [job(f"{i}") for i in range(3)]
    with pytest.raises(KeyboardInterrupt):
        run_jobs(jobs, folder=tmp_path, executor=AtOnce(), on_finished=Interrupting(after=1))
    assert len(list(tmp_path.iterdir())) == 3


def test_only_what_changed_and_what_starts_from_it_is_trained_again(tmp_path, expected, calls):
    run_jobs(CHAIN, folder=tmp_path)
    del calls[:]
    (tmp_path / "alone.npz").write_bytes((tmp_path / "alone.npz").read_bytes()[:-100])
    changed = [CHAIN[0], job("iqa", ["start"], 1.1), *CHAIN[2:]]
    watch = Interrupting()
    assert equal(run_jobs(changed, folder=tmp_path, on_finished=watch), run_jobs(changed))
    assert watch.restored == ["start"] and sorted(watch.new) == ["alone", "iqa", "moments"]
    del calls[:]
    assert equal(run_jobs(changed, folder=tmp_path), run_jobs(changed, folder=tmp_path))
    assert not calls


@pytest.mark.parametrize("where", ["here", "pool"])
def test_an_error_names_its_job_and_spares_the_others(where, request, tmp_path):
    options = {"plan": HERE} if where == "here" else {"executor": request.getfixturevalue("pool")}
    jobs = [job("H 2 iqa"), bad("C1 iqa", after=["H 2 iqa"]), job("H3 iqa", ["C1 iqa"])]
    with pytest.raises(TrainingError, match="^C1 iqa: .*remove duplicate"):
        run_jobs(jobs, folder=tmp_path, **options)
    assert [path.name for path in tmp_path.iterdir()] == ["H_2_iqa.npz"]


def test_a_worker_that_dies():
    with pytest.raises(TrainingError, match="a worker process was ended"), WorkerPool(1) as own:
        own.submit(os._exit, 3)
        run_jobs([job("iqa")], executor=own)


SCRIPT = """
import signal, sys, numpy as np
from pathlib import Path
from ase_fflux.learn.gp.optimisers import GreyWolf
from ase_fflux.learn.gp.settings import TrainingSettings
from ase_fflux.training.jobs import Job, Plan, run_jobs

if __name__ == "__main__":
    x = np.random.default_rng(0).normal(size=(400, 6))
    slow = TrainingSettings(optimiser=GreyWolf(budget=1_000_000, patience=1_000_000), transfer=None)
    jobs = [Job(f"{i}", 0, ("iqa",), x[: 400 if i else 40], x.T[:1, : 400 if i else 40],
                slow if i else TrainingSettings()) for i in range(4)]
    # a shell in the background lets its commands ignore Ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)
    print("begins", flush=True)
    try:
        run_jobs(jobs, folder=Path(sys.argv[1]), plan=Plan(4, 2, 1, 0, ""),
                 on_finished=lambda job, result, restored: print(job.name, flush=True))
    except KeyboardInterrupt:
        print("interrupted")
"""


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="process groups are of POSIX")
@pytest.mark.parametrize("early, sent", [
    (True, signal.SIGINT), (False, signal.SIGINT), (False, signal.SIGKILL)
])
def test_workers_end_with_us(early, sent, tmp_path):
    """Ctrl-C reaches all processes of a terminal, kill -9 only this one."""
    (tmp_path / "script.py").write_text(SCRIPT)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    process = subprocess.Popen(
        [sys.executable, tmp_path / "script.py", tmp_path / "new"], text=True, env=environment,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )
    try:
        assert process.stdout.readline() == "begins\n"
        if early:
            time.sleep(0.4)  # the workers import
        else:
            assert process.stdout.readline() == "0\n"
        send = os.killpg if sent == signal.SIGINT else os.kill
        send(process.pid, sent)
        out, errors = process.communicate(timeout=900)
        if sent == signal.SIGINT:
            assert out == "interrupted\n" and errors == ""
        assert sorted(p.name for p in (tmp_path / "new").iterdir()) == ["0.npz"] * (not early)
        deadline = time.monotonic() + 900
        with pytest.raises(ProcessLookupError):
            while time.monotonic() < deadline:
                os.killpg(process.pid, 0)
                time.sleep(0.05)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


@pytest.fixture
def machine(monkeypatch):
    """Function that makes a machine of so many cores and bytes, without limits of threads."""
    for name in THREADS:
        monkeypatch.delenv(name, raising=False)

    def make(cores, available=1e12):
        monkeypatch.setattr(module, "cores", lambda: cores)
        monkeypatch.setattr(module, "memory_available", lambda: available)

    return make


def test_plan_many_jobs(machine):
    machine(8)
    jobs = sized(24, 1000, transfer=None)
    assert plan_jobs(jobs).workers == 8 and plan_jobs(jobs).threads == 1
    assert plan_jobs(jobs).memory == 24e6 + 3e8
    machine(64)
    assert plan_jobs(jobs).workers == 24
    assert str(plan_jobs(jobs)) == "24 models on 24 processes, about 0.3 GB each (1 thread each)"


def test_plan_memory(machine):
    jobs = sized(24, 10_000)
    each = 3 * 8e8 + 3e8
    machine(8, available=6.5 * each)
    assert plan_jobs(jobs).workers == 6 and "memory" in str(plan_jobs(jobs))
    machine(8, available=0.5 * each)
    assert plan_jobs(jobs).workers == 1 and plan_jobs(jobs).threads == 8


def test_plan_this_process(machine, monkeypatch):
    machine(8)
    assert plan_jobs(sized(24, 100)).workers == 1, "short"
    assert plan_jobs(sized(1, 5000)).workers == 1, "one"
    assert plan_jobs(sized(2, 5000)).workers == 1, "few"
    assert plan_jobs(sized(8, 5000)).workers == 8
    chain = sized(8, 5000)
    chain = [chain[0], *(replace(j, after=(str(i),)) for i, j in enumerate(chain[1:]))]
    assert plan_jobs(chain).workers == 1, "each waits for the one before"
    assert plan_jobs(chain).threads == 8
    assert plan_jobs(sized(1, 1000)).threads == 1, "threads of small matrices wait for each other"
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert plan_jobs(sized(2, 5000)).workers == 2, "threads are switched off"
    assert str(plan_jobs(sized(1, 5000))) == "1 model in this process, about 0.9 GB (1 thread)"


def test_plan_counts_evaluations(machine):
    machine(2)
    wolves = GreyWolf()
    assert plan_jobs(sized(4, 500)).workers == 1
    assert plan_jobs(sized(4, 500, transfer=None, optimiser=wolves)).workers == 2


def test_dask(expected, tmp_path):
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        processes=True, n_workers=2, threads_per_worker=1, dashboard_address=None,
        local_directory=tmp_path,
    ) as cluster, distributed.Client(cluster) as client:
        assert equal(run_jobs(CHAIN, executor=client), expected)
        with pytest.raises(TrainingError, match="^C1 iqa: "):
            run_jobs([bad("C1 iqa"), job("H2 iqa")], executor=client, folder=tmp_path / "new")
        assert client.submit(sum, (1, 2)).result() == 3, "the client stays open"
