import numpy as np
import pytest

from ase_fflux.alf import choose_alf
from ase_fflux.errors import FFLUXError
from ase_fflux.frames import features, n_features
from ase_fflux.gp.kernels import Kernel
from ase_fflux.joint.uncertainty import Posterior
from ase_fflux.molecule import ENERGY, shared_model
from ase_fflux.shared import Shared, SharedProcess
from ase_fflux.symmetry import Symmetry, find_symmetry

WATER = np.array([[0.0, 0.0, 0.12], [0.0, 1.46, -0.95], [0.0, -1.46, -0.95]])
FLUOROMETHANE = np.array([
    [0.0, 0.0, 0.0], [0.0, 0.0, 2.6],
    [1.94, 0.0, -0.67], [-0.97, 1.68, -0.67], [-0.97, -1.68, -0.67],
])
MOLECULES = {"water": ("OHH", [8, 1, 1], WATER), "CH3F": ("CFHHH", [6, 9, 1, 1, 1], FLUOROMETHANE)}
ENERGY_NOISE, GRADIENT_NOISE = 2e-3, 1e-3


def make(molecule, symmetric=True, n=6, seed=0):
    """A model whose last label has no gradient."""
    symbols, numbers, shape = MOLECULES[molecule]
    rng = np.random.default_rng(seed)
    symmetry = find_symmetry(numbers, shape) if symmetric else Symmetry.none(len(shape))
    alf = symmetry.carried_alf(choose_alf(tuple(symbols), shape, symmetry.permutations))
    geometries = shape + 0.15 * rng.normal(size=(n, *shape.shape))
    gradient_weights = rng.normal(size=geometries.shape)
    gradient_weights[-1] = 0.0
    processes = []
    for atoms in symmetry.classes(alf):
        theta = rng.uniform(0.05, 0.3, n_features(len(shape)))[atoms.tie]
        weights = rng.normal(size=(1, len(atoms.atoms), n))
        processes.append(SharedProcess(
            atoms, (ENERGY,), Kernel.periodic_on_phi(theta), np.zeros(1), weights, 1e-6,
            rng.uniform(0.2, 0.6),
        ))
    shared = Shared(symmetry, tuple(processes), gradient_weights, ENERGY_NOISE, GRADIENT_NOISE)
    return shared_model(molecule, tuple(symbols), alf, shared, shape, geometries)


def query(model, seed=10, spread=0.15):
    shape = model.reference_geometry
    return shape + spread * np.random.default_rng(seed).normal(size=shape.shape)


class Dense:
    """The same process from its definition, all derivatives by finite differences of kernels."""

    step = 0.015
    stencil = ((-2, 1 / 12), (-1, -8 / 12), (1, 8 / 12), (2, -1 / 12))

    def __init__(self, model):
        self.model, self.n_atoms = model, len(model.symbols)
        shared = model.shared
        self.processes = {a: p for p in shared.processes for a in p.atoms.atoms}
        self.index = {p: i for i, p in enumerate(shared.processes)}
        self.n = len(model.geometries)
        self.with_gradient = np.flatnonzero(shared.gradient_weights.any(axis=(1, 2)))

    def operations(self, atom):
        """Those that carry the frame of the first atom of a class to that of an atom."""
        symmetry, alf = self.model.shared.symmetry, self.model.alf
        first, found = self.processes[atom].atoms.atoms[0], {}
        for permutation, mirrored in zip(symmetry.permutations, symmetry.mirrored, strict=True):
            if np.array_equal(permutation[alf[first]], alf[atom]):
                mirrored = bool(mirrored) and self.n_atoms > 3  # a mirror keeps three atoms' frame
                found[*permutation, mirrored] = permutation, mirrored
        return list(found.values())

    def images(self, points, atom):
        first = self.processes[atom].atoms.atoms[0]
        return [
            features(points[:, g] * ([1, 1, -1] if mirrored else [1, 1, 1]), self.model.alf, first)
            for g, mirrored in self.operations(atom)
        ]

    def latent(self, points):
        """Prior covariance (N P, N P) of all atomic energies at points (P, N, 3)."""
        count = len(points)
        k = np.zeros((self.n_atoms, count, self.n_atoms, count))
        for a in range(self.n_atoms):
            for b in range(self.n_atoms):
                process = self.processes[a]
                if process is self.processes[b]:
                    x = self.images(points, a)[0]
                    k[a, :, b] = process.variance * sum(
                        process.kernel.matrix(x, y) for y in self.images(points, b)
                    )
        return k.reshape(self.n_atoms * count, -1)

    def posterior(self, x):
        """Covariance (4N, 4N) of atomic energies and gradient at x (N, 3)."""
        geometries = [*self.model.geometries, x]
        points, slots = [], []
        for geometry in geometries:
            slots.append(len(points))
            points.append(geometry)
            for i in np.ndindex(geometry.shape):
                for k, _ in self.stencil:
                    moved = geometry.copy()
                    moved[i] += k * self.step
                    points.append(moved)
        n_atoms, count = self.n_atoms, len(points)

        def energies(slot):
            rows = np.zeros((n_atoms, n_atoms, count))
            rows[np.arange(n_atoms), np.arange(n_atoms), slot] = 1.0
            return rows.reshape(n_atoms, -1)

        def gradient(slot):
            rows = np.zeros((3 * n_atoms, n_atoms, count))
            for i in range(3 * n_atoms):
                for k, (_, weight) in enumerate(self.stencil):
                    rows[i, :, slot + 1 + 4 * i + k] = weight / self.step
            return rows.reshape(3 * n_atoms, -1)

        observed = np.vstack([
            *(energies(slots[j]) for j in range(self.n)),
            *(gradient(slots[j]) for j in self.with_gradient),
        ])
        asked = np.vstack([energies(slots[-1]), gradient(slots[-1])])
        k = self.latent(np.array(points))
        n_energies = self.n * n_atoms
        noise = np.full(len(observed), GRADIENT_NOISE**2)
        noise[:n_energies] = ENERGY_NOISE**2
        signal = observed @ k @ observed.T
        inverse = np.linalg.inv(signal + np.diag(noise))
        cross = observed @ k @ asked.T
        constant = np.array([[self.processes[a] is p for a in range(n_atoms)] for p in self.index])
        h = np.zeros((len(self.index), len(observed)))
        h[:, :n_energies] = np.tile(constant, self.n)
        h_asked = np.zeros((len(self.index), len(asked)))
        h_asked[:, :n_atoms] = constant
        mean = np.linalg.inv(h @ inverse @ h.T)
        weights = inverse @ (cross + h.T @ mean @ (h_asked - h @ inverse @ cross))
        # these weights on labels whose noise is zero in the sum over the atoms
        true_noise = np.diag(noise)
        true_noise[:n_energies, :n_energies] -= np.kron(
            np.eye(self.n), np.full((n_atoms, n_atoms), ENERGY_NOISE**2 / n_atoms)
        )
        mixed = weights.T @ cross
        return asked @ k @ asked.T - mixed - mixed.T + weights.T @ (signal + true_noise) @ weights


@pytest.mark.parametrize(
    "molecule, symmetric", [("water", False), ("water", True), ("CH3F", False), ("CH3F", True)]
)
def test_covariance_by_definition(molecule, symmetric):
    model = make(molecule, symmetric)
    x = query(model)
    expected = Dense(model).posterior(x)
    found, directions = Posterior(model).covariance(x)
    n_atoms = len(x)
    to_cartesian = np.zeros((4 * n_atoms, len(found)))
    to_cartesian[:n_atoms, :n_atoms] = np.eye(n_atoms)
    to_cartesian[n_atoms:, n_atoms:] = directions
    found = to_cartesian @ found @ to_cartesian.T
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    posterior = Posterior(model)
    stated = posterior.uncertainty(x)
    variances = np.diagonal(expected)
    total = expected[:n_atoms, :n_atoms].sum()
    assert (stated.energy / posterior.scale) ** 2 == pytest.approx(total, rel=1e-4)
    atomic = (stated.energies / posterior.energy_scale) ** 2
    assert atomic == pytest.approx(variances[:n_atoms] + ENERGY_NOISE**2, rel=1e-4)
    forces = (stated.forces.ravel() / posterior.scale) ** 2
    assert forces == pytest.approx(variances[n_atoms:], rel=1e-3, abs=1e-8)
