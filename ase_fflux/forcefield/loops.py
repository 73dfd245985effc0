"""Loops over the points of a block, the whole cost of a prediction, written so that they vectorise.

Columns of a table are rows of ``width`` numbers one after the other, from ``at`` on; columns c0 to
c1 of a query belong to them. Four columns at a time save traffic.
"""

import numpy as np

from ase_fflux.base.jit import njit


@njit
def exponentials(e, bits, n):
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
        e[j] = (p * r + 1.0) * r + 1.0
        bits[j] = (np.int64(k) + 1023) << 52
    scale = bits.view(np.float64)
    for j in range(n):
        e[j] *= scale[j]


@njit
def add_squares(e, table, at, width, query, c0, plain, c1, period):
    """e += squared distances to ``width`` points; columns from ``plain`` on are wrapped."""
    c = c0
    while c + 4 <= plain:
        x0 = table[at:]
        x1 = table[at + width:]
        x2 = table[at + 2 * width:]
        x3 = table[at + 3 * width:]
        q0, q1, q2, q3 = query[c], query[c + 1], query[c + 2], query[c + 3]
        for j in range(width):
            d0, d1, d2, d3 = q0 - x0[j], q1 - x1[j], q2 - x2[j], q3 - x3[j]
            e[j] += (d0 * d0 + d1 * d1) + (d2 * d2 + d3 * d3)
        at += 4 * width
        c += 4
    while c < c1:
        x0 = table[at:]
        q0, turn = query[c], period[c]
        for j in range(width):
            d0 = q0 - x0[j]
            if turn > 0.0:
                d0 -= turn * np.rint(d0 / turn)
            e[j] += d0 * d0
        at += width
        c += 1


@njit
def add_products(p, rows, at, width, query, c0, c1):
    """p += sum over columns of query times row."""
    c = c0
    while c + 4 <= c1:
        x0 = rows[at:]
        x1 = rows[at + width:]
        x2 = rows[at + 2 * width:]
        x3 = rows[at + 3 * width:]
        q0, q1, q2, q3 = query[c], query[c + 1], query[c + 2], query[c + 3]
        for j in range(width):
            p[j] += (q0 * x0[j] + q1 * x1[j]) + (q2 * x2[j] + q3 * x3[j])
        at += 4 * width
        c += 4
    while c < c1:
        x0 = rows[at:]
        for j in range(width):
            p[j] += query[c] * x0[j]
        at += width
        c += 1


@njit
def add_sums(slope, k, rows, at, width, c0, c1):
    """slope += sum of k times row, for each column; the mirror of `add_products`."""
    c = c0
    while c + 4 <= c1:
        x0 = rows[at:]
        x1 = rows[at + width:]
        x2 = rows[at + 2 * width:]
        x3 = rows[at + 3 * width:]
        s0, s1, s2, s3 = 0.0, 0.0, 0.0, 0.0
        for j in range(width):
            s0 += k[j] * x0[j]
            s1 += k[j] * x1[j]
            s2 += k[j] * x2[j]
            s3 += k[j] * x3[j]
        slope[c] += s0
        slope[c + 1] += s1
        slope[c + 2] += s2
        slope[c + 3] += s3
        at += 4 * width
        c += 4
    while c < c1:
        x0 = rows[at:]
        s0 = 0.0
        for j in range(width):
            s0 += k[j] * x0[j]
        slope[c] += s0
        at += width
        c += 1


@njit
def add_wrapped(slope, k, table, at, width, query, c0, c1, period):
    """slope -= sum of k times the wrapped difference, for each column."""
    for c in range(c0, c1):
        x0 = table[at + (c - c0) * width:]
        s0 = 0.0
        for j in range(width):
            d0 = query[c] - x0[j]
            s0 += k[j] * (d0 - period[c] * np.rint(d0 / period[c]))
        slope[c] -= s0
