"""A molecule's model with its processes laid out for evaluation."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ase_fflux.base.jit import njit
from ase_fflux.base.threads import run, slices
from ase_fflux.forcefield.evaluation import ADJOINT, SLOPES, VALUES, check, sweep
from ase_fflux.forcefield.packing import pack
from ase_fflux.forcefield.terms import TermPack, add_terms, pack_terms
from ase_fflux.model.alf import exchanged_axes
from ase_fflux.model.molecule import ENERGY, MoleculeModel
from ase_fflux.model.multipoles import MOMENT_NAMES, n_moments

_KEPT_AT_MOST = 2**25
"""Kernel values (256 MB) that are kept for the adjoint; of more they are computed again."""


class Swept(NamedTuple):
    """Values (M, N, S) of outputs, local frames (M, N, 3, 3), exponents (M, N) of the coverage."""

    values: np.ndarray
    frames: np.ndarray
    exponents: np.ndarray


class Moments(NamedTuple):
    """Local moments (M, N, K), frames (M, N, 3, 3), and the kernels (M, n_kept) they came from."""

    local: np.ndarray
    frames: np.ndarray
    kept: np.ndarray


@njit
def project_charges(moments, total):
    """Spread what charges ``moments[:, :, 0]`` lack of their total equally over the atoms.

    This is the least change that mends the sum, and with a total of 0 its own adjoint. Models whose
    labels' charges do not sum to an integer, as those read from ``.model`` files, are left as they
    are (`MoleculeModel.charge`).
    """
    n = moments.shape[1]
    for m in range(moments.shape[0]):
        excess = -1.0 * total
        for a in range(n):
            excess += moments[m, a, 0]
        for a in range(n):
            moments[m, a, 0] -= excess / n


class Species:
    """A model with its processes laid out for evaluation.

    Where it stands on top of a prior, energies are those of two sweeps, and a geometry is covered
    as far as both cover it.
    """

    def __init__(self, model: MoleculeModel):
        self.model = model
        self.n_moments, self._charge = n_moments(model.rank), model.of_moments.charge
        self.prior = None if model.prior is None else Species(model.prior.here)
        self.energies = pack(model.alf, model.processes, {ENERGY: 0})
        self.terms = pack_terms(model.terms) if model.terms else None
        self.second = None
        if model.second:
            self.second = pack(exchanged_axes(model.alf), model.second, {ENERGY: 0})
        self.moments = self._packed(self.n_moments)
        self._moments = {self.n_moments: self.moments}

    @property
    def flops(self) -> int:
        """Operations that the energies of a molecule take at least, see `Pack.flops`."""
        parts = (self.energies, self.terms, self.second, self.prior)
        return sum(part.flops for part in parts if part is not None)

    def _packed(self, n: int):
        """Processes of the first n moments."""
        slots = {name: i for i, name in enumerate(MOMENT_NAMES[:n])}
        model = self.model.of_moments
        return pack(model.alf, model.processes, slots)

    def _moments_to(self, n: int):
        """`_packed`, kept."""
        if n not in self._moments:
            self._moments[n] = self._packed(n)
        return self._moments[n]

    def add_energies(self, coordinates, atoms, numbers, gradient, threads=1) -> Swept:
        """Atomic energies (M, N, 1) of M molecules; their gradient is added to ``gradient``.

        Parameters
        ----------
        coordinates : (M, N, 3) array
            bohr, in the model's order of atoms.
        atoms : (M, N) int array
            Which atoms of the input they are, and
        numbers : (n,) int array
            its atomic numbers, for messages.
        gradient : (M, N, 3) array, added to
            hartree/bohr.
        threads : int
            How many may work at once.
        """
        seeds = np.zeros((*atoms.shape, 1))
        seeds += 1.0  # np.ones takes longer
        swept = self._run(self.energies, SLOPES, coordinates, atoms, numbers, seeds, gradient,
                          threads=threads)
        if self.terms is not None:
            _add_terms(self.terms, coordinates, swept.values, gradient, threads)
        if self.second is not None:
            further = self._run(self.second, SLOPES, coordinates, atoms, numbers, seeds, gradient,
                                threads=threads)
            np.add(swept.values, further.values, out=swept.values)
        if self.prior is None:
            return swept
        below = self.prior.add_energies(coordinates, atoms, numbers, gradient, threads)
        return Swept(
            swept.values + below.values, swept.frames,
            np.maximum(swept.exponents, below.exponents),
        )

    def distances(self, coordinates, atoms, numbers) -> np.ndarray:
        """(M,) sum over atoms of the smallest exponent to a training point."""
        seeds = np.ones((*atoms.shape, 1))
        found = self._run(
            self.energies, VALUES, coordinates, atoms, numbers, seeds
        ).exponents.sum(axis=1)
        if self.prior is None:
            return found
        return found + self.prior.distances(coordinates, atoms, numbers)

    def moments_at(
        self, coordinates, atoms, numbers, rank: int, with_adjoint: bool, threads: int = 1,
        room: Callable = np.empty,
    ) -> Moments:
        """Local moments, charges projected; see `add_energies` for the parameters.

        ``rank``: the highest wanted; ``with_adjoint``: whether `add_adjoint` will be called;
        ``room``: makes the array of a shape in which kernels are kept for it.
        """
        n = min(self.n_moments, n_moments(rank))
        packed = self._moments_to(n)
        n_kept = packed.n_kept
        fits = with_adjoint and len(atoms) * n_kept <= _KEPT_AT_MOST
        kept = room((len(atoms), n_kept if fits else 0))
        seeds = np.zeros((*atoms.shape, n))
        found = self._run(
            packed, VALUES, coordinates, atoms, numbers, seeds, kept=kept, threads=threads
        )
        if self._charge is not None:
            project_charges(found.values, self._charge)
        return Moments(found.values, found.frames, kept)

    def add_adjoint(
        self, coordinates, atoms, numbers, moments, seeds, torques, gradient, threads=1
    ) -> None:
        """Add to ``gradient`` that of an energy which depends on local moments and on frames.

        Parameters
        ----------
        moments : Moments
            From `moments_at` for the same coordinates.
        seeds : (M, N, K) array
            dE/dQ of local moments; changed.
        torques : (M, N, 3) array
            dE/d omega of the frames, along their axes.
        """
        if self._charge is not None:
            project_charges(seeds, 0)
        packed = self._moments_to(moments.local.shape[2])
        stage = ADJOINT if moments.kept.size or not packed.n_kept else SLOPES
        self._run(
            packed, stage, coordinates, atoms, numbers, seeds, gradient, torques,
            moments.kept, threads,
        )

    def _run(self, packed, stage, coordinates, atoms, numbers, seeds, gradient=None, torques=None,
             kept=None, threads=1) -> Swept:
        """`evaluation.sweep` of all molecules; each is computed for itself."""
        shape = coordinates.shape
        values = np.zeros(seeds.shape)
        frames = np.empty((*shape, 3))
        exponents = np.empty(shape[:2])
        gradient = np.zeros(shape) if gradient is None else gradient
        torques = np.zeros(shape) if torques is None else torques
        kept = np.empty((shape[0], 0)) if kept is None else kept

        def part_of(part):
            failure = np.zeros(3, dtype=np.int64)
            sweep(coordinates[part], packed.arrays, packed.wrapped, packed.bent, packed.room(),
                  stage, seeds[part], torques[part], values[part], frames[part], gradient[part],
                  exponents[part], kept[part], failure)
            return failure

        parts = slices(len(coordinates), threads)
        for part, failure in zip(parts, run(part_of, zip(parts), threads), strict=True):
            check(failure, atoms[part], numbers)
        return Swept(values, frames, exponents)


def _add_terms(terms: TermPack, coordinates, values, gradient, threads) -> None:
    """`terms.add_terms` of all molecules, in equal shares of the atoms."""
    totals = np.zeros(len(coordinates))
    run(
        lambda part: add_terms(coordinates[part], terms.arrays, totals[part], gradient[part]),
        zip(slices(len(coordinates), threads)), threads,
    )
    values += (totals / coordinates.shape[1])[:, None, None]
