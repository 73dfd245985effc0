"""Few labels of a molecule on top of a model of its lighter analogue, beside scratch.

    python benchmarks/elements.py FOLDER --json elements.json

GFN2-xTB labels (total energies and gradients) of both molecules, sampled as `fflux build` does
and kept in FOLDER; the light molecule's model is the bundled one, or is trained here on 240. The
heavy molecule has 10 and 20 of 40 labels, drawn at random, the same with and without the analogue;
errors are on 50 frames of dynamics at 300 K and at 600 K, root mean squares over the draws
(--seeds). With --md, 20 ps at constant energy at both temperatures with the models of 20 labels of
the first draw, on top of the analogue where it is not refused; how far the geometry gets from the
minimum is the largest root mean square distance of atoms. What stands in the JSON file is not
computed again.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
from ase import Atoms, units
from ase.build import molecule
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution, Stationary
from ase.md.verlet import VelocityVerlet

from ase_fflux import FFLUX
from ase_fflux.assess.validate import held_out_errors
from ase_fflux.base.errors import FFLUXError, TrainingError
from ase_fflux.base.store import write_text
from ase_fflux.base.units import BOHR
from ase_fflux.formats.bundle import read_bundle, write_bundle
from ase_fflux.formats.locate import load_molecule
from ase_fflux.labels.folder import LabelFolder, LabelSettings
from ase_fflux.labels.tblite_source import GFN2
from ase_fflux.learn.joint.settings import JointSettings
from ase_fflux.model.kernels import FORMS
from ase_fflux.topology.superposition import superposition
from ase_fflux.training.joint import JointTrainer, JointTraining
from ase_fflux.training.prior import prior_of

PAIRS = {
    "H2S": ("water", "O", "S"), "CH3SH": ("CH3OH", "O", "S"),
    "C2H5SH": ("ethanol", "O", "S"), "Ge2H6": ("Si2H6", "Si", "Ge"),
}
"""The light molecule: a bundled model, or one of ASE's molecules; which element becomes which."""
TRAINING = JointTraining(JointSettings(forms=(FORMS["rq-inverse"],)), which="none")
LIGHT_LABELS, STEP, TIME = 240, 0.5, 20.0
TEMPERATURES = 300.0, 600.0
COLUMNS = (
    "molecule", "on", "labels", "rho", "refused", "force error (eV/A) at 300 K, scratch",
    "with analogue", "ratio", "at 600 K, scratch", "with analogue", "ratio",
    "energy error (kJ/mol) at 300 K, scratch", "with analogue", "at 600 K, scratch",
    "with analogue",
)


def folder_of(name: str, start: Atoms, where: Path, temperature: float = 300.0) -> LabelFolder:
    """Labels of a molecule; those at 600 K are for the test alone."""
    settings = LabelSettings(
        test_frames=50, test_temperature=temperature, test_stride=20.0,
        temperature=max(500.0, temperature),
    )
    return LabelFolder(where / f"{name}-{temperature:g}", [start], GFN2(), settings)


def bare(dataset):
    """Total energies and gradients alone."""
    return replace(dataset, atomic_energies=None, moments=None, dipoles=None)


def light_model(name: str, where: Path):
    """The bundled model, or one that is trained here."""
    path = where / f"{name}.fflux"
    if name in ("water", "ethanol"):
        return load_molecule(name)
    if not path.exists():
        labels = folder_of(name, molecule(name), where)
        (first, *_) = labels.minima_with_hessians()
        trainer = JointTrainer(
            bare(labels.training(LIGHT_LABELS)), first.atoms.positions / BOHR, TRAINING
        )
        model = trainer.model(name, trainer.solve(trainer.hyperparameters()), [])
        write_bundle(path, model)
    return read_bundle(path)


def compared(pair: str, where: Path, counts, seeds, found: dict) -> Iterator[dict]:
    """Errors by number of labels and draw, after each of them; models are kept."""
    name, old, new = PAIRS[pair]
    light = light_model(name, where)
    symbols = [new if s == old else s for s in light.symbols]
    start = Atoms(symbols, light.reference_geometry * BOHR)
    labels = folder_of(pair, start, where)
    (first, *_) = labels.minima_with_hessians()
    reference = first.atoms.positions / BOHR
    sampled = bare(labels.training(40))
    tests = {t: folder_of(pair, start, where, t).test() for t in TEMPERATURES}
    for count, seed in product(counts, seeds):
        known = found.setdefault(str(count), {}).setdefault(str(seed), {})
        some = sampled.select(np.random.default_rng(seed).permutation(len(sampled))[:count])
        for kind in ("scratch", "analogue"):
            if kind in known:
                continue
            prior = prior_of(light, symbols, reference) if kind == "analogue" else None
            trainer = JointTrainer(some, reference, TRAINING, prior=prior)
            try:
                hyperparameters = trainer.hyperparameters()
            except TrainingError as error:  # the likelihood refuses the analogue
                known[kind] = known["scratch"] | {"refused": str(error)}
                yield found
                continue
            model = trainer.model(pair, trainer.solve(hyperparameters), [])
            write_bundle(where / f"{pair}-{count}-{seed}.fflux", model, replace=True)
            known[kind] = {} if prior is None else {"factor": trainer.prior.analogue.factor}
            for t, test in tests.items():
                errors = held_out_errors(model, bare(test))
                known[kind][f"{t:g} K"] = [
                    errors.force_rmse_ev_per_angstrom, errors.energy_rmse_kj_per_mol
                ]
            print(pair, count, seed, kind, known[kind], flush=True)
            yield found


def dynamics(pair: str, where: Path, temperature: float) -> dict:
    """Drift of the energy (meV for each atom), least coverage and largest distance (Angstrom) over
    20 ps, or what ended it."""
    model = read_bundle(where / f"{pair}-20-0.fflux")
    atoms = Atoms(model.symbols, model.reference_geometry * BOHR, calculator=FFLUX(model))
    MaxwellBoltzmannDistribution(
        atoms, temperature_K=2 * temperature, rng=np.random.default_rng(1)
    )
    Stationary(atoms)
    run = VelocityVerlet(atoms, STEP * units.fs)
    start, energies, coverage, far = atoms.get_total_energy(), [], [], 0.0
    reference = atoms.get_positions()
    try:
        for _ in run.irun(int(1000 * TIME / STEP)):
            energies.append(atoms.get_total_energy() - start)
            coverage.append(atoms.calc.coverage.min())
            if len(energies) % 20 == 0:
                far = max(far, superposition(reference, atoms.positions))
    except FFLUXError as error:
        return {"ended": str(error), "ps": STEP * len(energies) / 1000}
    tail = np.mean(energies[-1000:]) - np.mean(energies[:1000])
    return {"drift": 1000 * tail / len(atoms), "coverage": float(min(coverage)),
            "distance": far, "ps": TIME}


def table(results: dict) -> list[str]:
    """Rows of a table in Markdown."""
    rows = ["| " + " | ".join(COLUMNS) + " |", "| --- " * len(COLUMNS) + "|"]
    for pair, found in results.items():
        for count, draws in ((c, d) for c, d in found.items() if c.isdigit()):
            done = [d for d in draws.values() if len(d) == 2]
            if not done:
                continue
            one, two = ([d[kind] for d in done] for kind in ("scratch", "analogue"))
            factors = [d["factor"] for d in two if "factor" in d]
            cells = [
                pair, PAIRS[pair][0], count, f"{np.mean(factors):.3f}" if factors else "",
                f"{len(two) - len(factors)} of {len(two)}",
            ]
            for quantity in (0, 1):
                for t in ("300 K", "600 K"):
                    errors = [
                        np.sqrt(np.mean([d[t][quantity] ** 2 for d in draws]))
                        for draws in (one, two)
                    ]
                    cells += [f"{e:.3g}" for e in errors]
                    if quantity == 0:
                        cells.append(f"{errors[0] / errors[1]:.1f}")
            rows.append("| " + " | ".join(cells) + " |")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pairs", nargs="+", choices=list(PAIRS), default=list(PAIRS))
    parser.add_argument("--labels", nargs="+", type=int, default=[10, 20])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--md", action="store_true", help="also 20 ps at constant energy")
    parser.add_argument("--json", type=Path, required=True)
    args = parser.parse_args()
    results = json.loads(args.json.read_text()) if args.json.exists() else {}
    for pair in args.pairs:
        found = results.setdefault(pair, {})
        for _ in compared(pair, args.folder, args.labels, args.seeds, found):
            write_text(args.json, json.dumps(results, indent=1) + "\n")
        for t in TEMPERATURES if args.md else ():
            if f"NVE {t:g} K" not in results[pair]:
                results[pair][f"NVE {t:g} K"] = dynamics(pair, args.folder, t)
                print(pair, t, results[pair][f"NVE {t:g} K"], flush=True)
                write_text(args.json, json.dumps(results, indent=1) + "\n")
    print("\n".join(table(results)))


if __name__ == "__main__":
    main()
