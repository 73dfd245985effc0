"""Files of molecular dynamics: log, trajectory, final geometry, picture, summary, and the restart.

Samples reach the log and the trajectory together with the restart point, once a second. All are
synchronised to disk before the restart says so, and it keeps the sizes and hashes of what belongs
to it: a run that was killed leaves files that agree with each other, or that can be cut back to
where they did, and damage is told. A restart is a checkpoint (`ase_fflux.base.store`) of the arrays
``positions`` and ``momenta`` (n, 3).
"""

import hashlib
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
from ase.io import Trajectory
from ase.io.jsonio import encode

from ase_fflux.base.errors import FFLUXError
from ase_fflux.base.outputs import OutputFiles, versions, write_json
from ase_fflux.base.store import (
    Appended,
    DamagedError,
    read_checkpoint,
    sync,
    write_checkpoint,
)
from ase_fflux.plots.dynamics import plot_dynamics
from ase_fflux.simulate.md.dynamics import Dynamics, Sample
from ase_fflux.simulate.trajectory import Extent, FrameFile, check_frames, write_last

RESTART = ".restart.npz"

SUFFIXES = (".log", ".traj", ".xyz", ".png", ".json", RESTART)
"""Table of samples, samples, last geometry, picture, summary; the restart goes when all is done."""

_INTERVAL = 1.0
"""Seconds of dynamics that a run that was stopped may lose."""

_SAME_ENERGY = 1e-6
"""eV; two force fields that differ by less at the start are taken to be one."""

_COLUMNS = (
    ("time/ps", 12, 6), ("potential/eV", 18, 8), ("kinetic/eV", 14, 8), ("total/eV", 18, 8),
    ("temperature/K", 14, 3), ("min.coverage", 13, 6), ("uncertainty/eV", 15, 8),
)
"""Head, width and decimals; the last only if it was asked for."""


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
    """

    state: dict
    trajectory: Extent
    log_bytes: int
    log_sha256: str
    seconds: float


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
            record["seconds"],
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


class _Record:
    """Log and trajectory, which samples reach when a restart point is written, and that itself."""

    def __init__(self, files: OutputFiles, dynamics: Dynamics, restart: Restart | None):
        self._files, self._dynamics = files, dynamics
        self._pending: list[Sample] = []
        self._energy = dynamics.atoms.get_potential_energy()
        self._run = _identity(dynamics)
        self._before, self._log = 0.0, hashlib.sha256()
        self._began = self._kept = time.perf_counter()
        self.columns = _COLUMNS if dynamics.settings.uncertainty else _COLUMNS[:-1]
        if restart is None:
            self._frames = FrameFile(files[".traj"])
            heads = [f"{name:>{width}}" for name, width, _ in self.columns]
            # the first column's sign of a comment takes the place of a blank
            self._add_to_log(f"#{' '.join(heads)[1:]}\n")
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

    def write_samples(self) -> None:
        """Bring what is pending to log and trajectory."""
        if self._pending:
            self._frames.add([sample.atoms for sample in self._pending])
            self._add_to_log("".join(self._line(sample) for sample in self._pending))
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
        arrays = {name: state[name] for name in ("positions", "momenta")}
        write_checkpoint(self._files[RESTART], self._run, arrays, {
            "energy": self._energy, "step": state["step"], "rng": state["rng"],
            "trajectory": asdict(self._frames.extent()),
            "log_bytes": self._files[".log"].stat().st_size, "log_sha256": self._log.hexdigest(),
            "seconds": self.seconds,
        })
        self._kept = time.perf_counter()

    def _line(self, sample: Sample) -> str:
        coverage = np.nan if sample.coverage is None else sample.coverage
        values = (
            sample.time, sample.potential, sample.kinetic, sample.total, sample.temperature,
            coverage, sample.uncertainty,
        )
        cells = (
            f"{value:{width}.{decimals}f}"
            for value, (_, width, decimals) in zip(values, self.columns, strict=False)
        )
        return " ".join(cells) + "\n"


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
    table = np.loadtxt(files[".log"], ndmin=2, encoding="utf-8").T
    if table.shape[1] > 1:
        plot_dynamics(
            table[0], total=table[3], potential=table[1], temperature=table[4],
            file=files[".png"], title=title, n_atoms=len(final),
        )
    summary = {
        **(about or {}),
        "versions": versions(),
        "formula": final.get_chemical_formula(),
        "ensemble": settings.ensemble,
        "temperature_K": dynamics.temperature,
        "friction_per_ps": dynamics.friction,
        "completed": fault is None,
        "stopped": None if fault is None else str(fault),
        "time_ps": dynamics.time,
        "timestep_fs": settings.timestep,
        "steps": dynamics.step,
        "interval_steps": settings.interval,
        "seed": settings.seed,
        "initial_momenta": "drawn" if dynamics.drawn else "input",
        "degrees_of_freedom": dynamics.degrees_of_freedom,
        **statistics(table, len(final), settings.ensemble == "nve"),
        "started": started,
        "wall_time_s": round(record.seconds, 3),
        "wall_time_per_step_ms": round(1000 * record.seconds / max(dynamics.step, 1), 4),
        "files": [str(files[suffix]) for suffix in SUFFIXES if suffix != RESTART],
    }
    write_json(files[".json"], summary)
    files[RESTART].unlink()
    if fault is not None:
        raise fault
    return summary


def statistics(table: np.ndarray, n_atoms: int, conserved: bool) -> dict:
    """Means and extremes of a run.

    Parameters
    ----------
    table : (6 or 7, m) array
        The columns of the log.
    n_atoms : int
        What drift and departure of the energy are divided by.
    conserved : bool
        Whether the dynamics conserve the total energy; without it, and of a single sample, drift
        and departure are None.

    Returns
    -------
    dict
        Entries of the summary. The drift is the slope of a straight line through the total
        energies, and this slope times the length of the run; the departure is from the first.
    """
    times, potential, _, total, temperature, coverage = table[:6]
    conserved = conserved and len(times) > 1
    slope = 0.0
    if conserved:
        slope = 1000 * np.polyfit(times - times[0], total - total[0], 1)[0] / n_atoms
    departure = 1000 * np.abs(total - total[0]).max() / n_atoms
    return {
        "temperature_mean_K": temperature.mean(),
        "temperature_standard_deviation_K": temperature.std(),
        "potential_energy_mean_eV": potential.mean(),
        "total_energy_initial_eV": total[0],
        "total_energy_final_eV": total[-1],
        "drift_meV_per_atom_per_ps": slope if conserved else None,
        "drift_meV_per_atom": slope * (times[-1] - times[0]) if conserved else None,
        "largest_departure_meV_per_atom": departure if conserved else None,
        "coverage_min": None if np.isnan(coverage).any() else coverage.min(),
        "uncertainty_mean_eV": table[6].mean() if len(table) > 6 else None,
        "uncertainty_largest_eV": table[6].max() if len(table) > 6 else None,
    }
