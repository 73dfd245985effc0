"""The electron density at single points, and the atom that its gradient leads to.

Every point belongs to the nucleus at which the path of steepest ascent of the density ends. A path
that enters a sphere around a nucleus, on whose surface the density rises inwards everywhere, has
arrived.
"""

import numpy as np

from ase_fflux.base.jit import njit

_FAR = 34.0
"""Exponent a r^2 of a Gaussian that is nothing any more."""
_MOST_STEPS = 2000
_ERROR = 1e-4
"""Error of a step of a path (bohr)."""


class PointDensity:
    """Tables for the density of a closed-shell calculation at one point after the other.

    Parameters
    ----------
    mol : pyscf.gto.Mole
    orbitals : (AOs, n) array
        Doubly occupied orbitals.

    Attributes
    ----------
    tables : tuple of arrays
        What `density` and `destination` take.
    """

    def __init__(self, mol, orbitals: np.ndarray):
        if not mol.cart:
            orbitals = mol.cart2sph_coeff(normalized="sp") @ orbitals
        atoms, degrees, first, exponents, factors, functions = [], [], [0], [], [], [0]
        for shell in range(mol.nbas):
            degree = mol.bas_angular(shell)
            common = ((2 * degree + 1) / (4 * np.pi)) ** 0.5 if degree < 2 else 1.0
            for column in mol._libcint_ctr_coeff(shell).T:
                used = column != 0
                atoms.append(mol.bas_atom(shell))
                degrees.append(degree)
                exponents.extend(mol.bas_exp(shell)[used])
                factors.extend(common * column[used])
                first.append(len(exponents))
                functions.append(functions[-1] + (degree + 1) * (degree + 2) // 2)
        self.atoms = mol.atom_coords()
        self.tables = (
            self.atoms, np.array(atoms), np.array(degrees), np.array(first), np.array(exponents),
            np.array(factors), np.array(functions), np.ascontiguousarray(2**0.5 * orbitals),
        )

    def gradient(self, points: np.ndarray) -> np.ndarray:
        """Density and its gradient (g, 4) at points (g, 3)."""
        return _many(np.ascontiguousarray(points), *self.tables)


@njit
def _density(x, y, z, atoms, atom, degree, first, exponent, factor, function, orbitals, psi, out):
    """Density and gradient at a point, into out (4,); psi (4, n) is work space."""
    n = orbitals.shape[1]
    for k in range(4):
        for i in range(n):
            psi[k, i] = 0.0
    for s in range(len(atom)):
        dx, dy, dz = x - atoms[atom[s], 0], y - atoms[atom[s], 1], z - atoms[atom[s], 2]
        r2 = dx * dx + dy * dy + dz * dz
        radial, slope = 0.0, 0.0
        for p in range(first[s], first[s + 1]):
            t = exponent[p] * r2
            if t < _FAR:
                e = factor[p] * np.exp(-t)
                radial += e
                slope -= 2 * exponent[p] * e
        if radial == 0.0:
            continue
        l, m = degree[s], function[s]  # noqa: E741
        for a in range(l, -1, -1):
            for b in range(l - a, -1, -1):
                c = l - a - b
                xa, yb, zc = dx**a, dy**b, dz**c
                value = xa * yb * zc
                gx, gy, gz = value * slope * dx, value * slope * dy, value * slope * dz
                if a:
                    gx += a * dx ** (a - 1) * yb * zc * radial
                if b:
                    gy += b * dy ** (b - 1) * xa * zc * radial
                if c:
                    gz += c * dz ** (c - 1) * xa * yb * radial
                value *= radial
                for i in range(n):
                    q = orbitals[m, i]
                    psi[0, i] += q * value
                    psi[1, i] += q * gx
                    psi[2, i] += q * gy
                    psi[3, i] += q * gz
                m += 1
    for k in range(4):
        total = 0.0
        for i in range(n):
            total += psi[0, i] * psi[k, i]
        out[k] = total if k == 0 else 2 * total


@njit
def _many(points, *tables):
    psi, out = np.empty((4, tables[-1].shape[1])), np.empty((len(points), 4))
    for g in range(len(points)):
        _density(points[g, 0], points[g, 1], points[g, 2], *tables, psi, out[g])
    return out


@njit
def _direction(x, tables, psi, out, direction):
    """Unit vector of the gradient; returns its length relative to the density."""
    _density(x[0], x[1], x[2], *tables, psi, out)
    length = np.sqrt(out[1] ** 2 + out[2] ** 2 + out[3] ** 2)
    for k in range(3):
        direction[k] = out[k + 1] / (length + 1e-300)
    return length / (out[0] + 1e-300)


@njit
def _arrived(x, atoms, radius):
    for i in range(len(atoms)):
        d2 = 0.0
        for k in range(3):
            d2 += (x[k] - atoms[i, k]) ** 2
        if d2 < radius[i] ** 2:
            return i
    return -1


@njit
def destination(start, radius, tables, work):
    """Atom in whose sphere the path of steepest ascent from a point ends, -1 if in none.

    Bogacki and Shampine's pair of orders 3 and 2 along the path's length, Appl. Math. Lett. 1989,
    2, 321.
    """
    psi, out, k1, k2, k3, k4, x, y = work
    atoms = tables[0]
    x[:] = start
    step = 0.1
    _direction(x, tables, psi, out, k1)
    for _ in range(_MOST_STEPS):
        found = _arrived(x, atoms, radius)
        if found >= 0:
            return found
        for k in range(3):
            y[k] = x[k] + 0.5 * step * k1[k]
        _direction(y, tables, psi, out, k2)
        for k in range(3):
            y[k] = x[k] + 0.75 * step * k2[k]
        _direction(y, tables, psi, out, k3)
        for k in range(3):
            y[k] = x[k] + step * (2 * k1[k] + 3 * k2[k] + 4 * k3[k]) / 9
        _direction(y, tables, psi, out, k4)
        error = 0.0
        for k in range(3):
            d = -5 * k1[k] / 72 + k2[k] / 12 + k3[k] / 9 - k4[k] / 8
            error += d * d
        error = step * np.sqrt(error)
        if error < _ERROR or step < 1e-4:
            x[:] = y
            k1[:] = k4
        step *= min(4.0, max(0.2, 0.9 * (_ERROR / (error + 1e-12)) ** (1 / 3)))
        step = min(step, 0.8)
    return -1


@njit
def workspace(n):
    """Arrays that `destination` writes to, for n orbitals."""
    return (
        np.empty((4, n)), np.empty(4), np.empty(3), np.empty(3), np.empty(3), np.empty(3),
        np.empty(3), np.empty(3),
    )


@njit
def crossings(origin, directions, atom, scan, radius, tables, tolerance):
    """Where rays from a nucleus leave and enter its atom.

    Parameters
    ----------
    origin : (3,) array
        The nucleus.
    directions : (R, 3) array
        Unit vectors.
    atom : int
        Its index.
    scan : (S,) array
        Distances at which the atom is looked up, ascending, from inside its sphere.
    radius : (N,) array
        Spheres of `destination`.
    tables : tuple
        Of `PointDensity`.
    tolerance : float
        Of a crossing (bohr).

    Returns
    -------
    (R, 7) array
        Number of crossings (at most 6), and their distances.
    """
    found = np.zeros((len(directions), 7))
    work, point = workspace(tables[-1].shape[1]), np.empty(3)
    for d in range(len(directions)):
        inside, count = True, 0
        for s in range(1, len(scan)):
            for k in range(3):
                point[k] = origin[k] + scan[s] * directions[d, k]
            now = destination(point, radius, tables, work) == atom
            if now == inside:
                continue
            low, high = scan[s - 1], scan[s]
            while high - low > tolerance:
                middle = 0.5 * (low + high)
                for k in range(3):
                    point[k] = origin[k] + middle * directions[d, k]
                if (destination(point, radius, tables, work) == atom) == inside:
                    low = middle
                else:
                    high = middle
            if count < 6:
                count += 1
                found[d, count] = 0.5 * (low + high)
            inside = now
        found[d, 0] = count
    return found
