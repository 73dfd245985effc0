"""Total energies and forces of rMD17 learned with latent atomic energies, beside published errors.

    python benchmarks/rmd17.py ../shared/data/rmd17 --labels 50 --json rmd17.json

The folder holds rmd17_NAME_train_01.npz and rmd17_NAME_test_01.npz (split 01 of Christensen, von
Lilienfeld, Mach. Learn.: Sci. Technol. 1, 045018 (2020)). Labels are drawn at random from the
training file, errors are mean absolute ones over the whole test file, settings those of `fflux
train --gradients`, the same for all molecules. Published are MACE's errors (Batatia et al., Adv.
Neural Inf. Process. Syst. 2022, tables 1 and 2); which 50 labels those are of is not known. Those
of sGDML 1.0.3 were measured with 50 labels. What stands in the JSON file is not computed again.

Seconds are those of all cores together (processor time); a force call is the median of the test.
"""

import argparse
import json
import os
import time
from pathlib import Path

import numpy as np
from ase import Atoms

from ase_fflux.base.units import FORCE, HARTREE
from ase_fflux.forcefield import ForceField
from ase_fflux.labels.importers.foreign import read_foreign
from ase_fflux.labels.label import Dataset
from ase_fflux.learn.joint.settings import JointSettings
from ase_fflux.model.kernels import FORMS
from ase_fflux.training.joint import JointTrainer, JointTraining

MACE = {
    50: {
        "aspirin": (17.0, 43.9), "azobenzene": (5.4, 17.7), "benzene": (0.7, 2.7),
        "ethanol": (6.7, 32.6), "malonaldehyde": (10.0, 43.3), "naphthalene": (2.1, 9.2),
        "paracetamol": (9.7, 31.5), "salicylic": (6.5, 28.4), "toluene": (3.1, 12.1),
        "uracil": (4.4, 25.9),
    },
    1000: {"ethanol": (0.4, 2.1), "malonaldehyde": (0.8, 4.1)},
}
"""Energy (meV) and force (meV/Angstrom), by number of labels."""

SGDML = {
    "aspirin": (55.1, 140), "benzene": (0.35, 4.0), "ethanol": (32.6, 89.1),
    "malonaldehyde": (22.6, 78.4), "naphthalene": (6.0, 31.9), "paracetamol": (33.0, 87.7),
    "salicylic": (15.7, 71.7), "toluene": (8.4, 43.8), "uracil": (11.8, 66.8),
}
"""The same of sGDML, at 50 labels."""

COLUMNS = (
    "molecule", "labels", "seed", "kernel", "energy (meV)", "MACE", "sGDML", "force (meV/A)",
    "MACE", "sGDML", "training (s)", "force call (ms)",
)


def run(training: Dataset, test: Dataset, settings: JointSettings) -> dict:
    """Errors, likelihood and times of one training."""
    start = time.process_time()
    reference = training.geometries[np.argmin(training.energies)]
    trainer = JointTrainer(training, reference, JointTraining(energies=settings))
    solved = trainer.solve(trainer.hyperparameters())
    seconds = time.process_time() - start
    field = ForceField([trainer.model("rmd17", solved, [])])
    numbers = Atoms(test.symbols).numbers
    assignment = field.match(reference, numbers, explicit=[list(range(len(numbers)))])
    energies, forces, calls = [], [], []
    for x in test.geometries:
        start = time.perf_counter()
        found = field.evaluate(x, numbers, assignment=assignment, moments=False)
        calls.append(time.perf_counter() - start)
        energies.append(found.energy)
        forces.append(found.forces)
    return {
        "energy_mae_mev": 1e3 * HARTREE * float(np.abs(energies - test.energies).mean()),
        "force_mae_mev_per_angstrom": 1e3 * FORCE * float(np.abs(forces + test.gradients).mean()),
        "negative_log_likelihood": solved.negative_log_likelihood, "training_seconds": seconds,
        "form": next(k for k, f in FORMS.items() if f == solved.hyperparameters.form),
        "steps": trainer.record(solved)["steps"],
        "call_seconds": float(np.median(calls)), "operations": len(trainer.symmetry),
        "total_noise_mev": 1e3 * HARTREE * float(solved.hyperparameters.total_noise[0]),
        "gradient_noise_mev_per_angstrom":
            1e3 * FORCE * float(solved.hyperparameters.gradient_noise[0]),
    }


def cells(row: dict) -> list[str]:
    """Text of a row of the table."""
    name, labels = row["molecule"], row["labels"]
    others = [MACE.get(labels, {}).get(name), SGDML.get(name) if labels == 50 else None]
    energies, forces = (
        [f"{errors[i]:g}" if errors else "-" for errors in others] for i in range(2)
    )
    return [
        name, str(labels), str(row["seed"]), row["form"], f"{row['energy_mae_mev']:.3g}",
        *energies, f"{row['force_mae_mev_per_angstrom']:.3g}", *forces,
        f"{row['training_seconds']:.0f}", f"{1e3 * row['call_seconds']:.2f}",
    ]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--molecules", nargs="+", choices=MACE[50], default=list(MACE[50]))
    parser.add_argument("--labels", nargs="+", type=int, default=[50])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="figures of this run and of those before"
    )
    chosen = parser.parse_args()
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores\n")
    print(f"| {' | '.join(COLUMNS)} |\n|{' --- |' * len(COLUMNS)}", flush=True)
    rows = json.loads(chosen.json.read_text()) if chosen.json and chosen.json.exists() else []
    known = {(row["molecule"], row["labels"], row["seed"]): row for row in rows}
    for name in chosen.molecules:
        training, test = (
            read_foreign(chosen.folder / f"rmd17_{name}_{part}_01.npz")
            for part in ("train", "test")
        )
        for count in chosen.labels:
            for seed in chosen.seeds:
                if (name, count, seed) in known:
                    print(f"| {' | '.join(cells(known[name, count, seed]))} |", flush=True)
                    continue
                order = np.random.default_rng(seed).permutation(len(training))
                found = run(training.select(np.sort(order[:count])), test, JointSettings())
                row = {"molecule": name, "labels": count, "seed": seed, **found}
                print(f"| {' | '.join(cells(row))} |", flush=True)
                rows.append(row)
                if chosen.json:
                    chosen.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
