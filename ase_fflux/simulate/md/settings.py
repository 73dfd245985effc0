"""What is run: ensemble, thermostat, barostat, lengths of time, and what of it makes no sense."""

from dataclasses import dataclass

from ase import units

from ase_fflux.base.errors import FFLUXError
from ase_fflux.simulate.limits import require_asked

ENSEMBLES = ("nvt", "nve", "npt")

THERMOSTATS = ("langevin", "bussi", "nose-hoover")

BAROSTATS = ("isotropic", "full")

TEMPERATURE = 300.0
"""K, where none is given."""

FRICTION = 10.0
"""1/ps, where none is given: thermalises within 0.1 ps."""

THERMOSTAT_TIME = 0.1
"""ps, where none is given."""

PRESSURE = 1.0
"""bar, where none is given."""

BAROSTAT_TIME = 1.0
"""ps, where none is given: slower than the thermostat and than sound across a box."""

PICOSECOND = 1000 * units.fs

BAR = units.bar
"""eV/Angstrom^3."""

_LONGEST = 100.0
"""fs; ten periods of a vibration of hydrogen."""

_SHORTEST = 10
"""Time steps that the times of thermostats and barostats take at least; shorter ones are not
integrated."""

_MOST = 10**10
"""Steps of a run, which take a fast molecule weeks."""


@dataclass(frozen=True)
class DynamicsSettings:
    """What is run.

    Parameters
    ----------
    ensemble : {"nvt", "nve", "npt"}
        Constant temperature, energy, or temperature and pressure.
    temperature : float, optional
        Of the initial momenta and of the thermostat (K). Without it, or with ``keep_momenta``, the
        input's momenta are kept where it has any, and it is `TEMPERATURE` for all else.
    time : float
        Length of the run (ps), rounded to whole steps.
    timestep : float
        fs.
    interval : int
        Steps from one sample to the next.
    seed : int
        Of the initial momenta and of the thermostat.
    thermostat : {"langevin", "bussi", "nose-hoover"}, optional
        Of nvt, Langevin by default; npt has Nose-Hoover chains.
    friction : float, optional
        Of the Langevin thermostat (1/ps); `FRICTION` without it.
    thermostat_time : float, optional
        Of the other thermostats (ps); `THERMOSTAT_TIME` without it.
    pressure : float, optional
        Of npt (bar); `PRESSURE` without it.
    barostat : {"isotropic", "full"}, optional
        Whether the volume alone changes, as by default, or lengths and angles of the cell.
    barostat_time : float, optional
        Of the barostat (ps); `BAROSTAT_TIME` without it.
    equilibration : float
        What the means leave out at the beginning (ps).
    uncertainty : bool
        Whether samples have the standard deviation of the predicted energy.
    keep_momenta : bool
        Whether those of the input are kept, if it has any, though a temperature is given.

    Raises
    ------
    FFLUXError
        An unknown ensemble, thermostat or barostat, a setting of one that is not there, a run
        shorter than one interval or of more steps than can be done, a time step longer than any
        vibration, a thermostat or barostat too fast for the time step, a temperature or pressure
        that no run stands.
    """

    ensemble: str = "nvt"
    temperature: float | None = None
    time: float = 10.0
    timestep: float = 0.5
    interval: int = 10
    seed: int = 1
    thermostat: str | None = None
    friction: float | None = None
    thermostat_time: float | None = None
    pressure: float | None = None
    barostat: str | None = None
    barostat_time: float | None = None
    equilibration: float = 0.0
    uncertainty: bool = False
    keep_momenta: bool = False

    def __post_init__(self):
        for kind, value, known in (
            ("ensemble", self.ensemble, ENSEMBLES),
            ("thermostat", self.thermostat or THERMOSTATS[0], THERMOSTATS),
            ("barostat", self.barostat or BAROSTATS[0], BAROSTATS),
        ):
            if value not in known:
                raise FFLUXError(f"unknown {kind} {value!r}: choose from {', '.join(known)}")
        self._require_used()
        require_asked(self.temperature, self.pressure)
        if not self.timestep <= _LONGEST:
            raise FFLUXError(
                f"a time step of {self.timestep:g} fs is longer than any vibration: choose about "
                "0.5 fs"
            )
        if not 1000 * self.time / self.timestep <= _MOST:
            raise FFLUXError(
                f"a run of {self.time:g} ps in steps of {self.timestep:g} fs has more than "
                f"{_MOST:g} steps: make it shorter or the steps longer"
            )
        if self.steps < self.interval:
            raise FFLUXError(
                f"a run of {self.time:g} ps in steps of {self.timestep:g} fs has {self.steps} "
                f"steps, fewer than the interval of {self.interval}: make it longer or the "
                "interval shorter"
            )
        if not 0 <= self.equilibration < self.time:
            raise FFLUXError(
                f"an equilibration of {self.equilibration:g} ps leaves nothing of a run of "
                f"{self.time:g} ps: make it shorter"
            )
        if self.friction is not None and self.friction * self.timestep > 1000:
            raise FFLUXError(
                f"a friction of {self.friction:g} per ps stops atoms within a time step of "
                f"{self.timestep:g} fs: give less"
            )
        for kind, time in (("thermostat", self.thermostat_time), ("barostat", self.barostat_time)):
            if time is not None and 1000 * time < _SHORTEST * self.timestep:
                raise FFLUXError(
                    f"a {kind} time of {time:g} ps is shorter than {_SHORTEST} time steps of "
                    f"{self.timestep:g} fs: make it longer"
                )

    def _require_used(self) -> None:
        """Refuse settings that would do nothing."""
        if self.ensemble == "nve":
            if self.thermostat is not None:
                raise FFLUXError("nve has no thermostat: leave it out")
            if self.friction is not None:
                raise FFLUXError("friction is the thermostat's, and nve has none: leave it out")
        if self.ensemble == "npt" and self.thermostat not in (None, "nose-hoover"):
            raise FFLUXError(
                f"npt has Nose-Hoover chains, not the thermostat {self.thermostat}: leave it out"
            )
        if self.friction is not None and self.chosen_thermostat != "langevin":
            raise FFLUXError(
                f"friction is the Langevin thermostat's: give {self.chosen_thermostat} a "
                "thermostat time in its place"
            )
        if self.thermostat_time is not None and self.chosen_thermostat in (None, "langevin"):
            raise FFLUXError(
                "a thermostat time is that of bussi, nose-hoover and npt: langevin has a friction, "
                "nve neither"
            )
        if self.ensemble != "npt":
            for name in ("pressure", "barostat", "barostat_time"):
                if getattr(self, name) is not None:
                    raise FFLUXError(
                        f"{name.replace('_', ' ')} is npt's, and the ensemble is {self.ensemble}: "
                        "leave it out, or choose npt"
                    )

    @property
    def steps(self) -> int:
        """Number of time steps."""
        return round(1000 * self.time / self.timestep)

    @property
    def chosen_thermostat(self) -> str | None:
        """The thermostat that is used."""
        if self.ensemble == "nvt":
            return self.thermostat or THERMOSTATS[0]
        return "nose-hoover" if self.ensemble == "npt" else None

    @property
    def chosen_barostat(self) -> str | None:
        """The barostat that is used."""
        return (self.barostat or BAROSTATS[0]) if self.ensemble == "npt" else None

    @property
    def conserves(self) -> bool:
        """Whether a quantity is conserved: without random forces."""
        return self.chosen_thermostat != "langevin"
