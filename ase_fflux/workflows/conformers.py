"""The minima of a molecule, found from one geometry, as a table and a file of conformers."""

from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from ase_fflux.base.outputs import OutputFiles, silent, versions, write_json
from ase_fflux.base.store import replacing
from ase_fflux.base.units import KJ_PER_MOL
from ase_fflux.labels.conformer_search import Conformers, Search, search_conformers
from ase_fflux.labels.conformers import Minimum, minima, mirror_image, near
from ase_fflux.labels.sampling import normal_modes, wavenumber
from ase_fflux.labels.source import LabelSource

SUFFIXES = ".xyz", ".json"
"""Geometries with energies, the lowest first, and the summary."""


@dataclass(frozen=True)
class Conformer:
    """A minimum.

    Attributes
    ----------
    atoms : Atoms
        With its energy (eV).
    above : float
        Energy above the lowest (kJ/mol).
    wavenumber : float
        Of its softest mode (cm^-1).
    images : int
        2 if its mirror image is another minimum of the same molecule, else 1.
    """

    atoms: Atoms
    above: float
    wavenumber: float
    images: int


def find_conformers(
    starts: list[Atoms], source: LabelSource, search: Search, progress=silent
) -> tuple[list[Conformer], Conformers]:
    """Minima of a source, the lowest first, one of each two mirror images.

    Parameters
    ----------
    starts : list of Atoms
        The first is searched from, all are optimised.
    source : LabelSource
    search : Search
    progress : context manager
        Called with a description and a total; gives a function to call with increments and notes.

    Returns
    -------
    list of Conformer
    Conformers
        What the search on the source's engine found before.

    Raises
    ------
    LabelError
        What `search_conformers` and `minima` raise.
    """
    found = search_conformers(starts[0], source.engine, search, source.charge, progress)
    kept: list[tuple[Minimum, int]] = []
    for minimum in minima([*starts, *found.atoms], source, progress=progress):
        image = mirror_image(minimum.atoms)
        if image is None or near(image, minimum.atoms):
            kept.append((minimum, 1))
        elif not any(near(image, other.atoms) for other, _ in kept):
            kept.append((minimum, 2))
    energies = []
    for minimum, _ in kept:
        atoms = minimum.atoms
        atoms.calc = source.calculator()
        energies.append(atoms.get_potential_energy())
        atoms.calc = SinglePointCalculator(atoms, energy=energies[-1])
    result = []
    for k in np.argsort(energies, kind="stable"):
        minimum, images = kept[k]
        softest = wavenumber(normal_modes(minimum.atoms, minimum.hessian)[0][0])
        above = (energies[k] - min(energies)) / KJ_PER_MOL
        result.append(Conformer(minimum.atoms, above, softest, images))
    return result, found


def write_conformers(
    conformers: list[Conformer], found: Conformers, files: OutputFiles, source: LabelSource,
    about: dict,
) -> dict:
    """Write geometries and summary (`SUFFIXES`); nothing may be there. Returns the summary."""
    frames = []
    for number, conformer in enumerate(conformers, 1):
        frame = conformer.atoms.copy()
        frame.calc = conformer.atoms.calc
        frame.info = {"conformer": number, "above_lowest_kJ_per_mol": round(conformer.above, 3)}
        frames.append(frame)
    with replacing(files[".xyz"]) as partial:
        write(partial, frames, format="extxyz")
    summary = {
        **about,
        "versions": versions() | dict(source.versions),
        "level_of_theory": source.method,
        "made_by": found.made_by,
        "quenched": found.quenched,
        "energies_eV": [c.atoms.get_potential_energy() for c in conformers],
        "energies_above_lowest_kJ_per_mol": [c.above for c in conformers],
        "softest_modes_per_cm": [c.wavenumber for c in conformers],
        "mirror_images": [c.images for c in conformers],
        "files": files.names,
    }
    write_json(files[".json"], summary)
    return summary
