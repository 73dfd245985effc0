"""FFLUX machine-learned force fields for ASE.

>>> from ase.io import read
>>> from ase_fflux import FFLUX
>>> atoms = read("ethanol.xyz")
>>> atoms.calc = FFLUX("ethanol")
>>> forces = atoms.get_forces()

Public names are loaded on first use: ASE imports this package whenever it reads a file.
"""

import importlib

__version__ = "0.1.0"

_HOME = {
    "FFLUX": "ase_fflux.calculator",
    "ForceField": "ase_fflux.forcefield",
    "Results": "ase_fflux.forcefield",
    "load": "ase_fflux.forcefield",
    "read_model": "ase_fflux.formats.model_file",
    "label": "ase_fflux.labels.references",
    "read_aimall": "ase_fflux.labels.importers.aimall",
    "FFLUXError": "ase_fflux.base.errors",
}

__all__ = sorted(_HOME)


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__():
    return sorted([*globals(), *__all__])
