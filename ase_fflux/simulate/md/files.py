"""Files of molecular dynamics: log, trajectory, final geometry, picture, summary, and the restart.

Samples reach the log and the trajectory together with the restart point, once a second. All are
synchronised to disk before the restart says so, and it keeps the sizes and hashes of what belongs
to it: a run that was killed leaves files that agree with each other, or that can be cut back to
where they did, and damage is told. A restart is a checkpoint (`ase_fflux.base.checkpoint`) of the
arrays that `Dynamics.state` has.
"""

import hashlib
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field

import numpy as np
from ase.io import Trajectory
from ase.io.jsonio import encode

from ase_fflux.base.checkpoint import read_checkpoint, write_checkpoint
from ase_fflux.base.errors import FFLUXError
from ase_fflux.base.outputs import OutputFiles, versions, write_json
from ase_fflux.base.store import Appended, DamagedError, sync
from ase_fflux.plots.dynamics import plot_dynamics
from ase_fflux.simulate.md.dynamics import Dynamics, Sample
from ase_fflux.simulate.md.table import columns_of, head, line, read_table, statistics
from ase_fflux.simulate.trajectory import Extent, FrameFile, check_frames, write_last
from ase_fflux.topology.graphs import atom_label

RESTART = ".restart.npz"

SUFFIXES = (".log", ".traj", ".xyz", ".png", ".json", RESTART)
"""Table of samples, samples, last geometry, picture, summary; the restart goes when all is done."""

_INTERVAL = 1.0
"""Seconds of dynamics that a run that was stopped may lose."""

_SAME_ENERGY = 1e-6
"""eV; two force fields that differ by less at the start are taken to be one."""

_NAMED = 10
"""Atoms outside of the training data that a summary names, those that are farthest."""


@dataclass(frozen=True)
class Restart:
    """Where a run can go on.

    Attributes
    ----------
    state : dict
        Of the `Dynamics`.
    trajectory : Extent
        What of the trajectory belongs to it.
    log_bytes : int
        Of the log up to there.
    log_sha256 : str
        Of these bytes.
    seconds : float
        Wall time up to there.
    outside : dict
        Of the `Outside` up to there.
    """

    state: dict
    trajectory: Extent
    log_bytes: int
    log_sha256: str
    seconds: float
    outside: dict


def read_restart(files: OutputFiles, dynamics: Dynamics) -> Restart | None:
    """Where the run that left these files can go on as these dynamics.

    Parameters
    ----------
    files : OutputFiles
        With `SUFFIXES`.
    dynamics : Dynamics
        At its start.

    Returns
    -------
    Restart or None
        None if there is no unfinished run, or if it had other settings, another start or another
        energy at the start.

    Raises
    ------
    DamagedError
        A restart that cannot be read, a log or a trajectory that is not what it was: which of them,
        and what to do.
    """
    try:
        run, arrays, record = read_checkpoint(files[RESTART])
        energy = dynamics.atoms.get_potential_energy()
        if run != _identity(dynamics) or abs(record["energy"] - energy) > _SAME_ENERGY:
            return None
        restart = Restart(
            {"step": record["step"], "rng": record["rng"], **arrays},
            Extent(**record["trajectory"]), record["log_bytes"], record["log_sha256"],
            record["seconds"], record["outside"],
        )
        _check_log(files[".log"], restart)
        check_frames(files[".traj"], restart.trajectory)
        return restart
    except FileNotFoundError:
        return None
    except DamagedError as error:
        raise DamagedError(
            f"{error}: the run cannot go on; delete {files[RESTART]} to begin it anew (what is "
            "there is kept under other names), or bring the file back"
        ) from None


def _check_log(path, restart: Restart) -> None:
    if not path.is_file():
        raise DamagedError(f"{path} is not there")
    with open(path, "rb") as log:
        content = log.read(restart.log_bytes)
    if len(content) < restart.log_bytes:
        raise DamagedError(
            f"{path} is damaged (it has {len(content)} bytes, and had {restart.log_bytes})"
        )
    if hashlib.sha256(content).hexdigest() != restart.log_sha256:
        raise DamagedError(f"{path} is damaged (it is not what was written)")


def _identity(dynamics: Dynamics) -> str:
    """SHA-256 of settings and start."""
    atoms = dynamics.start
    constraints = encode([constraint.todict() for constraint in atoms.constraints])
    digest = hashlib.sha256(f"{dynamics.settings!r} {constraints}".encode())
    for array in (
        atoms.numbers, atoms.get_masses(), atoms.positions, atoms.get_momenta(), atoms.cell.array,
        atoms.pbc,
    ):
        digest.update(np.ascontiguousarray(array, dtype="<f8"))
    return digest.hexdigest()


@dataclass
class Outside:
    """Atoms that samples found outside of the training data.

    Attributes
    ----------
    samples : int
        How many samples had such atoms.
    atoms : dict
        By the index as a string (a key of JSON): [first time (ps), smallest coverage].
    """

    samples: int = 0
    atoms: dict[str, list[float]] = field(default_factory=dict)

    def add(self, sample: Sample) -> None:
        self.samples += bool(sample.outside)
        for atom, coverage in sample.outside.items():
            first, smallest = self.atoms.get(str(atom), (sample.time, coverage))
            self.atoms[str(atom)] = [first, min(smallest, coverage)]

    def summary(self, numbers) -> dict:
        """Entries of the summary; numbers are those of the elements."""
        farthest = sorted(self.atoms.items(), key=lambda item: item[1][1])[:_NAMED]
        return {
            "samples_outside_training_data": self.samples,
            "atoms_outside_training_data": len(self.atoms),
            "farthest_outside_training_data": [
                {"atom": atom_label(int(atom), numbers), "first_ps": first, "coverage_min": least}
                for atom, (first, least) in farthest
            ],
        }


class _Record:
    """Log and trajectory, which samples reach when a restart point is written, and that itself."""

    def __init__(self, files: OutputFiles, dynamics: Dynamics, restart: Restart | None):
        self._files, self._dynamics = files, dynamics
        self._pending: list[Sample] = []
        self._energy = dynamics.atoms.get_potential_energy()
        self._run = _identity(dynamics)
        self._before, self._log = 0.0, hashlib.sha256()
        self._began = self._kept = time.perf_counter()
        self._columns = columns_of(dynamics)
        self.outside = Outside(**(restart.outside if restart else {}))
        if restart is None:
            self._frames = FrameFile(files[".traj"])
            self._add_to_log(head(self._columns))
        else:
            self._before = restart.seconds
            self._frames = FrameFile(files[".traj"], restart.trajectory)
            with Appended(files[".log"]) as log:
                log.truncate(restart.log_bytes)
            self._log.update(files[".log"].read_bytes())
            dynamics.restore(restart.state)

    @property
    def seconds(self) -> float:
        """Wall time of the run in all its parts."""
        return self._before + time.perf_counter() - self._began

    @property
    def due(self) -> bool:
        """Whether it is time for a restart point."""
        return time.perf_counter() - self._kept > _INTERVAL

    def add(self, sample: Sample) -> None:
        self._pending.append(sample)
        self.outside.add(sample)

    def write_samples(self) -> None:
        """Bring what is pending to log and trajectory."""
        if self._pending:
            self._frames.add([sample.atoms for sample in self._pending])
            self._add_to_log("".join(line(self._columns, sample) for sample in self._pending))
            self._pending = []

    def _add_to_log(self, text: str) -> None:
        with Appended(self._files[".log"]) as log:
            log.add(text)
        self._log.update(text.encode())

    def keep(self) -> None:
        """Write what is pending and the restart point."""
        self.write_samples()
        sync(self._files[".log"])
        self._frames.sync()
        state = self._dynamics.state()
        arrays = {name: value for name, value in state.items() if isinstance(value, np.ndarray)}
        write_checkpoint(self._files[RESTART], self._run, arrays, {
            "energy": self._energy, "step": state["step"], "rng": state["rng"],
            "trajectory": asdict(self._frames.extent()),
            "log_bytes": self._files[".log"].stat().st_size, "log_sha256": self._log.hexdigest(),
            "seconds": self.seconds, "outside": asdict(self.outside),
        })
        self._kept = time.perf_counter()


def dynamics_to_files(
    dynamics: Dynamics,
    files: OutputFiles,
    *,
    restart: Restart | None = None,
    about: dict | None = None,
    title: str = "",
    advance: Callable[[int], None] = lambda steps: None,
) -> dict:
    """Run to the end and write log, trajectory, last geometry, picture and summary.

    What stops it, such as a keyboard interrupt, is passed on; `read_restart` then tells where it
    can go on, to the same trajectory.

    Parameters
    ----------
    dynamics : Dynamics
        At its start.
    files : OutputFiles
        With `SUFFIXES`; without restart nothing may be there (`OutputFiles.set_aside`).
    restart : Restart, optional
        Where to go on; log and trajectory are cut back to it.
    about : dict, optional
        Further entries for the head of the summary, such as model and command.
    title : str
        Above the picture.
    advance : callable
        Called with numbers of finished steps, for a progress display.

    Returns
    -------
    dict
        The summary, as it is written.

    Raises
    ------
    FFLUXError
        What the force field raises, with the time, after all files have been written with the
        samples before it; a file that cannot be written.
    """
    settings = dynamics.settings
    started = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    record = _Record(files, dynamics, restart)
    advance(dynamics.step)
    fault = last = None
    if restart is None:
        record.add(dynamics.sample())
        record.keep()
    while fault is None and dynamics.step < settings.steps:
        try:
            dynamics.advance()
            if dynamics.step % settings.interval == 0 or dynamics.step == settings.steps:
                last = dynamics.sample()
        except FFLUXError as error:
            fault = type(error)(f"after {dynamics.time:g} ps: {error}")
            break
        if dynamics.step % settings.interval == 0:
            record.add(last)
        if record.due:
            record.keep()
        advance(1)
    if fault is None:
        record.keep()
        if last is None:  # all was done but for the files below
            last = dynamics.sample()
    else:
        record.write_samples()
    if last is None:
        with Trajectory(files[".traj"]) as trajectory:
            final = trajectory[-1]
    else:
        final = last.atoms
    write_last(files[".xyz"], final)
    table = read_table(files[".log"])
    if len(table["time"]) > 1:
        plot_dynamics(table, file=files[".png"], title=title, n_atoms=len(final))
    conserved = "total" if settings.ensemble == "nve" else "conserved"
    summary = {
        **(about or {}),
        "versions": versions(),
        "formula": final.get_chemical_formula(),
        "ensemble": settings.ensemble,
        "temperature_K": dynamics.temperature,
        "thermostat": settings.chosen_thermostat,
        "barostat": settings.chosen_barostat,
        **dynamics.parameters,
        "completed": fault is None,
        "stopped": None if fault is None else str(fault),
        "time_ps": dynamics.time,
        "timestep_fs": settings.timestep,
        "steps": dynamics.step,
        "interval_steps": settings.interval,
        "seed": settings.seed,
        "initial_momenta": "drawn" if dynamics.drawn else "input",
        "degrees_of_freedom": dynamics.degrees_of_freedom,
        **statistics(
            table, len(final), conserved if settings.conserves else None, settings.equilibration
        ),
        **record.outside.summary(final.numbers),
        "started": started,
        "wall_time_s": round(record.seconds, 3),
        "wall_time_per_step_ms": round(1000 * record.seconds / max(dynamics.step, 1), 4),
        "files": [name for name in files.names if not name.endswith(RESTART)],
    }
    write_json(files[".json"], summary)
    files[RESTART].unlink()
    if fault is not None:
        raise fault
    return summary
