"""Trained processes on disk, so that training which was interrupted goes on where it stopped.

A checkpoint is a numpy archive (never with pickles) of the arrays ``inputs`` (n, F), ``kernel``
(3, F: rbf, cyclic, periodic), ``mean`` (P,), ``weights`` (P, n) and ``log_theta`` (F,), and of
``header``, a JSON string with the numbers of a `TrainingResult`, its steps and the fingerprint of
what it was trained on.
"""

import hashlib
import io
import json
import os
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from ase_fflux import __version__
from ase_fflux.learn.gp.settings import TrainingSettings
from ase_fflux.learn.gp.training import Step, TrainingResult
from ase_fflux.model.kernels import Kernel
from ase_fflux.model.process import GaussianProcess

DAMAGE = (
    zipfile.BadZipFile, zlib.error, OSError, EOFError, KeyError, ValueError, TypeError,
    NotImplementedError, RuntimeError,
)
"""What reading a damaged archive raises."""


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
    header = {
        "trained_on": trained_on, "noise": process.noise, "objective": result.objective,
        "evaluations": result.evaluations, "seconds": result.seconds,
        "steps": [asdict(step) for step in result.steps],
    }
    partial = path.with_name(path.name + ".part")
    try:
        with open(partial, "wb") as file:
            np.savez_compressed(
                file, header=np.array(json.dumps(header, default=lambda number: number.item())),
                inputs=process.inputs, kernel=[kernel.rbf, kernel.cyclic, kernel.periodic],
                mean=process.mean, weights=process.weights, log_theta=result.log_theta,
            )
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def read_checkpoint(path: Path, trained_on: str) -> TrainingResult | None:
    """The result in a file, bitwise as it was written.

    None if there is no such file, if it is damaged, or if it was trained on something else.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            header = json.loads(archive["header"].item())
            if header["trained_on"] != trained_on:
                return None
            process = GaussianProcess(
                archive["inputs"], Kernel(*archive["kernel"]), archive["mean"],
                archive["weights"], header["noise"],
            )
            steps = tuple(Step(**step) for step in header["steps"])
            return TrainingResult(
                process=process, objective=header["objective"], log_theta=archive["log_theta"],
                evaluations=header["evaluations"], seconds=header["seconds"], steps=steps,
            )
    except DAMAGE:
        return None
