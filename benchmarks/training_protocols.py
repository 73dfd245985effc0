"""Transfer learning (TL) against direct learning (DL) with the same optimiser, in one run.

    python benchmarks/training_protocols.py --sets glycine methanol
    python benchmarks/training_protocols.py --optimiser grey-wolf --sets methanol --json wolves.json
    python benchmarks/training_protocols.py --labels work --sets ethanol:0:iqa ethanol:0:q00

A set is one published with FEREBUS, or an atom (counted from 0) and a property of a molecule whose
labels are in the folder NAME-build that `fflux build` leaves. DL and TL alternate, for each seed;
times are CPU times on one thread, which other programs disturb least. Medians and ranges.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path
from time import process_time

import numpy as np
from published_sets import PublishedSet, load, options, use_threads

from ase_fflux.labels.dataset import read_dataset
from ase_fflux.learn.gp.optimisers import LBFGS, GreyWolf, ParticleSwarm
from ase_fflux.learn.gp.settings import TrainingSettings, Transfer
from ase_fflux.learn.gp.training import train
from ase_fflux.model.alf import choose_alf
from ase_fflux.model.frames import features

OPTIMISERS = {"l-bfgs": LBFGS(), "grey-wolf": GreyWolf(), "swarm": ParticleSwarm()}


def labelled_atom(name: str, labels: Path) -> PublishedSet:
    """MOLECULE:ATOM:PROPERTY from the folder of a build; charges in units of hartree per 1 e."""
    molecule, atom, kind = name.split(":")
    training, test = (
        read_dataset(labels / f"{molecule}-build" / file) for file in ("labels.xyz", "test.xyz")
    )
    alf, a = choose_alf(training.symbols, training.geometries[0]), int(atom)
    x, y = [], []
    for data in (training, test):
        x.append(features(data.geometries, alf, a))
        y.append(data.atomic_energies[:, a] if kind == "iqa" else data.moments[:, a, 0])
    return PublishedSet(name, x[0], y[0], x[1], y[1])


def compare(data: PublishedSet, settings: TrainingSettings, seed: int) -> dict:
    """Times, errors, objectives and evaluations of DL and TL."""
    row = {"set": data.name, "optimiser": type(settings.optimiser).__name__, "seed": seed}
    for label, transfer in (("DL", None), ("TL", settings.transfer)):
        begin = process_time()
        result = train(
            data.features, data.targets, replace(settings, transfer=transfer, seed=seed)
        )
        row[f"{label} s"] = process_time() - begin
        row[f"{label} RMSE"] = data.rmse(result.process.predict(data.validation_features)[0])
        row[f"{label} objective"], row[f"{label} evaluations"] = (
            result.objective, result.evaluations
        )
    row["time DL/TL"] = row["DL s"] / row["TL s"]
    row["RMSE TL/DL"] = row["TL RMSE"] / row["DL RMSE"]
    return row


def main() -> None:
    """Print one line per set."""
    parser = options(__doc__.splitlines()[0], ["methanol", "glycine"])
    parser.add_argument("--optimiser", choices=OPTIMISERS, default="l-bfgs")
    parser.add_argument("--labels", type=Path, default=Path("."), help="parent of NAME-build")
    parser.add_argument("--points", type=int, help="take the first of each set only")
    parser.add_argument("--fractions", type=float, nargs="+", help="of the sources (a ladder)")
    parser.set_defaults(threads=1, repeat=5)
    args = parser.parse_args()
    use_threads(args.threads)
    transfer = Transfer(fractions=tuple(args.fractions)) if args.fractions else Transfer()
    settings = TrainingSettings(optimiser=OPTIMISERS[args.optimiser], transfer=transfer)
    keys = ["DL s", "DL RMSE", "TL s", "TL RMSE", "time DL/TL", "RMSE TL/DL"]
    print(f"| set | points x features | {' | '.join(keys)} |")
    print("| --- " * (len(keys) + 2) + "|", flush=True)
    runs = []
    for name in args.sets:
        data = labelled_atom(name, args.labels) if ":" in name else load(name, args.data)
        cut = slice(args.points)
        data = replace(data, features=data.features[cut], targets=data.targets[cut])
        train(data.features[:100], data.targets[:100], replace(settings, optimiser=LBFGS()))
        rows = []
        for seed in range(args.repeat):
            rows.append(compare(data, settings, seed))
            print(rows[-1], file=sys.stderr, flush=True)
            if args.json:
                args.json.write_text(json.dumps(runs + rows, indent=1))
        runs += rows
        cells = [[row[key] for row in rows] for key in keys]
        shown = (f"{np.median(c):.3g} ({min(c):.3g} to {max(c):.3g})" for c in cells)
        size = f"{data.features.shape[0]} x {data.features.shape[1]}"
        print(f"| {name} | {size} | {' | '.join(shown)} |", flush=True)


if __name__ == "__main__":
    main()
