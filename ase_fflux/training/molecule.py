"""From labels to the model of a molecule: what is trained, what is transferred between atoms."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms

from ase_fflux.base.errors import TrainingError
from ase_fflux.labels.dataset import Dataset
from ase_fflux.learn.gp.settings import TrainingSettings
from ase_fflux.learn.gp.training import TrainingResult
from ase_fflux.model.frames import features_and_frames
from ase_fflux.model.molecule import ENERGY, AtomProcess, MoleculeModel
from ase_fflux.model.multipoles import MOMENT_NAMES, n_moments
from ase_fflux.model.sites import adjoint_to_local, axial_moments
from ase_fflux.model.symmetry import feature_order
from ase_fflux.topology.pattern import Pattern
from ase_fflux.training.jobs import Job

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
        Its energy, where it is there, and its moments in its local frame (atomic units); of a
        diatomic molecule they have axial symmetry.
    """
    inputs, frames = features_and_frames(dataset.geometries, alf, atom)
    energies = np.empty((0, len(dataset)))
    if dataset.atomic_energies is not None:
        energies = dataset.atomic_energies[None, :, atom]
    if dataset.moments is None:
        return inputs, energies
    moments = np.ascontiguousarray(dataset.moments[:, atom])
    local, _ = adjoint_to_local(frames, np.zeros_like(moments), moments)
    if len(alf) == 2:
        local = axial_moments(local)
    return inputs, np.vstack([energies, local.T])


@dataclass(frozen=True, eq=False)
class AtomTargets:
    """What one atom is trained on.

    Parameters
    ----------
    atom : int
        Its 0-based index.
    label : str
        Its element and 1-based index, ``C1``.
    features : (n, F) array
        bohr and radian.
    targets : dict of str to (n,) array
        Its energy ``iqa``, where labels have it, and its moments in its local frame, by name
        (atomic units).
    """

    atom: int
    label: str
    features: np.ndarray
    targets: Mapping[str, np.ndarray]


def molecule_targets(dataset: Dataset, alf: np.ndarray) -> list[AtomTargets]:
    """All atoms of a labelled molecule with local frames alf (N, 3)."""
    energy = () if dataset.atomic_energies is None else (ENERGY,)
    names = (*energy, *MOMENT_NAMES[: n_moments(dataset.rank)])
    found = []
    for atom, symbol in enumerate(dataset.symbols):
        inputs, targets = local_properties(dataset, alf, atom)
        rows = dict(zip(names, targets, strict=True))
        found.append(AtomTargets(atom, f"{symbol}{atom + 1}", inputs, rows))
    return found


def atom_jobs(
    atoms: Sequence[AtomTargets],
    settings: TrainingSettings,
    moments: str = "shared",
    links: Sequence[str] = (),
    same: Mapping[int, tuple[int, np.ndarray]] | None = None,
) -> list[Job]:
    """What has to be trained for some atoms of a molecule.

    Parameters
    ----------
    atoms : sequence of AtomTargets
        Which atoms.
    settings : TrainingSettings
        How.
    moments : str
        One of `MOMENTS`.
    links : sequence of str
        Some of `LINKS`.
    same : mapping, optional
        That of `equivalent_atoms`, for the link of that name.

    Raises
    ------
    TrainingError
        Moments or links that are not known.
    """
    for value, known in ((moments, MOMENTS), *((link, LINKS) for link in links)):
        if value not in known:
            raise TrainingError(f"'{value}' is not one of {', '.join(known)}")
    labels = {data.atom: data.label for data in atoms}
    jobs: dict[str, Job] = {}
    for data in atoms:
        for what, group in _groups(
            data.targets, moments, diatomic=data.features.shape[1] == 1
        ).items():
            after, order = (), None
            twin, twin_order = (same or {}).get(data.atom, (None, None))
            if "equivalent" in links and f"{labels.get(twin)} {what}" in jobs:
                after, order = (f"{labels[twin]} {what}",), twin_order
            elif "properties" in links and what != ENERGY and f"{data.label} {ENERGY}" in jobs:
                after = (f"{data.label} {ENERGY}",)
            name = f"{data.label} {what}"
            jobs[name] = Job(
                name, data.atom, group, data.features, np.array([data.targets[p] for p in group]),
                settings, after, order=order,
            )
    return list(jobs.values())


def _groups(targets: Mapping, moments: str, diatomic: bool) -> dict[str, tuple[str, ...]]:
    """Properties that share a process, by what the process is called."""
    groups = {ENERGY: (ENERGY,)} if ENERGY in targets else {}
    names = tuple(name for name in MOMENT_NAMES if name in targets)
    if moments == "none":
        return groups
    if moments == "charges":
        names = names[: "q00" in names]
    if moments == "shared" and len(names) > 1:
        return groups | {"moments": names}
    if diatomic:  # components of one rank are one number, which must not split
        ranks = {f"q{name[1]}": () for name in names}
        return groups | {r: tuple(n for n in names if n.startswith(r)) for r in ranks}
    return groups | {name: (name,) for name in names}


def molecule_jobs(
    dataset: Dataset,
    alf: np.ndarray,
    settings: TrainingSettings,
    moments: str = "shared",
    links: Sequence[str] = (),
) -> list[Job]:
    """What has to be trained for a labelled molecule with local frames alf (N, 3).

    The other parameters and errors are those of `atom_jobs`.
    """
    same = equivalent_atoms(dataset.symbols, dataset.geometries[0], alf)
    return atom_jobs(molecule_targets(dataset, alf), settings, moments, links, same)


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
            target, carried = int(image[atom]), np.where(frame < 0, -1, image[frame])
            if atom < target and np.array_equal(carried, alf[target]):
                if target not in found or atom < found[target][0]:
                    found[target] = atom, feature_order(np.argsort(image), alf, target, atom)
    return found


def molecule_model(
    name: str, symbols: Sequence[str], alf: np.ndarray, reference_geometry: np.ndarray,
    jobs: Sequence[Job], results: Mapping[str, TrainingResult],
    geometries: np.ndarray | None = None,
) -> MoleculeModel:
    """The model of a molecule from its trained processes.

    Parameters
    ----------
    name : str
        Name of the molecule.
    symbols : sequence of str
        Elements of the N atoms.
    alf : (N, 3) int array
        Local frames.
    reference_geometry : (N, 3) array
        A minimum (bohr), whose bonds are the model's.
    jobs : sequence of Job
        Those of `molecule_jobs`.
    results : mapping of str to TrainingResult
        By name of the job.
    geometries : (n, N, 3) array, optional
        Of the labels (bohr).
    """
    return MoleculeModel(
        name=name,
        symbols=tuple(symbols),
        alf=np.asarray(alf),
        processes=tuple(
            AtomProcess(job.atom, job.properties, results[job.name].process) for job in jobs
        ),
        reference_geometry=np.asarray(reference_geometry),
        geometries=geometries,
    )


def training_record(
    settings: TrainingSettings, jobs: Sequence[Job], results: Mapping[str, TrainingResult]
) -> dict:
    """Settings, and the steps of every model: what they took, and what was transferred; JSON-able.

    Without times, so that the same training gives the same file.
    """
    return settings.record() | {"models": {
        job.name: [
            f"{s.stage}: {s.points} points, {s.evaluations} evaluations, {s.start:.6g} to "
            f"{s.value:.6g}, from {', '.join(job.after) or s.transferred}"
            for s in results[job.name].steps
        ]
        for job in jobs
    }}
