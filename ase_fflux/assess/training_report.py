"""What a training run reports: errors on held-out points, curves, a table and a summary."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from ase_fflux.assess.curves import (
    s_curve,
    subset_predictions,
    unit_of,
    write_learning_curves,
    write_s_curves,
)
from ase_fflux.base.outputs import OutputFiles
from ase_fflux.base.store import write_text
from ase_fflux.base.text import aligned
from ase_fflux.learn.gp.training import TrainingResult
from ase_fflux.model.molecule import ENERGY
from ase_fflux.plots.training import plot_learning_curves, plot_s_curves
from ase_fflux.training.data import TrainingData
from ase_fflux.training.jobs import Job

TOTAL = "total"
CURVES = {ENERGY: "energy", "q00": "charge"}
"""Properties that have a picture of S-curves, and what it is called."""
SUFFIXES = (
    "-train.log", "-train.json", *(f"-s-curve-{name}.{kind}" for name in CURVES.values()
                                   for kind in ("png", "csv")),
    "-learning.png", "-learning.csv",
)
"""Ends of the names of the files beside the models."""


@dataclass(frozen=True, eq=False)
class PropertyErrors:
    """Errors of one property on the held-out points, in its unit (`unit_of`).

    Parameters
    ----------
    atom : str
        Label such as ``C1``, or ``total`` for the energy of the molecule.
    property : str
        Its name.
    errors : (m,) array
        Prediction minus reference.
    """

    atom: str
    property: str
    errors: np.ndarray

    @property
    def unit(self) -> str:
        """Of the errors."""
        return unit_of(self.property).name

    @property
    def rmse(self) -> float:
        """Root mean square."""
        return float(np.sqrt(np.mean(self.errors**2)))

    def summary(self) -> dict:
        """JSON-able."""
        return {
            "atom": self.atom, "property": self.property, "unit": self.unit,
            "points": len(self.errors), "rmse": self.rmse,
            "mae": float(np.abs(self.errors).mean()), "max": float(np.abs(self.errors).max()),
        }


def property_errors(
    data: TrainingData, jobs: Sequence[Job], results: Mapping[str, TrainingResult]
) -> list[PropertyErrors]:
    """Errors of all properties that the held-out points have; the total energy of a dataset last.

    Parameters
    ----------
    data : TrainingData
        Training and test points.
    jobs, results
        What was trained.
    """
    found, total = [], 0.0
    atoms = {atom.atom: atom for atom in data.atoms}
    for job in jobs:
        atom = atoms[job.atom]
        if atom.test is None:
            continue
        predictions = results[job.name].process.predict(atom.test.features)
        for name, prediction in zip(job.properties, predictions, strict=True):
            if name in atom.test.targets:
                errors = unit_of(name).factor * (prediction - atom.test.targets[name])
                found.append(PropertyErrors(atom.label, name, errors))
                if name == ENERGY:
                    total = total + errors
    if data.test is not None:
        found.append(PropertyErrors(TOTAL, ENERGY, total))
    return found


def write_curves(
    files: OutputFiles, data: TrainingData, jobs: Sequence[Job],
    results: Mapping[str, TrainingResult], errors: Sequence[PropertyErrors], seed: int,
) -> None:
    """S-curves of energies and charges, learning curves of energies, as PNG and CSV.

    Parameters
    ----------
    files : OutputFiles
        With `SUFFIXES`.
    data, jobs, results
        What was trained.
    errors : sequence of PropertyErrors
        Those of `property_errors`.
    seed : int
        Of the points of the smaller models.
    """
    for name, called in CURVES.items():
        chosen = [e for e in errors if e.property == name]
        if chosen:
            curves = {(e.atom, name): s_curve(e.errors) for e in chosen}
            write_s_curves(files[f"-s-curve-{called}.csv"], curves)
            plot_s_curves(
                {atom: curve for (atom, _), curve in curves.items()},
                files[f"-s-curve-{called}.png"],
                title=f"{data.system}: {called} on {len(chosen[0].errors)} held-out points",
                unit=chosen[0].unit,
            )
    if learning := _learning_curves(data, jobs, results, seed):
        write_learning_curves(files["-learning.csv"], learning)
        plot_learning_curves(
            {atom: curve for (atom, _), curve in learning.items()}, files["-learning.png"],
            title=f"{data.system}: energy", unit=unit_of(ENERGY).name,
        )


def _learning_curves(data, jobs, results, seed) -> dict:
    """{(atom, property): (sizes, rmse)} of the energies, with their total for a dataset."""
    curves, total, atoms = {}, 0.0, {atom.atom: atom for atom in data.atoms}
    for job in jobs:
        atom = atoms[job.atom]
        if job.properties != (ENERGY,) or atom.test is None or ENERGY not in atom.test.targets:
            continue
        sizes, predictions = subset_predictions(
            results[job.name].process, atom.test.features, seed=seed
        )
        errors = unit_of(ENERGY).factor * (predictions[:, 0] - atom.test.targets[ENERGY])
        curves[atom.label, ENERGY] = sizes, np.sqrt(np.mean(errors**2, axis=1))
        if data.test is not None:
            total = total + errors
    if data.test is not None:
        curves[TOTAL, ENERGY] = sizes, np.sqrt(np.mean(total**2, axis=1))
    return curves


def write_log(
    path: Path, head: Sequence[str], jobs: Sequence[Job], results: Mapping[str, TrainingResult],
    errors: Sequence[PropertyErrors],
) -> None:
    """Write the tables of models, of their steps and of their errors.

    Parameters
    ----------
    path : Path
        File to write.
    head : sequence of str
        Lines before the tables.
    jobs, results
        What was trained.
    errors : sequence of PropertyErrors
        On the held-out points.
    """
    by_atom = {(e.atom, e.property): e for e in errors}
    models = [(
        "model", "points", "features", "objective start", "end", "evaluations", "time/s",
        "held-out RMSE", "started from",
    )]
    steps = [("model", "step", "points", "evaluations", "time/s", "start", "end", "started from")]
    for job in jobs:
        result = results[job.name]
        error = by_atom.get((job.name.split()[0], job.properties[0]))
        shown = "-"
        if error is not None:
            shown = f"{error.rmse:.4g} {error.unit}"
            shown += f" ({error.property})" if len(job.properties) > 1 else ""
        models.append((
            job.name, *map(str, job.features.shape), f"{result.steps[-1].start:.4f}",
            f"{result.objective:.4f}", str(result.evaluations), f"{result.seconds:.2f}", shown,
            started_from(job, result),
        ))
        steps += [(
            job.name, s.stage, str(s.points), str(s.evaluations), f"{s.seconds:.2f}",
            f"{s.start:.4f}", f"{s.value:.4f}", s.transferred,
        ) for s in result.steps]
    table = [("atom", "property", "points", "RMSE", "MAE", "largest", "unit")]
    for s in (e.summary() for e in errors):
        numbers = (f"{s[key]:.4g}" for key in ("rmse", "mae", "max"))
        table.append((s["atom"], s["property"], str(s["points"]), *numbers, s["unit"]))
    text = [*head, "", *aligned(models, range(1, 8)), "", *aligned(steps, range(1, 7))]
    text += ["", "errors on held-out points", *aligned(table, range(1, 6))] if errors else []
    write_text(path, "\n".join(text) + "\n")


def started_from(job: Job, result: TrainingResult) -> str:
    """Where the length scales of a model came from."""
    models = [*job.after, *(["--from"] if job.guesses else [])]
    sources = [f"source of {step.points} points" for step in result.steps if step.stage == "source"]
    return ", ".join(models or sources) or result.steps[-1].transferred


def models_summary(jobs: Sequence[Job], results: Mapping[str, TrainingResult]) -> list[dict]:
    """What every model took and took over, JSON-able."""
    return [{
        "model": job.name, "properties": job.properties, "points": len(job.features),
        "features": job.features.shape[1], "objective": results[job.name].objective,
        "evaluations": results[job.name].evaluations, "seconds": results[job.name].seconds,
        "started_from": started_from(job, results[job.name]),
        "theta": results[job.name].process.kernel.theta, "noise": results[job.name].process.noise,
        "steps": [asdict(step) for step in results[job.name].steps],
    } for job in jobs]
