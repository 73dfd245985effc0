"""What a model predicts beside labelled data of any origin: errors, frame by frame."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from ase.symbols import symbols2numbers

from ase_fflux.base.errors import GeometryError, LabelError, TopologyError
from ase_fflux.base.units import BOHR, FORCE, HARTREE_KJ
from ase_fflux.forcefield import ForceField
from ase_fflux.labels.checks import charges_are_learned
from ase_fflux.labels.label import Dataset
from ase_fflux.model.molecule import MoleculeModel
from ase_fflux.topology.graphs import atom_label


@dataclass(frozen=True, eq=False)
class Quantity:
    """One quantity of all compared frames, from the data and from the model.

    Parameters
    ----------
    name : str
        Such as ``force``.
    unit : str
        Of both.
    reference, predicted : (n, ...) arrays
        Frame by frame; (n, N, ...) where ``atomic``.
    atomic : bool
        Whether each atom has one.
    """

    name: str
    unit: str
    reference: np.ndarray
    predicted: np.ndarray
    atomic: bool = False

    @property
    def errors(self) -> np.ndarray:
        """Predicted minus reference."""
        return self.predicted - self.reference

    @property
    def rmse(self) -> float:
        """Root mean square of all errors."""
        return float(np.sqrt(np.mean(np.square(self.errors))))

    @property
    def mae(self) -> float:
        """Mean absolute error."""
        return float(np.abs(self.errors).mean())

    @property
    def mean(self) -> float:
        """Mean error, with its sign."""
        return float(self.errors.mean())

    @property
    def largest(self) -> float:
        """The largest absolute error."""
        return float(np.abs(self.errors).max())

    @property
    def worst(self) -> tuple[int, int | None]:
        """Where the largest error is: number of the compared frame and of the atom, from 0."""
        where = np.unravel_index(np.abs(self.errors).argmax(), self.errors.shape)
        return int(where[0]), int(where[1]) if self.atomic else None

    @property
    def of_frames(self) -> np.ndarray:
        """Root mean square error (n,) of each frame."""
        errors = self.errors.reshape(len(self.errors), -1)
        return np.sqrt(np.mean(np.square(errors), axis=1))


_APART = 10.0
"""Standard deviations of the error by which energies of two levels of theory differ at least."""


def levels_differ(energies: Quantity) -> bool:
    """Whether energies are of two levels, or of two zeros, by the size of their mean difference."""
    return abs(energies.mean) > _APART * energies.errors.std() > 0


@dataclass(frozen=True, eq=False)
class Comparison:
    """A model beside labelled data.

    Attributes
    ----------
    frames : (n,) int array
        Numbers of the compared frames in the data, from 1.
    left_out : dict of int to str
        Frames that the model cannot describe, by number, and why.
    quantities : tuple of Quantity
        Those that both have.
    coverage : (n,) array
        Smallest coverage of an atom in each frame.
    symbols : tuple of str
        Elements, in the order of the data.
    method : str
        Level of theory of the data.
    origins : (n,) array of str
        Where each geometry comes from.
    """

    frames: np.ndarray
    left_out: dict[int, str]
    quantities: tuple[Quantity, ...]
    coverage: np.ndarray
    symbols: tuple[str, ...]
    method: str
    origins: np.ndarray

    def __getitem__(self, name: str) -> Quantity:
        return next(q for q in self.quantities if q.name == name)

    def where(self, quantity: Quantity) -> str:
        """The frame, and the atom, of a quantity's largest error in words."""
        frame, atom = quantity.worst
        of_atom = "" if atom is None else f", {atom_label(atom, symbols2numbers(self.symbols))}"
        return f"frame {self.frames[frame]}{of_atom}"


def compare(
    model: MoleculeModel, data: Dataset, watch: Callable[[Iterable], Iterable] = iter
) -> Comparison:
    """Predict all frames of labelled data with a model.

    Atoms may be in another order than the model's; equivalent ones are assigned as in dynamics.
    Of molecules that are several of the model's own, the interaction is included.

    Parameters
    ----------
    model : MoleculeModel
    data : Dataset
        Any of its quantities may be absent.
    watch : callable
        Wraps the frames, for a progress display.

    Raises
    ------
    LabelError
        Data without any of the quantities that the model predicts, or of which the model can
        describe no frame.
    """
    numbers = np.array(symbols2numbers(data.symbols))
    if not _has_any(model, data):
        raise LabelError(
            "nothing to compare: the data have none of energies, forces, atomic energies"
            + (", charges and dipoles" if model.rank >= 0 else "")
        )
    forcefield = ForceField([model])
    wants = model.rank >= 0 and (data.moments is not None or data.dipoles is not None)
    kept, results, left_out = [], [], {}
    for index in watch(range(len(data))):
        try:
            results.append(forcefield.evaluate(data.geometries[index], numbers, moments=wants))
            kept.append(index)
        except (TopologyError, GeometryError) as error:
            left_out[index + 1] = str(error)
    if not kept:
        raise LabelError(
            f"the model {model.name} describes no frame of the data; frame 1: {left_out[1]}"
        )
    chosen = data.select(np.array(kept))
    return Comparison(
        np.array(kept) + 1, left_out, tuple(_quantities(model, chosen, results)),
        np.array([r.coverage.min() for r in results]), data.symbols, data.method, chosen.origins,
    )


def _has_any(model: MoleculeModel, data: Dataset) -> bool:
    names = ["energies", "gradients", "atomic_energies"]
    if model.rank >= 0:
        names += ["moments"]
    if model.rank >= 1:
        names += ["dipoles"]
    return len(data.missing(names)) < len(names)


def _quantities(model: MoleculeModel, data: Dataset, results: list):
    def of_all(name):
        return np.array([getattr(r, name) for r in results])

    if data.energies is not None:
        yield Quantity(
            "energy", "kJ/mol", HARTREE_KJ * data.energies, HARTREE_KJ * of_all("energy")
        )
    if data.atomic_energies is not None and not model.latent:
        yield Quantity(
            "atomic energy", "kJ/mol", HARTREE_KJ * data.atomic_energies,
            HARTREE_KJ * of_all("energies"), atomic=True,
        )
    if data.gradients is not None:
        yield Quantity(
            "force", "eV/A", -FORCE * data.gradients, FORCE * of_all("forces"), atomic=True
        )
    if data.moments is not None and charges_are_learned(data, model.rank):
        yield Quantity("charge", "e", data.moments[:, :, 0], of_all("charges"), atomic=True)
    # charges alone make no dipole
    if data.dipoles is not None and model.rank >= 1:
        yield Quantity(
            "dipole", "e A", BOHR * data.dipoles, BOHR * np.array([r.dipole() for r in results])
        )
    for rank in range(1, min(model.rank, data.rank) + 1):
        order = slice(rank**2, (rank + 1) ** 2)
        yield Quantity(
            f"moments of rank {rank}", "e a0" if rank == 1 else f"e a0^{rank}",
            data.moments[:, :, order], of_all("moments")[:, :, order], atomic=True,
        )
