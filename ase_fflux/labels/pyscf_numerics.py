"""Exchange-correlation of small molecules on large grids: PySCF's integrals with dense products.

PySCF evaluates atomic orbitals on the grid again in every cycle and skips what is far away, which
pays for large molecules. For a dozen atoms it is many times faster to keep the orbitals on the grid
and to multiply dense blocks by occupied orbitals. The numbers are the same.

The gradient includes the response of the grid, points and Becke weights alike, so that it is the
derivative of the energy that the same grid gives, and forces sum to zero.
"""

import numpy as np
from pyscf import dft, lib
from pyscf.df.grad import rks as df_rks_gradient

from ase_fflux.base.jit import njit

_BLOCK = 512
"""Grid points per product; a block of orbitals and their slopes stays in the cache."""


class DenseNumInt(dft.numint.NumInt):
    """Numerical integration for closed shells, LDA and GGA (hybrids too), orbitals kept.

    Other functionals are left to PySCF.

    Parameters
    ----------
    memory : float
        Megabytes that kept orbitals may fill; beyond them they are evaluated again in every cycle.

    Attributes
    ----------
    correction : (AOs, AOs) array or None
        Added to every potential matrix, with its energy.
    """

    def __init__(self, memory: float):
        super().__init__()
        self._kept, self._memory = {}, memory
        self.correction = None

    def _blocks(self, mol, grids):
        """Orbitals with their slopes, (4, AOs, points), and weights, block by block."""
        points = grids.coords
        if 32e-6 * mol.nao * len(points) > self._memory:
            for start in range(0, len(points), _BLOCK):
                block = slice(start, start + _BLOCK)
                ao = self.eval_ao(mol, points[block], deriv=1)
                yield np.ascontiguousarray(ao.transpose(0, 2, 1)), grids.weights[block]
            return
        if id(grids) not in self._kept:
            self._kept[id(grids)] = self.eval_ao(mol, points, deriv=1).transpose(0, 2, 1)
        orbitals = self._kept[id(grids)]
        for start in range(0, len(points), _BLOCK):
            block = slice(start, start + _BLOCK)
            yield orbitals[:, :, block], grids.weights[block]

    def nr_rks(self, mol, grids, xc_code, dms, relativity=0, hermi=1, max_memory=2000,
               verbose=None):
        """Electrons, energy and potential matrix, as PySCF's own."""
        kind = self._xc_type(xc_code)
        if grids.coords is None:
            grids.build()
        if kind in ("LDA", "GGA"):
            n, e, potential = self._integrate(mol, grids, xc_code, dms, kind)
        else:
            n, e, potential = super().nr_rks(
                mol, grids, xc_code, dms, relativity, hermi, max_memory, verbose
            )
        if self.correction is not None:
            potential = potential + self.correction
            e += np.einsum("mn,mn", dms, self.correction)
        return n, e, potential

    def _integrate(self, mol, grids, xc_code, dm, kind):
        factors = _factors(dm)
        n, e, potential = 0.0, 0.0, np.zeros(dm.shape)
        weighted = np.empty((len(dm), _BLOCK))
        for ao, weights in self._blocks(mol, grids):
            rho = _density(ao, factors, kind)
            energy, slope = self.eval_xc_eff(xc_code, rho, deriv=1, xctype=kind, spin=0)[:2]
            charge = rho[0] * weights
            n += charge.sum()
            e += charge @ energy
            w = weights * slope
            w[0] *= 0.5
            _weigh(ao, w, weighted)
            potential += ao[0] @ weighted[:, :len(weights)].T
        return n, e, potential + potential.T


@njit
def _weigh(ao, w, out):
    """out = sum_k w_k ao_k, of shapes (AOs, points), (k, points) and (k, AOs, points)."""
    for m in range(ao.shape[1]):
        if w.shape[0] == 1:
            for g in range(ao.shape[2]):
                out[m, g] = w[0, g] * ao[0, m, g]
        else:
            for g in range(ao.shape[2]):
                out[m, g] = (
                    w[0, g] * ao[0, m, g] + w[1, g] * ao[1, m, g]
                    + w[2, g] * ao[2, m, g] + w[3, g] * ao[3, m, g]
                )


def _factors(dm) -> tuple[np.ndarray, np.ndarray | None]:
    """Columns whose squares make the density matrix, (AOs, n), and signs (n,) if not all 1."""
    occupation = getattr(dm, "mo_occ", None)
    if occupation is not None and np.ndim(occupation) == 1:
        occupied = occupation > 0
        return dm.mo_coeff[:, occupied] * np.sqrt(occupation[occupied]), None
    values, vectors = np.linalg.eigh(dm)
    large = np.abs(values) > 1e-14 * np.abs(values).max()
    return vectors[:, large] * np.sqrt(np.abs(values[large])), np.sign(values[large])


def _density(ao, factors, kind: str) -> np.ndarray:
    """Density, and for a GGA its gradient, (1 or 4, points)."""
    columns, signs = factors
    psi = columns.T @ ao[0]
    signed = psi if signs is None else signs[:, None] * psi
    rho = np.zeros((4 if kind == "GGA" else 1, ao.shape[2]))
    np.einsum("ig,ig->g", signed, psi, out=rho[0])
    for k in range(1, len(rho)):
        rho[k] = 2 * np.einsum("ig,ig->g", signed, columns.T @ ao[k])
    return rho


def density_fitted(mol, functional: str, auxbasis: str | None = None):
    """PySCF's RKS with density fitting, without the file of orbitals that it keeps open."""
    mf = dft.RKS(mol, xc=functional)
    mf._chkfile.close()
    mf._chkfile = mf.chkfile = None
    return mf.density_fit(auxbasis=auxbasis)


def converge(mf, guess, fine, coarse, tolerance: float = 1e-6, rounds: int = 6) -> bool:
    """Converge a closed-shell calculation on a fine grid, at the price of a coarse one.

    The fine grid enters as the difference between its potential and the coarse one's at the last
    density, kept constant while the coarse grid finds the next one. Two rounds do as a rule.

    Parameters
    ----------
    mf : RKS
        With a `DenseNumInt`. On return energy, orbitals and grid are those of the fine grid.
    guess : (AOs, AOs) array
        Density matrix to start from.
    fine, coarse : Grids
        Built.
    tolerance : float
        Norm of the orbital gradient on the fine grid (hartree).
    rounds : int
        At most.
    """
    ni = mf._numint
    for _ in range(rounds):
        mf.grids = coarse
        mf.kernel(dm0=guess)
        if not mf.converged:
            break
        guess = mf.make_rdm1()
        ni.correction, mf.grids = None, fine
        veff = mf.get_veff(dm=guess)
        fock = mf.get_fock(vhf=veff, dm=guess)
        if np.linalg.norm(mf.get_grad(mf.mo_coeff, mf.mo_occ, fock)) < tolerance:
            mf.e_tot = mf.energy_tot(dm=guess, vhf=veff)
            mf.mo_energy = np.einsum("mi,mn,ni->i", mf.mo_coeff, fock, mf.mo_coeff)
            return True
        mf.grids = coarse
        ni.correction = np.asarray(veff) - np.asarray(mf.get_veff(dm=guess))
    mf.converged = False
    return False


def newton(mf, fine, tolerance: float) -> None:
    """Second-order iteration on the fine grid, where the first-order one fails."""
    mf._numint.correction, mf.grids, mf.level_shift = None, fine, 0
    second = mf.newton()
    second.verbose, second.conv_tol, second.conv_tol_grad = 0, 1e-10, tolerance
    second.kernel(mf.mo_coeff, mf.mo_occ)
    for name in ("mo_coeff", "mo_occ", "mo_energy", "e_tot", "converged"):
        setattr(mf, name, getattr(second, name))


def xc_gradient(mf) -> np.ndarray:
    """Derivative of a converged closed-shell calculation's functional energy, grid response in.

    Returns
    -------
    (N, 3) array
        Hartree/bohr, without exact exchange.
    """
    mol, ni, grids = mf.mol, mf._numint, mf.grids
    kind = ni._xc_type(mf.xc)
    if kind == "HF":
        return np.zeros((mol.natm, 3))
    columns, _ = _factors(mf.make_rdm1())
    owner = np.repeat(np.arange(mol.natm), np.diff(mol.aoslice_by_atom()[:, 2:])[:, 0])
    gradient = np.zeros((mol.natm, 3))
    atoms, shift = mol.atom_coords(), _cell_shifts(mol, grids)
    shells = grids.gen_atomic_grids(
        mol, grids.atom_grid, grids.radi_method, grids.level, grids.prune
    )
    for atom in range(mol.natm):
        points, volumes = shells[mol.atom_symbol(atom)]
        points = points + atoms[atom]
        weights = volumes * becke_shares(points, atoms, shift, atom)
        moved, integrand = np.zeros((mol.nao, 3)), np.empty(len(points))
        for start in range(0, len(weights), _BLOCK):
            block = slice(start, start + _BLOCK)
            ao = ni.eval_ao(mol, points[block], deriv=2 if kind == "GGA" else 1)
            ao = np.ascontiguousarray(ao.transpose(0, 2, 1))
            rho = _density(ao, (columns, None), kind)
            energy, slope = ni.eval_xc_eff(mf.xc, rho, deriv=1, xctype=kind, spin=0)[:2]
            w = np.zeros((4, ao.shape[2]))
            w[:len(slope)] = weights[block] * slope
            spread = [columns @ (columns.T @ ao[k]) for k in range(len(slope))]
            mixed = sum(w[k] * spread[k] for k in range(len(slope)))
            _add_moved(ao, w, spread[0], mixed, moved)
            integrand[block] = rho[0] * energy * volumes[block]
        moved *= 2
        np.add.at(gradient, owner, -moved)
        gradient[atom] += moved.sum(axis=0)
        _add_share_slopes(points, atoms, shift, atom, integrand, gradient)
    return gradient


def _cell_shifts(mol, grids) -> np.ndarray:
    """Shifts (N, N) of the boundaries between atoms by their radii: Becke 1988, eq. (A5)."""
    radius = grids.atomic_radii[mol.atom_charges()]
    if grids.radii_adjust is dft.radi.treutler_atomic_radii_adjust:
        radius = np.sqrt(radius)
    elif grids.radii_adjust is not dft.radi.becke_atomic_radii_adjust:
        return np.zeros((mol.natm, mol.natm))
    ratio = (radius[:, None] + 1e-200) / (radius + 1e-200)
    return np.clip(0.25 * (ratio.T - ratio), -0.5, 0.5)


@njit
def _step(nu):
    """Becke's cell function s and its logarithm's slope ds/s."""
    p1 = 0.5 * nu * (3 - nu * nu)
    p2 = 0.5 * p1 * (3 - p1 * p1)
    p3 = 0.5 * p2 * (3 - p2 * p2)
    s = 0.5 * (1 - p3)
    if s < 1e-60:
        return 0.0, 0.0
    slope = -27 / 16 * (1 - p2 * p2) * (1 - p1 * p1) * (1 - nu * nu)
    return s, slope / s


@njit
def becke_shares(points, atoms, shift, owner):
    """Share of an atom in space at points (g, 3): Becke, J. Chem. Phys. 1988, 88, 2547."""
    n = len(atoms)
    out = np.empty(len(points))
    distance, cell = np.empty(n), np.empty(n)
    for g in range(len(points)):
        for i in range(n):
            distance[i] = np.sqrt(((points[g] - atoms[i]) ** 2).sum())
            cell[i] = 1.0
        for i in range(n):
            for j in range(i):
                mu = (distance[i] - distance[j]) / np.sqrt(((atoms[i] - atoms[j]) ** 2).sum())
                s = _step(mu + shift[i, j] * (1 - mu * mu))[0]
                cell[i] *= s
                cell[j] *= 1 - s
        out[g] = cell[owner] / cell.sum()
    return out


@njit
def _add_share_slopes(points, atoms, shift, owner, integrand, gradient):
    """Add to gradient (N, 3) the integral of integrand times the slope of `becke_shares`.

    The points move with their atom, so that the slopes by all atoms sum to zero.
    """
    n = len(atoms)
    length = np.ones((n, n))
    for i in range(n):
        for j in range(n):
            if i != j:
                length[i, j] = np.sqrt(((atoms[i] - atoms[j]) ** 2).sum())
    distance, cell = np.empty(n), np.empty(n)
    unit, slope, own = np.empty((n, 3)), np.empty((n, n)), np.empty(3)
    for g in range(len(points)):
        if abs(integrand[g]) < 1e-15:
            continue
        for i in range(n):
            for k in range(3):
                unit[i, k] = atoms[i, k] - points[g, k]
            distance[i] = np.sqrt((unit[i] ** 2).sum())
            unit[i] /= distance[i]
            cell[i] = 1.0
        for i in range(n):
            for j in range(n):
                if i == j:
                    continue
                mu = (distance[i] - distance[j]) / length[i, j]
                s, log_slope = _step(mu + shift[i, j] * (1 - mu * mu))
                cell[i] *= s
                # d ln s / d mu of the factor of atom i against j
                slope[i, j] = log_slope * (1 - 2 * shift[i, j] * mu)
        total = cell.sum()
        share = cell[owner] / total
        for c in range(n):
            if c == owner:
                continue
            own[:] = 0.0
            for j in range(n):
                if j == c:
                    continue
                mu = (distance[c] - distance[j]) / length[c, j]
                # dP_c through factor (c, j) and dP_j through factor (j, c), where mu changes sign
                change = cell[c] * slope[c, j] * (0.0 - share) - cell[j] * slope[j, c] * (
                    (1.0 if j == owner else 0.0) - share
                )
                for k in range(3):
                    d_mu = unit[c, k] - mu * (atoms[c, k] - atoms[j, k]) / length[c, j]
                    own[k] += change * d_mu / length[c, j]
            for k in range(3):
                value = integrand[g] * own[k] / total
                gradient[c, k] += value
                gradient[owner, k] -= value


@njit
def _add_moved(ao, w, spread, mixed, out):
    """Change of the energy when each orbital's value moves along x, y, z, into out (AOs, 3)."""
    # second derivatives xx xy xz yy yz zz stand at 4 to 9
    gga = ao.shape[0] == 10
    for m in range(ao.shape[1]):
        x, y, z = 0.0, 0.0, 0.0
        for g in range(ao.shape[2]):
            p = mixed[m, g]
            x += ao[1, m, g] * p
            y += ao[2, m, g] * p
            z += ao[3, m, g] * p
            if gga:
                d, a, b, c = spread[m, g], w[1, g], w[2, g], w[3, g]
                x += d * (a * ao[4, m, g] + b * ao[5, m, g] + c * ao[6, m, g])
                y += d * (a * ao[5, m, g] + b * ao[7, m, g] + c * ao[8, m, g])
                z += d * (a * ao[6, m, g] + b * ao[8, m, g] + c * ao[9, m, g])
        out[m, 0] += x
        out[m, 1] += y
        out[m, 2] += z


class DenseGradients(df_rks_gradient.Gradients):
    """Density-fitted RKS gradient with `xc_gradient`, for the functionals that it knows."""

    grid_response = True

    def get_veff(self, mol=None, dm=None):
        """Matrices of Coulomb and exact exchange; the functional goes in atom by atom."""
        mol, mf = mol or self.mol, self.base
        dm = mf.make_rdm1() if dm is None else dm
        if mf._numint._xc_type(mf.xc) not in ("LDA", "GGA", "HF"):
            return super().get_veff(mol, dm)
        hybrid = mf._numint.hybrid_coeff(mf.xc, spin=mol.spin)
        if hybrid:
            coulomb, exchange = self.get_jk(mol, dm, hermi=1)
            v = coulomb - 0.5 * hybrid * exchange
            aux = (coulomb.aux - 0.5 * hybrid * exchange.aux).sum((0, 1))
        else:
            v = self.get_j(mol, dm)
            aux = v.aux.sum((0, 1))
        return lib.tag_array(v, exc1_grid=xc_gradient(mf), aux=aux)
