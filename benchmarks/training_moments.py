"""One kernel for all moments of an atom against one for each: times and errors.

    fflux build models/inputs/ethanol.xyz -o ethanol.fflux --energies-only
    python benchmarks/training_moments.py ethanol-build

Transfer learning of the moments of every atom on the labels that a build left, on one thread; the
errors are those on its test set.
"""

import argparse
from pathlib import Path

import numpy as np
from published_sets import use_threads

from ase_fflux.labels.dataset import read_dataset
from ase_fflux.learn.gp.settings import TrainingSettings
from ase_fflux.model.alf import choose_alf
from ase_fflux.model.multipoles import MOMENT_NAMES, moment_rank
from ase_fflux.training.jobs import Plan, run_jobs
from ase_fflux.training.molecule import local_properties, molecule_jobs

RANKS = ("charges (e)", "dipoles (au)", "quadrupoles (au)")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="NAME-build of `fflux build`")
    parser.add_argument("--labels", type=int, help="take every k-th label to have so many")
    args = parser.parse_args()
    use_threads(1)
    training, test = (read_dataset(args.folder / f) for f in ("labels.xyz", "test.xyz"))
    alf = choose_alf(training.symbols, training.geometries[0])
    training = training.select(slice(None, None, max(len(training) // (args.labels or 10**9), 1)))
    print(f"| kernel ({len(training)} labels) | training s | {' | '.join(RANKS)} |")
    print("| --- | --- | --- | --- | --- |")
    for moments in ("shared", "separate"):
        jobs = [
            job for job in molecule_jobs(training, alf, TrainingSettings(), moments)
            if job.properties != ("iqa",)
        ]
        results = run_jobs(jobs, plan=Plan(len(jobs), 1, 1, 0, ""))
        squares = {rank: [] for rank in range(len(RANKS))}
        for job in jobs:
            inputs, targets = local_properties(test, alf, job.atom)
            predicted = results[job.name].process.predict(inputs)
            for name, row in zip(job.properties, predicted, strict=True):
                error = row - targets[1 + MOMENT_NAMES.index(name)]
                squares[moment_rank(name)].append(np.mean(error**2))
        seconds = sum(result.seconds for result in results.values())
        errors = " | ".join(f"{np.sqrt(np.mean(values)):.5f}" for values in squares.values())
        print(f"| {moments} | {seconds:.1f} | {errors} |", flush=True)


if __name__ == "__main__":
    main()
