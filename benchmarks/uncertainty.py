"""Stated standard deviations beside the errors on test labels.

    fflux build models/inputs/ethanol.xyz -o ethanol.fflux
    python benchmarks/uncertainty.py ethanol.fflux ethanol-build

For the total energy, the components of the forces and the atomic energies: root mean square of
errors and of standard deviations, their ratio, the fraction of errors within one and two standard
deviations (0.68 and 0.95 if errors are normal), and Spearman's correlation of the two, for forces
of the norms over all atoms. "as assumed" is without the scales learned from labels left out. The
last row is what coverage tells of the forces. Times are of one thread if OMP_NUM_THREADS=1.
"""

import argparse
from pathlib import Path
from time import perf_counter

import numpy as np
from ase.symbols import symbols2numbers
from scipy.stats import spearmanr

from ase_fflux.base.units import FORCE, HARTREE_KJ
from ase_fflux.forcefield import ForceField
from ase_fflux.formats.locate import load_molecule
from ase_fflux.labels.dataset import read_dataset
from ase_fflux.learn.joint.posteriors import Posteriors


def row(name, errors, deviations, unit, of_frames=None):
    """Print one line; of_frames: errors and deviations that are correlated instead."""
    errors, deviations = unit * np.ravel(errors), unit * np.ravel(deviations)
    rmse, expected = np.sqrt(np.mean(errors**2)), np.sqrt(np.mean(deviations**2))
    within = [np.mean(np.abs(errors) < k * deviations) for k in (1, 2)]
    correlated = (np.abs(errors), deviations) if of_frames is None else of_frames
    print(
        f"{name:37} {rmse:10.3g} {expected:10.3g} {rmse / expected:7.2f} {within[0]:7.2f} "
        f"{within[1]:7.2f} {spearmanr(*correlated).statistic:9.2f}"
    )


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", help="model trained on gradients")
    parser.add_argument("folder", type=Path, help="what its build left, with test.xyz")
    parser.add_argument("--frames", type=int, default=100, help="of the test set (default: 100)")
    args = parser.parse_args()
    model, test = load_molecule(args.bundle), read_dataset(args.folder / "test.xyz")
    test = test.select(np.unique(np.linspace(0, len(test) - 1, args.frames).astype(int)))
    forcefield, numbers = ForceField([model]), np.array(symbols2numbers(model.symbols))
    assignment = forcefield.in_order(numbers)
    start = perf_counter()
    posteriors = Posteriors(forcefield)
    posteriors.uncertainty(test.geometries[0], numbers, assignment=assignment)
    first, start = perf_counter() - start, perf_counter()
    stated = [posteriors.uncertainty(x, numbers, assignment=assignment) for x in test.geometries]
    each = (perf_counter() - start) / len(test)
    found = [forcefield.evaluate(x, numbers, assignment=assignment) for x in test.geometries]
    scale, energy_scale = (getattr(posteriors.of_model(0), name)
                           for name in ("scale", "energy_scale"))
    print(f"{model.name}, {len(model.geometries)} labels, {len(test)} test frames: first request "
          f"{first:.1f} s, each {1000 * each:.0f} ms; scales {scale:.3f}, {energy_scale:.3f}")
    heads = zip(("RMSE", "RMS sd", "ratio", "1 sd", "2 sd", "Spearman"),
                (10, 10, 7, 7, 7, 9), strict=True)
    print(" " * 37, *(f"{head:>{width}}" for head, width in heads))
    energy = np.array([r.energy for r in found]) - test.energies
    forces = np.array([r.forces for r in found]) + test.gradients
    atomic = np.array([r.energies for r in found]) - test.atomic_energies
    sd_energy, sd_forces, sd_atomic = (
        np.array([getattr(u, name) for u in stated]) for name in ("energy", "forces", "energies")
    )
    norms = np.linalg.norm(forces, axis=(1, 2)), np.linalg.norm(sd_forces, axis=(1, 2))
    for title, s, s_atomic in (("", 1.0, 1.0), (", as assumed", scale, energy_scale)):
        row(f"energy (kJ/mol){title}", energy, sd_energy / s, HARTREE_KJ)
        row(f"forces (eV/A){title}", forces, sd_forces / s, FORCE, norms)
        row(f"atomic energies (kJ/mol){title}", atomic, sd_atomic / s_atomic, HARTREE_KJ)
    gap = 1.0 - np.array([r.coverage.min() for r in found])
    print(f"{'1 - smallest coverage and forces':88} {spearmanr(norms[0], gap).statistic:9.2f}")


if __name__ == "__main__":
    main()
