"""Acetylacetone and 3BPA learned from total energies and forces, tested at higher temperatures.

    python benchmarks/botnet_sets.py ../shared/data acac --labels 500 --json botnet.json

The folder holds acac/ and 3bpa/ of davkovacs/BOTNet-datasets (Kovacs et al., J. Chem. Theory
Comput. 17, 7696 (2021); Batatia et al., arXiv 2205.06643). Training on frames at 300 K alone: all
500, or some drawn at random; settings those of `fflux train --gradients`, of which fewer kernels
(--kernels) and shorter ladders (--sizes) may be tried. Errors are root mean square ones over all
frames of a test set. The test files of 3BPA are not in that folder: frames of train_mixedT.xyz at
each temperature serve, of which those are left out that are in the training file. What stands in
the JSON file is not computed again.

Seconds are those of all cores together (processor time); a force call is the median of the test.
"""

import argparse
from pathlib import Path

import numpy as np
from public_sets import Rows, tested, trained

from ase_fflux.labels.importers.foreign import read_foreign
from ase_fflux.labels.label import Dataset
from ase_fflux.learn.joint.settings import JointSettings
from ase_fflux.model.kernels import FORMS

MIXED = {"300 K": slice(0, 160), "600 K": slice(170, 330), "1200 K": slice(340, 500)}
"""Frames of 3bpa/train_mixedT.xyz by temperature."""
SAME = 1e-4
"""Bohr: frames with no larger difference of positions are the same."""
COLUMNS = (
    "set", "labels", "kernel", "test", "frames", "energy (meV)", "force (meV/A)", "training (s)",
    "force call (ms)",
)


def sets(folder: Path, name: str) -> tuple[Dataset, dict[str, Dataset]]:
    """Training labels at 300 K and test sets by temperature."""
    training = read_foreign(folder / name / "train_300K.xyz")
    if name == "acac":
        files = {"300 K": "test_MD_300K.xyz", "600 K": "train_600K.xyz"}
        return training, {t: read_foreign(folder / name / f) for t, f in files.items()}
    mixed = read_foreign(folder / name / "train_mixedT.xyz")
    tests = {t: mixed.select(np.arange(len(mixed))[part]) for t, part in MIXED.items()}
    return training, {t: without(test, training) for t, test in tests.items()}


def without(test: Dataset, training: Dataset) -> Dataset:
    """Test frames that are not among those of training."""
    new = [np.abs(training.geometries - x).max(axis=(1, 2)).min() > SAME for x in test.geometries]
    return test.select(np.flatnonzero(new))


def cells(row: dict) -> list[list[str]]:
    """Text of the rows of the table, one for each test set."""
    return [
        [
            row["set"], str(row["labels"]), row["form"], temperature, str(found["frames"]),
            f"{found['energy_rmse_mev']:.3g}", f"{found['force_rmse_mev_per_angstrom']:.3g}",
            f"{row['training_seconds']:.0f}", f"{1e3 * found['call_seconds']:.2f}",
        ]
        for temperature, found in row["tests"].items()
    ]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("sets", nargs="+", choices=("acac", "3bpa"))
    parser.add_argument("--labels", nargs="+", type=int, default=[500])
    parser.add_argument(
        "--kernels", nargs="+", choices=list(FORMS), default=list(FORMS),
        help="of which one is chosen as by fflux train",
    )
    parser.add_argument(
        "--sizes", nargs="+", type=int, default=[30, 60, 120], metavar="N",
        help="labels of the search and of the rungs after it (30 60 120)",
    )
    parser.add_argument("--memory", type=float, metavar="GB", help="that a solution may use")
    parser.add_argument("--json", type=Path, metavar="FILE", help="figures of this and other runs")
    chosen = parser.parse_args()
    usual = JointSettings()
    settings = JointSettings(
        forms=tuple(FORMS[name] for name in chosen.kernels), sizes=tuple(chosen.sizes),
        evaluations=usual.evaluations[: len(chosen.sizes)],
    )
    rows = Rows(chosen.json, ("set", "labels", "kernels", "sizes"))
    print(f"| {' | '.join(COLUMNS)} |\n|{' --- |' * len(COLUMNS)}", flush=True)
    for name in chosen.sets:
        training, tests = sets(chosen.folder, name)
        for count in chosen.labels:
            row = rows.get(name, count, chosen.kernels, chosen.sizes)
            if row is None:
                labels = np.random.default_rng(0).permutation(len(training))[:count]
                model, found = trained(
                    training.select(np.sort(labels)), settings, memory=chosen.memory
                )
                tests_found = {t: tested(model, d) | {"frames": len(d)} for t, d in tests.items()}
                key = {"set": name, "labels": count}
                searched = {"kernels": chosen.kernels, "sizes": chosen.sizes}
                row = rows.add(key | searched | found | {"tests": tests_found})
            for line in cells(row):
                print(f"| {' | '.join(line)} |", flush=True)


if __name__ == "__main__":
    main()
