"""A model that another one is trained on top of: prior knowledge.

A model trained with a prior learns the difference of its labels to that, and what it predicts is
the sum of both. The prior stays as it is in its file, with its own local frames and symmetry; its
atoms may stand in another order. It is of the same molecule, or of a lighter analogue.
"""

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from ase_fflux.model.alf import exchanged_axes
from ase_fflux.model.analogue import Analogue, mapped
from ase_fflux.model.molecule import AtomProcess, MoleculeModel
from ase_fflux.model.symmetry import feature_order


@dataclass(frozen=True, eq=False)
class Prior:
    """What a model of a molecule of N atoms is trained on top of.

    Parameters
    ----------
    model : MoleculeModel
        As its file has it.
    atoms : (N,) int array
        Atom i of the prior is atom ``atoms[i]`` of the molecule.
    bundle : bytes
        The content of its file.
    analogue : Analogue, optional
        How the molecule differs from the prior's where its elements are others.
    symbols : tuple of str
        Its elements in that case, else none.
    """

    model: MoleculeModel
    atoms: np.ndarray
    bundle: bytes
    analogue: Analogue | None = None
    symbols: tuple[str, ...] = ()

    def __reduce__(self):
        return Prior, (self.model, self.atoms, self.bundle, self.analogue, self.symbols)

    @property
    def sha256(self) -> str:
        """Hash of the prior's file."""
        return hashlib.sha256(self.bundle).hexdigest()

    def record(self) -> dict:
        """What it is, for a provenance; JSON-able."""
        record = {
            "model": self.model.name,
            "label_source": self.model.provenance.get("label_source", "not recorded"),
            "sha256": self.sha256,
        }
        if self.model.geometries is not None:
            record["labels"] = len(self.model.geometries)
        if self.analogue is not None:
            record["analogue_of"] = "".join(self.model.symbols)
            record["factor"] = self.analogue.factor
        return record

    @cached_property
    def here(self) -> MoleculeModel:
        """The prior, its atoms in the order of the molecule and its features mapped to it."""
        model = renumbered(self.model, self.atoms)
        if self.analogue is None:
            return model
        return mapped(
            model, self.symbols, self.analogue.light[np.argsort(self.atoms)], self.analogue
        )


def renumbered(model: MoleculeModel, atoms: np.ndarray) -> MoleculeModel:
    """A model whose atom i is called ``atoms[i]``; without its compact form.

    Parameters
    ----------
    model : MoleculeModel
    atoms : (N,) int array
        A permutation.
    """
    atoms, place = np.asarray(atoms), np.argsort(atoms)
    alf = np.asarray(model.alf)[place]
    alf = np.where(alf < 0, -1, atoms[alf])
    prior = model.prior
    return replace(
        model,
        symbols=tuple(model.symbols[i] for i in place),
        alf=alf,
        processes=_renumbered(model.processes, model.alf, alf, atoms),
        reference_geometry=model.reference_geometry[place],
        geometries=None if model.geometries is None else model.geometries[:, place],
        shared=None,
        prior=None if prior is None else replace(prior, atoms=atoms[prior.atoms]),
        terms=tuple(term.renumbered(atoms) for term in model.terms),
        second=_renumbered(
            model.second, exchanged_axes(model.alf), exchanged_axes(alf), atoms
        ),
    )


def _renumbered(
    processes: tuple[AtomProcess, ...], alf: np.ndarray, there: np.ndarray, atoms: np.ndarray
) -> tuple[AtomProcess, ...]:
    """Processes of atoms of other numbers, with frames ``alf`` that become ``there``."""
    found = []
    for process in processes:
        atom = int(atoms[process.atom])
        order = feature_order(atoms, alf, process.atom, atom, there)
        own = order if process.order is None else order[process.order]
        found.append(replace(process, atom=atom, order=own))
    return tuple(found)
