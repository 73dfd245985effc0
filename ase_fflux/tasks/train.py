"""From a labelled dataset to the model of a molecule."""

from collections.abc import Callable

import numpy as np

from ase_fflux.electrostatics.multipoles import MOMENT_NAMES
from ase_fflux.electrostatics.sites import adjoint_to_local
from ase_fflux.frames import features_and_frames
from ase_fflux.gp.training import TrainingResult, TrainingSettings, train
from ase_fflux.molecule import ENERGY, AtomProcess, MoleculeModel
from ase_fflux.reference.dataset import Dataset


def train_atom(
    dataset: Dataset, alf: np.ndarray, atom: int, settings: TrainingSettings
) -> tuple[AtomProcess, AtomProcess, tuple[TrainingResult, TrainingResult]]:
    """Train the processes of one atom: its energy, and its moments with one shared kernel.

    Parameters
    ----------
    dataset : Dataset
        Labels.
    alf : (N, 3) int array
        Local frames.
    atom : int
        Which atom.
    settings : TrainingSettings
        Noise, bounds and limits.

    Returns
    -------
    energy, moments : AtomProcess
        Trained processes.
    results : tuple of TrainingResult
        Objective and number of evaluations of both.
    """
    inputs, frames = features_and_frames(dataset.geometries, alf, atom)
    moments = np.ascontiguousarray(dataset.moments[:, atom])
    local, _ = adjoint_to_local(frames, np.zeros_like(moments), moments)
    energy = train(inputs, dataset.atomic_energies[None, :, atom], settings)
    multipoles = train(inputs, local.T, settings)
    names = MOMENT_NAMES[: moments.shape[1]]
    return (
        AtomProcess(atom, (ENERGY,), energy.process),
        AtomProcess(atom, names, multipoles.process),
        (energy, multipoles),
    )


def train_molecule(
    dataset: Dataset,
    name: str,
    alf: np.ndarray,
    reference_geometry: np.ndarray,
    settings: TrainingSettings,
    progress: Callable[[int], None] = lambda atom: None,
) -> MoleculeModel:
    """Train all atoms of a molecule.

    Parameters
    ----------
    dataset : Dataset
        Labels.
    name : str
        Name of the molecule.
    alf : (N, 3) int array
        Local frames.
    reference_geometry : (N, 3) array
        A minimum (bohr), whose bonds are the model's.
    settings : TrainingSettings
        Noise, bounds and limits.
    progress : callable
        Called with the index of each atom when it is finished.
    """
    processes = []
    for atom in range(len(dataset.symbols)):
        energy, moments, _ = train_atom(dataset, alf, atom, settings)
        processes += [energy, moments]
        progress(atom)
    return MoleculeModel(
        name=name,
        symbols=dataset.symbols,
        alf=np.asarray(alf),
        processes=tuple(processes),
        reference_geometry=np.asarray(reference_geometry),
        geometries=dataset.geometries,
    )
