"""Learning from gradients beside sGDML: same geometries, energies and forces, same test.

    pip install sgdml==1.0.3
    fflux build models/inputs/ethanol.xyz -o ethanol.fflux
    python benchmarks/gradients_sgdml.py ethanol-build --labels 200 --bundle gradients.fflux

Everything on one thread, from the labels that a build left (all of them, or those of
`mixed_labels`); without --bundle sGDML alone. Bundles keep no times: --seconds says what training
one took. Where its geometries are not those of the labels, the table has "others".

sGDML (Chmiela et al., Nat. Commun. 9, 3887 (2018), https://doi.org/10.1038/s41467-018-06169-2) runs
as its own command line does, with its own lambda of 1e-10 and the length scale sigma of a grid that
has the lowest force error on a validation set. That set is one in five of the labels, and the model
is trained on all of them in the end, so that both programs have seen the same. The grid is extended
by factors of two for as long as its best is at an edge. "at best sigma" is what sGDML would have
reached with the sigma, among those tried, that is best for the test set. GDML is without symmetry,
sGDML with the permutations that it recovers from the labels; "+ E" has energies as conditions
(`use_E_cstr`), otherwise they only give the constant of integration, which is the program's own in
"energy RMSE" and the best one for the test set in "shifted".

Times: sGDML's of the whole training (symmetries, choice of sigma, training) and, in brackets, of
the last training alone; of a force call the median over the test set, through an ASE calculator.
Minima: geometry and harmonic wavenumbers against those of the label source.
"""

import argparse
import json
import logging
import os
import platform
import sys
import time
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.io import read
from published_sets import use_threads

from ase_fflux import FFLUX
from ase_fflux.assess.validate import minimum_errors
from ase_fflux.base.errors import FFLUXError, TrainingError
from ase_fflux.base.units import BOHR, FORCE, HARTREE, KJ_PER_MOL
from ase_fflux.formats.locate import load_molecule
from ase_fflux.labels.dataset import Dataset, read_dataset
from ase_fflux.labels.tblite_source import GFN2

VARIANTS = {
    "GDML": (False, False), "GDML + E": (False, True),
    "sGDML": (True, False), "sGDML + E": (True, True),
}
"""With symmetries, with energies as conditions."""

SIGMAS = (5.0, 10.0, 20.0, 40.0)
VALIDATION = 0.2
COLUMNS = (
    "program", "labels", "energy RMSE (kJ/mol)", "shifted", "force RMSE (eV/A)", "sigma",
    "at best sigma", "RMSD at minima (A)", "wavenumbers: MAE (max) (cm-1)",
    "training (s)", "force call (ms)",
)


def mixed_labels(dataset: Dataset, count: int, seed: int) -> Dataset:
    """Half from the dynamics, a third from normal modes at 50 K, the rest from hotter ones.

    Drawn without replacement and kept in the order of the file; the dynamics make up for portions
    that have too few.

    Parameters
    ----------
    dataset : Dataset
        Labels of a build.
    count : int
        How many to take.
    seed : int
        Seed of the draw.
    """
    dynamics = np.char.startswith(dataset.origins.astype(str), "md")
    cold = dataset.origins == "nm50K"
    hot = ~dynamics & ~cold
    n_cold = min(count // 3, cold.sum())
    n_hot = min(count - count // 2 - count // 3, hot.sum())
    rng = np.random.default_rng(seed)
    wanted = ((dynamics, count - n_cold - n_hot), (cold, n_cold), (hot, n_hot))
    chosen = [rng.choice(np.flatnonzero(mask), n, replace=False) for mask, n in wanted]
    return dataset.select(np.sort(np.concatenate(chosen)))


class SGDML(Calculator):
    """ASE calculator of a model in eV and Angstrom, on one core.

    sGDML's own takes every core. Both sum over training points in chunks; here it is all of them at
    once, with 200 labels some 50 times faster than the chunks of one point that `prepare_parallel`
    chooses on one core.
    """

    implemented_properties = ["energy", "forces"]
    nolabel = True

    def __init__(self, model: dict):
        from sgdml.predict import GDMLPredict

        super().__init__()
        self.predict = GDMLPredict(model, max_processes=1).predict

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        energies, forces = self.predict(self.atoms.positions.ravel())
        self.results = {"energy": float(energies[0]), "forces": forces.reshape(-1, 3)}


def held_out(calculator: Calculator, test: Dataset) -> dict:
    """Errors on a test set and the median time of a call."""
    energies, forces, seconds = [], [], []
    atoms = Atoms(test.symbols, calculator=calculator)
    for geometry in test.geometries:
        atoms.positions = geometry * BOHR
        start = time.perf_counter()
        forces.append(atoms.get_forces())
        seconds.append(time.perf_counter() - start)
        energies.append(atoms.get_potential_energy())
    error = (np.array(energies) - HARTREE * test.energies) / KJ_PER_MOL
    return {
        "energy_rmse": rms(error), "energy_rmse_shifted": rms(error - error.mean()),
        "force_rmse": force_rmse(np.array(forces), test), "call_seconds": float(np.median(seconds)),
    }


def force_rmse(forces: np.ndarray, dataset: Dataset) -> float:
    """Error (eV/Angstrom) of forces (n, N, 3) in eV/Angstrom."""
    return rms(forces + FORCE * dataset.gradients)


def rms(values: np.ndarray) -> float:
    """Root of the mean of squares."""
    return float(np.sqrt(np.mean(np.square(values))))


def trained_on(bundle: Path, labels: Dataset) -> dict:
    """Number of training geometries of a bundle if it has them; whether they are the labels'."""
    geometries = load_molecule(str(bundle)).geometries
    if geometries is None:
        return {"labels": None, "same_labels": False}
    same = len(geometries) == len(labels) and all(
        np.abs(labels.geometries - x).max(axis=(1, 2)).min() < 1e-8 for x in geometries
    )
    return {"labels": len(geometries), "same_labels": bool(same)}


def at_minima(calculator: Calculator, minima: list[Atoms], source: GFN2) -> list[dict | None]:
    """Errors at every minimum, None where the model has none."""
    found = []
    for minimum in minima:
        try:
            found.append(vars(minimum_errors(minimum, calculator, source)))
        except TrainingError:
            found.append(None)
    return found


@cache
def gdml_train():
    """sGDML's trainer, of which a process can have one."""
    from sgdml.train import GDMLTrain

    return GDMLTrain(max_processes=1)


class Peer:
    """sGDML with one set of labels, of which some are put aside to choose sigma."""

    def __init__(self, labels: Dataset, seed: int):
        order = np.random.default_rng(seed).permutation(len(labels))
        aside = round(VALIDATION * len(labels))
        self.labels = labels
        self.held, self.rest = labels.select(order[:aside]), labels.select(order[aside:])
        self.trainer = gdml_train()

    def task(self, labels: Dataset, symmetries: bool, constraints: bool, perms=None) -> dict:
        """sGDML's recipe of a training with all of the labels; sigma is set later."""
        data = {
            "type": "d", "name": np.array("labels"), "theory": np.array(labels.method),
            "z": Atoms(labels.symbols).numbers, "R": BOHR * labels.geometries,
            "E": HARTREE * labels.energies, "F": -FORCE * labels.gradients,
        }
        return self.trainer.create_task(
            data, len(labels), data, 0, SIGMAS[0], perms=perms, use_sym=symmetries,
            use_E_cstr=constraints,
        )

    def search(self, task: dict) -> dict[float, tuple[dict, float]]:
        """Model and validation error by sigma."""
        tried = {}
        while missing := set(SIGMAS) - set(tried) or beyond_edge(tried):
            for sigma in sorted(missing):
                model = self.trainer.train(task | {"sig": sigma})
                tried[sigma] = model, force_rmse(predicted_forces(model, self.held), self.held)
        return tried

    def run(self, variant: str, test: Dataset) -> tuple[dict, dict]:
        """Model and part of a row: times, sigma, symmetries and what another sigma gives."""
        symmetries, constraints = VARIANTS[variant]
        start = time.perf_counter()
        task = self.task(self.labels, symmetries, constraints)
        tried = self.search(self.task(self.rest, symmetries, constraints, task["perms"]))
        sigma = min(tried, key=lambda s: tried[s][1])
        before = time.perf_counter()
        model = self.trainer.train(task | {"sig": sigma})
        end = time.perf_counter()
        on_test = {s: force_rmse(predicted_forces(m, test), test) for s, (m, _) in tried.items()}
        best = min(on_test, key=on_test.get)
        other = model if best == sigma else self.trainer.train(task | {"sig": best})
        return model, {
            "sigma": sigma, "best_sigma": best,
            "force_rmse_at_best_sigma": force_rmse(predicted_forces(other, test), test),
            "permutations": len(task["perms"]),
            "validation_force_rmse": {s: error for s, (_, error) in sorted(tried.items())},
            "training_seconds": end - start, "last_training_seconds": end - before,
        }


def beyond_edge(tried: dict[float, tuple[dict, float]]) -> set[float]:
    """The next sigma if the best is the smallest or the largest, otherwise none."""
    best = min(tried, key=lambda sigma: tried[sigma][1])
    return {best / 2} if best == min(tried) else {2 * best} if best == max(tried) else set()


def predicted_forces(model: dict, dataset: Dataset) -> np.ndarray:
    """Forces (n, N, 3) of an sGDML model in eV/Angstrom."""
    from sgdml.predict import GDMLPredict

    positions = BOHR * dataset.geometries.reshape(len(dataset), -1)
    _, forces = GDMLPredict(model, max_processes=1).predict(positions)
    return forces.reshape(dataset.geometries.shape)


def cells(row: dict) -> list[str]:
    """Text of a row of the table; dashes where a program has nothing of the kind."""
    minima, permutations = row["minima"], row.get("permutations", 1)
    training, sigma, best = "-", "-", "-"
    if row.get("training_seconds") is not None:
        training = f"{row['training_seconds']:.1f}"
    if "sigma" in row:
        training += f" ({row['last_training_seconds']:.1f})"
        sigma = f"{row['sigma']:g}"
        best = f"{row['force_rmse_at_best_sigma']:.4f} ({row['best_sigma']:g})"
    return [
        row["program"] + (f", {permutations} permutations" if permutations > 1 else ""),
        f"{row['labels'] or ''}{'' if row['same_labels'] else ' others'}",
        f"{row['energy_rmse']:.3f}", f"{row['energy_rmse_shifted']:.3f}",
        f"{row['force_rmse']:.4f}", sigma, best,
        ", ".join(f"{m['rmsd_angstrom']:.5f}" if m else "none" for m in minima),
        ", ".join(f"{m['wavenumber_mae_per_cm']:.2f} ({m['wavenumber_max_per_cm']:.1f})" if m
                  else "none" for m in minima),
        training, f"{1e3 * row['call_seconds']:.2f}",
    ]


def options() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="NAME-build of `fflux build`")
    parser.add_argument("--labels", type=int, metavar="N", help="a mix of N labels (default: all)")
    parser.add_argument("--seed", type=int, default=1, help="of the mix and the validation set")
    parser.add_argument("--bundle", type=Path, metavar="FILE", help="trained on the same labels")
    parser.add_argument("--seconds", type=float, metavar="S", help="what its training took")
    parser.add_argument("--variants", nargs="*", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here, too")
    return parser.parse_args()


def rows(chosen: argparse.Namespace):
    """Rows of the table, one by one; the first is the bundle's."""
    labels, test = (read_dataset(chosen.folder / f) for f in ("labels.xyz", "test.xyz"))
    for name in ("minima.xyz", "build.json"):
        if not (chosen.folder / name).is_file():
            raise FFLUXError(f"no {name}: give the folder that `fflux build` left")
    if chosen.labels is not None:
        if not 10 <= chosen.labels <= len(labels):
            raise FFLUXError(f"--labels {chosen.labels} is not between 10 and {len(labels)}")
        labels = mixed_labels(labels, chosen.labels, chosen.seed)
    minima = read(chosen.folder / "minima.xyz", ":")
    charge = json.loads((chosen.folder / "build.json").read_text())["settings"]["charge"]
    source = GFN2(charge)

    def row(program, calculator, found):
        return {
            "program": program, "labels": len(labels), "same_labels": True, **found,
            **held_out(calculator, test), "minima": at_minima(calculator, minima, source),
        }

    if chosen.bundle:
        calculator = FFLUX(str(chosen.bundle), assignment=[list(range(len(test.symbols)))])
        yield row("ase-fflux", calculator, {
            "training_seconds": chosen.seconds, **trained_on(chosen.bundle, labels)
        })
    peer = Peer(labels, chosen.seed)
    for variant in chosen.variants:
        model, found = peer.run(variant, test)
        yield row(variant, SGDML(model), found)


def main() -> None:
    """Print the table."""
    chosen = options()
    use_threads(1)
    logging.disable(logging.INFO)  # sGDML and torch tell of every step
    try:
        versions = {name: version(name) for name in ("sgdml", "numpy", "scipy")}
    except PackageNotFoundError:
        sys.exit("sGDML is not installed: pip install sgdml==1.0.3")
    machine = {
        "command": " ".join(["python", *sys.argv]), "cores": os.cpu_count(),
        "load": os.getloadavg()[0], "python": platform.python_version(), "versions": versions,
    }
    print(f"`{machine['command']}`\n\none thread, load {machine['load']:.1f}, {versions}\n")
    print(f"| {' | '.join(COLUMNS)} |\n|{' --- |' * len(COLUMNS)}", flush=True)
    done = []
    try:
        for row in rows(chosen):
            print(f"| {' | '.join(cells(row))} |", flush=True)
            done.append(row)
            if chosen.json:
                chosen.json.write_text(json.dumps({"machine": machine, "rows": done}, indent=1))
    except FFLUXError as error:
        sys.exit(f"{chosen.folder}: {error}")


if __name__ == "__main__":
    main()
