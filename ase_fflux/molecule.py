"""What a trained model of a molecule is, whatever file it came from."""

from dataclasses import dataclass, field

import numpy as np

from ase_fflux.electrostatics.multipoles import MOMENT_NAMES
from ase_fflux.gp.process import GaussianProcess

ENERGY = "iqa"
"""Name of the atomic energy among the properties."""


@dataclass(frozen=True)
class AtomProcess:
    """Gaussian process for some properties of one atom.

    Parameters
    ----------
    atom : int
        Index of the atom in the molecule (0-based).
    properties : tuple of str
        ``iqa`` or names of `MOMENT_NAMES`, one for each output of the process.
    gp : GaussianProcess
        Inputs are the features of this atom.
    """

    atom: int
    properties: tuple[str, ...]
    gp: GaussianProcess


@dataclass(frozen=True)
class MoleculeModel:
    """Gaussian processes of all atoms of one molecule (or of one cluster treated as a unit).

    Parameters
    ----------
    name : str
        Name of the molecule.
    symbols : tuple of str
        Element of each of the N atoms.
    alf : (N, 3) int array
        Atomic local frames: the atom itself, the atom on x, the atom in the xy-plane; 0-based,
        -1 for the missing third atom of a diatomic molecule.
    processes : tuple of AtomProcess
        Every atom has one process with the property ``iqa``.
    reference_geometry : (N, 3) array
        One geometry of the training set, which tells what is bonded to what (bohr).
    geometries : (G, N, 3) array or None
        Training geometries (bohr) where they are known; the inputs of all processes are then their
        features.
    provenance : dict
        Label source, level of theory, training protocol, test errors (JSON-able).
    """

    name: str
    symbols: tuple[str, ...]
    alf: np.ndarray
    processes: tuple[AtomProcess, ...]
    reference_geometry: np.ndarray
    geometries: np.ndarray | None = None
    provenance: dict = field(default_factory=dict)

    @property
    def rank(self) -> int:
        """Highest multipole rank for which every atom has all moments; -1 without charges."""
        have = [{p for q in self.processes if q.atom == a for p in q.properties}
                for a in range(len(self.symbols))]
        rank = -1
        while rank < 4 and all(
            set(MOMENT_NAMES[(rank + 1) ** 2:(rank + 2) ** 2]) <= h for h in have
        ):
            rank += 1
        return rank
