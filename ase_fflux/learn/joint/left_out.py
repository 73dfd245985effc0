"""Errors at labels of a process that was trained without them, without training it again."""

from collections.abc import Sequence

import numpy as np

from ase_fflux.learn.joint.system import JointFactor, JointSystem, constants

TOGETHER = 10
"""Labels that are solved for at once."""


class LeftOut:
    """Labels of a solved joint process, left out one at a time.

    Parameters
    ----------
    factor : JointFactor
        Of all labels.
    energy_weights : list of (m, n) arrays
        Dual weights of the atomic energies of each class, zero for labels without.
    total_weights : (n,) array
        Of the totals, likewise.
    gradient_weights : (n, D) array
        Of the gradients, likewise.

    Attributes
    ----------
    constants, basis, gram : arrays
        Constant functions of the classes, half solved, with their coefficients in the means of the
        classes (`system.constants`), and their products.
    """

    def __init__(self, factor: JointFactor, energy_weights, total_weights, gradient_weights):
        self.factor, self.data = factor, factor.data
        self._weights = energy_weights, total_weights, gradient_weights
        tops, bottom, self.basis = constants(self.data)
        self.constants = self.half_solved(tops, bottom)
        self.gram = self.constants.T @ self.constants

    @classmethod
    def of(cls, system: JointSystem) -> "LeftOut":
        """Of a system that is solved."""
        data = system.data
        energies = [np.zeros(e.shape) for e in data.energies]
        of_atoms = system.energy_weights[: len(energies)]  # the others are of terms
        for all_labels, observed in zip(energies, of_atoms, strict=True):
            all_labels[:, data.with_energies] = observed
        totals, gradients = np.zeros(len(data)), np.zeros(data.gradients.shape)
        totals[data.with_total] = system.total_weights
        gradients[data.with_gradient] = system.gradient_weights
        return cls(system, energies, totals, gradients)

    def half_solved(self, tops: list[np.ndarray], bottom: np.ndarray) -> np.ndarray:
        """`JointFactor.half_solved`, in one array."""
        tops, bottom = self.factor.half_solved(tops, bottom)
        return np.vstack([*tops, bottom])

    def errors(self, labels: Sequence[int]) -> list[tuple[np.ndarray, np.ndarray]]:
        """Errors at a label of a model trained without it, and their covariance with its noise.

        They are B^-1 a and B^-1 for the block B of K^-1 - K^-1 H (H^T K^-1 H)^-1 H^T K^-1 and the
        dual weights a of the label's observations (O. Dubrule, Math. Geol. 15, 687 (1983)).

        Parameters
        ----------
        labels : sequence of int
            With gradients.

        Returns
        -------
        errors : (P,) array
            Label minus prediction of what was observed of it: atomic energies, class by class,
            total energy, and gradient along the label's directions (hartree, hartree/bohr).
        covariance : (P, P) array
            As assumed, without scale.
        """
        found = []
        observed = [self._observed(label) for label in labels]
        tops = [np.hstack(parts) for parts in zip(*(o[0] for o in observed), strict=True)]
        halves = self.half_solved(tops, np.hstack([o[1] for o in observed]))
        ends = np.cumsum([o[1].shape[1] for o in observed])
        for (_, _, weights), half in zip(
            observed, np.split(halves, ends[:-1], axis=1), strict=True
        ):
            means = self.constants.T @ half
            covariance = np.linalg.inv(half.T @ half - means.T @ np.linalg.solve(self.gram, means))
            found.append((covariance @ weights, covariance))
        return found

    def _observed(self, label: int) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
        """Unit vectors of a label's observations, and their dual weights."""
        data = self.data
        energy_weights, total_weights, gradient_weights = self._weights
        n_directions, t = data.directions.shape[2], len(data.with_total)
        has_energies, has_total = label in data.with_energies, label in data.with_total
        n_energies = data.n_atoms * has_energies
        width = n_energies + has_total + n_directions
        members = [len(points.columns) for points in data.points]
        ends = np.cumsum([0, *members]) * has_energies
        tops = []
        for m, first, last in zip(members, ends[:-1], ends[1:], strict=True):
            top = np.zeros((m * len(data.with_energies), width))
            if has_energies:
                place = np.searchsorted(data.with_energies, label)
                top[place :: len(data.with_energies), first:last] = np.eye(m)
            tops.append(top)
        bottom = np.zeros((data.n_observed[1], width))
        if has_total:
            bottom[np.searchsorted(data.with_total, label), n_energies] = 1.0
        row = t + n_directions * np.searchsorted(data.with_gradient, label)
        bottom[row : row + n_directions, n_energies + has_total :] = np.eye(n_directions)
        weights = [w[:, label] for w in energy_weights] if has_energies else []
        if has_total:
            weights.append(total_weights[[label]])
        return tops, bottom, np.concatenate([*weights, gradient_weights[label]])


def gradient_error(system: JointSystem) -> float:
    """Mean absolute error of the gradient (hartree/bohr) of labels left out one at a time."""
    left_out, labels = LeftOut.of(system), system.data.with_gradient
    n_directions = system.data.directions.shape[2]
    found = [
        np.abs(errors[-n_directions:]).mean()
        for some in np.array_split(labels, -(-len(labels) // TOGETHER))
        for errors, _ in left_out.errors(some)
    ]
    return float(np.mean(found))
