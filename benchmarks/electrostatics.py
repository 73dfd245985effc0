"""One evaluation of boxes of water with Ewald sums, part by part, beside a yardstick.

The boxes are lattices of turned molecules of the bundled model at the density of the liquid. The
yardstick is that of `forces.py`: value and gradient of one RBF process of 1000 points x 21
features. The floor is made of flops of pairs (a multiply-add for each element of the tensor and
its derivative, both ways, and the turns), splines and Fourier transforms (5 N log2 N each) at the
rate of multiply-adds of this core; it leaves out all traffic. Medians on one core, in milliseconds.
"""

import argparse

import numpy as np
from forces import median, rate, yardstick
from scipy.spatial.transform import Rotation

from ase_fflux import load
from ase_fflux.forcefield import ForceField
from ase_fflux.forcefield.interactions.cartesian import TO_MONOMIALS, n_monomials
from ase_fflux.forcefield.interactions.neighbours import NeighbourList
from ase_fflux.forcefield.interactions.quasi_internal import contraction
from ase_fflux.model.multipoles import n_moments

_SPACING = 5.87


def box(model, per_edge, rng):
    """Positions (bohr), atomic numbers and cell of a cube of molecules."""
    n = per_edge**3
    turns = Rotation.random(n, rng=rng).as_matrix()
    sites = np.array(list(np.ndindex((per_edge,) * 3)), dtype=float)[:, None] * _SPACING
    shapes = model.reference_geometry + rng.normal(scale=0.02, size=(n, 3, 3))
    x = sites + np.einsum("nij,naj->nai", turns, shapes)
    return x.reshape(-1, 3), np.tile([8, 1, 1], n), per_edge * _SPACING * np.eye(3)


def floor(sum_, rank, n_pairs, n, shape):
    """Least number of operations."""
    k = n_moments(rank)
    pairs = n_pairs * (2 * 9 * len(contraction(rank, 2 * rank + 1)) + 2 * 2 * 16 * k + 100)
    mesh = sum_.order**3 * n * 2 * (2 * rank + 3)
    points = np.prod(shape)
    return pairs + mesh + 2 * 2.5 * points * np.log2(points)


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--molecules-per-edge", type=int, nargs="*", default=[7])
    parser.add_argument("--ranks", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--accuracy", type=float, default=1e-6)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    (model,) = load("water").models
    flops = rate()
    print(f"multiply-adds: {1e-9 * flops:.1f} GFlop/s; yardstick {1e6 * yardstick(rng):.1f} us")
    print(f"{'atoms':>7}{'rank':>5}{'all':>9}{'within':>9}{'pairs':>9}{'waves':>9}{'floor':>9}"
          "  cut-off, mesh, order")
    pbc = np.ones(3, dtype=bool)
    for per_edge in options.molecules_per_edge:
        x, numbers, cell = box(model, per_edge, rng)
        explicit = np.arange(len(x)).reshape(-1, 3).tolist()
        assignment = load("water").match(x, numbers, cell, pbc, explicit=explicit)
        repeats = 15 if per_edge < 10 else 5
        for rank in options.ranks:
            forcefield = ForceField([model], rank=rank, accuracy=options.accuracy)
            listed = NeighbourList()

            def evaluate(forcefield=forcefield, listed=listed, x=x, numbers=numbers, cell=cell,
                         assignment=assignment, **keywords):
                return forcefield.evaluate(
                    x, numbers, cell, pbc, assignment=assignment, neighbours=listed, **keywords
                )

            moments = evaluate(moments=True).moments[:, : n_moments(rank)]
            _, system, _ = forcefield.molecules(x, numbers, cell, pbc, assignment)
            sum_ = forcefield.interactions[0].on(system)
            pairs = listed.pairs(system.positions, system.molecule, cell, pbc, sum_.cutoff)
            system = system._replace(pairs=pairs, moments=moments)
            m = moments @ TO_MONOMIALS[: n_moments(rank), : n_monomials(rank)]
            took = median(evaluate, repeats)
            total = median(lambda s=sum_, y=system: s.evaluate(y), repeats)
            waves = median(lambda s=sum_, y=system, m=m: s.add_waves(y, m, np.zeros((3, 3))),
                           repeats)
            n = len(x)
            n_pairs = n**2 / 2 * 4 / 3 * np.pi * sum_.cutoff**3 / np.linalg.det(cell)
            shape = sum_.shape(cell)
            least = floor(sum_, rank, n_pairs, n, shape) / flops
            parts = (took, took - total, total - waves, waves, least)
            print(f"{n:7}{rank:5}" + "".join(f"{1e3 * part:9.2f}" for part in parts)
                  + f"  {sum_.cutoff:.1f} bohr, {shape[0]}, {sum_.order}")


if __name__ == "__main__":
    main()
