r"""The energy of a converged Kohn-Sham calculation as a density in space.

AIMAll's atomic energy, E_IQA(A) = T(A) + Vneen(A,Mol)/2 + VeeC(A) + VeeX(A) + Vnn(A,Mol)/2, is an
integral over the atom of

.. math:: e(r) = t(r) + \rho \left(\tfrac12 v_{nuc} + \tfrac12 v_J\right) + f_{xc}(r) + a\,x(r)

and a constant of each nucleus: half of its energy in the field of all electrons and other nuclei.
v_J is the potential of all electrons, f_xc the functional, and x the density of exact exchange,

.. math:: x(r) = -\sum_{ij} \psi_i \psi_j(r) \int \frac{\psi_i \psi_j(r')}{|r - r'|} dr' .

With density fitting the potentials are those of the fitted densities, so that the integrals over
all space are the energies of the calculation itself, not only approximately.

Kinetic energy: the positive definite t = 1/2 sum |grad psi|^2, which does not differ from the other
form -1/2 psi lap psi after integration over topological atoms, and which numbers hold better.
"""

from dataclasses import dataclass

import numpy as np
from scipy.linalg import solve_triangular

from ase_fflux.labels.partition.potentials import GaussianPotentials

_BLOCK = 1024
"""Points per block."""


@dataclass(frozen=True)
class Densities:
    """Values at points: electrons (e/bohr^3) and energy (hartree/bohr^3) per volume."""

    electrons: np.ndarray
    energy: np.ndarray
    laplacian: np.ndarray | None = None


class MolecularDensities:
    """Densities of a converged closed-shell calculation with density fitting.

    Parameters
    ----------
    mf : pyscf RKS or RHF
        Converged, with ``with_df``.

    Attributes
    ----------
    nuclear : (N,) array
        The constant part of each atom's energy (hartree).
    total : float
        Total energy (hartree), to which atoms must sum.
    """

    def __init__(self, mf):
        mol = self.mol = mf.mol
        self._mf = mf
        self.total = float(mf.e_tot)
        occupied = mf.mo_occ > 0
        self.orbitals = mf.mo_coeff[:, occupied] * np.sqrt(mf.mo_occ[occupied] / 2)
        self.atoms, self.charges = mol.atom_coords(), mol.atom_charges().astype(float)
        self._xc = getattr(mf, "xc", "HF")
        self._ni = mf._numint if hasattr(mf, "_numint") else None
        self._kind = self._ni._xc_type(self._xc) if self._ni else "HF"
        self._hybrid = self._ni.hybrid_coeff(self._xc, spin=0) if self._ni else 1.0
        auxmol = mf.with_df.auxmol
        self._potentials = GaussianPotentials(auxmol)
        self._fit(mf.with_df, auxmol)
        self.nuclear = self._nuclear_part()

    def _fit(self, with_df, auxmol) -> None:
        """Coefficients of the fitted density, and of the products of occupied orbitals."""
        n = self.orbitals.shape[1]
        self._pairs = np.tril_indices(n)
        pairs = []
        for chunk in with_df.loop():
            full = _unpacked(chunk, len(self.orbitals))
            half = np.tensordot(full, self.orbitals, axes=(2, 0))
            products = np.einsum("pmi,mj->pij", half, self.orbitals, optimize=True)
            pairs.append(products[:, self._pairs[0], self._pairs[1]])
        metric = auxmol.intor("int2c2e")
        lower = np.linalg.cholesky(metric)
        # the integrals were divided by the metric's Cholesky factor; divide by its transpose too
        fitted = solve_triangular(lower, np.concatenate(pairs), lower=True, trans="T")
        diagonal = self._pairs[0] == self._pairs[1]
        self._coulomb = 2 * fitted[:, diagonal].sum(axis=1)
        self._exchange = np.ascontiguousarray(fitted.T)
        self._weights = np.where(diagonal, 1.0, 2.0)

    def _nuclear_part(self) -> np.ndarray:
        """Half of each nucleus' energy in the field of electrons and other nuclei."""
        density = 2 * self.orbitals @ self.orbitals.T
        electrons = np.empty(len(self.atoms))
        for i, position in enumerate(self.atoms):
            with self.mol.with_rinv_origin(position):
                electrons[i] = np.einsum("mn,mn", self.mol.intor("int1e_rinv"), density)
        distances = np.linalg.norm(self.atoms[:, None] - self.atoms, axis=-1)
        np.fill_diagonal(distances, np.inf)
        repulsion = (self.charges / distances).sum(axis=1)
        return 0.5 * self.charges * (repulsion - electrons)

    def electrons(self, points: np.ndarray) -> np.ndarray:
        """Electron density (g,) at points (g, 3) in bohr."""
        out = np.empty(len(points))
        for start in range(0, len(points), 4 * _BLOCK):
            block = slice(start, start + 4 * _BLOCK)
            psi = self.orbitals.T @ self.mol.eval_gto("GTOval", points[block]).T
            out[block] = 2 * np.einsum("ig,ig->g", psi, psi)
        return out

    def slopes(self, points: np.ndarray) -> np.ndarray:
        """Gradient (g, 3) of the electron density at points (g, 3) in bohr."""
        name = "GTOval_ip_cart" if self.mol.cart else "GTOval_ip_sph"
        psi = self.mol.eval_gto("GTOval", points) @ self.orbitals
        slopes = self.mol.eval_gto(name, points) @ self.orbitals
        return 4 * np.einsum("gi,kgi->gk", psi, slopes)

    def at(self, points: np.ndarray, laplacian: bool = False) -> Densities:
        """All densities at points (g, 3) in bohr."""
        parts = []
        for start in range(0, len(points), _BLOCK):
            parts.append(self._block(points[start:start + _BLOCK], laplacian))
        return Densities(*(
            None if parts[0][k] is None else np.concatenate([part[k] for part in parts])
            for k in range(3)
        ))

    def _block(self, points, laplacian):
        name = "GTOval_cart_deriv" if self.mol.cart else "GTOval_sph_deriv"
        ao = self.mol.eval_gto(name + ("2" if laplacian else "1"), points).transpose(0, 2, 1)
        c = self.orbitals.T
        psi = np.array([c @ ao[k] for k in range(4)])
        rho = np.empty((5, len(points)))
        rho[0] = 2 * np.einsum("ig,ig->g", psi[0], psi[0])
        for k in range(1, 4):
            rho[k] = 4 * np.einsum("ig,ig->g", psi[0], psi[k])
        kinetic = rho[4] = np.einsum("kig,kig->g", psi[1:], psi[1:])
        energy = kinetic.copy()
        distances = np.linalg.norm(points[:, None] - self.atoms, axis=-1)
        potential = self._potentials.at(points)
        field = self._coulomb @ potential - (1 / distances) @ self.charges
        energy += 0.5 * rho[0] * field
        if self._ni is not None and self._kind != "HF":
            columns = {"LDA": rho[0], "GGA": rho[:4], "MGGA": rho}[self._kind]
            energy += rho[0] * self._ni.eval_xc_eff(
                self._xc, columns, deriv=0, xctype=self._kind, spin=0
            )[0]
        if self._hybrid:
            products = psi[0][self._pairs[0]] * psi[0][self._pairs[1]]
            products *= self._weights[:, None]
            energy -= self._hybrid * np.einsum(
                "pg,pg->g", products, self._exchange @ potential
            )
        curvature = None
        if laplacian:
            second = c @ (ao[4] + ao[7] + ao[9])
            curvature = 4 * (np.einsum("ig,ig->g", psi[0], second) + kinetic)
        return rho[0], energy, curvature


def _unpacked(triangles: np.ndarray, n: int) -> np.ndarray:
    """Lower triangles (p, n (n + 1) / 2) as symmetric matrices (p, n, n)."""
    full = np.empty((len(triangles), n, n))
    rows, columns = np.tril_indices(n)
    full[:, rows, columns] = triangles
    full[:, columns, rows] = triangles
    return full
