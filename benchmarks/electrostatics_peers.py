"""Multipoles of a box of water by OpenMM, charges by OpenMM and torch-pme, both by this package.

    pip install openmm torch torch-pme
    python benchmarks/electrostatics_peers.py

Positions, global moments (to quadrupoles) and cell are those of the box of `electrostatics.py`, so
that all sum the same energy: 343 molecules, nothing within them. Compared are energy and dE/dR at
constant moments (in OpenMM with the torques of its multipoles, which no frame takes up), not models
or pair potentials. Errors are of the energy per molecule, and of the largest component of dE/dR
by the largest of all, both against a sum of an accuracy of 1e-10. Times are medians of processor
time of one evaluation on one thread.

- OpenMM, AMOEBA: AmoebaMultipoleForce with permanent moments, polarisabilities of zero, moments
  fixed in space; its CPU platform runs the double-precision reference code. Cut-off 8 Angstrom,
  `ewaldErrorTolerance` as printed.
- OpenMM, charges: NonbondedForce by PME on the CPU platform, single precision.
- torch-pme: PMECalculator in float64, Lagrange nodes 7, pairs given and not timed, forces by
  autograd. It has no exclusions: pairs within molecules are taken out of its energy afterwards.
"""

import time

import numpy as np
from electrostatics import box
from scipy.spatial.distance import cdist

from ase_fflux import load
from ase_fflux.forcefield import ForceField
from ase_fflux.forcefield.interactions.electrostatics import Electrostatics
from ase_fflux.forcefield.interactions.neighbours import NeighbourList, find_pairs
from ase_fflux.model.multipoles import cartesian_from_spherical

NM = 0.052917721067
"""Of a bohr."""
KJ = 2625.499638285
"""Of a hartree."""


def median(function, repeats=7):
    """Median processor time of a call (s), after one that is not counted."""
    times = []
    for _ in range(repeats + 1):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return float(np.median(times[1:]))


def own(system, rank, accuracy):
    """Energy (hartree), dE/dR (hartree/bohr), seconds."""
    sum_ = Electrostatics(rank=rank, accuracy=accuracy).on(system)
    pairs = NeighbourList().pairs(
        system.positions, system.molecule, system.cell, system.pbc, sum_.cutoff
    )
    system = system._replace(pairs=pairs, moments=system.moments[:, : (rank + 1) ** 2].copy())
    found = sum_.evaluate(system)
    return found.energies.sum(), found.gradient, median(lambda: sum_.evaluate(system))


def by_openmm(system, force, platform):
    """Energy (hartree), dE/dR (hartree/bohr), seconds."""
    import openmm as mm

    whole = mm.System()
    for _ in system.positions:
        whole.addParticle(1.0)
    whole.setDefaultPeriodicBoxVectors(*(mm.Vec3(*row) for row in system.cell * NM))
    whole.addForce(force)
    context = mm.Context(
        whole, mm.VerletIntegrator(0.001), mm.Platform.getPlatformByName(platform),
        {"Threads": "1"} if platform == "CPU" else {},
    )
    positions = system.positions * NM
    context.setPositions(positions)

    def evaluate():
        context.setPositions(positions)  # else nothing is computed again
        return context.getState(getEnergy=True, getForces=True)

    state = evaluate()
    energy = state.getPotentialEnergy()._value / KJ
    gradient = -np.array(state.getForces(asNumpy=True)._value) * NM / KJ
    return energy, gradient, median(evaluate)


def amoeba(system, tolerance):
    """AmoebaMultipoleForce of the moments; its quadrupoles are a third of the traceless ones."""
    import openmm as mm

    force = mm.AmoebaMultipoleForce()
    force.setNonbondedMethod(mm.AmoebaMultipoleForce.PME)
    force.setPolarizationType(mm.AmoebaMultipoleForce.Direct)
    force.setCutoffDistance(0.8)
    force.setEwaldErrorTolerance(tolerance)
    dipoles, quadrupoles = cartesian_from_spherical(system.moments)
    for q, dipole, quadrupole in zip(system.moments[:, 0], dipoles, quadrupoles, strict=True):
        force.addMultipole(
            q, (dipole * NM).tolist(), (quadrupole * NM**2 / 3).ravel().tolist(),
            mm.AmoebaMultipoleForce.NoAxisType, -1, -1, -1, 0.39, 0.0, 0.0,
        )
    for o in range(0, len(system.positions), 3):
        bonded = {o: ([o + 1, o + 2], []), o + 1: ([o], [o + 2]), o + 2: ([o], [o + 1])}
        for atom, (near, far) in bonded.items():
            force.setCovalentMap(atom, mm.AmoebaMultipoleForce.Covalent12, near)
            force.setCovalentMap(atom, mm.AmoebaMultipoleForce.Covalent13, far)
            force.setCovalentMap(
                atom, mm.AmoebaMultipoleForce.PolarizationCovalent11, [o, o + 1, o + 2]
            )
    return force


def charges(system, tolerance):
    """NonbondedForce of the charges."""
    import openmm as mm

    force = mm.NonbondedForce()
    force.setNonbondedMethod(mm.NonbondedForce.PME)
    force.setCutoffDistance(0.8)
    force.setEwaldErrorTolerance(tolerance)
    force.setUseDispersionCorrection(False)
    for q in system.moments[:, 0]:
        force.addParticle(q, 1.0, 0.0)
    for o in range(0, len(system.positions), 3):
        for i, j in ((o, o + 1), (o, o + 2), (o + 1, o + 2)):
            force.addException(i, j, 0.0, 1.0, 0.0)
    return force


def by_torch(system, smearing, spacing):
    """Energy (hartree) without pairs within molecules, dE/dR with them taken out, seconds."""
    import torch
    import torchpme

    torch.set_num_threads(1)
    x, q = system.positions, system.moments[:, 0]
    cutoff = 15.1
    # as if every atom were a molecule, so that pairs within molecules are listed too
    pairs = find_pairs(x, np.arange(len(x)), system.cell, system.pbc, cutoff)
    first, second = (torch.tensor(a.astype(np.int64)) for a in pairs[:2])
    shifts = torch.tensor(pairs.images @ system.cell)
    cell = torch.tensor(system.cell)
    charge = torch.tensor(q[:, None])
    calculator = torchpme.PMECalculator(
        torchpme.CoulombPotential(smearing=smearing), mesh_spacing=spacing, interpolation_nodes=7,
    ).to(dtype=torch.float64)

    def evaluate():
        positions = torch.tensor(x, requires_grad=True)
        distances = torch.linalg.norm(positions[second] - positions[first] + shifts, dim=1)
        potential = calculator(charge, cell, positions, torch.stack([first, second], dim=1),
                               distances)
        energy = (charge * potential).sum()
        energy.backward()
        return energy.item(), positions.grad.numpy()

    energy, gradient = evaluate()
    gradient = gradient.copy()
    for o in range(0, len(x), 3):
        part = slice(o, o + 3)
        distance = cdist(x[part], x[part]) + np.diag([np.inf] * 3)
        product = np.outer(q[part], q[part])
        energy -= 0.5 * np.sum(product / distance)
        d = x[part][:, None] - x[part][None]
        gradient[part] += np.einsum("ij,ijk->ik", product / distance**3, d)
    return energy, gradient, median(evaluate)


def main():
    """Print the table."""
    (model,) = load("water").models
    x, numbers, cell = box(model, 7, np.random.default_rng(0))
    pbc, forcefield = np.ones(3, dtype=bool), ForceField([model], rank=2)
    explicit = np.arange(len(x)).reshape(-1, 3).tolist()
    assignment = forcefield.match(x, numbers, cell, pbc, explicit=explicit)
    moments = forcefield.evaluate(x, numbers, cell, pbc, assignment, moments=True).moments
    _, system, _ = forcefield.molecules(x, numbers, cell, pbc, assignment)
    system = system._replace(moments=moments)
    exact = {rank: own(system, rank, 1e-10)[:2] for rank in (0, 2)}
    runs = [
        ("ase-fflux 1e-6", 2, lambda: own(system, 2, 1e-6)),
        ("ase-fflux 1e-4", 2, lambda: own(system, 2, 1e-4)),
        ("OpenMM AMOEBA 1e-4", 2, lambda: by_openmm(system, amoeba(system, 1e-4), "CPU")),
        ("OpenMM AMOEBA 1e-6", 2, lambda: by_openmm(system, amoeba(system, 1e-6), "CPU")),
        ("ase-fflux 1e-6", 0, lambda: own(system, 0, 1e-6)),
        ("ase-fflux 1e-4", 0, lambda: own(system, 0, 1e-4)),
        ("OpenMM charges 1e-4", 0, lambda: by_openmm(system, charges(system, 1e-4), "CPU")),
        ("torch-pme, mesh 1.0 bohr", 0, lambda: by_torch(system, 2.6, 1.0)),
        ("torch-pme, mesh 0.6 bohr", 0, lambda: by_torch(system, 2.6, 0.6)),
    ]
    print(f"{'program':<28}{'rank':>5}{'ms':>10}{'kJ/mol off':>12}{'of forces':>12}")
    for name, rank, run in runs:
        try:
            energy, gradient, took = run()
        except ImportError as error:
            print(f"{name:<28}{rank:>5}  not installed: {error.name}")
            continue
        reference, slopes = exact[rank]
        off = np.abs(gradient - slopes).max() / np.abs(slopes).max()
        print(f"{name:<28}{rank:>5}{1e3 * took:>10.1f}{abs(energy - reference) * KJ / 343:>12.1e}"
              f"{off:>12.1e}", flush=True)


if __name__ == "__main__":
    main()
