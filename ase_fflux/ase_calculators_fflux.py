"""Installed as ``ase.calculators.fflux``: what ASE imports to find the calculator by its name."""

from ase_fflux.calculator import FFLUX

Fflux = FFLUX
"""ASE looks for the name in title case."""
