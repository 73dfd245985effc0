"""From labels to the model of a molecule: what is trained, what is transferred between atoms."""

from collections.abc import Mapping, Sequence

import numpy as np
from ase import Atoms

from ase_fflux.electrostatics.multipoles import MOMENT_NAMES
from ase_fflux.electrostatics.sites import adjoint_to_local
from ase_fflux.errors import TrainingError
from ase_fflux.frames import features_and_frames
from ase_fflux.gp.settings import TrainingSettings
from ase_fflux.gp.training import TrainingResult
from ase_fflux.molecule import ENERGY, AtomProcess, MoleculeModel
from ase_fflux.reference.dataset import Dataset
from ase_fflux.tasks.jobs import Job
from ase_fflux.topology.graphs import Pattern

MOMENTS = ("shared", "separate", "charges", "none")
"""One kernel for all moments of an atom, one for each of them, charges alone, energies alone."""
LINKS = ("properties", "equivalent")
"""Transfers between models: from an atom's energy to its moments, between equivalent atoms."""


def local_properties(dataset: Dataset, alf: np.ndarray, atom: int) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and targets of one atom.

    Parameters
    ----------
    dataset : Dataset
        Labels.
    alf : (N, 3) int array
        Local frames.
    atom : int
        Which atom.

    Returns
    -------
    features : (n, F) array
        bohr and radian.
    targets : (1 + M, n) array
        Its energy and its moments in its local frame (atomic units).
    """
    inputs, frames = features_and_frames(dataset.geometries, alf, atom)
    moments = np.ascontiguousarray(dataset.moments[:, atom])
    local, _ = adjoint_to_local(frames, np.zeros_like(moments), moments)
    return inputs, np.vstack([dataset.atomic_energies[:, atom], local.T])


def molecule_jobs(
    dataset: Dataset,
    alf: np.ndarray,
    settings: TrainingSettings,
    moments: str = "shared",
    links: Sequence[str] = (),
) -> list[Job]:
    """What has to be trained for a molecule.

    Parameters
    ----------
    dataset : Dataset
        Labels.
    alf : (N, 3) int array
        Local frames.
    settings : TrainingSettings
        How.
    moments : str
        One of `MOMENTS`.
    links : sequence of str
        Some of `LINKS`.

    Raises
    ------
    TrainingError
        Moments or links that are not known.
    """
    for value, known in ((moments, MOMENTS), *((link, LINKS) for link in links)):
        if value not in known:
            raise TrainingError(f"'{value}' is not one of {', '.join(known)}")
    names = MOMENT_NAMES[: dataset.moments.shape[2]]
    groups = {
        "shared": [names], "separate": [(name,) for name in names], "charges": [names[:1]],
        "none": [],
    }[moments]
    same = equivalent_atoms(dataset.symbols, dataset.geometries[0], alf)
    jobs = []
    for atom, symbol in enumerate(dataset.symbols):
        inputs, targets = local_properties(dataset, alf, atom)
        rows = dict(zip((ENERGY, *names), targets, strict=True))
        energy = _name(symbol, atom, (ENERGY,))
        for group in [(ENERGY,), *groups]:
            after, order = (), None
            if "equivalent" in links and atom in same:
                twin, order = same[atom]
                after = (_name(symbol, twin, group),)
            elif "properties" in links and group != (ENERGY,):
                after = (energy,)
            jobs.append(Job(
                _name(symbol, atom, group), atom, group, inputs, np.array([rows[p] for p in group]),
                settings, after, order=order,
            ))
    return jobs


def _name(symbol: str, atom: int, properties: tuple[str, ...]) -> str:
    what = properties[0] if len(properties) == 1 else "moments"
    return f"{symbol}{atom + 1} {what}"


def equivalent_atoms(
    symbols: Sequence[str], geometry: np.ndarray, alf: np.ndarray
) -> dict[int, tuple[int, np.ndarray]]:
    """Atoms whose features are those of an earlier, chemically equivalent atom in another order.

    A relabelling that keeps the bonds must carry the earlier atom's local frame over as well.

    Parameters
    ----------
    symbols : sequence of str
        Elements of the N atoms.
    geometry : (N, 3) array
        One geometry (bohr).
    alf : (N, 3) int array
        Local frames.

    Returns
    -------
    dict of int to (int, (F,) int array)
        The earlier atom, and for every feature the one of the earlier atom that it corresponds to.
    """
    pattern = Pattern.from_geometry("", Atoms(symbols).numbers, geometry)
    found = {}
    for image in pattern.automorphisms:
        for atom, frame in enumerate(alf):
            target = int(image[atom])
            if atom < target and np.array_equal(image[frame], alf[target]):
                if target not in found or atom < found[target][0]:
                    found[target] = atom, _feature_order(image, alf, atom, target)
    return found


def _feature_order(image: np.ndarray, alf: np.ndarray, atom: int, target: int) -> np.ndarray:
    others = [[n for n in range(len(alf)) if n not in alf[a]] for a in (atom, target)]
    place = {int(image[n]): i for i, n in enumerate(others[0])}
    triples = [3 + 3 * place[n] + np.arange(3) for n in others[1]]
    return np.concatenate([np.arange(3), *triples])


def molecule_model(
    dataset: Dataset, name: str, alf: np.ndarray, reference_geometry: np.ndarray,
    jobs: Sequence[Job], results: Mapping[str, TrainingResult],
) -> MoleculeModel:
    """The model of a molecule from its trained processes.

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
    jobs : sequence of Job
        Those of `molecule_jobs`.
    results : mapping of str to TrainingResult
        By name of the job.
    """
    return MoleculeModel(
        name=name,
        symbols=dataset.symbols,
        alf=np.asarray(alf),
        processes=tuple(
            AtomProcess(job.atom, job.properties, results[job.name].process) for job in jobs
        ),
        reference_geometry=np.asarray(reference_geometry),
        geometries=dataset.geometries,
    )


def training_record(
    settings: TrainingSettings, jobs: Sequence[Job], results: Mapping[str, TrainingResult]
) -> dict:
    """Settings, and what every model took and took over, JSON-able.

    Without times, so that the same training gives the same file.
    """
    return settings.record() | {"models": {
        job.name: {
            "transferred_from": list(job.after), "objective": results[job.name].objective,
            "evaluations": results[job.name].evaluations,
            "steps": [
                f"{s.stage}: {s.points} points, {s.evaluations} evaluations, "
                f"{s.start:.6g} to {s.value:.6g}" for s in results[job.name].steps
            ],
        }
        for job in jobs
    }}
