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
    "FFLUXError": "ase_fflux.base.errors",
    "FFLUXWarning": "ase_fflux.base.errors",
    "ForceField": "ase_fflux.forcefield",
    "Results": "ase_fflux.forcefield",
    "load": "ase_fflux.forcefield",
    "ShortRange": "ase_fflux.forcefield.interactions.pairs",
    "MoleculeModel": "ase_fflux.model.molecule",
    "read_bundle": "ase_fflux.formats.bundle",
    "write_bundle": "ase_fflux.formats.bundle",
    "read_model": "ase_fflux.formats.model_file",
    "read_model_directory": "ase_fflux.formats.model_directory",
    "Dataset": "ase_fflux.labels.label",
    "Label": "ase_fflux.labels.label",
    "LabelSource": "ase_fflux.labels.source",
    "read_dataset": "ase_fflux.labels.dataset",
    "GFN2": "ase_fflux.labels.tblite_source",
    "label": "ase_fflux.labels.references",
    "read_dlpoly": "ase_fflux.run_directory",
    "read_aimall": "ase_fflux.labels.importers.aimall",
}

__all__ = sorted(_HOME)


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__():
    return sorted([*globals(), *__all__])
