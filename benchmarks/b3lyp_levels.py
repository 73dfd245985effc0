"""What hyperparameters found on cheap labels buy for dear ones of the same molecule.

    python benchmarks/b3lyp_levels.py ethanol --labels 25 50 100

Length scales and prior variances of the bundled GFN2-xTB model start the joint process of the kept
B3LYP labels. Three ways, each solved on all labels and tested on the kept test frames: the usual
search from nothing; GFN2-xTB's length scales as they are, noise levels and variances searched on 30
labels; and then all of them relaxed by 20 evaluations on up to 60 labels.
"""

import argparse
import lzma
import tempfile
from pathlib import Path
from time import process_time

import numpy as np

from ase_fflux.assess.validate import held_out_errors
from ase_fflux.formats.locate import load_molecule
from ase_fflux.labels.dataset import read_dataset
from ase_fflux.learn.gp.optimisers import LBFGS
from ase_fflux.learn.joint.settings import JointSettings
from ase_fflux.learn.joint.system import Hyperparameters
from ase_fflux.learn.joint.training import _Search, find_hyperparameters
from ase_fflux.model.molecule import ENERGY
from ase_fflux.training.joint import JointTrainer, JointTraining

LABELS = Path(__file__).resolve().parent / "labels"


def kept(name: str, kind: str):
    """A kept label file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "labels.xyz"
        path.write_bytes(lzma.decompress((LABELS / f"{name}-b3lyp-{kind}.xyz.xz").read_bytes()))
        return read_dataset(path)


def of_model(search: _Search, model) -> np.ndarray:
    """Logarithms of a model's length scales and variances; noise levels are those of the start."""
    processes = {p.atoms.atoms: p for p in model.shared.processes if ENERGY in p.properties}
    chosen = [processes[c.atoms] for c in search.data.classes]
    start = search.likelihood.unpack(search.start)
    return search.likelihood.pack(Hyperparameters(
        [p.kernel.theta for p in chosen], np.array([p.variance for p in chosen]),
        start.energy_noise, start.gradient_noise, start.total_noise,
    ))


def searched(search: _Search, x: np.ndarray, size: int, evaluations: int, fixed: slice):
    """L-BFGS from x on the first labels of the search's order; some hyperparameters fixed."""
    box = search.box.copy()
    box[:, fixed] = x[fixed]
    with search._stage("seeded", min(size, len(search.data)), "GFN2-xTB") as objective:
        return LBFGS(budget=evaluations).minimise(
            objective, np.clip(x, *box)[None], tuple(box), np.random.default_rng(0)
        ).log_theta


def usual(search: _Search, model) -> Hyperparameters:
    """Those of the search from nothing."""
    return find_hyperparameters(search.data, search.settings)[0]


def as_they_are(search: _Search, model) -> Hyperparameters:
    """Length scales of the model; noise levels and variances searched."""
    theta = search.likelihood.parts[0]
    return search.likelihood.unpack(searched(search, of_model(search, model), 30, 15, theta))


def relaxed(search: _Search, model) -> Hyperparameters:
    """All of them, relaxed from there."""
    x = search.likelihood.pack(as_they_are(search, model))
    return search.likelihood.unpack(searched(search, x, 60, 20, slice(0, 0)))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name")
    parser.add_argument("--labels", type=int, nargs="+", default=[25, 50, 100])
    args = parser.parse_args()
    cheap, test = load_molecule(args.name), kept(args.name, "test")
    labels = kept(args.name, "train")
    settings = JointSettings.of_atoms(labels.partition)
    order = np.random.default_rng(0).permutation(len(labels))
    print("| labels | hyperparameters | CPU s | force RMSE eV/A | energy RMSE kJ/mol | atomic "
          "energy RMSE kJ/mol |\n| --- | --- | --- | --- | --- | --- |")
    for count in args.labels:
        some = labels.select(np.sort(order[:count]))
        trainer = JointTrainer(
            some, cheap.reference_geometry, JointTraining(settings, which="none")
        )
        assert np.array_equal(trainer.alf, cheap.alf), "the two models have other local frames"
        search = _Search(trainer.data, settings, 1, None)
        for how, find in (
            ("searched from nothing", usual), ("GFN2-xTB's length scales", as_they_are),
            ("and relaxed", relaxed),
        ):
            begin = process_time()
            found = find(search, cheap)
            seconds = process_time() - begin
            model = trainer.model(args.name, trainer.solve(found), [])
            errors = held_out_errors(model, test)
            print(
                f"| {count} | {how} | {seconds:.0f} | {errors.force_rmse_ev_per_angstrom:.4f} | "
                f"{errors.energy_rmse_kj_per_mol:.3f} | {errors.atomic_energy_rmse_kj_per_mol:.1f}"
                " |", flush=True
            )


if __name__ == "__main__":
    main()
