"""The atom that the gradient of the density leads to.

Every point belongs to the nucleus at which the path of steepest ascent of the density ends. A path
that enters a sphere around a nucleus, on whose surface the density rises inwards everywhere, has
arrived.
"""

import numpy as np

from ase_fflux.base.jit import njit
from ase_fflux.labels.partition.density_spline import log_slope

_MOST_STEPS, _MOST_LOST = 2000, 100
_ERROR = 1e-4
"""Error of a step of a path (bohr)."""
_CROSSING = 1e-4
"""Error of a crossing (bohr)."""
STRIDE = 2
"""Points of the spline's mesh per point of the labelled one."""
_FAINT = -14.0
"""Logarithm of the density below which the nearest mesh point decides."""


@njit
def _direction(x, tables, out, direction):
    """Unit vector of the gradient."""
    log_slope(x, tables, out)
    length = np.sqrt(out[1] ** 2 + out[2] ** 2 + out[3] ** 2)
    for k in range(3):
        direction[k] = out[k + 1] / (length + 1e-300)


@njit
def _arrived(x, atoms, radius, low, step, known):
    """Atom whose sphere, or whose labelled part of the mesh, x is in, -1 if in none."""
    i = min(max(int((x[0] - low[0]) / step + 0.5), 0), known.shape[0] - 1)
    j = min(max(int((x[1] - low[1]) / step + 0.5), 0), known.shape[1] - 1)
    k = min(max(int((x[2] - low[2]) / step + 0.5), 0), known.shape[2] - 1)
    if known[i, j, k] >= 0:
        return known[i, j, k]
    for a in range(len(atoms)):
        d2 = 0.0
        for n in range(3):
            d2 += (x[n] - atoms[a, n]) ** 2
        if d2 < radius[a] ** 2:
            return a
    return -1


@njit
def _destination(start, radius, tables, known, work):
    """Atom in whose sphere the path of steepest ascent from a point ends, -1 if in none.

    Bogacki and Shampine's pair of orders 3 and 2 along the path's length, Appl. Math. Lett. 1989,
    2, 321. Where a path ends stands in work[4].
    """
    k1, k2, k3, k4, x, y, out = work
    atoms, low, spacing = tables[0], tables[3], tables[4] * STRIDE
    x[:] = start
    found = _arrived(x, atoms, radius, low, spacing, known)
    if found >= 0:
        return found
    step = 0.1
    _direction(x, tables, out, k1)
    for _ in range(_MOST_STEPS):
        for k in range(3):
            y[k] = x[k] + 0.5 * step * k1[k]
        _direction(y, tables, out, k2)
        for k in range(3):
            y[k] = x[k] + 0.75 * step * k2[k]
        _direction(y, tables, out, k3)
        for k in range(3):
            y[k] = x[k] + step * (2 * k1[k] + 3 * k2[k] + 4 * k3[k]) / 9
        _direction(y, tables, out, k4)
        error = 0.0
        for k in range(3):
            d = -5 * k1[k] / 72 + k2[k] / 12 + k3[k] / 9 - k4[k] / 8
            error += d * d
        error = step * np.sqrt(error)
        if error < _ERROR or step < 1e-4:
            x[:] = y
            k1[:] = k4
            found = _arrived(x, atoms, radius, low, spacing, known)
            if found >= 0:
                return found
        step *= min(4.0, max(0.2, 0.9 * (_ERROR / (error + 1e-12)) ** (1 / 3)))
        step = min(step, 0.8)
    return -1


@njit
def _workspace():
    return (
        np.empty(3), np.empty(3), np.empty(3), np.empty(3), np.empty(3), np.empty(3), np.empty(4)
    )


def known_atoms(spline, radius) -> tuple[np.ndarray, np.ndarray]:
    """Atoms of the mesh points that are well inside of a basin, -1 elsewhere.

    From high to low density, so that a path soon meets what is known already.

    Parameters
    ----------
    spline : SplineDensity
    radius : (N,) array
        Spheres (bohr) in which a path has arrived.

    Returns
    -------
    known : (x, y, z) array
        The atom of all 27 points around, if it is the same.
    lost : (n, 3) array
        Where paths end that end at no atom, with n at most 100: there labelling stops.
    """
    density = spline.log_density[::STRIDE, ::STRIDE, ::STRIDE]
    labels = np.full(density.shape, -1, dtype=np.int16)
    known = labels.copy()
    lost = _label(np.argsort(-density.ravel()), radius, spline.tables, labels, known)
    known[density < _FAINT] = labels[density < _FAINT]
    return known, lost


@njit
def _label(order, radius, tables, labels, known):
    low, spacing = tables[3], tables[4] * STRIDE
    work, x = _workspace(), np.empty(3)
    nx, ny, nz = labels.shape
    lost = np.empty((_MOST_LOST, 3))
    n_lost = 0
    for index in order:
        i, j, k = index // (ny * nz), index // nz % ny, index % nz
        x[0], x[1], x[2] = low[0] + spacing * i, low[1] + spacing * j, low[2] + spacing * k
        labels[i, j, k] = found = _destination(x, radius, tables, known, work)
        if found < 0:
            lost[n_lost] = work[4]
            n_lost += 1
            if n_lost == _MOST_LOST:
                break
            continue
        # the point may have been the last one missing around each of its neighbours
        for a in range(max(i - 1, 1), min(i + 2, nx - 1)):
            for b in range(max(j - 1, 1), min(j + 2, ny - 1)):
                for c in range(max(k - 1, 1), min(k + 2, nz - 1)):
                    if labels[a, b, c] == found and known[a, b, c] < 0:
                        if _alone(labels, a, b, c):
                            known[a, b, c] = found
    return lost[:n_lost]


@njit
def _alone(labels, i, j, k):
    """Whether all 27 points around have the same label."""
    for a in range(i - 1, i + 2):
        for b in range(j - 1, j + 2):
            for c in range(k - 1, k + 2):
                if labels[a, b, c] != labels[i, j, k]:
                    return False
    return True


@njit
def destinations(points, radius, tables, known):
    """Atom of each point (g, 3), -1 where a path ends in none.

    Parameters
    ----------
    points : (g, 3) array
    radius : (N,) array
        Spheres (bohr) in which a path has arrived.
    tables : tuple
        Of `SplineDensity`.
    known : (x, y, z) array
        Of `known_atoms`.
    """
    work, out = _workspace(), np.empty(len(points), dtype=np.int64)
    for g in range(len(points)):
        out[g] = _destination(points[g], radius, tables, known, work)
    return out


@njit
def crossings(low, high, owner, radius, tables, known):
    """Where lines between points (g, 3) of two atoms leave the first atom, owner (g,).

    Returns
    -------
    (g,) array
        Fractions of the way from low to high, by bisection.
    """
    work, point, out = _workspace(), np.empty(3), np.empty(len(low))
    for g in range(len(low)):
        length = 0.0
        for k in range(3):
            length += (high[g, k] - low[g, k]) ** 2
        precision = _CROSSING / np.sqrt(length)
        a, b = 0.0, 1.0
        while b - a > precision:
            middle = 0.5 * (a + b)
            for k in range(3):
                point[k] = low[g, k] + middle * (high[g, k] - low[g, k])
            if _destination(point, radius, tables, known, work) == owner[g]:
                a = middle
            else:
                b = middle
        out[g] = 0.5 * (a + b)
    return out
