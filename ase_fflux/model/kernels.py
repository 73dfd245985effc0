"""The covariance function of the field: products of RBF and periodic kernels over features.

Every product of RBF, wrapped RBF and periodic kernels is one exponential of a sum over features,
so three arrays of theta describe them all. Because 4 sin^2(d/2) is the squared distance of two
points on the unit circle, the periodic kernel is the RBF kernel on (cos f, sin f): the whole
kernel is a function of squared distances between *columns*, scaled features and their circular
images. Prediction and training work on columns only.

Models trained on gradients know two variations (`Form`): distances enter their columns as 1/R,
which resolves what is near and lets go of what is far, and the kernel may fall as a rational
quadratic, a mixture of length scales, in place of the exponential.
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial.distance import cdist

TWO_PI = 2.0 * np.pi


@dataclass(frozen=True)
class Form:
    r"""What a kernel is a function of, and how it falls with the exponent e.

    Attributes
    ----------
    inverse : bool
        Whether distances enter as 1/R (1/bohr), theta then in bohr^2.
    rational : bool
        Whether it falls as the rational quadratic kernel (1 + e / 2)^-2 in place of exp(-e)
        (Rasmussen, Williams, Gaussian Processes for Machine Learning, MIT Press 2006, eq. 4.19,
        of alpha = 2).
    terms : bool
        Whether terms of distances (`ase_fflux.model.terms`) and second processes of the atoms, in
        frames whose axes are exchanged, stand beside the first ones, their kernels falling alike;
        for latent atomic energies alone.
    """

    inverse: bool = False
    rational: bool = False
    terms: bool = False

    def __str__(self) -> str:
        family = "rational quadratic of exponent 2" if self.rational else "exponential (RBF)"
        beside = ", with second frames and terms of distances" if self.terms else ""
        return f"{family}, distances as {'1/R' if self.inverse else 'R'}{beside}"

    def value(self, exponent: np.ndarray) -> np.ndarray:
        """k of exponents."""
        return (1.0 + 0.5 * exponent) ** -2 if self.rational else np.exp(-exponent)

    def fall(self, exponent: np.ndarray) -> np.ndarray:
        """-dk/de of exponents."""
        return (1.0 + 0.5 * exponent) ** -3 if self.rational else np.exp(-exponent)

    def derivatives(self, exponent: np.ndarray) -> tuple[np.ndarray, ...]:
        """k of exponents, -dk/de, d2k/de2 and -d3k/de3."""
        if not self.rational:
            return (np.exp(-exponent),) * 4
        s = 1.0 / (1.0 + 0.5 * exponent)
        return s**2, s**3, 1.5 * s**4, 3.0 * s**5


USUAL = Form()
"""The form of all published models."""


@dataclass(frozen=True)
class Kernel:
    r"""Product kernel with unit prefactor.

    .. math:: k(f, g) = \exp\Big(-\sum_h \big[ a_h d_h^2 + b_h\,\mathrm{wrap}(d_h)^2
              + 4 c_h \sin^2(d_h/2) \big]\Big), \qquad d = f - g

    with theta = 1/(2 l^2) for a length scale l: ``rbf`` (a), ``cyclic`` (b, the difference wrapped
    to (-pi, pi]) and ``periodic`` (c), each of shape (F,), zero where the kernel is not active.
    The periodic kernel is positive definite; the wrapped one is not in general and is kept to
    read published models. ``form`` is what trainings on gradients vary; distances that enter as 1/R
    are so in a and nothing else.
    """

    rbf: np.ndarray
    cyclic: np.ndarray
    periodic: np.ndarray
    form: Form = USUAL

    def __post_init__(self):
        for name in ("rbf", "cyclic", "periodic"):
            theta = np.ascontiguousarray(getattr(self, name), dtype=float)
            if theta.ndim != 1 or theta.shape != np.shape(self.rbf):
                raise ValueError(f"theta of the {name} kernel must be one value per feature")
            if not (np.isfinite(theta).all() and (theta >= 0).all()):
                raise ValueError(f"theta of the {name} kernel must be finite and not negative")
            object.__setattr__(self, name, theta)
        if (self.cyclic + self.periodic)[self.warped].any():
            raise ValueError("distances entering as 1/R take neither a wrapped nor a periodic part")
        if self.form.rational and self.cyclic.any():
            raise ValueError("the wrapped kernel is exponential")

    @classmethod
    def periodic_on_phi(cls, theta: np.ndarray, form: Form = USUAL) -> "Kernel":
        """RBF on distances and polar angles, periodic on the azimuths (features 6, 9, 12, ...)."""
        theta = np.asarray(theta, dtype=float)
        phi = azimuths(len(theta))
        return cls(np.where(phi, 0.0, theta), np.zeros_like(theta), np.where(phi, theta, 0.0), form)

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

    @property
    def warped(self) -> np.ndarray:
        """(F,) mask of the features that enter as 1/R."""
        return distances(self.n_features) & self.form.inverse

    def entering(self, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Features (..., F) as they enter, and the derivatives (..., F) by the features."""
        warped = self.warped
        safe = np.where(warped, features, 1.0)
        entering = np.where(warped, 1.0 / safe, features)
        return entering, np.where(warped, -(entering**2), 1.0)

    def columns(self, features: np.ndarray) -> np.ndarray:
        """Plain columns (n, C) of features (n, F): scaled features, then cos and sin images.

        The wrapped part is not among them, see `wrapped_columns`.
        """
        features = np.asarray(features, dtype=float)
        rbf, circle = np.flatnonzero(self.rbf), np.flatnonzero(self.periodic)
        scale = np.sqrt(self.periodic[circle])
        return np.hstack([
            np.sqrt(self.rbf[rbf]) * self.entering(features)[0][:, rbf],
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
        return self.form.value(self.exponent(x, y))


def distances(n_features: int) -> np.ndarray:
    """(F,) mask of the features that are distances: the 1st and 2nd, the 4th, 7th, 10th, ..."""
    h = np.arange(1, n_features + 1)
    return (h < 3) | ((h > 3) & (h % 3 == 1))


def azimuths(n_features: int) -> np.ndarray:
    """(F,) mask of the features that are azimuths phi: the 6th, 9th, 12th, ..."""
    h = np.arange(1, n_features + 1)
    return (h > 3) & (h % 3 == 0)


OF_ATOMS = {
    "rbf": USUAL, "rbf-inverse": Form(inverse=True), "rq": Form(rational=True),
    "rq-inverse": Form(inverse=True, rational=True),
}
FORMS = OF_ATOMS | {f"{name}-terms": replace(form, terms=True) for name, form in OF_ATOMS.items()}
"""Forms of kernels that trainings on gradients choose from: those with terms where atomic energies
are latent, the others where labels have them."""

KERNELS = {"periodic": Kernel.periodic_on_phi, "rbf": Kernel.plain}
"""Kernels that can be trained, made from theta (F,)."""
