"""Errors of a model against the source of its labels."""

from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, PropertyNotImplementedError
from ase.optimize import BFGS

from ase_fflux.base.errors import TrainingError
from ase_fflux.base.units import BOHR, FORCE, HARTREE_KJ
from ase_fflux.forcefield import ForceField
from ase_fflux.labels.checks import charges_are_learned
from ase_fflux.labels.differences import dipole_derivatives
from ase_fflux.labels.label import Dataset
from ase_fflux.labels.source import LabelSource
from ase_fflux.model.molecule import MoleculeModel
from ase_fflux.simulate.vibrations.analysis import is_linear, normal_modes, vibrations
from ase_fflux.simulate.vibrations.infrared import mode_intensities
from ase_fflux.topology import superposition

_RATTLE = 0.01
"""Angstrom; displacement of the start of an optimisation from the minimum of the label source."""


@dataclass(frozen=True)
class HeldOutErrors:
    """Errors on labels that were not trained on; units are in the names.

    What the labels or the model have not is None: atomic energies of models that know them only as
    parts of the total, forces of energies alone, charges, dipoles (charges alone make none).
    """

    frames: int
    energy_rmse_kj_per_mol: float
    energy_mae_kj_per_mol: float
    energy_max_kj_per_mol: float
    atomic_energy_rmse_kj_per_mol: float | None
    force_rmse_ev_per_angstrom: float | None
    force_max_ev_per_angstrom: float | None
    charge_rmse_e: float | None
    dipole_rmse_e_angstrom: float | None
    coverage_min: float


@dataclass(frozen=True)
class MinimumErrors:
    """Errors at one minimum; ``rmsd`` after superposition, wavenumbers mode by mode.

    Infrared intensities are those of the label source's own normal modes at its own minimum, with
    dipole derivatives of the model and of the source: modes that lie close to each other do not
    mix otherwise in the one than in the other. None where one of them has no dipoles.
    """

    rmsd_angstrom: float
    wavenumber_mae_per_cm: float
    wavenumber_max_per_cm: float
    intensity_mae_km_per_mol: float | None = None
    intensity_max_km_per_mol: float | None = None


def held_out_errors(model: MoleculeModel, test: Dataset) -> HeldOutErrors:
    """Errors of a model on a labelled test set of the same atoms in the same order."""
    forcefield = ForceField([model])
    numbers = Atoms(test.symbols).numbers
    assignment = forcefield.in_order(numbers)
    results = [
        forcefield.evaluate(x, numbers, assignment=assignment, moments=model.rank >= 0)
        for x in test.geometries
    ]
    energy = HARTREE_KJ * (np.array([r.energy for r in results]) - test.energies)
    atomic = force = charge_rmse = dipole_rmse = None
    if test.atomic_energies is not None and not model.latent:
        atomic = HARTREE_KJ * (np.array([r.energies for r in results]) - test.atomic_energies)
    if test.gradients is not None:
        force = FORCE * (np.array([r.forces for r in results]) + test.gradients)
    if test.moments is not None and charges_are_learned(test, model.rank):
        charge_rmse = _rms(np.array([r.charges for r in results]) - test.moments[:, :, 0])
    if model.rank >= 1 and test.dipoles is not None:
        dipole_rmse = BOHR * _rms(test.dipoles - [r.dipole() for r in results])
    return HeldOutErrors(
        frames=len(test),
        energy_rmse_kj_per_mol=_rms(energy),
        energy_mae_kj_per_mol=float(np.abs(energy).mean()),
        energy_max_kj_per_mol=float(np.abs(energy).max()),
        atomic_energy_rmse_kj_per_mol=None if atomic is None else _rms(atomic),
        force_rmse_ev_per_angstrom=None if force is None else _rms(force),
        force_max_ev_per_angstrom=None if force is None else float(np.abs(force).max()),
        charge_rmse_e=charge_rmse,
        dipole_rmse_e_angstrom=dipole_rmse,
        coverage_min=float(min(r.coverage.min() for r in results)),
    )


def minimum_errors(
    minimum: Atoms, calculator: Calculator, source: LabelSource, hessian: np.ndarray | None = None
) -> MinimumErrors:
    """Optimised geometry, harmonic wavenumbers and infrared intensities against the source's own.

    Parameters
    ----------
    minimum : Atoms
        A minimum of the source.
    calculator : Calculator
        Of the model.
    source : LabelSource
        What the model is of.
    hessian : (3N, 3N) array, optional
        The source's second derivatives at the minimum (hartree/bohr^2), if they are known.

    Raises
    ------
    TrainingError
        If the optimisation with the model does not converge.
    """
    atoms = minimum.copy()
    atoms.rattle(_RATTLE, rng=np.random.default_rng(0))  # not to stay where it starts
    atoms.calc = calculator
    if not BFGS(atoms, logfile=None).run(fmax=1e-5, steps=1000):
        raise TrainingError(
            "the model has no minimum that 1000 steps from one of the label source find; train on "
            "more labels, or on geometries nearer to the minimum"
        )
    hessian = source.hessian(minimum) if hessian is None else hessian
    masses = minimum.get_masses()
    wavenumbers, modes, _ = normal_modes(
        hessian * FORCE / BOHR, masses, minimum.positions, is_linear(minimum.positions)
    )
    difference = np.abs(vibrations(atoms).wavenumbers - wavenumbers)
    normal_coordinates = modes / np.repeat(np.sqrt(masses), 3)
    off = [
        mode_intensities(d, normal_coordinates)
        for d in _dipole_derivatives(minimum, calculator, source)
    ]
    intensity = np.abs(off[0] - off[1]) if off else None
    return MinimumErrors(
        rmsd_angstrom=superposition(atoms.positions, minimum.positions),
        wavenumber_mae_per_cm=float(difference.mean()),
        wavenumber_max_per_cm=float(difference.max()),
        intensity_mae_km_per_mol=None if intensity is None else float(intensity.mean()),
        intensity_max_km_per_mol=None if intensity is None else float(intensity.max()),
    )


def _dipole_derivatives(minimum: Atoms, calculator, source) -> list[np.ndarray]:
    """Those of the model and of the source (3N, 3) in e; empty where one of them has none."""
    try:
        model = dipole_derivatives(minimum, calculator)
    except PropertyNotImplementedError:
        return []
    reference = source.dipole_derivatives(minimum)
    return [] if reference is None else [model, reference]


def table(test: HeldOutErrors, minima: list[MinimumErrors]) -> list[tuple[str, float, str]]:
    """Rows (quantity, value, unit) of a report."""
    rows = [
        ("energy RMSE", test.energy_rmse_kj_per_mol, "kJ/mol"),
        ("energy, largest error", test.energy_max_kj_per_mol, "kJ/mol"),
        ("atomic energy RMSE", test.atomic_energy_rmse_kj_per_mol, "kJ/mol"),
        ("force RMSE", test.force_rmse_ev_per_angstrom, "eV/A"),
        ("force, largest error", test.force_max_ev_per_angstrom, "eV/A"),
        ("charge RMSE", test.charge_rmse_e, "e"),
        ("dipole RMSE", test.dipole_rmse_e_angstrom, "e A"),
        ("smallest coverage", test.coverage_min, ""),
    ]
    for number, errors in enumerate(minima, 1):
        rows += [
            (f"minimum {number}: geometry RMSD", errors.rmsd_angstrom, "A"),
            (f"minimum {number}: wavenumber MAE", errors.wavenumber_mae_per_cm, "cm-1"),
            (f"minimum {number}: wavenumber, largest error", errors.wavenumber_max_per_cm, "cm-1"),
            (f"minimum {number}: IR intensity MAE", errors.intensity_mae_km_per_mol, "km/mol"),
            (f"minimum {number}: IR intensity, largest error", errors.intensity_max_km_per_mol,
             "km/mol"),
        ]
    return [row for row in rows if row[1] is not None]


def record(rows: list[tuple[str, float, str]]) -> dict[str, dict]:
    """Rows of `table` for a summary: value and unit by quantity."""
    return {name: {"value": value, "unit": unit} for name, value, unit in rows}


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values))))

