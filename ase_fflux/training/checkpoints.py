"""Trained processes on disk, so that training which was interrupted goes on where it stopped.

A checkpoint (`ase_fflux.base.checkpoint`) has the arrays ``inputs`` (n, F), ``kernel`` (3, F: rbf,
cyclic, periodic), ``mean`` (P,), ``weights`` (P, n) and ``log_theta`` (F,), and in its record the
numbers of a `TrainingResult` and its steps.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from ase_fflux import __version__
from ase_fflux.base import checkpoint
from ase_fflux.learn.gp.settings import TrainingSettings
from ase_fflux.learn.gp.training import Step, TrainingResult
from ase_fflux.model.kernels import Kernel
from ase_fflux.model.process import GaussianProcess


def fingerprint(
    features: np.ndarray, targets: np.ndarray, settings: TrainingSettings,
    guesses: Sequence[np.ndarray],
) -> str:
    """SHA-256 of everything that a training depends on.

    Guesses are among it: a model that is trained anew invalidates those that start from it. So is
    the version of this package, because another one may train in another way.
    """
    digest = hashlib.sha256(f"{__version__} {settings!r}".encode())
    for array in (features, targets, *guesses):
        array = np.ascontiguousarray(array, dtype="<f8")
        digest.update(f"{array.shape}".encode())
        digest.update(array)
    return digest.hexdigest()


def write_checkpoint(path: Path, result: TrainingResult, trained_on: str) -> None:
    """Write a result with the fingerprint of what it was trained on, whole or not at all."""
    process = result.process
    kernel = process.kernel
    arrays = {
        "inputs": process.inputs, "kernel": [kernel.rbf, kernel.cyclic, kernel.periodic],
        "mean": process.mean, "weights": process.weights, "log_theta": result.log_theta,
    }
    checkpoint.write_checkpoint(path, trained_on, arrays, {
        "noise": process.noise, "objective": result.objective,
        "evaluations": result.evaluations, "seconds": result.seconds,
        "steps": [asdict(step) for step in result.steps],
    })


def read_checkpoint(path: Path, trained_on: str) -> TrainingResult | None:
    """The result in a file, bitwise as it was written.

    None if there is no such file, if it is damaged, or if it was trained on something else.
    """
    known = checkpoint.known_checkpoint(path, trained_on)
    if known is None:
        return None
    arrays, record = known
    return TrainingResult(
        process=GaussianProcess(
            arrays["inputs"], Kernel(*arrays["kernel"]), arrays["mean"], arrays["weights"],
            record["noise"],
        ),
        objective=record["objective"], log_theta=arrays["log_theta"],
        evaluations=record["evaluations"], seconds=record["seconds"],
        steps=tuple(Step(**step) for step in record["steps"]),
    )
