"""Conversion factors between atomic units, ASE's units and kJ/mol (CODATA 2014, as ase.units).

The published engine uses 1 bohr = 0.52917721067 Angstrom and 1 Ha = 2625.499638285 kJ/mol; the
difference to the values here is below 2e-7 relative.
"""

from ase import units as _units

BOHR = _units.Bohr
"""Angstrom per bohr."""

HARTREE = _units.Hartree
"""eV per hartree."""

KJ_PER_MOL = _units.kJ / _units.mol
"""eV per kJ/mol."""

KCAL_PER_MOL = _units.kcal / _units.mol
"""eV per kcal/mol."""

HARTREE_KJ = HARTREE / KJ_PER_MOL
"""kJ/mol per hartree."""

FORCE = HARTREE / BOHR
"""eV/Angstrom per hartree/bohr."""
