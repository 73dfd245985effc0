"""A network made into a force field: error against it, and the time of a call of both.

    pip install 'torch==2.13.0' mace-torch
    mace_run_train --name small --train_file train.xyz ... (see docs/training-sets.md)
    python benchmarks/distilled.py frames.xyz --network small.model --labels 50 150

Frames are geometries of one molecule, whatever their labels: the first as many as --labels says
are labelled by the network for training, the next --test of them for the test. Any other network
that makes an ASE calculator is taken by --reference MODULE:FACTORY, as `fflux label --reference
ase:MODULE:FACTORY` takes it. Times are medians of calls at new positions, on one thread, in double
precision.
"""

import argparse
import json
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
from ase.io import read
from published_sets import use_threads

from ase_fflux import FFLUX
from ase_fflux.assess.validate import held_out_errors
from ase_fflux.base.units import BOHR
from ase_fflux.labels.calculator_source import CalculatorSource
from ase_fflux.labels.conformers import minima
from ase_fflux.labels.label import dataset_of
from ase_fflux.learn.joint.settings import JointSettings
from ase_fflux.training.joint import JointTrainer, JointTraining


def mace(path: str):
    """A network of mace-torch on one thread."""
    import torch
    from mace.calculators import MACECalculator

    torch.set_num_threads(1)
    return MACECalculator(path, device="cpu", default_dtype="float64")


def call_seconds(calculator, atoms, calls: int) -> float:
    """Median time of energy and forces at new positions."""
    rng, times = np.random.default_rng(0), []
    start = atoms.positions.copy()
    atoms = atoms.copy()
    atoms.calc = calculator
    for number in range(calls + 5):
        atoms.positions = start + 0.01 * rng.normal(size=start.shape)
        begin = perf_counter()
        atoms.get_forces()
        if number >= 5:
            times.append(perf_counter() - begin)
    return median(times)


def main() -> None:
    """Print the errors and the times."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("frames", type=Path)
    network = parser.add_mutually_exclusive_group(required=True)
    network.add_argument("--network", metavar="FILE", help="of mace-torch")
    network.add_argument("--reference", metavar="MODULE:FACTORY")
    parser.add_argument("--labels", type=int, nargs="+", default=[50, 150], metavar="N")
    parser.add_argument("--test", type=int, default=100, metavar="N")
    parser.add_argument("--json", type=Path, metavar="FILE")
    chosen = parser.parse_args()
    use_threads(1)
    factory = chosen.reference or partial(mace, chosen.network)
    source = CalculatorSource(factory, "MACE" if chosen.network else None)
    most = max(chosen.labels)
    frames = read(chosen.frames, f":{most + chosen.test}")
    begin = perf_counter()
    dataset = dataset_of(source.label(atoms) for atoms in frames)
    labelling = perf_counter() - begin
    minimum = minima([frames[int(np.argmin(dataset.energies))]], source)[0].atoms
    test = dataset.select(slice(most, None))
    training = JointTraining(JointSettings(sizes=(30, 60), evaluations=(60, 20)), which="none")
    found = {"labelling_seconds": labelling, "frames": len(frames), "models": []}
    print("| labels | force RMSE (eV/A) | energy RMSE (kJ/mol) | training (s) | a call (ms) |")
    print("|" + " --- |" * 5)
    for count in chosen.labels:
        begin = perf_counter()
        trainer = JointTrainer(dataset.select(slice(count)), minimum.positions / BOHR, training)
        model = trainer.model("distilled", trainer.solve(trainer.hyperparameters()), [])
        seconds = perf_counter() - begin
        errors = held_out_errors(model, test)
        row = {
            "labels": count, "force_rmse": errors.force_rmse_ev_per_angstrom,
            "energy_rmse": errors.energy_rmse_kj_per_mol, "training_seconds": seconds,
            "seconds_of_a_call": call_seconds(FFLUX(model), minimum, 300),
        }
        print(f"| {count} | {row['force_rmse']:.3g} | {row['energy_rmse']:.3g} | {seconds:.0f} | "
              f"{1e3 * row['seconds_of_a_call']:.3g} |", flush=True)
        found["models"].append(row)
    found["network_seconds_of_a_call"] = call_seconds(source.calculator(), minimum, 60)
    print(f"| {source.method} itself | | | | {1e3 * found['network_seconds_of_a_call']:.3g} |")
    if chosen.json:
        chosen.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
