"""Training sets that are chosen before they are labelled, beside mixtures and random ones.

    python benchmarks/design.py ethanol methanol --seeds 3 --json design.json

Cheap is GFN1-xTB, dear GFN2-xTB, so that everything can be repeated in minutes: both through
tblite. Dynamics of the pool and what a choice knows (labels of the pool, length scales) are of the
cheap level; minima, displacements from them, labels that are trained on and the test, a trajectory
at 300 K with 40 fs between frames, are of the dear one. Pools, `POOL` geometries each, are kept in
--pools. For every seed the candidates are half of them, as many as builds have.

Sets: V, D, G, farthest, random as in `ase_fflux.learn.joint.design`, V after a Fedorov exchange at
this number of labels, and mix, half from dynamics at 500 K, a quarter from displacements at 50 K,
the rest from hotter ones, as builds have it. All are trained with the same hyperparameters, those
of the cheap level, so that columns differ in geometries alone. Cells are medians over the seeds: of
mix RMSE of forces and energies (eV/Angstrom, kJ/mol) on the test trajectory and mean absolute error
of wavenumbers at the worst of the minima (cm-1); of the others the same three relative to mix with
the same seed. Expected / true is what `fflux select` expects of V over the true error, in brackets
what the process alone expects.
"""

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from time import process_time
from types import SimpleNamespace

import numpy as np
from ase import Atoms
from ase.build import molecule
from ase.io import read, write
from published_sets import use_threads

from ase_fflux import FFLUX
from ase_fflux.assess.validate import held_out_errors, minimum_errors
from ase_fflux.base.errors import TrainingError
from ase_fflux.base.units import BOHR
from ase_fflux.labels.calculator_source import CalculatorSource
from ase_fflux.labels.conformers import minima
from ase_fflux.labels.dataset import append_labels, count_labels, read_dataset
from ase_fflux.labels.sampling import Portion, sample
from ase_fflux.labels.tblite_source import GFN2
from ase_fflux.training.joint import JointTrainer
from ase_fflux.workflows.select import TARGET, process_of_source, select, thermal_target

INPUTS = Path(__file__).parent.parent / "models" / "inputs"
MOLECULES = {
    "methanol": ("CH3OH", 500.0), "acetaldehyde": ("CH3CHO", 500.0),
    "formic_acid": ("HCOOH", 500.0), "glyoxal": ("OCHCHO", 500.0),
    "methylamine": ("H3CNH2", 500.0), "methanethiol": ("CH3SH", 500.0),
    "vinyl_chloride": ("H2CCHCl", 500.0), "ethanol": ("ethanol.xyz", 500.0),
    "formic_acid_dimer": ("formic_acid_dimer.xyz", 350.0),
}
"""Starts, and temperatures of the hot dynamics."""
POOL, TEST = 800, 150
BLIND = 40
"""Geometries of the target of what does not look at it: only what is expected comes from there."""
EXCHANGED = " exchanged"
SETS = "mix", "V", f"V{EXCHANGED}", "random", "D", "G", "farthest"
OTHERS = "random", "D", "G", "farthest", f"V{EXCHANGED}"
WHAT = "force", "energy", "wavenumbers"
SHARES = {"hot": 0.5, "nm50K": 0.25, "nm150K": 0.15, "nm300K": 0.1}


def gfn1():
    """The cheap level."""
    from tblite.ase import TBLite

    return TBLite(method="GFN1-xTB", accuracy=0.01, verbosity=0)


class Molecule:
    """Minima, pool and test of a molecule, and what the cheap level says of the pool."""

    def __init__(self, name: str, folder: Path):
        start, hot = MOLECULES[name]
        folder.mkdir(parents=True, exist_ok=True)
        self.name, self.source = name, GFN2()
        starts = read(INPUTS / start, ":") if start.endswith(".xyz") else [molecule(start)]
        self.minima = minima(starts, self.source)
        cheap = CalculatorSource(gfn1, "GFN1-xTB")
        sampler = SimpleNamespace(engine=cheap)
        portions = (
            Portion("md", hot, 0.5), Portion("md", 300.0, 0.15),
            Portion("nm", 50.0, 0.15), Portion("nm", 150.0, 0.1), Portion("nm", 300.0, 0.1),
        )
        self.pool = self._labelled(folder / f"{name}-pool.xyz", sampler, portions, POOL, 1)
        self.test = self._labelled(
            folder / f"{name}-test.xyz", self.source, (Portion("md", 300.0, 1.0, 40.0),), TEST, 2
        )
        frames = folder / f"{name}-frames.xyz"
        if not frames.exists():
            write(frames, [Atoms(self.pool.symbols, BOHR * x) for x in self.pool.geometries])
        self.process = process_of_source(cheap, read(frames, ":"))
        self.dear = JointTrainer(
            self.pool, self.process.trainer.reference, self.process.trainer.training
        )

    def _labelled(self, path: Path, source, portions, count: int, seed: int):
        if count_labels(path) < count:
            path.unlink(missing_ok=True)
            drawn = sample(
                [m.atoms for m in self.minima], source, portions, count, seed,
                hessians=[m.hessian for m in self.minima],
            )
            found = [(origin, self.source.label(atoms)) for origin, atoms in drawn]
            append_labels(path, [label for _, label in found], [origin for origin, _ in found])
        return replace(read_dataset(path), atomic_energies=None, moments=None, dipoles=None)

    def choice(self, kind: str, count: int, seed: int):
        """Places in the pool, expected errors and those of the process alone."""
        rng = np.random.default_rng(seed)
        places = np.sort(rng.permutation(POOL)[: POOL // 2])
        if kind == "mix":
            return self.mixed(places, count, rng), None, None
        start = process_time()
        # only what is to be the default is tried at the cheap level
        process = self.process if kind == "V" else self.process.untried
        criterion, exchange = kind.removesuffix(EXCHANGED), kind.endswith(EXCHANGED)
        target = thermal_target(
            self.process.energies[places], len(self.pool.symbols),
            TARGET if criterion in ("V", "G") else BLIND, seed,
        ).at(places)
        found = select(process, places, target, count, criterion, exchanging=exchange, seed=seed)
        print(f"{self.name} {seed} {kind} {process_time() - start:.0f} s", file=sys.stderr)
        alone = found.force_alone, found.energy_alone
        return (
            found.chosen, (found.force_rmse, found.energy_rmse) if kind == "V" else None, alone
        )

    def rows(self, kind: str, labels: list[int], seed: int) -> list[dict]:
        """Of one set, with these numbers of labels."""
        rows = []
        # what is exchanged has no first parts that are worth as much
        for some in [[n] for n in labels] if kind.endswith(EXCHANGED) else [labels]:
            places, expected, alone = self.choice(kind, max(some), seed)
            for n in some:
                row = self.errors(places[:n])
                for what, told in (("expected", expected), ("process", alone)):
                    if told is not None:
                        row[what] = {"force": told[0][n - 1], "energy": told[1][n - 1]}
                rows.append(
                    {"molecule": self.name, "seed": seed, "set": kind, "labels": n, **row}
                )
        return rows

    def mixed(self, places, count: int, rng) -> np.ndarray:
        """Of a pool a mix whose every first part has the shares of the whole."""
        hot = f"md{MOLECULES[self.name][1]:g}K"
        kinds = {k: hot if k == "hot" else k for k in SHARES}
        left = {
            k: list(rng.permutation(places[self.pool.origins[places] == kinds[k]])) for k in SHARES
        }
        found, drawn = [], dict.fromkeys(SHARES, 0)
        for n in range(1, count + 1):
            kind = max(
                (k for k in SHARES if left[k]), key=lambda k: round(SHARES[k] * n - drawn[k], 9)
            )
            drawn[kind] += 1
            found.append(left[kind].pop())
        return np.array(found)

    def errors(self, places: np.ndarray) -> dict:
        """Errors of a model that learns from these geometries."""
        solved = self.dear.solve(self.process.hyperparameters, places)
        model = self.dear.model(self.name, solved, [], places)
        tested = held_out_errors(model, self.test)
        calculator = FFLUX(model, assignment=[list(range(len(model.symbols)))])
        try:
            off = max(
                minimum_errors(m.atoms, calculator, self.source, m.hessian).wavenumber_mae_per_cm
                for m in self.minima
            )
        except TrainingError:
            off = float("inf")
        return {
            "force": tested.force_rmse_ev_per_angstrom, "energy": tested.energy_rmse_kj_per_mol,
            "wavenumbers": off,
        }


def run(chosen: argparse.Namespace, done: list[dict]) -> None:
    """Add rows of all seeds, set by set."""
    known: dict[str, Molecule] = {}
    kinds = [kind for kind in SETS if kind in ("mix", *chosen.sets)]
    for seed in range(chosen.seeds):
        for name in chosen.molecules:
            for kind in kinds:
                there = {
                    r["labels"] for r in done
                    if (r["molecule"], r["seed"], r["set"]) == (name, seed, kind)
                }
                if missing := [n for n in chosen.labels if n not in there]:
                    if name not in known:
                        known[name] = Molecule(name, chosen.pools)
                    done += known[name].rows(kind, missing, seed)
                    if chosen.json:
                        chosen.json.write_text(json.dumps(done, indent=1))


def table(rows: list[dict]) -> list[str]:
    """Markdown lines."""
    lines = [
        "| molecule | labels | seeds | mix: force, energy, wavenumbers | V | expected / true, "
        "force | energy | " + " | ".join(OTHERS) + " |", "|" + " --- |" * (7 + len(OTHERS)),
    ]
    for name, n in dict.fromkeys((r["molecule"], r["labels"]) for r in rows):
        some = [r for r in rows if (r["molecule"], r["labels"]) == (name, n)]
        usual = {r["seed"]: r for r in some if r["set"] == "mix"}
        sets = {kind: [r for r in some if r["set"] == kind] for kind in SETS}
        if not sets["V"]:
            continue  # stopped on the way

        def relative(mine, usual=usual):
            return ", ".join(
                f"{np.median([r[what] / usual[r['seed']][what] for r in mine]):.2f}"
                for what in WHAT
            ) if mine else ""

        mixed = ", ".join(f"{np.median([r[what] for r in sets['mix']]):.2g}" for what in WHAT)
        cells = [name, str(n), str(len(sets["V"])), mixed, relative(sets["V"])]
        for what in ("force", "energy"):
            told, alone = (
                np.median([r[by][what] / r[what] for r in sets["V"]])
                for by in ("expected", "process")
            )
            cells.append(f"{told:.2f} ({alone:.2f})")
        for kind in OTHERS:
            few = len(sets[kind]) < len(sets["V"])
            text = relative(sets[kind])
            cells.append(f"{text} ({len(sets[kind])} seeds)" if text and few else text)
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("molecules", nargs="*", default=list(MOLECULES), metavar="MOLECULE")
    parser.add_argument("--labels", type=int, nargs="+", default=[10, 25, 50], metavar="N")
    parser.add_argument("--seeds", type=int, default=5, metavar="N")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=SETS, help="mix always")
    parser.add_argument("--pools", type=Path, default=Path("design-pools"), metavar="DIR")
    parser.add_argument("--json", type=Path, metavar="FILE", help="kept, and gone on from")
    chosen = parser.parse_args()
    use_threads(1)
    done = json.loads(chosen.json.read_text()) if chosen.json and chosen.json.exists() else []
    run(chosen, done)
    print("\n".join(table(done)))


if __name__ == "__main__":
    main()
