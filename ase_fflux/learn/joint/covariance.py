r"""Covariances of atomic energies and total gradients, and their adjoint.

For one class of atoms with prior s^2 k(c, c') over columns c,

.. math:: k(c, c') = \sum_v \kappa\Big(\sum_h \theta_h \delta_h^2\Big),
          \qquad \delta = c - T_v c',

where v runs over the views of c' (T_v permutes columns and changes signs), so that each point is
known with all its images, and kappa(e) is exp(-e) or (1 + e / 2)^-2, see `Form`. With slopes
B = dc/dx and b_v = T_v B', a = theta o delta, q = b_v^T a and derivatives of kappa by e,

.. math:: \mathrm{cov}(E, G') &= \textstyle\sum_v -2 \kappa'_v q \\
          \mathrm{cov}(G, G') &= \textstyle\sum_v
          -B^T (2 \kappa'_v \Theta b_v + 4 \kappa''_v a q^T).

(Derivative observations: Solak et al., Adv. Neural Inf. Process. Syst. 2003, 15, 1057.) The kernels
here do what is of pairs of points: derivatives with respect to columns. The products with slopes
are left to BLAS (`blocks`), for many pairs at once. A pair of points so far apart that its
exponential vanishes to rounding is skipped.
"""

import numpy as np

from ase_fflux.base.jit import njit

_FAR = 42.0
"""Exponent beyond which exp(-e) is below 1e-18 and left out."""


@njit
def _difference(x, y, view, sign, theta, a):
    """a = theta o (x - T y); returns the exponent."""
    e = 0.0
    for c in range(x.shape[0]):
        d = x[c] - sign[c] * y[view[c]]
        a[c] = theta[c] * d
        e += a[c] * d
    return e


@njit
def _falls(e, rational):
    """kappa, -kappa', kappa'' and -kappa''' of an exponent; zeros where exp(-e) is nothing."""
    if rational:
        s = 1.0 / (1.0 + 0.5 * e)
        cube = s * s * s
        return s * s, cube, 1.5 * cube * s, 3.0 * cube * s * s
    k = np.exp(-e) if e < _FAR else 0.0
    return k, k, k, k


@njit
def energy_rows(x, columns, view_column, view_sign, theta, rational, triangle, first, last, out):
    """Covariances of energies: rows first to last of out (R, P), of x (R, C) and columns (P, C).

    With ``triangle``, only columns up to the row are filled.
    """
    a = np.empty(x.shape[1])
    for r in range(first, last):
        for p in range(r + 1 if triangle else columns.shape[0]):
            total = 0.0
            for v in range(view_column.shape[0]):
                e = _difference(x[r], columns[p], view_column[v], view_sign[v], theta, a)
                total += _falls(e, rational)[0]
            out[r, p] = total


@njit
def mixed_columns(x, first, columns, start, view_column, view_sign, theta, rational, u):
    """Derivatives of cov(E, E') with respect to the columns of points: u (t, R, m C).

    Of x (., C) from the first on and labels of columns (m, n, C) from the start on. With slopes B
    of the points of a label, cov(E, G') = u B.
    """
    n_members, _, n_columns = columns.shape
    a = np.empty(n_columns)
    for j in range(u.shape[0]):
        for r in range(u.shape[1]):
            for m in range(n_members):
                out = u[j, r, m * n_columns:(m + 1) * n_columns]
                out[:] = 0.0
                for v in range(view_column.shape[0]):
                    view, sign = view_column[v], view_sign[v]
                    e = _difference(
                        x[first + r], columns[m, start + j], view, sign, theta, a
                    )
                    k = 2.0 * _falls(e, rational)[1]
                    if k == 0.0:
                        continue
                    for c in range(n_columns):
                        out[view[c]] += k * sign[c] * a[c]


@njit
def images(columns, slopes, start, view_column, view_sign, root, y, b):
    """All images of t labels from the start on, in columns times the root of theta.

    Fills y (t, m V, C) with T_v c and b (t, m V, C, D) with T_v B of columns (m, n, C) and slopes
    (m, n, C, D).
    """
    n_views = view_column.shape[0]
    for j in range(y.shape[0]):
        for m in range(columns.shape[0]):
            for v in range(n_views):
                for c in range(columns.shape[2]):
                    s = root[c] * view_sign[v, c]
                    y[j, m * n_views + v, c] = s * columns[m, start + j, view_column[v, c]]
                    row = slopes[m, start + j, view_column[v, c]]
                    for d in range(slopes.shape[3]):
                        b[j, m * n_views + v, c, d] = s * row[d]


@njit
def pairs(x, y, rational, scale, a, bent, fall):
    """What is of pairs of points x (R, C) and images y (t, V, C), both times the root of theta.

    Fills a (R, t V, C) with x - y, bent (t V, R, C) with -4 scale kappa'' (x - y), and fall
    (t, R, V) with -2 scale kappa'. With slopes A and B in the same columns, cov(G, G') is the sum
    of fall A^T B and of A^T a (B^T bent)^T over all points and images.
    """
    n_images = y.shape[1]
    for r in range(x.shape[0]):
        for j in range(y.shape[0]):
            for v in range(n_images):
                image, difference = y[j, v], a[r, j * n_images + v]
                e = 0.0
                for c in range(x.shape[1]):
                    difference[c] = x[r, c] - image[c]
                    e += difference[c] ** 2
                _, slope, bend, _ = _falls(e, rational)
                fall[j, r, v] = 2.0 * scale * slope
                bend *= -4.0 * scale
                for c in range(x.shape[1]):
                    bent[j * n_images + v, r, c] = bend * difference[c]


@njit
def energy_adjoint(columns, view_column, view_sign, theta, rational, first, last, m, by_theta):
    """Contract the lower triangle of m (P, P) with the covariances of energies.

    Off-diagonal elements count twice. Adds to by_theta (C,) the derivatives with respect to theta;
    returns the sum of m o k.
    """
    a = np.empty(columns.shape[1])
    sum_all = 0.0
    for r in range(first, last):
        for p in range(r + 1):
            weight = m[r, p] if p == r else 2.0 * m[r, p]
            for v in range(view_column.shape[0]):
                e = _difference(columns[r], columns[p], view_column[v], view_sign[v], theta, a)
                k, fall, _, _ = _falls(e, rational)
                if k == 0.0:
                    continue
                sum_all += weight * k
                fall *= weight
                for c in range(a.shape[0]):
                    d = a[c] / theta[c]
                    by_theta[c] -= fall * d * d
    return sum_all


@njit
def between_adjoint(x, columns, view_column, view_sign, theta, rational, first, last, m, by_theta):
    """The same for all of m (R, n): energies at x (R, C) with sums over columns (m, n, C)."""
    n_members, n, n_columns = columns.shape
    a = np.empty(n_columns)
    sum_all = 0.0
    for r in range(first, last):
        for p in range(n_members):
            for j in range(n):
                for v in range(view_column.shape[0]):
                    e = _difference(x[r], columns[p, j], view_column[v], view_sign[v], theta, a)
                    k, fall, _, _ = _falls(e, rational)
                    if k == 0.0:
                        continue
                    sum_all += m[r, j] * k
                    fall *= m[r, j]
                    for c in range(n_columns):
                        d = a[c] / theta[c]
                        by_theta[c] -= fall * d * d
    return sum_all


@njit
def mixed_adjoint(x, first, columns, start, view_column, view_sign, theta, rational, u, by_theta):
    """The same for cov(E, G), from the products u (t, R, m C) = m B^T of `mixed_columns`."""
    n_members, _, n_columns = columns.shape
    a, moved = np.empty(n_columns), np.empty(n_columns)
    sum_all = 0.0
    for j in range(u.shape[0]):
        for r in range(u.shape[1]):
            for p in range(n_members):
                row = u[j, r, p * n_columns:(p + 1) * n_columns]
                for v in range(view_column.shape[0]):
                    view, sign = view_column[v], view_sign[v]
                    e = _difference(
                        x[first + r], columns[p, start + j], view, sign, theta, a
                    )
                    _, fall, bend, _ = _falls(e, rational)
                    if fall == 0.0:
                        continue
                    value = 0.0
                    for c in range(n_columns):
                        moved[c] = sign[c] * row[view[c]]
                        value += a[c] * moved[c]
                    sum_all += 2.0 * fall * value
                    for c in range(n_columns):
                        d = a[c] / theta[c]
                        by_theta[c] += 2.0 * (fall * d * moved[c] - bend * d * d * value)
    return sum_all


@njit
def gradient_adjoint(
    columns, slopes, i, start, end, view_column, view_sign, theta, rational, w, by_theta
):
    """The same for cov(G, G') of label i, from the products w (m C, t D) = B m.

    For V = w of a pair and r = V q, u = V^T a, the contraction of m with a block is
    -2 kappa' theta . diag(V b^T) - 4 kappa'' u . q; the derivative of u . q by a is r + b u.
    """
    n_members, _, n_columns, n_directions = slopes.shape
    a, q, u = np.empty(n_columns), np.empty(n_directions), np.empty(n_directions)
    t, s = np.empty(n_columns), np.empty(n_columns)
    block = np.empty((n_columns, n_directions))
    sum_all = 0.0
    for j in range(start, end):
        place = (j - start) * n_directions
        for p in range(n_members):
            for c in range(n_columns):
                for d in range(n_directions):
                    block[c, d] = w[p * n_columns + c, place + d]
            for o in range(n_members):
                for v in range(view_column.shape[0]):
                    view, sign = view_column[v], view_sign[v]
                    e = _difference(columns[p, i], columns[o, j], view, sign, theta, a)
                    _, fall, bend, turn = _falls(e, rational)
                    if fall == 0.0:
                        continue
                    for d in range(n_directions):
                        q[d] = 0.0
                        u[d] = 0.0
                    for c in range(n_columns):
                        w_row, row = block[c], slopes[o, j, view[c]]
                        a_c, b_c = a[c], a[c] * sign[c]
                        for d in range(n_directions):
                            u[d] += a_c * w_row[d]
                            q[d] += b_c * row[d]
                    diagonal, crossed = 0.0, 0.0
                    for c in range(n_columns):
                        w_row, row = block[c], slopes[o, j, view[c]]
                        t_c, r_c, b_c = 0.0, 0.0, 0.0
                        for d in range(n_directions):
                            t_c += w_row[d] * row[d]
                            r_c += w_row[d] * q[d]
                            b_c += row[d] * u[d]
                        t[c] = sign[c] * t_c
                        s[c] = r_c + sign[c] * b_c
                        diagonal += 2.0 * theta[c] * t[c]
                    for d in range(n_directions):
                        crossed += 4.0 * u[d] * q[d]
                    sum_all += fall * diagonal - bend * crossed
                    further = bend * diagonal - turn * crossed
                    for c in range(n_columns):
                        d = a[c] / theta[c]
                        by_theta[c] += 2.0 * fall * t[c] - 4.0 * bend * d * s[c] - d * d * further
    return sum_all
