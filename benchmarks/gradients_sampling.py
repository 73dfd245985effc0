"""Which geometries are worth labelling for a model that learns from gradients.

    fflux build models/inputs/ethanol.xyz -o ethanol.fflux
    python benchmarks/gradients_sampling.py ethanol-build --labels 50 100 200 --seeds 3

Of the build's folder only minima and test trajectory are used. Geometries are drawn from pools of
`POOL` each, which GFN2-xTB labels where `--pools` does not have them yet (a minute for each
trajectory); then a row takes seconds to a minute. A mix is a list of shares of pools (the default:
`MIXES`):

=========  ====================================================================================
md500      frames of dynamics at 500 K, every 20 fs
nm50       displacements along normal modes, from the classical harmonic distribution at 50 K
turn500    the same at 500 K, with everything turned about every bond that is not in a ring and
           not terminal, by angles drawn evenly from the whole circle
minima     the minima themselves, all of them; takes no share
=========  ====================================================================================

Hyperparameters are found once, from 60 labels of the first mix, so that rows differ in geometries
alone; --train finds them for every set anew, as a build does. A set of a seed has the smaller sets
of this seed in it. Rows are medians over the seeds:

energy, force
    RMSE (kJ/mol, eV/Angstrom) on the build's test trajectory, and on one at the temperature --hot.
held out
    Force RMSE on a quarter as many labels of the same mix.
expected
    Force RMSE on the test trajectory that the power law through the smaller sets predicts.
RMSD, wavenumbers
    At the worst of the minima, after an optimisation by the model.
"""

import argparse
import json
import re
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.io import read
from published_sets import use_threads
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ase_fflux import FFLUX
from ase_fflux.assess.learning import LearningCurve
from ase_fflux.assess.validate import held_out_errors, minimum_errors
from ase_fflux.base.errors import FFLUXError, TrainingError
from ase_fflux.base.units import BOHR
from ase_fflux.formats.bundle import write_bundle
from ase_fflux.labels.dataset import Dataset, append_labels, count_labels, read_dataset
from ase_fflux.labels.sampling import Portion, sample
from ase_fflux.labels.tblite_source import GFN2
from ase_fflux.learn.gp.settings import TrainingSettings
from ase_fflux.learn.joint.settings import JointSettings
from ase_fflux.learn.joint.system import Hyperparameters
from ase_fflux.model.molecule import MoleculeModel
from ase_fflux.topology import Pattern
from ase_fflux.training.joint import JointTrainer, JointTraining

MIXES = (
    "md500=50 nm50=25 nm150=15 nm300=10",
    "md500=100",
    "md500=90 nm50=10",
    "md500=70 nm50=30",
    "md500=70 nm50=30 minima",
    "md500=50 nm50=50",
    "md300=70 nm50=30",
    "md700=70 nm50=30",
    "md300=35 md700=35 nm50=30",
    "nm500=70 nm50=30",
    "turn500=70 nm50=30",
    "nm500=35 turn500=35 nm50=30",
)
POOL = 300
SOURCE = 60
"""Labels that the hyperparameters are found from."""

SEED = 20
"""Of all pools; a pool's own number is added."""

COLUMNS = (
    "mix (%)", "labels", "energy", "energy, hot", "force", "force, hot", "held out", "expected",
    "RMSD (mA)", "wavenumbers: MAE (max) (cm-1)",
)


def turned(atoms: Atoms, rng: np.random.Generator) -> Atoms:
    """A copy with random angles about all bonds that are neither terminal nor in a ring."""
    atoms = atoms.copy()
    bonds = Pattern.from_geometry("", atoms.numbers, atoms.positions / BOHR).bonds
    degree = np.bincount(bonds.ravel(), minlength=len(atoms))
    for bond, (i, j) in enumerate(bonds):
        others = np.delete(bonds, bond, axis=0)
        links = coo_array((np.ones(len(others)), others.T), shape=(len(atoms), len(atoms)))
        part = connected_components(links, directed=False)[1]
        if part[i] != part[j] and min(degree[i], degree[j]) > 1:
            group = atoms[part == part[j]]
            axis = atoms.positions[j] - atoms.positions[i]
            group.rotate(360 * rng.random(), axis, center=atoms.positions[j])
            atoms.positions[part == part[j]] = group.positions
    return atoms


class Pools:
    """Labelled geometries by kind, made when they are first asked for."""

    def __init__(self, folder: Path, minima: list[Atoms], source: GFN2):
        self.folder, self.minima, self.source = folder, minima, source
        folder.mkdir(parents=True, exist_ok=True)

    def dataset(self, name: str, seed: int = SEED) -> Dataset:
        """All labels of a pool."""
        count = len(self.minima) if name == "minima" else POOL
        path = self.folder / f"{name}-{seed}.xyz"
        done = count_labels(path)
        if done < count:
            print(f"labelling {path}", file=sys.stderr)
            geometries = list(self.geometries(name, seed, count, done))
            append_labels(path, [self.source.label(a) for a in geometries], [name] * (count - done))
        return read_dataset(path).select(slice(count))

    def geometries(self, name: str, seed: int, count: int, skip: int):
        """Geometries of a pool from number ``skip`` on."""
        if name == "minima":
            yield from self.minima[skip:]
            return
        kind, temperature = re.fullmatch(r"(md|nm|turn)(\d+)", name).groups()
        portion = Portion("md" if kind == "md" else "nm", float(temperature), 1.0)
        seed += int(temperature)
        for number, (_, atoms) in enumerate(
            sample(self.minima, self.source, (portion,), count, seed, skip=skip), skip
        ):
            yield turned(atoms, np.random.default_rng([seed, number])) if kind == "turn" else atoms

    def draw(self, mix: str, count: int, seed: int) -> tuple[Dataset, Dataset]:
        """Labels of a mix and, with the same shares, a quarter as many others."""
        shares = parse(mix)
        extra = ["minima"] if "minima" in mix.split() else []
        n_extra = len(self.minima) if extra else 0
        counts = split(count - n_extra, shares)
        held_counts = split(count // 4, shares)
        labels, held = [self.dataset(name) for name in extra], []
        for name, n, n_held in zip(shares, counts, held_counts, strict=True):
            if n + n_held > POOL:
                raise FFLUXError(f"{count} labels of {mix!r} need more than {POOL} {name}")
            order = np.random.default_rng(seed).permutation(POOL)
            labels.append(self.dataset(name).select(order[:n]))
            held.append(self.dataset(name).select(order[POOL - n_held:]))
        return joined(labels), joined(held)


def parse(mix: str) -> dict[str, float]:
    """Shares by pool."""
    shares = {}
    for word in mix.split():
        if word == "minima":
            continue
        if not re.fullmatch(r"(md|nm|turn)\d+=\d+", word):
            raise FFLUXError(f"{word!r} in a mix is not like md500=50")
        name, share = word.split("=")
        shares[name] = int(share)
    if not shares or min(shares.values()) == 0:
        raise FFLUXError(f"no shares above zero in {mix!r}")
    return {name: share / sum(shares.values()) for name, share in shares.items()}


def split(count: int, shares: dict[str, float]) -> np.ndarray:
    """Numbers in proportion to shares, which add up to count."""
    ends = np.rint(count * np.cumsum(list(shares.values()))).astype(int)
    return np.diff(ends, prepend=0)


def joined(datasets: list[Dataset]) -> Dataset:
    """One data set of all labels."""
    arrays = {
        name: np.concatenate([getattr(d, name) for d in datasets])
        for name, value in vars(datasets[0]).items()
        if isinstance(value, np.ndarray)
    }
    return replace(datasets[0], **arrays)


def trainer(labels: Dataset, minima: list[Atoms], settings: JointSettings) -> JointTrainer:
    """Of the energies of some labels."""
    training = JointTraining(settings, TrainingSettings(), "none")
    return JointTrainer(labels, minima[0].positions / BOHR, training)


def errors(
    model: MoleculeModel, tests: tuple[Dataset, ...], minima: list[Atoms], source: GFN2
) -> dict:
    """Figures of a row; those at minima are infinite where the model has no minimum."""
    cold, hot, held = (held_out_errors(model, test) for test in tests)
    with tempfile.TemporaryDirectory() as folder:
        bundle = Path(folder) / "model.fflux"
        write_bundle(bundle, model)
        calculator = FFLUX(str(bundle), assignment=[list(range(len(model.symbols)))])
    try:
        found = [vars(minimum_errors(minimum, calculator, source)) for minimum in minima]
        worst = {name: max(m[name] for m in found) for name in found[0]}
    except TrainingError:
        names = "rmsd_angstrom", "wavenumber_mae_per_cm", "wavenumber_max_per_cm"
        worst = dict.fromkeys(names, np.inf)
    return {
        "energy": cold.energy_rmse_kj_per_mol, "hot_energy": hot.energy_rmse_kj_per_mol,
        "force": cold.force_rmse_ev_per_angstrom, "hot_force": hot.force_rmse_ev_per_angstrom,
        "held_force": held.force_rmse_ev_per_angstrom, **worst,
    }


def rows(chosen: argparse.Namespace):
    """Rows of the table, one by one, each with the figures of every seed."""
    minima = read(chosen.folder / "minima.xyz", ":")
    charge = json.loads((chosen.folder / "build.json").read_text())["settings"].get("charge", 0)
    source = GFN2(charge)
    pools = Pools(chosen.pools or Path(f"{chosen.folder.name}-pools"), minima, source)
    test, hot = read_dataset(chosen.folder / "test.xyz"), pools.dataset(f"md{chosen.hot}", 1)
    hyperparameters: Hyperparameters | None = None
    if not chosen.train:
        labels, _ = pools.draw(chosen.mixes[0], SOURCE, 0)
        small = JointSettings(sizes=(SOURCE // 2, SOURCE), evaluations=(60, 20))
        hyperparameters = trainer(labels, minima, small).hyperparameters()
    for mix in chosen.mixes:
        force: list[list[float]] = [[] for _ in range(chosen.seeds)]
        for count in chosen.labels:
            found = []
            for seed in range(chosen.seeds):
                labels, held = pools.draw(mix, count, seed)
                training = trainer(labels, minima, JointSettings())
                solved = training.solve(hyperparameters or training.hyperparameters())
                model = training.model(chosen.folder.name, solved, [])
                row = errors(model, (test, hot, held), minima, source)
                if len(force[seed]) > 1:
                    curve = LearningCurve(
                        tuple(chosen.labels[:len(force[seed])]), tuple(force[seed])
                    )
                    row["expected_force"] = curve.expected(count)
                force[seed].append(row["force"])
                found.append(row)
            yield {"mix": mix, "labels": count, "seeds": found}


def cells(row: dict) -> list[str]:
    """Text of a row."""
    m = {name: float(np.median([s[name] for s in row["seeds"]])) for name in row["seeds"][0]}
    figures = [
        f"{m[name]:.3g}" if name in m else "-" for name in
        ("energy", "hot_energy", "force", "hot_force", "held_force", "expected_force")
    ]
    return [
        row["mix"], str(row["labels"]), *figures, f"{1e3 * m['rmsd_angstrom']:.2g}",
        f"{m['wavenumber_mae_per_cm']:.2g} ({m['wavenumber_max_per_cm']:.2g})",
    ]


def options() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="NAME-build of `fflux build`")
    parser.add_argument("--labels", type=int, nargs="+", default=[50, 100, 200], metavar="N")
    parser.add_argument("--seeds", type=int, default=3, metavar="N")
    parser.add_argument("--mixes", nargs="+", default=list(MIXES), metavar="MIX")
    parser.add_argument("--hot", type=int, default=500, metavar="K", help="of the second test")
    parser.add_argument("--train", action="store_true", help="hyperparameters of every set")
    parser.add_argument("--pools", type=Path, metavar="DIR", help="default: NAME-build-pools")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here, too")
    chosen = parser.parse_args()
    chosen.labels = sorted(set(chosen.labels))
    return chosen


def main() -> None:
    """Print the table."""
    chosen = options()
    use_threads(1)
    print(f"| {' | '.join(COLUMNS)} |\n|{' --- |' * len(COLUMNS)}", flush=True)
    done = []
    try:
        for row in rows(chosen):
            print(f"| {' | '.join(cells(row))} |", flush=True)
            done.append(row)
            if chosen.json:
                chosen.json.write_text(json.dumps(done, indent=1))
    except FFLUXError as error:
        sys.exit(f"{chosen.folder}: {error}")


if __name__ == "__main__":
    main()
