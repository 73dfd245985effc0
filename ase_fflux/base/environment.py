"""What numbers and times depend on: versions, machine, threads, caches."""

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ase_fflux import __version__
from ase_fflux.base.machine import THREADS, cores, memory_of_machine

_PACKAGES = (
    "numpy", "scipy", "ase", "numba", "llvmlite", "phonopy", "matplotlib", "threadpoolctl",
    "psutil", "tqdm", "tblite", "pyscf", "distributed", "rdkit", "sella",
    "dftd3", "dftd4", "qc-iodata", "ipi",
)
"""What is needed, and what is used where it is installed."""


def environment() -> dict:
    """Versions, machine, threads and caches, JSON-able; None stands for what is not there."""
    import numpy  # noqa: F401  its linear algebra is among the libraries below
    import scipy.linalg  # noqa: F401
    from threadpoolctl import threadpool_info

    from ase_fflux.base.jit import cache_folder

    return {
        "ase_fflux": __version__,
        "package": str(Path(__file__).resolve().parents[1]),
        "python": {
            "version": platform.python_version(),
            "implementation": platform.python_implementation(),
            "executable": sys.executable,
        },
        "packages": {name: version_of(name) for name in _PACKAGES},
        "machine": {
            "platform": platform.platform(),
            "architecture": platform.machine(),
            "cores": cores(),
            "memory": {"value": round(memory_of_machine() / 1e9, 1), "unit": "GB"},
        },
        "threads": {
            "environment": {name: os.environ.get(name) for name in (*THREADS, *_NUMBA)},
            "libraries": [
                {key: found.get(key) for key in _OF_LIBRARIES} for found in threadpool_info()
            ],
        },
        "caches": {"numba": cache_folder()},
    }


_NUMBA = ("NUMBA_NUM_THREADS", "NUMBA_CACHE_DIR", "NUMBA_DISABLE_JIT")
_OF_LIBRARIES = ("user_api", "internal_api", "version", "num_threads", "architecture")


def version_of(name: str) -> str | None:
    """Version of a package; None where it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None
