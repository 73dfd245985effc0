"""Total energies and forces of rMD17 learned with latent atomic energies, beside published errors.

    python benchmarks/rmd17.py ../shared/data/rmd17 --labels 50 --json rmd17.json
    python benchmarks/rmd17.py ../shared/data/rmd17 --prior gfn2 --cheap 500 --json gfn2.json

The folder holds rmd17_NAME_train_01.npz and rmd17_NAME_test_01.npz (split 01 of Christensen, von
Lilienfeld, Mach. Learn.: Sci. Technol. 1, 045018 (2020)). Labels are drawn at random from the
training file, errors are mean absolute ones over the whole test file, settings those of `fflux
train --gradients`, the same for all molecules. Published are MACE's errors (Batatia et al., Adv.
Neural Inf. Process. Syst. 2022, tables 1 and 2); which 50 labels those are of is not known. Those
of sGDML 1.0.3 were measured with 50 labels. What stands in the JSON file is not computed again.

With --prior gfn2 the labels are learned on top of a model of GFN2-xTB, which uses more knowledge
than the others do: tblite's energies and gradients at more geometries of the training file
(--cheap, those of the labels among them), none of the file's own energies and forces but those of
the labels. The model of GFN2-xTB is tested against GFN2-xTB itself, too, at the first 100 test
geometries, and GFN2-xTB against the test file (energies up to a constant).

Seconds are those of all cores together (processor time); a force call is the median of the test.
"""

import argparse
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
from ase import Atoms
from public_sets import ENERGY_MEV, FORCE_MEV, Rows, tested, trained

from ase_fflux.base.store import write_text
from ase_fflux.base.units import BOHR
from ase_fflux.formats.bundle import read_bundle, write_bundle
from ase_fflux.labels.importers.foreign import read_foreign
from ase_fflux.labels.label import Dataset, dataset_of
from ase_fflux.labels.tblite_source import GFN2
from ase_fflux.learn.joint.settings import JointSettings
from ase_fflux.model.kernels import FORMS
from ase_fflux.model.molecule import MoleculeModel
from ase_fflux.training.prior import prior_of

MACE = {
    50: {
        "aspirin": (17.0, 43.9), "azobenzene": (5.4, 17.7), "benzene": (0.7, 2.7),
        "ethanol": (6.7, 32.6), "malonaldehyde": (10.0, 43.3), "naphthalene": (2.1, 9.2),
        "paracetamol": (9.7, 31.5), "salicylic": (6.5, 28.4), "toluene": (3.1, 12.1),
        "uracil": (4.4, 25.9),
    },
    1000: {
        "aspirin": (2.2, 6.6), "azobenzene": (None, 3.0), "benzene": (None, 0.3),
        "ethanol": (0.4, 2.1), "malonaldehyde": (0.8, 4.1), "naphthalene": (None, 1.6),
        "paracetamol": (None, 4.8), "salicylic": (None, 3.1), "toluene": (None, 1.5),
        "uracil": (None, 2.1),
    },
}
"""Energy (meV; None where it was not at hand) and force (meV/Angstrom), by number of labels."""

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
CHEAP_COLUMNS = (
    "molecule", "labels", "seed", "GFN2 labels", "kernels", "energy (meV)", "MACE",
    "force (meV/A)", "MACE", "ratio", "GFN2's model to GFN2 (meV, meV/A)",
    "GFN2 to the test file (meV, meV/A)", "training (s)", "force call (ms)",
)
CHEAP = JointSettings(forms=(FORMS["rbf-inverse"],), sizes=(30,), evaluations=(60,))
"""Search of the model of GFN2-xTB: one kernel, and the source alone; its labels are many."""
CHEAP_TESTS = 100
"""Test geometries that it is tested at."""


def order_of(count: int, seed: int) -> np.ndarray:
    """Order in which labels are drawn from a training file of that many frames."""
    return np.random.default_rng(seed).permutation(count)


def gfn2(dataset: Dataset) -> Dataset:
    """Total energies and gradients of GFN2-xTB at the geometries of a data set."""
    source, symbols = GFN2(spin=0), dataset.symbols
    labels = [source.label(Atoms(symbols, BOHR * x)) for x in dataset.geometries]
    return replace(dataset_of(labels), atomic_energies=None, moments=None, dipoles=None)


def cheap_model(
    training: Dataset, test: Dataset, path: Path | None = None
) -> tuple[MoleculeModel, dict]:
    """A model of GFN2-xTB, with its errors and those of GFN2-xTB.

    Parameters
    ----------
    training : Dataset
        Its geometries are labelled.
    test : Dataset
        At the first geometries of it errors are found.
    path : Path, optional
        A bundle, beside which the errors are; both are taken as they are where they are there.
    """
    if path is not None and path.with_suffix(".json").exists():
        return read_bundle(path), json.loads(path.with_suffix(".json").read_text())
    model, found = trained(gfn2(training), CHEAP)
    first = test.select(np.arange(min(CHEAP_TESTS, len(test))))
    itself = gfn2(first)
    energy = itself.energies - first.energies
    found |= tested(model, itself) | {
        "level_energy_mae_mev": ENERGY_MEV * float(np.abs(energy - np.median(energy)).mean()),
        "level_force_mae_mev_per_angstrom":
            FORCE_MEV * float(np.abs(itself.gradients - first.gradients).mean()),
    }
    if path is not None:
        write_bundle(path, model)
        write_text(path.with_suffix(".json"), json.dumps(found, indent=1) + "\n")
    return model, found


def run(
    labels: np.ndarray, training: Dataset, test: Dataset, settings: JointSettings,
    cheap: np.ndarray | None = None, path: Path | None = None, memory: float | None = None,
) -> dict:
    """Errors, likelihood and times of one training.

    Parameters
    ----------
    labels : int array
        Frames of the training file that are learned from.
    training, test : Dataset
        The files.
    settings : JointSettings
        Of the search.
    cheap : int array, optional
        Frames of the training file whose geometries GFN2-xTB labels; default: no prior.
    path : Path, optional
        Where the model of GFN2-xTB is kept.
    memory : float, optional
        GB that the solution may use.
    """
    chosen, prior, row = training.select(labels), None, {}
    if cheap is not None:
        model, found = cheap_model(training.select(cheap), test, path)
        prior = prior_of(model, model.symbols, model.reference_geometry)
        row = {"prior_model": found}
    model, found = trained(chosen, settings, prior, memory)
    return row | found | tested(model, test)


def others(row: dict) -> list[tuple | None]:
    """Published errors of MACE and measured ones of sGDML for a row."""
    name, labels = row["molecule"], row["labels"]
    return [MACE.get(labels, {}).get(name), SGDML.get(name) if labels == 50 else None]


def cells(row: dict) -> list[str]:
    """Text of a row of the table without prior."""
    energies, forces = (
        [f"{errors[i]:g}" if errors and errors[i] else "-" for errors in others(row)]
        for i in range(2)
    )
    return [
        row["molecule"], str(row["labels"]), str(row["seed"]), row["form"],
        f"{row['energy_mae_mev']:.3g}", *energies, f"{row['force_mae_mev_per_angstrom']:.3g}",
        *forces, f"{row['training_seconds']:.0f}", f"{1e3 * row['call_seconds']:.2f}",
    ]


def cheap_cells(row: dict) -> list[str]:
    """Text of a row of the table with a model of GFN2-xTB as prior."""
    prior, (mace, _) = row["prior_model"], others(row)
    energy, force = "energy_mae_mev", "force_mae_mev_per_angstrom"
    published = [f"{x:g}" if x else "-" for x in mace] if mace else ["-", "-"]
    pairs = (f"{prior[p + energy]:.2g}, {prior[p + force]:.3g}" for p in ("", "level_"))
    seconds = row["training_seconds"] + prior["training_seconds"]
    return [
        row["molecule"], str(row["labels"]), str(row["seed"]), str(row["cheap"]),
        f"{prior['form']}, {row['form']}", f"{row[energy]:.3g}", published[0],
        f"{row[force]:.3g}", published[1], f"{row[force] / mace[1]:.2f}" if mace else "-", *pairs,
        f"{seconds:.0f}", f"{1e3 * row['call_seconds']:.2f}",
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
        "--kernels", nargs="+", choices=list(FORMS), default=list(FORMS),
        help="of which one is chosen as by fflux train; rows that are there may have had others",
    )
    parser.add_argument("--prior", choices=["gfn2"], help="learn on top of a model of this level")
    parser.add_argument(
        "--cheap", type=int, default=400, metavar="N", help="labels of the prior's level (400)"
    )
    parser.add_argument(
        "--models", type=Path, metavar="DIR",
        help="where models of that level are kept for further runs (--kernels)",
    )
    parser.add_argument(
        "--memory", type=float, metavar="GB", help="of a solution (half of the machine's)"
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="figures of this run and of those before"
    )
    chosen = parser.parse_args()
    cheap = chosen.cheap if chosen.prior else None
    settings = JointSettings(forms=tuple(FORMS[name] for name in chosen.kernels))
    columns, text = (COLUMNS, cells) if cheap is None else (CHEAP_COLUMNS, cheap_cells)
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores\n")
    print(f"| {' | '.join(columns)} |\n|{' --- |' * len(columns)}", flush=True)
    rows = Rows(chosen.json, ("molecule", "labels", "seed", "cheap"))
    for name in chosen.molecules:
        training, test = (
            read_foreign(chosen.folder / f"rmd17_{name}_{part}_01.npz")
            for part in ("train", "test")
        )
        for count in chosen.labels:
            for seed in chosen.seeds:
                row = rows.get(name, count, seed, cheap)
                if row is None:
                    order = order_of(len(training), seed)
                    found = run(
                        np.sort(order[:count]), training, test, settings,
                        None if cheap is None else np.sort(order[: max(count, cheap)]),
                        chosen.models and chosen.models / f"{name}-{cheap}-{count}-{seed}.fflux",
                        chosen.memory,
                    )
                    key = {"molecule": name, "labels": count, "seed": seed, "cheap": cheap}
                    row = rows.add(key | found)
                print(f"| {' | '.join(text(row))} |", flush=True)


if __name__ == "__main__":
    main()
