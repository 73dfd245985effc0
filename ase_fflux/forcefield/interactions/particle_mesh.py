"""Smooth particle-mesh Ewald sums of multipoles.

Waves are interpolated by cardinal B-splines M_p on a mesh (Essmann, Perera, Berkowitz, Darden, Lee,
Pedersen, J. Chem. Phys. 1995, 103, 8577). Moments are derivatives, and so are theirs of the splines
(Sagui, Pedersen, Darden, J. Chem. Phys. 2004, 120, 73; to hexadecapoles: Simmonett et al., J. Chem.
Phys. 2014, 140, 184101), taken along the axes of the cell in units of the mesh. All derivatives of
the energy are exact derivatives of the interpolated energy.
"""

from functools import lru_cache

import numpy as np
from scipy.fft import fft, ifft, next_fast_len

from ase_fflux.base.jit import njit
from ase_fflux.base.threads import run, slices
from ase_fflux.forcefield.interactions.base import System
from ase_fflux.forcefield.interactions.cartesian import POWERS, RAISED, n_monomials, substitute
from ase_fflux.forcefield.interactions.ewald import Ewald
from ase_fflux.forcefield.interactions.splines import gather, splines, spread
from ase_fflux.forcefield.loops import exponentials, rows_times

_UNSCALED = {fft: "backward", ifft: "forward"}


@njit
def _convolve(waves, shape, reciprocal, moduli, factor, width, low, high, sums):
    """Multiply waves low to high of the second axis by the Green's function in place.

    waves (n1, n2, 2 (n3 / 2 + 1)) are those of the mesh, real and imaginary parts in turn;
    ``reciprocal`` (3, 3) has 2 pi times the reciprocal vectors in rows, ``moduli`` (3, n) |b|^2,
    ``factor`` 4 pi/V, ``width`` 1/(4 alpha^2). Out: sums (n2, 7), for each of them the energy and
    xx, yy, zz, xy, xz, yz of sum 2 energy (1/k^2 + width) k k.
    """
    n1, n2, n3 = shape
    n = n3 // 2 + 1
    k2, green = np.empty(n), np.empty(n)
    for b in range(low, high):
        j = b if 2 * b <= n2 else b - n2
        sums[b] = 0.0
        for a in range(n1):
            i = a if 2 * a <= n1 else a - n1
            f = waves[a, b]
            plane = factor * moduli[0, a] * moduli[1, b]
            x0 = i * reciprocal[0, 0] + j * reciprocal[1, 0]
            y0 = i * reciprocal[0, 1] + j * reciprocal[1, 1]
            z0 = i * reciprocal[0, 2] + j * reciprocal[1, 2]
            for k in range(n):
                x = x0 + k * reciprocal[2, 0]
                y = y0 + k * reciprocal[2, 1]
                z = z0 + k * reciprocal[2, 2]
                k2[k] = x * x + y * y + z * z
                green[k] = k2[k] * width
            if a == 0 and b == 0:
                k2[0] = 1e300  # the mean of the potential is nothing
            exponentials(green, n)
            # a wave and its opposite are one element but for those of the outer planes
            energy = s0 = s1 = s2 = 0.0
            for k in range(n):
                green[k] *= plane * moduli[2, k] / k2[k]
                re, im = f[2 * k], f[2 * k + 1]
                both = 0.5 if k == 0 or 2 * k == n3 else 1.0
                e = both * green[k] * (re * re + im * im)
                f[2 * k], f[2 * k + 1] = green[k] * re, green[k] * im
                stretch = 2.0 * e * (1.0 / k2[k] + width)
                energy += e
                s0 += stretch
                s1 += stretch * k
                s2 += stretch * k * k
            # k is a line: its products are sums of 1, k and k^2
            x1, y1, z1 = reciprocal[2, 0], reciprocal[2, 1], reciprocal[2, 2]
            sums[b, 0] += energy
            sums[b, 1] += s0 * x0 * x0 + 2.0 * s1 * x0 * x1 + s2 * x1 * x1
            sums[b, 2] += s0 * y0 * y0 + 2.0 * s1 * y0 * y1 + s2 * y1 * y1
            sums[b, 3] += s0 * z0 * z0 + 2.0 * s1 * z0 * z1 + s2 * z1 * z1
            sums[b, 4] += s0 * x0 * y0 + s1 * (x0 * y1 + x1 * y0) + s2 * x1 * y1
            sums[b, 5] += s0 * x0 * z0 + s1 * (x0 * z1 + x1 * z0) + s2 * x1 * z1
            sums[b, 6] += s0 * y0 * z0 + s1 * (y0 * z1 + y1 * z0) + s2 * y1 * z1


@lru_cache(maxsize=64)
def spline_moduli(n: int, order: int) -> np.ndarray:
    """|b(m)|^2 of the waves m = 0 ... n - 1: what splines take from a wave is given back."""
    values, work = np.empty((1, 3, 1, order)), np.empty((order + 1, 3))
    splines(np.zeros((1, 3)), order, 0, np.empty((1, 3), np.int64), values, work)
    phases = np.exp(2j * np.pi * np.outer(np.arange(n), np.arange(order)) / n)
    moduli = 1.0 / np.abs(phases @ values[0, 0, 0]) ** 2
    moduli.flags.writeable = False
    return moduli


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
        threads, room = system.threads, system.room
        inverse = np.linalg.inv(system.cell)
        w = rows_times(system.positions, inverse)
        w = (w - np.floor(w)) * shape
        w[w >= shape] = 0.0  # rounding of a position just below zero
        # in the order of the mesh, so that neighbours in memory follow each other
        rows = w[:, :2].astype(np.int64)
        sites = np.argsort(rows[:, 0] * shape[1] + rows[:, 1], kind="stable")
        w = w[sites]
        high, low = n_monomials(degree), m.shape[1]
        change = np.zeros((high, high))
        substitute(inverse * shape, degree, POWERS, RAISED, change)
        coefficients = rows_times(m[sites], change[:low, :low])
        mesh = room.array("mesh", (shape[0], shape[1], shape[2] + order - 1))
        spectrum = room.array("spectrum", (*shape[:2], shape[2] // 2 + 1), complex)
        moduli = np.zeros((3, max(shape)))
        for k, n in enumerate(shape):
            moduli[k, :n] = spline_moduli(n, order)
        volume, sums = abs(np.linalg.det(system.cell)), np.empty((shape[1], 7))
        numbers, inner = spectrum.view(float), mesh[:, :, order - 1 :]

        def to_planes(slab):
            mesh[slab] = 0.0
            spread(w, coefficients, order, self.rank, POWERS, slab.start, slab.stop, mesh)
            mesh[slab, :, shape[2]:] += mesh[slab, :, : order - 1]
            np.fft.rfft(inner[slab], out=spectrum[slab])
            _in_place(fft, spectrum[slab], 1)

        def convolve(slab):
            _in_place(fft, spectrum[:, slab], 0)
            _convolve(
                numbers, shape, 2 * np.pi * inverse.T, moduli, 4 * np.pi / volume,
                0.25 / self.alpha**2, slab.start, slab.stop, sums,
            )
            _in_place(ifft, spectrum[:, slab], 0)

        def to_mesh(slab):
            _in_place(ifft, spectrum[slab], 1)
            np.fft.irfft(spectrum[slab], shape[2], norm="forward", out=inner[slab])
            mesh[slab, :, : order - 1] = mesh[slab, :, shape[2]:]

        for n, work in (shape[0], to_planes), (shape[1], convolve), (shape[0], to_mesh):
            run(work, zip(slices(n, threads)), threads)
        energy, xx, yy, zz, xy, xz, yz = sums.sum(axis=0)
        virial += [[xx - energy, xy, xz], [xy, yy - energy, yz], [xz, yz, zz - energy]]
        field = room.array("field", (len(w), high))
        back, turned = np.empty_like(field), np.ascontiguousarray(change.T)

        def to_sites(part):
            gather(w[part], order, degree, POWERS, mesh, field[part])
            back[sites[part]] = rows_times(field[part], turned)

        run(to_sites, zip(slices(len(w), threads)), threads)
        return back


def _in_place(transform, array, axis):
    """Transform along an axis, unscaled, in the memory of the array."""
    made = transform(array, axis=axis, norm=_UNSCALED[transform], overwrite_x=True)
    if made.ctypes.data != array.ctypes.data:  # SciPy promises no more than to overwrite it
        array[...] = made
