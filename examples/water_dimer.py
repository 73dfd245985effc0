"""A water dimer: electrostatics between molecules by rank, with a Lennard-Jones wall.

The models are those of single molecules on GFN2-xTB labels, the Lennard-Jones parameters those of
the published liquid-water simulation; together they are an illustration, not a tuned water model.

python examples/water_dimer.py
"""

from ase import Atoms
from ase.build import molecule
from ase.optimize import BFGS
from ase.units import kJ, mol

from ase_fflux import FFLUX

monomer = molecule("H2O")
dimer = monomer + Atoms(monomer.symbols, monomer.positions + [0, 2.9, 0.5])
lennard_jones = {
    "O-O": {"lj": [0.763 * kJ / mol, 3.170]},
    "O-H": {"lj": [0.106 * kJ / mol, 1.902]},
}
print("rank  E(elec) / kJ/mol  E(short range) / kJ/mol  O-O / A")
for rank in range(3):
    atoms = dimer.copy()
    atoms.calc = FFLUX("water", rank=rank, short_range=lennard_jones)
    BFGS(atoms, logfile=None).run(fmax=0.01, steps=500)
    terms = atoms.calc.energy_terms
    print(
        f"{rank:4d} {terms['electrostatic'] * mol / kJ:17.2f} "
        f"{terms['short_range'] * mol / kJ:24.2f} {atoms.get_distance(0, 3):8.3f}"
    )
