"""Gaussian processes of many copies of one molecule, evaluated together with their adjoint.

The loops go over blocks of training points, and inside over the queries that are compared with
them: all equivalent atoms, in all their images (`packing`). The floor is `packing.Pack.flops`.
"""

import numpy as np

from ase_fflux.base.jit import inner, njit, part
from ase_fflux.forcefield.loops import (
    add_products,
    add_squares,
    add_sums,
    add_wrapped_squares,
    add_wrapped_sums,
    falls,
)
from ase_fflux.forcefield.packing import BLOCK, CIRCLE, INVERSE
from ase_fflux.model.frames import OK, add_frame_adjoint, local_features, raise_for_status
from ase_fflux.topology.graphs import atom_label

VALUES, SLOPES, ADJOINT = 0, 1, 2
"""What is computed: values; values and the adjoint; the adjoint from kernels that were kept."""


@njit
def sweep(
    coordinates, pack, period, rational, room, stage, seeds, torques, values, frames, gradient,
    exponents, kept, failure,
):
    """Values of all outputs, and the adjoint of sum(seeds * values) + torques.

    Parameters
    ----------
    coordinates : (M, N, 3) array
        M copies of the molecule in the model's atom order (bohr).
    pack : tuple
        `Pack.arrays`.
    period, rational : array or None
        `Pack.wrapped` and `Pack.bent`. What None makes superfluous is not compiled.
    room : tuple
        `Pack.room`, for work; of one call at a time.
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
    (alf, azimuth, images, tables, queries, column, scale, offset, slot, sign, mean_at, mean, table,
     weights) = pack
    features, zeta, inputs, outputs, all_wk, blocks = room
    ext, adjoint = features[0], features[1]
    query, slope, seed, value = inputs[0], inputs[1], outputs[0], outputs[1]
    e0, p0, w0, e1, p1, w1 = blocks[0], blocks[1], blocks[2], blocks[3], blocks[4], blocks[5]
    n_atoms, n_ext = ext.shape
    f = n_ext // 3
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
                if images[a, h] == CIRCLE:
                    ext[a, f + h], ext[a, 2 * f + h] = np.cos(ext[a, h]), np.sin(ext[a, h])
                elif images[a, h] == INVERSE:
                    ext[a, f + h] = 1.0 / ext[a, h]
            for c in range(n_ext):
                adjoint[a, c] = 0.0
            if stage != ADJOINT:
                exponents[m, a] = 1e300
        if stage != ADJOINT:
            for i in range(len(mean)):
                values[m, mean_at[i, 0], mean_at[i, 1]] = mean[i]
        for t in range(len(tables)):
            (size, n_columns, plain, n_outputs, with_slopes, apart, table_start, weight_start,
             turn, end_of_turns, first, last) = tables[t]
            for i in range(last - first):
                a, at, to, _ = queries[first + i]
                for c in range(n_columns):
                    query[i, c] = scale[at + c] * ext[a, column[at + c]] + offset[at + c]
                    slope[i, c] = 0.0
                for o in range(n_outputs):
                    seed[i, o] = sign[to + o] * seeds[m, a, slot[to + o]]
                    value[i, o] = 0.0
                all_wk[i] = 0.0
            for start in range(0, size, BLOCK):
                width = min(BLOCK, size - start)
                rows = table_start + start * n_columns
                wrapped = rows + plain * width
                for i in range(0, last - first, 2):
                    pair = first + i + 1 < last
                    k = i + pair
                    q0, q1 = query[i], query[k]
                    kept0 = queries[first + i, 3] + start
                    kept1 = queries[first + k, 3] + start
                    if stage == ADJOINT:
                        _copy(e0, kept[m], kept0, width)
                        if pair:
                            _copy(e1, kept[m], kept1, width)
                    else:
                        _fill(e0, width)
                        if pair:
                            _fill(e1, width)
                        add_squares(e0, e1, pair, table, rows, width, q0, q1, plain)
                        if period is not None:
                            turns = period[turn:end_of_turns]
                            add_wrapped_squares(e0, table, wrapped, width, q0[plain:], turns)
                            if pair:
                                add_wrapped_squares(e1, table, wrapped, width, q1[plain:], turns)
                        a = queries[first + i, 0]
                        exponents[m, a] = falls(e0, width, rational, t, exponents[m, a])
                        if pair:
                            a = queries[first + k, 0]
                            exponents[m, a] = falls(e1, width, rational, t, exponents[m, a])
                        if kept.shape[1] > 0:
                            _keep(kept[m], kept0, e0, width)
                            if pair:
                                _keep(kept[m], kept1, e1, width)
                    if with_slopes:
                        _outputs_with_slopes(
                            e0, e1, p0, p1, w0, w1, pair, stage, rational, t, n_outputs,
                            n_columns, apart, weights, weight_start, start, width, q0, q1,
                            slope[i], slope[k], seed[i], seed[k], value[i], value[k],
                        )
                    else:
                        _outputs(
                            e0, e1, p0, p1, w0, w1, pair, stage, rational, t, n_outputs, weights,
                            weight_start + start * n_outputs, width, seed[i], seed[k], value[i],
                            value[k],
                        )
                    if stage == VALUES:
                        continue
                    add_sums(slope[i], slope[k], pair, w0, w1, table, rows, width, plain)
                    all_wk[i] += _total(w0, width)
                    if pair:
                        all_wk[k] += _total(w1, width)
                    if period is not None:
                        turns = period[turn:end_of_turns]
                        add_wrapped_sums(
                            slope[i, plain:], w0, table, wrapped, width, q0[plain:], turns
                        )
                        if pair:
                            add_wrapped_sums(
                                slope[k, plain:], w1, table, wrapped, width, q1[plain:], turns
                            )
            for i in range(last - first):
                a, at, to, _ = queries[first + i]
                if stage != ADJOINT:
                    for o in range(n_outputs):
                        values[m, a, slot[to + o]] += sign[to + o] * value[i, o]
                if stage != VALUES:
                    for c in range(plain):
                        slope[i, c] -= all_wk[i] * query[i, c]
                    for c in range(n_columns):
                        adjoint[a, column[at + c]] += 2.0 * scale[at + c] * slope[i, c]
        if stage != VALUES:
            for a in range(n_atoms):
                for h in range(f):
                    if images[a, h] == CIRCLE:
                        adjoint[a, h] -= ext[a, 2 * f + h] * adjoint[a, f + h]
                        adjoint[a, h] += ext[a, f + h] * adjoint[a, 2 * f + h]
                    elif images[a, h] == INVERSE:
                        adjoint[a, h] -= ext[a, f + h] * ext[a, f + h] * adjoint[a, f + h]
                add_frame_adjoint(
                    coordinates[m], alf, a, ext[a], frames[m, a], zeta[a], adjoint[a],
                    torques[m, a], gradient[m],
                )


@part
def _outputs(
    k0, k1, p0, p1, w0, w1, pair, stage, rational, t, n, weights, at, width, seed0, seed1, value0,
    value1,
):
    """A block's part of the n values of one or two queries with kernel values k0 and k1.

    Of rational kernels these are 1 / (1 + e / 2). Out: w0 and w1, the sums over outputs of seed
    times weight times the fall of the kernel; p0 and p1 are for work.
    """
    v0, v1 = k0, k1
    if rational is not None:
        if rational[t]:
            # the kernel is the square, its fall the cube
            v0, v1 = p0, p1
            _product(p0, k0, k0, width)
            if pair:
                _product(p1, k1, k1, width)
    if stage != ADJOINT:
        add_sums(value0, value1, pair, v0, v1, weights, at, width, n)
    if stage == VALUES:
        return
    _fill(w0, width)
    if pair:
        _fill(w1, width)
    add_products(w0, w1, pair, weights, at, width, seed0, seed1, n)
    _product(w0, w0, k0, width)
    if pair:
        _product(w1, w1, k1, width)
    if rational is not None:
        if rational[t]:
            _product(w0, w0, v0, width)
            if pair:
                _product(w1, w1, v1, width)


@part
def _outputs_with_slopes(
    k0, k1, p0, p1, w0, w1, pair, stage, rational, t, n, n_columns, apart, weights, weight_start,
    start, width, query0, query1, slope0, slope1, seed0, seed1, value0, value1,
):
    """`_outputs` where there are weights on derivatives; adds what these do to the slopes."""
    for o in range(n):
        at = weight_start + (n * start + o * width) * n_columns
        _fill(p0, width)
        if pair:
            _fill(p1, width)
        add_products(p0, p1, pair, weights, at, width, query0, query1, n_columns)
        value0[o] += _weigh(p0, k0, w0, seed0[o], width, o > 0, rational, t, weights, at, apart)
        if pair:
            value1[o] += _weigh(
                p1, k1, w1, seed1[o], width, o > 0, rational, t, weights, at, apart
            )
        if stage != VALUES:
            add_sums(slope0, slope1, pair, p0, p1, weights, at, width, n_columns)


@inner
def _weigh(p, k, w, seed, width, add, rational, t, weights, at, apart):
    """The sum of p k; puts or adds seed p k to w and leaves seed k / 2 in p.

    Of a rational kernel, k = s = 1 / (1 + e / 2), with the plain weights, own, apart: the sum of
    own s^2 + p s^3; puts or adds seed (own s^3 + 3/2 p s^4), what multiplies the difference of
    columns, and leaves seed s^3 / 2.
    """
    total, half = 0.0, 0.5 * seed
    if rational is not None:
        if rational[t]:
            own = weights[at + apart * width:]
            for j in range(width):
                square = k[j] * k[j]
                fall = square * k[j]
                total += own[j] * square + p[j] * fall
                bent = seed * fall * (own[j] + 1.5 * p[j] * k[j])
                w[j] = w[j] + bent if add else bent
                p[j] = half * fall
            return total
    for j in range(width):
        pk = p[j] * k[j]
        total += pk
        w[j] = w[j] + seed * pk if add else seed * pk
        p[j] = half * k[j]
    return total


@inner
def _fill(x, width):
    for j in range(width):
        x[j] = 0.0


@inner
def _copy(x, source, at, width):
    for j in range(width):
        x[j] = source[at + j]


@inner
def _keep(target, at, x, width):
    for j in range(width):
        target[at + j] = x[j]


@inner
def _product(p, x, y, width):
    for j in range(width):
        p[j] = x[j] * y[j]


@inner
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
