"""Energy and forces by the bundled models, beside a yardstick and the floor of the same run.

The yardstick is the value and gradient of one RBF process of 1000 points x 21 features in numba;
the floor is the least number of operations (`Pack.flops`: subtractions, multiplications and
additions for each point and column) at the rate at which this core multiplies and adds numbers of
the nearest cache. Everything runs on one core; medians, in microseconds.
"""

import argparse
import time

import numpy as np
from numba import njit

from ase_fflux import load
from ase_fflux.formats.locate import bundled_models

fast = njit(fastmath=True, nogil=True, error_model="numpy")


@fast
def _process(query, table, weights, slope):
    """Value and gradient of an RBF process, column by column."""
    n_columns, n = table.shape
    k = np.zeros(n)
    for c in range(n_columns):
        for j in range(n):
            d = query[c] - table[c, j]
            k[j] += d * d
    value = 0.0
    for j in range(n):
        k[j] = weights[j] * np.exp(-k[j])
        value += k[j]
    for c in range(n_columns):
        total = 0.0
        for j in range(n):
            total += k[j] * (query[c] - table[c, j])
        slope[c] = -2.0 * total
    return value


@fast
def _multiply_and_add(x, y, factor, rounds):
    for _ in range(rounds):
        for j in range(len(x)):
            x[j] = x[j] * factor + y[j]
            x[j] = x[j] * factor + y[j]
            x[j] = x[j] * factor + y[j]
            x[j] = x[j] * factor + y[j]


def median(function, repeats=300):
    """Median time of a call (s), after two that are not counted."""
    times = []
    for _ in range(repeats + 2):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return float(np.median(times[2:]))


def yardstick(rng):
    """Seconds for the value and gradient of 1000 points x 21 features."""
    table, weights = 0.1 * rng.normal(size=(21, 1000)), rng.normal(size=1000)
    query, slope = 0.1 * rng.normal(size=21), np.empty(21)
    return median(lambda: _process(query, table, weights, slope))


def rate():
    """Operations in a second of multiply-adds on 4 kB."""
    x, y, rounds = np.zeros(256), np.ones(256), 1000
    return 8 * 256 * rounds / median(lambda: _multiply_and_add(x, y, 0.5, rounds), 30)


def systems(rng):
    """(name, force field, positions, numbers) of molecules, dimers and water clusters."""
    for name in sorted(bundled_models()):
        forcefield = load(name)
        shape, numbers = forcefield.models[0].reference_geometry, forcefield.patterns[0].numbers
        for count in (1, 2) + ((8, 64) if name == "water" else ()):
            # far enough apart to be found by their bonds, near enough to be a cluster
            gap = np.ptp(shape, axis=0).max() + 5.0
            place = gap * np.array(list(np.ndindex(4, 4, 4)))[:count]
            x = place[:, None] + shape + 0.02 * rng.normal(size=(count, *shape.shape))
            yield f"{count} {name}", forcefield, x.reshape(-1, 3), np.tile(numbers, count)


def main():
    """Print the table."""
    argparse.ArgumentParser(description=__doc__.partition("\n")[0]).parse_args()
    rng = np.random.default_rng(0)
    print(f"multiply-adds: {1e-9 * rate():.1f} GFlop/s")
    print(f"{'':<20}{'time':>9}{'yardstick':>11}{'ratio':>8}{'floor':>9}{'time/floor':>12}")
    for name, forcefield, x, numbers in systems(rng):
        assignment = forcefield.match(x, numbers)

        def evaluate(x=x, numbers=numbers, assignment=assignment, forcefield=forcefield):
            return forcefield.evaluate(x, numbers, assignment=assignment)

        took, unit = median(evaluate), yardstick(rng)
        (count,) = {len(a) for a in assignment.atoms_of_model}
        least = count * forcefield.flops(with_moments=count > 1) / rate()
        print(
            f"{name:<20}{1e6 * took:9.1f}{1e6 * unit:11.1f}{took / unit:8.1f}{1e6 * least:9.1f}"
            f"{took / least:12.1f}"
        )


if __name__ == "__main__":
    main()
