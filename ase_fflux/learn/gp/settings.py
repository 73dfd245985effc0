"""What a training is asked for."""

from dataclasses import asdict, dataclass, field, replace

import numpy as np

from ase_fflux.base.errors import TrainingError
from ase_fflux.learn.gp.holdout import HoldOut
from ase_fflux.learn.gp.likelihood import ConcentratedLikelihood, MarginalLikelihood
from ase_fflux.learn.gp.optimisers import LBFGS, Optimiser
from ase_fflux.learn.gp.selection import METHODS
from ase_fflux.model.kernels import KERNELS

OBJECTIVES = {
    "concentrated": ConcentratedLikelihood, "marginal": MarginalLikelihood, "hold-out": HoldOut,
}
NOISE_BOUNDS = (1e-12, 1e-2)
"""Range of a learned noise."""
SEEDINGS = ("full", "partial")
COMBINATIONS = ("mean", "best")


@dataclass(frozen=True)
class Transfer:
    """How hyperparameters are transferred.

    Parameters
    ----------
    fractions : tuple of float, optional
        Sizes of the sources relative to the whole set, growing. The first is searched, each
        further one, a rung of a ladder, relaxes what the one before found. By default 0.1, 0.3 and
        0.6 for L-BFGS, 0.2 and 0.5 for a population, which finds less on a small source.
    sources : int
        Number of sources of the first size.
    combination : str
        Of several: ``mean`` of their log theta, or the ``best`` by the objective on the whole set.
    selection : str
        Of their points, one of `selection.METHODS`.
    seeding : str
        ``full``, or ``partial``: features that the source switched off start afresh.
    curvature : bool
        Whether the relaxation of L-BFGS begins with the source's information matrix and with
        gradients by random probes (`relax`); without, it is an ordinary short search.
    relaxation : int, optional
        Evaluations on the whole set (L-BFGS: 3 more on a ladder's rungs). By default 4 for L-BFGS,
        4 % of its budget for a population.
    """

    fractions: tuple[float, ...] | None = None
    sources: int = 1
    combination: str = "mean"
    selection: str = "random"
    seeding: str = "full"
    curvature: bool = True
    relaxation: int | None = None

    def __post_init__(self):
        ends = (0.0, *(self.fractions or (0.5,)), 1.0)
        if self.fractions == () or not all(a < b for a, b in zip(ends, ends[1:], strict=False)):
            raise TrainingError(
                f"fractions of sources must grow between 0 and 1, not {self.fractions}"
            )
        _known("selection", self.selection, METHODS)
        _known("seeding", self.seeding, SEEDINGS)
        _known("combination", self.combination, COMBINATIONS)
        for name in ("sources", "relaxation"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise TrainingError(f"{name} must be at least 1, not {getattr(self, name)}")


@dataclass(frozen=True)
class TrainingSettings:
    """How hyperparameters are found.

    Parameters
    ----------
    noise : float
        Variance on the diagonal relative to the prefactor. A smaller one makes weights so large
        (1e5 Ha) that cancellation among them limits the energy to 1e-9 eV.
    learn_noise : bool
        Whether it is a hyperparameter instead, searched within `NOISE_BOUNDS` from 1e-3 on: from a
        small noise, the search explains noise by short length scales and stays there.
    bounds : tuple of float
        Range of theta. The upper bound matters for small molecules, whose likelihood would choose
        length scales too short for good derivatives.
    kernel : str
        One of `KERNELS`: ``periodic`` on the azimuths and RBF on the rest, or plain ``rbf``.
    objective : str
        One of `OBJECTIVES`.
    prior : float, optional
        Standard deviation of a normal prior on log theta around `initial_theta`.
    optimiser : Optimiser
        Of the search: `LBFGS`, `GreyWolf` or `ParticleSwarm`.
    transfer : Transfer or None
        None for direct learning.
    seed : int
        Of random points.
    """

    noise: float = 1e-8
    learn_noise: bool = False
    bounds: tuple[float, float] = (1e-6, 3.0)
    kernel: str = "periodic"
    objective: str = "concentrated"
    prior: float | None = None
    optimiser: Optimiser = field(default_factory=LBFGS)
    transfer: Transfer | None = field(default_factory=Transfer)
    seed: int = 0

    def __post_init__(self):
        _known("kernel", self.kernel, KERNELS)
        _known("objective", self.objective, OBJECTIVES)
        low, high = self.bounds
        if not 0 < low <= high < np.inf:
            raise TrainingError(f"bounds of theta must be 0 < low <= high, not {low} and {high}")
        if not 0 <= self.noise < 1 or self.learn_noise and self.noise == 0:
            least = "above" if self.learn_noise else "of at least"
            raise TrainingError(
                f"the noise must be a number {least} zero and below 1, where labels are noise as "
                f"much as signal, not {self.noise}"
            )
        if self.prior is not None and not 0 < self.prior < np.inf:
            raise TrainingError(f"the width of the prior must be above zero, not {self.prior}")

    @property
    def plan(self) -> Transfer | None:
        """The transfer, with what suits the optimiser where nothing was said."""
        if self.transfer is None:
            return None
        if isinstance(self.optimiser, LBFGS):
            fractions, relaxation = (0.1, 0.3, 0.6), 4
        else:
            fractions, relaxation = (0.2, 0.5), max(round(0.04 * self.optimiser.budget), 1)
        return replace(
            self.transfer, fractions=self.transfer.fractions or fractions,
            relaxation=self.transfer.relaxation or relaxation,
        )

    def record(self) -> dict:
        """The settings for a provenance, JSON-able."""
        return asdict(self) | {
            "transfer": None if self.transfer is None else asdict(self.plan),
            "protocol": "direct learning" if self.transfer is None else "transfer learning",
            "optimiser": {"name": type(self.optimiser).__name__, **asdict(self.optimiser)},
        }


def _known(what: str, value: str, choices) -> None:
    if value not in choices:
        raise TrainingError(f"unknown {what} '{value}'; known are {', '.join(choices)}")
