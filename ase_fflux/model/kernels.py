"""The covariance function of the field: products of RBF and periodic kernels over features.

Every product of RBF, wrapped RBF and periodic kernels is one exponential of a sum over features,
so three arrays of theta describe them all. Because 4 sin^2(d/2) is the squared distance of two
points on the unit circle, the periodic kernel is the RBF kernel on (cos f, sin f): the whole
kernel is a function of squared distances between *columns*, scaled features and their circular
images. Prediction and training work on columns only.
"""

from dataclasses import dataclass

import numpy as np
from scipy.spatial.distance import cdist

TWO_PI = 2.0 * np.pi


@dataclass(frozen=True)
class Kernel:
    r"""Product kernel with unit prefactor.

    .. math:: k(f, g) = \exp\Big(-\sum_h \big[ a_h d_h^2 + b_h\,\mathrm{wrap}(d_h)^2
              + 4 c_h \sin^2(d_h/2) \big]\Big), \qquad d = f - g

    with theta = 1/(2 l^2) for a length scale l: ``rbf`` (a), ``cyclic`` (b, the difference wrapped
    to (-pi, pi]) and ``periodic`` (c), each of shape (F,), zero where the kernel is not active.
    The periodic kernel is positive definite; the wrapped one is not in general and is kept to
    read published models.
    """

    rbf: np.ndarray
    cyclic: np.ndarray
    periodic: np.ndarray

    def __post_init__(self):
        for name in ("rbf", "cyclic", "periodic"):
            theta = np.ascontiguousarray(getattr(self, name), dtype=float)
            if theta.ndim != 1 or theta.shape != np.shape(self.rbf):
                raise ValueError(f"theta of the {name} kernel must be one value per feature")
            if not (np.isfinite(theta).all() and (theta >= 0).all()):
                raise ValueError(f"theta of the {name} kernel must be finite and not negative")
            object.__setattr__(self, name, theta)

    @classmethod
    def periodic_on_phi(cls, theta: np.ndarray) -> "Kernel":
        """RBF on distances and polar angles, periodic on the azimuths (features 6, 9, 12, ...)."""
        theta = np.asarray(theta, dtype=float)
        phi = azimuths(len(theta))
        return cls(np.where(phi, 0.0, theta), np.zeros_like(theta), np.where(phi, theta, 0.0))

    @classmethod
    def plain(cls, theta: np.ndarray) -> "Kernel":
        """RBF on all features; azimuths are not wrapped."""
        zero = np.zeros(len(theta))
        return cls(theta, zero, zero)

    @property
    def n_features(self) -> int:
        """Number of features F."""
        return len(self.rbf)

    @property
    def theta(self) -> np.ndarray:
        """(F,) sum of the three theta: the curvature of the exponent at d = 0."""
        return self.rbf + self.cyclic + self.periodic

    def columns(self, features: np.ndarray) -> np.ndarray:
        """Plain columns (n, C) of features (n, F): scaled features, then cos and sin images.

        The wrapped part is not among them, see `wrapped_columns`.
        """
        features = np.asarray(features, dtype=float)
        rbf, circle = np.flatnonzero(self.rbf), np.flatnonzero(self.periodic)
        scale = np.sqrt(self.periodic[circle])
        return np.hstack([
            np.sqrt(self.rbf[rbf]) * features[:, rbf],
            scale * np.cos(features[:, circle]),
            scale * np.sin(features[:, circle]),
        ])

    def exponent(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Exponents (n, m), the squared distances, of features x (n, F) and y (m, F)."""
        exponent = cdist(self.columns(x), self.columns(y), "sqeuclidean")
        for h in np.flatnonzero(self.cyclic):
            d = np.subtract.outer(np.asarray(x)[:, h], np.asarray(y)[:, h])
            exponent += self.cyclic[h] * (d - TWO_PI * np.rint(d / TWO_PI)) ** 2
        return exponent

    def matrix(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Covariance (n, m) of features x (n, F) and y (m, F)."""
        return np.exp(-self.exponent(x, y))


def azimuths(n_features: int) -> np.ndarray:
    """(F,) mask of the features that are azimuths phi: the 6th, 9th, 12th, ..."""
    h = np.arange(1, n_features + 1)
    return (h > 3) & (h % 3 == 0)


KERNELS = {"periodic": Kernel.periodic_on_phi, "rbf": Kernel.plain}
"""Kernels that can be trained, made from theta (F,)."""
