"""Commands killed at random and started again: nothing finished is lost, the end is the same.

    python benchmarks/kills.py md --kills 50 --seed 1
    python benchmarks/kills.py train --kills 50
    python benchmarks/kills.py build --kills 50

Each command is run once without a break. Then it is started again and again in another folder, and
killed (SIGKILL) after 0.2 to 1 times what the whole takes, until it has been killed as often as
asked for; one more start goes to the end. Where it ends before it is killed, its output is compared
and all begins anew in another folder. Compared bitwise are

md      log, last geometry and every frame of the trajectory (positions, momenta, forces, energies)
train   all members of the bundle
build   the same, minima, labels and test labels

and after every kill that the files that count only grow: samples that a restart point has, labels,
checkpoints of finished models. What is lost between two starts is printed and the exit status is 1.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import numpy as np
from ase.build import molecule
from ase.io import read, write

RUN = "import sys; from ase_fflux.cli.main import main; sys.exit(main(sys.argv[1:]))"

_STEPS = 12000


def command(verb: str) -> list[str]:
    """Arguments of a run of some seconds."""
    if verb == "md":
        return ["md", "w.xyz", "--model", "water", "--time", f"{_STEPS / 2000:g}", "-o", "r"]
    if verb == "train":
        return ["train", "labels.xyz", "--gradients", "-o", "w.fflux"]
    return ["build", "w.xyz", "--labels", "120", "--test-frames", "60", "-o", "w.fflux"]


def prepare(folder: Path, labels: Path | None) -> None:
    folder.mkdir()
    write(folder / "w.xyz", molecule("H2O"))
    if labels is not None:
        shutil.copy(labels, folder / "labels.xyz")


def start(verb: str, folder: Path) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", RUN, *command(verb)], cwd=folder,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True,
    )


def kept(verb: str, folder: Path) -> dict[str, int]:
    """What may not become less from one kill to the next."""
    if verb == "md":
        try:
            with np.load(folder / "r.restart.npz") as archive:
                return {"steps": json.loads(archive["header"].item())["step"]}
        except FileNotFoundError:  # not begun, or at its end
            return {"steps": _STEPS if (folder / "r.json").exists() else 0}
    if verb == "train":
        return {"models": len(list(folder.glob("w-train/*.npz")))}
    found = {}
    for name in ("minima", "labels", "test"):
        path = folder / f"w-build/{name}.xyz"
        text = path.read_text() if path.exists() else ""
        found[name] = text.count("Properties=") if text.endswith("\n") or not text else max(
            text.count("Properties=") - 1, 0
        )
    return found | {"models": len(list(folder.glob("w-build/**/*.npz")))}


def finished(verb: str, folder: Path) -> bool:
    """Whether all files that the command writes at its end are there."""
    if verb == "md":
        return (folder / "r.json").exists() and not (folder / "r.restart.npz").exists()
    return (folder / ("w-train.json" if verb == "train" else "w.fflux")).exists()


def result(verb: str, folder: Path) -> list:
    """What is compared, bitwise."""
    if verb == "md":
        frames = read(folder / "r.traj", ":")
        arrays = [
            x.tobytes() for f in frames
            for x in (f.positions, f.get_momenta(), f.get_forces(),
                      np.array(f.get_potential_energy()))
        ]
        return [(folder / "r.log").read_text(), (folder / "r.xyz").read_text(), *arrays]
    with zipfile.ZipFile(folder / "w.fflux") as archive:
        found = [archive.read(name) for name in sorted(archive.namelist())]
    if verb == "build":
        found += [(folder / f"w-build/{n}.xyz").read_bytes() for n in ("minima", "labels", "test")]
    return found


def wait(process: subprocess.Popen) -> None:
    error = process.stderr.read().decode()
    if process.wait():
        raise SystemExit(f"the command ended with {process.returncode}: {error}")


def kill(process: subprocess.Popen) -> bool:
    """Kill the command with its workers; False if it had ended."""
    if process.poll() is not None:
        wait(process)
        return False
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    return True


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("verb", choices=["md", "train", "build"])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    rng = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as name:
        work, labels = Path(name), None
        if args.verb == "train":
            prepare(work / "labels", None)
            wait(start("build", work / "labels"))
            labels = work / "labels/w-build/labels.xyz"
        prepare(work / "whole", labels)
        began = time.perf_counter()
        wait(start(args.verb, work / "whole"))
        duration = time.perf_counter() - began
        expected = result(args.verb, work / "whole")
        print(f"{args.verb}: {duration:.1f} s without a break", flush=True)
        kills = rounds = faults = 0
        while kills < args.kills:
            folder = work / f"round{rounds}"
            prepare(folder, labels)
            before, mine, over = kept(args.verb, folder), 0, False
            while kills < args.kills:
                process = start(args.verb, folder)
                time.sleep(rng.uniform(0.2, 1.0) * duration)
                if not kill(process):
                    break
                kills, mine = kills + 1, mine + 1
                after = kept(args.verb, folder)
                lost = {k: (before[k], after[k]) for k in before if after[k] < before[k]}
                if lost:
                    faults += 1
                    print(f"round {rounds}, kill {mine}: lost {lost}", flush=True)
                before = after
                over = finished(args.verb, folder)
                if over:  # killed after its end, which leaves the lock
                    break
            else:
                wait(start(args.verb, folder))
            rounds += 1
            same = result(args.verb, folder) == expected
            tidy = over or not [p for p in folder.rglob("*") if p.suffix in (".lock", ".part")]
            faults += not same or not tidy
            print(f"round {rounds}: {mine} kills, {'the same' if same else 'OTHER'}"
                  f"{'' if tidy else ', leftovers'}", flush=True)
        print(f"{args.verb}: {kills} kills in {rounds} rounds, {faults} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
