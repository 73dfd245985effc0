"""Optimise ethanol and compare its wavenumbers by phonopy with those of ASE's Infrared.

python examples/ethanol.py
"""

from pathlib import Path
from tempfile import TemporaryDirectory

from ase.io import read
from ase.optimize import BFGS
from ase.vibrations import Infrared

from ase_fflux import FFLUX
from ase_fflux.simulate.vibrations.analysis import vibrations

atoms = read(Path(__file__).with_name("ethanol.xyz"))
atoms.calc = FFLUX("ethanol")
BFGS(atoms, logfile=None).run(fmax=0.001)
print(f"energy {atoms.get_potential_energy():.6f} eV, coverage {atoms.calc.coverage.min():.4f}")

ours = vibrations(atoms)
with TemporaryDirectory() as folder:
    infrared = Infrared(atoms, name=f"{folder}/ir", delta=0.001)
    infrared.run()
    theirs = infrared.get_frequencies().real[6:]

print("   cm-1 (phonopy, Eckart)   cm-1 (ASE)   km/mol")
for a, b, intensity in zip(ours.wavenumbers, theirs, ours.ir_intensities, strict=True):
    print(f"{a:24.2f} {b:12.2f} {intensity:8.2f}")
