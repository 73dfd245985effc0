"""Atomic energies and moments by integration over the atoms of a partition."""

from dataclasses import dataclass

import numpy as np

from ase_fflux.base.errors import LabelError
from ase_fflux.labels.partition.accuracy import WORST
from ase_fflux.labels.partition.fuzzy import hirshfeld, mbis
from ase_fflux.labels.partition.grid import molecular_grid
from ase_fflux.model.multipoles import MAX_RANK, n_moments, solid_harmonics


@dataclass(frozen=True)
class AtomicProperties:
    """What is integrated over the N atoms of a molecule, in atomic units.

    Parameters
    ----------
    energies : (N,) array
        IQA energies E(A), as integrated.
    moments : (N, 25) array
        Real spherical moments q00 to q44s about the nuclei in the axes of the calculation, nuclear
        charges included.
    excess : float
        Sum of the energies minus the total energy of the calculation.
    missing : float
        Electrons of the calculation minus those of the atoms.
    errors : (N,) array
        Estimated integration error of each energy: |L(A)| for topological atoms, for others the
        excess shared by electrons.
    """

    energies: np.ndarray
    moments: np.ndarray
    excess: float
    missing: float
    errors: np.ndarray


class FuzzyIntegrator:
    """Several partitions of one calculation on one grid.

    Parameters
    ----------
    densities : MolecularDensities
    """

    def __init__(self, densities):
        self._densities = densities
        self._points, self._weights, self._electrons = molecular_grid(densities)
        self._energy = densities.at(self._points).energy
        self.shells = None

    def atoms(self, partition: str, start=None) -> AtomicProperties:
        """Integrate over the atoms of ``hirshfeld`` or ``mbis``.

        ``start`` are the shells of a similar geometry for MBIS; those found are in ``shells``.
        """
        found = self._densities
        if partition == "hirshfeld":
            shares = hirshfeld(found, self._points)
        elif partition == "mbis":
            shares, self.shells = mbis(
                found, self._points, self._weights, self._electrons, start
            )
        else:
            raise LabelError(f"no partition {partition!r}: use one of {', '.join(WORST)}")
        weights = shares * self._weights
        energies = weights @ self._energy + found.nuclear
        moments = np.empty((len(found.atoms), n_moments(MAX_RANK)))
        for i, position in enumerate(found.atoms):
            harmonics = solid_harmonics(self._points - position, MAX_RANK)
            moments[i] = -(weights[i] * self._electrons) @ harmonics
        populations = -moments[:, 0].copy()
        moments[:, 0] += found.charges
        excess = energies.sum() - found.total
        return AtomicProperties(
            energies, moments, float(excess), found.mol.nelectron - populations.sum(),
            np.abs(excess) * populations / populations.sum(),
        )
