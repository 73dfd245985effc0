"""Direct and transfer learning of atomic energies and charges at B3LYP, by L-BFGS and grey wolves.

    python benchmarks/b3lyp_experiment.py ethanol formic_acid_dimer --png s-curves.png

The experiment of Isamura and Popelier (Phys. Chem. Chem. Phys. 2024, 26, 23677) with the kept
labels (MBIS atoms, not topological ones): each atom by itself, energies alone, no symmetry, no
gradients. Per molecule the CPU time of all atoms, the RMSE of atomic and total energies and of
charges on the kept test frames. The picture has S-curves of the total energy of the first one.
"""

import argparse
from pathlib import Path
from time import process_time

import numpy as np
from b3lyp_levels import kept

from ase_fflux.assess.curves import s_curve
from ase_fflux.base.units import HARTREE_KJ
from ase_fflux.learn.gp.optimisers import LBFGS, GreyWolf
from ase_fflux.learn.gp.settings import TrainingSettings, Transfer
from ase_fflux.learn.gp.training import train
from ase_fflux.model.alf import choose_alf
from ase_fflux.plots.training import plot_s_curves
from ase_fflux.training.molecule import molecule_targets

PROTOCOLS = {
    f"{protocol}, {name}": TrainingSettings(optimiser=optimiser, transfer=transfer)
    for name, optimiser in (("L-BFGS", LBFGS()), ("grey wolves", GreyWolf()))
    for protocol, transfer in (("direct", None), ("transfer", Transfer()))
}


def predictions(training: list, test: list, name: str, settings: TrainingSettings):
    """Of all atoms at the test frames (T, N), and the CPU seconds that their training took."""
    found, seconds = [], 0.0
    for own, asked in zip(training, test, strict=True):
        begin = process_time()
        result = train(own.features, own.targets[name], settings)
        seconds += process_time() - begin
        found.append(result.process.predict(asked.features)[0])
    return np.transpose(found), seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="+", metavar="NAME")
    parser.add_argument("--png", type=Path)
    args = parser.parse_args()
    print("| molecule | labels | protocol | energies, CPU s | charges, CPU s | atomic energy RMSE "
          "kJ/mol | total energy RMSE kJ/mol | charge RMSE e |\n" + "| --- " * 8 + "|")
    curves = {}
    for name in args.names:
        labels, frames = kept(name, "train"), kept(name, "test")
        alf = choose_alf(labels.symbols, labels.geometries[0])
        training, test = molecule_targets(labels, alf), molecule_targets(frames, alf)
        small = training[0].features[:40], training[0].targets["iqa"][:40]
        train(*small, PROTOCOLS["transfer, L-BFGS"])  # compiles
        for how, settings in PROTOCOLS.items():
            energies, first = predictions(training, test, "iqa", settings)
            charges, second = predictions(training, test, "q00", settings)
            off = HARTREE_KJ * (energies - frames.atomic_energies)
            total = off.sum(axis=1)
            if name == args.names[0]:
                curves[how] = s_curve(total)
            wrong = charges - frames.moments[:, :, 0]
            print(f"| {name} | {len(labels)} | {how} | {first:.1f} | {second:.1f} | "
                  f"{np.sqrt(np.mean(off**2)):.2f} | {np.sqrt(np.mean(total**2)):.2f} | "
                  f"{np.sqrt(np.mean(wrong**2)):.4f} |", flush=True)
    if args.png:
        plot_s_curves(curves, args.png, title=f"{args.names[0]}: total energy", unit="kJ/mol")


if __name__ == "__main__":
    main()
