"""Files of molecular dynamics: log, trajectory, final geometry, picture, summary, and the restart.

Samples reach the log and the trajectory together with the restart point, once a second, so that a
run that was killed leaves files that agree with each other, or that can be cut back to where they
did. A restart point is a numpy archive (never with pickles) of the arrays ``positions`` and
``momenta`` (n, 3) and of ``header``, a JSON string.
"""

import hashlib
import io
import json
import os
import time
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase.io import Trajectory, write
from ase.io.jsonio import encode

from ase_fflux.base.errors import FFLUXError
from ase_fflux.base.outputs import OutputFiles, versions, write_json
from ase_fflux.plots.dynamics import plot_dynamics
from ase_fflux.simulate.md.dynamics import Dynamics, Sample

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

_DAMAGE = (zipfile.BadZipFile, zlib.error, OSError, EOFError, KeyError, ValueError, TypeError)
"""What reading a damaged archive or trajectory raises."""


@dataclass(frozen=True)
class Restart:
    """Where a run can go on.

    Attributes
    ----------
    state : dict
        Of the `Dynamics`.
    frames : int
        Of the trajectory up to there.
    log_bytes : int
        Of the log up to there.
    seconds : float
        Wall time up to there.
    """

    state: dict
    frames: int
    log_bytes: int
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
        None if there is no unfinished run, if it had other settings, another start or another
        energy at the start, or if one of its files is damaged or gone.
    """
    try:
        content = files[RESTART].read_bytes()
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            header = json.loads(archive["header"].item())
            arrays = {name: archive[name] for name in ("positions", "momenta")}
        found = Restart(
            {"step": header["step"], "rng": header["rng"], **arrays},
            header["frames"], header["log_bytes"], header["seconds"],
        )
        there = files[".log"].stat().st_size >= found.log_bytes
        with Trajectory(files[".traj"]) as trajectory:
            there = there and len(trajectory) >= found.frames
        energy = dynamics.atoms.get_potential_energy()
        same = header["run"] == _identity(dynamics)
        return found if there and same and abs(header["energy"] - energy) < _SAME_ENERGY else None
    except _DAMAGE:
        return None


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
        self._frames, self._before = 0, 0.0
        self._began = self._kept = time.perf_counter()
        self.columns = _COLUMNS if dynamics.settings.uncertainty else _COLUMNS[:-1]
        if restart is None:
            heads = [f"{name:>{width}}" for name, width, _ in self.columns]
            # the first column's sign of a comment takes the place of a blank
            files[".log"].write_text(f"#{' '.join(heads)[1:]}\n", encoding="utf-8")
        else:
            self._frames, self._before = restart.frames, restart.seconds
            os.truncate(files[".log"], restart.log_bytes)
            _cut(files[".traj"], restart.frames)
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
        if not self._pending:
            return
        # closed only where all went well: closing would complete a frame that an interrupt left
        # half written, which otherwise does not count
        trajectory = Trajectory(self._files[".traj"], "a")
        for sample in self._pending:
            # handed over, energy and forces spare the comparison of all atoms with themselves
            trajectory.write(sample.atoms, **sample.atoms.calc.results)
        trajectory.close()
        with open(self._files[".log"], "a", encoding="utf-8") as log:
            log.writelines(self._line(sample) for sample in self._pending)
        self._frames += len(self._pending)
        self._pending = []

    def keep(self) -> None:
        """Write what is pending and the restart point."""
        self.write_samples()
        state = self._dynamics.state()
        header = {
            "run": self._run, "energy": self._energy, "step": state["step"], "rng": state["rng"],
            "frames": self._frames, "log_bytes": self._files[".log"].stat().st_size,
            "seconds": self.seconds,
        }
        path = self._files[RESTART]
        partial = path.with_name(path.name + ".part")
        try:
            with open(partial, "wb") as file:
                np.savez(
                    file, header=np.array(json.dumps(header)), positions=state["positions"],
                    momenta=state["momenta"],
                )
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)
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


def _cut(path: Path, frames: int) -> None:
    """Leave so many frames of a trajectory."""
    with Trajectory(path) as old:
        if len(old) == frames:
            return
        partial = path.with_name(path.name + ".part")
        with Trajectory(partial, "w") as new:
            for number in range(frames):
                new.write(old[number])
    os.replace(partial, path)


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
        What the force field raises, with the time; samples before it are in the files.
    """
    settings = dynamics.settings
    started = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    record = _Record(files, dynamics, restart)
    advance(dynamics.step)
    try:
        if restart is None:
            record.add(dynamics.sample())
            record.keep()
        while dynamics.step < settings.steps:
            dynamics.advance()
            if dynamics.step % settings.interval == 0:
                record.add(dynamics.sample())
            if record.due:
                record.keep()
            advance(1)
        last = dynamics.sample()
    except FFLUXError as error:
        record.write_samples()
        raise type(error)(f"after {dynamics.time:g} ps: {error}") from error
    record.keep()
    write(files[".xyz"], last.atoms, format="extxyz")
    table = np.loadtxt(files[".log"], ndmin=2, encoding="utf-8").T
    plot_dynamics(
        table[0], total=table[3], potential=table[1], temperature=table[4], file=files[".png"],
        title=title, n_atoms=len(last.atoms),
    )
    summary = {
        **(about or {}),
        "versions": versions(),
        "formula": last.atoms.get_chemical_formula(),
        "ensemble": settings.ensemble,
        "temperature_K": dynamics.temperature,
        "friction_per_ps": dynamics.friction,
        "time_ps": dynamics.time,
        "timestep_fs": settings.timestep,
        "steps": settings.steps,
        "interval_steps": settings.interval,
        "seed": settings.seed,
        "initial_momenta": "drawn" if dynamics.drawn else "input",
        "degrees_of_freedom": dynamics.degrees_of_freedom,
        **statistics(table, len(last.atoms), settings.ensemble == "nve"),
        "started": started,
        "wall_time_s": round(record.seconds, 3),
        "wall_time_per_step_ms": round(1000 * record.seconds / settings.steps, 4),
        "files": [str(files[suffix]) for suffix in SUFFIXES if suffix != RESTART],
    }
    write_json(files[".json"], summary)
    files[RESTART].unlink()
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
        Whether the dynamics conserve the total energy; without it drift and departure are None.

    Returns
    -------
    dict
        Entries of the summary. The drift is the slope of a straight line through the total
        energies, and this slope times the length of the run; the departure is from the first.
    """
    times, potential, _, total, temperature, coverage = table[:6]
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
