"""Made-up models: any smooth functions of any geometries will do."""

import io
import json
import zipfile
from functools import reduce
from operator import getitem

import numpy as np
import pytest

from ase_fflux.formats.bundle import read_bundle
from ase_fflux.model.frames import features, n_features
from ase_fflux.model.kernels import Kernel
from ase_fflux.model.molecule import AtomProcess, MoleculeModel
from ase_fflux.model.multipoles import MOMENT_NAMES
from ase_fflux.model.process import GaussianProcess

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
            targets[0] -= 0.5 * (8 if atom == 3 else 7 if atom == 0 else 1) ** 2.4
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


def atomic_values(model, geometries):
    """{(atom, property): (G,) predictions} at geometries, orders and reflections undone here."""
    values = {}
    for p in model.processes:
        x = features(geometries, model.alf, p.atom)
        if p.order is not None:
            x = x[:, p.order]
        if p.mirrored:
            x[:, 4::3] = np.pi - x[:, 4::3]
        for name, value in zip(p.properties, p.gp.predict(x), strict=True):
            odd = name in ("q10", "q21c", "q21s")
            values[p.atom, name] = -value if p.mirrored and odd else value
    return values


@pytest.fixture(scope="session")
def assert_same_atoms():
    """Function that compares all properties of all atoms (up to rank 2) at random geometries."""

    def compare(a, b, tolerance=1e-10):
        rng = np.random.default_rng(9)
        geometries = a.reference_geometry + 0.1 * rng.normal(size=(10, len(a.symbols), 3))
        first, second = atomic_values(a, geometries), atomic_values(b, geometries)
        assert first.keys() == second.keys()
        for key, value in first.items():
            np.testing.assert_allclose(second[key], value, rtol=0, atol=tolerance, err_msg=str(key))

    return compare


def rebuilt_bundle(content, header=None, arrays=None, drop=()):
    """The bundle with changes: to the header (a function, or keys with the value there), to arrays
    (by name), without some."""
    target = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(target, "w") as new:
        names = [*old.namelist(), *(f"{n}.npy" for n in arrays or {})]
        for name in dict.fromkeys(names):
            if name in drop:
                continue
            if name == "header.json":
                parsed = json.loads(old.read(name))
                if isinstance(header, tuple):
                    *path, last, value = header
                    reduce(getitem, path, parsed)[last] = value
                elif header:
                    parsed = header(parsed) or parsed
                new.writestr(name, json.dumps(parsed))
            elif name[:-4] in (arrays or {}):
                buffer = io.BytesIO()
                np.save(buffer, arrays[name[:-4]])
                new.writestr(name, buffer.getvalue())
            else:
                new.writestr(name, old.read(name))
    return target.getvalue()


@pytest.fixture(scope="session")
def rebuilt():
    return rebuilt_bundle


@pytest.fixture
def read_bytes(tmp_path):
    def read(content):
        (tmp_path / "m.fflux").write_bytes(content)
        return read_bundle(tmp_path / "m.fflux")

    return read
