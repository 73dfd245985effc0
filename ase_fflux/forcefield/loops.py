"""Loops over the points of a block, the whole cost of a prediction, written so that they vectorise.

Columns of a table are rows of ``width`` numbers one after the other, from ``at`` on. Four rows at
a time save traffic; with ``pair`` they work on two queries at once, so that a row that is loaded
serves both.
"""

import numpy as np

from ase_fflux.base.jit import float_of_bits, inner, njit


@inner
def exponentials(e, n):
    """Replace e by exp(-e), e >= 0, to rounding.

    exp(-e) = 2^k exp(r) with |r| <= ln(2)/2, exp(r) by its Taylor series to r^13 (error below
    2e-18), 2^k by its bits. Below 2^-1021 the result is held there (1e-308), which is nothing.
    """
    for j in range(n):
        x = -min(e[j], 707.0)
        k = np.rint(x * 1.4426950408889634)
        r = (x - k * 0.6931471803691238) - k * 1.9082149292705877e-10
        p = 1.6059043836821613e-10
        p = p * r + 2.08767569878681e-09
        p = p * r + 2.505210838544172e-08
        p = p * r + 2.755731922398589e-07
        p = p * r + 2.7557319223985893e-06
        p = p * r + 2.48015873015873e-05
        p = p * r + 1.984126984126984e-04
        p = p * r + 1.388888888888889e-03
        p = p * r + 8.333333333333333e-03
        p = p * r + 4.1666666666666664e-02
        p = p * r + 1.6666666666666666e-01
        p = p * r + 0.5
        e[j] = ((p * r + 1.0) * r + 1.0) * float_of_bits((np.int64(k) + 1023) << 52)


@inner
def falls(e, n, rational, t, least):
    """Replace exponents by what kernels and their derivatives are products of.

    That is exp(-e), and of tables t that are ``rational`` 1 / (1 + e / 2), of which they are
    powers. Returned is the least -ln of the kernel, if that is below ``least``.
    """
    if rational is not None:
        if rational[t]:
            least = min(least, 2.0 * np.log(1.0 + 0.5 * _least(e, n, 1e300)))
            for j in range(n):
                e[j] = 1.0 / (1.0 + 0.5 * e[j])
            return least
    least = _least(e, n, least)
    exponentials(e, n)
    return least


@inner
def _least(x, width, least):
    """The least of width numbers, a multiple of four; a single running minimum is slow."""
    a, b, c, d = least, least, least, least
    for j in range(0, width, 4):
        a = x[j] if x[j] < a else a
        b = x[j + 1] if x[j + 1] < b else b
        c = x[j + 2] if x[j + 2] < c else c
        d = x[j + 3] if x[j + 3] < d else d
    return min(min(a, b), min(c, d))


@inner
def add_squares(e, f, pair, table, at, width, q, r, n):
    """e += squared differences of n columns, a multiple of four, to the points.

    ``pair``: the same of query r to f.
    """
    for c in range(0, n, 4):
        x0, x1 = table[at:], table[at + width:]
        x2, x3 = table[at + 2 * width:], table[at + 3 * width:]
        q0, q1, q2, q3 = q[c], q[c + 1], q[c + 2], q[c + 3]
        r0, r1, r2, r3 = r[c], r[c + 1], r[c + 2], r[c + 3]
        if pair:
            for j in range(width):
                y0, y1, y2, y3 = x0[j], x1[j], x2[j], x3[j]
                d0, d1, d2, d3 = q0 - y0, q1 - y1, q2 - y2, q3 - y3
                e[j] += (d0 * d0 + d1 * d1) + (d2 * d2 + d3 * d3)
                d0, d1, d2, d3 = r0 - y0, r1 - y1, r2 - y2, r3 - y3
                f[j] += (d0 * d0 + d1 * d1) + (d2 * d2 + d3 * d3)
        else:
            for j in range(width):
                d0, d1, d2, d3 = q0 - x0[j], q1 - x1[j], q2 - x2[j], q3 - x3[j]
                e[j] += (d0 * d0 + d1 * d1) + (d2 * d2 + d3 * d3)
        at += 4 * width


@inner
def add_wrapped_squares(e, table, at, width, q, period):
    """e += squared differences, wrapped with their periods, of as many columns as there are."""
    for c in range(len(period)):
        x, turn = table[at + c * width:], period[c]
        for j in range(width):
            d = q[c] - x[j]
            d -= turn * np.rint(d / turn)
            e[j] += d * d


@inner
def add_products(p, s, pair, rows, at, width, q, r, n):
    """p += sum over n rows of q times row; ``pair``: the same of r to s."""
    c = 0
    while c + 4 <= n:
        x0, x1 = rows[at:], rows[at + width:]
        x2, x3 = rows[at + 2 * width:], rows[at + 3 * width:]
        q0, q1, q2, q3 = q[c], q[c + 1], q[c + 2], q[c + 3]
        r0, r1, r2, r3 = r[c], r[c + 1], r[c + 2], r[c + 3]
        if pair:
            for j in range(width):
                y0, y1, y2, y3 = x0[j], x1[j], x2[j], x3[j]
                p[j] += (q0 * y0 + q1 * y1) + (q2 * y2 + q3 * y3)
                s[j] += (r0 * y0 + r1 * y1) + (r2 * y2 + r3 * y3)
        else:
            for j in range(width):
                p[j] += (q0 * x0[j] + q1 * x1[j]) + (q2 * x2[j] + q3 * x3[j])
        at += 4 * width
        c += 4
    while c < n:
        x0, q0, r0 = rows[at:], q[c], r[c]
        for j in range(width):
            p[j] += q0 * x0[j]
        if pair:
            for j in range(width):
                s[j] += r0 * x0[j]
        at += width
        c += 1


@inner
def add_sums(sums, others, pair, k, h, rows, at, width, n):
    """sums += sum of k times row, for each of n rows; the mirror of `add_products`.

    ``pair``: the same of h to others.
    """
    c = 0
    if pair:
        while c + 2 <= n:
            x0, x1 = rows[at:], rows[at + width:]
            s0, s1, t0, t1 = 0.0, 0.0, 0.0, 0.0
            for j in range(width):
                y0, y1, a, b = x0[j], x1[j], k[j], h[j]
                s0 += a * y0
                s1 += a * y1
                t0 += b * y0
                t1 += b * y1
            sums[c] += s0
            sums[c + 1] += s1
            others[c] += t0
            others[c + 1] += t1
            at += 2 * width
            c += 2
    else:
        while c + 4 <= n:
            x0, x1 = rows[at:], rows[at + width:]
            x2, x3 = rows[at + 2 * width:], rows[at + 3 * width:]
            s0, s1, s2, s3 = 0.0, 0.0, 0.0, 0.0
            for j in range(width):
                s0 += k[j] * x0[j]
                s1 += k[j] * x1[j]
                s2 += k[j] * x2[j]
                s3 += k[j] * x3[j]
            sums[c] += s0
            sums[c + 1] += s1
            sums[c + 2] += s2
            sums[c + 3] += s3
            at += 4 * width
            c += 4
    while c < n:
        x0 = rows[at:]
        sums[c] += dot(k, x0, width)
        if pair:
            others[c] += dot(h, x0, width)
        at += width
        c += 1


@inner
def dot(x, y, width):
    """Sum of width products."""
    total = 0.0
    for j in range(width):
        total += x[j] * y[j]
    return total


@inner
def add_wrapped_sums(sums, k, table, at, width, q, period):
    """sums -= sum of k times the wrapped difference, for each column."""
    for c in range(len(period)):
        x, turn, s = table[at + c * width:], period[c], 0.0
        for j in range(width):
            d = q[c] - x[j]
            s += k[j] * (d - turn * np.rint(d / turn))
        sums[c] -= s


@njit
def rows_times(rows, matrix):
    """rows (n, K) times a matrix (K, L).

    Not that of linear algebra: its threads, once woken by many rows, spin for milliseconds on the
    cores that ours need. The same holds of `add_sum_of_products`.
    """
    product = np.zeros((rows.shape[0], matrix.shape[1]))
    for i in range(rows.shape[0]):
        out = product[i]
        for k in range(rows.shape[1]):
            factor, row = rows[i, k], matrix[k]
            for j in range(matrix.shape[1]):
                out[j] += factor * row[j]
    return product


@njit
def add_sum_of_products(a, b, total):
    """Add to total (K, L) the sum over rows of a (n, K) and b (n, L) of their products."""
    for i in range(a.shape[0]):
        for k in range(a.shape[1]):
            for j in range(b.shape[1]):
                total[k, j] += a[i, k] * b[i, j]
