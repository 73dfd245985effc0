"""What bounds, priors and the objective do to forces and wavenumbers, at the same labels.

    python examples/transfer_learning/length_scales.py              ethanol, 1000 labels, minutes
    python examples/transfer_learning/length_scales.py benzene --labels 2000

Only the atomic energies are trained, by transfer learning; errors against GFN2-xTB on a trajectory
of its own at 300 K and at the minima. Labels are kept in NAME-build (or NAME-LABELS-build for
another number than 2000), as in experiment.py. Writes NAME-length-scales.md.
"""

import argparse
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
from ase.io import read
from tqdm import tqdm

from ase_fflux import FFLUX
from ase_fflux.assess.validate import held_out_errors, minimum_errors
from ase_fflux.base.units import BOHR
from ase_fflux.formats import write_bundle
from ase_fflux.labels.folder import LabelFolder, LabelSettings
from ase_fflux.labels.tblite_source import GFN2
from ase_fflux.learn.gp.settings import TrainingSettings
from ase_fflux.model.alf import choose_alf
from ase_fflux.training.jobs import run_jobs
from ase_fflux.training.molecule import molecule_jobs, molecule_model

INPUTS = Path(__file__).resolve().parents[2] / "models" / "inputs"
TEMPERATURES = {"formic_acid_dimer": 350.0}
DEFAULT = TrainingSettings()
VARIANTS = {
    "concentrated likelihood, theta <= 3 (default)": DEFAULT,
    "theta <= 0.3": replace(DEFAULT, bounds=(1e-6, 0.3)),
    "theta <= 0.1 (the field's bound)": replace(DEFAULT, bounds=(1e-6, 0.1)),
    "theta <= 0.03": replace(DEFAULT, bounds=(1e-6, 0.03)),
    "prior on log theta, width 1": replace(DEFAULT, prior=1.0),
    "prior on log theta, width 0.3": replace(DEFAULT, prior=0.3),
    "marginal likelihood": replace(DEFAULT, objective="marginal"),
    "hold-out error": replace(DEFAULT, objective="hold-out"),
    "learned noise": replace(DEFAULT, learn_noise=True),
    "plain RBF kernel": replace(DEFAULT, kernel="rbf"),
}
HEADER = (
    "trained by", "median theta", "energy RMSE kJ/mol", "force RMSE eV/A", "geometry RMSD A",
    "wavenumbers MAE (max) cm-1",
)


@contextmanager
def progress(description, total):
    """A progress bar."""
    with tqdm(total=total, desc=f"{description:18}", disable=None) as bar:
        yield bar.update


def cells(labels, alf, settings, draft):
    """Median theta, and errors of the model that these settings give."""
    jobs = molecule_jobs(labels.training, alf, settings, moments="none")
    results = run_jobs(jobs)
    reference = labels.minima[0].positions / BOHR
    model = molecule_model(labels.training, draft.stem, alf, reference, jobs, results)
    draft.unlink(missing_ok=True)
    write_bundle(draft, model)
    errors = held_out_errors(model, labels.test)
    minima = [minimum_errors(m, FFLUX(str(draft)), GFN2()) for m in labels.minima]
    theta = np.concatenate([results[job.name].process.kernel.theta for job in jobs])
    return (
        f"{np.median(theta):.4f}", f"{errors.energy_rmse_kj_per_mol:.2f}",
        f"{errors.force_rmse_ev_per_angstrom:.4f}",
        ", ".join(f"{m.rmsd_angstrom:.5f}" for m in minima),
        ", ".join(
            f"{m.wavenumber_mae_per_cm:.1f} ({m.wavenumber_max_per_cm:.0f})" for m in minima
        ),
    )


def main():
    """Print and write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("molecule", nargs="?", default="ethanol")
    parser.add_argument("--labels", type=int, default=1000)
    args = parser.parse_args()
    name = args.molecule
    sampling = LabelSettings(temperature=TEMPERATURES.get(name, 500.0))
    stem = name if args.labels == 2000 else f"{name}-{args.labels}"
    folder, draft = Path(f"{stem}-build"), Path(f"{name}-length-scales.fflux")
    source = LabelFolder(folder, read(INPUTS / f"{name}.xyz", ":"), GFN2(), sampling)
    labels = source.all(args.labels, progress)
    alf = choose_alf(labels.training.symbols, labels.minima[0].positions / BOHR)
    rows = [f"| {' | '.join(HEADER)} |", "| --- " * len(HEADER) + "|"]
    print("\n".join(rows), flush=True)
    for description, settings in VARIANTS.items():
        rows.append(f"| {description} | {' | '.join(cells(labels, alf, settings, draft))} |")
        print(rows[-1], flush=True)
    draft.unlink()
    Path(f"{name}-length-scales.md").write_text("\n".join(rows) + "\n")


if __name__ == "__main__":
    main()
