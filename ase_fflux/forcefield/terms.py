"""Terms of distances (`ase_fflux.model.terms`) of many copies of one molecule, with their gradient.

A term of one distance is a function of one variable: it is tabulated with its first two derivatives
and interpolated by quintic polynomials, so that its cost does not depend on the number of labels.
Others are summed over their points.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ase_fflux.base.jit import inner, njit
from ase_fflux.model.process import GaussianProcess
from ase_fflux.model.terms import MoleculeTerm

_STEP = 0.05
"""Of a table, in length scales: the polynomials are then off by 1e-9 of what they interpolate."""
_BEYOND = 2.0
"""Largest 1/R of a table relative to that of the labels. Atoms that are nearer see a potential
linear in 1/R."""


@dataclass(frozen=True)
class TermPack:
    """Terms in flat arrays.

    ``pairs`` (P, 2) are all pairs of atoms of the molecule that any term takes. Member q of a
    tabulated term is a function of pair ``one[q]``, whose nodes are rows ``first[q]`` to
    ``last[q]`` of ``nodes`` (., 3): value, slope and curvature at multiples of ``step[q]`` of 1/R.

    Query g of the other terms has columns ``scale`` times the inverses of pairs ``several`` minus
    ``centre``, all three from ``column_start[g]`` on, and is compared with points
    ``point_start[g]`` to ``point_end[g]`` of ``size[g]`` columns each, from ``table_start[g]`` on
    in ``table`` and, what multiplies derivatives by the columns of points, in ``slopes``;
    ``weights`` are one for each point.
    """

    pairs: np.ndarray
    one: np.ndarray
    first: np.ndarray
    last: np.ndarray
    step: np.ndarray
    nodes: np.ndarray
    rational: np.ndarray
    size: np.ndarray
    column_start: np.ndarray
    point_start: np.ndarray
    point_end: np.ndarray
    table_start: np.ndarray
    several: np.ndarray
    scale: np.ndarray
    centre: np.ndarray
    table: np.ndarray
    slopes: np.ndarray
    weights: np.ndarray

    @cached_property
    def arrays(self) -> tuple:
        """The fields in order, as `add_terms` takes them."""
        return tuple(getattr(self, name) for name in self.__dataclass_fields__)

    @property
    def flops(self) -> int:
        """Least operations for one molecule, tabulated terms left out: for each point and column a
        subtraction and four multiply-adds."""
        return int((9 * (self.point_end - self.point_start) * self.size).sum())


def pack_terms(terms: Sequence[MoleculeTerm]) -> TermPack:
    """Lay out terms for `add_terms`."""
    number: dict[tuple[int, int], int] = {}

    def place(pair) -> int:
        return number.setdefault((int(min(pair)), int(max(pair))), len(number))

    one, spans, steps, nodes = [], [], [], [np.zeros((0, 3))]
    queries, several, scales, centres = [], [], [], []
    tables, slopes, weights = [], [], []
    n_nodes = n_points = n_numbers = n_columns = 0
    for term in terms:
        gp, columns = term.gp, term.pairs.shape[1]
        if columns == 1:
            step, values = tabulated(gp)
            for member in term.pairs:
                one.append(place(member[0]))
                spans.append((n_nodes, n_nodes + len(values) - 1))
                steps.append(step)
            nodes.append(len(term.view_column) * values)
            n_nodes += len(values)
            continue
        scale = np.sqrt(gp.kernel.rbf)
        table = scale * gp.inputs
        centre = table.mean(axis=0)  # sums round less when columns are small
        tables.append((table - centre).ravel())
        slopes.append((scale * np.asarray(gp.derivative_weights)[0]).ravel())
        weights.append(gp.weights[0])
        for member in term.pairs:
            for view in term.view_column:
                several += [place(pair) for pair in member[view]]
                scales.append(scale)
                centres.append(centre)
                queries.append((
                    gp.kernel.form.rational, columns, n_columns, n_points, n_points + len(table),
                    n_numbers,
                ))
                n_columns += columns
        n_points += len(table)
        n_numbers += table.size

    def joined(arrays):
        return np.concatenate(arrays) if arrays else np.zeros(0)

    rational, *counts = np.array(queries, dtype=np.int64).reshape(-1, 6).T
    fields = [
        np.array(list(number), dtype=np.int64).reshape(-1, 2), np.array(one, dtype=np.int64),
        *np.array(spans, dtype=np.int64).reshape(-1, 2).T, np.array(steps),
        np.concatenate(nodes), rational.astype(np.bool_), *counts,
        np.array(several, dtype=np.int64),
        *map(joined, (scales, centres, tables, slopes, weights)),
    ]
    return TermPack(*map(np.ascontiguousarray, fields))


def tabulated(gp: GaussianProcess) -> tuple[float, np.ndarray]:
    """A process of one variable c: the step, and (K, 3) its value, first and second derivative at
    multiples of it from 0 to twice the largest of its inputs."""
    theta = gp.kernel.rbf[0]
    inputs, w, u = gp.inputs[:, 0], gp.weights[0], np.asarray(gp.derivative_weights)[0, :, 0]
    step = _STEP / np.sqrt(2.0 * theta)
    c = step * np.arange(int(_BEYOND * inputs.max() / step) + 2)
    values = np.empty((len(c), 3))
    for k, at in enumerate(c):
        d = at - inputs
        e = theta * d * d
        k0, fall, bend, turn = gp.kernel.form.derivatives(e)
        t = 2.0 * theta * d
        values[k] = (
            w @ k0 + u @ (t * fall),
            -w @ (t * fall) + u @ (2.0 * theta * fall - t * t * bend),
            w @ (t * t * bend - 2.0 * theta * fall) + u @ (t**3 * turn - 6.0 * theta * t * bend),
        )
    return float(step), values


@njit
def add_terms(coordinates, pack, values, gradient):
    """Add terms to values (M,) and their gradient to gradient (M, N, 3).

    Of M copies of a molecule at coordinates (M, N, 3) in bohr; pack: `TermPack.arrays`.
    """
    (pairs, one, first, last, step, nodes, rational, size, column_start, point_start, point_end,
     table_start, several, scale, centre, table, slopes, weights) = pack
    inverse, adjoint = np.empty(len(pairs)), np.empty(len(pairs))
    widest = 0
    for g in range(len(size)):
        widest = max(widest, size[g])
    query, slope = np.empty(widest), np.empty(widest)
    for m in range(coordinates.shape[0]):
        x, total = coordinates[m], 0.0
        for p in range(len(pairs)):
            square = 0.0
            for k in range(3):
                d = x[pairs[p, 0], k] - x[pairs[p, 1], k]
                square += d * d
            inverse[p] = 1.0 / np.sqrt(square)
            adjoint[p] = 0.0
        for q in range(len(one)):
            value, by_inverse = _interpolated(
                nodes, first[q], last[q], step[q], inverse[one[q]]
            )
            total += value
            adjoint[one[q]] += by_inverse
        for g in range(len(size)):
            n = size[g]
            for c in range(n):
                at = column_start[g] + c
                query[c] = scale[at] * inverse[several[at]] - centre[at]
                slope[c] = 0.0
            row = table_start[g]
            for j in range(point_start[g], point_end[g]):
                e, along = 0.0, 0.0
                for c in range(n):
                    d = query[c] - table[row + c]
                    e += d * d
                    along += d * slopes[row + c]
                if rational[g]:
                    s = 1.0 / (1.0 + 0.5 * e)
                    k0 = s * s
                    fall = k0 * s
                    bend = 1.5 * fall * s
                else:
                    k0 = np.exp(-e)
                    fall = bend = k0
                total += weights[j] * k0 + 2.0 * along * fall
                back = -2.0 * weights[j] * fall - 4.0 * along * bend
                for c in range(n):
                    slope[c] += back * (query[c] - table[row + c]) + 2.0 * fall * slopes[row + c]
                row += n
            for c in range(n):
                at = column_start[g] + c
                adjoint[several[at]] += scale[at] * slope[c]
        values[m] += total
        for p in range(len(pairs)):
            i, j = pairs[p, 0], pairs[p, 1]
            factor = -adjoint[p] * inverse[p] * inverse[p] * inverse[p]
            for k in range(3):
                d = factor * (x[i, k] - x[j, k])
                gradient[m, i, k] += d
                gradient[m, j, k] -= d


@inner
def _interpolated(nodes, first, last, step, c):
    """Value and slope at c of the quintic polynomial between the nodes on its two sides."""
    left = min(first + int(c / step), last - 1)
    t = c / step - (left - first)
    y0, y1 = nodes[left], nodes[left + 1]
    if t > 1.0:  # beyond the table, linear
        return y1[0] + (t - 1.0) * step * y1[1], y1[1]
    a0, a1, a2 = y0[0], y0[1] * step, 0.5 * y0[2] * step * step
    b0 = y1[0] - a0 - a1 - a2
    b1 = y1[1] * step - a1 - 2.0 * a2
    b2 = 0.5 * (y1[2] * step * step - 2.0 * a2)
    a3 = 10.0 * b0 - 4.0 * b1 + b2
    a4 = -15.0 * b0 + 7.0 * b1 - 2.0 * b2
    a5 = 6.0 * b0 - 3.0 * b1 + b2
    value = a0 + t * (a1 + t * (a2 + t * (a3 + t * (a4 + t * a5))))
    slope = a1 + t * (2.0 * a2 + t * (3.0 * a3 + t * (4.0 * a4 + t * 5.0 * a5)))
    return value, slope / step
