"""What users are told of results that cannot be relied on: low coverage, molecules that may
collapse."""

import warnings

import numpy as np

from ase_fflux.base.errors import CoverageError, CoverageWarning, RepulsionWarning
from ase_fflux.topology.graphs import atom_label

_NO_COVERAGE = 0.1
"""Share of the coverage that is asked for below which nothing is known: water with a bond of 1.55
Angstrom, where the energy is wrong by 0.8 eV, ethanol's O-H at 1.6 Angstrom."""

_CALLER = 6
"""Frames up to whoever asks Atoms for a result: through the calculator and ASE's methods."""


def least_coverage(models, assignment, given: float | None = None) -> np.ndarray:
    """(n,) coverage of each atom below which it is outside of the training data.

    Parameters
    ----------
    models : sequence of MoleculeModel
    assignment : Assignment
        Of the n atoms to the models.
    given : float, optional
        In place of what the models say.
    """
    least = np.full(len(assignment.molecule), np.nan if given is None else given)
    if given is None:
        for model, atoms in zip(models, assignment.atoms_of_model, strict=True):
            least[atoms] = model.least_coverage
    return least


class Cautions:
    """Warnings of a calculator, each given once."""

    def __init__(self):
        self._low = self._collapse = False

    def of_coverage(self, coverage, least, numbers, raised: bool) -> None:
        """Warn of an atom outside of the training data.

        Parameters
        ----------
        coverage, least : (n,) arrays
            What the atoms have, and what they ought to have.
        numbers : (n,) int array
            Atomic numbers.
        raised : bool
            Whether it is an error every time.

        Raises
        ------
        CoverageError
            If wanted, and where nothing is known.
        """
        worst = int(np.argmin(coverage - least))
        none = np.flatnonzero(coverage < _NO_COVERAGE * least)
        if len(none):
            worst = none[0]
            raise CoverageError(
                f"{atom_label(worst, numbers)} has a coverage of {coverage[worst]:.2g}: the "
                "models know nothing of this geometry, and energy and forces mean nothing "
                "there; start from one like the training data's (on_low_coverage='ignore' goes on)"
            )
        if coverage[worst] >= least[worst] or (self._low and not raised):
            return
        message = (
            f"{atom_label(worst, numbers)} has a coverage of {coverage[worst]:.3g} (below "
            f"{least[worst]:.4g}): this geometry lies outside of the training data of its model, "
            "and energy and forces may be wrong; train on geometries like it, or lower the bound "
            "(min_coverage, --min-coverage)"
        )
        if raised:
            raise CoverageError(message)
        self._low = True
        warnings.warn(message, CoverageWarning, stacklevel=_CALLER)

    def of_collapse(self, interactions, assignment, periodic: bool) -> None:
        """Warn of several molecules that nothing keeps apart."""
        if self._collapse or not interactions:
            return
        several = periodic or sum(map(len, assignment.atoms_of_model)) > 1
        if several and not any(interaction.short_ranged for interaction in interactions):
            self._collapse = True
            warnings.warn(
                "molecules attract each other and nothing keeps them apart: there is no "
                "short-range potential (short_range, --short-range), so that optimisation and "
                "dynamics may collapse",
                RepulsionWarning, stacklevel=_CALLER,
            )
