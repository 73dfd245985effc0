r"""Models trained on gradients written with plain weights, for programs that read only those.

A weight on a kernel derivative is the limit of two opposite weights on neighbouring points:

.. math:: w\,k(f, g) + u \cdot \nabla_g k(f, g) \approx
          \sum_\pm \Big(\frac w2 \pm \frac{|u|}{2\delta}\Big)\, k\big(f, g \pm \delta u/|u|\big)

with |u| in the metric of the kernel. The error is of second order in delta, and most of it goes
when the weights are corrected so that both models have the same values at the new points. Twice the
points (images of equivalent atoms included) thus hold nearly all of the model; far fewer do not,
because values alone say less than values and gradients.
"""

from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from scipy.linalg import cho_factor, cho_solve

from ase_fflux.base.errors import FFLUXError, GeometryError, LabelError
from ase_fflux.base.units import BOHR, FORCE, HARTREE, HARTREE_KJ
from ase_fflux.forcefield import ForceField
from ase_fflux.formats.model_directory import require_known_kernels, require_no_prior
from ase_fflux.labels.sampling import molecular_dynamics
from ase_fflux.learn.gp.pivoted import PivotedCholesky
from ase_fflux.model.molecule import MoleculeModel
from ase_fflux.model.process import GaussianProcess

MAX_POINTS = 6000
"""Points of a process where no other limit is given: a ``.model`` file of some megabytes."""

TEMPERATURE = 300.0
"""K, of the dynamics on which the loss is measured."""

_FRAMES = 50
_SEED = 1
_STEP, _WIDE_STEP = 1e-3, 3e-2
"""Distance delta, in units in which the kernel falls to 1/e at distance 1; the wide one where some
points are left out. Smaller ones lose digits, larger ones are worse differences."""
_NOISE = 1e-10
"""Variance on the diagonal, relative to the prefactor."""
_DEPENDENT = 1e-11
"""Share of its variance that a point must have left, given those chosen before it."""


@dataclass(frozen=True)
class Loss:
    """How far plain weights are from the model trained on gradients.

    Attributes
    ----------
    points, needed : int
        Points of the largest process, and how many it has if none is left out.
    frames : int
        Geometries of 300 K dynamics of the model trained on gradients; neither was trained on them.
    energy_rmse_kj_per_mol, force_rmse_ev_per_angstrom : float
        Of total energies and of components of forces.
    """

    points: int
    needed: int
    frames: int
    energy_rmse_kj_per_mol: float
    force_rmse_ev_per_angstrom: float


def plain_model(
    model: MoleculeModel, max_points: int = MAX_POINTS
) -> tuple[MoleculeModel, Loss]:
    """The same model with plain weights.

    Parameters
    ----------
    model : MoleculeModel
        Trained on gradients, with `MoleculeModel.shared`.
    max_points : int
        Largest number of points of a process. Where more are needed, those are kept that bring the
        process nearest to the original in the norm of the kernel, chosen one after the other.

    Returns
    -------
    MoleculeModel
        Without geometries, as points lie between them. Processes that were trained on values, such
        as those of moments, are as they were. The provenance has the loss under ``plain_weights``.
    Loss
        What is lost.

    Raises
    ------
    FFLUXError
        If the model has plain weights already, or kernels that ``.model`` files do not know; if a
        point has more images than ``max_points``, or
        if the model's own dynamics break the molecule.
    """
    require_no_prior(model)
    if model.shared is None or not any(p.variance > 0 for p in model.shared.processes):
        raise FFLUXError(f"{model.name} was not trained on gradients: its weights are plain as is")
    require_known_kernels(model)
    all_processes, processes = iter(model.processes), []
    points = needed = 0
    for shared in model.shared.processes:
        members = list(islice(all_processes, len(shared.atoms.atoms)))
        if shared.variance > 0:
            gp, wanted = _plain_process(
                members[0].gp, len(shared.atoms.view_mirrored), max_points
            )
            members = [replace(process, gp=gp) for process in members]
            points, needed = max(points, len(gp.inputs)), max(needed, wanted)
        processes += members
    plain = replace(model, processes=tuple(processes), geometries=None, shared=None)
    energy, force = _differences(model, plain)
    loss = Loss(points, needed, _FRAMES, energy, force)
    record = {
        "points": points, "points without thinning": needed,
        "loss": f"RMSE against the model trained on gradients at {_FRAMES} geometries of its "
        f"{TEMPERATURE:g} K dynamics (seed {_SEED})",
        "energy RMSE": {"value": energy, "unit": "kJ/mol"},
        "force RMSE": {"value": force, "unit": "eV/A"},
    }
    return replace(plain, provenance={**model.provenance, "plain_weights": record}), loss


def _plain_process(
    gp: GaussianProcess, n_views: int, max_points: int
) -> tuple[GaussianProcess, int]:
    """A process with plain weights, and the number of points that it needs.

    Images of a point have the weight of the point, so that the unknowns are those of the first
    image alone.
    """
    if max_points < n_views:
        raise FFLUXError(
            f"a point has {n_views} images by symmetry: give at least that many points"
        )
    f = gp.kernel.n_features
    inputs = gp.inputs.reshape(n_views, -1, f)
    slopes = gp.derivative_weights[0].reshape(n_views, -1, f)
    weights = gp.weights[0].reshape(n_views, -1)[0]
    length = np.sqrt(slopes[0] ** 2 @ gp.kernel.theta)
    paired = length > 0
    needed = n_views * int(len(paired) + paired.sum())
    delta = _STEP if needed <= max_points else _WIDE_STEP
    step = delta * slopes[:, paired] / length[paired, None]
    lean, half = length[paired] / (2 * delta), weights[paired] / 2
    nodes = np.concatenate(
        [inputs[:, ~paired], inputs[:, paired] + step, inputs[:, paired] - step], axis=1
    )
    weights = np.concatenate([weights[~paired], half + lean, half - lean])
    values = gp.predict(nodes[0])[0] - gp.mean[0]
    if needed > max_points:
        chosen = _nearest(gp.kernel, nodes, values, max_points // n_views)
        nodes, values, weights = nodes[:, chosen], values[chosen], np.zeros(len(chosen))
    k = sum(gp.kernel.matrix(nodes[0], image) for image in nodes)
    residual = values - k @ weights
    k[np.diag_indices_from(k)] += _NOISE
    weights = np.tile(weights + cho_solve(cho_factor(k, overwrite_a=True), residual), n_views)
    return GaussianProcess(nodes.reshape(-1, f), gp.kernel, gp.mean, weights[None], _NOISE), needed


def _nearest(kernel, nodes: np.ndarray, values: np.ndarray, count: int) -> list[int]:
    """Up to ``count`` of the nodes (V, c, F) that hold most of a function with these values (c,).

    Orthogonal matching pursuit by a pivoted Cholesky factor: the next point is that for which the
    squared norm of the remainder, residual^2 / variance, falls most.
    """
    first = kernel.columns(nodes[0])
    prior = sum(
        np.exp(-np.square(first - kernel.columns(image)).sum(axis=1)) for image in nodes
    )
    factor, residual = PivotedCholesky(prior, count), values.copy()
    chosen: list[int] = []
    while len(chosen) < count:
        variance = factor.variance
        free = variance > _DEPENDENT * prior
        free[chosen] = False
        if not free.any():
            break
        at = int(np.argmax(np.where(free, residual**2 / np.where(free, variance, 1.0), -1.0)))
        share = residual[at] / np.sqrt(variance[at])
        residual -= share * factor.take(at, kernel.matrix(nodes[:, at], nodes[0]).sum(axis=0))
        chosen.append(at)
    return chosen


def _differences(model: MoleculeModel, plain: MoleculeModel) -> tuple[float, float]:
    """RMSE of the energy (kJ/mol) and of forces (eV/Angstrom) between two models."""
    start = Atoms(model.symbols, BOHR * model.reference_geometry)
    source = _Source(model)
    frames = molecular_dynamics(start, source, TEMPERATURE, _FRAMES, seed=_SEED)
    other = _Source(plain)
    energies, forces = [], []
    try:
        for frame in frames:
            first, second = (s.evaluate(frame.positions / BOHR) for s in (source, other))
            energies.append(second.energy - first.energy)
            forces.append(second.forces - first.forces)
    except (LabelError, GeometryError) as error:
        raise FFLUXError(
            f"{model.name} does not hold together in dynamics at {TEMPERATURE:g} K ({error}): "
            "train it on more labels"
        ) from None
    rms = [np.sqrt(np.mean(np.square(x))) for x in (energies, forces)]
    return HARTREE_KJ * float(rms[0]), FORCE * float(rms[1])


class _Source:
    """A model as a source of forces, its atoms in the order of the model whatever the geometry."""

    def __init__(self, model: MoleculeModel):
        self.forcefield = ForceField([model])
        self.numbers = Atoms(model.symbols).numbers
        self.assignment = self.forcefield.in_order(self.numbers)

    def evaluate(self, positions):
        return self.forcefield.evaluate(positions, self.numbers, assignment=self.assignment)

    def calculator(self) -> Calculator:
        return _SourceCalculator(self)


class _SourceCalculator(Calculator):
    implemented_properties = ["energy", "forces"]

    def __init__(self, source: _Source):
        super().__init__()
        self.source = source

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        results = self.source.evaluate(self.atoms.positions / BOHR)
        self.results = {"energy": HARTREE * results.energy, "forces": FORCE * results.forces}
