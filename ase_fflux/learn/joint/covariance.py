r"""Covariances of atomic energies and total gradients, and their adjoint.

For one class of atoms with prior s^2 k(c, c') over columns c,

.. math:: k(c, c') = \sum_v \exp\Big(-\sum_h \theta_h \delta_h^2\Big),
          \qquad \delta = c - T_v c',

where v runs over the views of c' (T_v permutes columns and changes signs), so that each point is
known with all its images. With slopes B = dc/dx and b_v = T_v B', a = theta o delta, q = b_v^T a,

.. math:: \mathrm{cov}(E, G') &= \textstyle\sum_v 2 k_v q \\
          \mathrm{cov}(G, G') &= \textstyle\sum_v B^T k_v (2 \Theta b_v - 4 a q^T).

(Derivative observations: Solak et al., Adv. Neural Inf. Process. Syst. 2003, 15, 1057.) The kernels
here fill blocks of rows, so that threads can share the work; a pair of points so far apart that
its covariance vanishes to rounding is skipped.
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
def _project(a, slopes, view, sign, q):
    """q = (T B)^T a."""
    for d in range(q.shape[0]):
        q[d] = 0.0
    for c in range(a.shape[0]):
        t = a[c] * sign[c]
        row = slopes[view[c]]
        for d in range(q.shape[0]):
            q[d] += t * row[d]


@njit
def energy_rows(x, columns, view_column, view_sign, theta, triangle, first, last, out):
    """Covariances of energies: rows first to last of out (R, P), of x (R, C) and columns (P, C).

    With ``triangle``, only columns up to the row are filled.
    """
    a = np.empty(x.shape[1])
    for r in range(first, last):
        for p in range(r + 1 if triangle else columns.shape[0]):
            total = 0.0
            for v in range(view_column.shape[0]):
                e = _difference(x[r], columns[p], view_column[v], view_sign[v], theta, a)
                if e < _FAR:
                    total += np.exp(-e)
            out[r, p] = total


@njit
def mixed_rows(x, columns, slopes, view_column, view_sign, theta, first, last, out):
    """Rows first to last of cov(E, G), out (R, n D), of x (R, C) with gradients.

    columns (m, n, C) and slopes (m, n, C, D) are of the labels with gradients.
    """
    n_members, n, n_columns, n_directions = slopes.shape
    a, q = np.empty(n_columns), np.empty(n_directions)
    for r in range(first, last):
        for j in range(n):
            block = out[r, j * n_directions:(j + 1) * n_directions]
            block[:] = 0.0
            for m in range(n_members):
                for v in range(view_column.shape[0]):
                    e = _difference(x[r], columns[m, j], view_column[v], view_sign[v], theta, a)
                    if e < _FAR:
                        _project(a, slopes[m, j], view_column[v], view_sign[v], q)
                        k = 2.0 * np.exp(-e)
                        for d in range(n_directions):
                            block[d] += k * q[d]


@njit
def gradient_rows(
    x, x_slopes, columns, slopes, view_column, view_sign, theta, scale, triangle, first, last, out
):
    """Add scale cov(G, G) to rows of labels first to last of out (n' D, n D).

    x (m, n', C) with x_slopes (m, n', C, D) are the rows, columns (m, n, C) with slopes the
    columns; with ``triangle``, only labels up to the row's are filled.
    """
    n_members, n, n_columns, n_directions = slopes.shape
    a, q = np.empty(n_columns), np.empty(n_directions)
    w = np.empty((n_columns, n_directions))
    for i in range(first, last):
        for j in range(i + 1 if triangle else n):
            block = out[i * n_directions:(i + 1) * n_directions,
                        j * n_directions:(j + 1) * n_directions]
            for p in range(n_members):
                near = False
                for m in range(n_members):
                    for v in range(view_column.shape[0]):
                        view, sign = view_column[v], view_sign[v]
                        e = _difference(x[p, i], columns[m, j], view, sign, theta, a)
                        if e >= _FAR:
                            continue
                        if not near:
                            w[:] = 0.0
                            near = True
                        _project(a, slopes[m, j], view, sign, q)
                        k = scale * np.exp(-e)
                        for c in range(n_columns):
                            t, s = 2.0 * k * theta[c] * sign[c], 4.0 * k * a[c]
                            row, out_row = slopes[m, j, view[c]], w[c]
                            for d in range(n_directions):
                                out_row[d] += t * row[d] - s * q[d]
                if near:
                    for c in range(n_columns):
                        for d in range(n_directions):
                            t, out_row, row = x_slopes[p, i, c, d], block[d], w[c]
                            for b in range(n_directions):
                                out_row[b] += t * row[b]


@njit
def energy_adjoint(columns, view_column, view_sign, theta, first, last, m, by_theta):
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
                if e < _FAR:
                    k = weight * np.exp(-e)
                    sum_all += k
                    for c in range(a.shape[0]):
                        d = a[c] / theta[c]
                        by_theta[c] -= k * d * d
    return sum_all


@njit
def mixed_adjoint(x, columns, slopes, view_column, view_sign, theta, first, last, m, by_theta):
    """The same for m (P, n D) and cov(E, G), of x (P, C)."""
    n_members, n, n_columns, n_directions = slopes.shape
    a, u = np.empty(n_columns), np.empty(n_columns)
    sum_all = 0.0
    for r in range(first, last):
        for j in range(n):
            block = m[r, j * n_directions:(j + 1) * n_directions]
            for p in range(n_members):
                for v in range(view_column.shape[0]):
                    view, sign = view_column[v], view_sign[v]
                    e = _difference(x[r], columns[p, j], view, sign, theta, a)
                    if e >= _FAR:
                        continue
                    k, value = 2.0 * np.exp(-e), 0.0
                    for c in range(n_columns):
                        row, t = slopes[p, j, view[c]], 0.0
                        for d in range(n_directions):
                            t += row[d] * block[d]
                        u[c] = sign[c] * t
                        value += a[c] * u[c]
                    sum_all += k * value
                    for c in range(n_columns):
                        d = a[c] / theta[c]
                        by_theta[c] += k * (d * u[c] - d * d * value)
    return sum_all


@njit
def gradient_adjoint(
    columns, slopes, view_column, view_sign, theta, first, last, inverse, beta, by_theta
):
    """The same for m = inverse - beta beta^T (n D, n D) and cov(G, G).

    Of the inverse, the lower triangle counts; blocks of labels below the diagonal count twice. For
    V = B m_ij and r = V q,
    u = V^T a, the contraction of m with a block is 2 theta . diag(V b^T) - 4 u . q, and its
    derivative with respect to a is -4 (r + b u).
    """
    n_members, n, n_columns, n_directions = slopes.shape
    a, q, u = np.empty(n_columns), np.empty(n_directions), np.empty(n_directions)
    t, s = np.empty(n_columns), np.empty(n_columns)
    w, block = np.empty((n_columns, n_directions)), np.empty((n_directions, n_directions))
    sum_all = 0.0
    for i in range(first, last):
        for j in range(i + 1):
            twice = 1.0 if i == j else 2.0
            for d in range(n_directions):
                for b in range(n_directions):
                    row, column = i * n_directions + d, j * n_directions + b
                    block[d, b] = inverse[max(row, column), min(row, column)]
                    block[d, b] -= beta[row] * beta[column]
            for p in range(n_members):
                near = False
                for o in range(n_members):
                    for v in range(view_column.shape[0]):
                        view, sign = view_column[v], view_sign[v]
                        e = _difference(columns[p, i], columns[o, j], view, sign, theta, a)
                        if e >= _FAR:
                            continue
                        if not near:
                            near = True
                            w[:] = 0.0
                            for c in range(n_columns):
                                for d in range(n_directions):
                                    factor, row, w_row = slopes[p, i, c, d], block[d], w[c]
                                    for b in range(n_directions):
                                        w_row[b] += factor * row[b]
                        _project(a, slopes[o, j], view, sign, q)
                        for d in range(n_directions):
                            u[d] = 0.0
                        for c in range(n_columns):
                            w_row, a_c = w[c], a[c]
                            for d in range(n_directions):
                                u[d] += a_c * w_row[d]
                        k, value = twice * np.exp(-e), 0.0
                        for c in range(n_columns):
                            w_row, row = w[c], slopes[o, j, view[c]]
                            t_c, r_c, b_c = 0.0, 0.0, 0.0
                            for d in range(n_directions):
                                t_c += w_row[d] * row[d]
                                r_c += w_row[d] * q[d]
                                b_c += row[d] * u[d]
                            t[c] = sign[c] * t_c
                            s[c] = r_c + sign[c] * b_c
                            value += 2.0 * theta[c] * t[c]
                        for d in range(n_directions):
                            value -= 4.0 * u[d] * q[d]
                        sum_all += k * value
                        for c in range(n_columns):
                            d = a[c] / theta[c]
                            by_theta[c] += k * (2.0 * t[c] - 4.0 * d * s[c] - d * d * value)
    return sum_all
