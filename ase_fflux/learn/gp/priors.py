"""Prior knowledge of length scales, added to an objective."""

import numpy as np

from ase_fflux.learn.gp.likelihood import Likelihood
from ase_fflux.model.process import GaussianProcess


class WithPrior:
    """An objective minus the logarithm of a normal prior on the hyperparameters' logarithms.

    Parameters
    ----------
    objective : Likelihood
        A likelihood, or another n ln(error).
    centre : (H,) array
        Mean of the prior.
    width : float
        Its standard deviation.
    """

    def __init__(self, objective: Likelihood, centre: np.ndarray, width: float):
        self.objective, self.centre, self.width = objective, centre, width
        self.features = objective.features

    def _penalty(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        d = (x - self.centre) / self.width
        return 0.5 * float(d @ d), d / self.width

    def value(self, x: np.ndarray) -> float:
        """The sum."""
        return self.objective.value(x) + self._penalty(x)[0]

    def value_and_gradient(self, x: np.ndarray, *probes) -> tuple[float, np.ndarray]:
        """The sum and its gradient."""
        value, gradient = self.objective.value_and_gradient(x, *probes)
        penalty, slope = self._penalty(x)
        return value + penalty, gradient + slope

    def process(self, x: np.ndarray) -> GaussianProcess:
        """The Gaussian process with these hyperparameters."""
        return self.objective.process(x)
