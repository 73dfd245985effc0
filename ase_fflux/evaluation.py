"""Gaussian processes of many copies of one molecule, evaluated together with their adjoint.

Everything is a squared distance of columns (`ase_fflux.gp.kernels`): a process of n training
points is a table of C scaled columns, stored column by column, so that the loops over training
points run over contiguous memory and vectorise. The floor is 4 C n flops and two readings of the
table per process for a value and its gradient.
"""

from dataclasses import dataclass

import numpy as np

from ase_fflux.frames import OK, add_frame_adjoint, local_features, n_features, raise_for_status
from ase_fflux.gp.kernels import TWO_PI, azimuths
from ase_fflux.jit import njit
from ase_fflux.molecule import ENERGY, AtomProcess

_BLOCK = 256


@dataclass(frozen=True)
class Pack:
    """Processes of one molecule in flat arrays, the form in which `sweep` reads them.

    Processes are ordered by atom; ``first[a]:first[a + 1]`` are those of atom a. Process g has
    columns ``column_start[g]:column_start[g + 1]``, those from ``plain[g]`` on wrapped with their
    period, outputs ``output_start[g]:...``, its table from
    ``table_start[g]`` in ``table`` and its weights from ``weight_start[g]`` in ``weights``.
    ``azimuth`` (N,) tells whose plain phi values are needed, ``circle`` (N, F) the features other
    than azimuths whose cosine and sine are.
    """

    alf: np.ndarray
    azimuth: np.ndarray
    circle: np.ndarray
    first: np.ndarray
    size: np.ndarray
    plain: np.ndarray
    column_start: np.ndarray
    output_start: np.ndarray
    table_start: np.ndarray
    weight_start: np.ndarray
    column: np.ndarray
    scale: np.ndarray
    period: np.ndarray
    slot: np.ndarray
    mean: np.ndarray
    table: np.ndarray
    weights: np.ndarray

    def arrays(self) -> tuple:
        """The fields in order, as `sweep` takes them."""
        return tuple(getattr(self, name) for name in self.__dataclass_fields__)


def pack(alf: np.ndarray, processes: list[AtomProcess], slots: dict[str, int]) -> Pack:
    """Lay out processes for `sweep`.

    Parameters
    ----------
    alf : (N, 3) int array
        Local frames.
    processes : list of AtomProcess
        Outputs whose property is not in ``slots`` are left out.
    slots : dict
        Output slot of each property.
    """
    n_atoms = len(alf)
    f = n_features(n_atoms)
    chosen = []
    for process in sorted(processes, key=lambda p: p.atom):
        outputs = [i for i, name in enumerate(process.properties) if name in slots]
        if outputs:
            chosen.append((process, outputs))
    azimuth = np.zeros(n_atoms, dtype=np.bool_)
    circular = np.zeros((n_atoms, f), dtype=np.bool_)
    size, columns, scales, periods, plain, tables, weights = [], [], [], [], [], [], []
    for process, outputs in chosen:
        kernel, x = process.gp.kernel, process.gp.inputs
        if not process.gp.weights[outputs].any() and ENERGY not in process.properties:
            # moments that learnt nothing but their mean need no kernel vector (coverage does)
            x = x[:0]
        rbf, cyclic, circle = map(
            np.flatnonzero, (kernel.rbf, kernel.cyclic, kernel.periodic)
        )
        circular[process.atom] |= ~azimuths(f) & (kernel.periodic > 0)
        plain_phi = azimuths(f) & ((kernel.rbf > 0) | (kernel.cyclic > 0))
        azimuth[process.atom] |= plain_phi.any()
        columns.append(np.concatenate([rbf, f + circle, 2 * f + circle, cyclic]))
        images = np.sqrt(kernel.periodic[circle])
        turns = np.sqrt(kernel.cyclic[cyclic])
        scales.append(np.concatenate([np.sqrt(kernel.rbf[rbf]), images, images, turns]))
        plain.append(len(rbf) + 2 * len(circle))
        periods.append(np.concatenate([np.zeros(plain[-1]), TWO_PI * turns]))
        table = np.hstack([kernel.columns(x), turns * x[:, cyclic]])
        tables.append(np.ascontiguousarray(table.T).ravel())
        weights.append(process.gp.weights[outputs, :len(x)].ravel())
        size.append(len(x))
    slot = [slots[p.properties[i]] for p, outputs in chosen for i in outputs]
    mean = [p.gp.mean[i] for p, outputs in chosen for i in outputs]

    def starts(sizes):
        return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)

    def joined(arrays, dtype=float):
        return np.concatenate(arrays).astype(dtype) if arrays else np.zeros(0, dtype)

    atoms = [p.atom for p, _ in chosen]
    column_start = starts([len(c) for c in columns])
    return Pack(
        alf=np.ascontiguousarray(alf, dtype=np.int64),
        azimuth=azimuth,
        circle=circular,
        first=starts(np.bincount(np.array(atoms, dtype=np.int64), minlength=n_atoms)),
        size=np.array(size, dtype=np.int64),
        plain=column_start[:-1] + np.array(plain, dtype=np.int64),
        column_start=column_start,
        output_start=starts([len(o) for _, o in chosen]),
        table_start=starts([len(t) for t in tables]),
        weight_start=starts([len(w) for w in weights]),
        column=joined(columns, np.int64),
        scale=joined(scales),
        period=joined(periods),
        slot=np.array(slot, dtype=np.int64),
        mean=np.array(mean, dtype=float),
        table=joined(tables),
        weights=joined(weights),
    )


@njit
def _exponentials(e, bits, n):
    """Replace e by exp(-e), e >= 0, to rounding; written so that it vectorises.

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
def _add_squares(e, table, at, n, query, c0, plain, c1, period, width):
    """e += squared distances to ``width`` points; four plain columns at a time save traffic."""
    c = c0
    while c + 4 <= plain:
        x0 = table[at + (c - c0) * n:]
        x1 = table[at + (c - c0 + 1) * n:]
        x2 = table[at + (c - c0 + 2) * n:]
        x3 = table[at + (c - c0 + 3) * n:]
        q0, q1, q2, q3 = query[c], query[c + 1], query[c + 2], query[c + 3]
        for j in range(width):
            d0, d1, d2, d3 = q0 - x0[j], q1 - x1[j], q2 - x2[j], q3 - x3[j]
            e[j] += (d0 * d0 + d1 * d1) + (d2 * d2 + d3 * d3)
        c += 4
    while c < c1:
        x0 = table[at + (c - c0) * n:]
        q0, turn = query[c], period[c]
        for j in range(width):
            d0 = q0 - x0[j]
            if turn > 0.0:
                d0 -= turn * np.rint(d0 / turn)
            e[j] += d0 * d0
        c += 1


@njit
def _add_slopes(slope, wk, table, at, n, query, c0, plain, c1, period, width):
    """slope += sum of wk times the difference, for each column; the mirror of `_add_squares`."""
    c = c0
    while c + 4 <= plain:
        x0 = table[at + (c - c0) * n:]
        x1 = table[at + (c - c0 + 1) * n:]
        x2 = table[at + (c - c0 + 2) * n:]
        x3 = table[at + (c - c0 + 3) * n:]
        q0, q1, q2, q3 = query[c], query[c + 1], query[c + 2], query[c + 3]
        s0, s1, s2, s3 = 0.0, 0.0, 0.0, 0.0
        for j in range(width):
            w = wk[j]
            s0 += w * (q0 - x0[j])
            s1 += w * (q1 - x1[j])
            s2 += w * (q2 - x2[j])
            s3 += w * (q3 - x3[j])
        slope[c] += s0
        slope[c + 1] += s1
        slope[c + 2] += s2
        slope[c + 3] += s3
        c += 4
    while c < c1:
        x0 = table[at + (c - c0) * n:]
        q0, turn, s0 = query[c], period[c], 0.0
        for j in range(width):
            d0 = q0 - x0[j]
            if turn > 0.0:
                d0 -= turn * np.rint(d0 / turn)
            s0 += wk[j] * d0
        slope[c] += s0
        c += 1


@njit
def sweep(coordinates, pack, slopes, seeds, torques, values, frames, gradient, exponents, failure):
    """Values of all outputs and, if ``slopes``, the adjoint of sum(seeds * values) + torques.

    Parameters
    ----------
    coordinates : (M, N, 3) array
        M copies of the molecule in the model's atom order (bohr).
    pack : tuple
        `Pack.arrays`.
    slopes : bool
        Whether to compute the adjoint.
    seeds : (M, N, S) array
        dE/d value of each output slot.
    torques : (M, N, 3) array
        dE/d omega of each local frame, in components along its axes.
    values : (M, N, S) array, out
        Values of the outputs.
    frames : (M, N, 3, 3) array, out
        Local frames, rows are the axes.
    gradient : (M, N, 3) array, added to
        dE/dR in hartree/bohr.
    exponents : (M, N) array, out
        Smallest exponent to any training point, over the processes of the atom; the coverage
        is exp(-exponent).
    failure : (3,) int array, out
        Copy, atom and status of the first failure; status OK if none.
    """
    (alf, azimuth, circle, first, size, plain, column_start, output_start, table_start,
     weight_start, column, scale, period, slot, mean, table, weights) = pack
    n_atoms = alf.shape[0]
    n_ext = 3 * (1 if n_atoms == 2 else 3 * n_atoms - 6)
    f = n_ext // 3
    ext = np.zeros(n_ext)
    adjoint = np.zeros(n_ext)
    zeta = np.zeros((n_atoms, 3))
    e = np.empty(_BLOCK)
    wk = np.empty(_BLOCK)
    bits = np.empty(_BLOCK, dtype=np.int64)
    query = np.empty(column.shape[0])
    slope = np.empty(column.shape[0])
    failure[2] = OK
    for m in range(coordinates.shape[0]):
        for a in range(n_atoms):
            status = local_features(
                coordinates[m], alf, a, azimuth[a], ext, frames[m, a], zeta
            )
            if status != OK:
                failure[0], failure[1], failure[2] = m, a, status
                return
            for h in range(f):
                if circle[a, h]:
                    ext[f + h], ext[2 * f + h] = np.cos(ext[h]), np.sin(ext[h])
            for c in range(n_ext):
                adjoint[c] = 0.0
            nearest = 1e300
            for g in range(first[a], first[a + 1]):
                c0, c1 = column_start[g], column_start[g + 1]
                o0, o1 = output_start[g], output_start[g + 1]
                n = size[g]
                for c in range(c0, c1):
                    query[c] = scale[c] * ext[column[c]]
                    slope[c] = 0.0
                for o in range(o0, o1):
                    values[m, a, slot[o]] = mean[o]
                for start in range(0, n, _BLOCK):
                    width = min(_BLOCK, n - start)
                    for j in range(width):
                        e[j] = 0.0
                    at = table_start[g] + start
                    _add_squares(e, table, at, n, query, c0, plain[g], c1, period, width)
                    for j in range(width):
                        nearest = min(nearest, e[j])
                    _exponentials(e, bits, width)
                    for j in range(width):
                        wk[j] = 0.0
                    for o in range(o0, o1):
                        w = weights[weight_start[g] + (o - o0) * n + start:]
                        seed = seeds[m, a, slot[o]]
                        total = 0.0
                        for j in range(width):
                            total += w[j] * e[j]
                        for j in range(width):
                            wk[j] += seed * w[j] * e[j]
                        values[m, a, slot[o]] += total
                    if slopes:
                        _add_slopes(
                            slope, wk, table, at, n, query, c0, plain[g], c1, period, width
                        )
                for c in range(c0, c1):
                    adjoint[column[c]] -= 2.0 * scale[c] * slope[c]
            exponents[m, a] = nearest
            if slopes:
                for h in range(f):
                    if circle[a, h]:
                        adjoint[h] -= ext[2 * f + h] * adjoint[f + h]
                        adjoint[h] += ext[f + h] * adjoint[2 * f + h]
                add_frame_adjoint(
                    coordinates[m], alf, a, ext, frames[m, a], zeta, adjoint, torques[m, a],
                    gradient[m],
                )


def check(failure: np.ndarray, atoms: np.ndarray) -> None:
    """Raise the GeometryError for a failed `sweep`; atoms (M, N) are indices in the input."""
    copy, atom, status = failure
    raise_for_status(status, atoms[copy, atom])
