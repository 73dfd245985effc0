r"""How far a model trained on gradients vouches for its energies and forces.

The posterior covariance of the energies of all atoms and of the total gradient at a geometry, for
their covariance k with the observations and with the constant means estimated from these by
generalised least squares (Rasmussen, Williams, Gaussian Processes for Machine Learning, MIT Press
2006, eq. 2.42):

.. math:: C = k_{**} - k^T K^{-1} k + R^T (H^T K^{-1} H)^{-1} R, \qquad R = h_* - H^T K^{-1} k.

Total energy and forces are those of the latent function, without noise. Atomic energies include
the noise of their labels: it stands for what the features do not resolve in the partition of the
energy, which cancels in the sum.
"""

from dataclasses import dataclass

import numpy as np

from ase_fflux.errors import FFLUXError
from ase_fflux.joint.blocks import add_gradient_block, energy_block, mixed_block
from ase_fflux.joint.data import joint_data
from ase_fflux.joint.points import class_points, internal_directions
from ase_fflux.joint.system import Hyperparameters, JointFactor
from ase_fflux.molecule import ENERGY, MoleculeModel


@dataclass(frozen=True, eq=False)
class Uncertainty:
    """Standard deviations of what is predicted for n atoms.

    Attributes
    ----------
    energy : float
        Of the total energy.
    energies : (n,) array
        Of the atomic energies as labels have them, noise included.
    forces : (n, 3) array
        Of the components of the forces.
    """

    energy: float
    energies: np.ndarray
    forces: np.ndarray


class Posterior:
    """Posterior covariance of a molecule's model.

    Making one repeats the factorisation of its training, in time and memory (`joint.cost`).

    Parameters
    ----------
    model : MoleculeModel
        Trained on gradients.
    threads : int
        For what numba does; LAPACK has its own.

    Raises
    ------
    FFLUXError
        If the model was not trained on gradients.
    """

    def __init__(self, model: MoleculeModel, threads: int = 1):
        shared = model.shared
        if shared is None or shared.gradient_weights is None:
            raise FFLUXError(
                f"the model {model.name} states no uncertainty because it was not trained on "
                "gradients: train one with fflux build"
            )
        self.alf = np.asarray(model.alf)
        processes = [p for p in shared.processes if ENERGY in p.properties]
        geometries = model.geometries
        self.data = joint_data(
            geometries, np.zeros(geometries.shape[:2]), np.zeros_like(geometries), self.alf,
            shared.symmetry, np.flatnonzero(shared.gradient_weights.any(axis=(1, 2))),
        )
        self.hyperparameters = Hyperparameters(
            [p.kernel.theta for p in processes], np.array([p.variance for p in processes]),
            np.array([shared.energy_noise]), np.array([shared.gradient_noise]),
        )
        self.factor = JointFactor(self.data, self.hyperparameters, threads)
        count = len(processes)
        tops = [
            np.tile(np.eye(count)[a], (energies.size, 1))
            for a, energies in enumerate(self.data.energies)
        ]
        tops, bottom = self.factor.half_solved(tops, np.zeros((self.data.n_observed[1], count)))
        self._constants = np.vstack([*tops, bottom])
        self._gram = self._constants.T @ self._constants

    def covariance(self, geometry: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Covariance of atomic energies and total gradient, without noise.

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
        data, theta, variance = self.data, self.factor.theta, self.hyperparameters.variance
        threads = self.factor.threads
        n_atoms = len(geometry)
        directions = internal_directions(geometry[None])
        size = n_atoms + directions.shape[2]
        prior, constants = np.zeros((size, size)), np.zeros((len(data.points), size))
        gradient = prior[n_atoms:, n_atoms:]
        tops, bottom = [], np.zeros((data.n_observed[1], size))
        by_gradient = np.zeros((size - n_atoms, len(bottom)))
        for a, (atoms, points) in enumerate(zip(data.classes, data.points, strict=True)):
            members = list(atoms.atoms)
            some = points.select(data.with_gradient)
            here = class_points(geometry[None], directions, self.alf, atoms)
            top = np.zeros((data.energies[a].size, size))
            top[:, members] = variance[a] * energy_block(points, here, theta[a], threads)
            top[:, n_atoms:] = variance[a] * mixed_block(points, here, theta[a], threads)
            tops.append(top)
            bottom[:, members] = variance[a] * mixed_block(here, some, theta[a], threads).T
            add_gradient_block(by_gradient, here, some, theta[a], variance[a], threads)
            constants[a, members] = 1.0
            block = variance[a] * energy_block(here, here, theta[a], threads)
            prior[np.ix_(members, members)] = np.tril(block) + np.tril(block, -1).T
            mixed = variance[a] * mixed_block(here, here, theta[a], threads)
            prior[members, n_atoms:], prior[n_atoms:, members] = mixed, mixed.T
            add_gradient_block(gradient, here, here, theta[a], variance[a], threads)
        bottom[:, n_atoms:] = by_gradient.T
        tops, bottom = self.factor.half_solved(tops, bottom)
        whole = np.vstack([*tops, bottom])
        rest = constants - self._constants.T @ whole
        covariance = prior - whole.T @ whole + rest.T @ np.linalg.solve(self._gram, rest)
        return covariance, directions[0]

    def uncertainty(self, geometry: np.ndarray) -> Uncertainty:
        """Standard deviations (hartree, hartree/bohr) at a geometry (N, 3) in bohr."""
        covariance, directions = self.covariance(geometry)
        n_atoms = len(geometry)
        energies, gradient = covariance[:n_atoms, :n_atoms], covariance[n_atoms:, n_atoms:]
        forces = np.einsum("xd,de,xe->x", directions, gradient, directions)
        noise = self.hyperparameters.energy_noise[0] ** 2
        # variances that are zero but for rounding may come out below it
        return Uncertainty(
            float(np.sqrt(max(energies.sum(), 0.0))),
            np.sqrt(np.maximum(np.diagonal(energies), 0.0) + noise),
            np.sqrt(np.maximum(forces, 0.0)).reshape(-1, 3),
        )
