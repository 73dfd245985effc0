"""Training beside another busy process on as many cores as there are: what it costs.

    python benchmarks/training_busy.py

Each training runs alone and beside one process that computes without end, in turn; medians. On two
cores a training of one thread should lose little, one of two threads half its speed. Threads that
wait for each other by spinning can lose a factor of a hundred instead.
"""

import json
import subprocess
import sys
import time
from contextlib import contextmanager

import numpy as np
from published_sets import load, median_run, options, use_threads
from training_published import PROTOCOLS, PUBLISHED

from ase_fflux.learn.gp.training import train


@contextmanager
def busy(count: int):
    """That many processes which take all the time they get."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        time.sleep(0.3)
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def main() -> None:
    """Print the table."""
    parser = options(__doc__.splitlines()[0], list(PUBLISHED))
    parser.add_argument("--busy", type=int, default=1, help="busy processes beside (default: 1)")
    parser.set_defaults(repeat=5)
    args = parser.parse_args()
    use_threads(args.threads)
    rows = []
    print("| set | protocol | alone, s | busy, s | ratio |\n| --- | --- | --- | --- | --- |")
    for name in args.sets:
        data = load(name, args.data)
        for label, settings in PROTOCOLS.items():
            def run(s=settings, d=data):
                return train(d.features, d.targets, s)

            run()  # compiles
            seconds = {"alone": [], "busy": []}
            for _ in range(args.repeat):
                for where, others in (("alone", 0), ("busy", args.busy)):
                    with busy(others):
                        seconds[where].append(median_run(run, 1)[0])
            alone, beside = (float(np.median(s)) for s in seconds.values())
            rows.append({"set": name, "protocol": label, **seconds, "ratio": beside / alone})
            cells = f"{alone:.3f} | {beside:.3f} | {beside / alone:.2f}"
            print(f"| {name} | {label} | {cells} |", flush=True)
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
