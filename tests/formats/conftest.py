"""Made-up models: any smooth functions of any geometries will do."""

import numpy as np
import pytest

from ase_fflux.electrostatics.multipoles import MOMENT_NAMES
from ase_fflux.frames import features, n_features
from ase_fflux.gp.kernels import Kernel
from ase_fflux.gp.process import GaussianProcess
from ase_fflux.molecule import AtomProcess, MoleculeModel

ALF = {
    2: np.array([[0, 1, -1], [1, 0, -1]]),
    3: np.array([[0, 1, 2], [1, 0, 2], [2, 0, 1]]),
    4: np.array([[0, 1, 2], [1, 0, 2], [2, 0, 3], [3, 0, 1]]),
}
SHAPE = np.array([[0.0, 0.0, 0.2], [1.8, 0.1, 0.0], [-0.6, 1.7, 0.1], [-0.7, -1.6, 0.4]])


def fit(inputs, targets, kernel, noise=1e-8):
    """Process of targets (P, n)."""
    mean = targets.mean(axis=1)
    k = kernel.matrix(inputs, inputs) + noise * np.eye(len(inputs))
    weights = np.linalg.solve(k, (targets - mean[:, None]).T).T
    return GaussianProcess(inputs, kernel, mean, weights, noise)


@pytest.fixture(scope="session")
def fit_process():
    return fit


@pytest.fixture(scope="session")
def make_molecule():
    """Function that makes a model with energies, moments up to a rank and training geometries."""

    def make(n_atoms=4, n_points=25, rank=1, seed=0, name="made_up", with_geometries=True):
        rng = np.random.default_rng(seed)
        geometries = SHAPE[:n_atoms] + 0.15 * rng.normal(size=(n_points, n_atoms, 3))
        alf, names = ALF[n_atoms], MOMENT_NAMES[: (rank + 1) ** 2]
        processes = []
        for atom in range(n_atoms):
            x = features(geometries, alf, atom)
            f = n_features(n_atoms)
            pattern = rng.normal(size=(f, 1 + len(names)))
            targets = 0.05 * np.sin(x @ pattern).T
            targets[0] -= 40.0
            energy = Kernel.periodic_on_phi(rng.uniform(0.01, 0.5, f))
            moments = Kernel.periodic_on_phi(rng.uniform(0.01, 0.5, f))
            processes.append(AtomProcess(atom, ("iqa",), fit(x, targets[:1], energy)))
            if names:
                processes.append(AtomProcess(atom, names, fit(x, targets[1:], moments)))
        return MoleculeModel(
            name, tuple("NHHO"[:n_atoms]), alf, tuple(processes), SHAPE[:n_atoms].copy(),
            geometries if with_geometries else None,
            {"source": "made up", "test": {"energy RMSE": {"value": 1.5, "unit": "kJ/mol"}}},
        )

    return make


def predictions(model, seed=5, m=20):
    """{(atom, property): (m,) predictions} at random features around the training inputs."""
    rng = np.random.default_rng(seed)
    probes = {}
    for p in model.processes:
        if p.atom not in probes:
            x = p.gp.inputs
            probes[p.atom] = x[rng.integers(len(x), size=m)] + 0.1 * rng.normal(
                size=(m, x.shape[1])
            )
    return {
        (p.atom, name): values
        for p in model.processes
        for name, values in zip(p.properties, p.gp.predict(probes[p.atom]), strict=True)
    }


@pytest.fixture(scope="session")
def predict_all():
    return predictions


@pytest.fixture(scope="session")
def assert_same_predictions():
    """Function that compares two models at random features: equal to 1e-12."""

    def compare(a, b):
        first, second = predictions(a), predictions(b)
        assert first.keys() == second.keys()
        for key, values in first.items():
            np.testing.assert_allclose(second[key], values, rtol=0, atol=1e-12, err_msg=str(key))

    return compare
