r"""A molecule's density as a spline, for the many gradients that paths of steepest ascent take.

The logarithm of the density over that of free atoms at the same places,

.. math:: \ln \rho(r) = \ln \sum_A \rho_A(|r - r_A|) + g(r)

leaves a smooth g, of which cubic splines on meshes, a finer one near each nucleus, give the
slope to 1e-4 per bohr at a fraction of the price of the orbitals.
"""

import numpy as np
from scipy.ndimage import spline_filter

from ase_fflux.base.jit import njit
from ase_fflux.labels.partition.fuzzy import free_atom

SPACING, MARGIN = 0.16, 5.0
"""bohr; mesh, and its reach beyond the nuclei. Further out g is as at its border."""
_NEAR, _WITHIN = (1.4, 0.07), 1.1
"""bohr; half an edge and spacing of a finer mesh around every nucleus, and where it is used:
surfaces between atoms of unlike charge lie at the core of the positive one."""
_ATOM_STEP, _ATOM_END = 0.01, 30.0
"""bohr; table of free atoms."""


class SplineDensity:
    """Logarithm of the density and its slope at single points.

    Parameters
    ----------
    densities : MolecularDensities
    spacing : float
        Of the mesh (bohr).

    Attributes
    ----------
    tables : tuple of arrays
        What `log_slope` takes.
    log_density : (x, y, z) array
        At the points of the mesh.
    """

    def __init__(self, densities, spacing: float = SPACING):
        atoms = densities.atoms
        low = atoms.min(axis=0) - MARGIN
        counts = np.ceil((atoms.max(axis=0) + MARGIN - low) / spacing).astype(int) + 1
        free = (atoms, *_free_atoms(densities))
        self.log_density, mesh = _mesh(densities, free, low, counts, spacing)
        counts = np.full(3, int(2 * _NEAR[0] / _NEAR[1]) + 1)
        corners = atoms - _NEAR[1] * (counts[0] - 1) / 2
        near = np.array([_mesh(densities, free, x, counts, _NEAR[1])[1] for x in corners])
        self.tables = (*free, low, spacing, mesh, corners, near)

    def slope(self, points: np.ndarray) -> np.ndarray:
        """Gradient (g, 3) of the density's logarithm."""
        return _many(np.ascontiguousarray(points), self.tables)


def _mesh(densities, free, low, counts, spacing):
    """Logarithm of the density at a mesh, and the spline's coefficients of g."""
    logarithms, values = np.empty(counts), np.empty(counts)
    y, z = (low[k] + spacing * np.arange(counts[k]) for k in (1, 2))
    sheet = np.stack(np.meshgrid(y, z, indexing="ij"), axis=-1).reshape(-1, 2)
    for i in range(counts[0]):
        points = np.column_stack([np.full(len(sheet), low[0] + spacing * i), sheet])
        rho = np.maximum(densities.electrons(points), 1e-60)
        logarithms[i] = np.log(rho).reshape(counts[1:])
        values[i] = logarithms[i] - _log_free(points, *free).reshape(counts[1:])
    return logarithms, np.ascontiguousarray(spline_filter(values, 3, mode="mirror"))


def _free_atoms(densities) -> tuple[np.ndarray, np.ndarray]:
    """Kind of each atom, and each kind's logarithm of the density with slopes, (kinds, 2, n)."""
    r = np.arange(0, _ATOM_END, _ATOM_STEP)
    kinds, tables, known = [], [], {}
    for atom in range(len(densities.atoms)):
        symbol = densities.mol.atom_symbol(atom)
        if symbol not in known:
            known[symbol] = len(tables)
            spline = free_atom(densities.mol, atom)
            tables.append([spline(r), spline(r, 1) * _ATOM_STEP])
        kinds.append(known[symbol])
    return np.array(kinds), np.array(tables)


@njit
def _free(x, y, z, atoms, kinds, tables, out):
    """Density of free atoms and its gradient, into out (4,)."""
    for k in range(4):
        out[k] = 0.0
    last = tables.shape[2] - 2
    for a in range(len(atoms)):
        dx, dy, dz = x - atoms[a, 0], y - atoms[a, 1], z - atoms[a, 2]
        r = np.sqrt(dx * dx + dy * dy + dz * dz) + 1e-12
        u = r / _ATOM_STEP
        n = min(int(u), last)
        t = min(u - n, 1.0)
        row = tables[kinds[a]]
        v0, v1, s0, s1 = row[0, n], row[0, n + 1], row[1, n], row[1, n + 1]
        # Hermite's cubic
        c2, c3 = 3 * (v1 - v0) - 2 * s0 - s1, 2 * (v0 - v1) + s0 + s1
        rho = np.exp(v0 + t * (s0 + t * (c2 + t * c3)))
        slope = rho * (s0 + t * (2 * c2 + 3 * t * c3)) / (_ATOM_STEP * r)
        out[0] += rho
        out[1] += slope * dx
        out[2] += slope * dy
        out[3] += slope * dz


@njit
def _log_free(points, atoms, kinds, tables):
    out, work = np.empty(len(points)), np.empty(4)
    for g in range(len(points)):
        _free(points[g, 0], points[g, 1], points[g, 2], atoms, kinds, tables, work)
        out[g] = np.log(work[0] + 1e-60)
    return out


@njit
def log_slope(x, tables, out):
    """Gradient of the density's logarithm at x (3,), into out (4,) from its second place on."""
    atoms, kinds, free, low, spacing, mesh, corners, near = tables
    _free(x[0], x[1], x[2], atoms, kinds, free, out)
    for k in range(3):
        out[k + 1] /= out[0] + 1e-300
    closest, least = -1, _WITHIN
    for a in range(len(atoms)):
        d = max(abs(x[0] - atoms[a, 0]), abs(x[1] - atoms[a, 1]), abs(x[2] - atoms[a, 2]))
        if d < least:
            closest, least = a, d
    if closest >= 0:
        _add_slope(x, corners[closest], _NEAR[1], near[closest], out)
    else:
        _add_slope(x, low, spacing, mesh, out)


@njit
def _add_slope(x, low, spacing, mesh, out):
    """Add a spline's slope; outside of its mesh it is constant across the border."""
    w, d = np.empty((3, 4)), np.empty((3, 4))
    first = np.empty(3, dtype=np.int64)
    for k in range(3):
        u = (x[k] - low[k]) / spacing
        n = min(max(int(u), 1), mesh.shape[k] - 3)
        t = min(max(u - n, 0.0), 1.0)
        first[k] = n - 1
        s = 1 - t
        w[k, 0], w[k, 1] = s * s * s / 6, (4 - 6 * t * t + 3 * t * t * t) / 6
        w[k, 2], w[k, 3] = (4 - 6 * s * s + 3 * s * s * s) / 6, t * t * t / 6
        h = 1 / spacing if 0 <= u - n <= 1 else 0.0
        d[k, 0], d[k, 1] = -0.5 * s * s * h, (1.5 * t * t - 2 * t) * h
        d[k, 2], d[k, 3] = (2 * s - 1.5 * s * s) * h, 0.5 * t * t * h
    for i in range(4):
        gx, gy, gz = 0.0, 0.0, 0.0
        for j in range(4):
            value, slope = 0.0, 0.0
            for k in range(4):
                c = mesh[first[0] + i, first[1] + j, first[2] + k]
                value += w[2, k] * c
                slope += d[2, k] * c
            gx += w[1, j] * value
            gy += d[1, j] * value
            gz += w[1, j] * slope
        out[1] += d[0, i] * gx
        out[2] += w[0, i] * gy
        out[3] += w[0, i] * gz


@njit
def _many(points, tables):
    out, row = np.empty((len(points), 3)), np.empty(4)
    for g in range(len(points)):
        log_slope(points[g], tables, row)
        out[g] = row[1:]
    return out
