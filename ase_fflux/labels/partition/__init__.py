"""Atoms in molecules: partitions of the electron density, and what is integrated over them."""
