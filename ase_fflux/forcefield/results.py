"""What a force field returns."""

from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Results:
    """What `ForceField.evaluate` returns, in hartree, bohr and e, atoms in the order of the input.

    Parameters
    ----------
    energy : float
        Total energy.
    energies : (n,) array
        Atomic energies: the intramolecular one plus half of each interaction between molecules.
        They sum to the total.
    forces : (n, 3) array
        Negative gradient of the energy.
    virial : (3, 3) array
        dE/d strain (symmetric), hartree; divide by the volume for the stress.
    coverage : (n,) array
        Largest kernel value between the atom and any training point of its energy, in (0, 1].
    positions : (n, 3) array
        Positions with every molecule whole, in bohr.
    moments : (n, K) array or None
        All that the models have, global real spherical moments in the order of `MOMENT_NAMES`; None
        where they were not asked for and not all of them interact.
    terms : dict
        Energies by name: ``intramolecular`` and those of the interactions (``electrostatic``,
        ``short_range``), zero where there is nothing to interact with. They sum to the total.
    """

    energy: float
    energies: np.ndarray
    forces: np.ndarray
    virial: np.ndarray
    coverage: np.ndarray
    positions: np.ndarray
    moments: np.ndarray | None = None
    terms: dict = field(default_factory=dict)

    def __repr__(self) -> str:
        terms = ", ".join(f"{name} {value:.6g}" for name, value in self.terms.items())
        largest = np.linalg.norm(self.forces, axis=1).max(initial=0.0)
        return (
            f"<Results of {len(self.energies)} atoms: energy {self.energy:.8f} Ha ({terms}), "
            f"largest force {largest:.3g} Ha/bohr, smallest coverage "
            f"{self.coverage.min(initial=1.0):.4f}, "
            f"{'with' if self.moments is not None else 'without'} moments>"
        )

    @property
    def charges(self) -> np.ndarray | None:
        """(n,) atomic charges (e)."""
        return None if self.moments is None else self.moments[:, 0]

    def dipole(self, origin=(0.0, 0.0, 0.0)) -> np.ndarray:
        """(3,) dipole moment (e bohr) of charges and atomic dipoles.

        Of whole molecules, so that the boundary of a periodic cell does not show.

        Parameters
        ----------
        origin : (3,) array_like
            Point that it is about (bohr); it matters only where there is a net charge.
        """
        dipole = self.charges @ (self.positions - origin)
        if self.moments.shape[1] >= 4:
            z, x, y = self.moments[:, 1:4].sum(axis=0)
            dipole = dipole + np.array([x, y, z])
        return dipole
