"""B-splines of sites on a mesh: charge densities put onto it, potentials read from it.

Rows of the mesh are taken as slices before loops over their points: with indices that are sums,
each of which might count from the end, loops do not vectorise.
"""

import numpy as np

from ase_fflux.base.jit import njit

_SITES = 32
"""Sites whose splines are computed at a time."""

_WIDTH = 4
"""Planes of the mesh that are read together; orders p are multiples of it."""


@njit
def splines(w, order, highest, lasts, values, work):
    """Derivatives of M_p(w - g) at the p mesh points g from floor(w) - p + 1 to floor(w).

    Parameters
    ----------
    w : (S, 3) array
        Coordinates of at most `_SITES` sites in units of the mesh.
    order, highest : int
        p, and the highest derivative.
    lasts : (S, 3) int array, out
        floor(w).
    values : (S, 3, D, p) array, out
        Derivatives 0 to ``highest``.
    work : (p + 1, 3 * _SITES) array
        Scratch.
    """
    lanes = 3 * len(w)
    u = work[order]
    for a in range(len(w)):
        for k in range(3):
            whole = np.floor(w[a, k])
            lasts[a, k] = int(whole)
            u[3 * a + k] = w[a, k] - whole
    for i in range(lanes):
        work[0, i], work[1, i] = u[i], 1.0 - u[i]
    for n in range(2, order + 1):
        if n > 2:
            scale = 1.0 / (n - 1)
            for i in range(lanes):
                work[n - 1, i] = (1.0 - u[i]) * scale * work[n - 2, i]
            for j in range(n - 2, 0, -1):
                for i in range(lanes):
                    x = u[i] + j
                    work[j, i] = scale * (x * work[j, i] + (n - x) * work[j - 1, i])
            for i in range(lanes):
                work[0, i] *= u[i] * scale
        s = order - n
        if s <= highest:
            # the derivative of a spline is the difference of two splines of one order less
            for j in range(order):
                factor = 1.0
                for i in range(min(s, j) + 1):
                    if j - i < n:
                        row = work[j - i]
                        for a in range(len(w)):
                            for k in range(3):
                                before = values[a, k, s, order - 1 - j] if i else 0.0
                                values[a, k, s, order - 1 - j] = before + factor * row[3 * a + k]
                    elif i == 0:
                        for a in range(len(w)):
                            for k in range(3):
                                values[a, k, s, order - 1 - j] = 0.0
                    factor *= -float(s - i) / (i + 1)


@njit
def _rows(lasts, order, low, high, shape, starts):
    """Where the rows of a site begin on a mesh of this shape, -1 outside of planes low to high."""
    for i in range(order):
        x = lasts[0] - order + 1 + i
        x += shape[0] if x < 0 else 0
        for j in range(order):
            y = lasts[1] - order + 1 + j
            y += shape[1] if y < 0 else 0
            starts[i, j] = (x * shape[1] + y) * shape[2] + lasts[2] if low <= x < high else -1


@njit
def spread(w, coefficients, order, rank, powers, low, high, mesh):
    """Add the charge density of all sites to planes low to high of a mesh.

    Every mesh point sums over the sites in their order, in whatever slabs the mesh is filled.

    Parameters
    ----------
    w : (n, 3) array
        Coordinates in units of the mesh, from 0 on.
    coefficients : (n, C) array
        Of derivatives in these units.
    order, rank : int
        p, and the highest derivative.
    powers : (C, 3) int array
        `cartesian.POWERS`.
    low, high : int
        Planes along x.
    mesh : (n1, n2, n3 + p - 1) array, in and out
        Longer along z, so that no row is broken.
    """
    shape, flat, first = mesh.shape, mesh.reshape(-1), 0
    n = rank + 1 + rank % 2  # those of rank 1 and 3 count as of one rank more, with zeros
    values = np.zeros((_SITES, 3, n, order))
    work, lasts = np.empty((order + 1, 3 * _SITES)), np.empty((_SITES, 3), np.int64)
    row, plane = np.empty((n, n, order)), np.zeros((n, order, order))
    starts = np.empty((order, order), np.int64)
    done = 0
    for a in range(len(w)):
        # planes of the site that are within, cyclically
        if (low - int(w[a, 0]) + order - 1) % shape[0] >= order and not (
            low <= (int(w[a, 0]) - order + 1) % shape[0] < high
        ):
            continue
        if a >= done:
            first, done = a, a + _SITES
            splines(w[a:done], order, rank, lasts, values, work)
        at = a - first
        _rows(lasts[at], order, low, high, shape, starts)
        sx, sy, sz = values[at, 0], values[at, 1], values[at, 2]
        row[:] = 0.0
        for d in range(coefficients.shape[1]):
            i, j, k, c = powers[d, 0], powers[d, 1], powers[d, 2], coefficients[a, d]
            for q in range(order):
                row[i, j, q] += c * sz[k, q]
        for i in range(rank + 1):
            for y in range(order):
                s = sy[0, y]
                for q in range(order):
                    plane[i, y, q] = s * row[i, 0, q]
                for j in range(1, rank + 1 - i):
                    s = sy[j, y]
                    for q in range(order):
                        plane[i, y, q] += s * row[i, j, q]
        for x in range(order):
            if starts[x, 0] < 0:
                continue
            for y in range(order):
                target = flat[starts[x, y] : starts[x, y] + order]
                if rank == 0:
                    for q in range(order):
                        target[q] += sx[0, x] * plane[0, y, q]
                elif rank <= 2:
                    c0, c1, c2 = sx[0, x], sx[1, x], sx[2, x]
                    for q in range(order):
                        target[q] += c0 * plane[0, y, q] + c1 * plane[1, y, q] + c2 * plane[2, y, q]
                else:
                    c0, c1, c2, c3, c4 = sx[0, x], sx[1, x], sx[2, x], sx[3, x], sx[4, x]
                    for q in range(order):
                        target[q] += (
                            c0 * plane[0, y, q] + c1 * plane[1, y, q] + c2 * plane[2, y, q]
                            + c3 * plane[3, y, q] + c4 * plane[4, y, q]
                        )


@njit
def gather(w, order, degree, powers, mesh, field):
    """Derivatives of the potential on the mesh, in its units, at sites.

    Parameters as of `spread`; ``field`` (n, C), out, has the derivatives to ``degree``.
    """
    shape, flat = mesh.shape, mesh.reshape(-1)
    values = np.empty((_SITES, 3, degree + 1, order))
    work, lasts = np.empty((order + 1, 3 * _SITES)), np.empty((_SITES, 3), np.int64)
    row = np.empty((degree + 1, degree + 1, order))
    planes = np.empty((degree + 1, order, order))
    starts, brick = np.empty((order, order), np.int64), np.empty((_WIDTH, order, order))
    for a in range(len(w)):
        at = a % _SITES
        if at == 0:
            splines(w[a : a + _SITES], order, degree, lasts, values, work)
        _rows(lasts[at], order, 0, shape[0], shape, starts)
        sx, sy, sz = values[at, 0], values[at, 1], values[at, 2]
        planes[:] = 0.0
        for x in range(0, order, _WIDTH):
            for k in range(_WIDTH):
                for y in range(order):
                    source = flat[starts[x + k, y] : starts[x + k, y] + order]
                    target = brick[k, y]
                    for q in range(order):
                        target[q] = source[q]
            b0, b1 = brick[0].reshape(-1), brick[1].reshape(-1)
            b2, b3 = brick[2].reshape(-1), brick[3].reshape(-1)
            for i in range(degree + 1):
                plane = planes[i].reshape(-1)
                c0, c1, c2, c3 = sx[i, x], sx[i, x + 1], sx[i, x + 2], sx[i, x + 3]
                for q in range(order * order):
                    plane[q] += (c0 * b0[q] + c1 * b1[q]) + (c2 * b2[q] + c3 * b3[q])
        row[:] = 0.0
        for i in range(degree + 1):
            for j in range(degree + 1 - i):
                for y in range(order):
                    s = sy[j, y]
                    for q in range(order):
                        row[i, j, q] += s * planes[i, y, q]
        for d in range(field.shape[1]):
            i, j, k, total = powers[d, 0], powers[d, 1], powers[d, 2], 0.0
            for q in range(order):
                total += row[i, j, q] * sz[k, q]
            field[a, d] = total
