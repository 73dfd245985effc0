"""A training run: its jobs, its working folder, and the models that are written at its end."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ase_fflux import __version__
from ase_fflux.base import claims
from ase_fflux.base.errors import FFLUXError, TrainingError
from ase_fflux.base.units import BOHR
from ase_fflux.formats.atom_model import AtomModel
from ase_fflux.formats.bundle import SUFFIX, write_bundle
from ase_fflux.formats.model_directory import foreign_file, write_model_directory
from ase_fflux.formats.model_file import write_model
from ase_fflux.learn.gp.settings import TrainingSettings
from ase_fflux.learn.gp.training import TrainingResult
from ase_fflux.model.molecule import MoleculeModel
from ase_fflux.training.data import TrainingData
from ase_fflux.training.jobs import Job
from ase_fflux.training.molecule import AtomTargets, atom_jobs, equivalent_atoms, molecule_model

RECORD = "train.json"
"""What a working folder belongs to."""


@dataclass(frozen=True)
class Recipe:
    """What is trained on the data.

    Parameters
    ----------
    settings : TrainingSettings
        How.
    moments : str
        One of `train.MOMENTS`.
    links : tuple of str
        Some of `train.LINKS`.
    guesses : MoleculeModel or None
        Model whose length scales are first guesses.
    """

    settings: TrainingSettings
    moments: str = "shared"
    links: tuple[str, ...] = ()
    guesses: MoleculeModel | None = None

    def jobs(self, data: TrainingData) -> list[Job]:
        """The models to be trained.

        Raises
        ------
        TrainingError
            Sets with nothing to train, links without what they need, guesses that fit no model.
        """
        same = None
        if "equivalent" in self.links:
            if data.reference is None or len(data.atoms) < data.n_atoms:
                raise TrainingError(
                    "--link equivalent needs --geometry and the training sets of all atoms"
                )
            same = equivalent_atoms(
                data.reference.get_chemical_symbols(), data.reference.positions / BOHR, data.alf
            )
        targets = [
            AtomTargets(atom.atom, atom.label, atom.training.features, atom.training.targets)
            for atom in data.atoms
        ]
        jobs = atom_jobs(targets, self.settings, self.moments, self.links, same)
        if not jobs:
            raise TrainingError(
                f"the training sets hold nothing that --moments {self.moments} would train"
            )
        return jobs if self.guesses is None else _with_guesses(jobs, data, self.guesses)


def _with_guesses(jobs: Sequence[Job], data: TrainingData, model: MoleculeModel) -> list[Job]:
    """Jobs with the length scales of a model's processes of the same atom and property.

    The model is of the same molecule, or of a smaller one whose atoms are the first of this one:
    with the same local frames, its features are the leading ones.
    """
    count = len(model.symbols)
    for atom in (a for a in data.atoms if a.atom < count):
        theirs = model.symbols[atom.atom], tuple(map(int, model.alf[atom.atom]))
        if count > data.n_atoms or theirs != (atom.element, atom.alf):
            raise TrainingError(
                f"--from {model.name}: its atom {atom.atom + 1} is {_identity(*theirs)} of {count} "
                f"atoms, the one to train {_identity(atom.element, atom.alf)} of {data.n_atoms}; "
                "length scales can be taken from a model of the same molecule or of its first "
                "atoms, with the same local frames"
            )
    seeded = []
    for job in jobs:
        fitting = [
            process.gp.kernel.theta for process in model.processes
            if process.atom == job.atom and set(process.properties) & set(job.properties)
        ]
        # a theta of 0 has no logarithm: the lowest that the search allows takes its place
        guesses = tuple(np.log(np.maximum(t, job.settings.bounds[0])) for t in fitting[:1])
        seeded.append(replace(job, guesses=guesses))
    if not any(job.guesses for job in seeded):
        raise TrainingError(
            f"--from {model.name}: it models none of the properties of the atoms to train"
        )
    return seeded


def _identity(element: str, alf: tuple[int, ...]) -> str:
    return f"{element} in the frame {','.join(str(i + 1) for i in alf if i >= 0)}"


def digest(path: Path) -> str:
    """SHA-256 of a file, or of all files in a directory."""
    files = sorted(p for p in path.iterdir() if p.is_file()) if path.is_dir() else [path]
    total = hashlib.sha256()
    for file in files:
        total.update(file.read_bytes())
    return total.hexdigest()


def claim(folder: Path, asked: dict) -> tuple[int, list[str]]:
    """Make the working folder, or find what an earlier run left in it.

    Parameters
    ----------
    folder : Path
        Where the models will be kept.
    asked : dict
        Settings and inputs, JSON-able.

    Returns
    -------
    finished : int
        Models that are there.
    differ : list of str
        Settings and inputs that were others, empty if all were the same.

    Raises
    ------
    TrainingError
        A folder with other content.
    """
    try:
        differ = claims.claim(
            folder, RECORD, {"version": __version__, **asked}, "a training", replace=True
        )
    except FFLUXError as error:
        raise TrainingError(str(error)) from None
    return len(list(folder.glob("*.npz"))), differ


def prefix_of(output: Path) -> str:
    """Beginning of the names of all other files: the output without the suffix of a bundle."""
    return str(output).removesuffix(SUFFIX)


def check_output(output: Path, data: TrainingData) -> None:
    """Refuse, before anything is trained, an output that could not be written.

    Raises
    ------
    TrainingError
        A bundle of atoms that are no whole molecule; a directory that holds other files than
        models, a file in its place.
    """
    if output.suffix == SUFFIX:
        if data.incomplete:
            raise TrainingError(
                f"a bundle is a whole molecule and needs {data.incomplete}; an OUTPUT without "
                f"{SUFFIX} makes a directory of .model files"
            )
    elif output.is_dir():
        if strange := foreign_file(output):
            raise TrainingError(f"{output} holds other files ({strange}): choose a new directory")
    elif output.exists():
        raise TrainingError(
            f"{output} is a file: OUTPUT is NAME{SUFFIX} for a bundle, or a directory"
        )


def molecule(
    data: TrainingData, name: str, jobs: Sequence[Job], results: Mapping[str, TrainingResult]
) -> MoleculeModel | None:
    """The model of the whole molecule, None if something of it is missing."""
    if data.incomplete or data.reference is None:
        return None
    return molecule_model(
        name, data.reference.get_chemical_symbols(), data.alf, data.reference.positions / BOHR,
        jobs, results, None if data.dataset is None else data.dataset.geometries,
    )


def write_models(
    output: Path, data: TrainingData, model: MoleculeModel | None, jobs: Sequence[Job],
    results: Mapping[str, TrainingResult],
) -> None:
    """Write a bundle or a directory of ``.model`` files.

    Parameters
    ----------
    output : Path
        ``NAME.fflux``, or the directory; must not be there, but for an empty directory.
    data : TrainingData
        What was trained on.
    model : MoleculeModel or None
        Of the whole molecule; without it each property of each atom has a file of its own.
    jobs, results
        What was trained.
    """
    if model is not None:
        write = write_bundle if output.suffix == SUFFIX else write_model_directory
        write(output, model)
        return
    output.mkdir(parents=True, exist_ok=True)
    system = re.sub(r"[^A-Z0-9]", "", data.system.upper()) or "MOLECULE"
    atoms = {atom.atom: atom for atom in data.atoms}
    for job in jobs:
        atom, gp = atoms[job.atom], results[job.name].process
        for i, name in enumerate(job.properties):
            single = gp.single(i)
            write_model(output / f"{system}_{name}_{atom.label}.model", AtomModel(
                system, atom.label, atom.atom, atom.element, name, atom.alf, data.n_atoms, single,
                single.targets()[0],
            ))
