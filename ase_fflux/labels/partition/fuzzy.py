"""Atoms that overlap: shares of the density at every point, by Hirshfeld or by MBIS."""

import warnings
from ast import literal_eval
from functools import lru_cache

import numpy as np
from scipy.interpolate import CubicSpline

from ase_fflux.base.errors import LabelError
from ase_fflux.base.jit import njit

_ROUNDS, _CONVERGED = 2000, 1e-9


def hirshfeld(densities, points: np.ndarray) -> np.ndarray:
    """Shares by the densities of free atoms: Hirshfeld, Theor. Chim. Acta 1977, 44, 129.

    Free atoms are neutral, spherically averaged and computed by Hartree-Fock in the molecule's own
    basis.

    Parameters
    ----------
    densities : MolecularDensities
    points : (g, 3) array
        In bohr.

    Returns
    -------
    (N, g) array
        Of each atom, summing to one.
    """
    mol = densities.mol
    free = np.empty((mol.natm, len(points)))
    for i, position in enumerate(densities.atoms):
        r = np.linalg.norm(points - position, axis=1)
        free[i] = np.exp(free_atom(mol, i)(r))
    return free / free.sum(axis=0)


def free_atom(mol, atom: int) -> CubicSpline:
    """Logarithm of a free neutral atom's density by distance (bohr), in an atom's own basis."""
    # the basis as text that makes it again
    return _free_atom(mol.atom_pure_symbol(atom), repr(mol._basis[mol.atom_symbol(atom)]))


@lru_cache(maxsize=64)
def _free_atom(symbol: str, basis: str) -> CubicSpline:
    from pyscf import gto
    from pyscf.scf import atom_hf

    charge = gto.charge(symbol)
    atom = gto.M(
        atom=[(symbol, (0, 0, 0))], basis={symbol: literal_eval(basis)}, spin=charge % 2,
        verbose=0,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PySCF calls what it has deprecated itself
        _, _, coefficients, occupations = atom_hf.get_atm_nrhf(atom)[symbol]
    r = np.concatenate([np.linspace(0, 0.5, 400), np.geomspace(0.502, 40, 1200)])
    line = np.zeros((len(r), 3))
    line[:, 2] = r
    total = np.zeros(len(r))
    for direction in _icosahedron():
        ao = atom.eval_gto("GTOval_sph", r[:, None] * direction)
        total += ((ao @ coefficients) ** 2) @ occupations / 12
    # at distances where the basis has nothing left all atoms are alike: what counts is the order
    return CubicSpline(r, np.log(np.maximum(total, 1e-150)))


def _icosahedron() -> np.ndarray:
    """The 12 vertices; averages over them are exact for s, p and d shells' products."""
    golden = (1 + 5**0.5) / 2
    corners = [(0, a, b * golden) for a in (-1, 1) for b in (-1, 1)]
    vertices = np.array([np.roll(c, k) for c in corners for k in range(3)])
    return vertices / np.linalg.norm(vertices[0])


def mbis(densities, points, weights, electrons, start=None) -> tuple[np.ndarray, np.ndarray]:
    """Shares by the minimal basis of exponential shells that is nearest to the density.

    Verstraelen et al., J. Chem. Theory Comput. 2016, 12, 3894: an atom has one shell of density
    N/(8 pi s^3) exp(-r/s) per row of the periodic table; N and s are those that its share of the
    molecular density has. Solved by iteration with Anderson's acceleration.

    Parameters
    ----------
    densities : MolecularDensities
    points, weights, electrons : arrays
        As `grid.molecular_grid`.
    start : (2, S) array, optional
        Populations and widths of a similar geometry.

    Returns
    -------
    shares : (N, g) array
    shells : (2, S) array
        Populations (e) and widths (bohr), to start from next time.

    Raises
    ------
    LabelError
        If the iteration does not converge.
    """
    owner, shells = _first_shells(densities.charges.astype(int))
    distances = np.linalg.norm(points - densities.atoms[:, None], axis=2)
    if start is not None and np.shape(start) == shells.shape:
        shells = np.array(start, dtype=float)
    x = np.log(shells).ravel()
    charge = weights * electrons
    history: list[tuple[np.ndarray, np.ndarray]] = []
    for _ in range(_ROUNDS):
        moments = np.zeros_like(shells)
        _shell_moments(np.exp(x.reshape(2, -1)), owner, distances, charge, moments)
        image = np.log(np.array([moments[0], moments[1] / (3 * moments[0])])).ravel()
        step = image - x
        if np.abs(step).max() < _CONVERGED:
            return _shares(np.exp(x.reshape(2, -1)), owner, distances), np.exp(x.reshape(2, -1))
        history = [*history[-7:], (x, step)]
        x = _anderson(history)
    raise LabelError(
        f"the MBIS partition of {densities.mol.natm} atoms does not converge in {_ROUNDS} rounds: "
        "use partition 'hirshfeld'"
    )


def _anderson(history) -> np.ndarray:
    """Next iterate from the last ones (x, step): Anderson, J. ACM 1965, 12, 547."""
    x, step = history[-1]
    new = x + step
    if len(history) > 1:
        xs, steps = (np.array(values) for values in zip(*history, strict=True))
        d_x, d_step = np.diff(xs, axis=0).T, np.diff(steps, axis=0).T
        mix = np.linalg.lstsq(d_step, step, rcond=1e-8)[0]
        new = new - (d_x + d_step) @ mix
        # a leap of a factor is not trusted
        if np.abs(new - x).max() > 0.7:
            new = x + step
    return new


def _first_shells(numbers) -> tuple[np.ndarray, np.ndarray]:
    """Atom of each shell, and populations and widths to start from."""
    noble = np.array([0, 2, 10, 18, 36, 54, 86])
    owner, populations, widths = [], [], []
    for atom, z in enumerate(numbers):
        n = int(np.searchsorted(noble, z))
        for k in range(n):
            owner.append(atom)
            populations.append(float(min(z, noble[k + 1]) - noble[k]))
            # from the nucleus' own scale to that of valence electrons
            share = k / (n - 1) if n > 1 else 1.0
            widths.append(1 / (2 * z ** (1 - share)))
    return np.array(owner), np.array([populations, widths])


@njit
def _shell_moments(shells, owner, distances, charge, out):
    """Populations and populations times mean distance of each shell's share, into out (2, S)."""
    n = shells.shape[1]
    density = np.empty(n)
    for g in range(len(charge)):
        total = 0.0
        for s in range(n):
            width = shells[1, s]
            density[s] = shells[0, s] / (8 * np.pi * width**3) * np.exp(
                -distances[owner[s], g] / width
            )
            total += density[s]
        if total < 1e-200:
            continue
        for s in range(n):
            part = charge[g] * density[s] / total
            out[0, s] += part
            out[1, s] += part * distances[owner[s], g]


@njit
def _shares(shells, owner, distances):
    """Share (N, g) of each atom at each point."""
    out = np.zeros(distances.shape)
    for g in range(distances.shape[1]):
        # relative to the largest, so that far points have shares as well
        largest = -1e300
        for s in range(shells.shape[1]):
            w = shells[1, s]
            largest = max(largest, np.log(shells[0, s] / w**3) - distances[owner[s], g] / w)
        total = 0.0
        for s in range(shells.shape[1]):
            w = shells[1, s]
            value = np.exp(np.log(shells[0, s] / w**3) - distances[owner[s], g] / w - largest)
            out[owner[s], g] += value
            total += value
        for i in range(out.shape[0]):
            out[i, g] /= total
    return out
