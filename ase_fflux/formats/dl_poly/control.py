"""CONTROL: what is run, and in one line each what of it is done otherwise here.

Keywords are known by their first letters, as DL_POLY_4 knows them.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from ase_fflux.base.errors import FFLUXError
from ase_fflux.formats.dl_poly.records import Record, read_records

_MIXING = {"lore": "Lorentz-Berthelot", "hoge": "geometric"}

_SILENT = (
    "densvar", "job", "close", "dump", "mxshak", "shake", "mxquat", "quater", "io", "subcell",
    "stack", "rlxtol", "delr", "rpad", "binsize", "l_", "no index", "no strict", "no str",
    "no top", "no vafav", "no link", "finish", "collect",
)
"""What has no bearing on the numbers: how DL_POLY shares memory and work, and when it saves."""

_MUST = ("zero", "cap", "impact", "pseudo", "minim", "optim", "nfold", "replay", "slab", "plumed",
         "metal", "eps", "distance", "shift", "reaction", "coul", "poisson", "psolv", "mult",
         "variable", "mindis", "maxdis", "mxstep", "regauss", "integrat")


@dataclass(frozen=True)
class Ensemble:
    """What is kept constant, and how.

    Attributes
    ----------
    name : {"nve", "nvt", "npt", "nst"}
    method : str
        Thermostat and barostat, the empty string for nve.
    times : tuple of float
        The numbers that follow: relaxation times (ps), for Langevin frictions (1/ps).
    where : str
        File and line.
    """

    name: str = "nve"
    method: str = ""
    times: tuple[float, ...] = ()
    where: str = ""


@dataclass(frozen=True)
class Control:
    """What a CONTROL says.

    Attributes
    ----------
    path : Path
    title : str
    rank, level : int or None
        ``fflux ewald L(n)``: moments up to rank n - 1; ``fflux cluster L(n)``: level n.
    electrostatics, pairs : bool
        False by ``no elec`` and ``no vdw``.
    accuracy : float or None
        ``spme precision`` and ``ewald precision``.
    cutoff, pair_cutoff : float or None
        Real-space cut-off, cut-off of pair potentials (Angstrom).
    shifted : bool
        ``vdw shift``.
    mixing : str or None
        ``vdw mixing``.
    ensemble : Ensemble
    temperature, pressure : float or None
        K, and katm.
    timestep : float or None
        ps.
    steps : int or None
    interval : int or None
        Of statistics, prints or the trajectory, whichever comes first in this order.
    velocities : {"drawn", "scaled", "kept"}
        What becomes of those in CONFIG: no ``restart``, ``restart scale``, and other restarts.
    notes : tuple of str
        One line for each keyword that is done otherwise here, with its line and what is done.
    unknown : tuple of str
        The like for keywords that are not known.
    records : dict
        Record of each keyword that is used.
    """

    path: Path
    title: str = ""
    rank: int | None = None
    level: int | None = None
    electrostatics: bool = True
    pairs: bool = True
    accuracy: float | None = None
    cutoff: float | None = None
    pair_cutoff: float | None = None
    shifted: bool = False
    mixing: str | None = None
    ensemble: Ensemble = Ensemble()
    temperature: float | None = None
    pressure: float | None = None
    timestep: float | None = None
    steps: int | None = None
    interval: int | None = None
    velocities: str = "drawn"
    notes: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    records: dict[str, Record] = field(default_factory=dict)


def read_control(path: str | Path) -> Control:
    """Read a CONTROL.

    Raises
    ------
    FFLUXError
        A file that cannot be read, a keyword without its number, electrostatics of which nothing is
        said, or a mixing rule that is not known here.
    """
    title, records = read_records(Path(path))
    reader = _Reader(Path(path), title)
    for record in records:
        if record.words[0].lower() == "finish":
            break
        reader.read(record)
    return reader.control()


class _Reader:
    """Gathers what the records say."""

    def __init__(self, path: Path, title: str):
        self.path = path
        self._found = {"path": path, "title": title}
        self._records: dict[str, Record] = {}
        self._notes: list[str] = []
        self._unknown: list[str] = []
        self._intervals: dict[str, int] = {}
        self._equilibration = 0

    def read(self, record: Record) -> None:
        text = " ".join(record.words).lower()
        for start, handler in _KEYWORDS:
            if text.startswith(start):
                handler(self, record, text)
                return
        if text.startswith(_SILENT):
            return
        what = "is not done" if text.startswith(_MUST) else "is not known here, and nothing is done"
        target = self._notes if text.startswith(_MUST) else self._unknown
        target.append(f"{record.where}: {record.text!r} {what}")

    def control(self) -> Control:
        found = self._found
        if found.get("electrostatics", True) and not {"rank", "level"} & set(found):
            raise FFLUXError(
                f"{self.path}: no line says which moments interact: `fflux ewald L(n)` (ranks up "
                "to n - 1), `fflux cluster L(n)` or `no elec`"
            )
        if found.get("pair_cutoff") is None and "cutoff" in found:
            found["pair_cutoff"] = found["cutoff"]
            self._records.setdefault("pair_cutoff", self._records["cutoff"])
        for keyword in ("stats", "print", "traj"):
            found.setdefault("interval", self._intervals.get(keyword))
            if found["interval"] is None:
                del found["interval"]
        return Control(
            **found, notes=tuple(self._notes), unknown=tuple(self._unknown), records=self._records
        )

    def put(self, name: str, value, record: Record) -> None:
        """Keep what a keyword says; the last one counts."""
        self._found[name] = value
        self._records[name] = record

    def note(self, record: Record, what: str) -> None:
        """Keep a line on what is done otherwise."""
        self._notes.append(f"{record.where}: {record.text!r}: {what}")

    # one for each keyword: the record, and its text in small letters with single spaces

    def fflux(self, record: Record, text: str) -> None:
        match = re.fullmatch(r"fflux (ewald|cluster) l\(?(\d)\)?.*", text)
        if match is None:
            if text.startswith(("fflux ewald", "fflux cluster")):
                record.refuse(f"{record.text!r}: give a level, such as L3")
            if not text.startswith("fflux print"):
                self._unknown.append(
                    f"{record.where}: {record.text!r} is not known here, and nothing is done"
                )
            return
        number = int(match[2])
        periodic = match[1] == "ewald"
        if not 1 <= number <= (5 if periodic else 9):
            record.refuse(
                f"{record.text!r}: levels of Ewald sums are L1 (charges) to L5 (hexadecapoles)"
                if periodic else f"{record.text!r}: levels of clusters are L1 to L9"
            )
        for other in ("rank", "level"):
            self._found.pop(other, None)
        self.put("rank" if periodic else "level", number - 1 if periodic else number, record)

    def no(self, record: Record, text: str) -> None:
        name = "electrostatics" if text.startswith("no elec") else "pairs"
        self.put(name, False, record)

    def precision(self, record: Record, text: str) -> None:
        words = record.words
        if len(words) > 1 and words[1].lower().startswith("prec"):
            value = record.real(2, "the precision")
            if not 1e-12 <= value <= 1e-2:
                self.note(record, "the accuracy is kept between 1e-12 and 1e-2")
            self.put("accuracy", min(max(value, 1e-12), 1e-2), record)
        else:
            self.note(record, "width and mesh follow from the accuracy, 1e-6 relative")

    def cutoff(self, record: Record, text: str) -> None:
        value = record.real(1, "the cut-off")
        if value <= 0:
            record.refuse(f"the cut-off is {value:g}: it must be positive")
        self.put("pair_cutoff" if text.startswith("rvdw") else "cutoff", value, record)

    def vdw(self, record: Record, text: str) -> None:
        words = text.split()
        second = words[1] if len(words) > 1 else ""
        if second.startswith("shift"):
            self.put("shifted", True, record)
        elif second.startswith("mix"):
            rule = words[2][:4] if len(words) > 2 else ""
            if rule not in _MIXING:
                record.refuse("mixing rules here are lorentz-berthelot and hogervorst (geometric): "
                              "list the pairs in FIELD instead")
            self.put("mixing", _MIXING[rule], record)
        elif not second.startswith("direct"):
            self._unknown.append(
                f"{record.where}: {record.text!r} is not known here, and nothing is done"
            )

    def ensemble(self, record: Record, text: str) -> None:
        words = text.split()
        name = words[1] if len(words) > 1 else ""
        if name == "pmf":
            name = "nve"
        if name not in ("nve", "nvt", "npt", "nst"):
            record.refuse(f"{record.text!r}: an ensemble is nve, nvt, npt or nst")
        method = words[2] if len(words) > 2 and name != "nve" else ""
        if name != "nve" and not method:
            record.refuse(f"{record.text!r}: which thermostat?")
        times = []
        for k in range(3, len(words)):
            try:
                times.append(float(words[k].replace("d", "e")))
            except ValueError:
                break
        self.put("ensemble", Ensemble(name, method, tuple(times), record.where), record)

    def temperature(self, record: Record, text: str) -> None:
        self.put("temperature", record.real(1, "the temperature"), record)

    def pressure(self, record: Record, text: str) -> None:
        if text.split()[1:2] == ["tensor"]:
            record.refuse("a tensor of pressures is not known here: give one pressure (katm)")
        self.put("pressure", record.real(1, "the pressure (katm)"), record)

    def timestep(self, record: Record, text: str) -> None:
        if "variable" in text:
            self.note(record, "the time step stays as it is")
            self.put("timestep", record.real(2, "the time step (ps)"), record)
            return
        value = record.real(1, "the time step (ps)")
        if value <= 0:
            record.refuse(f"the time step is {value:g} ps: it must be positive")
        self.put("timestep", value, record)

    def steps(self, record: Record, text: str) -> None:
        self.put("steps", record.whole(1, "the number of steps"), record)

    def restart(self, record: Record, text: str) -> None:
        kind = text.split()[1] if len(record.words) > 1 else ""
        self.put("velocities", "scaled" if kind.startswith("scale") else "kept", record)
        if not kind.startswith(("scale", "noscale", "unscale")):
            self.note(record, "a new run begins with the positions and velocities of CONFIG "
                              "(copy REVCON there); REVIVE is not read")

    def equilibration(self, record: Record, text: str) -> None:
        number = next((k for k, w in enumerate(record.words) if w.isdigit()), 1)
        if record.whole(number, "the steps of equilibration"):
            self._equilibration = record.whole(number, "the steps of equilibration")
            self.note(record, "no step is treated apart: temperatures are not scaled, forces not "
                              "capped")

    def scale(self, record: Record, text: str) -> None:
        pass  # acts in equilibration only, of which the note is there already

    def interval(self, record: Record, text: str) -> None:
        words = text.split()
        keyword = next(k for k in ("stats", "print", "traj") if k.startswith(words[0][:4]))
        numbers = [k for k, word in enumerate(words) if word.isdigit()]
        if keyword == "print" and not numbers:
            self.note(record, "not printed; see the files that the run writes")
        elif keyword == "traj":
            self._intervals[keyword] = max(1, int(words[numbers[min(1, len(numbers) - 1)]])) \
                if numbers else 1
        elif numbers:
            self._intervals[keyword] = max(1, int(words[numbers[0]]))

    def later(self, record: Record, text: str) -> None:
        self.note(record, "not collected during a run; compute it from the trajectory")

    def seed(self, record: Record, text: str) -> None:
        self.note(record, "random numbers are others here; `--seed` chooses them")


_KEYWORDS: tuple[tuple[str | tuple[str, ...], Callable], ...] = (
    ("fflux", _Reader.fflux),
    (("no elec", "no vdw"), _Reader.no),
    (("spme", "ewald"), _Reader.precision),
    (("cut", "rcut", "rvdw"), _Reader.cutoff),
    ("vdw", _Reader.vdw),
    ("ensemble", _Reader.ensemble),
    ("temp", _Reader.temperature),
    ("pres", _Reader.pressure),
    (("timestep", "variable timestep"), _Reader.timestep),
    ("steps", _Reader.steps),
    ("restart", _Reader.restart),
    ("equil", _Reader.equilibration),
    ("scale", _Reader.scale),
    (("print rdf", "print zden", "print vaf", "print ana", "print dipole", "dipole", "rdf", "zden",
      "vaf", "ana", "msdtmp", "defe", "disp"), _Reader.later),
    (("print", "stat", "traj"), _Reader.interval),
    ("seed", _Reader.seed),
)
