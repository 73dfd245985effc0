"""Models with made-up weights: what they predict means nothing, what they cost is real."""

import os

import pytest

# bohr; near the trans conformer
ETHANOL = [
    [2.327, -0.738, 0.000], [0.095, 1.072, 0.000], [-2.156, -0.363, 0.000],
    [4.090, 0.314, 0.000], [2.249, -1.936, 1.666], [2.249, -1.936, -1.666],
    [0.174, 2.289, 1.684], [0.174, 2.289, -1.684], [-3.585, 0.761, 0.000],
]
WATER = [[0.0, 0.0, 0.120], [0.0, 1.459, -0.955], [0.0, -1.459, -0.955]]


def pytest_configure():
    """The figures are those of one core; threaded libraries look here when they are loaded."""
    for library in ("OMP", "OPENBLAS", "MKL", "NUMBA"):
        os.environ.setdefault(f"{library}_NUM_THREADS", "1")


def pytest_report_header():
    """Figures taken on a busy machine are worth less: say how busy it was."""
    load = ", ".join(f"{x:.1f}" for x in os.getloadavg())
    return f"load average {load} on {os.cpu_count()} cores"


def make_model(name, symbols, reference, points, theta, properties):
    """A model of which each atom has one process for each group of properties.

    Parameters
    ----------
    name : str
        Name of the molecule.
    symbols : sequence of str
        Elements of N atoms.
    reference : (N, 3) array_like
        Geometry around which the training points scatter (bohr).
    points : int
        Training points of each process.
    theta : float
        Of all features, so that all are active: distances and angles in RBF, azimuths in periodic
        kernels.
    properties : sequence of tuples of str
        Groups of properties that share a kernel.
    """
    import numpy as np

    from ase_fflux.model.alf import choose_alf
    from ase_fflux.model.frames import features, n_features
    from ase_fflux.model.kernels import Kernel
    from ase_fflux.model.molecule import AtomProcess, MoleculeModel
    from ase_fflux.model.process import GaussianProcess

    reference = np.array(reference)
    rng = np.random.default_rng(0)
    geometries = reference + rng.normal(scale=0.1, size=(points, *reference.shape))
    alf = choose_alf(tuple(symbols), reference)
    kernel = Kernel.periodic_on_phi(np.full(n_features(len(symbols)), theta))
    processes = []
    for atom in range(len(symbols)):
        inputs = features(geometries, alf, atom)
        for group in properties:
            mean = rng.normal(scale=0.1, size=len(group))
            weights = rng.normal(scale=1e-3, size=(len(group), points))
            gp = GaussianProcess(inputs, kernel, mean, weights)
            processes.append(AtomProcess(atom, group, gp))
    return MoleculeModel(name, tuple(symbols), alf, tuple(processes), reference, geometries)


@pytest.fixture(scope="session")
def ethanol_model():
    """9 atoms, 1000 training points, one process of 21 active features (27 columns) per atom."""
    return make_model("ethanol", "CCOHHHHHH", ETHANOL, 1000, 0.02, [("iqa",)])


@pytest.fixture(scope="session")
def water_model():
    """3 atoms, 100 training points, energy and all moments up to hexadecapoles."""
    from ase_fflux.model.multipoles import MOMENT_NAMES

    return make_model("water", "OHH", WATER, 100, 0.1, [("iqa",), MOMENT_NAMES])


@pytest.fixture(scope="session")
def bundles(tmp_path_factory, ethanol_model, water_model):
    """Paths of both models as bundles, by name."""
    from ase_fflux.formats.bundle import write_bundle

    folder = tmp_path_factory.mktemp("bundles")
    paths = {}
    for model in (ethanol_model, water_model):
        paths[model.name] = folder / f"{model.name}.fflux"
        write_bundle(paths[model.name], model)
    return paths
