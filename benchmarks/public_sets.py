"""What benchmarks on public data sets share: a training, its test, and rows kept in a JSON file."""

import json
import resource
import time
from pathlib import Path

import numpy as np
from ase import Atoms

from ase_fflux.base.store import write_text
from ase_fflux.base.units import FORCE, HARTREE
from ase_fflux.forcefield import ForceField
from ase_fflux.labels.label import Dataset
from ase_fflux.learn.joint.settings import JointSettings
from ase_fflux.model.kernels import FORMS
from ase_fflux.model.molecule import MoleculeModel
from ase_fflux.model.prior import Prior
from ase_fflux.training.joint import JointTrainer, JointTraining

ENERGY_MEV, FORCE_MEV = 1e3 * HARTREE, 1e3 * FORCE


def trained(
    training: Dataset, settings: JointSettings, prior: Prior | None = None,
    memory: float | None = None,
) -> tuple[MoleculeModel, dict]:
    """A model of totals and gradients, and what is to be said of its training.

    Parameters
    ----------
    training : Dataset
        Labels.
    settings : JointSettings
        Of the search.
    prior : Prior, optional
        What it stands on top of.
    memory : float, optional
        GB that the solution may use.
    """
    start, begin = time.process_time(), time.perf_counter()
    reference = training.geometries[np.argmin(training.energies)]
    trainer = JointTrainer(
        training, reference, JointTraining(settings, which="none", memory=memory), prior=prior
    )
    solved = trainer.solve(trainer.hyperparameters())
    model = trainer.model("model", solved, [])
    return model, {
        "negative_log_likelihood": solved.negative_log_likelihood,
        "training_seconds": time.process_time() - start,
        "wall_seconds": time.perf_counter() - begin, "observed": sum(trainer.data.n_observed),
        # of the process until now, in GB (kilobytes on Linux)
        "peak_memory_gb": 1.024e-6 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        "form": form_name(solved.hyperparameters.form), "steps": trainer.record(solved)["steps"],
        "operations": len(trainer.symmetry), "gradients": solved.n_gradients,
        "total_noise_mev": ENERGY_MEV * float(solved.hyperparameters.total_noise[0]),
        "gradient_noise_mev_per_angstrom":
            FORCE_MEV * float(solved.hyperparameters.gradient_noise[0]),
    }


def form_name(form) -> str:
    """As `--joint-kernel` calls it."""
    return next(name for name, known in FORMS.items() if known == form)


def tested(model: MoleculeModel, test: Dataset) -> dict:
    """Errors over all frames, mean absolute and root mean square, and the median time of a call."""
    field, numbers = ForceField([model]), Atoms(test.symbols).numbers
    assignment = field.in_order(numbers)
    energies, forces, calls = [], [], []
    for x in test.geometries:
        start = time.perf_counter()
        found = field.evaluate(x, numbers, assignment=assignment, moments=False)
        calls.append(time.perf_counter() - start)
        energies.append(found.energy)
        forces.append(found.forces)
    energy, force = ENERGY_MEV * (energies - test.energies), FORCE_MEV * (forces + test.gradients)
    return {
        "energy_mae_mev": float(np.abs(energy).mean()),
        "force_mae_mev_per_angstrom": float(np.abs(force).mean()),
        "energy_rmse_mev": float(np.sqrt(np.square(energy).mean())),
        "force_rmse_mev_per_angstrom": float(np.sqrt(np.square(force).mean())),
        "call_seconds": float(np.median(calls)),
    }


class Rows:
    """Rows of a table by key, kept in a JSON file where one is given.

    Parameters
    ----------
    path : Path or None
        The file; what stands in it is there from the start.
    keys : tuple of str
        Columns that tell rows apart.
    """

    def __init__(self, path: Path | None, keys: tuple[str, ...]):
        self.path, self.keys = path, keys
        self.rows = json.loads(path.read_text()) if path and path.exists() else []

    def get(self, *key) -> dict | None:
        """The row of a key, if there is one."""
        return next(
            (row for row in self.rows if tuple(row.get(k) for k in self.keys) == key), None
        )

    def add(self, row: dict) -> dict:
        """Keep a row, in the file at once."""
        self.rows.append(row)
        if self.path:
            write_text(self.path, json.dumps(self.rows, indent=1) + "\n")
        return row
