"""One evaluation of boxes of water with Ewald sums, part by part, beside a yardstick.

The boxes are lattices of turned molecules of the bundled model at the density of the liquid. The
yardstick is that of `forces.py`: value and gradient of one RBF process of 1000 points x 21
features. The floor is made of flops of pairs (a multiply-add for each element of the tensor and
its derivative, both ways, and the turns), splines and Fourier transforms (5 N log2 N each) at the
rate of multiply-adds of this core; it leaves out all traffic. Ranks beyond those of the model have
made-up moments; then the sum alone is measured. Medians, in milliseconds. On a busy machine
`--processor` measures the time that processors work, which on one thread is what a quiet machine
takes or a little more. *Memory* is the most that the process has
had so far, so that sizes go up.
"""

import argparse
import resource
import time

import numpy as np
from forces import rate, yardstick
from scipy.spatial.transform import Rotation

from ase_fflux import load
from ase_fflux.forcefield import ForceField
from ase_fflux.forcefield.interactions.cartesian import TO_MONOMIALS, n_monomials
from ase_fflux.forcefield.interactions.electrostatics import Electrostatics
from ase_fflux.forcefield.interactions.neighbours import NeighbourList
from ase_fflux.forcefield.interactions.quasi_internal import contraction
from ase_fflux.model.multipoles import n_moments

_SPACING = 5.87


def timed(function, repeats, clock):
    """Median time of a call (s) by a clock, after two that are not counted."""
    times = []
    for _ in range(repeats + 2):
        start = clock()
        function()
        times.append(clock() - start)
    return float(np.median(times[2:]))


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
    return pairs, mesh, 2 * 2.5 * points * np.log2(points)


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--molecules-per-edge", type=int, nargs="*", default=[7])
    parser.add_argument("--ranks", type=int, nargs="*", default=[0, 2, 4])
    parser.add_argument("--threads", type=int, nargs="*", default=[1, 2])
    parser.add_argument(
        "--processor", action="store_true", help="time of processors, not of the clock"
    )
    parser.add_argument("--accuracy", type=float, default=1e-6)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    (model,) = load("water").models
    flops = rate()
    print(f"multiply-adds: {1e-9 * flops:.1f} GFlop/s; yardstick {1e6 * yardstick(rng):.1f} us")
    titles = ("all", "within", "pairs", "waves", "floor: pairs", "splines", "transforms")
    print(f"{'atoms':>7}{'rank':>5}{'threads':>8}" + "".join(f"{title:>13}" for title in titles)
          + f"{'memory (MB)':>13}  cut-off (bohr), mesh, order")
    clock = time.process_time if options.processor else time.perf_counter
    for per_edge in options.molecules_per_edge:
        for rank in options.ranks:
            measure(model, box(model, per_edge, rng), rank, options, flops, clock)


def measure(model, system_of, rank, options, flops, clock):
    """Print the rows of one box and rank."""
    x, numbers, cell = system_of
    n, pbc, rng = len(x), np.ones(3, dtype=bool), np.random.default_rng(1)
    repeats = 25 if n < 3000 else 3
    explicit = np.arange(n).reshape(-1, 3).tolist()
    forcefield = ForceField([model], rank=min(rank, model.rank), accuracy=options.accuracy)
    assignment = forcefield.match(x, numbers, cell, pbc, explicit=explicit)
    listed = NeighbourList()
    found = forcefield.evaluate(x, numbers, cell, pbc, assignment, moments=True, neighbours=listed)
    moments = 0.1 * rng.normal(size=(n, n_moments(rank)))
    known = min(n_moments(rank), found.moments.shape[1])
    moments[:, :known] = found.moments[:, :known]
    _, system, _ = forcefield.molecules(x, numbers, cell, pbc, assignment)
    sum_ = Electrostatics(rank=rank, accuracy=options.accuracy).on(system)
    listed.pairs(system.positions, system.molecule, cell, pbc, sum_.cutoff)
    system = system._replace(
        pairs=listed.within(sum_.cutoff), moments=moments, workspace=listed.workspace
    )
    m = moments @ TO_MONOMIALS[: n_moments(rank), : n_monomials(rank)]
    n_pairs = n**2 / 2 * 4 / 3 * np.pi * sum_.cutoff**3 / np.linalg.det(cell)
    shape = sum_.shape(cell)
    least = [part / flops for part in floor(sum_, rank, n_pairs, n, shape)]
    for threads in options.threads:
        here = system._replace(threads=threads)
        waves = timed(lambda y=here: sum_.add_waves(y, m, np.zeros((3, 3))), repeats, clock)
        total = timed(lambda y=here: sum_.evaluate(y), repeats, clock)
        took = np.nan
        if rank <= model.rank:
            took = timed(lambda t=threads: forcefield.evaluate(
                x, numbers, cell, pbc, assignment, neighbours=listed, threads=t
            ), repeats, clock)
        parts = (took, took - total, total - waves, waves, *least)
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000  # kB on Linux
        print(f"{n:7}{rank:5}{threads:8}" + "".join(f"{1e3 * part:13.2f}" for part in parts)
              + f"{memory:13.0f}  {sum_.cutoff:.1f}, {shape[0]}, {sum_.order}", flush=True)


if __name__ == "__main__":
    main()
