"""What seeding buys in a training on gradients: time of the search, likelihood and errors.

    python benchmarks/gradients_seeding.py ethanol-build --labels 200 --json seeding.json

From N labels of each folder NAME-build that `fflux build` left, a random choice that keeps the
mix of origins, hyperparameters of the joint process are found by

direct learning    60 evaluations of the likelihood of all N labels
transfer learning  a source of 30 labels, relaxed on 60 and 120, the default of `fflux build`
source alone       60 evaluations of the source of 30 labels

and each is solved on all N labels. The table has the seconds of the search and of the solution,
evaluations, -ln L of all N labels (without its constant) and errors on test.xyz. Below it stands
when direct learning comes to the force error of transfer learning, and to within 5 % of it: what it
has found is solved and tested at every improvement of the likelihood, which no time counts.

With --json FILE, what the file has is not computed again.
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np
from build_folders import Folder, Points
from published_sets import use_threads

from ase_fflux.assess.validate import held_out_errors
from ase_fflux.base.errors import FFLUXError
from ase_fflux.learn.gp.optimisers import LBFGS
from ase_fflux.learn.joint.settings import JointSettings
from ase_fflux.learn.joint.training import _Search, find_hyperparameters
from ase_fflux.training.joint import JointTrainer, JointTraining

EVALUATIONS = 60
DIRECT, TRANSFER = "direct learning", "transfer learning"
SETTINGS = {
    TRANSFER: JointSettings(),
    "source alone": JointSettings(sizes=(30,), evaluations=(EVALUATIONS,)),
}
PROTOCOLS = (DIRECT, *SETTINGS)
ENERGY, FORCE = "energy_rmse_kj_per_mol", "force_rmse_ev_per_angstrom"
COLUMNS = (
    "hyperparameters by", "search (s)", "evaluations (labels)", "-ln L", "energy RMSE (kJ/mol)",
    "force RMSE (eV/A)", "solution (s)",
)
WITHIN = {1.0: "the force error of transfer learning", 1.05: "within 5 % of it"}


class Improvements:
    """A likelihood that notes each improvement: seconds since its start, evaluations, where."""

    def __init__(self, likelihood):
        self.likelihood, self.begin = likelihood, time.perf_counter()
        self.evaluations, self.path = 0, []

    def value_and_gradient(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        """That of the likelihood."""
        value, gradient = self.likelihood.value_and_gradient(x)
        self.evaluations += 1
        if value < min((step["objective"] for step in self.path), default=np.inf):
            self.path.append({
                "seconds": time.perf_counter() - self.begin, "evaluations": self.evaluations,
                "objective": value, "x": x.tolist(),
            })
        return value, gradient


class Comparison:
    """Protocols on the first labels of a folder."""

    def __init__(self, folder: Folder, count: int):
        self.folder = folder
        labels = folder.labels.select(slice(count))
        self.trainer = JointTrainer(labels, folder.reference, JointTraining(which="none"))
        self.space = _Search(self.trainer.data, JointSettings(), self.trainer.threads, None)
        few = self.trainer.data.select(np.arange(10))
        find_hyperparameters(few, JointSettings(), self.trainer.threads)  # compiles

    def search(self, protocol: str) -> dict:
        """Logarithms of the hyperparameters, and what finding them took."""
        trainer, likelihood = self.trainer, self.space.likelihood
        begin = time.perf_counter()
        if protocol == DIRECT:
            noted = Improvements(likelihood)
            found = LBFGS(budget=EVALUATIONS).minimise(
                noted, self.space.start[None], tuple(self.space.box), np.random.default_rng(0)
            )
            x, steps = found.log_theta, [(found.evaluations, len(trainer.data))]
        else:
            noted = None
            found, steps = find_hyperparameters(trainer.data, SETTINGS[protocol], trainer.threads)
            x, steps = likelihood.pack(found), [(s.evaluations, s.points) for s in steps]
        spent = {"seconds": time.perf_counter() - begin, "evaluations": steps, "x": x.tolist()}
        return spent if noted is None else spent | {"path": noted.path}

    def test(self, x: list[float]) -> dict:
        """Errors of the solution with hyperparameters exp(x), its -ln L and its seconds."""
        hyperparameters = self.space.likelihood.unpack(np.array(x))
        begin = time.perf_counter()
        solved = self.trainer.solve(hyperparameters)
        seconds = time.perf_counter() - begin
        model = self.trainer.model(self.folder.name, solved, [])
        return {
            "solution_seconds": seconds, "objective": solved.negative_log_likelihood,
            **vars(held_out_errors(model, self.folder.test)),
        }


def compare(folder: Folder, chosen: argparse.Namespace, points: Points) -> None:
    """Print the table of a folder and what is below it."""
    count = min(chosen.labels, len(folder.labels))
    comparison, found = Comparison(folder, count), {}
    print(f"\n{folder.name}: {comparison.trainer.plan}\n")
    print(f"| {' | '.join(COLUMNS)} |\n|{' --- |' * len(COLUMNS)}", flush=True)
    for protocol in PROTOCOLS:
        point = points.find(
            molecule=folder.name, protocol=protocol, labels=count, seed=chosen.seed
        )
        if "x" not in point:
            point.update(comparison.search(protocol), threads=chosen.threads)
            points.keep(point)
        if FORCE not in point:
            point.update(comparison.test(point["x"]))
            points.keep(point)
        print(f"| {' | '.join(cells(point))} |", flush=True)
        found[protocol] = point
    direct, transfer = found[DIRECT], found[TRANSFER]
    for step in direct["path"]:
        if FORCE not in step:
            step.update(comparison.test(step["x"]))
            points.keep(direct)
    print()
    for factor, what in WITHIN.items():
        print(arrival(direct["path"], factor * transfer[FORCE], what, transfer["seconds"]))


def cells(point: dict) -> list[str]:
    """Text of a row of the table."""
    return [
        point["protocol"], f"{point['seconds']:.1f}",
        ", ".join(f"{evaluations} ({labels})" for evaluations, labels in point["evaluations"]),
        f"{point['objective']:.1f}", f"{point[ENERGY]:.4g}", f"{point[FORCE]:.4g}",
        f"{point['solution_seconds']:.1f}",
    ]


def arrival(path: list[dict], error: float, what: str, seconds: float) -> str:
    """When a search comes to a force error, beside the seconds of another search."""
    there = next((step for step in path if step[FORCE] <= error), None)
    if there is None:
        best = min(path, key=lambda step: step[FORCE])
        return (
            f"Direct learning does not come to {what}, {error:.4g} eV/A: {best[FORCE]:.4g} eV/A at "
            f"best, after {best['seconds']:.1f} s."
        )
    return (
        f"Direct learning comes to {what}, {error:.4g} eV/A, after {there['seconds']:.1f} s, "
        f"{there['seconds'] / seconds:.1f} times those of transfer learning, and "
        f"{there['evaluations']} evaluations."
    )


def main() -> None:
    """Print a table for each folder."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("folders", nargs="+", type=Path, metavar="NAME-build", help="what `fflux build` left")
    add("--labels", type=int, default=200, metavar="N")
    add("--seed", type=int, default=1, help="of the choice of labels")
    add("--threads", type=int, default=2)
    add("--json", type=Path, metavar="FILE", help="keep the points here, and go on with them")
    chosen = parser.parse_args()
    use_threads(chosen.threads)
    command = " ".join(["python", *sys.argv])
    print(f"`{command}`")
    try:
        points = Points(chosen.json, command)
        for path in chosen.folders:
            compare(Folder(path, chosen.seed), chosen, points)
    except FFLUXError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
