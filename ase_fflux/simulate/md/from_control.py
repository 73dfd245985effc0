"""Dynamics that a CONTROL of DL_FFLUX asks for, and what of it is done otherwise."""

from ase import Atoms, units

from ase_fflux.base.errors import FFLUXError
from ase_fflux.formats.dl_poly.control import Control, Ensemble

KATM = 1013.25
"""bar"""

_CHAINS = "Nose-Hoover chains"
_BAROSTAT = f"{_CHAINS} and the barostat of Martyna, Tobias and Klein"


def settings_of(control: Control) -> tuple[dict, list[str]]:
    """Settings of a run as CONTROL has them.

    Parameters
    ----------
    control : Control

    Returns
    -------
    settings : dict
        Of `DynamicsSettings`, those that CONTROL says something about.
    notes : list of str
        One line for each thing that is done otherwise.

    Raises
    ------
    FFLUXError
        A time step, a number of steps or a temperature that is needed and not there; an ensemble
        that is not known.
    """
    for name, keyword in (("timestep", "timestep"), ("steps", "steps")):
        if not getattr(control, name):
            raise FFLUXError(
                f"{control.path}: no dynamics without `{keyword}` above 0 (`fflux sp` evaluates "
                "the geometry as it is)"
            )
    found, notes = _ensemble(control.ensemble)
    if found["ensemble"] != "nve" or control.velocities != "kept":
        if not control.temperature:
            raise FFLUXError(f"{control.path}: no `temperature`, which the ensemble or the "
                             "velocities need")
        found["temperature"] = control.temperature
    if found["ensemble"] == "npt":
        found["pressure"] = KATM * (control.pressure or 0.0)
    found |= {
        "timestep": 1000 * control.timestep, "time": control.steps * control.timestep,
        "interval": min(control.interval or 10, control.steps),
        "keep_momenta": control.velocities != "drawn",
    }
    return found, notes


def _ensemble(ensemble: Ensemble) -> tuple[dict, list[str]]:
    """Ensemble, thermostat and barostat with their times, and what of them is not the same."""
    name, method, times = ensemble.name, ensemble.method, ensemble.times
    asked = " ".join([name, method, *(f"{time:g}" for time in times)]).strip()
    found, instead = {"ensemble": "npt" if name == "nst" else name}, None

    def time(k: int) -> dict:
        """A relaxation time where there is one."""
        names = ("thermostat_time", "barostat_time")
        return {names[k]: times[k]} if len(times) > k and times[k] > 0 else {}

    if name == "nvt" and method.startswith("lang"):
        found["thermostat"] = "langevin"
        if times and times[0] > 0:
            found["friction"] = times[0]
    elif name == "nvt" and method.startswith("hoover"):
        found |= {"thermostat": "nose-hoover", **time(0)}
        instead = f"{_CHAINS} of the same time"
    elif name == "nvt" and method.startswith(("ber", "ander", "gst", "evans")):
        found |= {"thermostat": "bussi", **({} if method.startswith("evans") else time(0))}
        instead = "velocities are rescaled at random (Bussi), which samples NVT, in the same time"
        if method.startswith("evans"):
            instead = "velocities are rescaled at random (Bussi), which samples NVT"
    elif name in ("npt", "nst") and method.startswith(("hoover", "mtk", "ber")):
        found |= {**time(0), **time(1)}
        if not (name == "npt" and method.startswith("mtk")):
            instead = f"{_BAROSTAT}, of the same times"
    elif name in ("npt", "nst") and method.startswith("lang"):
        instead = f"{_BAROSTAT}, with times of their own instead of frictions"
    elif name != "nve":
        raise FFLUXError(
            f"{ensemble.where}: the thermostat {method!r} of {name} is not known here: use "
            "langevin, berendsen, hoover or mtk"
        )
    if name == "nst":
        found["barostat"] = "full"
    notes = [] if instead is None else [f"{ensemble.where}: 'ensemble {asked}': {instead}"]
    return found, notes


def set_velocities(atoms: Atoms, control: Control) -> None:
    """Do to the velocities of CONFIG, in place, what CONTROL says: kept, scaled, or drawn anew."""
    if control.velocities == "drawn":
        atoms.set_momenta(0 * atoms.get_momenta())
    elif control.velocities == "scaled" and control.temperature:
        wanted = 1.5 * (len(atoms) - 1) * units.kB * control.temperature
        if (there := atoms.get_kinetic_energy()) > 0:
            atoms.set_momenta(atoms.get_momenta() * (wanted / there) ** 0.5)
