"""Smooth particle-mesh Ewald sums of multipoles.

Waves are interpolated by cardinal B-splines M_p on a mesh (Essmann, Perera, Berkowitz, Darden, Lee,
Pedersen, J. Chem. Phys. 1995, 103, 8577). Moments are derivatives, and so are theirs of the splines
(Sagui, Pedersen, Darden, J. Chem. Phys. 2004, 120, 73; to hexadecapoles: Simmonett et al., J. Chem.
Phys. 2014, 140, 184101), taken along the axes of the cell in units of the mesh. All derivatives of
the energy are exact derivatives of the interpolated energy.
"""

import numpy as np
from scipy.fft import irfftn, next_fast_len, rfftn

from ase_fflux.base.jit import njit
from ase_fflux.forcefield.interactions.base import System
from ase_fflux.forcefield.interactions.cartesian import POWERS, RAISED, n_monomials, substitute
from ase_fflux.forcefield.interactions.ewald import Ewald
from ase_fflux.model.multipoles import MAX_RANK

_MOST = MAX_RANK + 2
"""Derivatives of splines from the zeroth on."""


@njit
def _splines(w, order, highest, values, work):
    """Derivatives of M_p(w - g) at the p mesh points g from floor(w) - p + 1 to floor(w).

    Fills the first rows of values (n, p), derivatives 0 to ``highest``; returns floor(w).
    """
    whole = np.floor(w)
    u = w - whole
    for j in range(order):
        work[j] = 0.0
    work[0], work[1] = u, 1.0 - u
    for n in range(2, order + 1):
        if n > 2:
            for j in range(n - 1, 0, -1):
                x = u + j
                work[j] = (x * work[j] + (n - x) * work[j - 1]) / (n - 1)
            work[0] *= u / (n - 1)
        s = order - n
        if s <= highest:
            # the derivative of a spline is the difference of two splines of one order less
            for j in range(order):
                total, binomial = 0.0, 1.0
                for i in range(min(s, j) + 1):
                    total += binomial * work[j - i]
                    binomial *= -float(s - i) / (i + 1)
                values[s, order - 1 - j] = total
    return int(whole)


@njit
def _columns(first, order, n, place):
    """Mesh points of the periodic direction, the last of which is ``first``."""
    for j in range(order):
        g = first - order + 1 + j
        place[j] = g + n if g < 0 else g


@njit
def _spread(w, coefficients, order, rank, powers, mesh):
    """Add the charge density of all sites to the mesh, which is p - 1 longer along z.

    One axis after the other, so that all inner loops are over neighbours in memory.
    """
    sx, sy, sz = np.zeros((3, _MOST, order))
    work, row = np.empty(order), np.empty((_MOST, _MOST, order))
    plane = np.zeros((_MOST, order, order))
    px, py = np.empty(order, np.int64), np.empty(order, np.int64)
    for a in range(len(w)):
        _columns(_splines(w[a, 0], order, rank, sx, work), order, mesh.shape[0], px)
        _columns(_splines(w[a, 1], order, rank, sy, work), order, mesh.shape[1], py)
        z = _splines(w[a, 2], order, rank, sz, work)
        row[:] = 0.0
        for d in range(coefficients.shape[1]):
            i, j, k, c = powers[d, 0], powers[d, 1], powers[d, 2], coefficients[a, d]
            for q in range(order):
                row[i, j, q] += c * sz[k, q]
        for jy in range(order):
            for i in range(rank + 1):
                for q in range(order):
                    plane[i, jy, q] = sy[0, jy] * row[i, 0, q]
                for j in range(1, rank + 1 - i):
                    for q in range(order):
                        plane[i, jy, q] += sy[j, jy] * row[i, j, q]
        for jx in range(order):
            x, c0, c1, c2, c3, c4 = px[jx], sx[0, jx], sx[1, jx], sx[2, jx], sx[3, jx], sx[4, jx]
            for jy in range(order):
                y = py[jy]
                if rank == 0:
                    for q in range(order):
                        mesh[x, y, z + q] += c0 * plane[0, jy, q]
                elif rank <= 2:
                    for q in range(order):
                        mesh[x, y, z + q] += (
                            c0 * plane[0, jy, q] + c1 * plane[1, jy, q] + c2 * plane[2, jy, q]
                        )
                else:
                    for q in range(order):
                        mesh[x, y, z + q] += (
                            c0 * plane[0, jy, q] + c1 * plane[1, jy, q] + c2 * plane[2, jy, q]
                            + c3 * plane[3, jy, q] + c4 * plane[4, jy, q]
                        )


@njit
def _gather(w, order, degree, powers, mesh, field):
    """Derivatives of the potential on the mesh, in its units, at all sites."""
    sx, sy, sz = np.zeros((3, _MOST, order))
    work, row = np.empty(order), np.empty((_MOST, _MOST, order))
    line = np.empty((_MOST, order))
    px, py = np.empty(order, np.int64), np.empty(order, np.int64)
    for a in range(len(w)):
        _columns(_splines(w[a, 0], order, degree, sx, work), order, mesh.shape[0], px)
        _columns(_splines(w[a, 1], order, degree, sy, work), order, mesh.shape[1], py)
        z = _splines(w[a, 2], order, degree, sz, work)
        row[:] = 0.0
        for jy in range(order):
            y = py[jy]
            line[:] = 0.0
            for jx in range(order):
                x, c0, c1, c2, c3 = px[jx], sx[0, jx], sx[1, jx], sx[2, jx], sx[3, jx]
                if degree == 1:
                    for q in range(order):
                        value = mesh[x, y, z + q]
                        line[0, q] += c0 * value
                        line[1, q] += c1 * value
                else:
                    for q in range(order):
                        value = mesh[x, y, z + q]
                        line[0, q] += c0 * value
                        line[1, q] += c1 * value
                        line[2, q] += c2 * value
                        line[3, q] += c3 * value
                if degree > 3:
                    c4, c5 = sx[4, jx], sx[5, jx]
                    for q in range(order):
                        value = mesh[x, y, z + q]
                        line[4, q] += c4 * value
                        line[5, q] += c5 * value
            for i in range(degree + 1):
                for j in range(degree + 1 - i):
                    for q in range(order):
                        row[i, j, q] += sy[j, jy] * line[i, q]
        for d in range(field.shape[1]):
            i, j, k, total = powers[d, 0], powers[d, 1], powers[d, 2], 0.0
            for q in range(order):
                total += row[i, j, q] * sz[k, q]
            field[a, d] = total


@njit
def _convolve(waves, shape, reciprocal, moduli, factor, width, virial):
    """Multiply by the Green's function in place; returns the energy, adds to the virial.

    waves (n1, n2, n3 / 2 + 1) are those of the mesh; ``reciprocal`` (3, 3) has 2 pi times the
    reciprocal vectors in rows, ``moduli`` (3, n) |b|^2, ``factor`` 4 pi/V, ``width`` 1/(4 alpha^2).
    """
    total = 0.0
    strain = np.zeros(6)
    n1, n2, n3 = shape
    for a in range(n1):
        i = a if 2 * a <= n1 else a - n1
        for b in range(n2):
            j = b if 2 * b <= n2 else b - n2
            plane = factor * moduli[0, a] * moduli[1, b]
            x0 = i * reciprocal[0, 0] + j * reciprocal[1, 0]
            y0 = i * reciprocal[0, 1] + j * reciprocal[1, 1]
            z0 = i * reciprocal[0, 2] + j * reciprocal[1, 2]
            for k in range(n3 // 2 + 1):
                x = x0 + k * reciprocal[2, 0]
                y = y0 + k * reciprocal[2, 1]
                z = z0 + k * reciprocal[2, 2]
                k2 = x * x + y * y + z * z
                if k2 == 0.0:
                    waves[a, b, k] = 0.0
                    continue
                green = plane * moduli[2, k] * np.exp(-k2 * width) / k2
                f = waves[a, b, k]
                # a wave and its opposite are one element but for those of the outer planes
                both = 0.5 if k == 0 or 2 * k == n3 else 1.0
                energy = both * green * (f.real * f.real + f.imag * f.imag)
                waves[a, b, k] = green * f
                total += energy
                stretch = 2.0 * energy * (1.0 / k2 + width)
                strain[0] += stretch * x * x
                strain[1] += stretch * y * y
                strain[2] += stretch * z * z
                strain[3] += stretch * x * y
                strain[4] += stretch * x * z
                strain[5] += stretch * y * z
    for h in range(3):
        virial[h, h] += strain[h] - total
    for h, k, s in ((0, 1, 3), (0, 2, 4), (1, 2, 5)):
        virial[h, k] += strain[s]
        virial[k, h] += strain[s]
    return total


def spline_moduli(n: int, order: int) -> np.ndarray:
    """|b(m)|^2 of the waves m = 0 ... n - 1: what splines take from a wave is given back."""
    values = np.empty((1, order))
    _splines(0.0, order, 0, values, np.empty(order))
    phases = np.exp(2j * np.pi * np.outer(np.arange(n), np.arange(order)) / n)
    return 1.0 / np.abs(phases @ values[0]) ** 2


class ParticleMesh(Ewald):
    """Electrostatics of a fully periodic cell on a mesh; the time grows as N log N.

    Parameters
    ----------
    rank : int
        Interaction rank L' from 0 to 4.
    alpha : float
        Width of the screening, 1/bohr.
    cutoff : float
        Of the real-space part, bohr.
    spacing : float
        Longest distance of mesh points along the cell vectors, bohr.
    order : int
        Order p of the splines, even, at least rank + 4.
    """

    def __init__(self, rank: int, alpha: float, cutoff: float, spacing: float, order: int):
        super().__init__(rank, alpha, cutoff, k_max=np.inf)
        self.spacing, self.order = spacing, order

    def shape(self, cell: np.ndarray) -> tuple[int, int, int]:
        """Mesh points along the vectors of a cell (bohr)."""
        least = np.ceil(np.linalg.norm(cell, axis=1) / self.spacing).astype(int)
        return tuple(next_fast_len(max(int(n), self.order), real=True) for n in least)

    def add_waves(self, system: System, m: np.ndarray, virial: np.ndarray) -> np.ndarray:
        """As of `Ewald`, by way of the mesh."""
        shape, order, degree = self.shape(system.cell), self.order, self.rank + 1
        inverse = np.linalg.inv(system.cell)
        w = system.positions @ inverse
        w = (w - np.floor(w)) * shape
        w[w >= shape] = 0.0  # rounding of a position just below zero
        high, low = n_monomials(degree), m.shape[1]
        change = np.zeros((high, high))
        substitute(inverse * shape, degree, POWERS, RAISED, change)
        mesh = np.zeros((shape[0], shape[1], shape[2] + order - 1))
        _spread(w, m @ change[:low, :low], order, self.rank, POWERS, mesh)
        mesh[:, :, shape[2]:] += mesh[:, :, : order - 1]
        spectrum = rfftn(mesh[:, :, order - 1 :])
        moduli = np.zeros((3, max(shape)))
        for k, n in enumerate(shape):
            moduli[k, :n] = spline_moduli(n, order)
        volume = abs(np.linalg.det(system.cell))
        _convolve(
            spectrum, shape, 2 * np.pi * inverse.T, moduli, 4 * np.pi / volume,
            0.25 / self.alpha**2, virial,
        )
        mesh[:, :, order - 1 :] = irfftn(spectrum, shape, norm="forward")
        mesh[:, :, : order - 1] = mesh[:, :, shape[2]:]
        field = np.empty((len(w), high))
        _gather(w, order, degree, POWERS, mesh, field)
        return field @ change.T
