"""A run directory written: CONFIG, CONTROL, FIELD, MPOLES and model_krig/.

All pairs of atoms of a molecule are listed as bonds without force, by which the published engine
leaves them out of what acts between molecules.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from ase_fflux.base.errors import FFLUXError
from ase_fflux.base.store import replacing, told, write_text
from ase_fflux.base.units import KJ_PER_MOL
from ase_fflux.formats.dl_poly.config import write_config
from ase_fflux.formats.dl_poly.directory import MODELS
from ase_fflux.formats.model_directory import require_plain_weights, system_name, write_models
from ase_fflux.model.molecule import MoleculeModel

_LONGEST_NAME = 8
"""Letters that DL_POLY reads of an atom's name."""


@dataclass(frozen=True, eq=False)
class Contents:
    """What is written.

    Parameters
    ----------
    title : str
    models : sequence of MoleculeModel
        Of the kinds of molecules.
    counts : sequence of int
        How many molecules of each.
    types : sequence of tuple of str
        Names of the atoms of each.
    masses : sequence of arrays
        Of the atoms of each (amu).
    positions : (n, 3) array
        Angstrom, molecule after molecule, kind after kind.
    cell, pbc
        As of `Config`.
    velocities : (n, 3) array or None
        Angstrom/ps.
    potentials : dict
        ``{(type, type): (kind, parameters)}`` in eV and Angstrom.
    cutoff : float
        Of Ewald's real space and of the pair potentials (Angstrom).
    shifted : bool
    keyword : str
        Of the electrostatics, such as ``fflux ewald L3``.
    rank : int
        Highest rank of moments that interact, -1 for none.
    accuracy : float
    """

    title: str
    models: Sequence[MoleculeModel]
    counts: Sequence[int]
    types: Sequence[tuple[str, ...]]
    masses: Sequence[np.ndarray]
    positions: np.ndarray
    cell: np.ndarray
    pbc: np.ndarray
    velocities: np.ndarray | None
    potentials: dict[tuple[str, str], tuple[str, tuple[float, ...]]]
    cutoff: float
    shifted: bool
    keyword: str
    rank: int
    accuracy: float


def write_run_directory(directory: str | Path, contents: Contents) -> list[Path]:
    """Write a run directory, whole or not at all.

    Returns
    -------
    list of Path
        The files.

    Raises
    ------
    FFLUXError
        A name that DL_POLY cannot have, two kinds of molecules of one name, models trained on
        gradients, a directory that is not empty or cannot be written.
    """
    directory = Path(directory)
    systems = [system_name(model) for model in contents.models]
    for model, system in zip(contents.models, systems, strict=True):
        require_plain_weights(model)
        if systems.count(system) > 1:
            raise FFLUXError(f"two species are called {system} in the files of DL_FFLUX")
    for name in {name for names in contents.types for name in names}:
        if len(name) > _LONGEST_NAME:
            raise FFLUXError(
                f"the type {name!r} is longer than the {_LONGEST_NAME} letters that DL_POLY reads"
            )
    with told(directory):
        directory.parent.mkdir(parents=True, exist_ok=True)
    names = ["CONFIG", "CONTROL", "FIELD", "MPOLES"]
    with replacing(directory, new=True) as partial:
        (partial / MODELS).mkdir(parents=True)
        for model, system in zip(contents.models, systems, strict=True):
            written = write_models(partial / MODELS, model, f"{system}.json")
            names += [f"{MODELS}/{name}" for name in written]
        labels = [
            name for types, count in zip(contents.types, contents.counts, strict=True)
            for name in types * count
        ]
        write_config(
            partial / "CONFIG", contents.title, labels, contents.positions, contents.cell,
            contents.pbc, contents.velocities,
        )
        for name, lines in (
            ("CONTROL", _control(contents)), ("FIELD", _field(contents, systems)),
            ("MPOLES", _mpoles(contents, systems)),
        ):
            write_text(partial / name, "\n".join(lines) + "\n")
    return [directory / name for name in names]


def _control(contents: Contents) -> list[str]:
    vdw = ["vdw direct", *(["vdw shift"] if contents.shifted else [])]
    return [
        contents.title[:72],
        "ensemble nve", "temperature 298.15",
        *(["restart noscale"] if contents.velocities is not None else []),
        "timestep 0.0005", "steps 1000", "",
        f"cutoff {contents.cutoff:.10g}", f"rvdw {contents.cutoff:.10g}",
        *(vdw if contents.potentials else ["no vdw"]),
        contents.keyword,
        *([f"spme precision {contents.accuracy:g}"] if all(contents.pbc) else []), "",
        "print every 10", "stats every 10", "traj 0 10 0", "fflux print 0 1",
        "job time 10000000", "close time 20000", "finish",
    ]


def _field(contents: Contents, systems: list[str]) -> list[str]:
    lines = [contents.title[:72], "Units kJ"]
    if contents.rank >= 0:
        lines.append(f"Multipolar {contents.rank}")
    lines.append(f"Molecular types {len(systems)}")
    for system, count, types, masses, charges in zip(
        systems, contents.counts, contents.types, contents.masses, _charges(contents), strict=True
    ):
        lines += [system, f"nummols {count}", f"atoms {len(types)}"]
        lines += [
            f"{name:<8s} {mass:12.6f} {charge:10.5f} 1 0"
            for name, mass, charge in zip(types, masses, charges, strict=True)
        ]
        pairs = list(combinations(range(1, len(types) + 1), 2))
        lines += [f"bonds {len(pairs)}", *(f"harm {i} {j} 0.0 0.0" for i, j in pairs), "finish"]
    if contents.potentials:
        lines.append(f"vdw {len(contents.potentials)}")
        for (a, b), (kind, values) in contents.potentials.items():
            energies = {"lj": (0,), "buckingham": (0, 2)}[kind]
            numbers = [
                f"{value / (KJ_PER_MOL if k in energies else 1.0):.15g}"
                for k, value in enumerate(values)
            ]
            lines.append(" ".join([a, b, {"lj": "lj", "buckingham": "buck"}[kind], *numbers]))
    return [*lines, "close"]


def _mpoles(contents: Contents, systems: list[str]) -> list[str]:
    """Constant moments, which the published engine reads before it predicts those of the models."""
    lines = [contents.title[:72], f"MOLECULES {len(systems)}"]
    for system, count, types, charges in zip(
        systems, contents.counts, contents.types, _charges(contents), strict=True
    ):
        lines += [system, f"NUMMOLS {count}", f"ATOMS {len(types)}", ""]
        for name, charge in zip(types, charges, strict=True):
            lines += [f"{name} 0", f"  {charge:.5f}", ""]
        lines += ["FINISH"]
    return [*lines, "CLOSE"]


def _charges(contents: Contents) -> list[list[float]]:
    """Means of the charges that the models have."""
    return [
        [_charge(model, atom) for atom in range(len(model.symbols))] for model in contents.models
    ]


def _charge(model: MoleculeModel, atom: int) -> float:
    for process in model.processes:
        if process.atom == atom and "q00" in process.properties:
            return float(process.gp.mean[process.properties.index("q00")])
    return 0.0
