"""Water at CCSD(T) by 25 labels, on top of the bundled B3LYP model.

    python benchmarks/priors_coupled_cluster.py labels.npz --json coupled_cluster.json

Labels are total energies and gradients by PySCF (1s of oxygen frozen) at geometries of
benchmarks/labels: 25 of the training set and 10 of the test trajectory at 300 K, with
cc-pVTZ about 11 s of a core each; what stands in labels.npz is not computed again. Minimum and
harmonic wavenumbers are those of CCSD(T) itself by central differences of its gradients (0.01
bohr), and those of the model by the same function.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.units import _amu, _c, _hbar, _me
from priors import labels_of
from pyscf import cc, gto, scf
from pyscf.cc import ccsd_t_lambda
from pyscf.grad import ccsd_t

from ase_fflux.assess.validate import held_out_errors
from ase_fflux.base.store import write_text
from ase_fflux.base.units import BOHR
from ase_fflux.forcefield import ForceField
from ase_fflux.labels.label import Dataset
from ase_fflux.learn.joint.points import internal_directions
from ase_fflux.training.joint import JointTrainer, JointTraining
from ase_fflux.training.prior import read_prior

SYMBOLS, NUMBERS = ("O", "H", "H"), [8, 1, 1]
TRAINING, TEST = 25, 10
_STEP = 0.01
_SMALL = 1e-6
"""bohr; largest move of the last Newton step to a minimum."""


class Labels:
    """CCSD(T) energies and gradients, kept in a file as they come."""

    def __init__(self, path: Path, basis: str):
        self.path, self.basis, self.known = path, basis, []
        if path.exists():
            with np.load(path) as read:
                self.known = list(zip(read["x"], read["e"], read["g"], strict=True))

    def __call__(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        for there, energy, gradient in self.known:
            if np.array_equal(there, x):
                return float(energy), gradient
        atoms = list(zip(SYMBOLS, x, strict=True))
        molecule = gto.M(atom=atoms, unit="bohr", basis=self.basis, verbose=0)
        field = scf.RHF(molecule).run(conv_tol=1e-11)
        cluster = cc.CCSD(field, frozen=1)
        cluster.conv_tol, cluster.conv_tol_normt = 1e-9, 1e-7
        cluster.kernel()
        if not cluster.converged:
            raise RuntimeError("coupled cluster did not converge")
        energy = cluster.e_tot + cluster.ccsd_t()
        integrals = cluster.ao2mo()
        # the multipliers of CCSD, which are the default, are off by 2 % of a gradient
        converged, l1, l2 = ccsd_t_lambda.kernel(
            cluster, integrals, cluster.t1, cluster.t2, tol=1e-8, verbose=0
        )
        if not converged:
            raise RuntimeError("the multipliers of CCSD(T) did not converge")
        gradient = ccsd_t.Gradients(cluster).kernel(
            cluster.t1, cluster.t2, l1, l2, eris=integrals
        )
        self.known.append((x, energy, gradient))
        arrays = zip(*self.known, strict=True)
        np.savez(self.path, **dict(zip("xeg", map(np.array, arrays), strict=True)))
        print(f"{len(self.known)} labels", flush=True)
        return energy, gradient


def labelled(labels: Labels, geometries: np.ndarray) -> Dataset:
    """Geometries with their labels."""
    found = [labels(x) for x in geometries]
    return Dataset(
        SYMBOLS, geometries, np.array([e for e, _ in found]), np.array([g for _, g in found]),
        method=f"CCSD(T)/{labels.basis}",
    )


def minimum(gradient, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A minimum near x by Newton steps, and harmonic wavenumbers (cm-1) there."""
    hessian = curvature(gradient, x)
    for _ in range(10):
        directions = internal_directions(x[None])[0]
        step = np.linalg.solve(
            directions.T @ hessian @ directions, -directions.T @ gradient(x).ravel()
        )
        x = x + (directions @ step).reshape(x.shape)
        if np.abs(step).max() < _SMALL:
            break
    masses = np.repeat(Atoms(SYMBOLS).get_masses() * _amu / _me, 3)
    squares = np.linalg.eigvalsh(curvature(gradient, x) / np.sqrt(np.outer(masses, masses)))
    hartree = 4.3597447222e-18
    return x, np.sqrt(squares[-3:]) * hartree / (_hbar * 2 * np.pi * _c * 100)


def curvature(gradient, x: np.ndarray) -> np.ndarray:
    """Second derivatives (9, 9) along internal directions; there are no others at a minimum."""
    directions = internal_directions(x[None])[0]
    rows = [
        (gradient(x + _STEP * d.reshape(x.shape)) - gradient(x - _STEP * d.reshape(x.shape)))
        .ravel() / (2 * _STEP) for d in directions.T
    ]
    hessian = np.array(rows) @ directions
    return directions @ (0.5 * (hessian + hessian.T)) @ directions.T


def geometry(x: np.ndarray) -> tuple[float, float]:
    """O-H (Angstrom) and H-O-H (degrees)."""
    atoms = Atoms(SYMBOLS, x * BOHR)
    return float(atoms.get_distance(0, 1)), float(atoms.get_angle(1, 0, 2))


def model_gradient(model):
    forcefield = ForceField([model])
    return lambda x: -forcefield.evaluate(x, NUMBERS).forces


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("labels", type=Path)
    parser.add_argument("--basis", default="cc-pVTZ")
    parser.add_argument("--json", type=Path, required=True)
    args = parser.parse_args()
    labels = Labels(args.labels, args.basis)
    sampled, unseen = labels_of("water", "train"), labels_of("water", "test")
    order = np.random.default_rng(0).permutation(len(sampled))
    training = labelled(labels, sampled.geometries[order[:TRAINING]])
    test = labelled(labels, unseen.geometries[:: len(unseen) // TEST][:TEST])
    reference = training.geometries[np.argmin(training.energies)]
    prior = read_prior("water-b3lyp", SYMBOLS, reference)
    results = {}
    for name, below in (("B3LYP", None), ("scratch", None), ("prior", prior)):
        if name == "B3LYP":
            model = replace(prior.model, name="b3lyp")
        else:
            trainer = JointTrainer(
                training, reference, JointTraining(which="none"), prior=below
            )
            model = trainer.model("model", trainer.solve(trainer.hyperparameters()), [])
        x, wavenumbers = minimum(model_gradient(model), reference)
        errors = held_out_errors(model, test)
        results[name] = {
            "force": errors.force_rmse_ev_per_angstrom, "energy": errors.energy_rmse_kj_per_mol,
            "geometry": geometry(x), "wavenumbers": wavenumbers.tolist(),
        }
        print(name, results[name], flush=True)
    x, wavenumbers = minimum(lambda y: labels(y)[1], x)
    results["CCSD(T)"] = {"geometry": geometry(x), "wavenumbers": wavenumbers.tolist()}
    print(results["CCSD(T)"])
    write_text(args.json, json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
