r"""The linear system of all observations, solved block by block.

Observed are linear maps of the latent atomic energies: single ones, their sum over all atoms of a
label (total energies), and the gradient of this sum. Energies of different classes of atoms are
independent; totals and gradients couple them. With K_a the covariance of the observed energies of
class a, X_a that with totals and gradients, and S_0 that of totals and gradients (noise included),
the Schur complement over the energies is

.. math:: S = S_0 - \sum_a X_a^T K_a^{-1} X_a,

of the size of totals and gradients alone, of which the lower triangle is kept (`joint.triangle`).
Everything follows from its Cholesky factor and those of the K_a: the dual weights, the constant
means (generalised least squares), the likelihood, variances. Labels without atomic energies have no
part in the K_a; where no label has any, S is S_0.

A label with atomic energies and their total has a noise of the atoms that is large, but cancels in
their sum: how an energy is divided among atoms is resolved by their features less well than the
energy itself. With sigma that of an atom and tau that of the total, the covariance C of the noise
of N atomic energies is

.. math:: C^{-1} = \sigma^{-2} I + \tau^{-2} 1 1^T,

the same as independent noise sigma and their sum observed once more with noise tau, but for the
likelihood, in which the sum must not count twice: ln(tau^2 + N sigma^2) / 2 is taken from it.

Total energies alone do not tell the means of the classes, but the mean of the total: atoms then
share it in equal parts, whatever their element.
"""

from dataclasses import dataclass

import numpy as np
from scipy.linalg import blas

from ase_fflux.learn.joint.blocks import (
    add_gradient_blocks,
    energy_block,
    mixed_block,
    sums_block,
    totals_block,
    totals_mixed_block,
)
from ase_fflux.learn.joint.data import JointData
from ase_fflux.learn.joint.triangle import Triangle, cholesky, half_solve, solve_transposed
from ase_fflux.model.kernels import USUAL, Form

_WHOLE = 8192
"""Rows up to which the Schur complement is one panel: LAPACK's own factorisation is a fifth faster
there, and the search inverts it."""
_PANEL = 1024
"""Rows of a panel where there are more."""


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
    total_noise : (S,) array or None
        Of a total energy (hartree); None where none is observed.
    form : Form
        Of the kernels; theta of distances that enter as 1/R are in bohr^2.
    """

    theta: list[np.ndarray]
    variance: np.ndarray
    energy_noise: np.ndarray
    gradient_noise: np.ndarray
    total_noise: np.ndarray | None = None
    form: Form = USUAL


class JointFactor:
    """The covariance of all observations, factorised; it does not depend on their values.

    Parameters
    ----------
    data : JointData
        Observations, whatever form they are in.
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
    energy_factors : list of (m e, m e) arrays
        Lower Cholesky factors of the energies of each class.
    mixed : list of (m e, t + g D) arrays
        Covariances of these with totals and gradients, half solved.
    schur : Triangle
        Lower Cholesky factor of the Schur complement (t + g D rows).
    """

    def __init__(self, data: JointData, hyperparameters: Hyperparameters, threads: int = 1):
        data = data.in_form(hyperparameters.form)
        self.data, self.hyperparameters, self.threads = data, hyperparameters, threads
        self.theta = [
            t[p.feature] for t, p in zip(hyperparameters.theta, data.points, strict=True)
        ]
        self._factorise()

    def _factorise(self):
        h, data, threads = self.hyperparameters, self.data, self.threads
        _, size = data.n_observed
        t = len(data.with_total)
        energy_noise = h.energy_noise[data.source[data.with_energies]] ** 2
        noise = np.repeat(
            h.gradient_noise[data.source[data.with_gradient]] ** 2, data.directions.shape[2]
        )
        if t:
            noise = np.concatenate([h.total_noise[data.source[data.with_total]] ** 2, noise])
        self.energy_factors, self.mixed = [], []
        for a, (theta, variance) in enumerate(zip(self.theta, h.variance, strict=True)):
            own, summed, some = data.observed(a)
            k = variance * energy_block(own, own, theta, threads)
            k[np.diag_indices_from(k)] += np.tile(energy_noise, len(own.columns))
            self.energy_factors.append(cholesky(k))
            x = np.empty((len(k), size))
            x[:, :t] = variance * sums_block(own.flat_columns, summed, theta, threads)
            x[:, t:] = variance * mixed_block(own, some, theta, threads)
            if x.size:
                blas.dtrsm(1.0, self.energy_factors[-1].T, x.T, side=1, lower=0, overwrite_b=1)
            self.mixed.append(x)  # L^-1 X from here on
        self.schur = self._coupling()
        self.schur.add_to_diagonal(noise)
        for x in self.mixed:
            self.schur.subtract_products(x)
        self.schur.factorise(threads)

    def _coupling(self) -> Triangle:
        """Covariances of totals and gradients without noise; no label is in two panels."""
        data, t = self.data, len(self.data.with_total)
        ends = panel_ends(data.n_observed[1], t, data.directions.shape[2])
        schur, first = Triangle(ends), 0
        classes = [
            (*data.observed(a)[1:], theta, variance) for a, (theta, variance) in enumerate(
                zip(self.theta, self.hyperparameters.variance, strict=True)
            )
        ]
        for panel, end in zip(schur.panels, ends, strict=True):
            last = (end - t) // data.directions.shape[2]
            below = panel[t:] if not first else panel
            rows = [some.select(slice(first, last)) for _, some, _, _ in classes]
            for here, (summed, _, theta, variance) in zip(rows, classes, strict=True):
                if not first:
                    panel[:t, :t] += variance * totals_block(summed, summed, theta, self.threads)
                below[:, :t] += variance * totals_mixed_block(summed, here, theta, self.threads).T
            add_gradient_blocks(
                below[:, t:], [(here, *one[1:]) for here, one in zip(rows, classes, strict=True)],
                self.threads, first,
            )
            first = last
        return schur

    def twice(self) -> tuple[np.ndarray, np.ndarray]:
        """N sigma^2 and tau^2 of the labels that have atomic energies and their total."""
        h, data = self.hyperparameters, self.data
        if data.totals is None:
            return np.empty(0), np.empty(0)
        source = data.source[data.with_both]
        return data.n_atoms * h.energy_noise[source] ** 2, h.total_noise[source] ** 2

    def half_solved(self, energies: list[np.ndarray], coupling: np.ndarray):
        """L^-1 y for the whole factor L and R right-hand sides.

        (P, R) of each class, (t + g D, R) of totals and gradients.
        """
        tops = [
            half_solve(factor, y) for factor, y in zip(self.energy_factors, energies, strict=True)
        ]
        bottom = coupling - sum(
            x.T @ top for x, top in zip(self.mixed, tops, strict=True)
        )
        return tops, self.schur.half_solve(bottom)


def panel_ends(size: int, n_totals: int, n_directions: int) -> list[int]:
    """Where panels of a Schur complement of that size end: with the last direction of a label."""
    if size <= _WHOLE:
        return [size]
    step = max(1, _PANEL // n_directions) * n_directions
    return [*range(n_totals + step, size, step), size]


def constants(data: JointData) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """What the means of the classes add to the observations.

    Returns
    -------
    energies : list of (m e, J) arrays
        Of the atomic energies of each class.
    coupling : (t + g D, J) array
        Of totals and gradients.
    basis : (K, J) array
        Means of the classes for J coefficients: each its own, or, without atomic energies, one.
        Those of what stands beside the atoms are zero.
    """
    members = np.array([len(p.columns) for p in data.points])
    if data.latent:
        basis = np.zeros((len(members), 1))
        basis[: len(data.classes)] = 1.0
    else:
        basis = np.eye(len(members))
    coupling = np.zeros((data.n_observed[1], basis.shape[1]))
    coupling[: len(data.with_total)] = members @ basis
    e = len(data.with_energies)
    rows = [np.tile(b, (m * e, 1)) for m, b in zip(members, basis, strict=True)]
    return rows, coupling, basis


class JointSystem(JointFactor):
    """The solution for the values of the observations; parameters and errors of `JointFactor`.

    Attributes
    ----------
    mean : (K,) array
        Constant means of the classes (hartree).
    energy_weights : list of (m, e) arrays
        Dual weights of the observed energies of each class.
    total_weights : (t,) array
        Dual weights of the totals.
    gradient_weights : (g, D) array
        Dual weights of the gradients.
    coupling_weights : (t + g D,) array
        Both.
    negative_log_likelihood : float
        Without its constant.
    """

    def __init__(self, data: JointData, hyperparameters: Hyperparameters, threads: int = 1):
        super().__init__(data, hyperparameters, threads)
        self._solve()

    def _solve(self):
        data = self.data
        t = len(data.with_total)
        members = np.array([len(p.columns) for p in data.points])
        # right-hand sides: the labels, and the constant functions of the classes
        columns, coupling, basis = constants(data)
        energies = [e[:, data.with_energies] for e in data.energies]
        energies += [np.empty((m, 0)) for m in members[len(energies):]]  # not observed
        if data.latent:
            shifts = basis[:, 0] * data.totals[data.with_total].mean() / data.n_atoms
        else:
            shifts = np.array([e.mean() for e in energies])
        tops = [
            np.column_stack([e.ravel() - shift, c])
            for e, shift, c in zip(energies, shifts, columns, strict=True)
        ]
        observed = data.gradients[data.with_gradient].ravel()
        if t:
            observed = np.concatenate([data.totals[data.with_total] - members @ shifts, observed])
        tops, bottom = self.half_solved(tops, np.column_stack([observed, coupling]))
        whole = np.vstack([*tops, bottom])
        gram = whole[:, 1:].T @ whole
        found = np.linalg.solve(gram[:, 1:], gram[:, 0])
        self.mean = shifts + basis @ found
        coefficients = np.concatenate([[1.0], -found])
        v = bottom @ coefficients
        residuals = [top @ coefficients for top in tops]
        self.coupling_weights = self.schur.solve_transposed(v)
        self.total_weights = self.coupling_weights[:t]
        self.gradient_weights = self.coupling_weights[t:].reshape(-1, data.directions.shape[2])
        self.energy_weights = [
            solve_transposed(factor, r - x @ self.coupling_weights).reshape(e.shape)
            for factor, r, x, e in zip(
                self.energy_factors, residuals, self.mixed, energies, strict=True
            )
        ]
        squares = v @ v + sum(r @ r for r in residuals)
        diagonals = [*map(np.diagonal, self.energy_factors), self.schur.diagonal()]
        determinant = sum(2.0 * np.log(diagonal).sum() for diagonal in diagonals)
        determinant -= np.log(sum(self.twice())).sum()
        self.negative_log_likelihood = 0.5 * float(squares + determinant)
