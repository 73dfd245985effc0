r"""How far a model trained on gradients vouches for its energies and forces.

The covariance of the errors of all atomic energies and of the total gradient at a geometry, whose
covariance with the n observations is k and with their constant means h:

.. math:: C &= k_{**} - k^T K^{-1} k + R^T G^{-1} R - \frac{\sigma^2}{N} S^T S, \\
          R &= h - H^T K^{-1} k, \qquad G = H^T K^{-1} H, \qquad
          S = Z^T K^{-1} (k + H G^{-1} R).

The third term is of the means, which are estimated by generalised least squares (Rasmussen,
Williams, Gaussian Processes for Machine Learning, MIT Press 2006, eq. 2.42). The last one is of the
noise sigma of atomic energies: it stands for what the features do not resolve in the partition of
the energy among N atoms, so that it cancels in the sum over the atoms of a label. S are the sums of
the weights that a prediction puts on these, Z marking the energies of each label. Independent
noise, as K has it, would leave the constant of the total energy unknown to sigma sqrt(N / n).
Labels whose total energies are observed need no such term.

Total energy and forces are those of the latent function; atomic energies include the noise.

Where it can be trusted, as measured against GFN2-xTB (root mean square of error over standard
deviation, total energy and forces). On dynamics at up to four times the temperature of the labels:
ethanol (300 labels) 1.2 and 1.0 at 500 K, 0.9 and 1.0 at 1000 K, 1.0 and 1.1 at 2000 K; water (100
labels) 0.6 and 0.9, 1.4 and 1.7, 1.2 and 1.4. An O-H bond of ethanol stretched by 0.2, 0.3 and
0.4 Angstrom: 1.0, 1.7 and 1.9. Where it cannot: far along one smooth coordinate whose labels end
early. Water's labels span 97 to 121 degrees; opened to 130, 140, 160 and 177 degrees it is off by
4, 6, 9 and 12 standard deviations (177 degrees: 33 kJ/mol and 2.7), at a coverage of 0.99, 0.98,
0.93 and 0.87. The process takes the surface for as smooth there as near the labels. No label left
out tells it, nor the outermost tenth or fifth of them left out together (0.7 and 0.5 for water's
forces, 1.4 for ethanol's, as for single ones): no factor learned from labels could mend it.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ase_fflux.base.errors import FFLUXError
from ase_fflux.base.machine import threads_of
from ase_fflux.learn.joint.blocks import (
    add_gradient_blocks,
    energy_block,
    mixed_block,
    sums_block,
    totals_block,
    totals_mixed_block,
)
from ase_fflux.learn.joint.cost import solution_cost
from ase_fflux.learn.joint.data import joint_data
from ase_fflux.learn.joint.left_out import TOGETHER, LeftOut
from ase_fflux.learn.joint.points import (
    ClassPoints,
    class_points,
    internal_directions,
    term_points,
)
from ase_fflux.learn.joint.system import Hyperparameters, JointFactor
from ase_fflux.model.alf import exchanged_axes
from ase_fflux.model.molecule import ENERGY, MoleculeModel
from ase_fflux.model.symmetry import AtomClass

_LEFT_OUT = 50
"""Labels at most that are left out for the scales: each costs a request."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Uncertainty:
    """Standard deviations of what is predicted for n atoms.

    Attributes
    ----------
    energy : float
        Of the total energy.
    energies : (n,) array
        Of the atomic energies, including what labels of these scatter; where no label had any,
        they say how little total energies and gradients tell of the parts.
    forces : (n, 3) array
        Of the components of the forces.
    """

    energy: float
    energies: np.ndarray
    forces: np.ndarray

    def __repr__(self) -> str:
        return (
            f"<Uncertainty of {len(self.energies)} atoms: standard deviations {self.energy:.3g} of "
            f"the energy, up to {self.energies.max(initial=0.0):.3g} of an atom's, up to "
            f"{self.forces.max(initial=0.0):.3g} of a force component>"
        )


class Posterior:
    """Covariance of the errors of a molecule's model.

    Making one repeats the factorisation of its training, in time and memory (`joint.cost`).

    Parameters
    ----------
    model : MoleculeModel
        Trained on gradients.
    threads : int
        For what numba does; LAPACK has its own.
    max_memory : float
        Bytes that may be used.

    Raises
    ------
    FFLUXError
        If the model was not trained on gradients, or needs more memory.

    Attributes
    ----------
    scale, energy_scale : float
        Ratio of the errors of gradients and of atomic energies at labels that are left out to what
        is expected there. Standard deviations of total energy and forces are multiplied by the
        first, those of atomic energies by the second. The first is at least 1: lower ones come from
        noise of gradients that is as low as training lets it be, and tell nothing of the process.
    """

    def __init__(self, model: MoleculeModel, threads: int = 1, max_memory: float = np.inf):
        shared = model.shared
        if shared is None or shared.gradient_weights is None or not shared.gradient_weights.any():
            raise FFLUXError(
                f"the model {model.name} was not trained on gradients and states no uncertainty: "
                "train one that is with fflux build"
            )
        self._alf = np.asarray(model.alf)
        geometries = model.geometries
        totals = shared.totals
        of_class = {p.atoms.atoms: p for p in shared.processes if ENERGY in p.properties}
        processes = [of_class[c.atoms] for c in shared.symmetry.classes(self._alf)]
        form = replace(processes[0].kernel.form, terms=bool(shared.terms))
        self.data = joint_data(
            geometries, None if shared.latent else np.zeros(geometries.shape[:2]),
            np.zeros_like(geometries), self._alf, shared.symmetry,
            np.flatnonzero(shared.gradient_weights.any(axis=(1, 2))), shared.source,
            None if totals is None else np.zeros(len(geometries)),
            None if totals is None else totals.with_energies,
            None if totals is None else np.flatnonzero(totals.weights), form,
            [t.term for t in shared.terms],
        )
        self.hyperparameters = Hyperparameters(
            [*(p.kernel.theta for p in processes), *(p.kernel.theta for p in shared.second),
             *(t.theta for t in shared.terms)],
            np.array([*(p.variance for p in processes), *(p.variance for p in shared.second),
                      *(t.variance for t in shared.terms)]),
            np.array(shared.energy_noise), np.array(shared.gradient_noise),
            None if totals is None else np.array(totals.noise), form,
        )
        cost = solution_cost(self.data)
        if cost.memory > max_memory:
            raise FFLUXError(
                f"the uncertainty of {model.name} takes {cost}, more than the "
                f"{max_memory / 1e9:.2g} GB that are free: use a model of fewer labels"
            )
        _log.info("factorising the covariance of %d labels of %s", len(self.data), model.name)
        try:
            with threads_of(max(self.data.n_observed)):
                self.factor = JointFactor(self.data, self.hyperparameters, threads)
        except np.linalg.LinAlgError as error:
            raise FFLUXError(
                f"the covariance of the labels of {model.name} is not positive definite ({error}): "
                "train the model again"
            ) from None
        n, labels = len(self.data), self.data.with_energies
        total_weights = np.zeros(n) if totals is None else totals.weights
        self._left_out = LeftOut(
            self.factor,
            [p.weights[p.properties.index(ENERGY)] / p.variance - total_weights for p in processes],
            total_weights,
            np.einsum(
                "jx,jxd->jd", shared.gradient_weights.reshape(n, -1), self.data.directions
            ),
        )
        self._half_solved = self._left_out.half_solved
        # sums over the atoms of labels, half solved
        self._alone = np.setdiff1d(labels, self.data.with_total)
        alone = np.eye(n)[labels][:, self._alone]
        self._labels = self._half_solved(
            [np.tile(alone, (len(points.columns), 1)) for points in self.data.points],
            np.zeros((self.data.n_observed[1], alone.shape[1])),
        )
        self.scale, self.energy_scale = self._scales()

    def _scales(self) -> tuple[float, float]:
        """Scales of gradients and of energies from labels that are left out."""
        n_atoms, data = self.data.n_atoms, self.data
        squares = {"energies": np.zeros(2), "gradient": np.zeros(2)}
        labels = data.with_gradient
        labels = labels[np.unique(np.linspace(0, len(labels) - 1, _LEFT_OUT).astype(int))]
        for some in np.array_split(labels, -(-len(labels) // TOGETHER)):
            for label, (errors, covariance) in zip(some, self.left_out(some), strict=True):
                both = np.stack([errors**2, np.diagonal(covariance)])
                # atomic energies come first, then the total, where they are observed
                if label in data.with_energies:
                    squares["energies"] += both[:, :n_atoms].sum(axis=1)
                squares["gradient"] += both[:, -data.directions.shape[2]:].sum(axis=1)
        gradient = max(float(np.sqrt(np.divide(*squares["gradient"]))), 1.0)
        if not squares["energies"][1]:
            return gradient, gradient
        return gradient, float(np.sqrt(np.divide(*squares["energies"])))

    def left_out(self, labels: Sequence[int]) -> list[tuple[np.ndarray, np.ndarray]]:
        """As `LeftOut.errors`, of the model."""
        return self._left_out.errors(labels)

    def covariance(self, geometry: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Covariance of the latent atomic energies and total gradient, without scale.

        Parameters
        ----------
        geometry : (N, 3) array
            bohr, atoms in the order of the model.

        Returns
        -------
        covariance : (N + D, N + D) array
            Of the N energies (hartree), and the gradient (hartree/bohr) along D directions.
        directions : (3N, D) array
            Orthonormal; the gradient along all others is zero.
        """
        directions = internal_directions(geometry[None])
        prior, means, tops, bottom = self._prior(geometry[None], directions)
        return self._conditioned(prior, means, tops, bottom), directions[0]

    def _conditioned(self, prior, means, tops, bottom) -> np.ndarray:
        """Covariance of quantities given the observations, without scale.

        Of their covariances with themselves (J, J), the means of the classes (K, J) in them, and
        their covariances with energies of each class and with totals and gradients.
        """
        data = self.data
        half = self._half_solved(tops, bottom)
        rest = self._left_out.basis.T @ means - self._left_out.constants.T @ half
        by_means = np.linalg.solve(self._left_out.gram, rest)
        sums = self._labels.T @ (half + self._left_out.constants @ by_means)
        noise = self.hyperparameters.energy_noise[data.source[self._alone]] ** 2 / data.n_atoms
        cancelled = (noise[:, None] * sums).T @ sums
        return prior - half.T @ half + rest.T @ by_means - cancelled

    def _prior(self, geometry, directions):
        """Covariances of a geometry (1, N, 3) with itself, means and observations."""
        data, factor = self.data, self.factor
        n_atoms, t = geometry.shape[1], len(data.with_total)
        size = n_atoms + directions.shape[2]
        prior, means = np.zeros((size, size)), np.zeros((len(data.points), size))
        tops, bottom = [], np.zeros((data.n_observed[1], size))
        gradients = np.zeros((size - n_atoms, len(bottom) - t))
        for a, here in enumerate(self._points(geometry, directions)):
            variance = self.hyperparameters.variance[a]
            own, summed, some = data.observed(a)
            how = factor.theta[a], factor.threads
            add_gradient_blocks(gradients, [(here, some, how[0], variance)], factor.threads)
            add_gradient_blocks(
                prior[n_atoms:, n_atoms:], [(here, here, how[0], variance)], factor.threads
            )
            bottom[:t, n_atoms:] += variance * totals_mixed_block(summed, here, *how)
            if here.of_distances:  # every atom has the same share of a term
                share = variance / n_atoms
                tops.append(np.zeros((0, size)))
                bottom[:t, :n_atoms] += share * totals_block(summed, here, *how)
                bottom[t:, :n_atoms] += share * totals_mixed_block(here, some, *how).T
                prior[:n_atoms, :n_atoms] += share / n_atoms * totals_block(here, here, *how)
                prior[:n_atoms, n_atoms:] += share * totals_mixed_block(here, here, *how)
                continue
            members = list((*data.classes, *data.beside)[a].atoms)
            top = np.zeros((len(own.flat_columns), size))
            top[:, members] = variance * energy_block(own, here, *how)
            top[:, n_atoms:] = variance * mixed_block(own, here, *how)
            tops.append(top)
            bottom[:t, members] += variance * sums_block(here.flat_columns, summed, *how).T
            bottom[t:, members] += variance * mixed_block(here, some, *how).T
            means[a, members] = a < len(data.classes)
            energies = variance * energy_block(here, here, *how)
            prior[np.ix_(members, members)] += np.tril(energies) + np.tril(energies, -1).T
            prior[members, n_atoms:] += variance * mixed_block(here, here, *how)
        prior[n_atoms:, :n_atoms] = prior[:n_atoms, n_atoms:].T
        bottom[t:, n_atoms:] = gradients.T
        return prior, means, tops, bottom

    def _points(self, geometries, directions) -> Iterator[ClassPoints]:
        """Of each class of atoms and of what stands beside, in the order of the data's."""
        for atoms in self.data.classes:
            yield class_points(geometries, directions, self._alf, atoms, self.data.form)
        for one in self.data.beside if self.data.form.terms else ():
            if isinstance(one, AtomClass):
                exchanged = exchanged_axes(self._alf)
                yield class_points(geometries, directions, exchanged, one, self.data.form)
            else:
                yield term_points(geometries, directions, one, self.data.form)

    def energy_covariance(self, geometries: np.ndarray) -> np.ndarray:
        """Covariance (G, G) of the total energies of geometries (G, N, 3) in bohr (hartree^2).

        What two geometries have in common cancels in the variance of their difference.
        """
        data, factor = self.data, self.factor
        n, t = len(geometries), len(data.with_total)
        directions = internal_directions(geometries)
        prior, means = np.zeros((n, n)), np.zeros((len(data.points), n))
        tops, bottom = [], np.zeros((data.n_observed[1], n))
        for a, here in enumerate(self._points(geometries, directions)):
            variance = self.hyperparameters.variance[a]
            how = factor.theta[a], factor.threads
            own, summed, some = data.observed(a)
            tops.append(variance * sums_block(own.flat_columns, here, *how))
            bottom[:t] += variance * totals_block(summed, here, *how)
            bottom[t:] += variance * totals_mixed_block(here, some, *how).T
            means[a] = len(here.columns) if a < len(data.classes) else 0
            prior += variance * totals_block(here, here, *how)
        return self.scale**2 * self._conditioned(prior, means, tops, bottom)

    def uncertainty(self, geometry: np.ndarray) -> Uncertainty:
        """Standard deviations (hartree, hartree/bohr) at a geometry (N, 3) in bohr."""
        covariance, directions = self.covariance(geometry)
        n_atoms = len(geometry)
        energies, gradient = covariance[:n_atoms, :n_atoms], covariance[n_atoms:, n_atoms:]
        forces = np.einsum("xd,de,xe->x", directions, gradient, directions)
        noise = 0.0 if self.data.latent else self.hyperparameters.energy_noise.max() ** 2
        # what is zero but for rounding may come out below it
        return Uncertainty(
            self.scale * float(np.sqrt(max(energies.sum(), 0.0))),
            self.energy_scale * np.sqrt(np.maximum(np.diagonal(energies), 0.0) + noise),
            self.scale * np.sqrt(np.maximum(forces, 0.0)).reshape(-1, 3),
        )
