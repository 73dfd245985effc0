"""Interaction of multipole moments, pair by pair, in the quasi-internal frame of the pair.

Every pair is handled in its quasi-internal frame, whose z-axis points from A to B (Simmonett,
Pickard, Schaefer, Brooks, J. Chem. Phys. 2014, 140, 184101): there the interaction tensor is
diagonal in m and real,

    T_{l1 m, l2 m} = (-1)^(l2 + m) (l1 + l2)! / sqrt[(l1 + m)! (l1 - m)! (l2 + m)! (l2 - m)!]
                     R^-(l1 + l2 + 1)

(Stone, The Theory of Intermolecular Forces, 2nd ed. 2013, app. F). Moments of B enter as
(-1)^l Q, which makes T symmetric in l1 and l2. The turn into the frame is a turn about z by the
azimuth of R, then about y by its polar angle. The second one is a turn about z as well, between two
exchanges of the y- and z-axes, and these are constant and sparse: no rotation matrix is ever built.

The longitudinal force is the derivative of T. The transverse force needs no derivative: the energy
does not change when R and both sets of moments turn together, R x dE/dR + t_A + t_B = 0.

Pairs are worked on in blocks of `LANES`, arrays with the pair as last index, so that all loops
vectorise. `turn_to_frames`, `contract` and `turn_back` do not know what is summed over; between
them the caller fills the elements of T of each lane and the derivative along R: `coulomb` those of
1/R, the real-space part of an Ewald sum its own. For any radial function g(R) in place of
1/R the tensor is

    T_{l1 m, l2 m} = sum_k c_k R^(l1 + l2 - 2k) g_(l1 + l2 - k),  k = m ... min(l1, l2),

with the chain g_n = (1/R d/dR)^n g (for 1/R all terms have the same power of R and add up to the
above), and dE/dR follows from a second `contract` with dT/dR.
"""

from functools import cache
from math import factorial, sqrt

import numpy as np

from ase_fflux.base.jit import inner, plain
from ase_fflux.model.multipoles import (
    GENERATOR_A,
    GENERATOR_AXIS,
    GENERATOR_B,
    GENERATOR_FACTOR,
    MAX_RANK,
    MOMENT_NAMES,
    N_GENERATORS,
    moment_rank,
    n_moments,
    rotation_matrices,
)

LANES = 32
"""Pairs in a block."""


def _exchange_table():
    """Rotation by half a turn about y + z, (x, y, z) -> (-x, z, y): three elements in a row."""
    rotation = np.zeros((MAX_RANK + 1, 2 * MAX_RANK + 1, 2 * MAX_RANK + 1))
    plain(rotation_matrices)(np.array([[-1.0, 0, 0], [0, 0, 1], [0, 1, 0]]), MAX_RANK, rotation)
    source = np.zeros((n_moments(MAX_RANK), 3), dtype=np.int64)
    factor = np.zeros((n_moments(MAX_RANK), 3))
    for l in range(MAX_RANK + 1):  # noqa: E741
        for row in range(2 * l + 1):
            columns = np.flatnonzero(abs(rotation[l, row]) > 1e-8)
            source[l * l + row] = l * l + np.resize(columns, 3)
            factor[l * l + row, : len(columns)] = rotation[l, row, columns]
    return source, factor


def tensor_rows():
    """Elements (l1, l2, m), l1 <= l2, of T in the order of the rows of tensor arrays."""
    return [
        (l1, l2, m) for l2 in range(MAX_RANK + 1) for l1 in range(l2 + 1) for m in range(l1 + 1)
    ]


def _coulomb_table():
    """Power l1 + l2 and coefficient of each row of T for 1/R."""
    powers, coefficients = [], []
    for l1, l2, m in tensor_rows():
        product = 1
        for l in (l1, l2):  # noqa: E741
            product *= factorial(l + m) * factorial(l - m)
        powers.append(l1 + l2)
        coefficients.append((-1) ** m * factorial(l1 + l2) / sqrt(product))
    return np.array(powers), np.array(coefficients)


_SOURCE, _FACTOR = _exchange_table()
_POWER, _COEFFICIENT = _coulomb_table()
_RANK = np.array([moment_rank(name) for name in MOMENT_NAMES])
PARITY = (-1.0) ** _RANK
"""(-1)^l of each moment, with which those of B enter."""
_PHI, _THETA = 0, 2 * MAX_RANK + 2
FRAME_ROWS = 4 * MAX_RANK + 4
ZERO_ROW = len(_POWER)
"""Row of tensor arrays that `contraction` uses to fill up; the caller puts zeros there."""


@cache
def contraction(rank: int, level: int) -> np.ndarray:
    """Steps of v_a = sum_b T_ab q_b for ranks l_a, l_b <= rank with l_a + l_b + 1 <= level.

    Returns an (n, 7) int array: a, three b, three rows of T.
    """
    rows = {key: row for row, key in enumerate(tensor_rows())}
    steps = []
    for l1 in range(rank + 1):
        for k in range(2 * l1 + 1):
            m = (k + 1) // 2
            terms = [
                (l2 * l2 + k, rows[min(l1, l2), max(l1, l2), m])
                for l2 in range(m, min(rank, level - 1 - l1) + 1)
            ]
            for start in range(0, len(terms), 3):
                b, row = zip(*terms[start : start + 3], strict=True)
                spare = 3 - len(b)
                steps.append((l1 * l1 + k, *b, *[b[0]] * spare, *row, *[ZERO_ROW] * spare))
    return np.array(steps)


@inner
def _turn(q, work, rank, frames, sense):
    """Turn moments (K, 2 LANES) into the quasi-internal frames (sense -1) or back (1)."""
    for step in range(4):
        if (step % 2 == 0) == (sense < 0.0):
            angle = _PHI if step == 0 or step == 3 else _THETA
            for m in range(1, rank + 1):
                cosine, sine = angle + 2 * m, angle + 2 * m + 1
                for l in range(m, rank + 1):  # noqa: E741
                    k = l * l + 2 * m - 1
                    for w in range(2 * LANES):
                        c, s = frames[cosine, w], sense * frames[sine, w]
                        x, y = q[k, w], q[k + 1, w]
                        q[k, w] = c * x - s * y
                        q[k + 1, w] = s * x + c * y
        else:
            for k in range(1, (rank + 1) ** 2):
                a, b, c = _SOURCE[k, 0], _SOURCE[k, 1], _SOURCE[k, 2]
                fa, fb, fc = _FACTOR[k, 0], _FACTOR[k, 1], _FACTOR[k, 2]
                for w in range(2 * LANES):
                    work[k, w] = fa * q[a, w] + fb * q[b, w] + fc * q[c, w]
            q, work = work, q


@inner
def turn_to_frames(q, rank, frames, work):
    """Turn the moments of a block of pairs into their quasi-internal frames.

    Lanes w and LANES + w of all arrays belong to A and B of pair w.

    Parameters
    ----------
    q : (K + 3, 2 LANES) array, in and out
        Global moments, those of B multiplied by (-1)^l, then the positions x, y, z in bohr.
    rank : int
        Highest rank in use.
    frames : (FRAME_ROWS, 2 LANES) array, out
        Row 0: the distance in bohr. From row ``_PHI + 2 m`` and ``_THETA + 2 m``: cosine and sine
        of m times the angles of the vector from A to B.
    work : (K + 3, 2 LANES) array
        Scratch.
    """
    xyz = (rank + 1) ** 2
    for w in range(LANES):
        x = q[xyz, LANES + w] - q[xyz, w]
        y = q[xyz + 1, LANES + w] - q[xyz + 1, w]
        z = q[xyz + 2, LANES + w] - q[xyz + 2, w]
        rho2 = x * x + y * y
        r, rho = np.sqrt(rho2 + z * z), np.sqrt(rho2)
        on_axis = 1.0 if rho < 1e-100 else 0.0
        frames[0, w] = r
        frames[_PHI + 2, w] = (x + on_axis) / (rho + on_axis)
        frames[_PHI + 3, w] = y / (rho + on_axis)
        frames[_THETA + 2, w] = z / r
        frames[_THETA + 3, w] = rho / r
    for row in range(_PHI + 2, FRAME_ROWS):
        for w in range(LANES):
            frames[row, LANES + w] = frames[row, w]
    for angle in range(_PHI, FRAME_ROWS, _THETA - _PHI):
        c, s = angle + 2, angle + 3
        for m in range(1, rank):
            old, new = angle + 2 * m, angle + 2 * m + 2
            for w in range(2 * LANES):
                frames[new, w] = frames[old, w] * frames[c, w] - frames[old + 1, w] * frames[s, w]
            for w in range(2 * LANES):
                frames[new + 1, w] = (
                    frames[old + 1, w] * frames[c, w] + frames[old, w] * frames[s, w]
                )
    _turn(q, work, rank, frames, -1.0)


@inner
def contract(q, tensor, steps, v):
    """v_A = T q_B and v_B = T q_A with the steps of `contraction`; v must be zero before."""
    for step in range(len(steps)):
        a = steps[step, 0]
        b0, b1, b2 = steps[step, 1], steps[step, 2], steps[step, 3]
        t0, t1, t2 = steps[step, 4], steps[step, 5], steps[step, 6]
        for here in range(0, 2 * LANES, LANES):
            there = LANES - here
            for w in range(LANES):
                v[a, here + w] += (
                    tensor[t0, w] * q[b0, there + w]
                    + tensor[t1, w] * q[b1, there + w]
                    + tensor[t2, w] * q[b2, there + w]
                )


@inner
def turn_back(q, v, rank, frames, work):
    """Forces of a block of pairs, and dE/dQ turned back to global axes.

    Parameters
    ----------
    q, frames
        As `turn_to_frames` leaves them.
    v : (K + 3, 2 LANES) array, in and out
        dE/dQ in the quasi-internal frames, then two rows of zeros and one with dE/dR in the first
        half of the lanes. Out: the derivatives with respect to all that was put into
        `turn_to_frames`, moments and positions.
    rank : int
        Highest rank in use.
    work : (K + 3, 2 LANES) array
        Scratch.
    """
    xyz = (rank + 1) ** 2
    for g in range(N_GENERATORS[rank]):
        axis, a, b, factor = GENERATOR_AXIS[g], GENERATOR_A[g], GENERATOR_B[g], GENERATOR_FACTOR[g]
        if axis < 2:  # the torque along R vanishes
            for w in range(2 * LANES):
                v[xyz + axis, w] += factor * (v[a, w] * q[b, w] - v[b, w] * q[a, w])
    for w in range(LANES):
        x = -(v[xyz + 1, w] + v[xyz + 1, LANES + w]) / frames[0, w]
        y = (v[xyz, w] + v[xyz, LANES + w]) / frames[0, w]
        z = v[xyz + 2, w]
        c, s = frames[_THETA + 2, w], frames[_THETA + 3, w]
        x, z = c * x + s * z, c * z - s * x
        c, s = frames[_PHI + 2, w], frames[_PHI + 3, w]
        v[xyz, LANES + w] = c * x - s * y
        v[xyz + 1, LANES + w] = s * x + c * y
        v[xyz + 2, LANES + w] = z
    for k in range(xyz, xyz + 3):
        for w in range(LANES):
            v[k, w] = -v[k, LANES + w]
    _turn(v, work, rank, frames, 1.0)


@inner
def coulomb(q, rank, steps, frames, tensor, power, v):
    """Fill dE/dQ and dE/dR in the quasi-internal frames for 1/R.

    Scaling all lengths scales Q by their power l and the energy by -1, for each element of T:
    R dE/dR = -E - sum l Q dE/dQ.
    """
    for w in range(LANES):
        power[0, w] = 1.0 / frames[0, w]
    for n in range(2 * rank):
        for w in range(LANES):
            power[n + 1, w] = power[n, w] * power[0, w]
    for row in range((rank + 1) * (rank + 2) * (rank + 3) // 6):
        n, c = _POWER[row], _COEFFICIENT[row]
        for w in range(LANES):
            tensor[row, w] = c * power[n, w]
    n_used = (rank + 1) ** 2
    for k in range(n_used + 3):
        for w in range(2 * LANES):
            v[k, w] = 0.0
    contract(q, tensor, steps, v)
    for k in range(n_used):
        weight = _RANK[k] + 0.5
        for w in range(LANES):
            both = q[k, w] * v[k, w] + q[k, LANES + w] * v[k, LANES + w]
            v[n_used + 2, w] -= weight * both * power[0, w]
