"""How what is read from bundles is checked."""

import numpy as np

from ase_fflux.base.errors import ModelError
from ase_fflux.formats.dialects import ROUNDING
from ase_fflux.model.process import GaussianProcess

CHECKED = 3
"""Labels whose predictions are repeated on reading."""


def require(condition: bool, fault: str) -> None:
    """Raise the ModelError of a fault where a condition does not hold."""
    if not condition:
        raise ModelError(f"{fault}: the bundle is damaged, fetch it again or rebuild it")


def rounding(gp: GaussianProcess) -> np.ndarray:
    """(P,) by how much predictions may differ between machines."""
    size = np.abs(gp.weights).sum(axis=1)
    if gp.derivative_weights is not None:
        slopes = np.abs(gp.kernel.entering(gp.inputs)[1]).max(axis=0)
        bend = 1 + 2 * gp.kernel.theta * slopes**2
        size = size + np.abs(gp.derivative_weights).sum(axis=1) @ bend
    # features differ between machines by rounding, which large weights magnify
    return 10 * ROUNDING * (1 + size + np.abs(gp.mean))
