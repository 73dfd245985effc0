r"""Rays around a nucleus, and the shares that the basins of the density have in their points.

Along a ray the integrand is the polynomial through the nodes of a piece, and a basin that has the
part from a to b of the piece gets the polynomial's integral from a to b. So densities are wanted at
fixed points only, and shares of all basins at a point sum to one.

Across rays, densities times a smooth weight are well described by the spherical harmonics that the
directions of the points resolve, but basins have edges. Their shares are found on many more
directions s, for gradient paths are cheap, and projected on those harmonics,

.. math:: W_{Aj} = w_j \sum_s w_s \sum_{l=0}^{L} (2l + 1) P_l(s \cdot j)\, W_{As},

which is the integral of the interpolated density over the basin, not a sample of it.
"""

import numpy as np
from pyscf.dft.gen_grid import LEBEDEV_ORDER, MakeAngularGrid

from ase_fflux.labels.partition.gradient_paths import crossings, destinations

EDGES = np.array([0.35, 0.8, 1.3, 1.9, 2.6, 3.4, 4.5, 6.0, 8.5, 12.0])
"""bohr; a piece of a ray from edge to edge has a Gauss-Legendre rule of its own."""
NODES = 8
"""Points of a piece."""
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(NODES)
_CORE = 40, 50
"""Radial and angular points from the nucleus to the first edge."""


def core(radius: float) -> tuple[np.ndarray, np.ndarray]:
    """Points (g, 3) about the origin and weights (g,) inside a sphere, dense near its centre."""
    nodes, weights = np.polynomial.legendre.leggauss(_CORE[0])
    t = 0.5 * (nodes + 1)
    r, w = radius * t**3, 0.5 * weights * 3 * t**2 * radius
    angular = MakeAngularGrid(_CORE[1])
    points = (r[:, None, None] * angular[:, :3]).reshape(-1, 3)
    return points, (4 * np.pi * (w * r**2)[:, None] * angular[:, 3]).ravel()


class Rays:
    """Points on rays around a nucleus.

    Parameters
    ----------
    start : float
        Where rays begin (bohr).
    directions : int
        Size of a rule of Lebedev's.

    Attributes
    ----------
    r : (n,) array
        Nodes of every ray (bohr).
    points : (d, n, 3) array
        About the nucleus.
    weights : (d, n) array
        In bohr^3.
    """

    def __init__(self, start: float, directions: int):
        self._edges = np.concatenate([[start], EDGES[EDGES > start + 0.2]])
        half, middle = np.diff(self._edges) / 2, (self._edges[:-1] + self._edges[1:]) / 2
        self.r = (middle[:, None] + half[:, None] * _NODES).ravel()
        self._angular = MakeAngularGrid(directions)
        self.points = self._angular[:, None, :3] * self.r[:, None]
        widths = (half[:, None] * _WEIGHTS).ravel()
        self.weights = 4 * np.pi * self._angular[:, 3:] * self.r**2 * widths
        degrees = {n: degree for degree, n in LEBEDEV_ORDER.items()}
        self._rank = degrees[directions] // 2

    def shares(self, origin, directions: int, pieces: int, n: int, paths: tuple) -> np.ndarray:
        """Shares of n basins in the points of the first pieces of the rays.

        Parameters
        ----------
        origin : (3,) array
            The nucleus.
        directions : int
            Size of the rule of Lebedev's on which basins are told apart.
        pieces : int
        n : int
            Number of atoms.
        paths : tuple
            What `destinations` takes after the points.

        Returns
        -------
        (n, d, nodes) array
        """
        fine = MakeAngularGrid(directions)
        r = self.r[: pieces * NODES]
        found = self._found(origin, fine[:, :3], r, n, paths)
        kernel = _projector(self._angular[:, :3] @ fine[:, :3].T, self._rank) * fine[:, 3]
        return np.array([kernel @ share for share in found])

    def _found(self, origin, directions, r, n, paths):
        """Shares (n, d, nodes) on rays of their own, from gradient paths and bisection."""
        points = origin + directions[:, None] * r[:, None]
        shape = points.shape[:2]
        owner = destinations(points.reshape(-1, 3), *paths).reshape(shape)
        if (owner < 0).any():
            # a path that ends on a saddle: its point lies between atoms, and is its nearest one's
            lost = points[owner < 0]
            owner[owner < 0] = np.linalg.norm(lost[:, None] - paths[1][0], axis=2).argmin(axis=1)
        shares = np.zeros((n, shape[0], shape[1] // NODES, NODES))
        for a in range(n):
            shares[a] = (owner == a).reshape(shares.shape[1:])
        d, i = np.nonzero(owner[:, :-1] != owner[:, 1:])
        inner, outer = owner[d, i], owner[d, i + 1]
        part = crossings(points[d, i], points[d, i + 1], inner, *paths)
        at = r[i] + part * (r[i + 1] - r[i])
        piece = np.searchsorted(self._edges, at) - 1
        # in a piece with crossings the atom at its end has all, until others get theirs
        last = owner.reshape(*shares.shape[1:])[:, :, -1].copy()
        beyond = (i % NODES == NODES - 1) & (piece == i // NODES)
        last[d[beyond], piece[beyond]] = outer[beyond]
        touched = np.unique(np.stack([d, piece]), axis=1)
        shares[:, touched[0], touched[1]] = 0
        shares[last[touched[0], touched[1]], touched[0], touched[1]] = 1
        low, high = self._edges[piece], self._edges[piece + 1]
        until = _integrals(2 * (at - low) / (high - low) - 1) / _WEIGHTS
        np.add.at(shares, (inner, d, piece), until)
        np.add.at(shares, (outer, d, piece), -until)
        return shares.reshape(n, *shape)


def _projector(cosines: np.ndarray, rank: int) -> np.ndarray:
    """sum_l (2 l + 1) P_l up to a rank."""
    before, now = np.ones_like(cosines), cosines
    total = before + 3 * now
    for degree in range(1, rank):
        before, now = now, ((2 * degree + 1) * cosines * now - degree * before) / (degree + 1)
        total += (2 * degree + 3) * now
    return total


def _integrals(x: np.ndarray) -> np.ndarray:
    """Integrals (c, nodes) from -1 to x (c,) of the Lagrange polynomials of the nodes."""
    columns = []
    for node in _NODES:
        others = _NODES[node != _NODES]
        integral = (np.poly1d(others, r=True) / np.prod(node - others)).integ()
        columns.append(integral(x) - integral(-1.0))
    return np.stack(columns, axis=-1)
