"""A trained Gaussian process: inputs, kernel, mean and weights of properties that share them."""

from dataclasses import dataclass

import numpy as np

from ase_fflux.base.errors import ModelError
from ase_fflux.model.kernels import Kernel


@dataclass(frozen=True)
class GaussianProcess:
    r"""Posterior mean of P properties which share training inputs and kernel.

    .. math:: P_p(f) = m_p + \sum_j \big[ w_{pj} + u_{pj} \cdot \nabla_{f_j} \big] k(f, f_j)

    Parameters
    ----------
    inputs : (n, F) array
        Training features (bohr, radian).
    kernel : Kernel
        Covariance function.
    mean : (P,) array
        Constant mean functions, in atomic units of each property.
    weights : (P, n) array
        Weights (K + noise I)^-1 (y - m).
    noise : float
        Variance on the diagonal, in units of the kernel's unit prefactor.
    derivative_weights : (P, n, F) array, optional
        The vectors u of a model trained on gradients.

    Raises
    ------
    ValueError
        If shapes do not fit together, or if weights on derivatives come with a wrapped kernel.
    """

    inputs: np.ndarray
    kernel: Kernel
    mean: np.ndarray
    weights: np.ndarray
    noise: float = 0.0
    derivative_weights: np.ndarray | None = None

    def __post_init__(self):
        for name in ("inputs", "mean", "weights"):
            object.__setattr__(self, name, np.ascontiguousarray(getattr(self, name), dtype=float))
        n, n_features = self.inputs.shape
        if self.weights.shape != (len(self.mean), n) or n_features != self.kernel.n_features:
            raise ValueError(
                f"inconsistent shapes: inputs {self.inputs.shape}, weights {self.weights.shape}, "
                f"{len(self.mean)} means, kernel of {self.kernel.n_features} features"
            )
        if self.derivative_weights is None:
            return
        slopes = np.ascontiguousarray(self.derivative_weights, dtype=float)
        object.__setattr__(self, "derivative_weights", slopes)
        if slopes.shape != (*self.weights.shape, n_features):
            raise ValueError(
                f"inconsistent shapes: derivative weights {slopes.shape}, weights "
                f"{self.weights.shape}, {n_features} features"
            )
        if self.kernel.cyclic.any():
            raise ValueError(
                "the wrapped kernel has a kink where it wraps and takes no weights on its "
                "derivatives: use the periodic kernel"
            )

    def column_weights(self) -> np.ndarray:
        r"""Derivative weights (P, n, C) with respect to columns (`Kernel.columns`) of the inputs.

        .. math:: U_j = (\partial c / \partial f)(f_j) \, u_j, \qquad
                  u_j \cdot \nabla_{f_j} k = 2 U_j \cdot (c - c_j) (-dk/de)

        with -dk/de = k for the exponential form.
        """
        kernel = self.kernel
        u = self.derivative_weights * kernel.entering(self.inputs)[1]
        rbf, circle = np.flatnonzero(kernel.rbf), np.flatnonzero(kernel.periodic)
        turn = np.sqrt(kernel.periodic[circle]) * u[..., circle]
        angle = self.inputs[:, circle]
        return np.concatenate(
            [np.sqrt(kernel.rbf[rbf]) * u[..., rbf], -turn * np.sin(angle), turn * np.cos(angle)],
            axis=-1,
        )

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Values (P, m) at features (m, F)."""
        exponent, form = self.kernel.exponent(self.inputs, features), self.kernel.form
        values = self.mean[:, None] + self.weights @ form.value(exponent)
        if self.derivative_weights is not None:
            columns = self.kernel.columns(self.inputs)
            centre = columns.mean(axis=0)  # products of small differences round less
            columns, queries = columns - centre, self.kernel.columns(features) - centre
            fall = form.fall(exponent)
            for value, slopes in zip(values, self.column_weights(), strict=True):
                along = slopes @ queries.T - np.einsum("nc,nc->n", slopes, columns)[:, None]
                value += 2.0 * np.einsum("nm,nm->m", fall, along)
        return values

    def single(self, i: int) -> "GaussianProcess":
        """That of one property, of weights on values."""
        return GaussianProcess(
            self.inputs, self.kernel, self.mean[i:i + 1], self.weights[i:i + 1], self.noise
        )

    def targets(self) -> np.ndarray:
        """Training targets (P, n), recovered from the weights: y = m + (K + noise I) w.

        Raises
        ------
        ModelError
            For a process trained on gradients: it shares these with those of other atoms, and
            its images of one label have one target.
        """
        if self.derivative_weights is not None:
            raise ModelError(
                "training targets cannot be recovered from a process trained on gradients; "
                "what needs them takes models trained on values alone"
            )
        return self.predict(self.inputs) + self.noise * self.weights
