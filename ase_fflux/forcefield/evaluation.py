"""Gaussian processes of many copies of one molecule, evaluated together with their adjoint.

The loops go over blocks of training points, and inside over the queries that are compared with
them: all equivalent atoms, in all their images (`packing`). The floor is `packing.Pack.flops`.
"""

import numpy as np

from ase_fflux.base.jit import njit
from ase_fflux.forcefield.loops import (
    add_products,
    add_products_2,
    add_squares,
    add_squares_2,
    add_sums,
    add_sums_2,
    add_wrapped_squares,
    add_wrapped_sums,
    falls,
)
from ase_fflux.forcefield.packing import BLOCK
from ase_fflux.model.frames import OK, add_frame_adjoint, local_features, raise_for_status
from ase_fflux.topology.graphs import atom_label

VALUES, SLOPES, ADJOINT = 0, 1, 2
"""What is computed: values; values and the adjoint; the adjoint from kernels that were kept."""


@njit
def sweep(
    coordinates, pack, stage, seeds, torques, values, frames, gradient, exponents, kept, failure
):
    """Values of all outputs, and the adjoint of sum(seeds * values) + torques.

    Parameters
    ----------
    coordinates : (M, N, 3) array
        M copies of the molecule in the model's atom order (bohr).
    pack : tuple
        `Pack.arrays`.
    stage : int
        `VALUES`, `SLOPES` or `ADJOINT`.
    seeds : (M, N, S) array
        dE/d value of each output slot.
    torques : (M, N, 3) array
        dE/d omega of each local frame, in components along its axes.
    values : (M, N, S) array, out
        Values of the outputs; not touched by `ADJOINT`.
    frames : (M, N, 3, 3) array, out
        Local frames, rows are the axes.
    gradient : (M, N, 3) array, added to
        dE/dR in hartree/bohr.
    exponents : (M, N) array, out
        Smallest exponent to any training point, over the processes of the atom; the coverage
        is exp(-exponent). Not touched by `ADJOINT`.
    kept : (M, n_kept) array
        Kernel values, put there by `VALUES` and read by `ADJOINT`; (M, 0) where none are kept.
    failure : (3,) int array, out
        Copy, atom and status of the first failure; status OK if none.
    """
    (alf, azimuth, circle, inverse, size, columns, plain, outputs, with_slopes, rational, apart,
     table_start, weight_start, period_start, first, query_atom, column_start, output_start,
     kept_start, column, scale, offset, period, slot, sign, mean_atom, mean_slot, mean, table,
     weights) = pack
    n_atoms = alf.shape[0]
    n_ext = 3 * (1 if n_atoms == 2 else 3 * n_atoms - 6)
    f = n_ext // 3
    most, n_c, n_o = 0, 0, 0
    for t in range(len(size)):
        most = max(most, first[t + 1] - first[t])
        n_c, n_o = max(n_c, columns[t]), max(n_o, outputs[t])
    ext, adjoint = np.zeros((n_atoms, n_ext)), np.empty((n_atoms, n_ext))
    zeta = np.zeros((n_atoms, n_atoms, 3))
    query, slope = np.empty((most, n_c)), np.empty((most, n_c))
    seed, value = np.empty((most, n_o)), np.empty((most, n_o))
    all_wk = np.empty(most)
    e0, p0, w0 = np.empty(BLOCK), np.empty(BLOCK), np.empty(BLOCK)
    e1, p1, w1 = np.empty(BLOCK), np.empty(BLOCK), np.empty(BLOCK)
    bits = np.empty(BLOCK, dtype=np.int64)
    failure[2] = OK
    for m in range(coordinates.shape[0]):
        for a in range(n_atoms):
            status = local_features(
                coordinates[m], alf, a, azimuth[a], ext[a], frames[m, a], zeta[a]
            )
            if status != OK:
                failure[0], failure[1], failure[2] = m, a, status
                return
            for h in range(f):
                if circle[a, h]:
                    ext[a, f + h], ext[a, 2 * f + h] = np.cos(ext[a, h]), np.sin(ext[a, h])
                elif inverse[a, h]:
                    ext[a, f + h] = 1.0 / ext[a, h]
            for c in range(n_ext):
                adjoint[a, c] = 0.0
            if stage != ADJOINT:
                exponents[m, a] = 1e300
        if stage != ADJOINT:
            for i in range(len(mean)):
                values[m, mean_atom[i], mean_slot[i]] = mean[i]
        for t in range(len(size)):
            n_queries = first[t + 1] - first[t]
            for i in range(n_queries):
                g = first[t] + i
                for c in range(columns[t]):
                    at = column_start[g] + c
                    query[i, c] = scale[at] * ext[query_atom[g], column[at]] + offset[at]
                    slope[i, c] = 0.0
                for o in range(outputs[t]):
                    at = output_start[g] + o
                    seed[i, o] = sign[at] * seeds[m, query_atom[g], slot[at]]
                    value[i, o] = 0.0
                all_wk[i] = 0.0
            for start in range(0, size[t], BLOCK):
                width = min(BLOCK, size[t] - start)
                rows = table_start[t] + start * columns[t]
                turns = period[period_start[t]:period_start[t + 1]]
                wrapped = rows + plain[t] * width
                for i in range(0, n_queries, 2):
                    pair, g = i + 1 < n_queries, first[t] + i
                    q0, q1 = query[i], query[i + pair]
                    if stage == ADJOINT:
                        _copy(e0, kept[m], kept_start[g] + start, width)
                        if pair:
                            _copy(e1, kept[m], kept_start[g + 1] + start, width)
                    else:
                        _fill(e0, width, 0.0)
                        if pair:
                            _fill(e1, width, 0.0)
                            add_squares_2(e0, e1, table, rows, width, q0, q1, plain[t])
                        else:
                            add_squares(e0, table, rows, width, q0, plain[t])
                        if len(turns) > 0:
                            add_wrapped_squares(e0, table, wrapped, width, q0[plain[t]:], turns)
                            if pair:
                                add_wrapped_squares(
                                    e1, table, wrapped, width, q1[plain[t]:], turns
                                )
                        a = query_atom[g]
                        exponents[m, a] = falls(e0, bits, width, rational[t], exponents[m, a])
                        if pair:
                            a = query_atom[g + 1]
                            exponents[m, a] = falls(e1, bits, width, rational[t], exponents[m, a])
                        if kept.shape[1] > 0:
                            _keep(kept[m], kept_start[g] + start, e0, width)
                            if pair:
                                _keep(kept[m], kept_start[g + 1] + start, e1, width)
                    if with_slopes[t]:
                        _outputs_with_slopes(
                            e0, e1, p0, p1, w0, w1, pair, stage, outputs[t], columns[t], apart[t],
                            weights, weight_start[t], start, width, q0, q1, slope[i],
                            slope[i + pair], seed[i], seed[i + pair], value[i], value[i + pair],
                        )
                    else:
                        _outputs(
                            e0, e1, p0, p1, w0, w1, pair, stage, rational[t], outputs[t], weights,
                            weight_start[t] + start * outputs[t], width,
                            seed[i], seed[i + pair], value[i], value[i + pair],
                        )
                    if stage == VALUES:
                        continue
                    if pair:
                        add_sums_2(slope[i], slope[i + 1], w0, w1, table, rows, width, plain[t])
                        all_wk[i + 1] += _total(w1, width)
                    else:
                        add_sums(slope[i], w0, table, rows, width, plain[t])
                    all_wk[i] += _total(w0, width)
                    if len(turns) > 0:
                        add_wrapped_sums(
                            slope[i, plain[t]:], w0, table, wrapped, width, q0[plain[t]:], turns
                        )
                        if pair:
                            add_wrapped_sums(
                                slope[i + 1, plain[t]:], w1, table, wrapped, width,
                                q1[plain[t]:], turns,
                            )
            for i in range(n_queries):
                g = first[t] + i
                a = query_atom[g]
                if stage != ADJOINT:
                    for o in range(outputs[t]):
                        at = output_start[g] + o
                        values[m, a, slot[at]] += sign[at] * value[i, o]
                if stage != VALUES:
                    for c in range(plain[t]):
                        slope[i, c] -= all_wk[i] * query[i, c]
                    for c in range(columns[t]):
                        at = column_start[g] + c
                        adjoint[a, column[at]] += 2.0 * scale[at] * slope[i, c]
        if stage != VALUES:
            for a in range(n_atoms):
                for h in range(f):
                    if circle[a, h]:
                        adjoint[a, h] -= ext[a, 2 * f + h] * adjoint[a, f + h]
                        adjoint[a, h] += ext[a, f + h] * adjoint[a, 2 * f + h]
                    elif inverse[a, h]:
                        adjoint[a, h] -= ext[a, f + h] * ext[a, f + h] * adjoint[a, f + h]
                add_frame_adjoint(
                    coordinates[m], alf, a, ext[a], frames[m, a], zeta[a], adjoint[a],
                    torques[m, a], gradient[m],
                )


@njit
def _outputs(
    k0, k1, p0, p1, w0, w1, pair, stage, rational, n, weights, at, width, seed0, seed1, value0,
    value1,
):
    """A block's part of the n values of one or two queries with kernel values k0 and k1.

    Of rational kernels these are 1 / (1 + e / 2). Out: w0 and w1, the sums over outputs of seed
    times weight times the fall of the kernel; p0 and p1 are for work.
    """
    if rational:
        # the kernel is the square, its fall the cube
        _copy(p0, k0, 0, width)
        _multiply(p0, k0, width)
        if pair:
            _copy(p1, k1, 0, width)
            _multiply(p1, k1, width)
        v0, v1 = p0, p1
    else:
        v0, v1 = k0, k1
    if stage != ADJOINT:
        if pair:
            add_sums_2(value0, value1, v0, v1, weights, at, width, n)
        else:
            add_sums(value0, v0, weights, at, width, n)
    if stage == VALUES:
        return
    _fill(w0, width, 0.0)
    if pair:
        _fill(w1, width, 0.0)
        add_products_2(w0, w1, weights, at, width, seed0, seed1, n)
        _multiply(w1, k1, width)
    else:
        add_products(w0, weights, at, width, seed0, n)
    _multiply(w0, k0, width)
    if rational:
        _multiply(w0, v0, width)
        if pair:
            _multiply(w1, v1, width)


@njit
def _outputs_with_slopes(
    k0, k1, p0, p1, w0, w1, pair, stage, n, n_columns, apart, weights, weight_start, start, width,
    query0, query1, slope0, slope1, seed0, seed1, value0, value1,
):
    """`_outputs` where there are weights on derivatives; adds what these do to the slopes."""
    if n > 1 and stage != VALUES:
        _fill(w0, width, 0.0)
        _fill(w1, width, 0.0)
    for o in range(n):
        at = weight_start + (n * start + o * width) * n_columns
        _fill(p0, width, 0.0)
        if pair:
            _fill(p1, width, 0.0)
            add_products_2(p0, p1, weights, at, width, query0, query1, n_columns)
        else:
            add_products(p0, weights, at, width, query0, n_columns)
        if apart > 0:
            own = weights[at + apart * width:]
            value0[o] += _weigh_rational(p0, k0, own, w0, seed0[o], width, n > 1)
            if pair:
                value1[o] += _weigh_rational(p1, k1, own, w1, seed1[o], width, n > 1)
            if stage == VALUES:
                continue
            if pair:
                add_sums_2(slope0, slope1, p0, p1, weights, at, width, n_columns)
            else:
                add_sums(slope0, p0, weights, at, width, n_columns)
            continue
        if stage == VALUES:
            value0[o] += _dot(p0, k0, width)
            if pair:
                value1[o] += _dot(p1, k1, width)
            continue
        value0[o] += _weigh(p0, k0, w0, seed0[o], width, n > 1)
        if pair:
            value1[o] += _weigh(p1, k1, w1, seed1[o], width, n > 1)
            add_sums_2(slope0, slope1, p0, p1, weights, at, width, n_columns)
        else:
            add_sums(slope0, p0, weights, at, width, n_columns)


@njit
def _weigh(p, k, w, seed, width, add):
    """The sum of p k; puts or adds seed p k to w and leaves seed k / 2 in p."""
    total, half = 0.0, 0.5 * seed
    if add:
        for j in range(width):
            pk = p[j] * k[j]
            total += pk
            w[j] += seed * pk
            p[j] = half * k[j]
    else:
        for j in range(width):
            pk = p[j] * k[j]
            total += pk
            w[j] = seed * pk
            p[j] = half * k[j]
    return total


@njit
def _weigh_rational(p, s, own, w, seed, width, add):
    """`_weigh` of a rational kernel, s = 1 / (1 + e / 2), with the plain weights apart.

    The sum of own s^2 + p s^3; puts or adds seed (own s^3 + 3/2 p s^4), what multiplies the
    difference of columns, to w and leaves seed s^3 / 2 in p.
    """
    total, half = 0.0, 0.5 * seed
    for j in range(width):
        square = s[j] * s[j]
        fall = square * s[j]
        total += own[j] * square + p[j] * fall
        bent = seed * fall * (own[j] + 1.5 * p[j] * s[j])
        w[j] = w[j] + bent if add else bent
        p[j] = half * fall
    return total


@njit
def _dot(x, y, width):
    total = 0.0
    for j in range(width):
        total += x[j] * y[j]
    return total


@njit
def _fill(x, width, number):
    for j in range(width):
        x[j] = number


@njit
def _copy(x, source, at, width):
    for j in range(width):
        x[j] = source[at + j]


@njit
def _keep(target, at, x, width):
    for j in range(width):
        target[at + j] = x[j]


@njit
def _multiply(x, y, width):
    for j in range(width):
        x[j] *= y[j]


@njit
def _total(x, width):
    total = 0.0
    for j in range(width):
        total += x[j]
    return total


def check(failure: np.ndarray, atoms: np.ndarray, numbers: np.ndarray) -> None:
    """Raise the GeometryError for a failed `sweep`.

    atoms (M, N) are indices in the input, numbers (n,) its atomic numbers.
    """
    if failure[2] != OK:
        copy, atom, status = failure
        raise_for_status(status, atom_label(atoms[copy, atom], numbers))
