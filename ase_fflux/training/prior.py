"""Models on top of a prior: which of its atoms is which, and what is left of labels to learn."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.symbols import symbols2numbers

from ase_fflux.base.errors import FFLUXError, ModelError, TopologyError, TrainingError, reason
from ase_fflux.forcefield import ForceField
from ase_fflux.forcefield.species import Species
from ase_fflux.formats.bundle import bundle_content, read_content
from ase_fflux.formats.locate import find_model
from ase_fflux.formats.model_directory import read_model_directory
from ase_fflux.labels.label import Dataset
from ase_fflux.model.kernels import Form
from ase_fflux.model.molecule import ENERGY, MoleculeModel
from ase_fflux.model.prior import Prior
from ase_fflux.topology import Pattern
from ase_fflux.training.analogues import analogue_of, same_groups, with_factor


def read_prior(
    name_or_path: str | Path, symbols: Sequence[str], geometry: np.ndarray
) -> Prior:
    """A model given by name or path, as prior for a molecule.

    Parameters
    ----------
    name_or_path : str or Path
        As `find_model` takes it.
    symbols : sequence of str
        Elements of the N atoms.
    geometry : (N, 3) array
        One geometry (bohr), which tells the bonds.

    Raises
    ------
    FFLUXError
        What reading a model raises, and a model of another molecule.
    """
    path = find_model(name_or_path)
    if path.is_dir():
        model = read_model_directory(path)
        bundle = bundle_content(model)
    else:
        try:
            bundle = path.read_bytes()
        except OSError as error:
            raise ModelError(f"{path}: cannot be read: {reason(error)}") from None
        try:
            model = read_content(bundle)
        except ModelError as error:
            raise ModelError(f"{path}: {error}") from None
    return prior_of(model, symbols, geometry, bundle)


def prior_of(
    model: MoleculeModel, symbols: Sequence[str], geometry: np.ndarray,
    bundle: bytes | None = None,
) -> Prior:
    """A model as prior for a molecule; parameters and errors of `read_prior`.

    ``bundle`` is the content of the model's file, by default what would be written.
    """
    symbols, geometry = tuple(symbols), np.asarray(geometry, dtype=float)
    bundle = bundle_content(model) if bundle is None else bundle
    theirs, ours = (Atoms(list(s)).symbols.get_chemical_formula() for s in (model.symbols, symbols))
    if sorted(model.symbols) != sorted(symbols):
        if same_groups(model.symbols, symbols):
            return analogue_of(model, symbols, geometry, bundle)
        raise TrainingError(
            f"the prior {model.name} is of {theirs}, the labels are of {ours}: give a model of the "
            "same molecule, or of one with other elements of the same groups"
        )
    numbers = symbols2numbers(list(symbols))
    forcefield = ForceField([model])
    try:
        atoms = _same_order(forcefield, model, numbers, geometry)
        if atoms is None:
            atoms = forcefield.match(geometry, numbers).atoms_of_model[0][0]
    except FFLUXError as error:
        raise TrainingError(
            f"the prior {model.name} is of {theirs} with other bonds than the labels have ({error})"
        ) from None
    return Prior(model, np.asarray(atoms), bundle)


def _same_order(forcefield, model, numbers, geometry) -> np.ndarray | None:
    """The atoms as they stand, if the molecule is then that of the model."""
    if list(numbers) != symbols2numbers(list(model.symbols)):
        return None
    bonds = (
        {tuple(sorted(pair)) for pair in Pattern.from_geometry("", numbers, x).bonds.tolist()}
        for x in (model.reference_geometry, geometry)
    )
    if len(set(map(frozenset, bonds))) > 1:
        return None
    as_given = np.arange(len(numbers))
    try:
        forcefield.match(geometry, numbers, explicit=[as_given.tolist()])
    except TopologyError:  # the other hand
        return None
    return as_given


def energy_scales(model: MoleculeModel, atoms: Sequence[int]) -> tuple[list[np.ndarray], Form]:
    """Theta (F,) of the energies of some atoms, in the order of their own features, and the form
    of their kernels."""
    found = []
    for atom in atoms:
        process = next(p for p in model.processes if p.atom == atom and ENERGY in p.properties)
        theta = process.gp.kernel.theta
        if process.order is not None:
            theta = theta[np.argsort(process.order)]
        found.append(theta)
    return found, process.gp.kernel.form


def fitted(prior: Prior, dataset: Dataset, reference: np.ndarray) -> Prior:
    """The prior as it fits labels: of an analogue the minimum and the factor.

    Parameters
    ----------
    prior : Prior
        Of the same molecule it stays as it is.
    dataset : Dataset
        With gradients.
    reference : (N, 3) array
        A minimum (bohr).

    Raises
    ------
    TrainingError
        An analogue that says nothing of the labels.
    """
    if prior.analogue is None:
        return prior
    mapped = replace(prior, analogue=replace(prior.analogue, heavy=reference, factor=1.0))
    left = difference(dataset, mapped)
    assert dataset.gradients is not None and left.gradients is not None
    return with_factor(mapped, dataset.gradients, dataset.gradients - left.gradients)


def difference(dataset: Dataset, prior: Prior) -> Dataset:
    """Labels minus what the prior says: total energies, gradients and atomic energies."""
    n_atoms = len(dataset.symbols)
    atoms = np.broadcast_to(np.arange(n_atoms), (len(dataset), n_atoms))
    gradients = np.zeros(dataset.geometries.shape)
    energies = Species(prior.here).add_energies(
        np.ascontiguousarray(dataset.geometries), atoms, symbols2numbers(list(dataset.symbols)),
        gradients,
    ).values[..., 0]

    def less(values, known):
        return None if values is None else values - known

    return replace(
        dataset, energies=less(dataset.energies, energies.sum(axis=1)),
        gradients=less(dataset.gradients, gradients),
        atomic_energies=less(dataset.atomic_energies, energies),
    )
