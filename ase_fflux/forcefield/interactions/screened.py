"""The real-space part of an Ewald sum of multipoles, pair by pair.

1/R becomes erfc(alpha R)/R between listed pairs, and -erf(alpha R)/R within molecules, whose
interaction the sum over waves holds but nobody wants. For any radial function g(R) the interaction
tensor in the quasi-internal frame (`quasi_internal`) is

    T_{l1 m, l2 m} = R^-(l1 + l2) sum_k C_k b_(l1 + l2 - k),  k = m ... min(l1, l2),
    b_n = (-R d/dR 1/R ...)^n g = (-1)^n R^2n [(1/R) d/dR]^n g,

with constants C_k. For erfc(alpha R)/R, with y = 2 alpha^2 R^2,

    b_0 = erfc(alpha R)/R,  b_n = (2n - 1) b_(n-1) + 2 alpha/sqrt(pi) y^(n-1) exp(-alpha^2 R^2)

(Smith, CCP5 Newsletter 1998, 46, 18), for erf(alpha R)/R b_n = 2 alpha/sqrt(pi) y^n F_n(y/2), F_n
the Boys functions.
"""

import numpy as np
from numpy.polynomial import chebyshev, hermite_e
from scipy.special import erfcx

from ase_fflux.base.jit import njit
from ase_fflux.forcefield.interactions.cartesian import solid_harmonic_polynomials
from ase_fflux.forcefield.interactions.quasi_internal import (
    FRAME_ROWS,
    LANES,
    ZERO_ROW,
    contract,
    tensor_rows,
    turn_back,
    turn_to_frames,
)
from ase_fflux.forcefield.loops import exponentials
from ase_fflux.model.multipoles import MAX_RANK

_N_CHAIN = 2 * MAX_RANK + 2
_SPLIT = 2.5
"""Where the variable (x - s)/(x + s) of the Chebyshev series of erfc is zero."""


def _radial_table():
    """Rows of T as sums: row, n, C and 2n - l1 - l2 of each term, and l1 + l2 of each row.

    The constants are those of a Gaussian exp(-r^2/2), of which every derivative is a Hermite
    polynomial and (-1)^n [(1/r) d/dr]^n the Gaussian itself.
    """
    harmonics = solid_harmonic_polynomials()
    at_zero = [hermite_e.hermeval(0.0, np.eye(2 * MAX_RANK + 1)[n]) for n in range(9)]
    terms, powers = [], []
    for row, (l1, l2, m) in enumerate(tensor_rows()):
        k = max(2 * m - 1, 0)
        on_axis = np.zeros(l1 + l2 + 1)
        for p, a in harmonics[l1 * l1 + k].items():
            for q, b in harmonics[l2 * l2 + k].items():
                nx, ny, nz = (u + v for u, v in zip(p, q, strict=True))
                series = hermite_e.herme2poly(np.eye(nz + 1)[nz])
                on_axis[: nz + 1] += a * b * at_zero[nx] * at_zero[ny] * series
        on_axis /= np.prod(np.arange(1, 2 * l1, 2)) * np.prod(np.arange(1, 2 * l2, 2))
        for k in range(m, l1 + 1):
            terms.append((row, l1 + l2 - k, on_axis[l1 + l2 - 2 * k], l1 + l2 - 2 * k))
        powers.append(l1 + l2)
    row, n, coefficient, slope = zip(*terms, strict=True)
    return np.array(row), np.array(n), np.array(coefficient), np.array(slope), np.array(powers)


def _erfc_series():
    """Chebyshev coefficients of (x + s) exp(x^2) erfc(x), x >= 0, in u = (x - s)/(x + s)."""

    def function(u):
        return 2 * _SPLIT / (1 - u) * erfcx(_SPLIT * (1 + u) / (1 - u))

    return chebyshev.chebinterpolate(function, 27)[:27]


_ROW, _N, _C, _SLOPE, _POWERS = _radial_table()
_SERIES = _erfc_series()


@njit
def _erfc_chain(r, alpha, top, chain, scratch):
    """b_0 ... b_top of erfc(alpha r)/r in ``chain`` (n, LANES)."""
    gauss, u, before, now = scratch[0], scratch[1], scratch[2], scratch[3]
    for w in range(LANES):
        x = alpha * r[w]
        gauss[w] = x * x
        u[w] = (x - _SPLIT) / (x + _SPLIT)
        before[w] = 0.0
        now[w] = _SERIES[len(_SERIES) - 1]
    exponentials(gauss, LANES)
    for k in range(len(_SERIES) - 2, 0, -1):
        c = _SERIES[k]
        for w in range(LANES):
            new = 2.0 * u[w] * now[w] - before[w] + c
            before[w] = now[w]
            now[w] = new
    for w in range(LANES):
        x = alpha * r[w]
        chain[0, w] = gauss[w] * (u[w] * now[w] - before[w] + _SERIES[0]) / ((x + _SPLIT) * r[w])
        now[w] = 1.1283791670955126 * alpha * gauss[w]
        u[w] = 2.0 * x * x
    for n in range(1, top + 1):
        for w in range(LANES):
            chain[n, w] = (2 * n - 1) * chain[n - 1, w] + now[w]
            now[w] *= u[w]


@njit
def _excluded_chain(r, alpha, top, chain):
    """b_0 ... b_top of -erf(alpha r)/r; the highest Boys function by its series."""
    for w in range(LANES):
        x = (alpha * r[w]) ** 2
        gauss = np.exp(-x)
        if x < 30.0:
            term = 1.0 / (2 * top + 1)
            total, k = term, 2 * top + 3
            while term > 1e-17 * total:
                term *= 2.0 * x / k
                total += term
                k += 2
            chain[top, w] = gauss * total
            for n in range(top - 1, -1, -1):
                chain[n, w] = (2.0 * x * chain[n + 1, w] + gauss) / (2 * n + 1)
        else:  # what erf lacks of 1 is below 1e-13 of it
            chain[0, w] = 0.5 * np.sqrt(np.pi / x)
            for n in range(top):
                chain[n + 1, w] = ((2 * n + 1) * chain[n, w] - gauss) / (2.0 * x)
        factor = -1.1283791670955126 * alpha
        for n in range(top + 1):
            chain[n, w] *= factor
            factor *= 2.0 * x


@njit
def _block_derivatives(block, rank, steps, frames, chain, tensor, slope, power, v):
    """dE/dQ and dE/dR in the quasi-internal frames from b_n of the lanes."""
    n_rows = (rank + 1) * (rank + 2) * (rank + 3) // 6
    for w in range(LANES):
        power[0, w] = 1.0
    for n in range(1, 2 * rank + 2):
        for w in range(LANES):
            power[n, w] = power[n - 1, w] / frames[0, w]
    for row in range(n_rows):
        for w in range(LANES):
            tensor[row, w] = 0.0
            slope[row, w] = 0.0
    t = 0
    while t < len(_ROW) and _ROW[t] < n_rows:
        row, n, c, factor = _ROW[t], _N[t], _C[t], _SLOPE[t]
        for w in range(LANES):
            tensor[row, w] += c * chain[n, w]
            slope[row, w] += c * (factor * chain[n, w] - chain[n + 1, w])
        t += 1
    for row in range(n_rows):
        p = _POWERS[row]
        for w in range(LANES):
            tensor[row, w] *= power[p, w]
            slope[row, w] *= power[p + 1, w]
    n_used = (rank + 1) ** 2
    for k in range(n_used + 3):
        for w in range(2 * LANES):
            v[k, w] = 0.0
    contract(block, tensor, steps, v)
    along = v[n_used + 2]
    for step in range(len(steps)):
        a = steps[step, 0]
        b0, b1, b2 = steps[step, 1], steps[step, 2], steps[step, 3]
        t0, t1, t2 = steps[step, 4], steps[step, 5], steps[step, 6]
        for w in range(LANES):
            along[w] += block[a, w] * (
                slope[t0, w] * block[b0, LANES + w]
                + slope[t1, w] * block[b1, LANES + w]
                + slope[t2, w] * block[b2, LANES + w]
            )


@njit
def screened_pairs(
    first, second, images, cell, q, parity, rank, steps, alpha, cutoff, excluded, v, virial
):
    """Add the derivatives of screened pairs.

    Parameters
    ----------
    first, second, images
        As of `Pairs`.
    cell : (3, 3) array
        bohr
    q : (n, K + 3) array
        Moments in global axes and positions.
    parity : (K + 3,) array
        (-1)^l of the moments and 1 for positions.
    rank, steps
        Highest rank and `contraction` of it.
    alpha, cutoff : float
        1/bohr and bohr; pairs at the cut-off and beyond are left out.
    excluded : bool
        Whether -erf(alpha R)/R in place of erfc(alpha R)/R acts.
    v : (n, K + 3) array, in and out
        dE/dQ and dE/dR.
    virial : (3, 3) array, in and out

    Returns
    -------
    int
        A pair on one spot, or -1.
    """
    n_rows, xyz = q.shape[1], q.shape[1] - 3
    block, field = np.empty((n_rows, 2 * LANES)), np.empty((n_rows, 2 * LANES))
    work, frames = np.empty((n_rows, 2 * LANES)), np.empty((FRAME_ROWS, 2 * LANES))
    tensor, slope = np.zeros((ZERO_ROW + 1, LANES)), np.zeros((ZERO_ROW + 1, LANES))
    power, chain = np.empty((_N_CHAIN, LANES)), np.empty((_N_CHAIN, LANES))
    scratch = np.empty((4, LANES))
    a_of, b_of = np.empty(LANES, np.int64), np.empty(LANES, np.int64)
    shift, apart = np.empty((LANES, 3)), np.empty((LANES, 3))
    limit, used, p = cutoff * cutoff, 0, 0
    while p < len(first) or used > 0:
        while p < len(first) and used < LANES:
            i, j = first[p], second[p]
            sx = images[p, 0] * cell[0, 0] + images[p, 1] * cell[1, 0] + images[p, 2] * cell[2, 0]
            sy = images[p, 0] * cell[0, 1] + images[p, 1] * cell[1, 1] + images[p, 2] * cell[2, 1]
            sz = images[p, 0] * cell[0, 2] + images[p, 1] * cell[1, 2] + images[p, 2] * cell[2, 2]
            x = q[j, xyz] + sx - q[i, xyz]
            y = q[j, xyz + 1] + sy - q[i, xyz + 1]
            z = q[j, xyz + 2] + sz - q[i, xyz + 2]
            r2 = x * x + y * y + z * z
            if r2 < limit:
                if r2 < 1e-8:
                    return p
                a_of[used], b_of[used] = i, j
                shift[used, 0], shift[used, 1], shift[used, 2] = sx, sy, sz
                apart[used, 0], apart[used, 1], apart[used, 2] = x, y, z
                used += 1
            p += 1
        if used == 0:
            break
        for w in range(LANES):
            lane = w if w < used else 0  # idle lanes repeat a pair, so that they stay finite
            a, b = q[a_of[lane]], q[b_of[lane]]
            for k in range(n_rows):
                block[k, w] = a[k]
                block[k, LANES + w] = parity[k] * b[k]
            for k in range(3):
                block[xyz + k, LANES + w] += shift[lane, k]
        turn_to_frames(block, rank, frames, work)
        if excluded:
            _excluded_chain(frames[0], alpha, 2 * rank + 1, chain)
        else:
            _erfc_chain(frames[0], alpha, 2 * rank + 1, chain, scratch)
        _block_derivatives(block, rank, steps, frames, chain, tensor, slope, power, field)
        turn_back(block, field, rank, frames, work)
        for w in range(used):
            a, b = v[a_of[w]], v[b_of[w]]
            for k in range(n_rows):
                a[k] += field[k, w]
                b[k] += parity[k] * field[k, LANES + w]
            for h in range(3):
                for k in range(3):
                    virial[h, k] += apart[w, h] * field[xyz + k, LANES + w]
        used = 0
    return -1


@njit
def screened_charges(first, second, images, cell, q, alpha, cutoff, v, virial):
    """`screened_pairs` of erfc(alpha R)/R for charges, q and v (n, 4): nothing to be turned."""
    chain = np.empty((2, LANES))
    scratch = np.empty((4, LANES))
    at, d = np.empty(LANES + 1, np.int64), np.empty((3, LANES + 1))
    r, slope = np.empty(LANES + 1), np.empty(LANES)
    limit, used, p = cutoff * cutoff, 0, 0
    while p < len(first) or used > 0:
        while p < len(first) and used < LANES:
            i, j = first[p], second[p]
            a, b, c = float(images[p, 0]), float(images[p, 1]), float(images[p, 2])
            x = q[j, 1] - q[i, 1] + (a * cell[0, 0] + b * cell[1, 0] + c * cell[2, 0])
            y = q[j, 2] - q[i, 2] + (a * cell[0, 1] + b * cell[1, 1] + c * cell[2, 1])
            z = q[j, 3] - q[i, 3] + (a * cell[0, 2] + b * cell[1, 2] + c * cell[2, 2])
            r2 = x * x + y * y + z * z
            if r2 < 1e-8:
                return p
            at[used], d[0, used], d[1, used], d[2, used], r[used] = p, x, y, z, r2
            used += r2 < limit
            p += 1
        if used == 0:
            break
        for w in range(used, LANES):
            r[w] = limit  # idle lanes stay finite
        for w in range(LANES):
            r[w] = np.sqrt(r[w])
        _erfc_chain(r, alpha, 1, chain, scratch)
        for w in range(used):
            slope[w] = -q[first[at[w]], 0] * q[second[at[w]], 0] * chain[1, w] / (r[w] * r[w])
        for w in range(used):
            i, j = first[at[w]], second[at[w]]
            v[i, 0] += chain[0, w] * q[j, 0]
            v[j, 0] += chain[0, w] * q[i, 0]
            for k in range(3):
                g = slope[w] * d[k, w]
                v[i, 1 + k] -= g
                v[j, 1 + k] += g
        for h in range(3):
            for k in range(3):
                total = 0.0
                for w in range(used):
                    total += d[h, w] * d[k, w] * slope[w]
                virial[h, k] += total
        used = 0
    return -1
