"""PySCF's own minima, harmonic wavenumbers, infrared intensities, charges and dipoles.

    python benchmarks/b3lyp_reference.py minima.xyz -o benchmarks/labels/NAME-b3lyp-reference.json

Frames are minima of B3LYP/6-31+G(d,p) as the PySCF source of this package optimises them. Second
derivatives are analytic; so are those of the dipole, from the same first-order orbitals. An hour
for five molecules of up to twelve atoms. ``b3lyp.py`` compares models with the file.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from ase.io import read

from ase_fflux.base.outputs import versions
from ase_fflux.base.units import BOHR, FORCE
from ase_fflux.labels.pyscf_source import TIGHT, PySCF
from ase_fflux.simulate.vibrations.analysis import is_linear, normal_modes
from ase_fflux.simulate.vibrations.infrared import mode_intensities


def second_derivatives(source: PySCF, atoms) -> tuple[np.ndarray, np.ndarray]:
    """Of the energy (3N, 3N) in hartree/bohr^2, and of the dipole by positions (3N, 3) in e."""
    run = source._run(atoms, TIGHT)
    hessian, found = run.mf.Hessian(), []
    solve = hessian.solve_mo1

    def solve_and_keep(*args, **kwargs):
        found.append(solve(*args, **kwargs))
        return found[-1]

    hessian.solve_mo1 = solve_and_keep
    blocks, axes = hessian.kernel(), run.frame.axes
    n = len(atoms)
    turned = np.einsum("ia,mnij,jb->manb", axes, blocks, axes).reshape(3 * n, -1)
    mol, mf = run.mf.mol, run.mf
    occupied, density = mf.mo_coeff[:, mf.mo_occ > 0], mf.make_rdm1()
    position = mol.intor("int1e_r")
    slopes = mol.intor("int1e_irp").reshape(3, 3, mol.nao, mol.nao)  # <mu| r_b d/da |nu>
    orbitals = found[0][0]
    derivatives = np.empty((n, 3, 3))
    for atom, (_, _, first, last) in enumerate(mol.aoslice_by_atom()):
        response = np.einsum("xui,buv,vi->xb", np.asarray(orbitals[atom]), position, occupied)
        moved = np.einsum(
            "baum,um->ab", slopes[..., first:last], density[:, first:last]
        )
        derivatives[atom] = mol.atom_charge(atom) * np.eye(3) - 4.0 * response + 2.0 * moved
    derivatives = np.einsum("ia,nij,jb->nab", axes, derivatives, axes)
    return 0.5 * (turned + turned.T), derivatives.reshape(3 * n, 3)


def reference(source: PySCF, atoms) -> dict:
    """What a minimum has, in the units of the names."""
    hessian, slopes = second_derivatives(source, atoms)
    masses = atoms.get_masses()
    wavenumbers, modes, _ = normal_modes(
        hessian * FORCE / BOHR, masses, atoms.positions, is_linear(atoms.positions)
    )
    label = source.label(atoms)
    return {
        "positions_A": atoms.positions.tolist(),
        "energy_Ha": float(label.energy),
        "largest_gradient_eV_per_A": float(FORCE * np.abs(label.gradient).max()),
        "wavenumbers_per_cm": wavenumbers.tolist(),
        "intensities_km_per_mol": mode_intensities(
            slopes, modes / np.repeat(np.sqrt(masses), 3)
        ).tolist(),
        "charges_e": label.moments[:, 0].tolist(),
        "dipole_e_A": (BOHR * label.dipole).tolist(),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("minima", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    args = parser.parse_args()
    source = PySCF(partition="mbis")
    frames = read(args.minima, ":")
    found = {
        "method": source.method, "partition": "mbis", "versions": versions() | source.versions,
        "symbols": frames[0].get_chemical_symbols(),
        "minima": [reference(source, atoms) for atoms in frames],
    }
    args.output.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
