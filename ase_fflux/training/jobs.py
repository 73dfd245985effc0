"""Many trainings: in which order, in which processes, and what of them is kept on disk."""

from collections.abc import Callable, Sequence
from concurrent import futures
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import numpy as np

from ase_fflux.base.errors import TrainingError
from ase_fflux.base.machine import cores, memory_available, threads_for
from ase_fflux.base.workers import WorkerPool
from ase_fflux.learn.gp.settings import TrainingSettings
from ase_fflux.learn.gp.training import TrainingResult, train
from ase_fflux.training.checkpoints import fingerprint, read_checkpoint, write_checkpoint

_SECONDS = 3e-11
"""Of one evaluation with gradient per n^3 on one core, measured for n = 1000 to 2000."""
_DIRECT, _TRANSFER = 0.25, 0.03
"""Evaluations on the whole set that a training usually takes, relative to the budget."""
_SHORT = 10.0
"""Seconds of work for which starting workers, a second or two, does not pay."""
_SERIAL = 0.1
"""Part of an evaluation that threads do not shorten: two were worth 1.8 at n = 2000."""
_PROCESS_BYTES = 3e8
"""Memory of a process besides its matrices."""


@dataclass(frozen=True, eq=False)
class Job:
    """One process to train.

    Parameters
    ----------
    name : str
        Such as ``"C1 iqa"``; no two jobs share one.
    atom : int
        Atom of the molecule.
    properties : tuple of str
        Names of the P targets.
    features : (n, F) array
        Training features (bohr, radian).
    targets : (P, n) array
        Training targets.
    settings : TrainingSettings
        How it is trained.
    after : tuple of str
        Names of the jobs whose log theta are its first guesses; it waits for them.
    guesses : tuple of (F',) arrays
        Further guesses of log theta.
    order : (F,) int array, optional
        For each feature, the one that it corresponds to in the jobs it waits for.
    """

    name: str
    atom: int
    properties: tuple[str, ...]
    features: np.ndarray
    targets: np.ndarray
    settings: TrainingSettings
    after: tuple[str, ...] = ()
    guesses: tuple[np.ndarray, ...] = ()
    order: np.ndarray | None = None

    def __post_init__(self):
        # contiguous here as in a worker, because BLAS rounds strided arrays differently
        for name in ("features", "targets"):
            object.__setattr__(self, name, np.ascontiguousarray(getattr(self, name), dtype=float))
        if self.targets.shape != (len(self.properties), len(self.features)):
            raise ValueError(
                f"{self.name}: targets {self.targets.shape} are not those of {self.properties} "
                f"at {len(self.features)} points"
            )

    @property
    def memory(self) -> int:
        """Bytes of a process that trains it: correlations, their factor and a copy."""
        return int(3 * 8 * len(self.features) ** 2 + _PROCESS_BYTES)

    @property
    def cost(self) -> float:
        """Rough seconds on one core."""
        share = _DIRECT if self.settings.transfer is None else _TRANSFER
        return share * self.settings.optimiser.budget * _SECONDS * len(self.features) ** 3


@dataclass(frozen=True)
class Plan:
    """Where jobs run.

    Parameters
    ----------
    jobs, workers, threads : int
        Number of jobs, of processes (1: this one without any other), of threads of each.
    memory : int
        Bytes that each process needs.
    remark : str
        For the user.
    """

    jobs: int
    workers: int
    threads: int
    memory: int
    remark: str

    def __str__(self):
        models = "1 model" if self.jobs == 1 else f"{self.jobs} models"
        where, each = ("in this process", "") if self.workers == 1 else (
            f"on {self.workers} processes", " each")
        return f"{models} {where}, about {self.memory / 1e9:.1f} GB{each} ({self.remark})"


def plan_jobs(jobs: Sequence[Job]) -> Plan:
    """Choose between this process, with threads, and worker processes of one thread each.

    Workers are as many as there are jobs, cores and memory for. They are not started if all jobs
    together are short, or if few or dependent ones are done sooner one after the other, each with
    all threads (Amdahl's law).

    Raises
    ------
    TrainingError
        As by `run_jobs`.
    """
    most, by_name = cores(), {job.name: job for job in jobs}
    threads = [threads_for(len(job.features), most) for job in jobs]
    memory = max(job.memory for job in jobs)
    wanted = min(most, len(jobs))
    workers = max(int(min(memory_available() // memory, wanted)), 1)
    total = sum(job.cost for job in jobs)
    ends: dict[str, float] = {}
    for name in _ordered(jobs).static_order():
        job = by_name[name]
        ends[name] = job.cost + max((ends[source] for source in job.after), default=0.0)
    scarce = ", for lack of memory" if workers < wanted else ""
    apart = max(total / workers, *ends.values())
    here = sum(
        job.cost * (_SERIAL + (1 - _SERIAL) / count)
        for job, count in zip(jobs, threads, strict=True)
    )
    if workers > 1 and total > _SHORT and apart < here:
        return Plan(len(jobs), workers, 1, memory, f"1 thread each{scarce}")
    count = max(threads)
    return Plan(len(jobs), 1, count, memory, f"{count} thread{'s'[:count - 1]}{scarce}")


def run_jobs(
    jobs: Sequence[Job],
    *,
    folder: Path | None = None,
    plan: Plan | None = None,
    executor=None,
    on_finished: Callable[[Job, TrainingResult, bool], None] | None = None,
) -> dict[str, TrainingResult]:
    """Train all jobs, each when those that it starts from are finished.

    A script that calls it needs ``if __name__ == "__main__":`` (worker processes import it).

    Parameters
    ----------
    jobs : sequence of Job
        What to train.
    folder : Path, optional
        Where each finished job is written at once (``C1_iqa.npz``) and, if it was trained on the
        same data, settings and guesses, read again instead of trained.
    plan : Plan, optional
        Where to run them, that of `plan_jobs` by default. It is made for all of them, finished or
        not, so that an interrupted run gives the same digits as another.
    executor : dask.distributed.Client or concurrent.futures.Executor, optional
        Runs them instead; it stays open.
    on_finished : callable, optional
        Called as on_finished(job, result, restored) for each job, in this process.

    Returns
    -------
    dict of TrainingResult
        By name, in the order of `jobs`.

    Raises
    ------
    TrainingError
        Names that are not unique or not known, jobs that wait for each other, a training that
        failed (with the name of its job), a worker process that was ended. Jobs which finished
        before that, or before an interrupt, are in the folder.
    """
    run = _Run(jobs, folder, on_finished)
    if executor is not None:
        if hasattr(executor, "get_executor"):
            executor = executor.get_executor(pure=False)
        run.on(executor)
    else:
        plan = plan or plan_jobs(jobs)
        if plan.workers == 1:
            run.here()
        else:
            with WorkerPool(plan.workers) as pool:
                run.on(pool)
    return {job.name: run.results[job.name] for job in jobs}


def train_job(job: Job, guesses: Sequence[np.ndarray]) -> TrainingResult:
    """Train one job; an error says which."""
    try:
        return train(job.features, job.targets, job.settings, guesses)
    except TrainingError as error:
        raise TrainingError(f"{job.name}: {error}") from None


class _Run:
    """Jobs on their way, and the results of those that are finished."""

    def __init__(self, jobs, folder, on_finished):
        self.jobs = {job.name: job for job in jobs}
        self.waiting = _ordered(jobs)
        self.folder, self.on_finished = folder, on_finished
        self.results: dict[str, TrainingResult] = {}
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)

    def here(self) -> None:
        """Train one after the other."""
        for name in self.waiting.static_order():
            job = self.jobs[name]
            if not self._restore(job):
                self._finish(job, train_job(job, self._guesses(job)))

    def on(self, executor: futures.Executor) -> None:
        """Train on an executor whatever does not wait for another job."""
        running: dict[futures.Future, Job] = {}
        self.waiting.prepare()
        try:
            self._submit(executor, running)
            while running:
                for future in futures.wait(running, return_when=futures.FIRST_COMPLETED).done:
                    job = running[future]
                    self._finish(job, future.result())
                    self.waiting.done(job.name)
                    del running[future]
                self._submit(executor, running)
        except BaseException as error:
            for future, job in running.items():
                future.cancel()
                if not future.cancelled() and future.done() and future.exception() is None:
                    self._write(job, future.result())
            if isinstance(error, futures.BrokenExecutor):
                raise TrainingError(
                    "a worker process was ended: for lack of memory (train on fewer processes or "
                    "points), or because the script that trains has no `if __name__ == "
                    "'__main__':` around what it does"
                ) from error
            raise

    def _submit(self, executor, running) -> None:
        while names := self.waiting.get_ready():  # a restored job makes others ready
            for name in names:
                job = self.jobs[name]
                if self._restore(job):
                    self.waiting.done(name)
                else:
                    running[executor.submit(train_job, job, self._guesses(job))] = job

    def _guesses(self, job) -> tuple[np.ndarray, ...]:
        found = [self.results[name].log_theta for name in job.after]
        if job.order is not None:
            found = [log_theta[job.order] for log_theta in found]
        return (*found, *job.guesses)

    def _trained_on(self, job) -> str:
        return fingerprint(job.features, job.targets, job.settings, self._guesses(job))

    def _path(self, job) -> Path:
        return self.folder / f"{job.name.replace(' ', '_')}.npz"

    def _restore(self, job) -> bool:
        """Take the result from the folder if it is there."""
        if self.folder is None:
            return False
        result = read_checkpoint(self._path(job), self._trained_on(job))
        if result is not None:
            self._report(job, result, True)
        return result is not None

    def _write(self, job, result) -> None:
        if self.folder is not None:
            write_checkpoint(self._path(job), result, self._trained_on(job))

    def _finish(self, job, result) -> None:
        self._write(job, result)
        self._report(job, result, False)

    def _report(self, job, result, restored) -> None:
        self.results[job.name] = result
        if self.on_finished is not None:
            self.on_finished(job, result, restored)


def _ordered(jobs: Sequence[Job]) -> TopologicalSorter:
    """The order of jobs, checked; those that may come next come as they were given."""
    names = {job.name for job in jobs}
    if len(names) < len(jobs):
        raise TrainingError("two jobs share a name: their results could not be told apart")
    for job in jobs:
        if unknown := [name for name in job.after if name not in names]:
            raise TrainingError(f"{job.name}: there is no job {', '.join(unknown)} to start from")
    graph = {job.name: job.after for job in jobs}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        raise TrainingError(
            f"jobs wait for each other ({' -> '.join(error.args[1])}): one must start by itself"
        ) from None
    return TopologicalSorter(graph)
