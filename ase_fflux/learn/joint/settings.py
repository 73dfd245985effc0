"""What a joint training is asked for."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

import numpy as np

from ase_fflux.base.errors import TrainingError
from ase_fflux.model.kernels import FORMS, Form

PARTITIONED = 5e-3
"""Noise of atomic energies (hartree) that the search starts from where atoms are shares of a
density: features resolve these less well than what a tight-binding method says of its atoms, and
what is taken for exact spoils the total energy."""
PARTITIONED_TOTAL = 1e-5
"""Least noise of their total (hartree; 0.03 kJ/mol). With less, where little is resolved but this,
dual weights grow until energies are rounded to 1e-6 eV, and errors are no smaller."""
CLIMBING = 2
"""Forms of kernels that the first rung is climbed with, of those that are searched."""
LARGE = 120
"""Labels of a rung above which a set must have twice as many for it to be climbed: a smaller set is
solved in a fraction of the time that the rung takes."""
TIGHT = 1e-4
"""Noise that the search starts from a second time where it may be larger: from large noise it is
slow to find length scales that explain all, from small noise they come out too short."""


@dataclass(frozen=True)
class JointSettings:
    """How the hyperparameters of a joint process are found.

    Parameters
    ----------
    energy_noise : float
        Standard deviation of atomic energies (hartree) that the search starts from. It stands for
        what the features do not resolve in the partition of the energy into atoms. It is learned,
        not above this value, which the likelihood alone would do at the expense of atomic energies.
    least_energy_noise : float
        Its lower bound, for the sake of rounding errors.
    gradient_noise : float
        Standard deviation of a component of the gradient (hartree/bohr) that the search starts
        from; it is learned, and not below ``least_gradient_noise``.
    least_gradient_noise : float
        For the sake of rounding errors.
    total_noise, least_total_noise : float
        The same of a total energy (hartree), where it is observed.
    bounds : tuple of float
        Range of theta.
    sizes : tuple of int
        Labels of the source, and of the rungs of the ladder on which its hyperparameters are
        relaxed, as far as the set goes (`stages`). The whole set is only solved. Without transfer
        the last one is searched.
    evaluations : tuple of int
        Evaluations of the likelihood for each of them.
    transfer : bool
        False for direct learning.
    forms : tuple of Form
        Of the kernels; each is searched, and one chosen (`training.find_hyperparameters`). Those
        with terms are for labels without atomic energies, the others for labels with them.
    seed : int
        Of the choice of sources.
    """

    energy_noise: float = TIGHT
    least_energy_noise: float = 1e-6
    gradient_noise: float = 1e-5
    least_gradient_noise: float = 1e-6
    total_noise: float = 1e-5
    least_total_noise: float = 1e-6
    bounds: tuple[float, float] = (1e-6, 3.0)
    sizes: tuple[int, ...] = (30, 60, 120, 240)
    evaluations: tuple[int, ...] = (60, 20, 8, 8)
    transfer: bool = True
    forms: tuple[Form, ...] = tuple(FORMS.values())
    seed: int = 0

    def __post_init__(self):
        low, high = self.bounds
        if not 0 < low <= high < np.inf:
            raise TrainingError(f"bounds of theta must be 0 < low <= high, not {low} and {high}")
        for what, least, noise in (
            ("energies", self.least_energy_noise, self.energy_noise),
            ("gradients", self.least_gradient_noise, self.gradient_noise),
            ("totals", self.least_total_noise, self.total_noise),
        ):
            if not 0 < least <= noise < np.inf:
                raise TrainingError(
                    f"the noise of {what} must be finite, above zero and not below its least "
                    f"value {least:g}, not {noise:g}"
                )
        if not self.forms:
            raise TrainingError("give one form of kernels at least")
        if len(self.sizes) != len(self.evaluations) or not self.sizes:
            raise TrainingError("give a number of evaluations for every size of a source")
        if min(self.sizes) < 2 or min(self.evaluations) < 2 or list(self.sizes) != sorted(
            set(self.sizes)
        ):
            raise TrainingError("sources must grow, and need 2 labels and 2 evaluations at least")

    @property
    def starts(self) -> tuple[float, ...]:
        """Noise of atomic energies that the search starts from, once each."""
        low = max(TIGHT, self.least_energy_noise)
        return (self.energy_noise, low) if low < self.energy_noise else (self.energy_noise,)

    def within(self, fits: Callable[[int], bool]) -> "JointSettings":
        """Without the rungs above `LARGE` labels of which fits(labels) is false."""
        kept = [
            (size, n) for k, (size, n) in enumerate(zip(self.sizes, self.evaluations, strict=True))
            if k == 0 or size <= LARGE or fits(size)
        ]
        sizes, evaluations = zip(*kept, strict=True)
        return replace(self, sizes=sizes, evaluations=evaluations)

    def stages(self, labels: int) -> list[tuple[int, int]]:
        """Sizes and evaluations of the source and the rungs of a set of so many labels."""
        found: list[tuple[int, int]] = []
        for size, evaluations in zip(self.sizes, self.evaluations, strict=True):
            if found and size > LARGE and 2 * size > labels:
                break
            found.append((min(size, labels), evaluations))
            if size >= labels:
                break
        return found

    def budget(self, labels: int) -> list[tuple[int, int]]:
        """Sizes, and evaluations of the likelihood on each, all forms and starts together."""
        with_terms = sum(form.terms for form in self.forms)
        forms = max(with_terms, len(self.forms) - with_terms)
        (first, evaluations), *rungs = self.stages(labels)
        evaluations *= forms * len(self.starts)
        if not self.transfer:
            return [(rungs[-1][0] if rungs else first, evaluations)]
        if rungs:
            size, relaxed = rungs[0]
            rungs[0] = size, min(CLIMBING, forms) * relaxed
        return [(first, evaluations), *rungs]

    @classmethod
    def of_atoms(cls, partition: str) -> "JointSettings":
        """What suits labels whose atoms are of this partition of a density, or of none ("")."""
        if not partition:
            return cls()
        return cls(energy_noise=PARTITIONED, least_total_noise=PARTITIONED_TOTAL)

    def record(self) -> dict:
        """The settings for a provenance, JSON-able."""
        return asdict(self) | {
            "forms": [str(form) for form in self.forms],
            "protocol": "transfer learning" if self.transfer else "direct learning",
        }
