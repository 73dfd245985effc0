import os

# before anything loads an OpenMP runtime: label sources repeat to the last bit on one thread only
os.environ.setdefault("OMP_NUM_THREADS", "1")

import importlib
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from hypothesis import settings

HERE = Path(__file__).resolve().parent

# the same examples every time, so that nothing fails by chance;
# `pytest --hypothesis-profile=explore` looks for new ones
settings.register_profile("fixed", deadline=None, derandomize=True)
settings.register_profile("explore", deadline=None, print_blob=True)
settings.load_profile("fixed")


@pytest.fixture(scope="session")
def spring_source():
    """The label source `Springs`; workers get the path of this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(HERE)
        yield importlib.import_module("springs_source").Springs


@pytest.fixture(scope="session")
def reference() -> Path:
    """Folder of the published data; tests on it skip where it is absent."""
    folder = Path(os.environ.get("FFLUX_REFERENCE", HERE.parents[1] / "shared" / "reference"))
    if not folder.is_dir():
        pytest.skip(f"published reference data not found at {folder} (set FFLUX_REFERENCE)")
    return folder


@pytest.fixture(scope="session")
def published_water(reference):
    """The published models of water as a `MoleculeModel`: energies and moments up to rank 2."""
    from ase_fflux.formats.model_directory import read_model_directory

    return read_model_directory(reference / "water343" / "model_krig")


@pytest.fixture(scope="session")
def water_dimer(reference):
    """Contents of expected_dimer_cluster_L3.npz."""
    with np.load(reference / "water343" / "expected_dimer_cluster_L3.npz") as content:
        return dict(content)


# bond lengths (bohr) of a distorted tetrahedron around the first atom
_LENGTHS = {"H": 2.05, "F": 2.6, "Cl": 3.5, "Br": 3.9}
_CORNERS = np.array([[1, 1, 1.1], [1.1, -1, -1], [-1, 1.2, -0.9], [-1.1, -0.9, 1]])
_CORNERS /= np.linalg.norm(_CORNERS, axis=1)[:, None]


def _made_up_model(symbols, rank=4, n_points=30, seed=0, spread=0.15):
    from ase_fflux.model.frames import features
    from ase_fflux.model.kernels import Kernel
    from ase_fflux.model.molecule import AtomProcess, MoleculeModel
    from ase_fflux.model.multipoles import MOMENT_NAMES
    from ase_fflux.model.process import GaussianProcess

    rng = np.random.default_rng(seed)
    stretch = 1 + 0.02 * np.arange(4)  # so that no two hydrogens are equal by symmetry
    lengths = stretch * [_LENGTHS[s] for s in symbols[1:]]
    shape = np.vstack([np.zeros(3), _CORNERS * lengths[:, None]])
    geometries = shape + spread * rng.normal(size=(n_points, 5, 3))
    alf = np.array([[0, 1, 2], [1, 0, 2], [2, 0, 1], [3, 0, 4], [4, 0, 3]])
    names = MOMENT_NAMES[: (rank + 1) ** 2]
    charges = rng.uniform(-0.4, 0.4, 5)
    charges -= charges.mean()
    processes = []
    for atom in range(5):
        x = features(geometries, alf, atom)
        energy = Kernel.periodic_on_phi(rng.uniform(0.02, 0.3, 9))
        weights = 0.01 * rng.normal(size=(1, n_points))
        mean = np.array([-1.0 - atom])
        processes.append(AtomProcess(atom, ("iqa",), GaussianProcess(x, energy, mean, weights)))
        if names:
            moments = Kernel.periodic_on_phi(rng.uniform(0.02, 0.3, 9))
            weights = 0.05 * rng.normal(size=(len(names), n_points))
            mean = 0.3 * rng.normal(size=len(names))
            mean[0] = charges[atom]
            gp = GaussianProcess(x, moments, mean, weights)
            processes.append(AtomProcess(atom, names, gp))
    name = "".join(symbols)
    return MoleculeModel(name, tuple(symbols), alf, tuple(processes), shape, geometries)


@pytest.fixture(scope="session")
def make_made_up():
    """Function that makes a model of a tetrahedral molecule of five atoms with random weights.

    Its energies and moments mean nothing but are smooth functions of the geometry.
    """
    return _made_up_model


@pytest.fixture(scope="session")
def chiral_model():
    """Made-up CHFClBr with moments up to hexadecapoles: no two of its atoms are equivalent."""
    return _made_up_model(["C", "H", "F", "Cl", "Br"])


@pytest.fixture(scope="session")
def methyl_model():
    """Made-up CH3F with moments up to quadrupoles: 6 ways to label its hydrogens."""
    return _made_up_model(["C", "F", "H", "H", "H"], rank=2, seed=1)


def _plausible(model):
    from dataclasses import replace

    from ase.data import atomic_numbers

    processes = []
    for process in model.processes:
        gp = process.gp
        mean = gp.mean.copy()
        if process.properties == ("iqa",):
            mean[0] = -0.4 * atomic_numbers[model.symbols[process.atom]]
        else:
            mean[0] -= gp.predict(gp.inputs)[0].mean() - gp.mean[0]
        processes.append(replace(process, gp=replace(gp, mean=mean)))
    return replace(model, processes=tuple(processes))


@pytest.fixture(scope="session")
def plausible():
    """``plausible(model)``: a made-up model with energies and charges that files may have."""
    return _plausible


_FLUOROMETHANE = np.array([
    [0.0, 0.0, 0.0], [0.0, 0.0, 2.6],
    [1.94, 0.0, -0.67], [-0.97, 1.68, -0.67], [-0.97, -1.68, -0.67],
])


def _shared_fluoromethane(n_points=40, rank=1, gradients=True, seed=0, beside=0):
    from ase_fflux.model.alf import choose_alf
    from ase_fflux.model.frames import n_features
    from ase_fflux.model.kernels import Kernel
    from ase_fflux.model.molecule import shared_model
    from ase_fflux.model.multipoles import MOMENT_NAMES
    from ase_fflux.model.shared import Shared, SharedProcess
    from ase_fflux.model.symmetry import find_symmetry

    rng = np.random.default_rng(seed)
    geometries = _FLUOROMETHANE + 0.12 * rng.normal(size=(n_points, 5, 3))
    symmetry = find_symmetry([6, 9, 1, 1, 1], _FLUOROMETHANE)
    symbols = ("C", "F", "H", "H", "H")
    alf = symmetry.carried_alf(choose_alf(symbols, _FLUOROMETHANE, symmetry.permutations))
    distance = np.linalg.norm(geometries[:, :, None] - geometries[:, None], axis=-1)
    rest = np.linalg.norm(_FLUOROMETHANE[:, None] - _FLUOROMETHANE, axis=-1)
    energies = 0.1 * np.square(distance - rest).sum(axis=2) - 1.0
    names = MOMENT_NAMES[: (rank + 1) ** 2]
    shares = 1e-4 * rng.normal(size=geometries.shape)
    shares[n_points // 2:] = 0.0
    more = None
    if beside:
        more = _FLUOROMETHANE + 0.03 * np.random.default_rng(seed).normal(size=(beside, 5, 3))
    processes = []
    for atoms in symmetry.classes(alf):
        for properties in [("iqa",), names][: 2 if names else 1]:
            points = n_points + (beside if properties == names else 0)
            shape = len(atoms.atoms), points
            theta = rng.uniform(0.05, 0.2, n_features(5))[atoms.tie]
            mean = rng.normal(size=len(properties))
            weights = rng.normal(size=(len(properties), *shape))
            mean[0] = mean[0] - 1.0 if properties == ("iqa",) else 0.0  # charges sum to about 0
            process = SharedProcess(
                atoms, properties, Kernel.periodic_on_phi(theta), mean,
                0.01 * (weights - weights.mean(axis=(1, 2), keepdims=True)), 1e-8,
            )
            if properties == ("iqa",):
                # the energies of springs, interpolated: dynamics keep the molecule together
                gp = process.expand(geometries, alf)
                images = gp.inputs.reshape(len(atoms.view_order), -1, n_features(5))
                k = sum(gp.kernel.matrix(images[0], image) for image in images)
                values = energies[:, atoms.atoms].T.ravel() - gp.mean
                weights = np.linalg.solve(k + 1e-8 * np.eye(len(k)), values)
                process = SharedProcess(
                    atoms, properties, gp.kernel, gp.mean, weights.reshape(1, *shape), 1e-8,
                    0.5 if gradients else 0.0,
                )
            processes.append(process)
    shared = Shared(
        symmetry, tuple(processes), shares if gradients else None, (1e-6,), (1e-5,),
        moment_geometries=more,
    )
    return shared_model(
        "fluoromethane", symbols, alf, shared, _FLUOROMETHANE.copy(), geometries,
        {"source": "springs"},
    )


@pytest.fixture(scope="session")
def make_shared():
    """Function that makes a model of CH3F whose hydrogens share processes, images included.

    Its energies are those of springs, disturbed by weights on kernel derivatives of the first half
    of the labels; its moments mean nothing, and have so many points ``beside``.
    """
    return _shared_fluoromethane


def _central_differences(function, x, step=1e-2):
    x = np.asarray(x, dtype=float)
    slopes = []
    for i in np.ndindex(x.shape):
        d = np.zeros_like(x)
        d[i] = step
        slopes.append(
            sum(
                c * np.subtract(function(x + k * d), function(x - k * d))
                for k, c in enumerate((4 / 5, -1 / 5, 4 / 105, -1 / 280), start=1)
            )
            / step
        )
    return np.reshape(slopes, x.shape + np.shape(slopes[0]))


@pytest.fixture(scope="session")
def central_differences():
    """``central_differences(function, x, step)``: derivative for each element of x.

    Of eighth order, so that steps can be long: a sum with large weights has rounding errors.
    """
    return _central_differences


_SHAPES = {
    "water": ("OHH", np.array([[0.0, 0.0, 0.12], [0.0, 1.46, -0.95], [0.0, -1.46, -0.95]])),
    "fluoromethane": ("CFHHH", _FLUOROMETHANE),
    "formaldehyde": ("COHH", np.array([
        [0.0, 0.0, 0.0], [0.0, 0.0, 2.28], [0.0, 1.77, -1.1], [0.0, -1.77, -1.1]
    ])),
    "nitrogen": ("NN", np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 2.1]])),
}


def _labels_of_toy(molecule, n, seed=0, spread=0.1, flat=False, geometries=None):
    from ase.symbols import symbols2numbers

    from ase_fflux.labels.dataset import Dataset

    symbols, shape = _SHAPES[molecule]
    numbers = np.array(symbols2numbers(symbols))
    x = shape + spread * np.random.default_rng(seed).normal(size=(n, *shape.shape))
    if flat:
        x[:, :, 0] = 0.0
    if geometries is not None:
        x = np.asarray(geometries)
    vectors = x[:, :, None] - x[:, None]
    apart = ~np.eye(len(numbers), dtype=bool)
    distances = np.linalg.norm(vectors, axis=-1) + ~apart
    near = np.exp(-0.5 * distances) * apart
    crowd = near.sum(axis=2)
    pair, own = 0.2 * np.sqrt(np.outer(numbers, numbers)), 0.05 * numbers
    energies = (0.5 * pair * near).sum(axis=2) + own * crowd**2 - 0.5 * numbers
    by_near = pair + 2.0 * ((own * crowd)[:, :, None] + (own * crowd)[:, None])
    pull = -0.5 * by_near * near / distances
    gradients = (pull[..., None] * vectors).sum(axis=2)
    # moments: what neighbours make, along the vectors to them
    strength = 0.1 * near * numbers
    u, v, w = np.moveaxis(vectors / distances[..., None], -1, 0)
    root = np.sqrt(3.0)
    parts = [
        np.ones_like(u), w, u, v, 1.5 * w**2 - 0.5 * apart, root * u * w, root * v * w,
        0.5 * root * (u**2 - v**2), root * u * v,
    ]
    moments = np.stack([(strength * part).sum(axis=2) for part in parts], axis=-1)
    flow = 0.1 * near * (numbers[None] - numbers[:, None])  # charges sum to zero
    moments[:, :, 0] = flow.sum(axis=2)
    dipoles = np.einsum("na,nai->ni", moments[:, :, 0], x) + moments[:, :, [2, 3, 1]].sum(axis=1)
    return Dataset(
        tuple(symbols), x, energies.sum(axis=1), gradients, energies, moments, dipoles,
        np.full(n, "toy"), "toy",
    )


@pytest.fixture(scope="session")
def make_labels():
    """``make_labels(molecule, n, seed, spread, flat)``: labels of an analytic toy potential.

    Atomic energies and moments are smooth functions of distances and directions that know no other
    order of like atoms and no hand; gradients are exact. Molecules: water, fluoromethane,
    formaldehyde, nitrogen; ``flat`` ones lie in the yz-plane, ``geometries`` (n, N, 3) are taken
    as they are.
    """
    return _labels_of_toy


@pytest.fixture(scope="session")
def shapes():
    """Symbols and minimum (bohr) of the molecules of ``make_labels``."""
    return _SHAPES


class Springs(Calculator):
    """Springs between atoms, bending of linear triples, fixed charges: known modes.

    E = 1/2 sum k (|r_ij| - r0)^2 + 1/2 sum b |u_ji + u_jk|^2, j the middle atom, u unit vectors.
    """

    implemented_properties = ["energy", "forces", "dipole"]

    def __init__(self, springs, bends=(), charges=None):
        super().__init__()
        self.springs, self.bends, self.charges = springs, bends, charges
        self.calls = 0
        if charges is None:
            self.implemented_properties = ["energy", "forces"]

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        assert not self.atoms.pbc.any()
        self.calls += 1
        x = self.atoms.positions
        energy, forces = 0.0, np.zeros_like(x)
        for i, j, k, length in self.springs:
            d = x[j] - x[i]
            r = np.linalg.norm(d)
            energy += k * (r - length) ** 2 / 2
            pull = k * (r - length) * d / r
            forces[i] += pull
            forces[j] -= pull
        for i, j, k, b in self.bends:
            ends = [x[i] - x[j], x[k] - x[j]]
            units = [d / np.linalg.norm(d) for d in ends]
            total = units[0] + units[1]
            energy += b * total @ total / 2
            for atom, d, u in zip((i, k), ends, units, strict=True):
                force = -b * (total - u * (u @ total)) / np.linalg.norm(d)
                forces[atom] += force
                forces[j] -= force
        self.results = {"energy": energy, "forces": forces}
        if self.charges is not None:
            self.results["dipole"] = np.array(self.charges) @ x


@pytest.fixture
def springs():
    """The class `Springs`."""
    return Springs


@pytest.fixture
def diatomic():
    """CO with k = 30 eV/A^2 and charges of +-0.4 e, across no axis, 1.2 A long."""
    axis = np.array([1.0, 2.0, -2.0]) / 3
    atoms = Atoms("CO", [axis * 0, axis * 1.2])
    atoms.calc = Springs([(0, 1, 30.0, 1.2)], charges=[0.4, -0.4])
    return atoms


@pytest.fixture
def triangle():
    """Equilateral O3 with k = 20 eV/A^2 on each side, without dipole."""
    corners = [(0, 0, 0), (1.5, 0, 0), (0.75, 1.5 * np.sqrt(0.75), 0)]
    atoms = Atoms("O3", corners)
    atoms.calc = Springs([(i, j, 20.0, 1.5) for i, j in ((0, 1), (1, 2), (0, 2))])
    return atoms


@pytest.fixture
def linear_triatomic():
    """OCO along x: 1.2 A, k = 90 eV/A^2, bending b = 6 eV, charges -0.3, 0.6, -0.3 e."""
    atoms = Atoms("OCO", [(-1.2, 0, 0), (0, 0, 0), (1.2, 0, 0)])
    atoms.calc = Springs(
        [(0, 1, 90.0, 1.2), (1, 2, 90.0, 1.2)], [(0, 1, 2, 6.0)], charges=[-0.3, 0.6, -0.3]
    )
    return atoms


@pytest.fixture
def tetrahedron():
    """An irregular four-atom molecule (6 springs at their lengths): no symmetry, charged."""
    x = np.array([(0, 0, 0), (1.4, 0.1, 0), (-0.5, 1.1, 0.2), (0.3, -0.4, 1.0)])
    pairs = [(i, j) for i in range(4) for j in range(i)]
    atoms = Atoms("CNOF", x)
    atoms.calc = Springs(
        [(i, j, 10.0 + 5 * i + j, np.linalg.norm(x[i] - x[j])) for i, j in pairs],
        charges=[0.5, -0.3, -0.4, 0.2],
    )
    return atoms
