"""How far the models of a force field vouch for the energies and forces of many molecules."""

import numpy as np

from ase_fflux.base.machine import cores, memory_available, threads_here
from ase_fflux.learn.joint.uncertainty import Posterior, Uncertainty


class Posteriors:
    """Posteriors of the models of a force field, each made when it is first needed.

    Parameters
    ----------
    forcefield : ForceField
        Of models trained on gradients.
    """

    def __init__(self, forcefield):
        self.forcefield = forcefield
        self._made: dict[int, Posterior] = {}

    def of_model(self, k: int) -> Posterior:
        """That of model k."""
        if k not in self._made:
            self._made[k] = Posterior(
                self.forcefield.models[k], threads_here(cores()), memory_available()
            )
        return self._made[k]

    def uncertainty(self, positions, numbers, cell=None, pbc=None, assignment=None) -> Uncertainty:
        """Standard deviations of energies within molecules and of their forces (atomic units).

        Those of different molecules are independent. Interactions between molecules have none
        stated: they count as exact. The first one for a model takes as long as the last step of
        its training.

        Parameters
        ----------
        positions, numbers, cell, pbc, assignment
            As in `ForceField.evaluate`.

        Raises
        ------
        FFLUXError
            Models that were not trained on gradients, or that memory does not hold.
        """
        _, system, groups = self.forcefield.molecules(positions, numbers, cell, pbc, assignment)
        whole = system.positions
        variance, energies, forces = 0.0, np.zeros(len(whole)), np.zeros(whole.shape)
        for k, molecules in groups:
            for atoms in molecules:
                found = self.of_model(k).uncertainty(whole[atoms])
                variance += found.energy**2
                energies[atoms], forces[atoms] = found.energies, found.forces
        return Uncertainty(float(np.sqrt(variance)), energies, forces)

    def energy_covariance(self, images, numbers, cell=None, pbc=None) -> np.ndarray:
        """Covariance (G, G) of the energies of several geometries of the same atoms (hartree^2).

        Parameters
        ----------
        images : sequence of (n, 3) arrays
            bohr.
        numbers, cell, pbc
            As in `ForceField.evaluate`, the same for all.

        Raises
        ------
        FFLUXError
            As `uncertainty`.
        """
        found = [self.forcefield.molecules(x, numbers, cell, pbc) for x in images]
        total = np.zeros((len(found), len(found)))
        for g, (k, molecules) in enumerate(found[0][2]):
            for number in range(len(molecules)):
                geometries = np.array([
                    system.positions[groups[g][1][number]] for _, system, groups in found
                ])
                total += self.of_model(k).energy_covariance(geometries)
        return total
