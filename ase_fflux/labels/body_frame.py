"""Axes fixed to a molecule, for calculations on grids that must not feel how it is turned.

The axes follow three atoms and are smooth functions of the geometry, unlike principal axes, which
jump where two moments of inertia cross.
"""

import numpy as np

_OFF_LINE = 0.3
"""Sine of the angle from which three atoms span a plane well."""


class BodyFrame:
    """Centre and axes of a geometry.

    The first axis points from the heaviest atom to the next one (in the order of the file among
    equals), the second one towards the next atom that is not on their line. A linear molecule has
    any axes across it, which make no difference.

    Parameters
    ----------
    numbers : (N,) int array
        Atomic numbers.
    masses : (N,) array
        Masses; the origin is their centre.
    positions : (N, 3) array
        In any unit of length.

    Attributes
    ----------
    axes : (3, 3) array
        Rows are the axes.
    origin : (3,) array
        Centre of mass.
    """

    def __init__(self, numbers, masses, positions):
        self.origin = masses @ positions / masses.sum()
        order = np.argsort(-np.asarray(numbers), kind="stable")
        self._atoms: list[int] = [int(order[0])]
        if len(order) == 1:
            self.axes = np.eye(3)
            return
        first, second = order[:2]
        x = _unit(positions[second] - positions[first])
        self._atoms.append(int(second))
        across = np.eye(3)[np.argmin(np.abs(x))]
        for atom in order[2:]:
            towards = positions[atom] - positions[first]
            if np.linalg.norm(np.cross(x, towards)) > _OFF_LINE * np.linalg.norm(towards):
                across = towards
                self._atoms.append(int(atom))
                break
        z = _unit(np.cross(x, across))
        self.axes = np.array([x, np.cross(z, x), z])

    def into(self, positions: np.ndarray) -> np.ndarray:
        """Coordinates in the frame."""
        return (positions - self.origin) @ self.axes.T

    def gradient(self, positions: np.ndarray, gradient: np.ndarray) -> np.ndarray:
        """Derivative of an energy that is calculated in the frame.

        What a fixed grid adds when the molecule turns is no part of it, because the frame turns
        with the molecule: a torque t changes the energy by -t times the rotation of the frame.

        Parameters
        ----------
        positions : (N, 3) array
            In the frame.
        gradient : (N, 3) array
            Of the energy of the calculation, in the frame.

        Returns
        -------
        (N, 3) array
            In the axes of the input, without torque.
        """
        gradient = gradient.copy()
        if len(self._atoms) > 1:
            torque = np.cross(positions, gradient).sum(axis=0)
            a, b = self._atoms[:2]
            length = positions[b, 0] - positions[a, 0]
            turning = np.zeros_like(gradient)
            turning[b, 1] += torque[2] / length
            turning[b, 2] -= torque[1] / length
            if len(self._atoms) > 2:
                c = self._atoms[2]
                u, v = (positions[c] - positions[a])[:2]
                turning[c, 2] += torque[0] / v
                turning[b, 2] -= torque[0] * u / (v * length)
            turning[a] -= turning.sum(axis=0)
            gradient -= turning
        return gradient @ self.axes


def _unit(vector):
    return vector / np.linalg.norm(vector)
