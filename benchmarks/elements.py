"""Few labels of a molecule on top of a model of its lighter analogue, beside scratch.

    python benchmarks/elements.py FOLDER --json elements.json

GFN2-xTB labels (total energies and gradients) of both molecules, sampled as `fflux build` does
and kept in FOLDER; the light molecule's model is the bundled one, or is trained here on 60. The
heavy molecule has 10 and 20 labels, the same with and without the analogue; errors are on 50
frames of dynamics at 300 K and at 600 K. At the end, 20 ps at constant energy at both
temperatures with the models of 20 labels on top of the analogue (--md). What stands in the JSON
file is not computed again.
"""

import argparse
import json
from dataclasses import replace
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
from ase_fflux.training.joint import JointTrainer, JointTraining
from ase_fflux.training.prior import prior_of

PAIRS = {
    "H2S": ("water", "O", "S"), "CH3SH": ("CH3OH", "O", "S"),
    "C2H5SH": ("ethanol", "O", "S"), "Ge2H6": ("Si2H6", "Si", "Ge"),
}
"""The light molecule: a bundled model, or one of ASE's molecules; which element becomes which."""
TRAINING = JointTraining(JointSettings(forms=(FORMS["rq-inverse"],)), which="none")
LIGHT_LABELS, STEP, TIME = 60, 0.5, 20.0
TEMPERATURES = 300.0, 600.0
COLUMNS = (
    "molecule", "labels", "factor", "force error (eV/A) at 300 K, scratch", "with analogue",
    "ratio", "at 600 K, scratch", "with analogue", "ratio",
    "energy error (kJ/mol) at 300 K, scratch", "with analogue",
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
        start = molecule(name)
        labels = folder_of(name, start, where)
        (first, *_) = labels.minima_with_hessians()
        trainer = JointTrainer(
            bare(labels.training(LIGHT_LABELS)), first.atoms.positions / BOHR, TRAINING
        )
        model = trainer.model(name, trainer.solve(trainer.hyperparameters()), [])
        write_bundle(path, model)
    return read_bundle(path)


def compared(pair: str, where: Path, counts) -> dict:
    """Errors by number of labels; models on top of the analogue are kept."""
    name, old, new = PAIRS[pair]
    light = light_model(name, where)
    symbols = [new if s == old else s for s in light.symbols]
    start = Atoms(symbols, light.reference_geometry * BOHR)
    labels = folder_of(pair, start, where)
    (first, *_) = labels.minima_with_hessians()
    reference = first.atoms.positions / BOHR
    sampled = bare(labels.training(40))
    tests = {t: folder_of(pair, start, where, t).test() for t in TEMPERATURES}
    order = np.random.default_rng(0).permutation(len(sampled))
    found = {}
    for count in counts:
        some = sampled.select(order[:count])
        for kind, prior in (
            ("analogue", prior_of(light, symbols, reference)), ("scratch", None),
        ):
            trainer = JointTrainer(some, reference, TRAINING, prior=prior)
            try:
                hyperparameters = trainer.hyperparameters()
            except TrainingError as error:  # the likelihood refuses the analogue
                print(pair, count, error, flush=True)
                found.setdefault(str(count), {})[kind] = {"refused": str(error)}
                continue
            model = trainer.model(pair, trainer.solve(hyperparameters), [])
            if prior is not None:
                write_bundle(where / f"{pair}-{count}.fflux", model, replace=True)
                kept = {"factor": trainer.prior.analogue.factor}
            else:
                kept = {}
            for t, test in tests.items():
                errors = held_out_errors(model, bare(test))
                kept[f"{t:g} K"] = [
                    errors.force_rmse_ev_per_angstrom, errors.energy_rmse_kj_per_mol
                ]
            found.setdefault(str(count), {})[kind] = kept
            print(pair, count, kind, kept, flush=True)
    return found


def dynamics(pair: str, where: Path, temperature: float) -> dict:
    """Drift of the energy (meV for each atom) and least coverage over 20 ps, or what ended it."""
    model = read_bundle(where / f"{pair}-20.fflux")
    atoms = Atoms(model.symbols, model.reference_geometry * BOHR, calculator=FFLUX(model))
    MaxwellBoltzmannDistribution(
        atoms, temperature_K=2 * temperature, rng=np.random.default_rng(1)
    )
    Stationary(atoms)
    run = VelocityVerlet(atoms, STEP * units.fs)
    start, energies, coverage = atoms.get_total_energy(), [], []
    try:
        for _ in run.irun(int(1000 * TIME / STEP)):
            energies.append(atoms.get_total_energy() - start)
            coverage.append(atoms.calc.coverage.min())
    except FFLUXError as error:
        return {"ended": str(error), "ps": STEP * len(energies) / 1000}
    tail = np.mean(energies[-1000:]) - np.mean(energies[:1000])
    return {"drift": 1000 * tail / len(atoms), "coverage": float(min(coverage)), "ps": TIME}


def table(results: dict) -> list[str]:
    """Rows of a table in Markdown."""
    rows = ["| " + " | ".join(COLUMNS) + " |", "| --- " * len(COLUMNS) + "|"]
    for pair, found in results.items():
        for count in (c for c in found if c.isdigit()):
            one, two = found[count]["scratch"], found[count]["analogue"]
            if "refused" in two:
                cells = [pair, count, "refused"]
                for t in ("300 K", "600 K"):
                    cells += [f"{one[t][0]:.3g}", "", ""]
                rows.append("| " + " | ".join([*cells, f"{one['300 K'][1]:.3g}", ""]) + " |")
                continue
            cells = [pair, count, f"{two['factor']:.3f}"]
            for t in ("300 K", "600 K"):
                ratio = one[t][0] / two[t][0]
                cells += [f"{one[t][0]:.3g}", f"{two[t][0]:.3g}", f"{ratio:.1f}"]
            cells += [f"{one['300 K'][1]:.3g}", f"{two['300 K'][1]:.3g}"]
            rows.append("| " + " | ".join(cells) + " |")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pairs", nargs="+", choices=list(PAIRS), default=list(PAIRS))
    parser.add_argument("--labels", nargs="+", type=int, default=[10, 20])
    parser.add_argument("--md", action="store_true", help="also 20 ps at constant energy")
    parser.add_argument("--json", type=Path, required=True)
    args = parser.parse_args()
    results = json.loads(args.json.read_text()) if args.json.exists() else {}
    for pair in args.pairs:
        if pair not in results:
            results[pair] = compared(pair, args.folder, args.labels)
        for t in TEMPERATURES if args.md else ():
            if f"NVE {t:g} K" not in results[pair]:
                results[pair][f"NVE {t:g} K"] = found = dynamics(pair, args.folder, t)
                print(pair, t, found, flush=True)
        write_text(args.json, json.dumps(results, indent=1) + "\n")
    print("\n".join(table(results)))


if __name__ == "__main__":
    main()
