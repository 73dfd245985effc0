"""Cholesky factor of a covariance matrix row by row, points in any order."""

import numpy as np


class PivotedCholesky:
    """Rows of the factor of K + noise for the points taken so far; K itself is never formed.

    With rows L of the points taken, K is L^T L up to the covariance of what is left (H. Harbrecht,
    M. Peters, R. Schneider, Appl. Numer. Math. 2012, 62, 428).

    Parameters
    ----------
    prior : (n,) array
        Diagonal of K.
    count : int
        Points that will be taken at most.
    noise : float
        Variance on the diagonal.

    Attributes
    ----------
    variance : (n,) array
        Diagonal of what is left, without noise.
    """

    def __init__(self, prior: np.ndarray, count: int, noise: float = 0.0):
        self.variance, self.noise = np.array(prior, dtype=float), noise
        self._rows, self._taken = np.empty((count, len(prior))), 0

    def take(self, point: int, covariances: np.ndarray) -> np.ndarray:
        """Row (n,) of a point, from its covariances (n,) with all points; not to be changed."""
        before, row = self._rows[: self._taken], self._rows[self._taken]
        np.subtract(covariances, before[:, point] @ before, out=row)
        row /= np.sqrt(self.variance[point] + self.noise)
        self.variance -= row**2
        self._taken += 1
        return row
