r"""Anharmonic wavenumbers by vibrational perturbation theory of second order (VPT2).

The energy along dimensionless normal coordinates q is taken to fourth order, :math:`\frac16 \sum
\phi_{ijk} q_i q_j q_k + \frac1{24} \sum \phi_{ijkl} q_i q_j q_k q_l`, those of four different modes
left out, which do not matter here. Levels of an asymmetric top (H. H. Nielsen, Rev. Mod. Phys. 23,
90 (1951); V. Barone, J. Chem. Phys. 122, 014108 (2005)):

.. math:: E_n = \sum_i \omega_i (n_i + \tfrac12)
          + \sum_{i \le j} x_{ij} (n_i + \tfrac12)(n_j + \tfrac12)

A fundamental and an overtone or combination that nearly coincide (a Fermi resonance) make a term
with a small denominator. Terms that are large by J. M. L. Martin's measure (J. Chem. Phys. 103,
2589 (1995)) are left out, and what they couple is diagonalised.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np
from ase import units

from ase_fflux.base.differences import central_differences, symmetrised
from ase_fflux.base.errors import FFLUXError
from ase_fflux.simulate.vibrations.analysis import Vibrations

STEP = 0.1
"""Displacement of a dimensionless normal coordinate, whose zero-point spread is 0.7."""

_DISTANCE = 0.01
"""Angstrom; for second derivatives, whose differences are taken: ten times that of harmonic ones
changes fundamentals of water and of ethanol's stretches by 0.2 cm^-1 at most and bears noise in
the forces that would make them off by 40."""
_NEAR = 200.0
"""cm^-1; farther levels are not resonant."""
_COUPLED = 1.0
"""cm^-1; Martin's measure of the error that second order makes, above which a term is resonant."""
_SAME = 0.1
"""cm^-1; modes that are nearer are degenerate."""
_LENGTH = np.sqrt(units._hbar**2 / (units._e * units._amu)) * 1e10
"""dr/dq in Angstrom of 1 eV and 1 amu: hbar / sqrt(amu eV)."""


@dataclass(frozen=True, eq=False)
class Quartic:
    """Force field along dimensionless normal coordinates, all in cm^-1.

    Attributes
    ----------
    harmonic : (n,) array
    cubic : (n, n, n) array
        Symmetric.
    quartic : (n, n) array
        phi_iijj; phi_iiii on the diagonal.
    rotation : (n, n) array
        What Coriolis coupling adds to x_ij.
    """

    harmonic: np.ndarray
    cubic: np.ndarray
    quartic: np.ndarray
    rotation: np.ndarray


@dataclass(frozen=True, eq=False)
class Anharmonic:
    """Fundamentals with anharmonicity.

    Attributes
    ----------
    wavenumbers : (n,) array
        Of the fundamentals, in the order of the harmonic modes (cm^-1).
    constants : (n, n) array
        x_ij (cm^-1), resonant terms left out.
    resonances : tuple of (int, int, int)
        Modes i, j, k (from 0) of which omega_i + omega_j is near omega_k and coupled to it.
    evaluations : int
        Forces that were computed.
    """

    wavenumbers: np.ndarray
    constants: np.ndarray
    resonances: tuple[tuple[int, int, int], ...]
    evaluations: int


def anharmonic(
    vibrations: Vibrations, calculator, *, watch: Callable[[Iterable], Iterable] = iter
) -> Anharmonic:
    """Fundamentals of a molecule at a minimum.

    Third and fourth derivatives are differences of second ones at two displacements along each
    mode, which takes 12 N n forces of N atoms with n modes.

    Parameters
    ----------
    vibrations : Vibrations
        Its harmonic modes.
    calculator : Calculator
        That they are of.
    watch : callable
        Wraps the displacements, 2 n of them, for a progress display.

    Raises
    ------
    FFLUXError
        `require_asymmetric`.
    """
    require_asymmetric(vibrations)
    levels = fundamentals(force_field(vibrations, calculator, watch))
    count = 12 * len(vibrations.atoms) * len(vibrations.wavenumbers)
    return Anharmonic(*levels, evaluations=count)


def require_asymmetric(vibrations: Vibrations) -> None:
    """Refuse molecules whose levels are other ones.

    Raises
    ------
    FFLUXError
        Linear molecules, degenerate or imaginary modes.
    """
    wavenumbers = vibrations.wavenumbers
    why = ""
    if vibrations.linear:
        why = "the molecule is linear"
    elif wavenumbers[0] <= 0:
        why = f"mode 1 is imaginary ({-wavenumbers[0]:.1f}i cm-1): optimise the geometry"
    elif len(same := np.flatnonzero(np.diff(wavenumbers) < _SAME)):
        why = f"modes {same[0] + 1} and {same[0] + 2} are degenerate"
    if why:
        raise FFLUXError(f"no anharmonic wavenumbers, which are those of asymmetric tops: {why}")


def force_field(vibrations: Vibrations, calculator, watch=iter) -> Quartic:
    """Third and fourth derivatives, and Coriolis coupling (see `anharmonic`)."""
    omega, n = vibrations.wavenumbers, len(vibrations.wavenumbers)
    scale = _LENGTH / np.sqrt(omega * units.invcm)
    # dr/dq, Angstrom
    along = (vibrations.normal_coordinates * scale[:, None, None]).reshape(n, -1)
    moved = vibrations.atoms.copy()
    moved.calc = calculator
    start = moved.get_positions()

    def gradient(x):
        moved.positions = x
        return -moved.get_forces().ravel()

    def second(x):
        matrix = symmetrised(central_differences(gradient, x, _DISTANCE))
        return along @ matrix @ along.T / units.invcm

    there = {}
    for mode, sign in watch([(mode, sign) for mode in range(n) for sign in (1, -1)]):
        there[mode, sign] = second(start + sign * STEP * along[mode].reshape(-1, 3))
    up, down = (np.array([there[mode, sign] for mode in range(n)]) for sign in (1, -1))
    slopes = (up - down) / (2 * STEP)
    # each is found up to three times
    cubic = (slopes + slopes.transpose(1, 0, 2) + slopes.transpose(1, 2, 0)) / 3
    curvatures = (up + down - 2 * second(start)) / STEP**2
    quartic = symmetrised(np.diagonal(curvatures, axis1=1, axis2=2))
    return Quartic(omega, cubic, quartic, coriolis(vibrations))


def coriolis(vibrations: Vibrations) -> np.ndarray:
    """(n, n) what the coupling of modes by rotation adds to x_ij (cm^-1): the sum over the axes of
    inertia of B zeta_ij^2 (omega_i / omega_j + omega_j / omega_i), none for i = j."""
    atoms, omega = vibrations.atoms, vibrations.wavenumbers
    moments, axes = atoms.get_moments_of_inertia(vectors=True)
    modes = vibrations.eigenvectors @ axes.T
    zeta = np.cross(modes[:, None], modes[None]).sum(axis=2)
    constants = units._hbar / (4 * np.pi * units._c * 100 * moments * units._amu * 1e-20)
    ratio = omega[:, None] / omega
    return (constants * zeta**2).sum(axis=2) * (ratio + ratio.T)


def fundamentals(
    field: Quartic,
) -> tuple[np.ndarray, np.ndarray, tuple[tuple[int, int, int], ...]]:
    """Fundamentals (cm^-1), x_ij (cm^-1) and resonances of a force field."""
    omega, cubic = field.harmonic, field.cubic
    n = len(omega)
    resonances = tuple(
        (i, j, k) for i, j in combinations_with_replacement(range(n), 2) for k in range(n)
        if _resonant(omega[i] + omega[j] - omega[k], cubic[i, j, k], i == j)
    )
    x = field.quartic / 4 + field.rotation
    x[range(n), range(n)] = np.diag(field.quartic) / 16
    for i in range(n):
        for j in range(n):
            # 1 / (2 omega_i - omega_j) is left out where it is resonant
            small = 0.0 if (i, i, j) in resonances else 1 / (2 * omega[i] - omega[j])
            x[i, i] -= cubic[i, i, j]**2 / 16 * (
                2 / omega[j] + 0.5 * (1 / (2 * omega[i] + omega[j]) - small)
            )
    for i in range(n):
        for j in range(i):
            for k in range(n):
                a, b, c = omega[[i, j, k]]
                small = [
                    0.0 if tuple(sorted(pair)) + (third,) in resonances else 1 / gap
                    for pair, third, gap in (
                        ((i, j), k, a + b - c), ((j, k), i, b + c - a), ((i, k), j, a + c - b)
                    )
                ]
                x[i, j] -= cubic[i, i, k] * cubic[j, j, k] / (4 * c)
                x[i, j] -= cubic[i, j, k]**2 / 8 * (
                    1 / (a + b + c) - small[0] + small[1] + small[2]
                )
            x[j, i] = x[i, j]
    return _levels(omega, x, cubic, resonances), x, resonances


def _resonant(gap: float, coupling: float, same: bool) -> bool:
    measure = coupling**4 / (256 if same else 64)
    return abs(gap) < _NEAR and measure > _COUPLED * abs(gap)**3


def _energy(omega, x, quanta) -> float:
    """Energy above the ground state without resonances."""
    def level(n):
        return omega @ n + 0.5 * (n @ x @ n + n @ (np.diag(x) * n))

    half = np.full(len(omega), 0.5)
    return float(level(quanta + half) - level(half))


def _levels(omega, x, cubic, resonances) -> np.ndarray:
    """Fundamentals, those in resonances from the matrix of all that is coupled: each the level with
    the largest share of it."""
    n = len(omega)
    ones = np.eye(n)
    states = [tuple(one) for one in ones]
    states += sorted({tuple(ones[i] + ones[j]) for i, j, _ in resonances})
    place = {state: number for number, state in enumerate(states)}
    matrix = np.diag([_energy(omega, x, np.array(state)) for state in states])
    for i, j, k in resonances:
        one, two = k, place[tuple(ones[i] + ones[j])]
        coupling = cubic[i, j, k] / (4 if i == j else np.sqrt(8))
        matrix[one, two] = matrix[two, one] = coupling
    values, vectors = np.linalg.eigh(matrix)
    return np.array([values[np.argmax(vectors[k] ** 2)] for k in range(n)])
