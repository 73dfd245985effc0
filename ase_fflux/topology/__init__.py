"""Molecules in a set of atoms, and which model atom each of their atoms is.

Lengths are in bohr throughout; atoms are counted from 0, as ASE does.

Atoms closer than `BOND_SCALE` times the sum of their covalent radii are bonded; near that distance
the models decide which of them are (`perception`). Connected atoms form `fragments`; one or several
fragments form the molecule a model describes (several in a model of a hydrogen-bonded dimer). A
model's atoms are laid onto a molecule by graph isomorphism. Where there are several isomorphisms
(the hydrogens of a methyl group), the caller's score decides, so that handedness and rotamer agree
with the data the model was trained on.

`graphs` finds bonds and knows models as a `pattern` of them, one of which `isomorphism` lays onto
another; `matching` lays patterns onto the atoms, or takes the user's word for it (`explicit`), and
says why it cannot (`diagnosis`); the `Assignment` it returns makes molecules whole across periodic
boundaries with `lattice`, and is kept along a trajectory (`kept_assignment`).
`superposition` lays geometries onto each other and finds the symmetry of one; `connectivity` tells
when one comes apart.
"""

from ase_fflux.topology.assignment import Assignment
from ase_fflux.topology.connectivity import Connectivity
from ase_fflux.topology.graphs import Graph, bonds
from ase_fflux.topology.isomorphism import isomorphisms
from ase_fflux.topology.matching import match
from ase_fflux.topology.pattern import Pattern
from ase_fflux.topology.superposition import rotational_symmetry_number, superposition

__all__ = [
    "Assignment",
    "Connectivity",
    "Graph",
    "Pattern",
    "bonds",
    "isomorphisms",
    "match",
    "rotational_symmetry_number",
    "superposition",
]
