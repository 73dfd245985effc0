from dataclasses import replace

import numpy as np
import pytest

from ase_fflux.base.errors import FFLUXError
from ase_fflux.forcefield import ForceField
from ase_fflux.learn.joint import system, uncertainty
from ase_fflux.learn.joint.data import joint_data
from ase_fflux.learn.joint.posteriors import Posteriors
from ase_fflux.learn.joint.system import Hyperparameters
from ase_fflux.learn.joint.training import solve
from ase_fflux.learn.joint.uncertainty import Posterior
from ase_fflux.model.alf import choose_alf
from ase_fflux.model.frames import features, n_features
from ase_fflux.model.kernels import FORMS, USUAL, Form, Kernel, distances
from ase_fflux.model.molecule import ENERGY, shared_model
from ase_fflux.model.shared import SecondFrames, Shared, SharedProcess, Totals
from ase_fflux.model.symmetry import Symmetry, find_symmetry
from ase_fflux.model.terms import TermProcess, distance_terms
from ase_fflux.topology.graphs import bonds_between

WATER = np.array([[0.0, 0.0, 0.12], [0.0, 1.46, -0.95], [0.0, -1.46, -0.95]])
FLUOROMETHANE = np.array([
    [0.0, 0.0, 0.0], [0.0, 0.0, 2.6],
    [1.94, 0.0, -0.67], [-0.97, 1.68, -0.67], [-0.97, -1.68, -0.67],
])
MOLECULES = {"water": ("OHH", [8, 1, 1], WATER), "CH3F": ("CFHHH", [6, 9, 1, 1, 1], FLUOROMETHANE)}
ENERGY_NOISE, GRADIENT_NOISE, TOTAL_NOISE = 2e-3, 1e-3, 3e-3


def make(
    molecule, symmetric=True, n=6, seed=0, with_energies=None, with_total=(), form=USUAL
):
    """A model whose last label has no gradient."""
    symbols, numbers, shape = MOLECULES[molecule]
    rng = np.random.default_rng(seed)
    symmetry = find_symmetry(numbers, shape) if symmetric else Symmetry.none(len(shape))
    alf = symmetry.carried_alf(choose_alf(tuple(symbols), shape, symmetry.permutations))
    geometries = shape + 0.15 * rng.normal(size=(n, *shape.shape))
    gradient_weights = rng.normal(size=geometries.shape)
    gradient_weights[-1] = 0.0
    totals, having = None, np.arange(n)
    if with_energies is not None:
        having = np.array(with_energies, dtype=int)
        totals = Totals(np.zeros(n), (TOTAL_NOISE,), having)
        totals.weights[list(with_total)] = rng.normal(size=len(with_total))
    processes = []
    for atoms in symmetry.classes(alf):
        theta = rng.uniform(0.05, 0.3, n_features(len(shape)))[atoms.tie]
        if form.inverse:
            theta[distances(len(theta))] *= 20.0
        weights = rng.normal(size=(1, len(atoms.atoms), n))
        if totals is not None:
            weights[:, :, np.setdiff1d(np.arange(n), having)] = 0.0
            weights += totals.weights
        of_atoms = replace(form, terms=False)
        processes.append(SharedProcess(
            atoms, (ENERGY,), Kernel.periodic_on_phi(theta, of_atoms), np.zeros(1), weights, 1e-6,
            rng.uniform(0.2, 0.6),
        ))
    terms, second = [], []
    if form.terms:
        for atoms in symmetry.classes(alf[:, [0, 2, 1]]) if len(shape) > 3 else ():
            theta = rng.uniform(0.05, 0.3, n_features(len(shape)))[atoms.tie]
            second.append(SecondFrames(
                atoms, Kernel.periodic_on_phi(theta, replace(form, terms=False)),
                rng.uniform(0.2, 0.6),
            ))
        for term in distance_terms(symbols, bonds_between(numbers, shape), symmetry):
            terms.append(TermProcess(
                term, rng.uniform(2.0, 6.0, len(term.tie))[term.tie], rng.uniform(0.2, 0.6),
                form.rational,
            ))
    shared = Shared(
        symmetry, tuple(processes), gradient_weights, (ENERGY_NOISE,), (GRADIENT_NOISE,),
        totals=totals, terms=tuple(terms), second=tuple(second),
    )
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
        self.second = {a: p for p in shared.second for a in p.atoms.atoms}
        self.index = {p: i for i, p in enumerate(shared.processes)}
        self.n = len(model.geometries)
        self.with_gradient = np.flatnonzero(shared.gradient_weights.any(axis=(1, 2)))
        self.with_energies, self.with_total = np.arange(self.n), []
        if shared.totals is not None:
            self.with_energies = shared.totals.with_energies
            self.with_total = np.flatnonzero(shared.totals.weights)

    def operations(self, atom, alf):
        """Those that carry the frame of the first atom of a class to that of an atom."""
        symmetry = self.model.shared.symmetry
        first, found = self.processes[atom].atoms.atoms[0], {}
        for permutation, mirrored in zip(symmetry.permutations, symmetry.mirrored, strict=True):
            if np.array_equal(permutation[alf[first]], alf[atom]):
                mirrored = bool(mirrored) and self.n_atoms > 3  # a mirror keeps three atoms' frame
                found[*permutation, mirrored] = permutation, mirrored
        return list(found.values())

    def images(self, points, atom, alf):
        first = self.processes[atom].atoms.atoms[0]
        return [
            features(points[:, g] * ([1, 1, -1] if mirrored else [1, 1, 1]), alf, first)
            for g, mirrored in self.operations(atom, alf)
        ]

    def latent(self, points):
        """Prior covariance (N P, N P) of all atomic energies at points (P, N, 3)."""
        count = len(points)
        k = np.zeros((self.n_atoms, count, self.n_atoms, count))
        alf = self.model.alf
        for processes, frames in ((self.processes, alf), (self.second, alf[:, [0, 2, 1]])):
            for a, process in processes.items():
                x = self.images(points, a, frames)[0]
                for b in process.atoms.atoms:
                    k[a, :, b] += process.variance * sum(
                        process.kernel.matrix(x, y) for y in self.images(points, b, frames)
                    )
        for process in self.model.shared.terms:
            found = np.zeros((count, count))
            form = Form(rational=process.rational)
            columns = process.term.columns(points)
            for x in columns:
                for y in columns:
                    for view in process.term.view_column:
                        d = x[:, None] - y[:, view]
                        found += form.value(d**2 @ process.theta)
            k += process.variance / self.n_atoms**2 * found[None, :, None]
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
            *(energies(slots[j]) for j in self.with_energies),
            *(energies(slots[j]).sum(axis=0) for j in self.with_total),
            *(gradient(slots[j]) for j in self.with_gradient),
        ])
        asked = np.vstack([energies(slots[-1]), gradient(slots[-1])])
        k = self.latent(np.array(points))
        n_energies, t = len(self.with_energies) * n_atoms, len(self.with_total)
        noise = np.full(len(observed), GRADIENT_NOISE**2)
        noise[:n_energies] = ENERGY_NOISE**2
        noise[n_energies : n_energies + t] = TOTAL_NOISE**2
        signal = observed @ k @ observed.T
        inverse = np.linalg.inv(signal + np.diag(noise))
        cross = observed @ k @ asked.T
        constant = np.array([[self.processes[a] is p for a in range(n_atoms)] for p in self.index])
        h = np.zeros((len(self.index), len(observed)))
        h[:, :n_energies] = np.tile(constant, len(self.with_energies))
        h[:, n_energies : n_energies + t] = constant.sum(axis=1)[:, None]
        h_asked = np.zeros((len(self.index), len(asked)))
        h_asked[:, :n_atoms] = constant
        if not n_energies:  # one mean for all atoms
            h, h_asked = h.sum(axis=0)[None], h_asked.sum(axis=0)[None]
        mean = np.linalg.inv(h @ inverse @ h.T)
        weights = inverse @ (cross + h.T @ mean @ (h_asked - h @ inverse @ cross))
        # these weights on labels whose noise is zero in the sum over the atoms
        true_noise = np.diag(noise)
        true_noise[:n_energies, :n_energies] -= np.kron(
            np.diag(~np.isin(self.with_energies, self.with_total)).astype(float),
            np.full((n_atoms, n_atoms), ENERGY_NOISE**2 / n_atoms),
        )
        mixed = weights.T @ cross
        return asked @ k @ asked.T - mixed - mixed.T + weights.T @ (signal + true_noise) @ weights


@pytest.mark.parametrize("molecule, symmetric, options", [
    ("water", False, {}), ("water", True, {}), ("CH3F", False, {}), ("CH3F", True, {}),
    ("CH3F", True, dict(with_energies=[], with_total=range(6))),
    ("water", True, dict(with_energies=[0, 2, 3], with_total=[1, 2, 4])),
    ("water", True, dict(form=FORMS["rbf-inverse"])),
    ("CH3F", True, dict(with_energies=[], with_total=range(6), form=FORMS["rq-inverse"])),
    ("CH3F", True, dict(with_energies=[], with_total=range(6), form=FORMS["rq-inverse-terms"])),
    ("water", False, dict(with_energies=[], with_total=[0, 2, 3], form=FORMS["rbf-terms"])),
])
def test_covariance_by_definition(molecule, symmetric, options):
    model = make(molecule, symmetric, **options)
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
    noise = 0.0 if model.shared.latent else ENERGY_NOISE**2
    assert atomic == pytest.approx(variances[:n_atoms] + noise, rel=1e-4)
    forces = (stated.forces.ravel() / posterior.scale) ** 2
    assert forces == pytest.approx(variances[n_atoms:], rel=1e-3, abs=1e-8)


@pytest.fixture(scope="module")
def fluoromethane():
    model = make("CH3F", n=12)
    return model, Posterior(model)


def test_turned_and_relabelled(fluoromethane):
    model, posterior = fluoromethane
    x = query(model)
    expected = posterior.uncertainty(x)
    turn, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))
    turn *= np.sign(np.linalg.det(turn))
    found = posterior.uncertainty(x @ turn.T + [1.0, -2.0, 3.0])
    assert found.energy == pytest.approx(expected.energy, rel=1e-6)
    assert found.energies == pytest.approx(expected.energies, rel=1e-6)
    lengths = np.linalg.norm(expected.forces, axis=1)
    assert np.linalg.norm(found.forces, axis=1) == pytest.approx(lengths, rel=1e-6)
    symmetry = model.shared.symmetry
    assert len(symmetry) == 6
    # the process of a class in the frame of its first atom knows of these operations alone
    hydrogens = model.shared.processes[-1]
    for permutation, mirrored in zip(symmetry.permutations, symmetry.mirrored, strict=True):
        image = x[permutation] * ([1, 1, -1] if mirrored else [1, 1, 1])
        found = posterior.uncertainty(image).energies
        assert np.ptp(found[list(hydrogens.atoms.atoms)]) > 1e-5
        for atom in hydrogens.atoms.atoms:
            if np.array_equal(model.alf[permutation[atom]], permutation[model.alf[atom]]):
                assert found[atom] == pytest.approx(expected.energies[permutation[atom]], rel=1e-6)


def test_grows_from_labels(fluoromethane):
    model, posterior = fluoromethane
    label = model.geometries[0]
    at_label = posterior.uncertainty(label)
    # a direct observation leaves no more than its noise
    assert at_label.forces.max() <= GRADIENT_NOISE * posterior.scale * (1 + 1e-9)
    bond = label.copy()
    found = []
    for _ in range(4):
        bond = bond + np.eye(5)[1][:, None] * [0.0, 0.0, 0.5]
        found.append(posterior.uncertainty(bond))
    energies = [at_label.energy, *(u.energy for u in found)]
    forces = [at_label.forces.max(), *(u.forces.max() for u in found)]
    assert (np.diff(energies) > 0).all() and (np.diff(forces) > 0).all()


def test_never_negative():
    model = make("water", n=40)
    quiet = replace(model.shared, energy_noise=(1e-7,), gradient_noise=(1e-7,))
    model = replace(model, shared=quiet)
    posterior = Posterior(model)
    for x in model.geometries:
        found = posterior.uncertainty(x)
        for values in (found.energy, found.energies, found.forces):
            assert (np.asarray(values) >= 0).all()  # not NaN


@pytest.mark.parametrize("molecule", ["water", "CH3F"])
def test_left_out_is_what_training_without_it_gives(molecule):
    model, rng = make(molecule, n=7), np.random.default_rng(5)
    shared, geometries = model.shared, model.geometries
    n_atoms, numbers = len(model.symbols), MOLECULES[molecule][1]
    # so much noise of energies that it hardly matters for gradients in which way it cancels
    hyperparameters = Hyperparameters(
        [p.kernel.theta for p in shared.processes],
        np.array([p.variance for p in shared.processes]), np.array([0.5]), np.array([1e-4]),
    )
    energies = 0.1 * rng.normal(size=geometries.shape[:2])
    gradients = 0.1 * rng.normal(size=geometries.shape)

    def trained(labels):
        data = joint_data(
            geometries[labels], energies[labels], gradients[labels], model.alf, shared.symmetry
        )
        result = solve(data, hyperparameters)
        compact = Shared(
            shared.symmetry, tuple(result.processes), result.gradient_weights, (0.5,), (1e-4,)
        )
        return data, shared_model(
            molecule, model.symbols, model.alf, compact, model.reference_geometry,
            geometries[labels],
        )

    data, whole = trained(np.arange(7))
    _, without = trained(np.array([0, 1, 2, 4, 5, 6]))
    first, (left_out, covariance) = Posterior(whole).left_out([1, 3])
    forcefield = ForceField([without])
    assignment = forcefield.match(geometries[3], numbers, explicit=[list(range(n_atoms))])
    predicted = forcefield.evaluate(geometries[3], numbers, assignment=assignment)
    order = [a for p in shared.processes for a in p.atoms.atoms]
    errors = (energies[3] - predicted.energies)[order]
    np.testing.assert_allclose(left_out[:n_atoms], errors, rtol=1e-5, atol=1e-6)
    slopes = (gradients[3] + predicted.forces).ravel() @ data.directions[3]
    projector = np.eye(3 * n_atoms) - data.directions[3] @ data.directions[3].T
    assert np.abs(projector @ predicted.forces.ravel()).max() < 1e-9
    np.testing.assert_allclose(left_out[n_atoms:], slopes, rtol=1e-5, atol=1e-6)
    expected, _ = Posterior(without).covariance(geometries[3])
    expected, found = expected[n_atoms:, n_atoms:], covariance[n_atoms:, n_atoms:]
    expected += 1e-8 * np.eye(len(expected))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * expected.max())


@pytest.mark.parametrize("with_energies", [[], [1, 3, 4]])
def test_left_out_totals(make_labels, observe, shapes, made_up_hyperparameters, with_energies):
    """Errors of a total, its gradient and the atomic energies at a label, by training without it.

    Where no label has atomic energies their class means are not known, but that of the total.
    """
    labels = make_labels("fluoromethane", 7)
    case = observe(
        labels, shapes["fluoromethane"][1], with_energies=np.array(with_energies, dtype=int),
        with_total=np.arange(7),
    )
    h = made_up_hyperparameters(case.data)
    here = [0, 1, 2, 4, 5, 6]

    def trained(data, geometries):
        found = solve(data, h)
        compact = Shared(
            case.symmetry, tuple(found.processes), found.gradient_weights, tuple(h.energy_noise),
            tuple(h.gradient_noise),
            totals=Totals(found.total_weights, tuple(h.total_noise), found.with_energies),
        )
        return shared_model(
            "toy", labels.symbols, case.alf, compact, labels.geometries[0], geometries
        )

    whole = trained(case.data, labels.geometries)
    without = trained(case.data.select(np.array(here)), labels.geometries[here])
    (errors, covariance), = Posterior(whole).left_out([3])
    numbers = MOLECULES["CH3F"][1]
    forcefield = ForceField([without])
    assignment = forcefield.match(labels.geometries[3], numbers, explicit=[list(range(5))])
    predicted = forcefield.evaluate(labels.geometries[3], numbers, assignment=assignment)
    directions = case.data.directions[3]
    expected = [labels.energies[3] - predicted.energy]
    expected += list((labels.gradients[3] + predicted.forces).ravel() @ directions)
    if with_energies:
        order = [a for c in case.data.classes for a in c.atoms]
        expected = [*(labels.atomic_energies[3] - predicted.energies)[order], *expected]
    np.testing.assert_allclose(errors, expected, rtol=1e-5, atol=1e-7)
    assert covariance.shape == (len(expected),) * 2
    there, _ = Posterior(without).covariance(labels.geometries[3])
    there = there[5:, 5:] + h.gradient_noise[0] ** 2 * np.eye(len(directions.T))
    found = covariance[-len(there):, -len(there):]
    np.testing.assert_allclose(found, there, rtol=0, atol=1e-6 * there.max())


def test_scales_tell_how_errors_compare_with_what_is_expected(fluoromethane):
    model, _ = fluoromethane
    shared = model.shared

    def scaled(factor):
        return replace(model, shared=replace(
            shared, gradient_weights=factor * shared.gradient_weights,
            processes=tuple(replace(p, weights=factor * p.weights) for p in shared.processes),
        ))

    once, twice = Posterior(scaled(100.0)), Posterior(scaled(200.0))
    assert once.scale > 1
    assert twice.scale == pytest.approx(2 * once.scale)
    assert twice.energy_scale == pytest.approx(2 * once.energy_scale)
    x = query(model)
    assert twice.uncertainty(x).energy == pytest.approx(2 * once.uncertainty(x).energy)
    assert twice.uncertainty(x).energies == pytest.approx(2 * once.uncertainty(x).energies)
    assert twice.uncertainty(x).forces == pytest.approx(2 * once.uncertainty(x).forces)
    small = Posterior(scaled(1e-9))
    assert small.scale == 1 and small.energy_scale < 1e-3


def test_what_cannot_be_told(chiral_model, fluoromethane):
    with pytest.raises(FFLUXError, match="CHFClBr was not trained on gradients"):
        Posterior(chiral_model)
    model, _ = fluoromethane
    nothing = np.zeros_like(model.shared.gradient_weights)
    with pytest.raises(FFLUXError, match="CH3F was not trained on gradients"):
        Posterior(replace(model, shared=replace(model.shared, gradient_weights=nothing)))
    with pytest.raises(FFLUXError, match="takes .* GB, more than .* use a model of fewer labels"):
        Posterior(model, max_memory=1e3)
    same = replace(
        model, geometries=model.geometries[[0] * 12],
        shared=replace(model.shared, energy_noise=(1e-12,), gradient_noise=(1e-12,)),
    )
    with pytest.raises(FFLUXError, match="not positive definite"):
        Posterior(same)


def test_the_factorisation_is_announced(caplog):
    with caplog.at_level("INFO", logger=uncertainty.__name__):
        Posterior(make("water"))
    assert "6 labels of water" in caplog.text


@pytest.mark.parametrize("options", [
    {}, dict(with_energies=[], with_total=range(6)),
    dict(with_energies=[0, 2, 3], with_total=[1, 2, 4]), dict(form=FORMS["rq-inverse"]),
    dict(with_energies=[], with_total=range(6), form=FORMS["rq-inverse-terms"]),
], ids=["energies", "totals", "mixture", "form", "terms"])
@pytest.mark.parametrize("molecule", MOLECULES)
def test_covariance_of_energies_at_several_geometries(molecule, options):
    model = make(molecule, **options)
    posterior = Posterior(model)
    geometries = np.array([query(model, seed) for seed in (10, 11, 12)])
    covariance = posterior.energy_covariance(geometries)
    alone = [posterior.uncertainty(x).energy for x in geometries]
    assert np.sqrt(np.diagonal(covariance)) == pytest.approx(alone, rel=1e-6)
    # along a short way, the variance of the difference is that of the gradient along it
    step = 1e-3 * np.random.default_rng(3).normal(size=geometries[0].shape)
    near = posterior.energy_covariance(np.array([geometries[0] - step, geometries[0] + step]))
    both, directions = posterior.covariance(geometries[0])
    along = 2 * step.ravel() @ directions
    n_atoms = len(step)
    expected = posterior.scale**2 * along @ both[n_atoms:, n_atoms:] @ along
    assert near[0, 0] + near[1, 1] - 2 * near[0, 1] == pytest.approx(expected, rel=1e-3)


def test_equivalent_geometries_have_one_energy():
    model = make("CH3F")
    geometry = query(model, spread=0.05)
    images = [geometry, geometry[[0, 1, 3, 4, 2]] + 5.0, query(model, 11, 0.05)]
    covariance = Posteriors(ForceField([model])).energy_covariance(
        images, MOLECULES["CH3F"][1]
    )
    assert covariance[0] == pytest.approx(covariance[1], rel=1e-6)
    assert covariance[0, 0] == pytest.approx(covariance[0, 1], rel=1e-6)
    assert covariance[2, 2] != pytest.approx(covariance[0, 0], rel=1e-3)


@pytest.mark.parametrize("options", [{}, dict(with_energies=[1, 2], with_total=[0, 2, 3])])
def test_panels_of_a_large_model_give_the_same(monkeypatch, options):
    model = make("CH3F", **options)
    whole = Posterior(model)
    monkeypatch.setattr(system, "_WHOLE", 0)
    monkeypatch.setattr(system, "_PANEL", 10)
    parts, x = Posterior(model), query(model)
    assert len(parts.factor.schur.panels) > 3
    assert parts.scale == pytest.approx(whole.scale, rel=1e-8)
    assert parts.energy_scale == pytest.approx(whole.energy_scale, rel=1e-8)
    np.testing.assert_allclose(
        parts.covariance(x)[0], whole.covariance(x)[0], rtol=0,
        atol=1e-9 * np.abs(whole.covariance(x)[0]).max(),
    )
