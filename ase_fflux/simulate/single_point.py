"""One geometry evaluated: all that a calculator knows of it, with units in the names."""

from dataclasses import dataclass

import numpy as np
from ase import Atoms, units

from ase_fflux.base.units import HARTREE, KJ_PER_MOL

DEBYE = 1 / units.Debye
"""Debye per e Angstrom."""

BAR = units.bar
"""eV/Angstrom^3."""


@dataclass(frozen=True, eq=False)
class SinglePoint:
    """What is known of a geometry.

    Attributes
    ----------
    atoms : Atoms
        The geometry, without calculator.
    terms : dict
        Energies by name (eV); they sum to the energy.
    energy : float
        eV.
    energies : (n,) array
        Of the atoms (eV).
    forces : (n, 3) array
        eV/Angstrom.
    coverage : (n,) array
    stress : (6,) array or None
        xx, yy, zz, yz, xz, xy (eV/Angstrom^3), of cells periodic in three directions.
    multipoles : (n, K) array or None
        Global moments (atomic units), None where a model has none.
    dipole : (3,) array or None
        e Angstrom.
    uncertainty : Uncertainty or None
        Standard deviations, if asked for.
    """

    atoms: Atoms
    terms: dict[str, float]
    energy: float
    energies: np.ndarray
    forces: np.ndarray
    coverage: np.ndarray
    stress: np.ndarray | None
    multipoles: np.ndarray | None
    dipole: np.ndarray | None
    uncertainty: object = None

    @property
    def largest(self) -> int:
        """Index of the atom with the largest force."""
        return int(np.argmax(np.linalg.norm(self.forces, axis=1)))

    @property
    def pressure(self) -> float:
        """Minus a third of the trace of the stress (bar); without kinetic energy."""
        return float(-self.stress[:3].mean() / BAR)

    def record(self) -> dict:
        """For a summary in JSON, units in the names."""
        found = {
            "formula": self.atoms.get_chemical_formula(),
            "energy_eV": self.energy,
            "energy_hartree": self.energy / HARTREE,
            "energy_terms_eV": self.terms,
            "energies_of_atoms_eV": self.energies,
            "forces_eV_per_A": self.forces,
            "coverage_of_atoms": self.coverage,
        }
        if self.stress is not None:
            found |= {
                "stress_xx_yy_zz_yz_xz_xy_eV_per_A3": self.stress, "pressure_bar": self.pressure,
            }
        if self.dipole is not None:
            found |= {"dipole_e_A": self.dipole, "multipoles_atomic_units": self.multipoles}
        if self.uncertainty is not None:
            found |= {
                "energy_standard_deviation_eV": self.uncertainty.energy,
                "forces_standard_deviation_eV_per_A": self.uncertainty.forces,
            }
        return found

    def energy_rows(self) -> list[tuple[str, str, str, str]]:
        """Rows of a table: the terms and their sum in eV, hartree and kJ/mol."""
        rows = [("energy", "eV", "hartree", "kJ/mol")]
        for name, value in [*self.terms.items(), ("total", self.energy)]:
            rows.append((
                name.replace("_", " "), f"{value:.6f}", f"{value / HARTREE:.9f}",
                f"{value / KJ_PER_MOL:.4f}",
            ))
        return rows


def single_point(atoms: Atoms, calculator, uncertainty: bool = False) -> SinglePoint:
    """Evaluate a geometry with an `FFLUX` calculator.

    Parameters
    ----------
    atoms : Atoms
        Left as it is.
    calculator : FFLUX
    uncertainty : bool
        Whether to ask for standard deviations too.

    Raises
    ------
    FFLUXError
        See `FFLUX.calculate` and `FFLUX.get_uncertainty`.
    """
    atoms = atoms.copy()
    atoms.calc = calculator
    energy = float(atoms.get_potential_energy(apply_constraint=False))
    forces = atoms.get_forces(apply_constraint=False)
    stress = atoms.get_stress() if atoms.pbc.all() else None
    coverage = calculator.coverage.copy()
    energies = atoms.get_potential_energies()
    terms = dict(calculator.energy_terms)
    multipoles = dipole = None
    if all(model.rank >= 0 for model in calculator.forcefield.models):
        multipoles, dipole = calculator.get_multipoles(atoms), atoms.get_dipole_moment()
    deviations = calculator.get_uncertainty(atoms) if uncertainty else None
    atoms.calc = None
    return SinglePoint(
        atoms, terms, energy, energies, forces, coverage, stress, multipoles, dipole, deviations
    )
