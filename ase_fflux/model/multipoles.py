"""Real spherical multipole moments up to rank 4: names, rotation, torque, conversions.

Moments are Racah normalised and real without Condon-Shortley phase, as in Stone, The Theory of
Intermolecular Forces, 2nd ed. (2013), app. B and E; (x, y, z) = (q11c, q11s, q10). In arrays the
moments of one site stand in the order of `MOMENT_NAMES`: rank l begins at l^2, its component m at
l^2 + 2m - 1 (cosine) and l^2 + 2m (sine).
"""

from math import sqrt

import numpy as np

from ase_fflux.base.jit import njit

MAX_RANK = 4
"""Highest multipole rank (hexadecapole)."""

MOMENT_NAMES = tuple(
    f"q{rank}{m}{part}"
    for rank in range(MAX_RANK + 1)
    for m in range(rank + 1)
    for part in (("c", "s") if m else ("",))
)
"""The 25 moments q00, q10, q11c, q11s, q20, ... q44s in the order of all arrays."""


def moment_rank(name: str) -> int:
    """Rank l of a moment of `MOMENT_NAMES`."""
    return int(name[1])


def n_moments(rank: int) -> int:
    """Number of moments of ranks 0 to ``rank``: (rank + 1)^2."""
    return (rank + 1) ** 2


def _position(m: int) -> int:
    """Where component m stands within its rank; -m is the sine part of m."""
    return 2 * m - 1 if m > 0 else -2 * m


def _recursion_tables():
    """Terms of the Ivanic-Ruedenberg recursion.

    Row m of rank l is a sum of five products of a row of D^1 and a row of D^(l-1): their
    coefficients (5, 9, 5) and rows (5, 9, 5, 2); and the normalisation (5, 9) of each column.
    """
    coefficients = np.zeros((MAX_RANK + 1, 2 * MAX_RANK + 1, 5))
    rows = np.zeros((MAX_RANK + 1, 2 * MAX_RANK + 1, 5, 2), dtype=np.int64)
    columns = np.ones((MAX_RANK + 1, 2 * MAX_RANK + 1))
    for l in range(2, MAX_RANK + 1):  # noqa: E741
        for m in range(-l, l + 1):
            columns[l, _position(m)] = 1 / sqrt(
                (l + m) * (l - m) if abs(m) < l else 2 * l * (2 * l - 1)
            )
            n, s = abs(m), 1 if m > 0 else -1
            u = sqrt((l + m) * (l - m))
            v = sqrt((l + n - 1) * (l + n)) / 2
            w = -sqrt((l - n - 1) * (l - n)) / 2
            if m == 0:
                terms = [(u, 0, 0), (-sqrt(2) * v, 1, 1), (-sqrt(2) * v, -1, -1)]
            else:
                # the sine of m = 0 does not exist and its cosine counts sqrt(2) times
                cosine, sine = (v * sqrt(2), 0.0) if n == 1 else (v, v)
                below = (cosine, -sine) if m > 0 else (sine, cosine)
                terms = [
                    (u, 0, m),
                    (below[0], 1, s * (n - 1)),
                    (below[1], -1, -s * (n - 1)),
                    (w, 1, s * (n + 1)),
                    (s * w, -1, -s * (n + 1)),
                ]
            for t, (coefficient, i, mu) in enumerate(terms):
                if coefficient:  # a coefficient of zero goes with a row that does not exist
                    coefficients[l, _position(m), t] = coefficient
                    rows[l, _position(m), t] = _position(i), _position(mu)
    return coefficients, rows, columns


_COEFFICIENTS, _ROWS, _COLUMNS = _recursion_tables()

def _generators():
    """Non-zero elements of the generators of rotations, (axis, a, b, factor) in order of rank.

    Generator L_axis turns Q_b into Q_a with this factor and, being antisymmetric, Q_a into Q_b
    with the opposite one. The elements are those of the ladder operators in the real basis.
    """
    elements, count = [], [0]
    for l in range(1, MAX_RANK + 1):  # noqa: E741
        for m in range(l + 1):
            cosine, sine = l * l + _position(m), l * l + _position(-m)
            up_cosine, up_sine = l * l + 2 * m + 1, l * l + 2 * m + 2
            ladder = sqrt((l - m) * (l + m + 1) / (4 if m else 2))
            if m < l:
                elements += [(0, cosine, up_sine, ladder), (1, up_cosine, cosine, ladder)]
            if 0 < m < l:
                elements += [(0, up_cosine, sine, ladder), (1, up_sine, sine, ladder)]
            if m:
                elements.append((2, sine, cosine, float(m)))
        count.append(len(elements))
    axis, a, b, factor = zip(*elements, strict=True)
    return np.array(axis), np.array(a), np.array(b), np.array(factor), np.array(count)


GENERATOR_AXIS, GENERATOR_A, GENERATOR_B, GENERATOR_FACTOR, N_GENERATORS = _generators()
"""Elements of the rotation generators; the first ``N_GENERATORS[rank]`` are of ranks to rank."""


@njit
def rotation_matrices(frame, rank, rotation):
    """Matrices that turn local moments into global ones, Q_global = D Q_local.

    Recursion of Ivanic and Ruedenberg, J. Phys. Chem. 1996, 100, 6342, with the corrections of
    J. Phys. Chem. A 1998, 102, 9099.

    Parameters
    ----------
    frame : (3, 3) array
        Rows are the local axes in global coordinates.
    rank : int
        Highest rank wanted.
    rotation : (5, 9, 9) array, out
        D of rank l in ``rotation[l, :2l + 1, :2l + 1]``.
    """
    rotation[0, 0, 0] = 1.0
    if rank == 0:
        return
    for a in range(3):
        for b in range(3):
            rotation[1, (a + 1) % 3, (b + 1) % 3] = frame[b, a]
    for l in range(2, rank + 1):  # noqa: E741
        size = 2 * l + 1
        for row in range(size):
            for column in range(size):
                rotation[l, row, column] = 0.0
            for t in range(5):
                c = _COEFFICIENTS[l, row, t]
                if c == 0.0:
                    continue
                one, lower = rotation[1, _ROWS[l, row, t, 0]], rotation[l - 1, _ROWS[l, row, t, 1]]
                z, x, y = c * one[0], c * one[1], c * one[2]
                for column in range(size - 2):
                    rotation[l, row, column] += z * lower[column]
                cosine = lower[size - 4]
                sine = lower[size - 3]
                rotation[l, row, size - 2] += x * cosine - y * sine
                rotation[l, row, size - 1] += x * sine + y * cosine
            for column in range(size):
                rotation[l, row, column] *= _COLUMNS[l, column]


@njit
def to_global(rotation, rank, local, out):
    """out = D local for the moments (K,) of one site, D of `rotation_matrices`."""
    for l in range(rank + 1):  # noqa: E741
        for a in range(2 * l + 1):
            value = 0.0
            for b in range(2 * l + 1):
                value += rotation[l, a, b] * local[l * l + b]
            out[l * l + a] = value


@njit
def to_local(rotation, rank, moments, out):
    """out = D^T moments, inverse and adjoint of `to_global`."""
    for l in range(rank + 1):  # noqa: E741
        for b in range(2 * l + 1):
            out[l * l + b] = 0.0
        for a in range(2 * l + 1):
            value = moments[l * l + a]
            for b in range(2 * l + 1):
                out[l * l + b] += rotation[l, a, b] * value


@njit
def torque(potential, moments, rank, out):
    """Change of the energy when the moments of a site are turned.

    A small rotation omega changes the moments by dQ = sum_k omega_k L_k Q with L_k the generators
    of rotations in the real basis, so dE = omega . t with t_k = dE/dQ . L_k Q. All quantities
    belong to the same axes (global or local).

    Parameters
    ----------
    potential : (K,) array
        dE/dQ in hartree per atomic unit of each moment.
    moments : (K,) array
        Q in atomic units.
    rank : int
        Highest rank in use.
    out : (3,) array, out
        t in hartree (per radian) along x, y, z.
    """
    out[:] = 0.0
    for g in range(N_GENERATORS[rank]):
        a, b = GENERATOR_A[g], GENERATOR_B[g]
        turned = potential[a] * moments[b] - potential[b] * moments[a]
        out[GENERATOR_AXIS[g]] += GENERATOR_FACTOR[g] * turned


def solid_harmonics(positions: np.ndarray, rank: int) -> np.ndarray:
    """Regular solid harmonics R_lm in the order of `MOMENT_NAMES`.

    Recursions from Helgaker, Jorgensen, Olsen, Molecular Electronic-Structure Theory (2000),
    sec. 6.4.9, in Racah normalisation.

    Parameters
    ----------
    positions : (..., 3) array
        Points in bohr.
    rank : int
        Highest rank.

    Returns
    -------
    (..., (rank + 1)^2) array
        In bohr^l.
    """
    positions = np.asarray(positions, dtype=float)
    x, y, z = np.moveaxis(positions, -1, 0)
    r2 = x * x + y * y + z * z
    values = np.zeros(positions.shape[:-1] + (n_moments(rank),))
    values[..., 0] = 1.0
    for l in range(1, rank + 1):  # noqa: E741
        for m in range(l):
            for part in range(min(m, 1) + 1):
                k = 2 * m - part  # position within the rank, the same in all ranks
                term = (2 * l - 1) * z * values[..., (l - 1) ** 2 + k]
                if m < l - 1:
                    term -= sqrt((l - 1) ** 2 - m**2) * r2 * values[..., (l - 2) ** 2 + k]
                values[..., l * l + k] = term / sqrt(l * l - m * m)
        factor = sqrt((2 * l - 1) / (2 * l)) if l > 1 else 1.0
        cosine = values[..., l * l - 1 - (l > 1)]
        sine = values[..., l * l - 1] if l > 1 else np.zeros_like(x)
        values[..., l * l + 2 * l - 1] = factor * (x * cosine - y * sine)
        values[..., l * l + 2 * l] = factor * (x * sine + y * cosine)
    return values


def moments_of_charges(charges: np.ndarray, positions: np.ndarray, rank: int) -> np.ndarray:
    """Moments about the origin of a set of point charges.

    Parameters
    ----------
    charges : (..., n) array
        Charges in e.
    positions : (..., n, 3) array
        Their positions in bohr.
    rank : int
        Highest rank.

    Returns
    -------
    (..., (rank + 1)^2) array
        In atomic units.
    """
    return np.einsum("...n,...nk->...k", charges, solid_harmonics(positions, rank))


def spherical_from_cartesian(dipole: np.ndarray, quadrupole: np.ndarray) -> np.ndarray:
    """Spherical moments of a Cartesian dipole and traceless quadrupole.

    Parameters
    ----------
    dipole : (..., 3) array
        In e bohr.
    quadrupole : (..., 3, 3) array
        Symmetric and traceless, Theta_ab = 1/2 sum q (3 r_a r_b - r^2 delta_ab), in e bohr^2.

    Returns
    -------
    (..., 8) array
        q10, q11c, q11s, q20, q21c, q21s, q22c, q22s in atomic units.
    """
    dipole, quadrupole = np.asarray(dipole, dtype=float), np.asarray(quadrupole, dtype=float)
    xx, yy, zz = (quadrupole[..., a, a] for a in range(3))
    xy, xz, yz = (quadrupole[..., a, b] for a, b in ((0, 1), (0, 2), (1, 2)))
    return np.stack(
        [
            dipole[..., 2], dipole[..., 0], dipole[..., 1],
            zz, 2 / sqrt(3) * xz, 2 / sqrt(3) * yz, (xx - yy) / sqrt(3), 2 / sqrt(3) * xy,
        ],
        axis=-1,
    )


def cartesian_from_spherical(moments: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cartesian dipole and traceless quadrupole of spherical moments.

    Inverse of `spherical_from_cartesian`.

    Parameters
    ----------
    moments : (..., K) array
        q00 to at least q22s in the order of `MOMENT_NAMES` (atomic units).

    Returns
    -------
    dipole : (..., 3) array
        e bohr.
    quadrupole : (..., 3, 3) array
        e bohr^2.
    """
    moments = np.asarray(moments, dtype=float)
    q20, q21c, q21s, q22c, q22s = np.moveaxis(moments[..., 4:9], -1, 0)
    quadrupole = np.empty(moments.shape[:-1] + (3, 3))
    quadrupole[..., 0, 0] = 0.5 * (sqrt(3) * q22c - q20)
    quadrupole[..., 1, 1] = -0.5 * (sqrt(3) * q22c + q20)
    quadrupole[..., 2, 2] = q20
    for (a, b), value in (((0, 1), q22s), ((0, 2), q21c), ((1, 2), q21s)):
        quadrupole[..., a, b] = quadrupole[..., b, a] = sqrt(3) / 2 * value
    return moments[..., [2, 3, 1]], quadrupole
