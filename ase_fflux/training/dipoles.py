r"""Charges and atomic dipoles from molecular dipoles alone.

A molecular dipole is a linear map of latent moments, of the charges q and local dipoles mu of its
atoms at r in frames C (rows are the axes), and the sum of the charges is that of the molecule:

.. math:: D = \sum_a r_a q_a + C_a^T \mu_a, \qquad Q = \sum_a q_a.

Equivalent atoms share processes, as for all moments. What dipoles do not tell (how a dipole is
made up of charges and atomic dipoles) is left to the prior: the parts are as small as they can be.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize
from scipy.spatial.distance import cdist

from ase_fflux.base.errors import TrainingError
from ase_fflux.model.frames import features_and_frames
from ase_fflux.model.kernels import Kernel
from ase_fflux.model.shared import SharedProcess, transformed
from ase_fflux.model.symmetry import AtomClass

NAMES = ("q00", "q10", "q11c", "q11s")
"""What the processes give: charge, and dipole along z, x and y of the local frame."""
SEARCH_LABELS = 60
"""Labels that hyperparameters are searched on at most."""
MOST_LABELS = 300
"""Labels that are learned from at most: the covariances of all points with all images are held."""
_MEAN = 0.5
"""Prior standard deviation of the mean charge of a class (e)."""
_SUM = 1e-3
"""Noise of the sum of the charges (e)."""
_START = np.log([1.0, 0.1, 0.1, 1e-3])
_BOX = np.log([(1e-3, 30.0), (1e-3, 3.0), (1e-3, 3.0), (1e-5, 1e-1)])
_EVALUATIONS = 60


@dataclass(frozen=True, eq=False)
class _ClassView:
    """Points of a class of m atoms at n labels, compared with all images of themselves."""

    atoms: AtomClass
    theta: np.ndarray
    exponents: np.ndarray
    odd: np.ndarray
    positions: np.ndarray
    axes: np.ndarray

    def covariances(self, scale: float) -> tuple[np.ndarray, np.ndarray]:
        """(m n, m n) of outputs that are even under reflection, and of odd ones."""
        k = np.exp(-scale * self.exponents)
        return k.sum(axis=0), np.tensordot(self.odd, k, 1)


def dipole_processes(
    geometries: np.ndarray, dipoles: np.ndarray, alf: np.ndarray, classes: Sequence[AtomClass],
    charge: float, which: str = "shared", seed: int = 0,
) -> tuple[list[SharedProcess], dict]:
    """Processes of charges and atomic dipoles from dipoles of the molecule.

    Parameters
    ----------
    geometries : (n, N, 3) array
        bohr.
    dipoles : (n, 3) array
        About the origin of the coordinates (e bohr).
    alf : (N, 3) int array
        Local frames that correspond (`Symmetry.carried_alf`).
    classes : sequence of AtomClass
        Atoms that share processes.
    charge : float
        Of the molecule (e).
    which : str
        ``charges`` for charges without atomic dipoles, as of `training.molecule.MOMENTS`.
    seed : int
        Of the choice of labels.

    Returns
    -------
    processes : list of SharedProcess
    record : dict
        Hyperparameters, JSON-able.

    Raises
    ------
    TrainingError
        Dipoles that are not finite numbers.
    """
    if not np.isfinite(dipoles).all():
        label = int(np.argmin(np.isfinite(dipoles).all(axis=1)))
        raise TrainingError(f"label {label + 1} has numbers that are not finite in its dipole")
    order = np.random.default_rng(seed).permutation(len(geometries))
    few, used = order[:SEARCH_LABELS], np.sort(order[:MOST_LABELS])
    theta = [_start(geometries[used], alf, atoms) for atoms in classes]
    # a diatomic molecule has an axis for a frame, along which charges do
    names = NAMES[:1] if which == "charges" or geometries.shape[1] == 2 else NAMES

    def system(labels):
        return _Dipoles(geometries[labels], dipoles[labels], alf, classes, theta, charge, names)

    found = minimize(
        system(few).value, _START, method="Powell", bounds=_BOX,
        options=dict(maxfev=_EVALUATIONS, xtol=1e-2, ftol=1e-4),
    )
    scale, charges, atomic, noise = (float(x) for x in np.exp(found.x))
    record = {
        "from": "molecular dipoles", "charge": charge, "scale_of_theta": scale,
        "charge_spread_e": charges, "atomic_dipole_spread_e_bohr": atomic,
        "noise_e_bohr": noise, "labels_searched": len(few), "labels": len(used),
    }
    processes = []
    for process in system(used).processes(found.x):
        weights = np.zeros((*process.weights.shape[:2], len(geometries)))
        weights[:, :, used] = process.weights
        processes.append(replace(process, weights=weights))
    return processes, record


def _points(geometries, alf, atoms: AtomClass):
    """Features (m, n, F) of a class as its first atom has them, and frames (m, n, 3, 3)."""
    found = [features_and_frames(geometries, alf, atom) for atom in atoms.atoms]
    features = np.stack([
        transformed(x, order, mirrored, np.pi)
        for (x, _), order, mirrored in zip(found, atoms.order, atoms.mirrored, strict=True)
    ])
    return features, np.stack([frames for _, frames in found])


def _start(geometries, alf, atoms: AtomClass) -> np.ndarray:
    """Theta (F,) by which features count alike and typical points correlate by exp(-1/2)."""
    features, _ = _points(geometries, alf, atoms)
    spread = np.zeros(features.shape[2])
    kernel = Kernel.periodic_on_phi(np.ones(len(spread)))
    columns = kernel.columns(features.reshape(-1, len(spread))).var(axis=0)
    plain, circle = np.flatnonzero(kernel.rbf), np.flatnonzero(kernel.periodic)
    np.add.at(spread, np.concatenate([plain, circle, circle]), columns)
    theta = np.clip(0.25 / (len(spread) * np.maximum(spread, 1e-6)), 1e-6, 3.0)
    tie = np.unique(atoms.tie, return_inverse=True)[1]
    return np.exp(np.bincount(tie, np.log(theta)) / np.bincount(tie))[tie]


class _Dipoles:
    """The linear system of the dipoles and sums of charges of n labels, 4 n observations."""

    def __init__(self, geometries, dipoles, alf, classes, theta, charge, names):
        self.names = names
        # about the mean position: charges that add to that of the molecule are then told apart
        # from it by their sum alone
        centre = geometries.mean(axis=1, keepdims=True)
        self.targets = np.concatenate(
            [(dipoles - charge * centre[:, 0]).ravel(), np.full(len(geometries), charge)]
        )
        self.n = len(geometries)
        self.views = [
            self._view(geometries, geometries - centre, alf, atoms, t)
            for atoms, t in zip(classes, theta, strict=True)
        ]

    def _view(self, geometries, positions, alf, atoms, theta):
        features, frames = _points(geometries, alf, atoms)
        kernel = Kernel.periodic_on_phi(theta)
        flat = features.reshape(-1, features.shape[2])
        columns = kernel.columns(flat)
        exponents = np.array([
            cdist(columns, kernel.columns(transformed(flat, order, mirrored, np.pi)), "sqeuclidean")
            for order, mirrored in zip(atoms.view_order, atoms.view_mirrored, strict=True)
        ])
        # local z, x, y in the order of the moments; what is odd refers to its negative in a mirror
        axes = frames[:, :, [2, 0, 1]].copy()
        axes[atoms.mirrored, :, 0] *= -1.0
        return _ClassView(
            atoms, theta, exponents, np.where(atoms.view_mirrored, -1.0, 1.0),
            positions[:, list(atoms.atoms)].swapaxes(0, 1).reshape(-1, 3), axes.reshape(-1, 3, 3),
        )

    def _maps(self, view):
        """What a charge, and a dipole along each local axis, adds to the observations of its label:
        (m n, 4), and (3, m n, 4)."""
        ones, none = np.ones((len(view.positions), 1)), np.zeros((3, len(view.positions), 1))
        axes = view.axes.swapaxes(0, 1)
        mu = np.concatenate([axes, none], axis=2)[: len(self.names) - 1]
        return np.hstack([view.positions, ones]), mu

    def _summed(self, k, left, right):
        """Covariance (4 n, 4 n), observation by observation, of parts with covariances k."""
        m = len(k) // self.n
        k = k.reshape(m, self.n, m, self.n)
        left, right = (x.reshape(m, self.n, 4) for x in (left, right))
        return np.einsum("aik,aibj,bjl->kilj", left, k, right, optimize=True)

    def _covariance(self, x):
        scale, charges, atomic, noise = np.exp(x)
        total = np.zeros((4, self.n, 4, self.n))
        for view in self.views:
            even, odd = view.covariances(scale)
            q, mu = self._maps(view)
            total += self._summed(charges**2 * even + _MEAN**2, q, q)
            for axis, k in zip(mu, (odd, even, even), strict=False):  # charges may be alone
                total += atomic**2 * self._summed(k, axis, axis)
        # from (direction, label) to dipoles label by label, then sums
        rows = np.arange(4 * self.n).reshape(4, self.n)
        order = np.concatenate([rows[:3].T.ravel(), rows[3]])
        total = total.reshape(4 * self.n, -1)[np.ix_(order, order)]
        total[np.diag_indices_from(total)] += np.repeat(
            [noise**2, _SUM**2], [3 * self.n, self.n]
        )
        return total

    def value(self, x) -> float:
        """-ln L of logarithms of scale, spreads of charges and atomic dipoles, and noise."""
        try:
            factor = cho_factor(self._covariance(x), lower=True, overwrite_a=True)
        except np.linalg.LinAlgError:
            return 1e12
        weights = cho_solve(factor, self.targets)
        return 0.5 * float(self.targets @ weights) + float(np.log(np.diagonal(factor[0])).sum())

    def processes(self, x) -> list[SharedProcess]:
        """The processes with all weights."""
        scale, charges, atomic, _ = np.exp(x)
        weights = cho_solve(
            cho_factor(self._covariance(x), lower=True, overwrite_a=True), self.targets
        )
        by_label = np.hstack([weights[: 3 * self.n].reshape(-1, 3), weights[3 * self.n :, None]])
        found = []
        for view in self.views:
            m = len(view.atoms.atoms)
            q, mu = self._maps(view)
            here = np.tile(by_label, (m, 1))
            dual = np.array([(part * here).sum(axis=1) for part in (q, *mu)])
            mean = np.zeros(len(self.names))
            mean[0] = _MEAN**2 * dual[0].sum()
            spread = np.array([charges, atomic, atomic, atomic])[: len(mean)]
            found.append(SharedProcess(
                view.atoms, self.names, Kernel.periodic_on_phi(scale * view.theta), mean,
                (spread**2)[:, None, None] * dual.reshape(-1, m, self.n), _SUM**2,
            ))
        return found
