"""Transfer learning against direct learning on four molecules, as Isamura and Popelier did it.

    python examples/transfer_learning/experiment.py                        all four, about an hour
    python examples/transfer_learning/experiment.py ethanol --labels 500   a quick look
    python examples/transfer_learning/experiment.py --optimiser grey-wolf --labels 500

Atomic energies and charges of benzene, ethanol, formic acid dimer and fomepizole, one Gaussian
process each, are trained by direct learning (DL) and by transfer learning (TL) on the same labels
(GFN2-xTB; the paper has IQA energies), one after the other on one thread. Written in the current
directory:

    table.md                   times, test errors, optimised geometries and wavenumbers, DL above TL
    NAME-energies.png, .csv    S-curves of the atomic energies: TL solid, DL dashed
    NAME-charges.png, .csv     S-curves of the charges
    NAME-build/                labels and trained models; started again, it goes on from there

Paper: Phys. Chem. Chem. Phys. 2024, 26, 23677.
"""

import argparse
import os
import sys
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

if os.environ.get("OPENBLAS_NUM_THREADS") != "1":  # read when numpy is loaded
    os.execve(sys.executable, sys.orig_argv, os.environ | {
        "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"
    })

import numpy as np
from ase.io import read
from tqdm import tqdm

from ase_fflux import FFLUX
from ase_fflux.assess.curves import s_curve, unit_of, write_s_curves
from ase_fflux.assess.validate import held_out_errors, minimum_errors
from ase_fflux.base.units import BOHR
from ase_fflux.formats import write_bundle
from ase_fflux.labels.folder import LabelFolder, LabelSettings
from ase_fflux.labels.tblite_source import GFN2
from ase_fflux.learn.gp.optimisers import LBFGS, GreyWolf, ParticleSwarm
from ase_fflux.learn.gp.settings import TrainingSettings
from ase_fflux.model.alf import choose_alf
from ase_fflux.plots.training import plot_s_curves
from ase_fflux.training.jobs import Plan, run_jobs
from ase_fflux.training.molecule import local_properties, molecule_jobs, molecule_model

INPUTS = Path(__file__).resolve().parents[2] / "models" / "inputs"
TEMPERATURES = {"formic_acid_dimer": 350.0}
NOISES = {"fomepizole": 3e-9}
MOLECULES = ("benzene", "ethanol", "formic_acid_dimer", "fomepizole")
OPTIMISERS = {"l-bfgs": LBFGS(), "grey-wolf": GreyWolf(), "swarm": ParticleSwarm()}
KINDS = {"iqa": "energies", "q00": "charges"}
HEADER = (
    "molecule", "protocol", "energies: training s", "charges: training s",
    "total energy RMSE kJ/mol", "atomic energy RMSE kJ/mol", "charge RMSE me", "force RMSE eV/A",
    "geometry RMSD A", "wavenumbers MAE (max) cm-1",
)


@contextmanager
def progress(description, total):
    """A progress bar."""
    with tqdm(total=total, desc=f"{description:18}", disable=None) as bar:
        yield bar.update


def train(name, labels, alf, settings, protocol):
    """Jobs, results and the model of one protocol."""
    jobs = molecule_jobs(labels.training, alf, settings, moments="charges")
    with progress(f"{name} {protocol}", len(jobs)) as advance:
        results = run_jobs(
            jobs, folder=Path(f"{name}-build") / protocol, plan=Plan(len(jobs), 1, 1, 0, ""),
            on_finished=lambda job, result, restored: advance(1),
        )
    reference = labels.minima[0].positions / BOHR
    return jobs, results, molecule_model(labels.training, name, alf, reference, jobs, results)


def test_errors(labels, alf, jobs, results):
    """Errors {property: {atom: (m,) array in the unit of the property}} on the test set."""
    errors = {}
    for job in jobs:
        inputs, targets = local_properties(labels.test, alf, job.atom)
        (kind,), row = job.properties, ("iqa", "q00").index(job.properties[0])
        difference = results[job.name].process.predict(inputs)[0] - targets[row]
        atom = job.name.split()[0]
        errors.setdefault(kind, {})[atom] = unit_of(kind).factor * difference
    return errors


def table_row(name, protocol, labels, jobs, results, model, errors):
    """Cells of the table."""
    seconds = [
        sum(results[job.name].seconds for job in jobs if job.properties == (kind,))
        for kind in KINDS
    ]
    rms = {kind: np.sqrt(np.mean(np.square(list(e.values())))) for kind, e in errors.items()}
    held_out = held_out_errors(model, labels.test)
    draft = Path(f"{name}-{protocol}.fflux")
    draft.unlink(missing_ok=True)
    write_bundle(draft, model)
    found = [minimum_errors(minimum, FFLUX(str(draft)), GFN2()) for minimum in labels.minima]
    return (
        name, protocol, *(f"{s:.1f}" for s in seconds),
        f"{held_out.energy_rmse_kj_per_mol:.3f}", f"{rms['iqa']:.3f}", f"{1e3 * rms['q00']:.3f}",
        f"{held_out.force_rmse_ev_per_angstrom:.4f}",
        ", ".join(f"{m.rmsd_angstrom:.5f}" for m in found),
        ", ".join(
            f"{m.wavenumber_mae_per_cm:.1f} ({m.wavenumber_max_per_cm:.0f})" for m in found
        ),
    )


def main():
    """Run the molecules, print and write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("molecules", nargs="*", default=MOLECULES, metavar="NAME")
    parser.add_argument("--labels", type=int, default=2000)
    parser.add_argument("--optimiser", choices=OPTIMISERS, default="l-bfgs")
    args = parser.parse_args()
    rows = [f"| {' | '.join(HEADER)} |", "| --- " * len(HEADER) + "|"]
    for name in args.molecules:
        sampling = LabelSettings(temperature=TEMPERATURES.get(name, 500.0))
        conformers = read(INPUTS / f"{name}.xyz", ":")
        source = LabelFolder(Path(f"{name}-build"), conformers, GFN2(), sampling)
        labels = source.all(args.labels, progress)
        alf = choose_alf(labels.training.symbols, labels.minima[0].positions / BOHR)
        tl = TrainingSettings(noise=NOISES.get(name, 1e-8), optimiser=OPTIMISERS[args.optimiser])
        errors = {}
        for protocol, settings in (("DL", replace(tl, transfer=None)), ("TL", tl)):
            jobs, results, model = train(name, labels, alf, settings, protocol)
            errors[protocol] = test_errors(labels, alf, jobs, results)
            cells = table_row(name, protocol, labels, jobs, results, model, errors[protocol])
            rows.append(f"| {' | '.join(cells)} |")
        for kind, word in KINDS.items():
            curves = {p: {a: s_curve(e) for a, e in errors[p][kind].items()} for p in errors}
            plot_s_curves(
                curves["TL"], Path(f"{name}-{word}.png"), dashed=curves["DL"],
                title=f"{name}: {word} at {len(labels.test)} test geometries",
                unit=unit_of(kind).name,
            )
            write_s_curves(
                Path(f"{name}-{word}.csv"),
                {(f"{a} {p}", kind): c for p in curves for a, c in curves[p].items()},
            )
        Path("table.md").write_text("\n".join(rows) + "\n")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
