"""Gaussian processes of a molecule in flat arrays, the form in which `evaluation.sweep` reads them.

Everything is a squared distance of columns (`ase_fflux.model.kernels`): a process of n training
points is a table of C scaled columns, stored in blocks of points and there column by column, so
that the loops over points run over contiguous memory and vectorise. Atoms that share a process
share its table, and an image of its points under a symmetry operation is an image of the query
instead: k(f, T f_j) = k(T^-1 f, f_j). What is read again and again is then small enough for the
cache of a core.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ase_fflux.model.frames import n_features
from ase_fflux.model.kernels import TWO_PI, azimuths
from ase_fflux.model.molecule import ENERGY, AtomProcess
from ase_fflux.model.process import GaussianProcess
from ase_fflux.model.symmetry import polar_angles, reflection_signs

BLOCK = 256
"""Points in a block: its rows stay in the nearest cache while all queries are compared to it."""

CIRCLE, INVERSE = 1, 2
"""What stands in the place of a feature's cosine: it, with the sine, or the inverse."""

_LANES = 8
"""Points are filled up to a multiple of it, and arrays start at one: a cache line."""

_FAR = 1e150
"""Columns of points that fill up, whose kernel is nothing."""


@dataclass(frozen=True)
class Pack:
    """Processes of one molecule in flat arrays.

    Table t has ``size[t]`` points (a multiple of 8), ``columns[t]`` columns of which the first
    ``plain[t]`` (a multiple of 4) are plain and the others wrapped, with periods from
    ``period_start[t]`` on, and ``outputs[t]`` outputs; its blocks start at ``table_start[t]`` in
    ``table`` and ``weight_start[t]`` in ``weights``. For each block of points the table has one row
    for each column; the weights have one row for each output, or C if ``with_slopes[t]``: with
    U on the derivatives by the columns c_j, these are 2 U, and w - 2 U . c_j at a column that is 1
    for all points and queries. Where the kernel is ``rational[t]``, w and U go with different
    functions: -2 U . c_j stands there, and w at column ``apart[t]``, which is 0 for all.

    Queries ``first[t]:first[t + 1]`` are compared with it. Query g is of atom ``atom[g]``; its
    column c is ``scale`` times the extended feature ``column`` plus ``offset``, all three at
    ``column_start[g] + c``, its output o goes to ``slot`` with ``sign``, at ``output_start[g] +
    o``, and its kernel values, where they are kept, stand from ``kept_start[g]`` on.

    Outputs begin at ``mean`` in slot ``mean_slot`` of atom ``mean_atom``. ``azimuth`` (N,) tells
    whose plain phi values are needed, ``circle`` (N, F) the features other than azimuths whose
    cosine and sine are, ``inverse`` (N, F) the distances whose inverse is: it takes the place of
    the cosine.
    """

    alf: np.ndarray
    azimuth: np.ndarray
    circle: np.ndarray
    inverse: np.ndarray
    size: np.ndarray
    columns: np.ndarray
    plain: np.ndarray
    outputs: np.ndarray
    with_slopes: np.ndarray
    rational: np.ndarray
    apart: np.ndarray
    table_start: np.ndarray
    weight_start: np.ndarray
    period_start: np.ndarray
    first: np.ndarray
    atom: np.ndarray
    column_start: np.ndarray
    output_start: np.ndarray
    kept_start: np.ndarray
    column: np.ndarray
    scale: np.ndarray
    offset: np.ndarray
    period: np.ndarray
    slot: np.ndarray
    sign: np.ndarray
    mean_atom: np.ndarray
    mean_slot: np.ndarray
    mean: np.ndarray
    table: np.ndarray
    weights: np.ndarray

    @cached_property
    def arrays(self) -> tuple:
        """What `evaluation.sweep` reads, in few arrays: each costs time.

        Of all tables (T, 12) and of all queries (G, 4), one column for each of the fields, and
        ``image`` (N, F): `CIRCLE`, `INVERSE` or 0.
        """
        tables = np.stack([
            self.size, self.columns, self.plain, self.outputs, self.with_slopes, self.apart,
            self.table_start[:-1], self.weight_start[:-1], self.period_start[:-1],
            self.period_start[1:], self.first[:-1], self.first[1:],
        ], axis=1)
        queries = np.stack([
            self.atom, self.column_start[:-1], self.output_start[:-1], self.kept_start[:-1]
        ], axis=1)
        return (
            self.alf, self.azimuth, CIRCLE * self.circle + INVERSE * self.inverse,
            np.ascontiguousarray(tables), np.ascontiguousarray(queries), self.column, self.scale,
            self.offset, self.slot, self.sign,
            np.ascontiguousarray(np.stack([self.mean_atom, self.mean_slot], axis=1)), self.mean,
            self.table, self.weights,
        )

    @cached_property
    def wrapped(self) -> np.ndarray | None:
        """``period``, None where no column is wrapped."""
        return self.period if len(self.period) else None

    @cached_property
    def bent(self) -> np.ndarray | None:
        """``rational``, None where no table is."""
        return self.rational if self.rational.any() else None

    @cached_property
    def _shapes(self) -> list:
        n, f = len(self.alf), n_features(len(self.alf))
        most, columns, outputs = (
            int(counts.max(initial=0))
            for counts in (np.diff(self.first), self.columns, self.outputs)
        )
        return [(2, n, 3 * f), (n, n, 3), (2, most, columns), (2, most, outputs), most, (6, BLOCK)]

    def room(self) -> tuple:
        """Arrays for the work of `evaluation.sweep`, which takes longer to compile if it makes
        them."""
        return tuple(map(np.zeros, self._shapes))

    @property
    def n_kept(self) -> int:
        """Number of kernel values of one molecule."""
        return int(self.kept_start[-1])

    @property
    def flops(self) -> int:
        """Least operations for values and gradient of one molecule, exponentials left out.

        For each point and column a subtraction and a multiply-add for the distance and a
        multiply-add for the slope, and for weights on derivatives two multiply-adds more.
        """
        queries = np.diff(self.first)
        each = np.where(self.with_slopes, 5 + 4 * self.outputs, 5)
        return int((queries * self.size * self.columns * each).sum())


def pack(alf: np.ndarray, processes: Sequence[AtomProcess], slots: dict[str, int]) -> Pack:
    """Lay out processes for `evaluation.sweep`.

    Parameters
    ----------
    alf : (N, 3) int array
        Local frames.
    processes : sequence of AtomProcess
        Outputs whose property is not in ``slots`` are left out.
    slots : dict
        Output slot of each property.
    """
    n_atoms = len(alf)
    f = n_features(n_atoms)
    azimuth = np.zeros(n_atoms, dtype=np.bool_)
    circle, inverse = np.zeros((2, n_atoms, f), dtype=np.bool_)
    tables, queries, means = {}, {}, []
    for process in processes:
        outputs = tuple(i for i, name in enumerate(process.properties) if name in slots)
        if not outputs:
            continue
        gp, kernel = process.gp, process.gp.kernel
        # moments that learnt nothing but their mean need no kernel vector (coverage does)
        learnt = gp.weights[list(outputs)].any() or gp.derivative_weights is not None
        n = len(gp.inputs) // process.n_views if learnt or ENERGY in process.properties else 0
        key = id(gp), outputs, n, process.n_views
        if key not in tables:
            tables[key], queries[key] = _Table(gp, list(outputs), n), []
        names = [process.properties[i] for i in outputs]
        odd = reflection_signs(names)
        for slot, sign, mean in zip(
            [slots[name] for name in names], odd if process.mirrored else np.ones(len(odd)),
            gp.mean[list(outputs)], strict=True,
        ):
            means.append((process.atom, slot, sign * mean))
        for order, mirrored in process.views(f):
            queries[key].append(_Query(process.atom, tables[key], order, mirrored, f, names, slots))
            circle[process.atom, order] |= ~azimuths(f) & (kernel.periodic > 0)
            inverse[process.atom, order] |= kernel.warped & (kernel.rbf > 0)
        azimuth[process.atom] |= (azimuths(f) & ((kernel.rbf > 0) | (kernel.cyclic > 0))).any()
    if (circle & inverse).any():
        raise ValueError("processes of an atom take the same distance as 1/R and as an angle")
    used = list(tables.values())
    asked = [query for key in tables for query in queries[key]]
    kept = [t.size for key, t in tables.items() for _ in queries[key]]
    atom, slot, mean = zip(*means, strict=True) if means else ((), (), ())

    def counts(name):
        return np.array([getattr(t, name) for t in used], dtype=np.int64)

    def starts(sizes):
        return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)

    def joined(arrays, dtype=float):
        return np.concatenate(arrays).astype(dtype) if arrays else np.zeros(0, dtype)

    return Pack(
        alf=np.ascontiguousarray(alf, dtype=np.int64),
        azimuth=azimuth,
        circle=circle,
        inverse=inverse,
        size=counts("size"),
        columns=counts("n_columns"),
        plain=counts("plain"),
        outputs=counts("n_outputs"),
        with_slopes=np.array([t.with_slopes for t in used], dtype=np.bool_),
        rational=np.array([t.rational for t in used], dtype=np.bool_),
        apart=counts("apart"),
        table_start=starts([t.table.size for t in used]),
        weight_start=starts([t.weights.size for t in used]),
        period_start=starts([len(t.period) for t in used]),
        first=starts([len(q) for q in queries.values()]),
        atom=np.array([q.atom for q in asked], dtype=np.int64),
        column_start=starts([len(q.column) for q in asked]),
        output_start=starts([len(q.slot) for q in asked]),
        kept_start=starts(kept),
        column=joined([q.column for q in asked], np.int64),
        scale=joined([q.scale for q in asked]),
        offset=joined([q.offset for q in asked]),
        period=joined([t.period for t in used]),
        slot=joined([q.slot for q in asked], np.int64),
        sign=joined([q.sign for q in asked]),
        mean_atom=np.array(atom, dtype=np.int64),
        mean_slot=np.array(slot, dtype=np.int64),
        mean=np.array(mean, dtype=float),
        table=_aligned([t.table for t in used]),
        weights=_aligned([t.weights for t in used]),
    )


class _Table:
    """Table and weights of some outputs of a process, in the layout of `Pack`.

    ``feature`` (C,), ``image`` (C,) (0 plain, 1 cosine or inverse, 2 sine) and ``scale`` (C,) tell
    what the columns are; their mean, ``centre``, is subtracted, for sums round less when columns
    are small. Columns of scale 0 fill the plain ones up to a multiple of four; with weights on
    derivatives there is at least one, and the first of them is 1; of rational kernels the second
    is ``apart``.
    """

    def __init__(self, gp: GaussianProcess, outputs: list[int], n: int):
        kernel, x, w = gp.kernel, gp.inputs[:n], gp.weights[outputs, :n]
        rbf, cyclic, circle = map(np.flatnonzero, (kernel.rbf, kernel.cyclic, kernel.periodic))
        images, turns = np.sqrt(kernel.periodic[circle]), np.sqrt(kernel.cyclic[cyclic])
        self.with_slopes = gp.derivative_weights is not None
        self.rational = kernel.form.rational
        n_plain = len(rbf) + 2 * len(circle)
        needed = self.with_slopes * (1 + self.rational)
        fill = needed + -(n_plain + needed) % 4
        self.apart = n_plain + 1 if needed == 2 else 0
        filled = np.zeros(fill, dtype=int)
        self.size, self.plain = n + -n % _LANES, n_plain + fill
        self.feature = np.concatenate([rbf, circle, circle, filled, cyclic])
        self.image = np.concatenate([
            kernel.warped[rbf].astype(int),
            np.repeat([1, 2, 0, 0], [len(circle), len(circle), fill, len(cyclic)]),
        ])
        self.scale = np.concatenate([np.sqrt(kernel.rbf[rbf]), images, images, filled, turns])
        self.period = TWO_PI * turns
        self.n_columns, self.n_outputs = len(self.scale), len(outputs)
        columns = np.hstack([kernel.columns(x), np.zeros((n, fill)), turns * x[:, cyclic]])
        self.centre = columns.mean(axis=0) if n else np.zeros(self.n_columns)
        columns -= self.centre
        rows = w[:, None]
        if self.with_slopes:
            images = len(gp.inputs) // n if n else 1
            first = gp if images == 1 else GaussianProcess(
                x, kernel, gp.mean, gp.weights[:, :n], gp.noise, gp.derivative_weights[:, :n]
            )
            u = 2.0 * first.column_weights()[outputs]
            u = np.concatenate([u, np.zeros((*u.shape[:2], fill))], axis=2)
            shift = np.einsum("pnc,nc->pn", u, columns)
            u[..., n_plain] = -shift if self.apart else w - shift
            if self.apart:
                u[..., self.apart] = w
            columns[:, n_plain], self.centre[n_plain] = 1.0, -1.0
            rows = u.transpose(0, 2, 1)
        self.table = _in_blocks(columns.T, self.size, _FAR)
        self.weights = _in_blocks(rows, self.size, 0.0)


class _Query:
    """One atom, seen as one of the images of its process, compared with a table."""

    def __init__(self, atom, table, order, mirrored, f, names, slots):
        # pi - theta has the cosine of the opposite sign and the same sine
        turned = mirrored & polar_angles(f)[table.feature] & (table.image < 2)
        self.atom = atom
        self.column = f * table.image + order[table.feature]
        self.scale = np.where(turned, -table.scale, table.scale)
        self.offset = np.where(turned & (table.image == 0), np.pi * table.scale, 0) - table.centre
        self.slot = np.array([slots[name] for name in names])
        self.sign = reflection_signs(names) if mirrored else np.ones(len(names))


def _in_blocks(rows: np.ndarray, size: int, fill: float) -> np.ndarray:
    """Rows (..., n) as one array in which every block of points has its rows together."""
    shape = *rows.shape[:-1], size - rows.shape[-1]
    rows = np.concatenate([rows, np.full(shape, fill)], axis=-1)
    return np.concatenate(
        [np.zeros(0), *(rows[..., start:start + BLOCK].ravel() for start in range(0, size, BLOCK))]
    )


def _aligned(arrays: list[np.ndarray]) -> np.ndarray:
    """Arrays one after the other, the first number at the start of a cache line.

    Loads that cross lines cost a quarter of the time.
    """
    size = sum(len(array) for array in arrays)
    room = np.empty(size + _LANES)
    begin = -(room.ctypes.data // 8) % _LANES
    joined = room[begin:begin + size]
    if arrays:
        np.concatenate(arrays, out=joined)
    return joined
