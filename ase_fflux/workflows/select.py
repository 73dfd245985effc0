"""Geometries of a pool that are worth a label, and what to expect of them (`learn.joint.design`).

Length scales and variances are those of a model, or of a cheap level, GFN2-xTB, whose labels of the
whole pool cost seconds. These say more: which geometries matter (`thermal_target`), and what error
a model has at the cheap level that learns from what is chosen. The process alone is too confident,
the more so on geometries that it has chosen itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from ase import Atoms, units
from scipy.stats import gaussian_kde

from ase_fflux.assess.validate import held_out_errors
from ase_fflux.base.errors import FFLUXError, LabelError
from ase_fflux.base.machine import cores, memory_available, threads_here
from ase_fflux.base.outputs import silent
from ase_fflux.base.units import BOHR, FORCE, HARTREE, HARTREE_KJ
from ase_fflux.forcefield import ForceField
from ase_fflux.labels.conformers import minima
from ase_fflux.labels.label import dataset_of
from ase_fflux.labels.labeller import Labeller
from ase_fflux.labels.source import LabelSource, Rejected
from ase_fflux.learn.joint.data import JointData, joint_data
from ase_fflux.learn.joint.design import design
from ase_fflux.learn.joint.exchange import PASSES, Exchange
from ase_fflux.learn.joint.settings import JointSettings
from ase_fflux.learn.joint.system import Hyperparameters
from ase_fflux.learn.joint.uncertainty import Posterior
from ase_fflux.model.frames import n_features
from ase_fflux.model.kernels import OF_ATOMS
from ase_fflux.model.molecule import MoleculeModel
from ase_fflux.model.shared import Shared
from ase_fflux.training.joint import JointTrainer, JointTraining

TEMPERATURES = 300.0, 50.0
"""Kelvin; of the dynamics, and of what counts as near a minimum."""
TARGET = 150
"""Geometries of the target at most."""
SOURCE = 60
"""Labels of the cheap level that hyperparameters are found from."""
CHECKED = 5, 10, 25, 50, 100, 200
"""Numbers of labels at which the cheap level is tried."""

_SHARES = 2 / 3, 1 / 3
"""Of the geometries of the target; the parts count alike."""
_HEAVIEST = 10.0
"""Most that a geometry counts, relative to the mean."""
_LEAST_TEST = 20
"""Geometries of the target from which on errors at them say something."""


@dataclass(frozen=True, eq=False)
class Process:
    """What a choice stands on.

    Attributes
    ----------
    data : JointData
        Geometries of the pool, then of a target of its own, if there is one.
    hyperparameters : Hyperparameters
    energies : (n,) array
        Above the minimum, of all of them (hartree).
    origin : str
        Where these come from, in words.
    scale : float
        By which errors are larger than the process expects, at labels left out of a model's own; 1
        where `trainer` tells it.
    trainer : JointTrainer or None
        Of labels of the cheap level of all geometries.
    """

    data: JointData
    hyperparameters: Hyperparameters
    energies: np.ndarray
    origin: str
    scale: float = 1.0
    trainer: JointTrainer | None = None

    @property
    def untried(self) -> "Process":
        """The same without labels of the cheap level to try a choice with."""
        return replace(self, trainer=None)


@dataclass(frozen=True, eq=False)
class Target:
    """Where errors count.

    Attributes
    ----------
    places : (t,) int array
        Of geometries in the data of a `Process`.
    weights : (t,) int array
        How often each counts.
    parts : (t,) int array
        As of `design`; what is expected is of the first.
    """

    places: np.ndarray
    weights: np.ndarray
    parts: np.ndarray

    @classmethod
    def of(cls, places: np.ndarray) -> "Target":
        """Geometries that count alike."""
        return cls(places, np.ones(len(places), dtype=int), np.zeros(len(places), dtype=int))

    def at(self, pool: np.ndarray) -> "Target":
        """The same of geometries that are a pool in larger data."""
        return replace(self, places=pool[self.places])

    @property
    def first(self) -> "Target":
        """Its first part."""
        some = self.parts == 0
        return Target(self.places[some], self.weights[some], self.parts[some])


@dataclass(frozen=True, eq=False)
class Selection:
    """A choice.

    Attributes
    ----------
    chosen : (n,) int array
        Places in the pool, in the order of choice.
    force_rmse, energy_rmse : (n,) arrays
        Expected with 1, 2, ... of them: of components of the force (eV/Angstrom) and of the total
        energy (kJ/mol).
    checked : dict of int to (float, float)
        What a model of the cheap level has with so many of them; the others are scaled to it.
    force_alone, energy_alone : (n,) arrays
        What the process expects, without any scale.
    exchanged : Exchange or None
        What an exchange gained.
    """

    chosen: np.ndarray
    force_rmse: np.ndarray
    energy_rmse: np.ndarray
    checked: dict[int, tuple[float, float]]
    force_alone: np.ndarray
    energy_alone: np.ndarray
    exchanged: Exchange | None = None


def process_of_model(model: MoleculeModel, frames: Sequence[Atoms]) -> Process:
    """What a model that was trained on gradients knows of geometries.

    Raises
    ------
    FFLUXError
        Another model; atoms that it does not fit.
    """
    forcefield = ForceField([model])
    numbers = frames[0].numbers
    assignment, _, groups = forcefield.molecules(frames[0].positions / BOHR, numbers)
    if len(groups) != 1 or len(groups[0][1]) != 1:
        raise FFLUXError(
            f"a frame of the pool is {len(groups[0][1])} molecules of {model.name}: one is needed"
        )
    order = groups[0][1][0]
    posterior = Posterior(model, threads_here(cores()), memory_available())
    geometries = np.array([atoms.positions for atoms in frames]) / BOHR
    energies = np.array([
        forcefield.evaluate(x, numbers, assignment=assignment).energy for x in geometries
    ])
    reference = forcefield.evaluate(
        model.reference_geometry, numbers[order], assignment=forcefield.in_order(numbers[order])
    ).energy
    shared: Shared = model.shared
    data = joint_data(
        geometries[:, order], None, np.zeros(geometries.shape), np.asarray(model.alf),
        shared.symmetry, totals=np.zeros(len(geometries)),
        terms=[process.term for process in shared.terms],
    )
    return Process(
        data, posterior.hyperparameters, energies - reference, f"model {model.name}",
        posterior.scale,
    )


def process_of_source(
    source: LabelSource, frames: Sequence[Atoms], *, seed: int = 0, progress=silent,
    workers: int = 1, folder: Path | None = None,
) -> Process:
    """What a cheap level knows of geometries: all are labelled, `SOURCE` of them searched.

    What the search finds is kept in a folder, if one is given.

    Raises
    ------
    LabelError
        Geometries that it cannot label.
    """
    labels = _labelled(source, frames, progress, workers)
    first = frames[int(np.argmin([label.energy for label in labels]))]
    minimum = minima([first], source, progress=progress)[0].atoms
    minimum_energy = source.label(minimum).energy
    # totals and gradients are what any level has
    dataset = replace(dataset_of(labels), atomic_energies=None, moments=None, dipoles=None)
    half = SOURCE // 2
    # atoms alone, as builds have them whose labels have atomic energies
    settings = JointSettings(
        sizes=(half, SOURCE), evaluations=(40, 12), seed=seed, forms=tuple(OF_ATOMS.values())
    )
    trainer = JointTrainer(
        dataset, minimum.positions / BOHR, JointTraining(settings, which="none"), folder
    )
    return Process(
        trainer.data, trainer.hyperparameters(progress), dataset.energies - minimum_energy,
        source.method, trainer=trainer,
    )


def _labelled(source, frames, progress, workers) -> list:
    found = []
    with progress(f"labels of {source.method}", len(frames)) as advance:
        for (number, _), label in Labeller(source, workers)(
            ((number, ""), atoms) for number, atoms in enumerate(frames, 1)
        ):
            if isinstance(label, Rejected):
                raise LabelError(f"frame {number} of the pool: {label}: leave it out")
            found.append(label)
            advance(1)
    return found


def thermal_target(
    energies: np.ndarray, n_atoms: int, count: int = TARGET, seed: int = 0
) -> Target:
    """Geometries that stand for dynamics and for the surroundings of minima (`TEMPERATURES`).

    A geometry of the pool counts by how much likelier its energy is at these temperatures than in
    the pool. The energies of a molecule of f harmonic modes have a gamma distribution of the shape
    f / 2 and the scale k T.

    Parameters
    ----------
    energies : (n,) array
        Above the minimum (hartree).
    n_atoms : int
    count : int
        How many to take at most.
    seed : int

    Returns
    -------
    Target
    """
    shape = 0.5 * n_features(n_atoms)
    energies = np.maximum(energies, 1e-3 * units.kB * min(TEMPERATURES) / HARTREE)
    logarithm = np.log(energies)
    if np.ptp(logarithm) < 1e-6:
        density = np.zeros(len(energies))
    else:
        density = gaussian_kde(logarithm).logpdf(logarithm)
    rng = np.random.default_rng(seed)
    places, weights, parts = [], [], []
    for part, temperature in enumerate(TEMPERATURES):
        kt = temperature * units.kB / HARTREE
        wanted = shape * (logarithm - np.log(kt)) - energies / kt - density
        some = np.exp(wanted - wanted.max())
        some = np.minimum(some / some.mean(), _HEAVIEST)
        # every so many parts of the sum a geometry is taken: those that count more come more often
        ends = np.cumsum(some / some.sum())
        number = round(count * _SHARES[part])
        drawn = np.searchsorted(ends, (np.arange(number) + rng.random()) / number)
        drawn, often = np.unique(drawn.clip(max=len(ends) - 1), return_counts=True)
        new = ~np.isin(drawn, np.concatenate([[], *places]))
        places.append(drawn[new])
        weights.append(often[new])
        parts.append(np.full(new.sum(), part))
    return Target(*(np.concatenate(values) for values in (places, weights, parts)))


def select(
    process: Process, pool: np.ndarray, target: Target, count: int, criterion: str = "V", *,
    exchanging: bool = False, seed: int = 0, progress=silent,
) -> Selection:
    """Choose geometries.

    Parameters
    ----------
    process : Process
    pool : int array
        Places of geometries in its data.
    target : Target
    count : int
        How many to choose.
    criterion, exchanging, seed
        As of `design`.

    Raises
    ------
    TrainingError
        What `design` raises.
    """
    most = count * (1 + PASSES if exchanging else 1)
    with progress(f"choosing by {criterion}", most) as advance:
        found = design(
            process.data, process.hyperparameters, pool, target.places, target.weights, count,
            criterion, parts=target.parts, exchanging=exchanging, seed=seed,
            threads=threads_here(cores()), max_memory=memory_available(),
            on_choice=lambda n: advance(1), on_trial=advance,
        )
    chosen = np.asarray(pool)[found.chosen]
    checked = {}
    if process.trainer is not None:
        checked = _checked(process, chosen, target.first, progress)
    alone = FORCE * found.force[1:], HARTREE_KJ * found.energy[1:]
    scaled = []
    for place, expected in enumerate(alone):
        factor = np.full(count, process.scale)
        if checked:
            factor = np.exp(np.interp(np.log(np.arange(count) + 1), np.log(list(checked)), [
                np.log(errors[place] / expected[n - 1]) for n, errors in checked.items()
            ]))
        scaled.append(factor * expected)
    return Selection(chosen, *scaled, checked, *alone, found.exchanged)


def _checked(
    process: Process, chosen: np.ndarray, target: Target, progress
) -> dict[int, tuple[float, float]]:
    """Errors of models of the cheap level that learn from what is chosen."""
    count = len(chosen)
    sizes = sorted({n for n in CHECKED if n < count} | {min(count, CHECKED[-1])})
    trainer = process.trainer
    errors = {}
    with progress("trying the choice at the cheap level", len(sizes)) as advance:
        for n in sizes:
            some = chosen[:n]
            apart = ~np.isin(target.places, some)
            if apart.sum() < _LEAST_TEST:
                break
            solved = trainer.solve(process.hyperparameters, some)
            test = np.repeat(target.places[apart], target.weights[apart])
            tried = held_out_errors(
                trainer.model("choice", solved, [], some), trainer.dataset.select(test)
            )
            errors[n] = tried.force_rmse_ev_per_angstrom, tried.energy_rmse_kj_per_mol
            advance(1)
    return errors
