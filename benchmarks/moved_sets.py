"""Training sets chosen for one program and used by another: this process and sGDML.

    pip install sgdml==1.0.3
    python benchmarks/moved_sets.py acetaldehyde --json moved.json

Pool, test and cheap level (GFN1-xTB) are those of `design.py`, labels that are trained on GFN2-xTB.
Sets, none of which knows a label of GFN2-xTB:

======  ===========================================================================================
V       chosen for this process (`fflux select`)
sGDML   chosen for sGDML, by its errors at the cheap level: ten at random, then ten times over the
        ten geometries of the pool at which a model of those before is farthest off, of which no two
        lie within a tenth of the farthest apart
random  of the pool
======  ===========================================================================================

Both programs are trained on all of them, this one with the length scales of the cheap level, sGDML
with the sigma that is best on a fifth of the labels (`gradients_sgdml.py`). Columns: force error
(RMSE, eV/Angstrom) on the test trajectory, and along a trajectory of the model's own: Langevin
dynamics at 300 K, from the first minimum, 20 frames of which are labelled, 50 fs apart. What the
model makes of the molecule counts there, not what a test set has of it. Standard deviations are
those of seeds.
"""

import argparse
import json
import logging
import sys
from pathlib import Path

import numpy as np
from ase import Atoms, units
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
from design import POOL, TARGET, Molecule
from gradients_sgdml import SGDML, Peer, force_rmse, predicted_forces
from published_sets import use_threads
from scipy.spatial.distance import cdist, pdist

from ase_fflux import FFLUX
from ase_fflux.assess.validate import held_out_errors
from ase_fflux.base.errors import LabelError
from ase_fflux.base.units import FORCE
from ase_fflux.learn.joint.design import design
from ase_fflux.workflows.select import thermal_target

SETS, PROGRAMS = ("V", "sGDML", "random"), ("ase-fflux", "sGDML")
SIGMA, BATCH = 20.0, 10
FRAMES, APART = 20, 50.0


def chosen_for_sgdml(cheap, places: np.ndarray, count: int, rng) -> np.ndarray:
    """Places in the order of choice."""
    chosen = list(rng.permutation(places)[:BATCH])
    inverse = np.array([1.0 / pdist(x) for x in cheap.geometries])
    while len(chosen) < count:
        peer = Peer(cheap.select(np.array(chosen)), 0)
        model = peer.trainer.train(peer.task(peer.labels, True, False) | {"sig": SIGMA})
        rest = np.setdiff1d(places, chosen)
        some = cheap.select(rest)
        off = np.linalg.norm(
            (predicted_forces(model, some) + FORCE * some.gradients).reshape(len(rest), -1), axis=1
        )
        distance = cdist(inverse[rest], inverse[rest])
        taken: list[int] = []
        for i in np.argsort(-off):
            if len(taken) < BATCH and (
                not taken or distance[i, taken].min() > 0.1 * distance.max()
            ):
                taken.append(int(i))
        chosen += list(rest[taken or [int(np.argmax(off))]])
    return np.array(chosen[:count])


def along_its_own(calculator, minimum: Atoms, source, seed: int) -> float | None:
    """Force error on a trajectory of the model; None where it does not keep the molecule."""
    rng = np.random.default_rng(seed)
    atoms = minimum.copy()
    atoms.calc = calculator
    MaxwellBoltzmannDistribution(atoms, temperature_K=300, rng=rng)
    # with fixcm six atoms would have 420 K
    dynamics = Langevin(
        atoms, 0.5 * units.fs, temperature_K=300, friction=0.01 / units.fs, rng=rng, fixcm=False
    )
    off = []
    for frame in range(FRAMES + 5):
        dynamics.run(round(APART / 0.5))
        if not np.isfinite(atoms.positions).all():
            return None
        if frame < 5:  # of the way from the minimum
            continue
        try:
            label = source.label(Atoms(atoms.numbers, atoms.positions))
        except LabelError:
            return None
        off.append(atoms.get_forces() + FORCE * label.gradient)
    return float(np.sqrt(np.mean(np.square(off))))


def rows(chosen: argparse.Namespace, done: list[dict]):
    """Add rows one by one."""
    known = Molecule(chosen.molecule, chosen.pools)
    process, dear = known.process, known.dear
    cheap, most = process.trainer.dataset, max(chosen.labels)
    minimum = known.minima[0].atoms
    for seed in range(chosen.seeds):
        there = {r["labels"] for r in done if r["seed"] == seed}
        wanted = [n for n in chosen.labels if n not in there]
        if not wanted:
            continue
        rng = np.random.default_rng(seed)
        places = np.sort(rng.permutation(POOL)[: POOL // 2])
        target = thermal_target(process.energies[places], len(minimum), TARGET, seed).at(places)
        by_v = design(
            process.data, process.hyperparameters, places, target.places, target.weights, most,
            parts=target.parts,
        )
        sets = {
            "V": places[by_v.chosen],
            "sGDML": chosen_for_sgdml(cheap, places, most, rng),
            "random": rng.permutation(places)[:most],
        }
        found = []
        for kind in SETS:
            for n in wanted:
                some = sets[kind][:n]
                solved = dear.solve(process.hyperparameters, some)
                model = dear.model(known.name, solved, [], some)
                ours = FFLUX(model, assignment=[list(range(len(minimum)))])
                peer, told = Peer(known.pool.select(some), seed).run("sGDML", known.test)
                for program, calculator, test in (
                    ("ase-fflux", ours, held_out_errors(model, known.test)
                     .force_rmse_ev_per_angstrom),
                    ("sGDML", SGDML(peer), force_rmse(
                        predicted_forces(peer, known.test), known.test)),
                ):
                    row = {
                        "seed": seed, "program": program, "set": kind, "labels": n, "test": test,
                        "own": along_its_own(calculator, minimum, known.source, seed),
                    } | ({"sigma": told["sigma"]} if program == "sGDML" else {})
                    print(row, file=sys.stderr, flush=True)
                    found.append(row)
        done += found
        if chosen.json:
            chosen.json.write_text(json.dumps(done, indent=1))


def table(done: list[dict]) -> list[str]:
    """Markdown lines."""
    lines = [
        "| program | labels | set | test | its own trajectory | lost |", "|" + " --- |" * 6,
    ]
    for program in PROGRAMS:
        for n in dict.fromkeys(r["labels"] for r in done):
            for kind in SETS:
                some = [
                    r for r in done
                    if (r["program"], r["labels"], r["set"]) == (program, n, kind)
                ]
                own = [r["own"] for r in some if r["own"] is not None]
                cells = [program, str(n), kind]
                for values in ([r["test"] for r in some], own):
                    cells.append(f"{np.mean(values):.2g} ± {np.std(values):.1g}" if values else "")
                lines.append("| " + " | ".join([*cells, str(len(some) - len(own))]) + " |")
    return lines


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("molecule")
    parser.add_argument("--labels", type=int, nargs="+", default=[50, 100], metavar="N")
    parser.add_argument("--seeds", type=int, default=3, metavar="N")
    parser.add_argument("--pools", type=Path, default=Path("design-pools"), metavar="DIR")
    parser.add_argument("--json", type=Path, metavar="FILE", help="kept, and gone on from")
    chosen = parser.parse_args()
    use_threads(1)
    logging.disable(logging.INFO)  # sGDML and torch tell of every step
    done = json.loads(chosen.json.read_text()) if chosen.json and chosen.json.exists() else []
    rows(chosen, done)
    print("\n".join(table(done)))


if __name__ == "__main__":
    main()
