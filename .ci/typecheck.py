"""Type-check the package: no file may have more errors than it had, as .ci/typecheck.txt says.

python .ci/typecheck.py            exit 1 where a file has more
python .ci/typecheck.py --update   write the present counts, which may only be lower

mypy runs without the dependencies, whose types are then Any: what it finds depends on this code
alone, not on the versions of numpy's annotations.
"""

import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
KEPT = ROOT / ".ci" / "typecheck.txt"

with tempfile.TemporaryDirectory() as cache:
    run = subprocess.run(
        [sys.executable, "-m", "mypy", "--no-site-packages", "--cache-dir", cache, "ase_fflux"],
        cwd=ROOT, capture_output=True, text=True,
    )
if run.returncode > 1:
    sys.exit(run.stdout + run.stderr)
errors = [line for line in run.stdout.splitlines() if re.match(r"\S+?:\d+: error:", line)]
found = Counter(line.split(":")[0] for line in errors)
kept = Counter()
if KEPT.exists():
    kept.update({name: int(n) for name, n in map(str.split, KEPT.read_text().splitlines())})
worse = {name for name in found if found[name] > kept[name]}
if worse and KEPT.exists():
    print(*(line for line in errors if line.split(":")[0] in worse), sep="\n")
    for name in sorted(worse):
        print(f"{name}: {found[name]} type errors, {kept[name]} are kept in .ci/typecheck.txt")
    sys.exit(1)
if "--update" in sys.argv:
    KEPT.write_text("".join(f"{name} {found[name]}\n" for name in sorted(found)))
elif found.total() < kept.total():
    print("fewer type errors than are kept: python .ci/typecheck.py --update")
print(f"{found.total()} type errors, {kept.total()} kept")
