"""Damaged files of every kind, read in process: no traceback, no hang, no silent wrong number.

    python benchmarks/fuzz.py --mutants 20000 --seed 1

Mutant i of a seed is the same on every machine. Each is one to three changes to a good file: bits
and bytes, pieces cut, copied, moved, numbers and lines edited, and of archives members edited with
every checksum made right again. It is read as the program reads it, within 10 s and 2 GB beyond
what the process has. What may come of it:

refused     an FFLUXError (for checkpoints None, what is trained anew)
same        read, and every number is as it was
changed     read with other numbers from a file whose numbers nothing checks, such as the
            coordinates of a geometry
SILENT      the same from a file that has a digest or a checksum
TRACEBACK   any other exception
HANG        no answer within 10 s

The last three are shown with the number that repeats them (``--only N``, which leaves the file as
`./mutant`); the exit status is then 1.
"""

import argparse
import io
import json
import re
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write

from ase_fflux import FFLUX
from ase_fflux.base.claims import claim
from ase_fflux.base.errors import FFLUXError
from ase_fflux.base.outputs import OutputFiles
from ase_fflux.base.store import DamagedError
from ase_fflux.formats import load_molecule
from ase_fflux.formats.bundle import write_bundle
from ase_fflux.formats.geometry import read_frames
from ase_fflux.formats.model_directory import write_model_directory
from ase_fflux.formats.training_set import TrainingSet, read_training_set, write_training_set
from ase_fflux.labels.dataset import append_labels, read_dataset
from ase_fflux.labels.tblite_source import GFN2
from ase_fflux.learn.gp.settings import TrainingSettings
from ase_fflux.learn.gp.training import train
from ase_fflux.learn.joint.system import Hyperparameters
from ase_fflux.simulate.md import files as md_files
from ase_fflux.simulate.md.dynamics import Dynamics
from ase_fflux.simulate.md.settings import DynamicsSettings
from ase_fflux.training import joint
from ase_fflux.training.checkpoints import read_checkpoint, write_checkpoint
from ase_fflux.workflows.plain import plain_model

SECONDS, MEMORY = 10, 2 << 30

NUMBERS = [
    b"0", b"-1", b"1e308", b"-1e308", b"1e-320", b"nan", b"inf", b"99999999999", b"4294967296",
    b"9" * 5000, b"1e400", b"", b"x", b"0x10", b"1_0", b"\xb2", b"--1", b"3.14159", b"[]", b"null",
]
JUNK = [b"\x00", b"\xff\xfe", b"\n\n", b",", b"[" * 100000, b"{", b'"', b"=", b"#", b"\r", b"  "]


@dataclass
class Kind:
    """One kind of file: the good ones, how they are read, and whether their numbers are sealed."""

    name: str
    paths: list[Path]
    read: Callable[[], list]
    sealed: bool = False


class Hang(BaseException):
    pass


def numbers_of(*values) -> list[bytes]:
    """Bytes of arrays and texts, for comparisons."""
    return [v.encode() if isinstance(v, str) else np.asarray(v).tobytes() for v in values]


# --- what is damaged -------------------------------------------------------------------------


def geometries(folder: Path) -> list[Kind]:
    ethanol = molecule("CH3CH2OH")
    ethanol.calc = SinglePointCalculator(ethanol, energy=-1.0, forces=np.ones((9, 3)))
    periodic = molecule("H2O", vacuum=4.0)
    periodic.pbc = True
    kinds = []
    for name, atoms, form in (
        ("a.xyz", ethanol, "xyz"), ("b.xyz", [ethanol] * 2, "extxyz"), ("c.traj", ethanol, "traj"),
        ("POSCAR", periodic, "vasp"), ("d.cif", periodic, "cif"), ("e.json", ethanol, "json"),
    ):
        write(folder / name, atoms, format=form)

        def reading(path=str(folder / name)):
            return [b for a in read_frames(path) for b in numbers_of(a.positions, a.numbers)]

        kinds.append(Kind(f"geometry {name}", [folder / name], reading))
    return kinds


def labels(folder: Path) -> Kind:
    path, source, rng = folder / "labels.xyz", GFN2(), np.random.default_rng(0)
    made = []
    for _ in range(4):
        atoms = molecule("H2O")
        atoms.rattle(0.05, rng=rng)
        made.append(source.label(atoms))
    append_labels(path, made, ["md"] * 4)

    def reading():
        d = read_dataset(path)
        return numbers_of(d.geometries, d.atomic_energies, d.gradients)

    return Kind("labels", [path], reading)


def prediction(path: Path) -> list[bytes]:
    model = load_molecule(str(path))
    atoms = molecule("H2O")
    atoms.calc = FFLUX(model, on_low_coverage="ignore")
    return numbers_of(atoms.get_forces(), atoms.get_charges(), model.reference_geometry)


def models(folder: Path) -> list[Kind]:
    shared = load_molecule("water")
    plain, _ = plain_model(shared, 20)
    directory = folder / "models"
    write_model_directory(directory, plain)
    write_bundle(folder / "one.fflux", plain)
    write_bundle(folder / "two.fflux", shared)
    texts = sorted(directory.glob("*.model"))[::7]
    return [
        Kind("model files", texts, lambda: prediction(directory)),
        Kind("molecule.json", [directory / "molecule.json"], lambda: prediction(directory)),
        Kind("bundle 1", [folder / "one.fflux"], lambda: prediction(folder / "one.fflux")),
        Kind("bundle 2", [folder / "two.fflux"], lambda: prediction(folder / "two.fflux")),
    ]


def checkpoints(folder: Path) -> list[Kind]:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(20, 3))
    result = train(features, np.sin(features.sum(axis=1))[None], TrainingSettings())
    one, two = folder / "C1_iqa.npz", folder / "energies.npz"
    write_checkpoint(one, result, "this")
    values = Hyperparameters([np.ones(3)] * 2, np.ones(2), np.ones(1), np.ones(1))
    joint._write(two, "this", values, result.steps)

    def reading_one():
        found = read_checkpoint(one, "this")
        if found is None:
            raise DamagedError("None")
        p = found.process
        return numbers_of(p.inputs, p.weights, p.mean, found.log_theta, p.kernel.theta)

    def reading_two():
        found = joint._read(two, "this")
        if found is None:
            raise DamagedError("None")
        return numbers_of(*found[0].theta, found[0].variance, found[0].energy_noise)

    return [
        Kind("checkpoint", [one], reading_one, sealed=True),
        Kind("hyperparameters", [two], reading_two, sealed=True),
    ]


def dynamics(folder: Path) -> list[Kind]:
    files = OutputFiles(folder / "w-md", md_files.SUFFIXES)

    def start():
        atoms = molecule("H2O")
        atoms.calc = FFLUX("water")
        return Dynamics(atoms, DynamicsSettings(time=0.1, interval=1))

    md_files._INTERVAL = -1.0
    done = []

    def stop(steps):
        done.append(steps)
        if len(done) > 60:
            raise KeyboardInterrupt

    try:
        md_files.dynamics_to_files(start(), files, advance=stop)
    except KeyboardInterrupt:
        pass
    again = start()

    def reading():
        restart = md_files.read_restart(files, again)
        if restart is None:
            raise DamagedError("it is not of this run")
        frames = read(files[".traj"], f":{restart.trajectory.frames}")
        log = files[".log"].read_bytes()[:restart.log_bytes]
        state = [restart.state[name] for name in ("step", "positions", "momenta")]
        inside = [x for f in frames for x in (f.positions, f.get_momenta(), f.get_forces())]
        return numbers_of(log.decode(), json.dumps(restart.state["rng"]), *state, *inside)

    return [
        Kind(f"md {suffix}", [files[suffix]], reading, sealed=True)
        for suffix in (md_files.RESTART, ".log", ".traj")
    ]


def training_sets(folder: Path) -> Kind:
    path, rng = folder / "WATER_O1_TRAINING_SET.csv", np.random.default_rng(0)
    features = np.column_stack([rng.uniform(1.5, 2, 12), rng.uniform(1.5, 2, 12),
                                rng.uniform(1.5, 2, 12)])
    targets = {"iqa": rng.normal(-75, 0.01, 12), "q00": rng.normal(-1, 0.01, 12)}
    write_training_set(path, TrainingSet(features=features, targets=targets))

    def reading():
        found = read_training_set(path)
        return numbers_of(found.features, *found.targets.values())

    return Kind("training set", [path], reading)


def records(folder: Path) -> Kind:
    wanted = {"version": "0.1.0", "settings": {"seed": 1, "noise": 1e-10, "names": ["a", "b"]}}
    claim(folder / "w-train", "train.json", wanted, "a training")
    path = folder / "w-train/train.json"

    def reading():
        differ = claim(path.parent, "train.json", wanted, "a training")
        return numbers_of(*differ)

    return Kind("record", [path], reading, sealed=True)


# --- damage ----------------------------------------------------------------------------------


def bits(data: bytes, rng) -> bytes:
    changed = bytearray(data)
    for at in rng.integers(len(data), size=rng.integers(1, 4)):
        changed[at] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def random_bytes(data: bytes, rng) -> bytes:
    at, n = int(rng.integers(len(data))), int(rng.integers(1, 9))
    return data[:at] + rng.bytes(n) + data[at + n:]


def cut(data: bytes, rng) -> bytes:
    return data[:int(rng.integers(len(data)))]


def without(data: bytes, rng) -> bytes:
    a, b = sorted(rng.integers(len(data) + 1, size=2))
    return data[:a] + data[min(b, a + 200):]


def twice(data: bytes, rng) -> bytes:
    a, b = sorted(rng.integers(len(data) + 1, size=2))
    return data[:b] + data[a:b] + data[b:]


def exchanged(data: bytes, rng) -> bytes:
    a, b, c = sorted(rng.integers(len(data) + 1, size=3))
    return data[:a] + data[b:c] + data[a:b] + data[c:]


def junk(data: bytes, rng) -> bytes:
    at = int(rng.integers(len(data) + 1))
    return data[:at] + JUNK[rng.integers(len(JUNK))] + data[at:]


_NUMBER = re.compile(rb"-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")


def number(data: bytes, rng) -> bytes:
    found = list(_NUMBER.finditer(data))
    if not found:
        return bits(data, rng)
    one = found[rng.integers(len(found))]
    text = one[0]
    if rng.random() < 0.5:
        new = NUMBERS[rng.integers(len(NUMBERS))]
    else:
        digits = [i for i, c in enumerate(text) if chr(c).isdigit()]
        at = digits[rng.integers(len(digits))]
        new = text[:at] + b"0123456789"[(d := int(rng.integers(10))):d + 1] + text[at + 1:]
    return data[:one.start()] + new + data[one.end():]


def lines(data: bytes, rng) -> bytes:
    rows = data.split(b"\n")
    i, j = rng.integers(len(rows), size=2)
    what = rng.integers(4)
    if what == 0:
        del rows[i]
    elif what == 1:
        rows.insert(j, rows[i])
    elif what == 2:
        rows[i], rows[j] = rows[j], rows[i]
    else:
        words = rows[i].split()
        rng.shuffle(words)
        rows[i] = b" ".join(words)
    return b"\n".join(rows)


def members(data: bytes, rng) -> bytes:
    """An archive with a member changed, exchanged or left out, and right checksums."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            content = {name: archive.read(name) for name in archive.namelist()}
    except Exception:
        return bits(data, rng)
    names = list(content)
    one, other = (names[i] for i in rng.integers(len(names), size=2))
    what = rng.integers(6)
    if what == 0:
        del content[one]
    elif what == 1:
        content[one], content[other] = content[other], content[one]
    else:
        plain = (bits, number, number, cut, twice, junk, random_bytes)
        content[one] = plain[rng.integers(len(plain))](content[one] or b"\0", rng)
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in content.items():
            archive.writestr(name, text)
    return made.getvalue()


DAMAGE = (bits, random_bytes, cut, without, twice, exchanged, junk, number, number, lines)


def damaged(data: bytes, rng) -> tuple[bytes, str]:
    """A mutant and what was done."""
    is_archive = data[:2] == b"PK"
    done = []
    for _ in range(int(rng.choice([1, 1, 1, 2, 3]))):
        change = DAMAGE[rng.integers(len(DAMAGE))]
        if is_archive and rng.random() < 0.6:
            change = members
        data = change(data or b"\0", rng)
        done.append(change.__name__)
    return data, "+".join(done)


# --- the run ---------------------------------------------------------------------------------


def outcome(kind: Kind, good: list[bytes]) -> tuple[str, str]:
    """What reading comes to, and the words for it."""
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        found = kind.read()
    except FFLUXError as error:
        return ("refused", str(error)) if "\n" not in str(error) else ("refused", "lines")
    except Hang:
        return "HANG", ""
    except Exception:
        return "TRACEBACK", traceback.format_exc()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    if found == good:
        return "same", ""
    return ("SILENT" if kind.sealed else "changed"), ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--mutants", type=int, default=20000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int, help="one mutant, shown in full")
    parser.add_argument("--kinds", default="", help="only kinds with this in their name")
    parser.add_argument("--show", default="SILENT,TRACEBACK,HANG", help="outcomes to be shown")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGALRM, _hang)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        kinds = [
            *geometries(folder), labels(folder), *models(folder), *checkpoints(folder),
            *dynamics(folder), training_sets(folder), records(folder),
        ]
        kinds = [kind for kind in kinds if args.kinds in kind.name]
        good = {kind.name: kind.read() for kind in kinds}
        now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + MEMORY, resource.RLIM_INFINITY))
        counts = {kind.name: Counter() for kind in kinds}
        bad, began = 0, time.perf_counter()
        for i in [args.only] if args.only is not None else range(args.mutants):
            kind = kinds[i % len(kinds)]
            rng = np.random.default_rng([args.seed, i])
            path = kind.paths[rng.integers(len(kind.paths))]
            whole = path.read_bytes()
            mutant, done = damaged(whole, rng)
            path.write_bytes(mutant)
            result, words = outcome(kind, good[kind.name])
            path.write_bytes(whole)
            counts[kind.name][result] += 1
            bad += result.isupper()
            if result in args.show.split(",") or args.only is not None:
                last = words.strip().splitlines()[-1:] if args.only is None else [words]
                print(f"{i} {kind.name} {path.name} {done}: {result}", *last, flush=True)
                if args.only is not None:
                    Path("mutant").write_bytes(mutant)
        print(_table(counts, time.perf_counter() - began))
    return 1 if bad else 0


def _hang(*args):
    raise Hang


def _table(counts: dict[str, Counter], seconds: float) -> str:
    names = ["refused", "same", "changed", "SILENT", "TRACEBACK", "HANG"]
    rows = [["kind", "mutants", *names]]
    total = sum(counts.values(), Counter())
    for kind, found in [*counts.items(), ("all", total)]:
        rows.append([kind, str(found.total()), *(str(found[name]) for name in names)])
    text = [" ".join(f"{c:>{9 if j else 18}}" for j, c in enumerate(row)) for row in rows]
    return "\n".join([*text, f"{seconds:.0f} s"])


if __name__ == "__main__":
    sys.exit(main())
