"""Imports and first calls, each in a fresh process that measures itself."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import ase_fflux

_ROOT = str(Path(ase_fflux.__file__).resolve().parents[1])
_MEASURE = """
{setup}
from time import perf_counter
start = perf_counter()
{statement}
print(perf_counter() - start)
"""
_MONOMER = """
import sys
from ase import Atoms
atoms = Atoms("OHH", [[0, 0, 0.06], [0, 0.77, -0.51], [0, -0.77, -0.51]])
"""
_DIMER = _MONOMER + """
other = atoms.copy()
other.positions += [0.1, 0.2, 3.0]
atoms += other
"""
_FORCES = """
from ase_fflux import FFLUX
atoms.calc = FFLUX({model!r})
atoms.get_forces()
"""


class ChildClock:
    """A timer that only the children's own measurements advance."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def run(self, setup, statement, **environment):
        path = os.pathsep.join(filter(None, [_ROOT, os.environ.get("PYTHONPATH")]))
        done = subprocess.run(
            [sys.executable, "-c", _MEASURE.format(setup=setup, statement=statement)],
            env={**os.environ, "PYTHONPATH": path, **environment},
            capture_output=True, text=True, check=True,
        )
        self.now += float(done.stdout.splitlines()[-1])


clock = ChildClock()


@pytest.mark.benchmark(group="imports (target: ase_fflux over ase 100 ms)", timer=clock)
@pytest.mark.parametrize(
    ("setup", "statement"),
    [
        ("", "import ase"),
        ("import ase", "import ase_fflux"),
        ("import ase", "import ase_fflux; ase_fflux.FFLUX"),
        ("import ase", "import ase.io"),
        ("import ase.io, ase.calculators.calculator", "import ase_fflux.ase_plugin"),
    ],
    ids=[
        "ase", "ase_fflux over ase", "class FFLUX over ase", "ase.io over ase",
        "plug-in over ase.io",
    ],
)
def test_import(benchmark, setup, statement):
    benchmark.pedantic(clock.run, (setup, statement), rounds=9, warmup_rounds=1)


@pytest.mark.benchmark(group="first forces of a process (target: cold monomer 5 s)", timer=clock)
@pytest.mark.parametrize("system", [_MONOMER, _DIMER], ids=["monomer", "dimer"])
class TestFirstCall:
    """FFLUX(model) and get_forces, imports of everything beyond ASE's Atoms included.

    The dimer's molecules interact by moments up to hexadecapoles.
    """

    def test_cold_cache(self, benchmark, bundles, system, tmp_path):
        folders = iter(range(100))
        statement = _FORCES.format(model=str(bundles["water"]))

        def run():
            folder = tmp_path / str(next(folders))
            clock.run(system, statement, NUMBA_CACHE_DIR=str(folder))

        benchmark.pedantic(run, rounds=3)

    def test_warm_cache(self, benchmark, bundles, system, tmp_path):
        statement = _FORCES.format(model=str(bundles["water"]))
        benchmark.pedantic(
            clock.run, (system, statement), dict(NUMBA_CACHE_DIR=str(tmp_path)),
            rounds=5, warmup_rounds=1,
        )
