"""The table of a run: columns by name, written line by line and read as a whole."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ase_fflux.simulate.blocking import blocked_mean
from ase_fflux.simulate.md.dynamics import Dynamics, Sample

_TENSOR = ("xx", "yy", "zz", "yz", "xz", "xy")


@dataclass(frozen=True)
class Column:
    """A column.

    Attributes
    ----------
    name : str
        With the unit behind a slash.
    width, decimals : int
    value : callable
        Its number in a `Sample`, None for not a number.
    """

    name: str
    width: int
    decimals: int
    value: Callable[[Sample], float | None]


def columns_of(dynamics: Dynamics) -> list[Column]:
    """The columns that samples of these dynamics have."""
    settings, sample = dynamics.settings, dynamics.sample()
    found = [
        Column("time/ps", 12, 6, lambda s: s.time),
        Column("potential/eV", 18, 8, lambda s: s.potential),
        Column("kinetic/eV", 14, 8, lambda s: s.kinetic),
        Column("total/eV", 18, 8, lambda s: s.total),
        Column("temperature/K", 14, 3, lambda s: s.temperature),
        Column("min.coverage", 13, 6, lambda s: s.coverage),
    ]
    if settings.conserves and settings.ensemble != "nve":
        found.append(Column("conserved/eV", 18, 8, lambda s: s.conserved))
    if sample.volume is not None:
        found.append(Column("volume/A^3", 14, 4, lambda s: s.volume))
        found.append(Column("density/(g/cm^3)", 16, 8, lambda s: s.density))
    if sample.pressure is not None:
        found.append(Column("pressure/bar", 14, 3, lambda s: s.pressure[:3].mean()))
        for k, name in enumerate(_TENSOR):
            found.append(Column(f"p.{name}/bar", 14, 3, lambda s, k=k: s.pressure[k]))
    if settings.uncertainty:
        found.append(Column("uncertainty/eV", 15, 8, lambda s: s.uncertainty))
    return found


def head(columns: list[Column]) -> str:
    """The first line; its sign of a comment takes the place of a blank."""
    return f"#{' '.join(f'{c.name:>{c.width}}' for c in columns)[1:]}\n"


def line(columns: list[Column], sample: Sample) -> str:
    """The line of a sample."""
    values = (np.nan if (v := c.value(sample)) is None else v for c in columns)
    cells = (f"{v:{c.width}.{c.decimals}f}" for c, v in zip(columns, values, strict=True))
    return " ".join(cells) + "\n"


def read_table(path: Path) -> dict[str, np.ndarray]:
    """The columns of a table by their names without units."""
    with open(path, encoding="utf-8") as file:
        names = file.readline().lstrip("#").split()
    numbers = np.loadtxt(path, ndmin=2, encoding="utf-8").T
    return dict(zip([name.split("/")[0] for name in names], numbers, strict=True))


def statistics(
    table: dict[str, np.ndarray], n_atoms: int, conserved: str | None, equilibration: float = 0.0
) -> dict:
    """Means with error bars by blocking, drift and extremes of a run.

    Parameters
    ----------
    table : dict
        Of `read_table`.
    n_atoms : int
        What drift and departure of the energy are divided by.
    conserved : str or None
        The column of what the dynamics conserve; without it, and of a single sample, drift and
        departure are None.
    equilibration : float
        ps at the beginning that means leave out, up to the last sample of a run that ended before.

    Returns
    -------
    dict
        Entries of the summary. The drift is the slope of a straight line through the conserved
        energy, and this slope times the length of the run; the departure is from the first.
    """
    time, coverage = table["time"], table["min.coverage"]
    drift = slope = departure = None
    if conserved is not None and len(time) > 1:
        energy = table[conserved] - table[conserved][0]
        slope = 1000 * np.polyfit(time - time[0], energy, 1)[0] / n_atoms
        drift = slope * (time[-1] - time[0])
        departure = 1000 * np.abs(energy).max() / n_atoms
    equilibration = min(equilibration, time[-1] - time[0])
    late = time >= time[0] + equilibration
    means = {}
    for name, column, unit in (
        ("temperature", "temperature", "K"), ("potential_energy", "potential", "eV"),
        ("volume", "volume", "A3"), ("density", "density", "g_per_cm3"),
        ("pressure", "pressure", "bar"),
    ):
        if column in table:
            mean = blocked_mean(table[column][late])
            means[f"{name}_mean_{unit}"] = mean.value
            means[f"{name}_error_{unit}"] = mean.error
    if "uncertainty" in table:
        uncertain = table["uncertainty"][late].mean(), table["uncertainty"].max()
    else:
        uncertain = None, None
    return {
        "means_from_ps": equilibration,
        **means,
        "temperature_standard_deviation_K": table["temperature"][late].std(),
        "total_energy_initial_eV": table["total"][0],
        "total_energy_final_eV": table["total"][-1],
        "drift_meV_per_atom_per_ps": slope,
        "drift_meV_per_atom": drift,
        "largest_departure_meV_per_atom": departure,
        "coverage_min": None if np.isnan(coverage).any() else coverage.min(),
        "uncertainty_mean_eV": uncertain[0],
        "uncertainty_largest_eV": uncertain[1],
    }
