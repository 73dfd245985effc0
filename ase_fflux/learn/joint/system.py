r"""The linear system of all atomic energies and total gradients, solved block by block.

Energies of different classes of atoms are independent; gradients couple them. With K_a the
covariance of the energies of class a, X_a that with the gradients and S_0 that of the gradients
(noise included), the Schur complement over the energies is

.. math:: S = S_0 - \sum_a X_a^T K_a^{-1} X_a,

of the size of the gradients alone. Everything follows from its Cholesky factor and those of the
K_a: the dual weights, the constant means (generalised least squares), the likelihood, variances.
"""

from dataclasses import dataclass

import numpy as np
from scipy.linalg import blas, lapack

from ase_fflux.learn.joint.blocks import add_gradient_block, cholesky, energy_block, mixed_block
from ase_fflux.learn.joint.data import JointData


@dataclass(frozen=True, eq=False)
class Hyperparameters:
    """Of the joint process.

    Attributes
    ----------
    theta : list of (F,) arrays
        1 / (2 l^2) of each class, in the order of its first atom's features.
    variance : (K,) array
        Prior variances s^2 of the classes (hartree^2), for one view.
    energy_noise, gradient_noise : (S,) arrays
        Standard deviations of an atomic energy (hartree) and of a gradient's component
        (hartree/bohr) from each source of labels.
    """

    theta: list[np.ndarray]
    variance: np.ndarray
    energy_noise: np.ndarray
    gradient_noise: np.ndarray


class JointFactor:
    """The covariance of all observations, factorised; it does not depend on their values.

    Parameters
    ----------
    data : JointData
        Observations.
    hyperparameters : Hyperparameters
        Theirs.
    threads : int
        For what numba does; LAPACK has its own.

    Raises
    ------
    numpy.linalg.LinAlgError
        If a block is not positive definite to working precision.

    Attributes
    ----------
    energy_factors : list of (m n, m n) arrays
        Lower Cholesky factors of the energies of each class.
    mixed : list of (m n, g D) arrays
        Covariances of these with the gradients, half solved.
    schur_factor : (g D, g D) array
        Lower Cholesky factor of the Schur complement.
    """

    def __init__(self, data: JointData, hyperparameters: Hyperparameters, threads: int = 1):
        self.data, self.hyperparameters, self.threads = data, hyperparameters, threads
        self.theta = [
            t[p.feature] for t, p in zip(hyperparameters.theta, data.points, strict=True)
        ]
        self._factorise()

    def _factorise(self):
        h, data = self.hyperparameters, self.data
        _, size = data.n_observed
        schur = np.zeros((size, size))
        energy_noise = h.energy_noise[data.source] ** 2
        gradient_noise = h.gradient_noise[data.source[data.with_gradient]] ** 2
        self.energy_factors, self.mixed = [], []
        for points, theta, variance in zip(data.points, self.theta, h.variance, strict=True):
            some = points.select(data.with_gradient)
            k = variance * energy_block(points, points, theta, self.threads)
            k[np.diag_indices_from(k)] += np.tile(energy_noise, len(points.columns))
            self.energy_factors.append(cholesky(k))
            x = variance * mixed_block(points, some, theta, self.threads)
            if size:
                blas.dtrsm(1.0, self.energy_factors[-1].T, x.T, side=1, lower=0, overwrite_b=1)
            self.mixed.append(x)  # L^-1 X from here on
            add_gradient_block(schur, some, some, theta, variance, self.threads)
        schur[np.diag_indices_from(schur)] += np.repeat(gradient_noise, data.directions.shape[2])
        if size:
            for x in self.mixed:
                blas.dsyrk(-1.0, x.T, beta=1.0, c=schur.T, lower=0, overwrite_c=1)
        self.schur_factor = cholesky(schur)

    def half_solved(self, energies: list[np.ndarray], gradients: np.ndarray):
        """L^-1 y for the whole factor L and R right-hand sides: (P, R) of each class, (g D, R)."""
        tops = [
            blas.dtrsm(1.0, factor.T, y.T, side=1, lower=0).T
            for factor, y in zip(self.energy_factors, energies, strict=True)
        ]
        bottom = gradients - sum(
            x.T @ top for x, top in zip(self.mixed, tops, strict=True)
        )
        if len(bottom):
            bottom = blas.dtrsm(1.0, self.schur_factor.T, bottom.T, side=1, lower=0).T
        return tops, bottom


class JointSystem(JointFactor):
    """The solution for the values of the observations; parameters and errors of `JointFactor`.

    Attributes
    ----------
    mean : (K,) array
        Constant means of the classes (hartree).
    energy_weights : list of (m, n) arrays
        Dual weights of the energies of each class.
    gradient_weights : (g, D) array
        Dual weights of the gradients.
    negative_log_likelihood : float
        Without its constant.
    """

    def __init__(self, data: JointData, hyperparameters: Hyperparameters, threads: int = 1):
        super().__init__(data, hyperparameters, threads)
        self._solve()

    def _solve(self):
        data = self.data
        count = len(data.points)
        # right-hand sides: the labels, and the constant functions of the classes
        tops = []
        for a, energies in enumerate(data.energies):
            y = np.zeros((energies.size, 1 + count))
            y[:, 0], y[:, 1 + a] = energies.ravel() - energies.mean(), 1.0
            tops.append(y)
        bottom = np.zeros((data.n_observed[1], 1 + count))
        bottom[:, 0] = data.gradients[data.with_gradient].ravel()
        tops, bottom = self.half_solved(tops, bottom)
        whole = np.vstack([*tops, bottom])
        gram = whole[:, 1:].T @ whole
        shift = np.linalg.solve(gram[:, 1:], gram[:, 0])
        self.mean = shift + [e.mean() for e in data.energies]
        coefficients = np.concatenate([[1.0], -shift])
        v = bottom @ coefficients
        residuals = [t @ coefficients for t in tops]
        beta = lapack.dtrtrs(self.schur_factor.T, v)[0] if len(v) else v
        self.gradient_weights = beta.reshape(-1, data.directions.shape[2])
        self.energy_weights = [
            lapack.dtrtrs(factor.T, r - x @ beta)[0].reshape(e.shape)
            for factor, r, x, e in zip(
                self.energy_factors, residuals, self.mixed, data.energies, strict=True
            )
        ]
        squares = v @ v + sum(r @ r for r in residuals)
        factors = [*self.energy_factors, self.schur_factor]
        determinant = sum(2.0 * np.log(np.diagonal(f)).sum() for f in factors)
        self.negative_log_likelihood = 0.5 * float(squares + determinant)
