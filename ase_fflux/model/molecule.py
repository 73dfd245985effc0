"""What a trained model of a molecule is, whatever file it came from."""

from dataclasses import dataclass, field

import numpy as np

from ase_fflux.model.multipoles import MOMENT_NAMES
from ase_fflux.model.process import GaussianProcess
from ase_fflux.model.shared import Shared

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
        Its inputs are features of this atom, or of one that it is equivalent to.
    order : (F,) int array, optional
        Feature h of the process is feature ``order[h]`` of this atom; by default the same.
    mirrored : bool
        Whether the process sees this atom in a mirror: polar angles are pi - theta, and moments
        that are odd under reflection (`symmetry.reflection_signs`) change their sign.
    """

    atom: int
    properties: tuple[str, ...]
    gp: GaussianProcess
    order: np.ndarray | None = None
    mirrored: bool = False


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
    shared : Shared, optional
        Where equivalent atoms share processes, these in compact form; ``processes`` are then what
        `shared_model` made of them.
    """

    name: str
    symbols: tuple[str, ...]
    alf: np.ndarray
    processes: tuple[AtomProcess, ...]
    reference_geometry: np.ndarray
    geometries: np.ndarray | None = None
    provenance: dict = field(default_factory=dict)
    shared: Shared | None = None

    @property
    def least_coverage(self) -> float:
        """Coverage below which a geometry is outside of what the training data cover.

        Twice as far from 1 as the smallest one on the test trajectory that the provenance reports,
        where forces are about three times worse than at the edge of the test; 0.9 if it reports
        none.
        """
        tested = self.provenance.get("errors", {}).get("smallest coverage", {}).get("value")
        if not isinstance(tested, int | float):
            return 0.9
        return max(1.0 - 2.0 * (1.0 - tested), 0.0)

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


def shared_model(
    name: str, symbols: tuple[str, ...], alf: np.ndarray, shared: Shared,
    reference_geometry: np.ndarray, geometries: np.ndarray, provenance: dict | None = None,
) -> MoleculeModel:
    """A model whose equivalent atoms share processes; parameters as of `MoleculeModel`."""
    processes = []
    for process in shared.processes:
        gp = process.expand(geometries, alf, shared.gradient_weights)
        processes += [
            AtomProcess(atom, process.properties, gp, order, bool(mirrored))
            for atom, order, mirrored in zip(
                process.atoms.atoms, process.atoms.order, process.atoms.mirrored, strict=True
            )
        ]
    return MoleculeModel(
        name, symbols, alf, tuple(processes), reference_geometry, geometries, provenance or {},
        shared,
    )
