"""The force field: molecules' models put to work on any set of atoms, in atomic units.

What flows through: positions -> whole molecules in model atom order -> energies and moments of
every atom (`evaluation.sweep`) -> interactions between molecules -> one adjoint sweep back to
positions.
"""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from ase.symbols import symbols2numbers

from ase_fflux import topology
from ase_fflux.base.errors import FFLUXError, GeometryError
from ase_fflux.base.machine import cores, memory_available, threads_here
from ase_fflux.forcefield.evaluation import check, pack, sweep
from ase_fflux.forcefield.interactions.direct import MAX_LEVEL, direct_sum, highest_rank
from ase_fflux.model.molecule import ENERGY, MoleculeModel
from ase_fflux.model.multipoles import MAX_RANK, MOMENT_NAMES, n_moments
from ase_fflux.model.sites import adjoint_to_local, moments_to_global


@dataclass(frozen=True)
class Results:
    """What `ForceField.evaluate` returns, in hartree, bohr and e, atoms in the order of the input.

    Parameters
    ----------
    energy : float
        Total energy.
    energies : (n,) array
        Atomic energies: the intramolecular one plus half of each interaction between molecules.
    forces : (n, 3) array
        Negative gradient of the energy.
    virial : (3, 3) array
        dE/d strain (symmetric), hartree; divide by the volume for the stress.
    coverage : (n,) array
        Largest kernel value between the atom and any training point of its energy, in (0, 1].
    moments : (n, K) array or None
        Global real spherical moments in the order of `MOMENT_NAMES`, if they were needed.
    terms : dict
        Energies ``intramolecular``, ``electrostatic`` and ``short_range``.
    """

    energy: float
    energies: np.ndarray
    forces: np.ndarray
    virial: np.ndarray
    coverage: np.ndarray
    moments: np.ndarray | None = None
    terms: dict = field(default_factory=dict)

    @property
    def charges(self) -> np.ndarray | None:
        """(n,) atomic charges (e)."""
        return None if self.moments is None else self.moments[:, 0]

    def dipole(self, positions: np.ndarray, origin: np.ndarray) -> np.ndarray:
        """(3,) dipole moment (e bohr) of charges and atomic dipoles about an origin (bohr)."""
        dipole = self.charges @ (positions - origin)
        if self.moments.shape[1] >= 4:
            z, x, y = self.moments[:, 1:4].sum(axis=0)
            dipole = dipole + np.array([x, y, z])
        return dipole


class _Species:
    """A model with its processes laid out for evaluation."""

    def __init__(self, model: MoleculeModel):
        self.model = model
        self.n_moments = n_moments(model.rank)
        self.energy_pack = pack(model.alf, model.processes, {ENERGY: 0}).arrays()
        slots = {name: i for i, name in enumerate(MOMENT_NAMES[: self.n_moments])}
        self.moment_pack = pack(model.alf, model.processes, slots).arrays()

    @cached_property
    def posterior(self):
        """The `Posterior` of the model."""
        from ase_fflux.learn.joint.uncertainty import Posterior

        return Posterior(self.model, threads_here(cores()), memory_available())

    def __getstate__(self):
        # the posterior may be gigabytes
        return {name: value for name, value in vars(self).items() if name != "posterior"}

    def run(self, pack_arrays, coordinates, atoms, seeds, local_torques=None, gradient=None):
        """One sweep; returns values (M, N, S), frames (M, N, 3, 3) and exponents (M, N)."""
        shape = coordinates.shape
        slopes = gradient is not None
        values = np.zeros(seeds.shape)
        frames = np.empty((*shape[:2], 3, 3))
        exponents = np.empty(shape[:2])
        failure = np.zeros(3, dtype=np.int64)
        if local_torques is None:
            local_torques = np.zeros(shape)
        if gradient is None:
            gradient = np.zeros(shape)
        sweep(coordinates, pack_arrays, slopes, seeds, local_torques, values, frames, gradient,
              exponents, failure)
        check(failure, atoms)
        return values, frames, exponents


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
    """

    def __init__(self, models, electrostatics=True, level=None, rank=None, short_range=None):
        self.models = tuple(models)
        if not self.models:
            raise FFLUXError("a force field needs at least one model")
        self._species = [_Species(model) for model in self.models]
        self._patterns = [
            topology.Pattern.from_geometry(
                m.name, symbols2numbers(m.symbols), m.reference_geometry
            )
            for m in self.models
        ]
        self.electrostatics = electrostatics
        self.short_range = short_range
        available = min(m.rank for m in self.models)
        if level is not None and rank is not None:
            raise FFLUXError("give the interaction level or the interaction rank, not both")
        if level is None and rank is None:
            rank = max(available, 0)
        if level is not None and level not in range(1, MAX_LEVEL + 1):
            raise FFLUXError(f"interaction level {level}: levels go from 1 to {MAX_LEVEL}")
        if rank is not None and rank not in range(MAX_RANK + 1):
            raise FFLUXError(f"interaction rank {rank}: ranks go from 0 to {MAX_RANK}")
        if rank is not None and electrostatics and 0 <= available < rank:
            raise FFLUXError(
                f"interaction rank {rank} needs moments up to rank {rank}, but "
                f"{min(self.models, key=lambda m: m.rank).name} has them up to {available}"
            )
        self.level, self.rank = level, rank

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
            species = self._species[k]
            seeds = np.ones((*coordinates.shape[:2], 1))
            atoms = np.broadcast_to(np.arange(coordinates.shape[1]), coordinates.shape[:2])
            coordinates = np.ascontiguousarray(coordinates)
            try:
                return species.run(species.energy_pack, coordinates, atoms, seeds)[2].sum(axis=1)
            except GeometryError:
                # a labelling without defined frames is no candidate; where there is no other,
                # `evaluate` names the atom
                if len(coordinates) == 1:
                    return np.array([np.inf])
                return np.concatenate([distance(k, one[None]) for one in coordinates])

        return topology.match(
            self._patterns, numbers, positions, cell, pbc, distance, explicit=explicit
        )

    def evaluate(
        self, positions, numbers, cell=None, pbc=None, assignment=None, moments=False
    ) -> Results:
        """Energy, forces and, if wanted or needed, moments.

        Parameters
        ----------
        positions, numbers, cell, pbc
            As in `match`.
        assignment : Assignment, optional
            From `match`; found anew if not given.
        moments : bool
            Whether to return moments also where no electrostatics needs them.

        Returns
        -------
        Results
            In atomic units.
        """
        assignment, whole, groups = self._molecules(positions, numbers, cell, pbc, assignment)
        periodic = pbc is not None and np.any(pbc)
        n = len(whole)
        gradient = np.zeros((n, 3))
        energies = np.zeros(n)
        coverage = np.zeros(n)
        gradients = {}
        for k, atoms in groups:
            species = self._species[k]
            gradients[k] = np.zeros((*atoms.shape, 3))
            values, _, exponents = species.run(
                species.energy_pack, whole[atoms], atoms, np.ones((*atoms.shape, 1)),
                gradient=gradients[k],
            )
            energies[atoms] = values[..., 0]
            coverage[atoms] = np.exp(-exponents)
        terms = {"intramolecular": energies.sum(), "electrostatic": 0.0, "short_range": 0.0}
        several = sum(len(atoms) for _, atoms in groups) > 1
        interact = self.electrostatics and (several or periodic)
        if interact:
            self._check_electrostatics(groups, periodic)
        all_moments = None
        if interact or moments:
            all_moments, local = self._moments(groups, whole, n)
        if interact:
            terms["electrostatic"] = self._electrostatics(
                groups, whole, assignment.molecule, all_moments, local, energies, gradient,
                gradients,
            )
        for k, atoms in groups:
            gradient[atoms] += gradients[k]
        # a strain moves whole molecules as it moves their atoms, so the virial of what depends on
        # unwrapped coordinates alone is their product with the gradient
        virial = whole.T @ gradient
        if self.short_range is not None and (several or periodic):
            pair_energies, pair_gradient, pair_virial = self.short_range.evaluate(
                whole, numbers, assignment.molecule, cell, pbc if periodic else (False,) * 3
            )
            terms["short_range"] = pair_energies.sum()
            energies += pair_energies
            gradient += pair_gradient
            virial += pair_virial
        return Results(
            energy=float(energies.sum()),
            energies=energies,
            forces=-gradient,
            virial=0.5 * (virial + virial.T),
            coverage=coverage,
            moments=all_moments,
            terms={name: float(value) for name, value in terms.items()},
        )

    def uncertainty(self, positions, numbers, cell=None, pbc=None, assignment=None):
        """Standard deviations of energies within molecules and of their forces.

        Those of different molecules are independent. Interactions between molecules have none
        stated: they count as exact.

        Parameters
        ----------
        positions, numbers, cell, pbc, assignment
            As in `evaluate`.

        Returns
        -------
        Uncertainty
            In atomic units. The first one for a model takes as long as the last step of its
            training.

        Raises
        ------
        FFLUXError
            Models that were not trained on gradients, or that memory does not hold.
        """
        from ase_fflux.learn.joint.uncertainty import Uncertainty

        _, whole, groups = self._molecules(positions, numbers, cell, pbc, assignment)
        variance, energies, forces = 0.0, np.zeros(len(whole)), np.zeros(whole.shape)
        for k, molecules in groups:
            for atoms in molecules:
                found = self._species[k].posterior.uncertainty(whole[atoms])
                variance += found.energy**2
                energies[atoms], forces[atoms] = found.energies, found.forces
        return Uncertainty(float(np.sqrt(variance)), energies, forces)

    def _molecules(self, positions, numbers, cell, pbc, assignment):
        """Assignment, positions of whole molecules, and [(k, atoms (M, N) of molecules)]."""
        positions = np.asarray(positions, dtype=float)
        if not np.isfinite(positions).all():
            bad = np.flatnonzero(~np.isfinite(positions).all(axis=-1))[0]
            raise GeometryError(f"the position of atom {bad} is not a number")
        if assignment is None:
            assignment = self.match(positions, numbers, cell, pbc)
        periodic = pbc is not None and np.any(pbc)
        whole = assignment.unwrap(positions, cell, pbc) if periodic else positions
        groups = [
            (k, atoms) for k, atoms in enumerate(assignment.atoms_of_model) if len(atoms)
        ]
        return assignment, whole, groups

    def _check_electrostatics(self, groups, periodic):
        for k, _ in groups:
            if self.models[k].rank < 0:
                raise FFLUXError(
                    f"the model {self.models[k].name} has no charges or moments, so that molecules "
                    "cannot interact: use electrostatics=False to leave that interaction out"
                )
        if periodic:
            raise FFLUXError(
                "electrostatics of periodic systems is not available yet: set atoms.pbc = False "
                "for a molecule or cluster in vacuum, or use electrostatics=False"
            )

    def _moments(self, groups, whole, n):
        """Global moments (n, K) of all atoms, and {k: (local moments, frames)}."""
        moments = np.zeros((n, max(self._species[k].n_moments for k, _ in groups)))
        local = {}
        for k, atoms in groups:
            species = self._species[k]
            if species.n_moments == 0:
                raise FFLUXError(f"the model {species.model.name} has no charges or moments")
            seeds = np.zeros((*atoms.shape, species.n_moments))
            values, frames, _ = species.run(species.moment_pack, whole[atoms], atoms, seeds)
            local[k] = values, frames
            rotated = moments_to_global(
                frames.reshape(-1, 3, 3), values.reshape(-1, species.n_moments)
            )
            moments[atoms.ravel(), : species.n_moments] = rotated
        return moments, local

    def _electrostatics(
        self, groups, whole, molecule, moments, local, energies, gradient, gradients
    ):
        """Add electrostatics to energies and gradients; returns its energy."""
        needed = n_moments(self.rank if self.level is None else highest_rank(self.level))
        if needed > moments.shape[1]:
            moments = np.pad(moments, ((0, 0), (0, needed - moments.shape[1])))
        energy, d_position, d_moment = direct_sum(
            whole, moments, molecule, level=self.level, rank=self.rank
        )
        # the energy is bilinear in the moments: half of Q dE/dQ is each atom's share
        energies += 0.5 * np.einsum("ak,ak->a", moments, d_moment)
        gradient += d_position
        for k, atoms in groups:
            species = self._species[k]
            values, frames = local[k]
            potential = d_moment[atoms.ravel(), : species.n_moments]
            seeds, torques = adjoint_to_local(
                frames.reshape(-1, 3, 3), values.reshape(-1, species.n_moments),
                np.ascontiguousarray(potential),
            )
            species.run(
                species.moment_pack, whole[atoms], atoms, seeds.reshape(values.shape),
                torques.reshape(*atoms.shape, 3), gradients[k],
            )
        return energy


def load(model, **options) -> ForceField:
    """Load a force field.

    Parameters
    ----------
    model : str, Path or list of them
        Name of a bundled model, a bundle (``.fflux``) or a directory of ``.model`` files; several
        for several species of molecules.
    **options
        Passed on to `ForceField`.

    Examples
    --------
    >>> load("water").evaluate(positions, [8, 1, 1]).energy  # bohr in, hartree out
    """
    from ase_fflux.formats.locate import load_molecule

    names = model if isinstance(model, list | tuple) else [model]
    return ForceField([load_molecule(name) for name in names], **options)
