"""How the error of a model falls with the number of its labels, and whether more are worth it."""

from dataclasses import dataclass

import numpy as np

_FAR = 20
"""Times the labels that there are, beyond which no extrapolation is made."""


@dataclass(frozen=True)
class LearningCurve:
    r"""Force RMSE (eV/Angstrom) on held-out geometries of models with growing numbers of labels.

    Errors of a smooth function fall as a power of the number of labels, :math:`a\,n^{-b}`; b is
    fitted to all points.
    """

    labels: tuple[int, ...]
    force_rmse: tuple[float, ...]

    @property
    def exponent(self) -> float:
        """b."""
        return -float(np.polyfit(np.log(self.labels), np.log(self.force_rmse), 1)[0])

    def expected(self, labels: int) -> float:
        """The force RMSE that so many labels would give, from the last point on."""
        return self.force_rmse[-1] * (labels / self.labels[-1]) ** -self.exponent

    def needed(self, force_rmse: float) -> int:
        """Labels that an error needs."""
        ratio = self.force_rmse[-1] / force_rmse
        return int(np.ceil(self.labels[-1] * ratio ** (1.0 / self.exponent)))

    def advice(self, goal: float) -> str:
        """Whether more labels are worth it, in words, for a goal (eV/Angstrom)."""
        n, error = self.labels[-1], self.force_rmse[-1]
        if len(self.labels) == 1:
            return f"held-out force RMSE {error:.2g} eV/A with {n} labels: " + (
                f"below the goal of {goal:g} eV/A, more are not needed." if error <= goal
                else f"above the goal of {goal:g} eV/A, more are needed: --labels."
            )
        before = ", ".join(
            f"{e:.2g} with {k}" for k, e in zip(self.labels[:-1], self.force_rmse[:-1], strict=True)
        )
        said = f"held-out force RMSE {error:.2g} eV/A with {n} labels ({before}): "
        if self.exponent < 0.1:
            said += "it hardly falls with more labels"
            return said + (
                "" if error <= goal else "; label nearer to what you will compute, or at a lower "
                "temperature"
            )
        said += f"{2 * n} would give about {self.expected(2 * n):.2g}. "
        if error <= goal:
            return said + f"Below the goal of {goal:g} eV/A: more labels are not needed."
        needed = self.needed(goal)
        if needed > _FAR * n:
            return said + f"The goal of {goal:g} eV/A is out of reach of more labels."
        return said + f"The goal of {goal:g} eV/A needs about {needed}: --labels."
