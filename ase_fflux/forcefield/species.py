"""A molecule's model with its processes laid out for evaluation."""

from functools import cached_property

import numpy as np

from ase_fflux.base.machine import cores, memory_available, threads_here
from ase_fflux.forcefield.evaluation import check, pack, sweep
from ase_fflux.model.molecule import ENERGY, MoleculeModel
from ase_fflux.model.multipoles import MOMENT_NAMES, n_moments


class Species:
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
        # the posterior may be gigabytes: copies make their own
        return {name: value for name, value in vars(self).items() if name != "posterior"}

    def project_charges(self, moments, adjoint=False):
        """Spread what the charges of a molecule lack of its total charge equally over its atoms.

        This is the least change that mends the sum. Models whose labels' charges do not sum to an
        integer, as those read from ``.model`` files, are left as they are
        (`MoleculeModel.charge`).

        Parameters
        ----------
        moments : (M, N, K) array, in and out
            Charges in column 0.
        adjoint : bool
            Whether these are derivatives by projected charges, made those by predicted ones.
        """
        if self.model.charge is not None:
            total = 0 if adjoint else self.model.charge
            moments[..., 0] -= (moments[..., 0].mean(axis=1) - total / moments.shape[1])[:, None]

    def run(
        self, pack_arrays, coordinates, atoms, numbers, seeds, local_torques=None, gradient=None
    ):
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
        check(failure, atoms, numbers)
        return values, frames, exponents
