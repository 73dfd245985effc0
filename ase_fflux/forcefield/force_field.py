"""The force field: molecules' models put to work on any set of atoms, in atomic units.

What flows through: positions -> whole molecules in model atom order -> energies and moments of
every atom (`evaluation.sweep`) -> interactions between molecules -> one adjoint sweep back to
positions.
"""

from collections.abc import Sequence
from functools import partial

import numpy as np
from ase.symbols import symbols2numbers

from ase_fflux import topology
from ase_fflux.base.errors import FFLUXError, GeometryError
from ase_fflux.base.threads import number_of_threads, run, slices
from ase_fflux.base.workspace import Workspace
from ase_fflux.forcefield.interactions.base import Interaction, System
from ase_fflux.forcefield.interactions.electrostatics import Electrostatics
from ase_fflux.forcefield.interactions.neighbours import NeighbourList
from ase_fflux.forcefield.loops import add_sum_of_products
from ase_fflux.forcefield.results import Results
from ase_fflux.forcefield.species import Species
from ase_fflux.model.multipoles import n_moments
from ase_fflux.model.sites import adjoint_to_local, moments_to_global
from ase_fflux.topology.graphs import atom_label

_NOWHERE = np.zeros(3, dtype=bool)

_LARGE = 256
"""Atoms from which on several threads gain more than it takes to start them."""

INTRAMOLECULAR = "intramolecular"
"""Name of the energies within molecules in `Results.terms`."""


class ForceField:
    """Energies and forces of any atoms that the models describe; picklable and thread-safe.

    Parameters
    ----------
    models : sequence of MoleculeModel
        One for each species of molecules; a cluster may be a species.
    electrostatics : bool
        Whether molecules interact by their multipole moments.
    level : int, optional
        Interaction level L from 1 to 9: moments of ranks with l_A + l_B + 1 <= L interact; those
        that a model does not have count as zero.
    rank : int, optional
        Interaction rank L': all moments up to this rank interact. Without level and rank it is the
        highest rank that all models have.
    short_range : ShortRange, optional
        Pair potentials between molecules.
    accuracy : float, optional
        Relative error of electrostatics in periodic cells, by default 1e-6.
    interactions : sequence of Interaction, optional
        What acts between molecules, in place of what the five arguments before say.

    Attributes
    ----------
    models : tuple of MoleculeModel
    patterns : tuple of Pattern
        Elements and bonds of each model, by which molecules are found.
    interactions : tuple of Interaction
    """

    def __init__(
        self, models, electrostatics=True, level=None, rank=None, short_range=None,
        accuracy=None, interactions: Sequence[Interaction] | None = None,
    ):
        self.models = tuple(models)
        if not self.models:
            raise FFLUXError("a force field needs at least one model")
        if not isinstance(electrostatics, bool | np.bool_):  # "no" would be true
            raise FFLUXError(f"electrostatics={electrostatics!r}: it is True or False")
        if interactions is None:
            interactions = []
            if electrostatics:
                interactions.append(Electrostatics.of_models(self.models, level, rank, accuracy))
            elif (level, rank) != (None, None):
                Electrostatics(level, rank)  # a level that there is not is a slip all the same
            if short_range is not None:
                interactions.append(short_range)
        elif not electrostatics or (level, rank, short_range, accuracy) != (None,) * 4:
            raise FFLUXError(
                "give the list of interactions or electrostatics, level, rank, short_range and "
                "accuracy, not both"
            )
        self.interactions = tuple(interactions)
        names = [interaction.name for interaction in self.interactions]
        if len(set(names)) < len(names) or INTRAMOLECULAR in names:
            raise FFLUXError(f"interactions need different names; these are {', '.join(names)}")
        self._lay_out()

    def __repr__(self) -> str:
        names = ", ".join(model.name for model in self.models)
        between = ", ".join(interaction.name for interaction in self.interactions)
        return f"<ForceField of {names}; between molecules: {between or 'nothing'}>"

    def _lay_out(self):
        self._species = [Species(model) for model in self.models]
        self.patterns = tuple(
            topology.Pattern.from_geometry(
                m.name, symbols2numbers(m.symbols), m.reference_geometry, m.geometries
            )
            for m in self.models
        )

    def __getstate__(self):
        # what is laid out for evaluation is many times larger than what it is made from
        return {"models": self.models, "interactions": self.interactions}

    def __setstate__(self, state):
        vars(self).update(state)
        self._lay_out()

    def match(self, positions, numbers, cell=None, pbc=None, explicit=None) -> topology.Assignment:
        """Find the molecules and decide which model atom every atom is.

        Chemically equivalent atoms are assigned so that the molecule is nearest to the training
        data in the metric of the kernels, which settles handedness.

        Parameters
        ----------
        positions : (n, 3) array
            bohr.
        numbers : (n,) int array
            Atomic numbers.
        cell : (3, 3) array, optional
            Cell vectors in rows, bohr.
        pbc : (3,) bool array, optional
            Periodic directions.
        explicit : list or dict, optional
            The atoms of each molecule in model order, see `topology.match`.

        Raises
        ------
        TopologyError, GeometryError
            If a molecule fits no model, naming its atoms.
        """

        def distance(k, coordinates):
            atoms = np.broadcast_to(np.arange(coordinates.shape[1]), coordinates.shape[:2])
            coordinates = np.ascontiguousarray(coordinates)
            own = self.patterns[k].numbers
            try:
                return self._species[k].distances(coordinates, atoms, own)
            except GeometryError:
                # a labelling without defined frames is no candidate; where there is no other,
                # `evaluate` names the atom
                if len(coordinates) == 1:
                    return np.array([np.inf])
                return np.concatenate([distance(k, one[None]) for one in coordinates])

        return topology.match(
            self.patterns, numbers, positions, cell, pbc, distance, explicit=explicit
        )

    def in_order(self, numbers) -> topology.Assignment:
        """The assignment of one molecule whose atoms stand in the order of the only model.

        Raises
        ------
        TopologyError
            Atomic numbers (N,) that are not those of the model.
        """
        (model,) = self.models
        return self.match(
            model.reference_geometry, numbers, explicit=[list(range(len(numbers)))]
        )

    def flops(self, with_moments: bool) -> int:
        """Operations that a molecule of the first model takes at least, see `Pack.flops`.

        Those of energies, and where molecules interact those of moments and of their adjoint.
        """
        species = self._species[0]
        return species.flops + (species.moments.flops if with_moments else 0)

    def evaluate(
        self, positions, numbers, cell=None, pbc=None, assignment=None, moments=False,
        neighbours: NeighbourList | None = None, threads: int | None = None,
    ) -> Results:
        """Energy, forces and, if wanted or needed, moments.

        Parameters
        ----------
        positions, numbers, cell, pbc
            As in `match`.
        assignment : Assignment, optional
            From `match`; found anew if not given.
        moments : bool
            Whether to return moments also where no interaction needs them.
        neighbours : NeighbourList, optional
            The caller's own, kept from call to call; pairs are listed anew if not given.
        threads : int, optional
            How many work on a large system, see `base.threads.number_of_threads`; results are the
            same to the last bit on any number.

        Returns
        -------
        Results
            In atomic units.
        """
        assignment, system, groups = self.molecules(positions, numbers, cell, pbc, assignment)
        if len(system.positions) >= _LARGE:
            system = system._replace(threads=number_of_threads(threads))
        system = system._replace(
            workspace=Workspace() if neighbours is None else neighbours.workspace
        )
        several = system.periodic or len(groups) > 1 or len(groups[0][1]) > 1
        active = self.interactions if several else ()
        if active:
            models = [self.models[k] for k, _ in groups]
            for interaction in active:
                interaction.check(system, models)
            active = [interaction.on(system) for interaction in active]
            system = system._replace(sites=self._sites(groups, len(system.numbers)))
        whole = system.positions
        n = len(whole)
        energies, coverage = np.empty(n), np.empty(n)
        gradients = []
        for k, atoms in groups:
            gradients.append(np.zeros((*atoms.shape, 3)))
            swept = self._species[k].add_energies(
                whole[atoms], atoms, system.numbers, gradients[-1], system.threads
            )
            energies[atoms] = swept.values[..., 0]
            coverage[atoms] = np.exp(-swept.exponents)
        terms = {INTRAMOLECULAR: float(energies.sum())}
        for interaction in self.interactions:
            terms[interaction.name] = 0.0
        highest = max(i.rank for i in active) if active else -1
        if highest >= 0:
            global_moments, found = self._moments(groups, system, highest, True)
            system = system._replace(moments=global_moments)
        all_moments = self._all_moments(groups, system, moments)
        gradient, virial = np.zeros((n, 3)), np.zeros((3, 3))
        if active:
            potential = self._add_interactions(
                active, system, neighbours, terms, energies, gradient, virial
            )
            if potential is not None:
                self._add_adjoint_of_moments(groups, system, found, potential, gradients)
        # a strain moves whole molecules as it moves their atoms, so the virial of what depends on
        # unwrapped coordinates alone is their product with the gradient
        within = gradient if not active else np.empty_like(gradient)
        for (_, atoms), own in zip(groups, gradients, strict=True):
            within[atoms] = own
        add_sum_of_products(whole, within, virial)
        if active:
            gradient += within
        return Results(
            energy=float(energies.sum()) if active else terms[INTRAMOLECULAR],
            energies=energies,
            forces=-gradient,
            virial=0.5 * (virial + virial.T),
            coverage=coverage,
            positions=whole,
            moments=all_moments,
            terms=terms,
        )

    def _sites(self, groups, n):
        """(n,) site of each atom: the atoms of the models counted through."""
        sites = np.empty(n, dtype=np.int64)
        first = np.cumsum([0, *(len(model.symbols) for model in self.models)])
        for k, atoms in groups:
            sites[atoms] = np.arange(first[k], first[k + 1])
        return sites

    def _add_interactions(self, active, system, neighbours, terms, energies, gradient, virial):
        """Add what acts between molecules; returns dE/dQ (n, K) of global moments or None."""
        cutoffs = [i.cutoff for i in active if i.cutoff is not None]
        if cutoffs:
            neighbours = neighbours or NeighbourList(skin=0.0)
            neighbours.pairs(
                system.positions, system.molecule, system.cell, system.pbc, max(cutoffs)
            )
        potential = None
        for interaction in active:
            if interaction.cutoff is not None:
                system = system._replace(pairs=neighbours.within(interaction.cutoff))
            found = interaction.evaluate(system)
            terms[interaction.name] = float(found.energies.sum())
            energies += found.energies
            gradient += found.gradient
            virial += found.virial
            if found.potential is not None:
                potential = found.potential + (0.0 if potential is None else potential)
        return potential

    def molecules(self, positions, numbers, cell=None, pbc=None, assignment=None):
        """What is evaluated: parameters and errors of `evaluate`.

        Returns
        -------
        assignment : Assignment
        system : System
            With whole molecules.
        groups : list of (int, (M, N) int array)
            Models, and the atoms of their molecules in the order of the model.
        """
        positions, numbers = np.asarray(positions, dtype=float), np.asarray(numbers)
        if not np.isfinite(positions).all():
            bad = np.flatnonzero(~np.isfinite(positions).all(axis=-1))[0]
            raise GeometryError(f"the position of {atom_label(bad, numbers)} is not a number")
        if assignment is None:
            assignment = self.match(positions, numbers, cell, pbc)
        pbc = _NOWHERE if pbc is None else np.asarray(pbc, dtype=bool)
        if pbc.shape != (3,):
            pbc = np.broadcast_to(pbc, 3)
        cell = np.zeros((3, 3)) if cell is None else np.asarray(cell, dtype=float)
        # always another array than the caller's, who may move his atoms while the results live
        whole = assignment.unwrap(positions, cell, pbc) if pbc.any() else positions.copy()
        groups = [
            (k, atoms) for k, atoms in enumerate(assignment.atoms_of_model) if len(atoms)
        ]
        return assignment, System(whole, numbers, assignment.molecule, cell, pbc), groups

    def _all_moments(self, groups, system, wanted):
        """All global moments (n, K) that the models have, None where they are neither wanted nor
        known.

        They are never the ones that interact where those are fewer: forces are the same to the
        last bit whether all are wanted or not.
        """
        rank = max(self._species[k].model.rank for k, _ in groups)
        if system.moments is not None and system.moments.shape[1] >= n_moments(rank):
            return system.moments[:, : n_moments(rank)]
        return self._moments(groups, system, rank, False)[0] if wanted else None

    def _moments(self, groups, system, rank, with_adjoint):
        """Global moments (n, K) up to a rank, and `Moments` of each group."""
        moments = np.zeros((len(system.positions), n_moments(rank)))
        found = []
        for k, atoms in groups:
            species = self._species[k]
            if species.n_moments == 0:
                raise FFLUXError(f"the model {species.model.name} has no charges or moments")
            here = species.moments_at(
                system.positions[atoms], atoms, system.numbers, rank, with_adjoint, system.threads,
                partial(system.room.array, f"kernels of {k}"),
            )
            found.append(here)
            n = here.local.shape[2]
            frames, local = here.frames.reshape(-1, 3, 3), here.local.reshape(-1, n)
            rotated = run(
                lambda part, frames=frames, local=local: moments_to_global(
                    frames[part], local[part]
                ), zip(slices(len(local), system.threads)), system.threads,
            )
            moments[atoms.ravel(), :n] = np.concatenate(rotated)
        return moments, found

    def _add_adjoint_of_moments(self, groups, system, found, potential, gradients):
        """Carry dE/dQ (n, K) of the global moments to the positions."""
        for (k, atoms), moments, gradient in zip(groups, found, gradients, strict=True):
            species = self._species[k]
            n = moments.local.shape[2]
            arrays = (
                moments.frames.reshape(-1, 3, 3), moments.local.reshape(-1, n),
                np.ascontiguousarray(potential[atoms.ravel(), :n]),
            )
            parts = run(
                lambda part, arrays=arrays: adjoint_to_local(*(a[part] for a in arrays)),
                zip(slices(atoms.size, system.threads)), system.threads,
            )
            seeds, torques = map(np.concatenate, zip(*parts, strict=True))
            species.add_adjoint(
                system.positions[atoms], atoms, system.numbers, moments,
                seeds.reshape(moments.local.shape), torques.reshape(*atoms.shape, 3), gradient,
                system.threads,
            )
