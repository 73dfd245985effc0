"""From labels with gradients to the model of a molecule: energies together, moments beside them."""

import warnings
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from ase.symbols import symbols2numbers

from ase_fflux.base.checkpoint import known_checkpoint, write_checkpoint
from ase_fflux.base.errors import FFLUXWarning, TrainingError
from ase_fflux.base.machine import cores, memory_of_machine, threads_here
from ase_fflux.base.outputs import silent
from ase_fflux.base.store import told
from ase_fflux.base.units import FORCE
from ase_fflux.labels.checks import believe, charge_of, charges_make_dipoles
from ase_fflux.labels.label import Dataset, joined
from ase_fflux.learn.gp.settings import TrainingSettings
from ase_fflux.learn.gp.training import Step
from ase_fflux.learn.joint.cost import solution_cost
from ase_fflux.learn.joint.data import JointData, joint_data
from ase_fflux.learn.joint.seeded import (
    FEW,
    FEW_OF_ANALOGUE,
    ONE_VARIANCE,
    seeded_hyperparameters,
)
from ase_fflux.learn.joint.settings import JointSettings
from ase_fflux.learn.joint.system import Hyperparameters
from ase_fflux.learn.joint.training import JointResult, find_hyperparameters, solve
from ase_fflux.model.kernels import Form
from ase_fflux.model.molecule import MoleculeModel, shared_model
from ase_fflux.model.prior import Prior
from ase_fflux.model.shared import Shared, Totals
from ase_fflux.model.symmetry import symmetry_and_frames
from ase_fflux.model.terms import distance_terms
from ase_fflux.topology.graphs import bonds_between
from ase_fflux.training.checkpoints import fingerprint
from ase_fflux.training.dipoles import dipole_processes
from ase_fflux.training.jobs import run_jobs
from ase_fflux.training.molecule import MOMENTS, molecule_targets
from ase_fflux.training.prior import difference, energy_scales, fitted
from ase_fflux.training.shared_moments import moment_jobs, shared_moments

SHARE = 0.5
"""Of the machine's memory that a solution may use where nothing else is said."""

_SEARCH = 5.0
"""Operations of the likelihood with its gradient, relative to a solution of the same labels."""
_SEARCH_MEMORY = 3.0
"""Memory of the likelihood with its gradient, relative to a solution of the same labels."""
_NOISE = "variance", "energy_noise", "gradient_noise", "total_noise"


@dataclass(frozen=True)
class JointTraining:
    """How a molecule is trained on energies and gradients.

    Parameters
    ----------
    energies : JointSettings
        Of the joint process.
    moments : TrainingSettings
        Of the moments' length scales.
    which : str
        Which moments, one of `ase_fflux.training.molecule.MOMENTS`.
    symmetry : bool
        Whether equivalent atoms share processes and every label stands for its images.
    memory : float, optional
        GB that a solution may use; where that does not hold all gradients, some are left out, with
        a warning. Default: half of the machine's memory (`SHARE`).
    """

    energies: JointSettings = field(default_factory=JointSettings)
    moments: TrainingSettings = field(default_factory=TrainingSettings)
    which: str = MOMENTS[0]
    symmetry: bool = True
    memory: float | None = None

    def __post_init__(self):
        if self.memory is not None and not self.memory > 0:
            raise TrainingError(f"the memory to use must be above zero, not {self.memory} GB")


class JointTrainer:
    """Training of one molecule, its parts kept in a folder as soon as they are done.

    Parameters
    ----------
    dataset : Dataset
        Labels. Without atomic energies these are latent: whatever makes up totals and gradients.
    reference : (N, 3) array
        A minimum (bohr), which tells bonds, local frames and symmetry.
    training : JointTraining
        How.
    folder : Path, optional
        Where hyperparameters are kept.
    source : (n,) int array, optional
        Number of the source of each label, from 0, where they come from several programs or
        settings: each has noise levels of its own. Default: one source.
    moment_labels : Dataset, optional
        Labels that the moments learn from beside the others, such as of small displacements from
        the minima, which tell the derivatives of dipoles there.
    prior : Prior, optional
        What the model stands on top of: energies are learned as differences to it.

    Attributes
    ----------
    symmetry : Symmetry
    alf : (N, 3) int array
        Local frames; those of equivalent atoms correspond.
    data : JointData
    memory : float
        GB that a solution may use.
    steps : tuple of Step
        Of the last search.

    Raises
    ------
    FFLUXError
        Labels without total energies or gradients, or that cannot be true.
    """

    def __init__(
        self, dataset: Dataset, reference: np.ndarray, training: JointTraining,
        folder: Path | None = None, source: np.ndarray | None = None,
        moment_labels: Dataset | None = None, prior: Prior | None = None,
    ):
        if missing := dataset.missing(("energies", "gradients")):
            raise TrainingError(
                f"the labels have no {' and no '.join(missing)}: the joint process learns energies "
                "and gradients together"
            )
        believe(dataset)
        self.dataset, self.reference, self.training = dataset, np.asarray(reference), training
        self.folder, self.source, self.moment_labels = folder, source, moment_labels
        self.symmetry, self.alf = symmetry_and_frames(
            dataset.symbols, self.reference, training.symmetry, dataset.geometries
        )
        self._observed = dataset
        self.prior = prior = prior and fitted(prior, dataset, self.reference)
        if prior is not None:
            self._observed = difference(dataset, prior)
            # with frames as the prior has them, of each class the first atom's, its length scales
            # mean something
            self.alf = self.symmetry.carried_alf(prior.here.alf)
        self._few = FEW if prior is None or prior.analogue is None else FEW_OF_ANALOGUE
        if len(dataset) < FEW and prior is not None and self._scales() is None:
            raise TrainingError(
                f"{len(dataset)} labels are too few to find length scales, and the prior "
                f"{prior.model.name} has none that fit: give {FEW} labels, or a prior that "
                "`fflux build` or `fflux train --gradients` made"
            )
        self.threads = threads_here(cores())
        self.memory = training.memory
        if self.memory is None:
            self.memory = round(SHARE * memory_of_machine() / 1e9, 1)
        # the features of an atom among three tell all distances, and terms no more
        wanted = dataset.atomic_energies is None and len(dataset.symbols) > 3
        self._terms = distance_terms(
            dataset.symbols, bonds_between(symbols2numbers(dataset.symbols), self.reference),
            self.symmetry,
        ) if wanted and any(form.terms for form in training.energies.forms) else []
        self.data = self.observations(np.arange(len(dataset)))
        self.steps: tuple[Step, ...] = ()
        self.from_dipoles: dict = {}

    def observations(self, labels: np.ndarray) -> JointData:
        """What the joint process observes at some labels."""
        return self._observations(self._observed, labels)

    def _observations(self, dataset: Dataset, labels: np.ndarray) -> JointData:
        d = dataset.select(labels)
        return joint_data(
            d.geometries, d.atomic_energies, d.gradients, self.alf, self.symmetry,
            source=None if self.source is None else self.source[labels], totals=d.energies,
            terms=self._terms,
        )

    @property
    def plan(self) -> str:
        """Size, memory and time of the solution, in words."""
        energies, coupling = self.data.n_observed
        totals = len(self.data.with_total)
        parts = "latent atomic" if self.data.latent else f"{energies} atomic"
        on_top = "" if self.prior is None else f" on top of {self.prior.model.name}"
        return (
            f"{len(self.data)} labels{on_top}, {len(self.symmetry)} symmetry operations: "
            f"{parts} energies, {totals} totals and {coupling - totals} components of gradients, "
            f"{solution_cost(self.data).memory / 1e9:.2g} of {self.memory:g} GB of memory, about "
            f"{max(self.seconds, 1.0):.0f} s on {self.threads} thread{'s'[:self.threads - 1]} to "
            "search and solve"
        )

    @property
    def search(self) -> JointSettings:
        """How hyperparameters are searched: as asked for, on what memory holds."""
        def fits(size):
            source = self.data.select(np.arange(min(size, len(self.data))))
            return _SEARCH_MEMORY * solution_cost(source).memory <= 1e9 * self.memory

        return self.training.energies.within(fits)

    @property
    def seconds(self) -> float:
        """A rough time of the search and of one solution; without the moments."""
        total = solution_cost(self.data).seconds(self.threads)
        for size, evaluations in self.search.budget(len(self.data)):
            source = self.data.select(np.arange(size))
            total += _SEARCH * evaluations * solution_cost(source).seconds(1)
        return total

    def hyperparameters(self, progress=silent) -> Hyperparameters:
        """Those of the energies, found or read from the folder."""
        search, d = self.search, self._observed
        trained_on = fingerprint(
            d.geometries.reshape(len(d), -1),
            np.hstack([
                d.energies[:, None], *([] if d.atomic_energies is None else [d.atomic_energies]),
                d.gradients.reshape(len(d), -1),
            ]),
            self.training.energies,
            [self.alf, self.symmetry.permutations, self.symmetry.mirrored, self.data.source],
        )
        path = None if self.folder is None else self.folder / "energies.npz"
        known = None if path is None else _read(path, trained_on)
        total = sum(evaluations for _, evaluations in search.budget(len(d)))
        with progress("training energies", total) as advance:
            done = 0

            def on_step(stage, labels, evaluations):
                nonlocal done
                done += 1
                advance(1)

            if known is None:
                scales = self._scales() if len(d) < self._few else None
                if scales is None:
                    known = find_hyperparameters(self.data, search, self.threads, on_step)
                else:
                    known = seeded_hyperparameters(
                        self.data, search, *scales, self.threads, on_step
                    )
                if self.prior is not None and self.prior.analogue is not None:
                    self._check_analogue(self.prior, known[1])
                if path is not None:
                    _write(path, trained_on, *known)
            advance(total - done)
        found, self.steps = known
        return found

    def _check_analogue(self, prior: Prior, steps: tuple[Step, ...]) -> None:
        """Refuse an analogue without which the labels are likelier.

        Of few labels it has to be so with one variance already: what more hyperparameters adapt
        to labels of a molecule that is learned from them alone is worse where there are none.
        """
        alone = self._observations(self.dataset, np.arange(len(self.dataset)))
        _, others = find_hyperparameters(alone, self.training.energies, self.threads)
        first = tuple(step for step in steps if step.stage == ONE_VARIANCE)
        with_prior, without = map(_last_value, (first or steps, others))
        if without < with_prior:
            raise TrainingError(
                f"the labels are likelier without the prior {prior.model.name} than with it "
                f"(minus the logarithm: {without:.1f} and {with_prior:.1f}): they are enough for "
                f"{''.join(self.dataset.symbols)}, train without it"
            )

    def _scales(self) -> tuple[list[np.ndarray], Form] | None:
        """Theta of the prior's energies for each class, and the form of its kernels; None where
        it has none."""
        if self.prior is None:
            return None
        shared = self.prior.model.shared
        if shared is None or not any(p.variance > 0 for p in shared.processes):
            return None
        return energy_scales(
            self.prior.here, [c.atoms[0] for c in self.symmetry.classes(self.alf)]
        )

    def solve(self, hyperparameters: Hyperparameters, labels: np.ndarray | None = None):
        """The joint process of all labels, or of some (int array)."""
        data = self.data if labels is None else self.data.select(labels)
        solved = solve(data, hyperparameters, self.threads, 1e9 * self.memory)
        if left := len(data.with_gradient) - solved.n_gradients:
            warnings.warn(
                f"{left} of {len(data.with_gradient)} gradients are left out: "
                f"{self.memory:g} GB may be used and all need "
                f"{solution_cost(data).memory / 1e9:.2g} GB (--memory)", FFLUXWarning, stacklevel=2,
            )
        return solved

    def moments(self, progress=silent) -> list:
        """Processes of the moments."""
        dataset = self.dataset
        if self.training.which == "none" or dataset.moments is None and dataset.dipoles is None:
            return []
        if self.moment_labels is not None:
            dataset = joined([dataset, self.moment_labels])
        # what is asked for as charges alone is that of the labels
        short = self.training.which != "charges" and not charges_make_dipoles(dataset)
        if short:
            warnings.warn(
                "charges of the labels do not make their dipoles: charges and atomic dipoles that "
                "do are learned in their place", FFLUXWarning, stacklevel=2,
            )
        if dataset.moments is None or short:
            with progress("training charges on dipoles", 1) as advance:
                found, self.from_dipoles = dipole_processes(
                    dataset.geometries, dataset.dipoles, self.alf, self.data.classes,
                    float(dataset.settings.get("charge", charge_of(dataset))),
                    self.training.which,
                    self.training.moments.seed,
                )
                advance(1)
            return found
        atoms = molecule_targets(dataset, self.alf)
        jobs = moment_jobs(atoms, self.data.classes, self.training.moments, self.training.which)
        with progress("training moments", len(jobs)) as advance:
            results = run_jobs(
                [one.job for one in jobs], folder=self.folder,
                on_finished=lambda job, result, restored: advance(1),
            )
        return shared_moments(atoms, jobs, results)

    def model(
        self, name: str, energies: JointResult, moments: list, labels: np.ndarray | None = None
    ) -> MoleculeModel:
        """The model of energies solved at all labels, or at some (int array), and of moments."""
        def chosen(values):
            return values if labels is None else values[labels]

        h = energies.hyperparameters
        shared = Shared(
            self.symmetry, (*energies.processes, *moments), energies.gradient_weights,
            tuple(h.energy_noise.tolist()), tuple(h.gradient_noise.tolist()),
            None if self.source is None else chosen(self.source),
            self.moment_labels.geometries if moments and self.moment_labels is not None else None,
            Totals(
                energies.total_weights, tuple(h.total_noise.tolist()), energies.with_energies
            ),
            energies.terms, energies.second,
        )
        return shared_model(
            name, self.dataset.symbols, self.alf, shared, self.reference,
            chosen(self.dataset.geometries), prior=self.prior,
        )

    def record(self, energies: JointResult) -> dict:
        """Settings and what the search took, for a provenance; JSON-able, without times."""
        return {
            "energies": self.training.energies.record(),
            "atomic_energies": "latent" if self.data.latent else "observed",
            **({} if self.prior is None else {"prior": self.prior.record()}),
            "gradients": energies.n_gradients,
            "gradients_left_out": len(energies.gradient_weights) - energies.n_gradients,
            "memory_gb": self.memory,
            "kernel": str(energies.hyperparameters.form),
            "symmetry_operations": len(self.symmetry),
            "moments": self.training.moments.record() | {
                "which": self.training.which,
                "labels_beside": 0 if self.moment_labels is None else len(self.moment_labels),
                **self.from_dipoles,
            },
            "steps": [_told(step) for step in self.steps],
        }


def _last_value(steps: tuple[Step, ...]) -> float:
    """Minus the log-likelihood of the largest set that was searched on."""
    largest = max(step.points for step in steps)
    return min(step.value for step in steps if step.points == largest)


def _told(step: Step) -> str:
    text = (
        f"{step.stage}: {step.points} labels, {step.evaluations} evaluations, {step.start:.6g} to "
        f"{step.value:.6g}, from {step.transferred}; {step.form}"
    )
    if step.left_out is not None:
        text += f"; forces of labels left out {FORCE * step.left_out:.3g} eV/A (mean absolute)"
    return text


def _write(path: Path, trained_on: str, h: Hyperparameters, steps: tuple[Step, ...]) -> None:
    """Write hyperparameters with the fingerprint of what they were found on, whole or not at all.
    """
    with told(path.parent, "made"):
        path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {"theta": np.concatenate(h.theta)} | {name: getattr(h, name) for name in _NOISE}
    write_checkpoint(path, trained_on, arrays, {
        "form": asdict(h.form), "features": [len(theta) for theta in h.theta],
        "steps": [asdict(step) for step in steps],
    })


def _read(path: Path, trained_on: str) -> tuple[Hyperparameters, tuple[Step, ...]] | None:
    """What `_write` wrote; None if it is not there, damaged or of something else."""
    known = known_checkpoint(path, trained_on)
    if known is None:
        return None
    arrays, record = known
    theta = np.split(arrays["theta"], np.cumsum(record["features"])[:-1])
    return (
        Hyperparameters(theta, *(arrays[name] for name in _NOISE), Form(**record["form"])),
        tuple(Step(**step) for step in record["steps"]),
    )
