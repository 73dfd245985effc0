r"""Which reading of a ``.model`` file reproduces the training targets that the file itself holds.

Weights are (K + noise I)^-1 (y - m), so a file must satisfy y - m - K w = noise w to rounding. That
settles what the text leaves open, and finds corruption of any number in the file:

- ``periodic`` means exp(-4 theta sin^2(d/2)) in FEREBUS and exp(-2 theta sin^2(d/2)) in files
  written from gpytorch;
- ``rbf`` on an azimuth was trained on plain differences by FEREBUS and is evaluated with
  differences wrapped to (-pi, pi] by DL_FFLUX;
- the noise of the header is relative to the kernel's unit prefactor, or (gpytorch on standardised
  targets) that times the standard deviation of the targets; where neither fits, or there is none
  in the header, it is the multiple of w that remains, at most `MAX_NOISE`.

Moments that vanish by symmetry are published with theta of 1e12 and more: no two geometries are
correlated, so the file predicts its mean. It is read as just that.
"""

from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np

from ase_fflux.base.errors import ModelError
from ase_fflux.model.kernels import Kernel, azimuths

MAX_NOISE = 1e-2
"""Largest noise (kernel units) inferred where the header does not tell it."""

REPRODUCED = 1e-5
"""Residual allowed, in standard deviations of the targets (single-precision hyperparameters)."""

ROUNDING = 100 * np.finfo(float).eps
"""Residual allowed per sum of |w|: weights of 1e5 and more lose digits in K w."""

_UNCORRELATED_THETA = 1e12
_UNDERFLOW = 700.0
_BLOCK = 512


@dataclass(frozen=True)
class Factor:
    """One factor of a product kernel as the file states it: type, features (0-based), theta."""

    kind: str
    features: np.ndarray
    theta: np.ndarray


@dataclass(frozen=True)
class Data:
    """What a reading must be consistent with: inputs (n, F), targets (n,), weights (n,), mean."""

    inputs: np.ndarray
    targets: np.ndarray
    weights: np.ndarray
    mean: float

    @property
    def spread(self) -> float:
        """Standard deviation of the targets."""
        return float(np.std(self.targets, ddof=1)) if len(self.targets) > 1 else 0.0

    @property
    def tolerance(self) -> float:
        """Largest residual that rounding explains."""
        size = np.abs(self.weights).sum() + np.abs(self.targets).max() + abs(self.mean)
        return REPRODUCED * self.spread + ROUNDING * size


@dataclass(frozen=True)
class Reading:
    """A settled reading: kernel, weights, noise and what the dialect is called."""

    kernel: Kernel
    weights: np.ndarray
    noise: float
    dialect: str


def settle(
    path: Path, factors: list[Factor], data: Data, noise: float | None, gpytorch: bool
) -> Reading:
    """Find the reading that reproduces the targets.

    Parameters
    ----------
    path : Path
        The file, for the message.
    factors : list of Factor
        The product kernel.
    data : Data
        Training data and weights.
    noise : float or None
        Noise stated in the header.
    gpytorch : bool
        Whether the file says it comes from gpytorch, whose dialect is then tried first.

    Raises
    ------
    ModelError
        If no dialect reproduces the targets.
    """
    best = np.inf
    # numbers of a corrupted file may overflow; what is not finite does not pass
    with np.errstate(all="ignore"):
        for kernel, dialect in _kernels(factors, data.inputs.shape[1], gpytorch):
            if np.max(kernel.theta) > _UNCORRELATED_THETA and _is_constant(kernel, data, noise):
                zero = np.zeros_like(data.weights)
                return Reading(kernel, zero, noise or 0.0, "mean only (uncorrelated)")
            residual = _residual(kernel, data)
            for value, remark in _noises(residual, data, noise):
                left = float(np.max(np.abs(residual - value * data.weights)))
                if left <= data.tolerance < np.inf:
                    return Reading(kernel, data.weights, value, dialect + remark)
                best = min(best, left)
        raise ModelError(
            f"{path}: the model does not reproduce its own training targets in any known dialect: "
            f"the residual is {best:.2e}, rounding explains {data.tolerance:.2e}; the file is "
            "damaged, or its kernel is not what it says"
        )


def _kernels(factors, n_features, gpytorch):
    """All kernels the factors may mean, the likeliest first, each with its name."""
    phi = azimuths(n_features)
    kinds = {f.kind for f in factors}
    on_phi = any(phi[f.features].any() for f in factors if f.kind != "periodic")
    wraps = ["declared"] if not on_phi else ["declared", "wrapped", "plain"]
    periods = [1.0] if "periodic" not in kinds else ([0.5, 1.0] if gpytorch else [1.0, 0.5])
    seen = []
    for wrap, period in product(wraps, periods):
        rbf, cyclic, periodic = np.zeros((3, n_features))
        for f in factors:
            if f.kind == "periodic":
                np.add.at(periodic, f.features, period * f.theta)
                continue
            wrapped = wrap == "wrapped" or (wrap == "declared" and f.kind == "rbf-cyclic")
            turns = phi[f.features] & wrapped
            np.add.at(cyclic, f.features[turns], f.theta[turns])
            np.add.at(rbf, f.features[~turns], f.theta[~turns])
        if any(np.array_equal(cyclic, c) and period == p for c, p in seen):
            continue
        seen.append((cyclic, period))
        names = [" * ".join(f.kind for f in factors)]
        if wrap != "declared":
            names.append(f"{wrap} differences")
        if "periodic" in kinds:
            names.append("4 theta" if period == 1.0 else "2 theta")
        yield Kernel(rbf, cyclic, periodic), ", ".join(names)


def _residual(kernel: Kernel, data: Data) -> np.ndarray:
    """(n,) y - m - K w, from half of the symmetric K, block by block."""
    x, w = data.inputs, data.weights
    residual = data.targets - data.mean
    for i in range(0, len(x), _BLOCK):
        rows = slice(i, i + _BLOCK)
        for j in range(i, len(x), _BLOCK):
            columns = slice(j, j + _BLOCK)
            k = kernel.matrix(x[rows], x[columns])
            residual[rows] -= k @ w[columns]
            if j > i:
                residual[columns] -= w[rows] @ k
    return residual


def _noises(residual, data, noise):
    """Noise levels to try, each with a remark for the dialect's name."""
    if noise is not None:
        yield noise, ""
        if data.spread > 0:
            yield noise / data.spread, ", noise of standardised targets"
    remaining = float(residual @ data.weights / (data.weights @ data.weights))
    if 0 <= remaining <= MAX_NOISE:
        yield remaining, ", noise inferred"


def _is_constant(kernel: Kernel, data: Data, noise: float | None) -> bool:
    """Whether no two training points are correlated and y - m = (k + noise) w with k of 0 or 1.

    k(f, f) itself is 1, but comes out as 0 for some points where a program computes distances from
    x^2 - 2 x y + y^2 with theta beyond 1e16; their weights are (y - m) / noise.
    """
    x, w = data.inputs, data.weights
    for i in range(0, len(x), _BLOCK):
        exponent = kernel.exponent(x[i:i + _BLOCK], x)
        exponent[np.arange(len(exponent)), i + np.arange(len(exponent))] = np.inf
        if not np.min(exponent) > _UNDERFLOW:
            return False
    own = data.targets - data.mean - (noise or 0.0) * w
    left = np.minimum(np.abs(own), np.abs(own - w))
    return bool(np.max(left) <= data.tolerance < np.inf)
