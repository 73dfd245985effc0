"""Multipolar electrostatics of periodic cells by an Ewald sum.

    E = sum_pairs (erfc part) - sum_pairs within molecules (erf part)
        + 2 pi/V sum_{k != 0} exp(-k^2 / 4 alpha^2) / k^2 |S(k)|^2
        - alpha/sqrt(pi) sum_A sum_lm (2 alpha^2)^l / (2l + 1)!! Q_lm^2  -  pi Z^2 / (2 V alpha^2)

    S(k) = sum_A exp(ik r_A) sum_lm Q_lm i^l R_lm(k) / (2l - 1)!!

(Smith, CCP5 Newsletter 1998, 46, 18; Simmonett, Pickard, Schaefer, Brooks, J. Chem. Phys. 2014,
140, 184101.) The last term is the uniform background that makes a net charge Z finite. The cell is
surrounded by a conductor: there is no surface term.
"""

import warnings
from functools import cached_property

import numpy as np

from ase_fflux.base.errors import FFLUXWarning, GeometryError
from ase_fflux.base.jit import njit
from ase_fflux.forcefield.interactions.base import (
    Derivatives,
    System,
    add_parts,
    raise_for_coincident,
)
from ase_fflux.forcefield.interactions.cartesian import (
    POWERS,
    RAISED,
    TO_MONOMIALS,
    n_monomials,
    strain_of_moments,
)
from ase_fflux.forcefield.interactions.quasi_internal import PARITY, contraction
from ase_fflux.forcefield.interactions.screened import screened_charges, screened_pairs
from ase_fflux.forcefield.loops import add_sum_of_products, rows_times
from ase_fflux.model.multipoles import n_moments

_NET_CHARGE = 0.05
"""Net charge (e) from which on it is said: charges of models sum to less than this by error."""

_CHUNK = 2**21
"""Waves times atoms that are worked on at a time."""


class Ewald:
    """Electrostatics of a fully periodic cell, every wave for itself.

    The time grows as the 3/2th power of the number of atoms; `ParticleMesh` is faster for large
    ones. `Electrostatics` chooses between them, and the parameters.

    Parameters
    ----------
    rank : int
        Interaction rank L' from 0 to 4: all moments up to this rank interact.
    alpha : float
        Width of the screening, 1/bohr.
    cutoff : float
        Of the real-space part, bohr.
    k_max : float
        Longest wave vector, 1/bohr.
    """

    name = "electrostatic"
    short_ranged = False

    def __init__(self, rank: int, alpha: float, cutoff: float, k_max: float):
        self.rank, self.alpha, self.cutoff, self.k_max = rank, alpha, cutoff, k_max

    def on(self, system: System) -> "Ewald":
        """Itself; see `Interaction.on`."""
        return self

    def check(self, system: System, models) -> None:
        """Nothing that `Electrostatics` has not refused; see `Interaction.check`."""

    @cached_property
    def _self_factors(self) -> np.ndarray:
        """(K,) energy of the moments with their own screening clouds is factor Q^2."""
        factors, rank_factor = [], -self.alpha / np.sqrt(np.pi)
        for l in range(self.rank + 1):  # noqa: E741
            if l:
                rank_factor *= 2 * self.alpha**2 / (2 * l + 1)
            factors += [rank_factor] * (2 * l + 1)
        return np.array(factors)

    def evaluate(self, system: System) -> Derivatives:
        """Real space, waves, exclusions, self terms and background; see `Interaction.evaluate`."""
        n_used = n_moments(self.rank)
        x, moments = system.positions, system.moments[:, :n_used]
        if not (np.isfinite(x).all() and np.isfinite(moments).all()):
            raise GeometryError("positions or moments of the atoms are not finite numbers")
        q = np.hstack([moments, x])
        v, virial = np.zeros_like(q), np.zeros((3, 3))
        self._add_real_space(system, q, v, virial)
        m = rows_times(moments, TO_MONOMIALS[:n_used, : n_monomials(self.rank)])
        field = self.add_waves(system, m, virial)
        products = np.zeros((m.shape[1],) * 2)
        add_sum_of_products(m, field[:, : m.shape[1]], products)
        virial += strain_of_moments(products, self.rank)
        gradient = v[:, n_used:]
        for a in range(3):
            gradient[:, a] += np.vecdot(m, field[:, RAISED[: m.shape[1], a]])
        potential = np.zeros_like(system.moments)
        potential[:, :n_used] = v[:, :n_used] + 2 * self._self_factors * moments
        to_moments = np.ascontiguousarray(TO_MONOMIALS[:n_used, : m.shape[1]].T)
        potential[:, :n_used] += rows_times(field[:, : m.shape[1]], to_moments)
        charge, volume = moments[:, 0].sum(), abs(np.linalg.det(system.cell))
        if abs(charge) > _NET_CHARGE:
            warnings.warn(
                f"the cell has a net charge of {charge:+.1f} e: a uniform background makes it "
                "neutral", FFLUXWarning, stacklevel=2,
            )
        background = -np.pi * charge / (volume * self.alpha**2)
        potential[:, 0] += background
        virial -= 0.5 * charge * background * np.eye(3)
        # the energy is bilinear in the moments: half of Q dE/dQ is each atom's share
        energies = 0.5 * np.vecdot(moments, potential[:, :n_used])
        return Derivatives(energies, np.ascontiguousarray(gradient), virial, potential)

    def _add_real_space(self, system, q, v, virial):
        parity = np.ones(q.shape[1])
        parity[:-3] = PARITY[: q.shape[1] - 3]
        steps = contraction(self.rank, 2 * self.rank + 1)
        common = (parity, self.rank, steps, self.alpha)

        def listed(part, v, virial):
            first, second, images = (array[part] for array in system.pairs)
            if self.rank == 0:
                bad = screened_charges(
                    first, second, images, system.cell, q, self.alpha, self.cutoff, v, virial
                )
            else:
                bad = screened_pairs(
                    first, second, images, system.cell, q, *common, self.cutoff, False, v, virial
                )
            if bad >= 0:
                raise_for_coincident(system, first[bad], second[bad])

        add_parts(listed, len(system.pairs.first), system, v, virial)
        first, second = pairs_within(np.asarray(system.molecule))
        images = np.zeros((len(first), 3), dtype=np.int32)
        bad = screened_pairs(
            first, second, images, system.cell, q, *common, np.inf, True, v, virial
        )
        if bad >= 0:
            raise GeometryError("two atoms of a molecule are on one spot")

    def add_waves(self, system: System, m: np.ndarray, virial: np.ndarray) -> np.ndarray:
        """The potential of the smooth charge distribution.

        Parameters
        ----------
        system : System
        m : (n, C) array
            Coefficients of monomials of derivatives of all sites.
        virial : (3, 3) array, in and out
            Gains dE/d strain of the waves at constant derivatives, see `strain_of_moments`.

        Returns
        -------
        (n, C') array
            Derivatives d^c phi at the sites to one degree more than the moments.
        """
        k = waves(system.cell, self.k_max)
        volume = abs(np.linalg.det(system.cell))
        n, n_high = len(m), n_monomials(self.rank + 1)
        field = np.zeros((n, n_high))
        real, imaginary = np.array([(1, 0), (0, 1), (-1, 0), (0, -1)], dtype=float)[
            POWERS[:n_high].sum(axis=1) % 4
        ].T
        low = slice(0, m.shape[1])
        size = max(1, _CHUNK // max(n, 1))
        for start in range(0, len(k), size):
            here = k[start : start + size]
            k2 = np.square(here).sum(axis=1)
            # half of the waves stand for all
            weight = 8 * np.pi / volume * np.exp(-k2 / (4 * self.alpha**2)) / k2
            powers = np.ones((len(here), n_high))
            for c in range(n_monomials(self.rank)):
                for a in range(3):
                    powers[:, RAISED[c, a]] = powers[:, c] * here[:, a]
            phase = here @ system.positions.T
            cosine, sine = np.cos(phase), np.sin(phase)
            by_cosine, by_sine = cosine @ m, sine @ m
            p, a, b = powers[:, low], real[low], imaginary[low]
            s_real = np.vecdot(p, a * by_cosine - b * by_sine)
            s_imaginary = np.vecdot(p, b * by_cosine + a * by_sine)
            energy = 0.5 * weight * (s_real**2 + s_imaginary**2)
            virial -= energy.sum() * np.eye(3)
            stretch = 2 * energy * (1 / k2 + 1 / (4 * self.alpha**2))
            virial += (here * stretch[:, None]).T @ here
            c, s = (weight * s_real)[:, None], (weight * s_imaginary)[:, None]
            field += cosine.T @ (powers * (real * c + imaginary * s))
            field += sine.T @ (powers * (real * s - imaginary * c))
        return field


def waves(cell: np.ndarray, k_max: float) -> np.ndarray:
    """One of k and -k of all reciprocal vectors up to a length, but k = 0.

    Parameters
    ----------
    cell : (3, 3) array
        bohr
    k_max : float
        1/bohr

    Returns
    -------
    (W, 3) array
    """
    reach = np.floor(k_max * np.linalg.norm(cell, axis=1) / (2 * np.pi)).astype(int)
    integers = np.stack(
        np.meshgrid(*(np.arange(-r if i else 0, r + 1) for i, r in enumerate(reach)),
                    indexing="ij"), axis=-1,
    ).reshape(-1, 3)
    a, b, c = integers.T
    half = (a > 0) | ((a == 0) & ((b > 0) | ((b == 0) & (c > 0))))
    k = 2 * np.pi * integers[half] @ np.linalg.inv(cell).T
    return k[np.square(k).sum(axis=1) <= k_max**2]


@njit
def _pairs_within(order, end, first, second):
    """Pairs of sites of one molecule; counts them where the arrays are empty."""
    count = 0
    for i in range(len(order)):
        for j in range(i + 1, end[i]):
            if count < len(first):
                first[count], second[count] = order[i], order[j]
            count += 1
    return count


def pairs_within(molecule: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All pairs of atoms of the same molecule, given the molecule of each atom."""
    order = np.argsort(molecule, kind="stable")
    end = np.searchsorted(molecule[order], molecule[order], side="right")
    nothing = np.zeros(0, dtype=np.int32)
    first, second = np.empty((2, _pairs_within(order, end, nothing, nothing)), dtype=np.int32)
    _pairs_within(order, end, first, second)
    return first, second
