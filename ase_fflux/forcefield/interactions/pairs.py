"""Short-range pair potentials between the atoms of different molecules.

    Lennard-Jones  E = 4 eps [(sigma/r)^12 - (sigma/r)^6]
    Buckingham     E = A exp(-r/rho) - C/r^6

With a cut-off rc they are force-shifted, E(r) - E(rc) - (r - rc) E'(rc), so that energy and force
vanish there, or plain. What a plain potential lacks beyond rc can be added to energy and virial of
a periodic cell as if the atoms there were spread evenly (`tail`).

They are between elements (`ShortRange.from_dict`), or between types of atoms, as many as the models
have sites (`ase_fflux.forcefield.described`).
"""

from dataclasses import dataclass
from functools import cached_property
from math import isfinite

import numpy as np
from ase.data import atomic_numbers

from ase_fflux.base.errors import FFLUXError, GeometryError
from ase_fflux.base.jit import njit, plain
from ase_fflux.base.units import BOHR, HARTREE
from ase_fflux.forcefield.interactions.base import (
    COINCIDENT,
    Derivatives,
    System,
    add_parts,
    raise_for_coincident,
)

_BLOCK = 256
"""Pairs of a list that are worked on at a time."""

_PARAMETERS = {"lj": ("epsilon", "sigma"), "buckingham": ("A", "rho", "C")}


@njit
def _pair(r, c):
    """Energy and derivative of c12/r^12 - c6/r^6 + a exp(-b r), c = (c12, c6, a, b)."""
    s6 = 1.0 / (r * r * r * r * r * r)
    repulsion, dispersion = c[0] * s6 * s6, c[1] * s6
    exponential = c[2] * np.exp(-c[3] * r) if c[2] != 0.0 else 0.0
    slope = (-12.0 * repulsion + 6.0 * dispersion) / r - c[3] * exponential
    return repulsion - dispersion + exponential, slope


@njit
def _add_pair(i, j, x, y, z, kinds, table, energies, gradient, virial):
    """Add a pair whose atoms are (x, y, z) apart; returns whether they are on one spot."""
    c = table[kinds[i], kinds[j]]
    if c[6] == 0.0:
        return False
    r = np.sqrt(x * x + y * y + z * z)
    if r < COINCIDENT:
        return True
    energy, slope = _pair(r, c)
    energies[i] += 0.5 * energy
    energies[j] += 0.5 * energy
    d = (x, y, z)
    for k in range(3):
        g = slope / r * d[k]
        gradient[i, k] -= g
        gradient[j, k] += g
        for h in range(3):
            virial[h, k] += d[h] * g
    return False


@njit
def _all_pairs(positions, molecule, kinds, table, energies, gradient, virial):
    """Sum over all pairs of different molecules, without cut-off.

    Returns a pair on one spot or (-1, -1).
    """
    for i in range(len(positions)):
        for j in range(i):
            if molecule[i] != molecule[j]:
                x = positions[j, 0] - positions[i, 0]
                y = positions[j, 1] - positions[i, 1]
                z = positions[j, 2] - positions[i, 2]
                if _add_pair(i, j, x, y, z, kinds, table, energies, gradient, virial):
                    return j, i
    return -1, -1


@njit
def _listed_pairs(
    first, second, images, cell, positions, kinds, table, cutoff, energies, gradient, virial
):
    """As `_all_pairs` for `Pairs`.

    In blocks: which pairs act and where they are, then energies and slopes, then their sums, so
    that neither branches nor scattered memory are in the way of the arithmetic.
    """
    at, c = np.empty(_BLOCK, np.int64), np.empty((7, _BLOCK))
    d, r2 = np.empty((3, _BLOCK)), np.empty(_BLOCK)
    energy, slope = np.empty(_BLOCK), np.empty(_BLOCK)
    limit, exponential = cutoff * cutoff, False
    for i in range(table.shape[0]):
        for j in range(table.shape[1]):
            exponential = exponential or table[i, j, 2] != 0.0
    start = 0
    while start < len(first):
        used, end = 0, min(start + _BLOCK, len(first))
        for p in range(start, end):
            i, j = first[p], second[p]
            a, b, e = float(images[p, 0]), float(images[p, 1]), float(images[p, 2])
            x = positions[j, 0] - positions[i, 0]
            y = positions[j, 1] - positions[i, 1]
            z = positions[j, 2] - positions[i, 2]
            x += a * cell[0, 0] + b * cell[1, 0] + e * cell[2, 0]
            y += a * cell[0, 1] + b * cell[1, 1] + e * cell[2, 1]
            z += a * cell[0, 2] + b * cell[1, 2] + e * cell[2, 2]
            at[used], d[0, used], d[1, used], d[2, used] = p, x, y, z
            r2[used] = x * x + y * y + z * z
            used += (r2[used] < limit) & (table[kinds[i], kinds[j], 6] != 0.0)
        nearest = limit
        for w in range(used):
            row = table[kinds[first[at[w]]], kinds[second[at[w]]]]
            for k in range(6):
                c[k, w] = row[k]
            nearest = min(nearest, r2[w])
        if nearest < COINCIDENT * COINCIDENT:
            for w in range(used):
                if r2[w] < COINCIDENT * COINCIDENT:
                    return first[at[w]], second[at[w]]
        for w in range(used):
            r, inverse = np.sqrt(r2[w]), 1.0 / r2[w]
            s6 = inverse * inverse * inverse
            repulsion, dispersion = c[0, w] * s6 * s6, c[1, w] * s6
            energy[w] = repulsion - dispersion - c[4, w] - (r - cutoff) * c[5, w]
            slope[w] = (-12.0 * repulsion + 6.0 * dispersion) * inverse - c[5, w] / r
        if exponential:
            for w in range(used):
                if c[2, w] != 0.0:
                    r = np.sqrt(r2[w])
                    more = c[2, w] * np.exp(-c[3, w] * r)
                    energy[w] += more
                    slope[w] -= c[3, w] * more / r
        for h in range(3):
            for k in range(h, 3):
                total = 0.0
                for w in range(used):
                    total += d[h, w] * d[k, w] * slope[w]
                virial[h, k] += total
                if k > h:
                    virial[k, h] += total
        for w in range(used):
            i, j, half = first[at[w]], second[at[w]], 0.5 * energy[w]
            energies[i] += half
            energies[j] += half
            for k in range(3):
                g = slope[w] * d[k, w]
                gradient[i, k] -= g
                gradient[j, k] += g
        start = end
    return -1, -1


def tail(coefficients, cutoff: float) -> tuple[np.ndarray, np.ndarray]:
    """What pair potentials are beyond a cut-off, per pair of atoms and density of pairs.

    Parameters
    ----------
    coefficients : (..., 4) array
        As of `ShortRange`.
    cutoff : float
        bohr

    Returns
    -------
    energy, virial : (...) arrays
        The integrals of 4 pi r^2 E(r) / 2 and of 4 pi r^3 E'(r) / 6 from the cut-off to infinity
        (hartree bohr^3): times the ordered pairs of atoms in a cell and over its volume they are
        the energy, and each diagonal element of the virial. The virial is not the derivative of the
        energy, for it has the forces too that pairs would feel in passing the cut-off (M. P. Allen
        and D. J. Tildesley, Computer Simulation of Liquids, section 2.8).
    """
    c12, c6, a, b = np.moveaxis(np.asarray(coefficients, dtype=float), -1, 0)
    rc = cutoff
    with np.errstate(divide="ignore", invalid="ignore"):
        exponential = a * np.exp(-b * rc)
        moment = np.where(a > 0, exponential * (rc**2 / b + 2 * rc / b**2 + 2 / b**3), 0.0)
    integral = c12 / (9 * rc**9) - c6 / (3 * rc**3) + moment
    last = c12 / rc**12 - c6 / rc**6 + exponential
    return 2 * np.pi * integral, -2 * np.pi * (rc**3 * last / 3 + integral)


@dataclass(frozen=True, eq=False)
class ShortRange:
    """Pair potentials in atomic units, by element or by type of atom.

    Parameters
    ----------
    numbers : (E,) int array
        Atomic numbers that occur; with ``types`` it is the number of each type instead.
    coefficients : (E, E, 4) array
        c12, c6, a, b of E = c12/r^12 - c6/r^6 + a exp(-b r); zeros where a pair has no potential.
    cutoff : float or None
        In bohr.
    shifted : bool
        Whether energy and force are shifted to vanish at the cut-off.
    tail : bool
        Whether energy and virial of periodic cells have what is beyond the cut-off.
    types : (S,) int array, optional
        Type of each site of the force field (`System.sites`), in place of elements; those that are
        not among ``numbers`` have no potential.
    names : tuple of str, optional
        Names of the types.

    Raises
    ------
    FFLUXError
        A tail of shifted potentials, or of potentials without cut-off.
    """

    numbers: np.ndarray
    coefficients: np.ndarray
    cutoff: float | None = None
    shifted: bool = True
    tail: bool = False
    types: np.ndarray | None = None
    names: tuple[str, ...] | None = None

    def __post_init__(self):
        if self.tail and (self.cutoff is None or self.shifted):
            raise FFLUXError(
                "tail corrections are of plain potentials with a cut-off: shifted ones have none"
            )

    @classmethod
    def from_dict(cls, pairs: dict, cutoff: float | None = None) -> "ShortRange":
        """Read potentials in ASE's units.

        Parameters
        ----------
        pairs : dict
            For instance ``{"O-O": {"lj": [epsilon, sigma]}, "O-H": {"buckingham": [A, rho, C]}}``;
            epsilon and A in eV, sigma and rho in Angstrom, C in eV Angstrom^6. Pairs that are not
            listed have no potential.
        cutoff : float, optional
            In Angstrom; energy and force are shifted to be zero there.

        Raises
        ------
        FFLUXError
            For an unknown element or kind of potential, or parameters that make no sense.
        """
        if cutoff is not None and not (isfinite(cutoff) and cutoff > 0):
            raise FFLUXError(f"short-range cut-off {cutoff}: it must be a positive length")
        read = {}
        for name, potential in pairs.items():
            key = _read_elements(name)
            if key in read:
                raise FFLUXError(f"short-range pair {name} is given twice")
            read[key] = read_potential(name, potential)
        numbers = np.array(sorted({number for key in read for number in key}), dtype=np.int64)
        coefficients = np.zeros((len(numbers), len(numbers), 4))
        for key, values in read.items():
            a, b = np.searchsorted(numbers, key)
            coefficients[a, b] = coefficients[b, a] = values
        return cls(numbers, coefficients, None if cutoff is None else cutoff / BOHR)

    name = "short_range"
    rank = -1
    short_ranged = True

    def check(self, system: System, models) -> None:
        """Refuse periodic boundaries without a cut-off; see `Interaction.check`."""
        if system.periodic and self.cutoff is None:
            raise FFLUXError(
                "short-range potentials need a cut-off with periodic boundaries; give one"
            )
        if self.tail and system.periodic and not system.pbc.all():
            raise FFLUXError(
                "tail corrections of pair potentials are of cells that are periodic in three "
                f"directions, and this one is in {system.pbc.sum()}: leave the tail away"
            )

    def on(self, system: System) -> "ShortRange":
        """Itself; see `Interaction.on`."""
        return self

    def evaluate(self, system: System) -> Derivatives:
        """Half of each pair energy to each of its atoms; see `Interaction.evaluate`."""
        positions = np.ascontiguousarray(system.positions, dtype=float)
        n = len(positions)
        energies, gradient, virial = np.zeros(n), np.zeros((n, 3)), np.zeros((3, 3))
        if not np.isfinite(positions).all():
            raise GeometryError("positions of the atoms are not finite numbers")
        kinds = self._kinds(system)

        def listed(part, *sums):
            pairs = (array[part] for array in system.pairs)
            coincident = _listed_pairs(
                *pairs, system.cell, positions, kinds, self._table, self.cutoff, *sums
            )
            if coincident[0] >= 0:
                raise_for_coincident(system, *coincident)

        sums = energies, gradient, virial
        if self.cutoff is None:
            coincident = _all_pairs(positions, system.molecule, kinds, self._table, *sums)
            if coincident[0] >= 0:
                raise_for_coincident(system, *coincident)
        else:
            add_parts(listed, len(system.pairs.first), system, *sums)
        if self.tail and system.periodic:
            self._add_tail(kinds, abs(np.linalg.det(system.cell)), energies, virial)
        return Derivatives(energies, gradient, virial)

    def _kinds(self, system: System) -> np.ndarray:
        """(n,) row of `_table` for each atom."""
        labels = system.numbers if self.types is None else self.types[system.sites]
        labels = np.asarray(labels, dtype=np.int64)
        kinds = np.searchsorted(self.numbers, labels)
        kinds[~np.isin(labels, self.numbers)] = len(self.numbers)
        return kinds

    def _add_tail(self, kinds, volume, energies, virial):
        """Add what is beyond the cut-off to the energies of the atoms and to the virial."""
        counts = np.bincount(kinds, minlength=len(self.numbers) + 1)[:-1]
        energy, slope = tail(self.coefficients, self.cutoff)
        energies += np.append(energy @ counts, 0.0)[kinds] / volume
        virial += np.eye(3) * (counts @ slope @ counts) / volume

    @cached_property
    def _table(self) -> np.ndarray:
        """(E + 1, E + 1, 7): coefficients, E and E' shifted by, 1 where there is a potential.

        The last row and column are for atoms without any.
        """
        n = len(self.numbers)
        table = np.zeros((n + 1, n + 1, 7))
        table[:n, :n, :4] = self.coefficients
        for a, b in np.argwhere(self.coefficients.any(axis=2)):
            table[a, b, 6] = 1.0
            if self.cutoff is not None and self.shifted:
                table[a, b, 4:6] = plain(_pair)(self.cutoff, self.coefficients[a, b])
        return table


def _read_elements(name):
    symbols = str(name).split("-")
    if len(symbols) != 2:
        raise FFLUXError(f"short-range pair {name!r}: write two elements, such as O-H")
    for symbol in symbols:
        if atomic_numbers.get(symbol, 0) < 1:
            raise FFLUXError(f"short-range pair {name!r}: {symbol!r} is not an element")
    return tuple(sorted(atomic_numbers[symbol] for symbol in symbols))


def read_potential(name: str, potential: dict) -> tuple[float, float, float, float]:
    """Coefficients c12, c6, a, b in atomic units of a potential as in `ShortRange.from_dict`.

    Raises
    ------
    FFLUXError
        An unknown kind of potential, or parameters that make no sense.
    """
    if not isinstance(potential, dict) or len(potential) != 1:
        raise FFLUXError(
            f"short-range pair {name}: give one potential, such as {{'lj': [epsilon, sigma]}}"
        )
    ((kind, values),) = potential.items()
    if kind not in _PARAMETERS:
        raise FFLUXError(
            f"short-range pair {name}: unknown potential {kind!r}, known are "
            f"{' and '.join(_PARAMETERS)}"
        )
    wanted = _PARAMETERS[kind]
    try:
        values = [float(value) for value in values]
    except (TypeError, ValueError):
        values = []
    if len(values) != len(wanted) or not all(map(isfinite, values)):
        raise FFLUXError(
            f"short-range pair {name}: {kind} takes {len(wanted)} numbers, {', '.join(wanted)}"
        )
    for parameter, value in zip(wanted, values, strict=True):
        length = parameter in ("sigma", "rho")
        if value < 0 or (length and value == 0):
            raise FFLUXError(
                f"short-range pair {name}: {parameter} of {kind} is {value}, it must "
                f"{'be positive' if length else 'not be negative'}"
            )
    if kind == "lj":
        epsilon, sigma = values[0] / HARTREE, values[1] / BOHR
        return 4 * epsilon * sigma**12, 4 * epsilon * sigma**6, 0.0, 0.0
    a, rho, c = values
    return 0.0, c / (HARTREE * BOHR**6), a / HARTREE, BOHR / rho
