"""From a geometry to a tested model: optimise, sample, label, train, test.

Everything that takes long is kept in a working folder as soon as it is done (`labelling`, and what
is trained in its folder ``models``), so that a build that was interrupted goes on where it stopped.
"""

from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from ase import Atoms

from ase_fflux.assess.learning import LearningCurve
from ase_fflux.assess.validate import (
    HeldOutErrors,
    MinimumErrors,
    held_out_errors,
    minimum_errors,
    table,
)
from ase_fflux.base.errors import FFLUXError, GeometryError
from ase_fflux.base.outputs import silent, versions
from ase_fflux.base.units import BOHR
from ase_fflux.calculator import FFLUX
from ase_fflux.formats.bundle import write_bundle
from ase_fflux.labels.dataset import Dataset
from ase_fflux.labels.folder import LabelFolder, LabelSettings
from ase_fflux.learn.gp.settings import TrainingSettings
from ase_fflux.model.alf import choose_alf
from ase_fflux.model.frames import features
from ase_fflux.model.molecule import MoleculeModel
from ase_fflux.model.symmetry import symmetry_and_frames
from ase_fflux.training.jobs import run_jobs
from ase_fflux.training.joint import JointTrainer, JointTraining
from ase_fflux.training.molecule import molecule_jobs, molecule_model, training_record

LEAST_LABELS = 20
_ROUNDS = 0.25, 0.5, 1.0
"""Shares of the labels on which a learning curve is taken, and after which a goal may end it."""


@dataclass(frozen=True)
class BuildSettings:
    """What a model is made from.

    Parameters
    ----------
    labels : int
        Number of training labels, at most.
    sampling : LabelSettings
        What is labelled.
    goal : float
        Force RMSE on the test trajectory (eV/Angstrom) that is good enough.
    stop : bool
        Whether labelling ends, after a quarter or half of the labels, when the goal is reached.
    """

    labels: int = 300
    sampling: LabelSettings = LabelSettings()
    goal: float = 0.02
    stop: bool = False


@dataclass(frozen=True)
class Build:
    """A finished build: the model with its provenance, its errors, and its learning curve.

    The curve is None for models that do not learn from gradients.
    """

    model: MoleculeModel
    test: HeldOutErrors
    minima: list[MinimumErrors]
    curve: LearningCurve | None


def build(
    conformers: list[Atoms],
    output: Path,
    source,
    settings: BuildSettings,
    training: JointTraining | TrainingSettings,
    folder: Path,
    command: str = "",
    progress=silent,
    say=lambda text: None,
) -> Build:
    """Make and test a model.

    Parameters
    ----------
    conformers : list of Atoms
        Starting geometries of all conformers, same atoms in the same order (Angstrom).
    output : Path
        Bundle to write; must not exist.
    source : label source
        Such as `GFN2`.
    settings : BuildSettings
        Labels.
    training : JointTraining or TrainingSettings
        From energies and gradients, or from energies alone, each atom by itself.
    folder : Path
        Working folder, kept afterwards.
    command : str
        Command for the record.
    progress : context manager
        Called with a description and a total; gives a function to call with increments.
    say : callable
        Gets what is worth knowing before something long starts.

    Raises
    ------
    FFLUXError
        An output that exists, a folder with other settings, and what labelling and training raise.
    """
    if output.exists():
        raise FFLUXError(f"{output} exists already: move it away or choose another output")
    if settings.labels < LEAST_LABELS:
        raise FFLUXError(f"a build needs at least {LEAST_LABELS} labels")
    labels = LabelFolder(folder, conformers, source, settings.sampling)
    found = labels.minima(progress)
    reference = found[0].positions / BOHR
    # what has no local frames is refused before it is labelled
    _check_frames(found, training)
    trained = _from_gradients if isinstance(training, JointTraining) else _from_energies
    test = labels.test(progress)
    dataset, model, record, curve = trained(
        labels, reference, output.stem, settings, training, test, progress, say
    )
    errors = held_out_errors(model, test)
    draft = folder / "untested.fflux"
    draft.unlink(missing_ok=True)
    write_bundle(draft, model)
    calculator = FFLUX(str(draft))
    with progress("testing minima", len(found)) as advance:
        at_minima = []
        for minimum in found:
            at_minima.append(minimum_errors(minimum, calculator, source))
            advance(1)
    draft.unlink()
    model = replace(model, provenance={
        "label_source": source.method,
        "energies": source.energies,
        "command": command,
        "settings": asdict(settings),
        "training": record,
        "labels": {name: int(n) for name, n in
                   zip(*np.unique(dataset.origins, return_counts=True), strict=True)},
        "errors": {
            name: {"value": value, "unit": unit} for name, value, unit in table(errors, at_minima)
        },
        "learning_curve": None if curve is None else asdict(curve),
        "versions": versions(),
    })
    write_bundle(output, model, replace=True)
    return Build(model, errors, at_minima, curve)


def _check_frames(minima, training) -> None:
    """Refuse minima at which the local frames that will be trained with are not defined."""
    symbols = minima[0].get_chemical_symbols()
    geometries = np.array([atoms.positions for atoms in minima]) / BOHR
    symmetric = isinstance(training, JointTraining) and training.symmetry
    _, alf = symmetry_and_frames(symbols, geometries[0], symmetric)
    for number, geometry in enumerate(geometries, 1):
        for atom in range(len(alf)):
            try:
                features(geometry[None], alf, atom)
            except GeometryError as error:
                raise GeometryError(f"minimum {number}: {error}") from None


def _from_energies(labels, reference, name, settings, training, test, progress, say):
    """Labels; a model of energies and moments, each atom by itself; its record and no curve."""
    dataset = labels.training(settings.labels, progress)
    alf = choose_alf(dataset.symbols, reference)
    jobs = molecule_jobs(dataset, alf, training)
    with progress("training", len(jobs)) as advance:
        results = run_jobs(
            jobs, folder=labels.folder / "models",
            on_finished=lambda job, result, restored: advance(1),
        )
    model = molecule_model(dataset, name, alf, reference, jobs, results)
    return dataset, model, training_record(training, jobs, results), None


def _from_gradients(labels, reference, name, settings, training, test, progress, say):
    """Labels; a model of energies and gradients with its moments; its record and curve."""
    counts = _sizes(settings.labels)
    for count in counts if settings.stop else counts[-1:]:
        dataset = labels.training(count, progress)
        trainer = JointTrainer(dataset, reference, training, labels.folder / "models")
        say(trainer.plan)
        hyperparameters = trainer.hyperparameters(progress)
        energies = trainer.solve(hyperparameters)
        curve = _curve(trainer, hyperparameters, energies, name, test, progress)
        if curve.force_rmse[-1] <= settings.goal:
            break
    model = trainer.model(name, energies, trainer.moments(progress))
    return dataset, model, trainer.record(energies), curve


def _sizes(labels: int) -> list[int]:
    """A quarter, half and all of the labels, as far as these are enough to train on."""
    sizes = [round(share * labels) for share in _ROUNDS]
    return [size for size in sizes if size >= LEAST_LABELS]


def _curve(trainer, hyperparameters, energies, name, test: Dataset, progress) -> LearningCurve:
    """Errors with the first quarter, half and all of the labels, hyperparameters being the same."""
    n = len(trainer.dataset)
    sizes = _sizes(n)
    found = []
    with progress("learning curve", len(sizes)) as advance:
        for size in sizes:
            some = np.arange(size)
            solved = energies if size == n else trainer.solve(hyperparameters, some)
            errors = held_out_errors(trainer.model(name, solved, [], some), test)
            found.append(errors.force_rmse_ev_per_angstrom)
            advance(1)
    return LearningCurve(tuple(sizes), tuple(found))
