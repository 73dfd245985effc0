"""The model of one property of one atom, which is what a ``.model`` file holds."""

from dataclasses import dataclass, field

import numpy as np

from ase_fflux.base.errors import ModelError
from ase_fflux.model.kernels import Kernel
from ase_fflux.model.process import GaussianProcess


@dataclass(frozen=True)
class AtomModel:
    """Gaussian process of one property of one atom.

    Parameters
    ----------
    system : str
        Name of the molecule.
    atom : str
        Label of the atom: its element and its 1-based index, ``O1``.
    index : int
        Its 0-based index.
    element : str
        Its element.
    property : str
        ``iqa`` or one of `multipoles.MOMENT_NAMES`.
    alf : tuple of int
        Its local frame: the atom, the one on x, the one in the xy-plane; 0-based, -1 for the
        missing third atom of a diatomic molecule.
    n_atoms : int
        Number of atoms N of the molecule.
    gp : GaussianProcess
        One output; inputs (n, F) in bohr and radian.
    targets : (n,) array
        Training targets as the file has them (hartree, or atomic units of the moment).
    dialect : str
        Reading of the file that reproduces the targets.
    metadata : dict
        Comments of the header.
    """

    system: str
    atom: str
    index: int
    element: str
    property: str
    alf: tuple[int, int, int]
    n_atoms: int
    gp: GaussianProcess
    targets: np.ndarray
    dialect: str = ""
    metadata: dict[str, str] = field(default_factory=dict)

    @property
    def kernel(self) -> Kernel:
        """Covariance function."""
        return self.gp.kernel

    @property
    def inputs(self) -> np.ndarray:
        """(n, F) training features (bohr, radian)."""
        return self.gp.inputs

    @property
    def weights(self) -> np.ndarray:
        """(n,) weights."""
        return self.gp.weights[0]

    @property
    def mean(self) -> float:
        """Constant mean."""
        return float(self.gp.mean[0])

    @property
    def noise(self) -> float:
        """Variance on the diagonal, relative to the kernel's unit prefactor."""
        return self.gp.noise

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Values (n,) at features (n, F), in atomic units.

        Raises
        ------
        ModelError
            Features that are not an array of finite numbers with F columns.
        """
        features = np.asarray(features, dtype=float)
        if features.ndim != 2 or features.shape[1] != self.inputs.shape[1]:
            raise ModelError(
                f"{self.atom} {self.property}: features must be an array of shape "
                f"(n, {self.inputs.shape[1]}), not {features.shape}"
            )
        if not np.isfinite(features).all():
            raise ModelError(f"{self.atom} {self.property}: features must be finite numbers")
        return self.gp.predict(features)[0]
