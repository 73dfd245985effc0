"""Models of B3LYP/6-31+G(d,p) beside PySCF itself, as a table; seconds, and no PySCF needed.

    python benchmarks/b3lyp.py water ethanol

For NAME, `models/NAME-b3lyp.fflux` with the minima, wavenumbers, intensities, charges and dipoles
of `benchmarks/labels/NAME-b3lyp-reference.json` (by ``b3lyp_reference.py``) and the test frames of
`benchmarks/labels/NAME-b3lyp-test.xyz.xz`.
"""

import argparse
import json
import lzma
import tempfile
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.optimize import BFGS

from ase_fflux import FFLUX
from ase_fflux.assess.validate import held_out_errors
from ase_fflux.labels.dataset import read_dataset
from ase_fflux.simulate.vibrations.analysis import vibrations

ROOT = Path(__file__).resolve().parents[1]
LABELS = ROOT / "benchmarks" / "labels"


def reference(name: str) -> dict:
    """PySCF's own numbers."""
    return json.loads((LABELS / f"{name}-b3lyp-reference.json").read_text())


def aligned(positions: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Positions (N, 3) turned and moved onto a target, least squares."""
    centred, goal = positions - positions.mean(axis=0), target - target.mean(axis=0)
    u, _, v = np.linalg.svd(centred.T @ goal)
    turn = u @ np.diag([1.0, 1.0, np.linalg.det(u @ v)]) @ v
    return centred @ turn + target.mean(axis=0)


def at_minimum(model, symbols: list[str], known: dict) -> dict[str, float]:
    """Differences of the model from a minimum of PySCF, in the units of the names."""
    target = np.array(known["positions_A"])
    atoms = Atoms(symbols, target, calculator=FFLUX(model))
    atoms.rattle(0.01, seed=0)  # not to stay where it starts
    if not BFGS(atoms, logfile=None).run(fmax=1e-5, steps=1000):
        raise SystemExit(f"{model}: no minimum found in 1000 steps")
    found = vibrations(atoms)
    wavenumbers = np.abs(found.wavenumbers - known["wavenumbers_per_cm"])
    off = np.abs(found.ir_intensities - known["intensities_km_per_mol"])
    there = Atoms(symbols, target, calculator=FFLUX(model))
    return {
        "geometry_max_A": float(
            np.linalg.norm(aligned(atoms.positions, target) - target, axis=1).max()
        ),
        "wavenumber_mean_per_cm": float(wavenumbers.mean()),
        "wavenumber_max_per_cm": float(wavenumbers.max()),
        "intensity_mean_km_per_mol": float(off.mean()),
        "intensity_max_km_per_mol": float(off.max()),
        "charge_max_e": float(np.abs(there.get_charges() - known["charges_e"]).max()),
        "dipole_e_A": float(np.linalg.norm(there.get_dipole_moment() - known["dipole_e_A"])),
    }


def errors_on_frames(model, name: str):
    """Errors on the kept test frames, and how many frames there are."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "test.xyz"
        path.write_bytes(lzma.decompress((LABELS / f"{name}-b3lyp-test.xyz.xz").read_bytes()))
        return held_out_errors(FFLUX(model).forcefield.models[0], read_dataset(path))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="+", metavar="NAME")
    parser.add_argument("--models", type=Path, default=ROOT / "models")
    args = parser.parse_args()
    columns = (
        "model", "minimum", "labels", "energy RMSE kJ/mol", "atomic energy RMSE kJ/mol",
        "force RMSE eV/A", "geometry max A", "wavenumbers mean (max) cm-1",
        "IR intensities mean (max) km/mol", "charges max e", "dipole e A",
    )
    print(f"| {' | '.join(columns)} |\n" + "| --- " * len(columns) + "|")
    for name in args.names:
        path = args.models / f"{name}-b3lyp.fflux"
        known, errors = reference(name), errors_on_frames(path, name)
        labels = len(FFLUX(path).forcefield.models[0].geometries)
        for number, minimum in enumerate(known["minima"], 1):
            e = at_minimum(path, known["symbols"], minimum)
            print(
                f"| `{name}-b3lyp` | {number} | {labels} | {errors.energy_rmse_kj_per_mol:.2g} | "
                f"{errors.atomic_energy_rmse_kj_per_mol:.2g} | "
                f"{errors.force_rmse_ev_per_angstrom:.2g} | {e['geometry_max_A']:.1g} | "
                f"{e['wavenumber_mean_per_cm']:.2f} ({e['wavenumber_max_per_cm']:.1f}) | "
                f"{e['intensity_mean_km_per_mol']:.2g} ({e['intensity_max_km_per_mol']:.2g}) | "
                f"{e['charge_max_e']:.1g} | {e['dipole_e_A']:.1g} |", flush=True
            )


if __name__ == "__main__":
    main()
