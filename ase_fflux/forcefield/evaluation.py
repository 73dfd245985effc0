"""Gaussian processes of many copies of one molecule, evaluated together with their adjoint.

Everything is a squared distance of columns (`ase_fflux.model.kernels`): a process of n training
points is a table of C scaled columns, stored in blocks of points and there column by column, so
that the loops over training points run over contiguous memory and vectorise. The floor is 4 C n
flops and two readings of the table per process for a value and its gradient. Weights on kernel
derivatives are a second table of the same size and double that.
"""

from dataclasses import dataclass

import numpy as np

from ase_fflux.base.jit import njit
from ase_fflux.forcefield.loops import (
    add_products,
    add_squares,
    add_sums,
    add_wrapped,
    exponentials,
)
from ase_fflux.model.frames import (
    OK,
    add_frame_adjoint,
    local_features,
    n_features,
    raise_for_status,
)
from ase_fflux.model.kernels import TWO_PI, azimuths
from ase_fflux.model.molecule import ENERGY, AtomProcess
from ase_fflux.model.process import GaussianProcess
from ase_fflux.model.symmetry import polar_angles, reflection_signs
from ase_fflux.topology.graphs import atom_label

_BLOCK = 128


@dataclass(frozen=True)
class Pack:
    """Processes of one molecule in flat arrays, the form in which `sweep` reads them.

    Processes are ordered by atom; ``first[a]:first[a + 1]`` are those of atom a. Process g has
    columns ``column_start[g]:column_start[g + 1]``, those from ``plain[g]`` on wrapped with their
    period, outputs ``output_start[g]:...``, its table from ``table_start[g]`` in ``table`` and its
    weights from ``weight_start[g]`` in ``weights``; atoms that share a process share both. Column
    c of a query is ``scale[c]`` times the extended feature ``column[c]`` plus ``offset[c]``.

    For each block of points, the table has C rows; the weights have one row for each output, or
    1 + C if ``with_slopes[g]``: with U on the derivatives by the columns c_j, these are
    w - 2 U . c_j and 2 U. Outputs are ``sign`` times (mean and sum). ``azimuth`` (N,) tells whose
    plain phi values are needed, ``circle`` (N, F) the features other than azimuths whose cosine and
    sine are.
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
    with_slopes: np.ndarray
    column: np.ndarray
    scale: np.ndarray
    offset: np.ndarray
    period: np.ndarray
    slot: np.ndarray
    sign: np.ndarray
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
        outputs = tuple(i for i, name in enumerate(process.properties) if name in slots)
        if outputs:
            chosen.append((process, outputs))
    azimuth = np.zeros(n_atoms, dtype=np.bool_)
    circle = np.zeros((n_atoms, f), dtype=np.bool_)
    tables, keys, columns, scales, offsets = {}, [], [], [], []
    for process, outputs in chosen:
        gp, kernel = process.gp, process.gp.kernel
        order = np.arange(f) if process.order is None else np.asarray(process.order)
        # moments that learnt nothing but their mean need no kernel vector (coverage does)
        learnt = gp.weights[list(outputs)].any() or gp.derivative_weights is not None
        n = len(gp.inputs) if learnt or ENERGY in process.properties else 0
        key = id(gp), outputs, n
        if key not in tables:
            tables[key] = _Table(gp, list(outputs), n)
        keys.append(key)
        table = tables[key]
        circle[process.atom, order] |= ~azimuths(f) & (kernel.periodic > 0)
        azimuth[process.atom] |= (azimuths(f) & ((kernel.rbf > 0) | (kernel.cyclic > 0))).any()
        # pi - theta has the cosine of the opposite sign and the same sine
        turned = process.mirrored & polar_angles(f)[table.feature] & (table.image < 2)
        columns.append(f * table.image + order[table.feature])
        scales.append(np.where(turned, -table.scale, table.scale))
        offsets.append(np.where(turned & (table.image == 0), np.pi * table.scale, 0) - table.centre)
    names = [p.properties[i] for p, outputs in chosen for i in outputs]
    mirrored = np.array([p.mirrored for p, outputs in chosen for _ in outputs], dtype=bool)
    sign = np.where(mirrored, reflection_signs(names), 1.0)
    mean = np.array([p.gp.mean[i] for p, outputs in chosen for i in outputs], dtype=float)

    def starts(sizes):
        return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)

    def joined(arrays, dtype=float):
        return np.concatenate(arrays).astype(dtype) if arrays else np.zeros(0, dtype)

    atoms = [p.atom for p, _ in chosen]
    used = [tables[key] for key in keys]
    number = {key: i for i, key in enumerate(tables)}
    shared = np.array([number[key] for key in keys], dtype=np.int64)
    column_start = starts([len(c) for c in columns])
    return Pack(
        alf=np.ascontiguousarray(alf, dtype=np.int64),
        azimuth=azimuth,
        circle=circle,
        first=starts(np.bincount(np.array(atoms, dtype=np.int64), minlength=n_atoms)),
        size=np.array([t.size for t in used], dtype=np.int64),
        plain=column_start[:-1] + np.array([t.plain for t in used], dtype=np.int64),
        column_start=column_start,
        output_start=starts([len(o) for _, o in chosen]),
        table_start=starts([t.table.size for t in tables.values()])[shared],
        weight_start=starts([t.weights.size for t in tables.values()])[shared],
        with_slopes=np.array([t.with_slopes for t in used], dtype=np.bool_),
        column=joined(columns, np.int64),
        scale=joined(scales),
        offset=joined(offsets),
        period=joined([t.period for t in used]),
        slot=np.array([slots[name] for name in names], dtype=np.int64),
        sign=sign,
        mean=mean,
        table=joined([t.table for t in tables.values()]),
        weights=joined([t.weights for t in tables.values()]),
    )


class _Table:
    """Table and weights of some outputs of a process, in the layout of `Pack`.

    ``feature`` (C,), ``image`` (C,) (0 plain, 1 cosine, 2 sine) and ``scale`` (C,) tell what the
    columns are; their mean, ``centre``, is subtracted, for sums round less when columns are small.
    """

    def __init__(self, gp: GaussianProcess, outputs: list[int], n: int):
        kernel, x, w = gp.kernel, gp.inputs[:n], gp.weights[outputs, :n]
        rbf, cyclic, circle = map(np.flatnonzero, (kernel.rbf, kernel.cyclic, kernel.periodic))
        images, turns = np.sqrt(kernel.periodic[circle]), np.sqrt(kernel.cyclic[cyclic])
        self.size, self.plain = n, len(rbf) + 2 * len(circle)
        self.feature = np.concatenate([rbf, circle, circle, cyclic])
        self.image = np.repeat([0, 1, 2, 0], [len(rbf), len(circle), len(circle), len(cyclic)])
        self.scale = np.concatenate([np.sqrt(kernel.rbf[rbf]), images, images, turns])
        self.period = np.concatenate([np.zeros(self.plain), TWO_PI * turns])
        columns = np.hstack([kernel.columns(x), turns * x[:, cyclic]])
        self.centre = columns.mean(axis=0) if n else np.zeros(len(self.scale))
        columns -= self.centre
        self.with_slopes = gp.derivative_weights is not None
        rows = w[:, None]
        if self.with_slopes:
            u = 2.0 * gp.column_weights()[outputs]
            rows = np.concatenate(
                [rows - np.einsum("pnc,nc->pn", u, columns)[:, None], u.transpose(0, 2, 1)], axis=1
            )
        self.table, self.weights = _in_blocks(columns.T), _in_blocks(rows)


def _in_blocks(rows: np.ndarray) -> np.ndarray:
    """Rows (..., n) as one array in which every block of points has its rows together."""
    n = rows.shape[-1]
    return np.concatenate(
        [np.zeros(0), *(rows[..., start:start + _BLOCK].ravel() for start in range(0, n, _BLOCK))]
    )


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
     weight_start, with_slopes, column, scale, offset, period, slot, sign, mean, table,
     weights) = pack
    n_atoms = alf.shape[0]
    n_ext = 3 * (1 if n_atoms == 2 else 3 * n_atoms - 6)
    f = n_ext // 3
    ext = np.zeros(n_ext)
    adjoint = np.zeros(n_ext)
    zeta = np.zeros((n_atoms, 3))
    e = np.empty(_BLOCK)
    wk = np.empty(_BLOCK)
    p = np.empty(_BLOCK)
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
                n, rows = size[g], 1 + (c1 - c0) * with_slopes[g]
                for c in range(c0, c1):
                    query[c] = scale[c] * ext[column[c]] + offset[c]
                    slope[c] = 0.0
                for o in range(o0, o1):
                    values[m, a, slot[o]] = sign[o] * mean[o]
                all_wk = 0.0
                for start in range(0, n, _BLOCK):
                    width = min(_BLOCK, n - start)
                    for j in range(width):
                        e[j] = 0.0
                    at = table_start[g] + start * (c1 - c0)
                    add_squares(e, table, at, width, query, c0, plain[g], c1, period)
                    for j in range(width):
                        nearest = min(nearest, e[j])
                    exponentials(e, bits, width)
                    for j in range(width):
                        wk[j] = 0.0
                    for o in range(o0, o1):
                        begin = weight_start[g] + ((o1 - o0) * start + (o - o0) * width) * rows
                        w = weights[begin:]
                        for j in range(width):
                            p[j] = w[j]
                        if with_slopes[g]:
                            add_products(p, weights, begin + width, width, query, c0, c1)
                        seed = sign[o] * seeds[m, a, slot[o]]
                        total = 0.0
                        for j in range(width):
                            p[j] *= e[j]
                            total += p[j]
                        values[m, a, slot[o]] += sign[o] * total
                        for j in range(width):
                            wk[j] += seed * p[j]
                        if slopes and with_slopes[g]:
                            for j in range(width):
                                p[j] = 0.5 * seed * e[j]
                            add_sums(slope, p, weights, begin + width, width, c0, c1)
                    if slopes:
                        add_sums(slope, wk, table, at, width, c0, plain[g])
                        add_wrapped(
                            slope, wk, table, at + (plain[g] - c0) * width, width, query, plain[g],
                            c1, period,
                        )
                        for j in range(width):
                            all_wk += wk[j]
                for c in range(c0, plain[g]):
                    slope[c] -= all_wk * query[c]
                for c in range(c0, c1):
                    adjoint[column[c]] += 2.0 * scale[c] * slope[c]
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


def check(failure: np.ndarray, atoms: np.ndarray, numbers: np.ndarray) -> None:
    """Raise the GeometryError for a failed `sweep`.

    atoms (M, N) are indices in the input, numbers (n,) its atomic numbers.
    """
    copy, atom, status = failure
    if status != OK:
        raise_for_status(status, atom_label(atoms[copy, atom], numbers))
