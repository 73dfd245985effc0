"""A trained Gaussian process: inputs, kernel, mean and weights of properties that share them."""

from dataclasses import dataclass, field

import numpy as np

from ase_fflux.gp.kernels import Kernel


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
        The vectors u of a model trained on gradients; none of the present trainers makes them.
    """

    inputs: np.ndarray
    kernel: Kernel
    mean: np.ndarray
    weights: np.ndarray
    noise: float = 0.0
    derivative_weights: np.ndarray | None = field(default=None)

    def __post_init__(self):
        for name in ("inputs", "mean", "weights"):
            object.__setattr__(self, name, np.ascontiguousarray(getattr(self, name), dtype=float))
        n, n_features = self.inputs.shape
        if self.weights.shape != (len(self.mean), n) or n_features != self.kernel.n_features:
            raise ValueError(
                f"inconsistent shapes: inputs {self.inputs.shape}, weights {self.weights.shape}, "
                f"{len(self.mean)} means, kernel of {self.kernel.n_features} features"
            )
        if self.derivative_weights is not None:
            raise NotImplementedError("weights on kernel derivatives cannot be evaluated yet")

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Values (P, m) at features (m, F)."""
        return self.mean[:, None] + self.weights @ self.kernel.matrix(self.inputs, features)

    def targets(self) -> np.ndarray:
        """Training targets (P, n), recovered from the weights: y = m + (K + noise I) w."""
        return self.predict(self.inputs) + self.noise * self.weights
