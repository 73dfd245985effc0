"""What the training benchmarks share: published data, errors in kJ/mol, medians, threads."""

import argparse
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ase_fflux.base.units import HARTREE_KJ
from ase_fflux.formats import read_training_set

DATA = Path(__file__).resolve().parents[2] / "shared" / "reference" / "ferebus"


@dataclass(frozen=True)
class PublishedSet:
    """Features (n, F) and energies (n,) in hartree of one atom, for training and validation."""

    name: str
    features: np.ndarray
    targets: np.ndarray
    validation_features: np.ndarray
    validation_targets: np.ndarray

    def rmse(self, predicted: np.ndarray) -> float:
        """Error (kJ/mol) of energies (hartree) predicted at the validation points."""
        return HARTREE_KJ * float(np.sqrt(np.mean((predicted - self.validation_targets) ** 2)))


def load(name: str, data: Path = DATA) -> PublishedSet:
    """Atomic energies of a molecule published with FEREBUS; ends the program where they are not."""
    found = sorted((data / name).glob("*_VALIDATION_SET.csv"))
    if len(found) != 1:
        sys.exit(
            f"no published data in {data / name}: take them from popelier-group/ferebus-paper-data "
            "on GitHub (not part of this project) and name the folder above by --data DIR"
        )
    training = found[0].with_name(found[0].name.replace("_VALIDATION_", "_TRAINING_"))
    train, check = read_training_set(training), read_training_set(found[0])
    return PublishedSet(
        name, train.features, train.targets["iqa"], check.features, check.targets["iqa"]
    )


def median_run(run: Callable[[], object], repeat: int) -> tuple[float, object]:
    """Seconds and result of the median of several runs (of an even number: the faster middle)."""
    runs = []
    for _ in range(repeat):
        start = time.perf_counter()
        result = run()
        runs.append((time.perf_counter() - start, result))
    return sorted(runs, key=lambda pair: pair[0])[(repeat - 1) // 2]


def options(description: str, sets: list[str]) -> argparse.ArgumentParser:
    """The options that the training benchmarks have in common."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--sets", nargs="+", default=sets, metavar="NAME", help="molecules")
    parser.add_argument("--data", type=Path, default=DATA, metavar="DIR", help="published data")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=3, help="runs, of which the median counts")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here, too")
    return parser


def use_threads(count: int) -> None:
    """Start the program anew if need be: libraries read these variables when they are loaded."""
    wanted = {f"{name}_NUM_THREADS": str(count) for name in ("OMP", "OPENBLAS", "MKL", "NUMBA")}
    if any(os.environ.get(name) != value for name, value in wanted.items()):
        sys.stdout.flush()
        os.execve(sys.executable, sys.orig_argv, os.environ | wanted)
