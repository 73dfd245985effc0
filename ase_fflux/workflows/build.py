"""From a geometry to a tested model: optimise, sample, label, train, test.

Everything that takes long is kept in a working folder as soon as it is done (`labelling`, and what
is trained in its folder ``models``), so that a build that was interrupted goes on where it stopped.
"""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import perf_counter

import numpy as np
from ase import Atoms

from ase_fflux.assess.build_page import PAGE, write_page
from ase_fflux.assess.learning import LearningCurve
from ase_fflux.assess.validate import (
    HeldOutErrors,
    MinimumErrors,
    held_out_errors,
    minimum_errors,
    record,
    table,
)
from ase_fflux.base.errors import FFLUXError, GeometryError
from ase_fflux.base.outputs import OutputFiles, silent, versions
from ase_fflux.base.text import duration
from ase_fflux.base.units import BOHR, KJ_PER_MOL
from ase_fflux.calculator import FFLUX
from ase_fflux.formats.bundle import write_bundle
from ase_fflux.labels.conformer_search import Search
from ase_fflux.labels.conformers import distinct
from ase_fflux.labels.dataset import Dataset, count_labels
from ase_fflux.labels.folder import LabelFolder, LabelSettings
from ase_fflux.labels.label import joined
from ase_fflux.labels.labeller import Labeller
from ase_fflux.labels.sampling import sampling_steps
from ase_fflux.labels.shapes import turns
from ase_fflux.labels.source import LabelSource, Rejected
from ase_fflux.learn.gp.settings import TrainingSettings
from ase_fflux.model.alf import choose_alf
from ase_fflux.model.frames import features, n_features
from ase_fflux.model.molecule import MoleculeModel
from ase_fflux.model.prior import Prior
from ase_fflux.model.symmetry import symmetry_and_frames
from ase_fflux.training.jobs import run_jobs
from ase_fflux.training.joint import JointTrainer, JointTraining
from ase_fflux.training.molecule import molecule_jobs, molecule_model, training_record
from ase_fflux.workflows.designed import Designed

LEAST_LABELS = 20
_WORTH_SAYING = 3.0
"""Seconds of labelling from which on they are announced."""
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
    search : Search, optional
        How further conformers are looked for; by default those that are given are all.
    design : bool
        Whether training geometries are chosen before they are labelled (`designed`); the source's
        engine must be a label source of its own.
    """

    labels: int = 300
    sampling: LabelSettings = LabelSettings()
    goal: float = 0.02
    stop: bool = False
    search: Search | None = None
    design: bool = False


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
    source: LabelSource,
    settings: BuildSettings,
    training: JointTraining | TrainingSettings,
    folder: Path,
    command: str = "",
    progress=silent,
    say=lambda text: None,
    workers: int = 1,
    prior: Prior | None = None,
) -> Build:
    """Make and test a model.

    Parameters
    ----------
    conformers : list of Atoms
        Starting geometries of all conformers, same atoms in the same order (Angstrom).
    output : Path
        Bundle to write, and beside it ``NAME-report.html``; what is there is kept as
        ``NAME.fflux.~1~``.
    source : LabelSource
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
    workers : int
        Processes of one thread each that label.
    prior : Prior, optional
        What a model of energies and gradients stands on top of.

    Raises
    ------
    FFLUXError
        A folder with other settings, a linear molecule of more than two atoms, and what labelling
        and training raise.
    """
    if settings.labels < LEAST_LABELS:
        raise FFLUXError(f"a build needs at least {LEAST_LABELS} labels")
    for conformer in conformers:
        # linear molecules are refused before anything is begun
        choose_alf(conformer.get_chemical_symbols(), conformer.positions / BOHR)
    design = None
    if settings.design:
        design = Designed(folder, source, settings.sampling, settings.labels, workers, progress)
    labels = LabelFolder(
        folder, conformers, source, settings.sampling, Labeller(source, workers), settings.search,
        design,
    )
    made_by = labels.starts(progress)[1]
    found = labels.minima_with_hessians(progress)
    if made_by:
        say(f"{len(found)} minima, mirror images among them (conformers by {made_by})")
    elif len(conformers) == 1 and turns(conformers[0]):
        say("one conformer is given, and there are bonds that turn: --conformers looks for others")
    reference = found[0].atoms.positions / BOHR
    # what has no local frames is refused before it is labelled
    _check_frames([minimum.atoms for minimum in found], training)
    around = _around([minimum.atoms for minimum in found], source, settings, training, say)
    if text := _plan(labels, found, source, settings, around):
        say(text)
    trained = _from_gradients if isinstance(training, JointTraining) else _from_energies
    test = labels.test(progress)
    dataset, model, steps, curve = trained(
        labels, reference, output.stem, settings, training, test, around, progress, say, prior
    )
    errors = held_out_errors(model, test)
    calculator = FFLUX(model)
    with progress("testing minima", len(found)) as advance:
        at_minima = []
        for minimum in found:
            at_minima.append(minimum_errors(minimum.atoms, calculator, source, minimum.hessian))
            advance(1)
    model = replace(model, provenance={
        "label_source": source.method,
        "energies": source.energies,
        "label_settings": dict(dataset.settings),
        "command": command,
        "settings": asdict(settings),
        "conformers": made_by or "as given",
        "training": steps,
        "labels": dataset.count_of_origin,
        "errors": record(table(errors, at_minima)),
        "learning_curve": None if curve is None else asdict(curve),
        "versions": versions() | dict(dataset.versions),
    })
    files = OutputFiles(output.with_suffix(""), [output.suffix, PAGE])
    if moved := files.set_aside():
        say(moved)
    write_bundle(output, model)
    starts = [minimum.atoms for minimum in found]
    write_page(
        files[PAGE], model, test, starts, _relative(starts, source.calculator),
        _relative(starts, lambda: calculator), curve, settings.goal,
    )
    return Build(model, errors, at_minima, curve)


def _relative(minima, make_calculator) -> np.ndarray:
    """Energies of geometries, from that of the first on (kJ/mol)."""
    if len(minima) == 1:
        return np.zeros(1)  # what a source may take minutes to say
    energies = []
    for atoms in minima:
        moved = Atoms(atoms.numbers, atoms.positions, calculator=make_calculator())
        energies.append(moved.get_potential_energy() / KJ_PER_MOL)
    return np.array(energies) - energies[0]


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


def _around(minima: list[Atoms], source, settings: BuildSettings, training, say) -> list[int]:
    """Minima (from 0) around which displacements are labelled, for the moments alone.

    Infrared intensities are derivatives of the dipole at minima, which hot geometries leave off by
    a factor of two where they are small. Minima that symmetry takes into each other need it once.
    These labels are no more than the others: the first minima get theirs.
    """
    if (
        not isinstance(training, JointTraining) or training.which == "none"
        or source.gives.rank < 0
    ):
        return []
    symbols = minima[0].get_chemical_symbols()
    symmetry, _ = symmetry_and_frames(symbols, minima[0].positions / BOHR, training.symmetry)
    found = distinct(minima, symmetry)
    each = 2 * n_features(len(symbols))
    some = found[:settings.labels // each]
    if len(some) < len(found):
        say(
            f"infrared intensities are learned from displacements around {len(some)} of "
            f"{len(found)} minima: for all of them, --labels {each * len(found)} or more"
        )
    return some


def _plan(
    labels: LabelFolder, minima, source, settings: BuildSettings, around: list[int]
) -> str:
    """Time of what is still to be labelled and of the tests at minima, by one calculation each.

    Empty where nothing is to be labelled, or in a few seconds.
    """
    sampling = settings.sampling
    labelled = steps = 0
    training, size = sampling.training(), settings.labels
    if labels.design is not None:
        training, size = labels.design.portions, labels.design.pool_size(settings.labels)
    for name, portions, count, sampled in (
        ("labels.xyz", training, settings.labels, size),
        ("test.xyz", sampling.test(), sampling.test_frames, sampling.test_frames),
    ):
        missing = max(count - count_labels(labels.folder / name), 0)
        labelled += missing
        if missing:  # the dynamics before the first missing frame are repeated
            steps += sum(
                sampling_steps(round(p.share * sampled), len(minima), p.stride_fs)
                for p in portions if p.kind == "md"
            )
    labelled += sum(labels.missing_around(i) for i in around)
    if not labelled:
        return ""
    atoms, dear = minima[0].atoms, source.engine is not source
    force = _force_seconds(source, atoms)
    if dear:
        each, workers = _label_seconds(source, atoms), labels.labeller.workers
        # geometries are sampled while others are labelled
        seconds = max(labelled * each / workers, steps * _force_seconds(source.engine, atoms))
        where = f"{workers} processes" if workers > 1 else "1 process"
        what = f" ({labelled} labels of {each:.1f} s each on {where})"
    else:
        seconds, what = (labelled + steps) * force, ""
    tests = 0.0
    if source.gives.dipole:
        tests = 6 * len(atoms) * len(minima) * force  # infrared intensities
    if seconds + tests < _WORTH_SAYING:
        return ""
    return (
        f"labelling takes about {duration(seconds)}{what}, tests at minima "
        f"{duration(tests)}; the training is said after them"
    )


def _label_seconds(source: LabelSource, atoms: Atoms) -> float:
    """Time of one label."""
    start = perf_counter()
    try:
        source.label(Atoms(atoms.numbers, atoms.positions))
    except Rejected:
        pass  # it takes as long, or longer
    return perf_counter() - start


def _force_seconds(surface, atoms: Atoms) -> float:
    """Time of one energy with forces: of a cheap one the shortest of three."""
    times: list[float] = []
    while len(times) < 3 and sum(times) < 1.0:
        moved = Atoms(atoms.numbers, atoms.positions)
        moved.calc = surface.calculator()
        start = perf_counter()
        moved.get_forces()
        times.append(perf_counter() - start)
    return min(times)


def _from_energies(
    labels, reference, name, settings, training, test, around, progress, say, prior
):
    """Labels; a model of energies and moments, each atom by itself; its record and no curve."""
    dataset = labels.training(settings.labels, progress)
    alf = choose_alf(dataset.symbols, reference)
    jobs = molecule_jobs(dataset, alf, training)
    with progress("training", len(jobs)) as advance:
        results = run_jobs(
            jobs, folder=labels.folder / "models",
            on_finished=lambda job, result, restored: advance(1),
        )
    model = molecule_model(
        name, dataset.symbols, alf, reference, jobs, results, dataset.geometries
    )
    return dataset, model, training_record(training, jobs, results), None


def _from_gradients(
    labels, reference, name, settings, training, test, around, progress, say, prior
):
    """Labels; a model of energies and gradients with its moments; its record and curve."""
    counts = _sizes(settings.labels)
    for count in counts if settings.stop else counts[-1:]:
        dataset = labels.training(count, progress)
        displaced = [labels.around(i, progress) for i in around]
        trainer = JointTrainer(
            dataset, reference, training, labels.folder / "models",
            moment_labels=joined(displaced) if displaced else None, prior=prior,
        )
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
