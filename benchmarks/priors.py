"""Few dear labels, from scratch and on top of a model of a cheap level.

    python benchmarks/priors.py --json priors.json ethanol water --labels 10 25 50

The labels of benchmarks/labels (B3LYP/6-31+G(d,p)), of which total energies and gradients are
learned; the prior is the bundled GFN2-xTB model of the molecule. The same labels with and without
it, drawn at random (seed 0), the larger sets hold the smaller ones; errors are those on the test
trajectory at 300 K. What stands in the JSON file is not computed again. Seconds are those of all
cores together (processor time).

Methanol is not bundled: its prior, methanol.fflux beside the JSON file, is made if it is not there,
as the bundled ones were but for fewer test frames:

    ase build CH3OH methanol.xyz
    fflux build methanol.xyz --test-frames 50
"""

import argparse
import json
import lzma
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from ase.build import molecule as built
from ase.io import write

from ase_fflux.assess.validate import held_out_errors
from ase_fflux.base.store import write_text
from ase_fflux.formats.locate import bundled_models
from ase_fflux.labels.dataset import Dataset, read_dataset
from ase_fflux.learn.joint.settings import JointSettings
from ase_fflux.model.kernels import FORMS
from ase_fflux.training.joint import JointTrainer, JointTraining
from ase_fflux.training.prior import read_prior

MOLECULES = ("water", "ethanol", "formic_acid_dimer", "fomepizole", "benzene", "methanol")
STARTS = {"methanol": "CH3OH"}
"""Names in ASE of molecules without a bundled model."""
FFLUX = "import sys; from ase_fflux.cli.main import main; sys.exit(main(sys.argv[1:]))"
LABELS = Path(__file__).parent / "labels"
COLUMNS = (
    "molecule", "labels", "force error (eV/A), scratch", "with prior", "ratio",
    "energy error (kJ/mol), scratch", "with prior", "ratio", "training (s)", "with prior",
)


def labels_of(molecule: str, part: str) -> Dataset:
    """Labels ``train`` or ``test`` of a molecule, total energies and gradients alone."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "labels.xyz"
        packed = LABELS / f"{molecule}-b3lyp-{part}.xyz.xz"
        path.write_bytes(lzma.decompress(packed.read_bytes()))
        return replace(read_dataset(path), moments=None, atomic_energies=None, dipoles=None)


def cheap_model(molecule: str, folder: Path) -> str:
    """Name or path of a molecule's GFN2-xTB model."""
    if molecule in bundled_models():
        return molecule
    path = folder / f"{molecule}.fflux"
    if not path.exists():
        start = path.with_suffix(".xyz")
        write(start, built(STARTS[molecule]))
        command = [sys.executable, "-c", FFLUX, "build", start, "-o", path, "--test-frames", "50"]
        subprocess.run(command, check=True)
    return str(path)


def train(training: Dataset, test: Dataset, prior: str | None, forms) -> dict:
    """Errors and time of one training."""
    start = time.process_time()
    reference = training.geometries[np.argmin(training.energies)]
    trainer = JointTrainer(
        training, reference, JointTraining(JointSettings(forms=forms), which="none"),
        prior=None if prior is None else read_prior(prior, training.symbols, reference),
    )
    hyperparameters = trainer.hyperparameters()
    model = trainer.model("model", trainer.solve(hyperparameters), [])
    seconds = time.process_time() - start
    errors = held_out_errors(model, test)
    return {
        "force": errors.force_rmse_ev_per_angstrom, "energy": errors.energy_rmse_kj_per_mol,
        "seconds": seconds, "kernel": str(hyperparameters.form),
    }


def table(results: dict) -> list[str]:
    """Rows of a table in Markdown."""
    rows = ["| " + " | ".join(COLUMNS) + " |", "| --- " * len(COLUMNS) + "|"]
    for molecule in MOLECULES:
        for labels, found in results.get(molecule, {}).items():
            if len(found) < 2:
                continue
            one, two = found["scratch"], found["prior"]
            cells = [molecule, labels]
            for name in ("force", "energy"):
                ratio = one[name] / two[name]
                cells += [f"{one[name]:.3g}", f"{two[name]:.3g}", f"{ratio:.1f}"]
            cells += [f"{one['seconds']:.0f}", f"{two['seconds']:.0f}"]
            rows.append("| " + " | ".join(cells) + " |")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("molecules", nargs="*", default=MOLECULES)
    parser.add_argument("--labels", nargs="+", type=int, default=[10, 25, 50])
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--kernel", choices=list(FORMS), help="default: chosen as by fflux train")
    args = parser.parse_args()
    forms = tuple(FORMS.values()) if args.kernel is None else (FORMS[args.kernel],)
    results = json.loads(args.json.read_text()) if args.json.exists() else {}
    for molecule in args.molecules:
        cheap = cheap_model(molecule, args.json.parent)
        training, test = labels_of(molecule, "train"), labels_of(molecule, "test")
        order = np.random.default_rng(0).permutation(len(training))
        for count in args.labels:
            known = results.setdefault(molecule, {}).setdefault(str(count), {})
            for name, prior in (("prior", cheap), ("scratch", None)):
                if name not in known:
                    known[name] = train(training.select(order[:count]), test, prior, forms)
                    write_text(args.json, json.dumps(results, indent=1) + "\n")
                    print(molecule, count, name, known[name], flush=True)
    print("\n".join(table(results)))


if __name__ == "__main__":
    main()
