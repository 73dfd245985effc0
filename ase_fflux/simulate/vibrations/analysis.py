"""Harmonic vibrations: force constants through phonopy, Eckart projection, normal modes."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from ase import Atoms, units
from ase.calculators.calculator import PropertyNotImplementedError

from ase_fflux.base.differences import central_differences, displacements, symmetrised
from ase_fflux.base.errors import FFLUXError, GeometryError
from ase_fflux.base.rigid import internal_motions
from ase_fflux.simulate.limits import require_isolated, require_masses
from ase_fflux.simulate.vibrations.infrared import mode_intensities

if TYPE_CHECKING:
    from phonopy import Phonopy

DISTANCE = 0.001
"""Displacement for central differences (Angstrom).

The error falls as its square: against extrapolated wavenumbers of water, ethanol, benzene and
CO2 (GFN2-xTB) it is at most 1.1 cm^-1 at 0.01, 0.27 at 0.005 and 0.03 at 0.001, where the noise
of GFN2's forces takes over; 0.01 at 0.001 for a FFLUX water model, whose forces have no noise.
"""

LINEAR_TOLERANCE = 0.01
"""A molecule is linear if no atom is further from its axis (Angstrom)."""

_QUANTUM = units._hbar * 1e10 / np.sqrt(units._e * units._amu)
"""hbar omega in eV for omega^2 = 1 eV/(Angstrom^2 amu)."""


@dataclass(frozen=True)
class Vibrations:
    """Normal modes of a molecule of N atoms, n = 3N - 6 of them (3N - 5 if linear).

    Attributes
    ----------
    atoms : Atoms
        The geometry, without calculator.
    energy : float
        Potential energy (eV).
    fmax : float
        Largest force on an atom (eV/Angstrom): how far the geometry is from a minimum.
    linear : bool
        Whether the molecule is linear (`LINEAR_TOLERANCE`).
    wavenumbers : (n,) array
        cm^-1, ascending; an imaginary mode's is negative.
    eigenvectors : (n, N, 3) array
        Orthonormal modes in mass-weighted Cartesian coordinates.
    external_wavenumbers : (3N - n,) array
        What the removed translations and rotations have as wavenumbers (cm^-1); zero up to the
        accuracy of the forces and, for rotations, the distance from the minimum.
    hessian : (3N, 3N) array
        Second derivatives of the energy (eV/Angstrom^2).
    ir_intensities : (n,) array or None
        km/mol; None if the calculator has no dipole.
    phonon : Phonopy
        The molecule in its box with displacements, forces and force constants.
    """

    atoms: Atoms
    energy: float
    fmax: float
    linear: bool
    wavenumbers: np.ndarray
    eigenvectors: np.ndarray
    external_wavenumbers: np.ndarray
    hessian: np.ndarray
    ir_intensities: np.ndarray | None
    phonon: "Phonopy"

    def __repr__(self) -> str:
        real = self.wavenumbers[self.wavenumbers > 0]
        imaginary = len(self.wavenumbers) - len(real)
        span = f"{real.min():.1f} to {real.max():.1f} cm-1" if len(real) else "none real"
        return (
            f"<Vibrations of {self.atoms.get_chemical_formula()}: {len(self.wavenumbers)} modes, "
            f"{span}, {imaginary} imaginary, zero-point energy {self.zero_point_energy:.4f} eV, "
            f"{'with' if self.ir_intensities is not None else 'without'} infrared intensities>"
        )

    @property
    def energies(self) -> np.ndarray:
        """Quanta (n,) in eV, negative for imaginary modes."""
        return self.wavenumbers * units.invcm

    @property
    def zero_point_energy(self) -> float:
        """Half the sum of the real modes' quanta (eV)."""
        return float(self.energies[self.wavenumbers > 0].sum() / 2)

    @property
    def normal_coordinates(self) -> np.ndarray:
        """dr/dQ (n, N, 3) in amu^-1/2."""
        return self.eigenvectors / np.sqrt(self.atoms.get_masses())[:, None]

    @property
    def displacements(self) -> np.ndarray:
        """Cartesian modes (n, N, 3), each of unit length."""
        return self.normal_coordinates * np.sqrt(self.reduced_masses)[:, None, None]

    @property
    def reduced_masses(self) -> np.ndarray:
        """1/|dr/dQ|^2 (n,) in amu, the convention of Gaussian."""
        return 1 / (self.normal_coordinates**2).sum(axis=(1, 2))

    @property
    def force_constants(self) -> np.ndarray:
        """Reduced mass times omega^2 (n,) in eV/Angstrom^2, negative for imaginary modes."""
        squares = np.sign(self.energies) * (self.energies / _QUANTUM) ** 2
        return squares * self.reduced_masses


def vibrations(
    atoms: Atoms,
    *,
    distance: float = DISTANCE,
    watch: Callable[[Iterable], Iterable] = iter,
) -> Vibrations:
    """Force constants by central differences of forces, and the normal modes they have.

    Every atom is displaced both ways along x, y and z, in a copy without periodicity. Symmetry is
    not used: a model learnt from data has that of its molecule only approximately, and the dipole
    derivatives come from the same displacements.

    Parameters
    ----------
    atoms : Atoms
        A minimum of a non-periodic molecule, with a calculator.
    distance : float
        Displacement (Angstrom).
    watch : callable
        Wraps the displacements, for a progress display.

    Raises
    ------
    FFLUXError
        Fewer than two atoms, a periodic input, constrained atoms, an atom without mass, or no
        calculator.
    GeometryError
        Forces that are not finite.
    """
    _require_molecule(atoms)
    require_masses(atoms)
    molecule = atoms.copy()
    molecule.calc = atoms.calc
    energy, forces = molecule.get_potential_energy(), molecule.get_forces()
    has_dipole = _has_dipole(molecule)
    positions = molecule.get_positions()
    force_sets = []

    def slopes(moved: np.ndarray) -> np.ndarray:
        molecule.positions = moved
        # asked for first: FFLUX then computes the forces along with it
        dipole = molecule.get_dipole_moment() if has_dipole else []
        force_sets.append(molecule.get_forces())
        return np.append(-force_sets[-1], dipole)

    derivatives = central_differences(slopes, positions, distance, watch)
    molecule.positions = positions
    molecule.calc = None
    if not np.isfinite(derivatives).all():
        raise GeometryError("forces at a displaced geometry are not finite")
    hessian, dipole_gradient = np.split(derivatives, [positions.size], axis=1)
    hessian = symmetrised(hessian)
    masses, linear = molecule.get_masses(), is_linear(positions)
    wavenumbers, modes, external = normal_modes(hessian, masses, positions, linear)
    intensities = None
    if has_dipole:
        intensities = mode_intensities(dipole_gradient, modes / np.repeat(np.sqrt(masses), 3))
    return Vibrations(
        atoms=molecule,
        energy=energy,
        fmax=float(np.linalg.norm(forces, axis=1).max()),
        linear=linear,
        wavenumbers=wavenumbers,
        eigenvectors=modes.reshape(-1, len(atoms), 3),
        external_wavenumbers=external,
        hessian=hessian,
        ir_intensities=intensities,
        phonon=_phonopy(molecule, distance, force_sets, hessian),
    )


def _has_dipole(atoms: Atoms) -> bool:
    """Whether the calculator predicts dipoles, which models of energies alone do not."""
    try:
        atoms.get_dipole_moment()
    except PropertyNotImplementedError:
        return False
    return True


def molecule_in_box(atoms: Atoms) -> "Phonopy":
    """Phonopy's view of a molecule: centred in a cubic box that is its own supercell.

    The box is more than twice as long as the molecule, so that the shortest vector between two
    atoms is always the one inside the molecule and phonopy's phases at other q-points cancel.
    """
    from phonopy import Phonopy
    from phonopy.structure.atoms import PhonopyAtoms

    positions = atoms.get_positions()
    extent = np.ptp(positions, axis=0)
    length = 2 * np.linalg.norm(extent) + 10
    centred = positions - positions.min(axis=0) + (length - extent) / 2
    cell = PhonopyAtoms(
        symbols=atoms.get_chemical_symbols(),
        positions=centred,
        cell=length * np.eye(3),
        masses=atoms.get_masses(),
    )
    return Phonopy(cell, np.eye(3, dtype=int), primitive_matrix=np.eye(3), is_symmetry=False)


def _phonopy(atoms: Atoms, distance: float, force_sets: list, hessian: np.ndarray) -> "Phonopy":
    """phonopy's object with these displacements, forces and force constants."""
    phonon = molecule_in_box(atoms)
    n = len(atoms)
    phonon.dataset = {"natom": n, "first_atoms": [
        {"number": coordinate // 3, "forces": forces,
         "displacement": sign * distance * np.eye(3)[coordinate % 3]}
        for (coordinate, sign), forces in zip(displacements(n), force_sets, strict=True)
    ]}
    phonon.force_constants = hessian.reshape(n, 3, n, 3).swapaxes(1, 2).copy()
    return phonon


def is_linear(positions: np.ndarray) -> bool:
    """Whether no atom is further than `LINEAR_TOLERANCE` from the axis of the molecule."""
    centred = positions - positions.mean(axis=0)
    axis = np.linalg.svd(centred)[2][0]
    across = centred - np.outer(centred @ axis, axis)
    return bool(np.linalg.norm(across, axis=1).max() < LINEAR_TOLERANCE)


def normal_modes(
    hessian: np.ndarray, masses: np.ndarray, positions: np.ndarray, linear: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vibrations orthogonal to translations and infinitesimal rotations (Eckart's conditions).

    C. Eckart, Phys. Rev. 47, 552 (1935).

    Parameters
    ----------
    hessian : (3N, 3N) array
        eV/Angstrom^2.
    masses : (N,) array
        amu.
    positions : (N, 3) array
        Angstrom.
    linear : bool
        Whether the rotation about the axis is none, so that only five motions are removed.

    Returns
    -------
    wavenumbers : (n,) array
        cm^-1, ascending, negative for imaginary modes.
    modes : (n, 3N) array
        Orthonormal, mass-weighted.
    external : (3N - n,) array
        Wavenumbers within the removed space.
    """
    roots = np.repeat(np.sqrt(masses), 3)
    outer, inner = internal_motions(positions, masses, external=5 if linear else 6)
    weighted = hessian / np.outer(roots, roots)
    squares, vectors = np.linalg.eigh(inner @ weighted @ inner.T)
    outside = np.linalg.eigvalsh(outer @ weighted @ outer.T)
    return _wavenumbers(squares), (inner.T @ vectors).T, _wavenumbers(outside)


def _wavenumbers(squares: np.ndarray) -> np.ndarray:
    """From eV/(Angstrom^2 amu) to cm^-1 with the sign of the square."""
    return np.sign(squares) * np.sqrt(np.abs(squares)) * _QUANTUM / units.invcm


def _require_molecule(atoms: Atoms) -> None:
    if atoms.calc is None:
        raise FFLUXError("no forces: set atoms.calc, for example FFLUX('ethanol')")
    if len(atoms) < 2:
        raise FFLUXError(f"{len(atoms)} atom(s) have no vibrations")
    require_isolated(atoms, "vibrations are those of an isolated molecule")
    if atoms.constraints:
        raise FFLUXError("vibrations need the forces on all atoms: remove the constraints first")
