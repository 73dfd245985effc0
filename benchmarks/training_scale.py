"""Time and memory of one evaluation of the likelihood with its gradient, by number of points.

    python benchmarks/training_scale.py --points 1000 2000 4000 10000 --threads 2

30 features, random points; what they predict means nothing, what they cost is real. The floor is
the Cholesky factorisation and the inverse of the kernel matrix alone, n^3 operations in LAPACK.
"""

import argparse
import resource
import time

import numpy as np
from published_sets import use_threads
from scipy.linalg import lapack

from ase_fflux.learn.gp.likelihood import ConcentratedLikelihood
from ase_fflux.learn.gp.relaxation import PROBES

FEATURES = 30


def seconds(run) -> float:
    """Best of two runs."""
    times = []
    for _ in range(2):
        begin = time.perf_counter()
        run()
        times.append(time.perf_counter() - begin)
    return min(times)


def floor(n: int) -> float:
    """Seconds of dpotrf and dpotri."""
    matrix = np.asfortranarray(np.exp(-np.abs(np.subtract.outer(*2 * [np.linspace(0, 9, n)]))))
    factor = lapack.dpotrf(matrix, lower=1, clean=0, overwrite_a=1)[0]
    begin = time.perf_counter()
    lapack.dpotri(factor, lower=1, overwrite_c=1)
    # dpotrf takes half as many operations as dpotri
    return 1.5 * (time.perf_counter() - begin)


def measure(n: int) -> tuple[float, ...]:
    """Seconds of exact gradient, gradient by probes and value; peak memory so far in GB."""
    rng = np.random.default_rng(0)
    features = rng.normal(size=(n, FEATURES))
    targets = np.sin(features[:, :5]).sum(axis=1)
    likelihood, x = ConcentratedLikelihood(features, targets, 1e-8), np.full(FEATURES, -3.0)
    probes = np.asfortranarray(rng.choice([-1.0, 1.0], size=(n, PROBES)))
    times = [
        seconds(lambda: likelihood.value_and_gradient(x)),
        seconds(lambda: likelihood.value_and_gradient(x, probes)),
        seconds(lambda: likelihood.value(x)),
    ]
    return *times, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--points", type=int, nargs="+", default=[1000, 2000, 4000, 10000])
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    use_threads(args.threads)
    measure(100)  # compiles
    print("| points | exact gradient s | LAPACK floor s | gradient by probes s | value s "
          "| peak memory GB |\n| --- | --- | --- | --- | --- | --- |")
    for n in args.points:
        exact, sketched, value, peak = measure(n)
        print(f"| {n} | {exact:.3f} | {floor(n):.3f} | {sketched:.3f} | {value:.3f} | {peak:.2f} |",
              flush=True)


if __name__ == "__main__":
    main()
