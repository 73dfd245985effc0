"""Learning curves of models with and without gradients and symmetry, from one set of labels.

    python benchmarks/gradients_curves.py ethanol-build --json curves.json --png curves.png
    python benchmarks/gradients_curves.py *-build --labels 50 200 --minima 200 --threads 1

For each folder NAME-build that `fflux build` left, a table of errors by the number of labels: total
energy, atomic energies and forces (root mean square on test.xyz), geometry (root mean square
displacement) and harmonic wavenumbers at each minimum against the label source, seconds of training
and solution together. Four kinds of models are trained on the same labels, a random choice in which
a larger set holds all smaller ones and which keeps the mix of origins of the file:

energies                         a process for each atom, by transfer learning, as `fflux train`
energies + symmetry              equivalent atoms share processes
energies + gradients             joint process, each atom for itself
energies + gradients + symmetry  the same shared, as `fflux build`

The second kind is the joint process without gradients; no command trains it. Its search is direct,
60 evaluations on all labels (a source of 30 says too little of energies alone), and learns the
noise of energies between 1e-8 and 1e-3 Ha, where one value for all did not suit: it was at the
lower end for water, 4e-6 Ha for 100 labels of benzene, 5e-5 and 1e-5 Ha for 100 and 400 of ethanol.
So it differs from the first kind, with a noise of 1e-8 times the prefactor of the covariance, by
more than symmetry.

With --json FILE, points that the file has are not computed again. --png draws force and energy
errors of all folders named.
"""

import argparse
import sys
import time
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from build_folders import Folder, Points
from gradients_sgdml import at_minima
from published_sets import use_threads

from ase_fflux.assess.validate import held_out_errors
from ase_fflux.base.errors import FFLUXError
from ase_fflux.calculator import FFLUX
from ase_fflux.formats.bundle import write_bundle
from ase_fflux.labels.dataset import Dataset
from ase_fflux.labels.tblite_source import GFN2
from ase_fflux.learn.gp.optimisers import LBFGS
from ase_fflux.learn.gp.settings import TrainingSettings
from ase_fflux.learn.joint.settings import JointSettings
from ase_fflux.learn.joint.system import Hyperparameters
from ase_fflux.learn.joint.training import _Search
from ase_fflux.model.alf import choose_alf
from ase_fflux.model.molecule import MoleculeModel
from ase_fflux.training.jobs import run_jobs
from ase_fflux.training.joint import JointTrainer, JointTraining
from ase_fflux.training.molecule import molecule_jobs, molecule_model

# colours of Okabe and Ito, which the colour-blind tell apart
KINDS = {
    "energies": dict(color="#D55E00", marker="o"),
    "energies + symmetry": dict(color="#E69F00", marker="s"),
    "energies + gradients": dict(color="#56B4E9", marker="^"),
    "energies + gradients + symmetry": dict(color="#0072B2", marker="D"),
}
"""Kinds of models and what their curves look like."""
EVALUATIONS, NOISE, NOISE_RANGE = 60, 1e-6, (1e-8, 1e-3)
"""Of the joint process without gradients: the search, noise of energies (hartree)."""
ENERGY, FORCE = "energy_rmse_kj_per_mol", "force_rmse_ev_per_angstrom"


def train(kind: str, labels: Dataset, reference: np.ndarray, moments: str) -> MoleculeModel:
    """A model of one of `KINDS`; moments as `ase_fflux.training.molecule.MOMENTS`."""
    if kind == "energies":
        alf = choose_alf(labels.symbols, reference)
        jobs = molecule_jobs(labels, alf, TrainingSettings(), moments)
        return molecule_model(
            kind, labels.symbols, alf, reference, jobs, run_jobs(jobs), labels.geometries
        )
    training = JointTraining(which=moments, symmetry="symmetry" in kind)
    trainer = JointTrainer(labels, reference, training)
    if "gradients" in kind:
        hyperparameters = trainer.hyperparameters()
    else:
        trainer.data = trainer.data.select_gradients(np.array([], dtype=int))
        hyperparameters = with_learned_noise(trainer)
    return trainer.model(kind, trainer.solve(hyperparameters), trainer.moments())


def with_learned_noise(trainer: JointTrainer) -> Hyperparameters:
    """Those of highest likelihood of all labels, noise of energies among them."""
    search = _Search(trainer.data, JointSettings(energy_noise=NOISE), trainer.threads, None)
    _, _, noise, _ = search.likelihood.parts
    search.box[:, noise] = np.log(NOISE_RANGE)[:, None]
    found = LBFGS(budget=EVALUATIONS).minimise(
        search.likelihood, search.start[None], tuple(search.box), np.random.default_rng(0)
    )
    return search.likelihood.unpack(found.log_theta)


@cache
def compile_all(folder: Folder, moments: str) -> None:
    """Train all kinds of models once, so that no time is that of a compilation."""
    for kind in KINDS:
        train(kind, folder.labels.select(slice(10)), folder.reference, moments)


def measure(folder: Folder, kind: str, count: int, moments: str, minima: bool) -> dict:
    """Errors of a model of `count` labels, and the seconds that its training took."""
    compile_all(folder, moments)
    begin = time.perf_counter()
    model = train(kind, folder.labels.select(slice(count)), folder.reference, moments)
    point = {"seconds": time.perf_counter() - begin}
    point |= vars(held_out_errors(model, folder.test))
    if minima:
        with TemporaryDirectory() as scratch:
            bundle = Path(scratch) / "model.fflux"
            write_bundle(bundle, model)
            assignment = [list(range(len(model.symbols)))]
            calculator = FFLUX(str(bundle), assignment=assignment, on_low_coverage="ignore")
            point["minima"] = at_minima(calculator, folder.minima, GFN2(folder.charge))
    return point


def curve(folder: Folder, chosen: argparse.Namespace, points: Points) -> list[dict]:
    """The points of a folder, printed as a table."""
    shown = columns(chosen.moments)
    print(f"\n{folder.name}\n\n| {' | '.join(shown)} |\n|{' --- |' * len(shown)}", flush=True)
    found = []
    for count in sorted({min(n, len(folder.labels)) for n in chosen.labels}):
        minima = chosen.minima is None or count in chosen.minima
        for kind in KINDS:
            point = points.find(molecule=folder.name, kind=kind, labels=count, seed=chosen.seed)
            if (
                FORCE not in point or minima and "minima" not in point
                or chosen.moments and point["charge_rmse_e"] is None
            ):
                moments = "shared" if chosen.moments else "none"
                point.update(
                    measure(folder, kind, count, moments, minima), threads=chosen.threads
                )
                points.keep(point)
            print(f"| {' | '.join(text(point) for text in shown.values())} |", flush=True)
            found.append(point)
    return found


def columns(moments: bool) -> dict:
    """Names of the columns with what makes their text of a point."""
    def at_each(template):
        return lambda p: ", ".join(
            template.format(**m) if m else "none" for m in p.get("minima", [])
        ) or "-"

    errors = {
        "energy RMSE (kJ/mol)": "{energy_rmse_kj_per_mol:#.3g}",
        "atomic energies (kJ/mol)": "{atomic_energy_rmse_kj_per_mol:#.3g}",
        "force RMSE (eV/A)": "{force_rmse_ev_per_angstrom:#.3g}",
    }
    if moments:
        errors["charges (e)"] = "{charge_rmse_e:#.3g}"
        errors["dipole (e A)"] = "{dipole_rmse_e_angstrom:#.3g}"
    return {
        "labels": lambda p: str(p["labels"]), "model": lambda p: p["kind"],
        **{name: lambda p, t=template: t.format(**p) for name, template in errors.items()},
        "RMSD at minima (A)": at_each("{rmsd_angstrom:#.2g}"),
        "wavenumbers: MAE (max) (cm-1)": at_each(
            "{wavenumber_mae_per_cm:.2f} ({wavenumber_max_per_cm:.1f})"
        ),
        "training (s)": lambda p: f"{p['seconds']:.1f}",
    }


def plot(curves: dict[str, list[dict]], file: Path) -> None:
    """Draw force and energy errors against labels, a row for each molecule."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullLocator

    figure = Figure(figsize=(7.0, 0.5 + 2.7 * len(curves)), dpi=200, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(curves), 2, squeeze=False)
    units = (FORCE, "force RMSE / eV Å$^{-1}$"), (ENERGY, "energy RMSE / kJ mol$^{-1}$")
    for row, (name, points) in zip(grid, curves.items(), strict=True):
        for axis, (quantity, label) in zip(row, units, strict=True):
            for kind, look in KINDS.items():
                of_kind = [p for p in points if p["kind"] == kind]
                axis.loglog(
                    [p["labels"] for p in of_kind], [p[quantity] for p in of_kind], label=kind,
                    markersize=4, linewidth=1.2, **look,
                )
            sizes = sorted({p["labels"] for p in points})
            axis.set_xticks(sizes, [str(n) for n in sizes])
            axis.xaxis.set_minor_locator(NullLocator())
            axis.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=20))
            axis.yaxis.set_minor_locator(NullLocator())
            axis.yaxis.set_major_formatter("{x:g}")
            axis.set_xlabel("labels", fontsize=9)
            axis.set_ylabel(label, fontsize=9)
            axis.set_title(name.replace("_", " "), fontsize=9, loc="left")
            axis.grid(color="0.92", linewidth=0.6)
            axis.tick_params(labelsize=8)
            axis.spines[["top", "right"]].set_visible(False)
    figure.legend(
        *grid[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=2, fontsize=8,
        frameon=False,
    )
    figure.savefig(file, format="png")


def main() -> None:
    """Print the tables, a row as soon as it is there."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("folders", nargs="+", type=Path, metavar="NAME-build", help="what `fflux build` left")
    add("--labels", nargs="+", type=int, default=[25, 50, 100, 200, 300, 400], metavar="N")
    add("--minima", nargs="*", type=int, metavar="N", help="sizes tested at minima (default: all)")
    add("--moments", action="store_true", help="train these, too; errors of charges and dipole")
    add("--seed", type=int, default=1, help="of the choice of labels")
    add("--threads", type=int, default=2)
    add("--json", type=Path, metavar="FILE", help="keep the points here, and go on with them")
    add("--png", type=Path, metavar="FILE", help="draw the curves")
    chosen = parser.parse_args()
    use_threads(chosen.threads)
    command = " ".join(["python", *sys.argv])
    print(f"`{command}`")
    try:
        points, curves = Points(chosen.json, command), {}
        for path in chosen.folders:
            folder = Folder(path, chosen.seed)
            curves[folder.name] = curve(folder, chosen, points)
    except FFLUXError as error:
        sys.exit(str(error))
    if chosen.png:
        plot(curves, chosen.png)


if __name__ == "__main__":
    main()
