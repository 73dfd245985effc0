"""Energies and forces of any set of atoms from molecules' models, in atomic units, without ASE."""

from ase_fflux.forcefield.force_field import ForceField
from ase_fflux.forcefield.loading import load
from ase_fflux.forcefield.results import Results

__all__ = ["ForceField", "Results", "load"]
