"""The joint process from its definition, with dense matrices in Cartesian coordinates."""

from dataclasses import dataclass

import numpy as np
import pytest
from ase.symbols import symbols2numbers

from ase_fflux.learn.joint.data import joint_data
from ase_fflux.learn.joint.system import Hyperparameters
from ase_fflux.model.alf import choose_alf
from ase_fflux.model.frames import feature_jacobians, features, n_features
from ase_fflux.model.kernels import USUAL, azimuths, distances
from ase_fflux.model.symmetry import AtomClass, Symmetry, find_symmetry
from ase_fflux.model.terms import DistanceTerm, distance_terms
from ase_fflux.topology.graphs import bonds_between


@dataclass(frozen=True, eq=False)
class Case:
    """Labels, what symmetry is known of them, and what the joint process makes of them."""

    labels: object
    symmetry: Symmetry
    alf: np.ndarray
    data: object

    def operations(self, atom, alf=None):
        """Those that carry the frame of the first atom of its class to an atom's, each once."""
        alf = self.alf if alf is None else alf
        first = next(c.atoms[0] for c in self.data.classes if atom in c.atoms)
        ours, theirs = (frame[frame >= 0] for frame in (alf[atom], alf[first]))
        found = {}
        for p, mirrored in zip(self.symmetry.permutations, self.symmetry.mirrored, strict=True):
            if np.array_equal(p[theirs], ours):
                hand = bool(mirrored) and len(self.alf) > 3  # three atoms lie in their mirror
                found[*p.tolist(), hand] = first, p, hand
        return list(found.values())

    def image(self, x, operation, alf=None):
        """Features (n, F) of the first atom in an image of x, their slopes (n, F, 3N) by x."""
        alf = self.alf if alf is None else alf
        first, p, mirrored = operation
        mirror = np.array([1.0, 1.0, -1.0 if mirrored else 1.0])
        moved = x[:, p] * mirror
        slopes = np.zeros((len(x), n_features(x.shape[1]), *x.shape[1:]))
        slopes[:, :, p] = feature_jacobians(moved, alf, first) * mirror
        return features(moved, alf, first), slopes.reshape(*slopes.shape[:2], -1)

    def entering(self, form, features, slopes):
        """Distances as 1/R, where the form has it so."""
        if not form.inverse:
            return features, slopes
        h = np.arange(1, features.shape[1] + 1)
        for d in np.flatnonzero((h < 3) | (h % 3 == 1)):
            slopes[:, d] /= -features[:, [d]] ** 2
            features[:, d] = 1.0 / features[:, d]
        return features, slopes

    def covariance(self, h, x, y):
        """Prior covariance (n, 4N, n', 4N) of atomic energies and total gradients at x and y."""
        n_atoms = x.shape[1]
        phi = azimuths(n_features(n_atoms))
        out = np.zeros((len(x), 4 * n_atoms, len(y), 4 * n_atoms))
        seen = [(c, self.alf) for c in self.data.classes]
        if h.form.terms:
            exchanged = self.alf[:, [0, 2, 1]]
            seen += [(c, exchanged) for c in self.data.beside if isinstance(c, AtomClass)]
        for (c, alf), theta, variance in zip(seen, h.theta, h.variance, strict=False):
            for a in c.atoms:
                f, slopes = self.entering(h.form, *self.image(x, self.operations(a, alf)[0], alf))
                for b in c.atoms:
                    for operation in self.operations(b, alf):
                        g, other_slopes = self.entering(h.form, *self.image(y, operation, alf))
                        d = f[:, None] - g
                        square = np.where(phi, 2.0 - 2.0 * np.cos(d), d**2)
                        e = (square @ theta)[..., None]
                        k = fall = curve = np.exp(-e)
                        if h.form.rational:
                            k, fall, curve = (1 + e / 2)**-2, (1 + e / 2)**-3, 1.5 * (1 + e / 2)**-4
                        k, fall, curve = variance * k, variance * fall, variance * curve
                        t = theta * np.where(phi, 2.0 * np.sin(d), 2.0 * d)
                        bend = theta * np.where(phi, 2.0 * np.cos(d), 2.0)
                        left = np.einsum("ijf,ifx->ijx", t, slopes)
                        right = np.einsum("ijf,jfx->ijx", t, other_slopes)
                        out[:, a, :, b] += k[..., 0]
                        out[:, a, :, n_atoms:] += fall * right
                        out[:, n_atoms:, :, b] -= (fall * left).transpose(0, 2, 1)
                        both = fall[..., None] * np.einsum(
                            "ijf,ifx,jfy->ijxy", bend, slopes, other_slopes, optimize=True
                        ) - curve[..., None] * left[..., :, None] * right[..., None, :]
                        out[:, n_atoms:, :, n_atoms:] += both.transpose(0, 2, 1, 3)
        if h.form.terms:
            terms = [one for one in self.data.beside if isinstance(one, DistanceTerm)]
            for term, theta, variance in zip(
                terms, h.theta[-len(terms):], h.variance[-len(terms):], strict=True,
            ):
                self.add_term(out, h.form, term, theta, variance, x, y)
        return out

    def add_term(self, out, form, term, theta, variance, x, y):
        """A term of which every atom has the same share."""
        n_atoms, eye = x.shape[1], np.eye(x.shape[1])

        def columns(points, member):
            f, slopes = [], []
            for i, j in member:
                apart = points[:, i] - points[:, j]
                f.append(np.linalg.norm(apart, axis=1)**-1)
                both = apart[:, None] * (eye[i] - eye[j])[:, None]
                slopes.append(-f[-1][:, None, None]**3 * both)
            return np.array(f).T, np.array(slopes).transpose(1, 0, 2, 3).reshape(
                len(points), len(member), -1
            )

        for mine in term.pairs:
            f, slopes = columns(x, mine)
            for theirs in term.pairs:
                for view in term.view_column:
                    g, other_slopes = columns(y, theirs[view])
                    d = f[:, None] - g
                    e = (d**2 @ theta)[..., None]
                    k = fall = curve = np.exp(-e)
                    if form.rational:
                        k, fall, curve = (1 + e / 2)**-2, (1 + e / 2)**-3, 1.5 * (1 + e / 2)**-4
                    k, fall, curve = variance * k, variance * fall, variance * curve
                    left = np.einsum("ijf,ifx->ijx", 2 * theta * d, slopes)
                    right = np.einsum("ijf,jfx->ijx", 2 * theta * d, other_slopes)
                    out[:, :n_atoms, :, :n_atoms] += k[:, None] / n_atoms**2
                    out[:, :n_atoms, :, n_atoms:] += (fall * right)[:, None] / n_atoms
                    out[:, n_atoms:, :, :n_atoms] -= (
                        (fall * left).transpose(0, 2, 1)[..., None] / n_atoms
                    )
                    both = fall[..., None] * np.einsum(
                        "f,ifx,jfy->ijxy", 2 * theta, slopes, other_slopes
                    ) - curve[..., None] * left[..., :, None] * right[..., None, :]
                    out[:, n_atoms:, :, n_atoms:] += both.transpose(0, 2, 1, 3)

    def observed(self):
        """(R, n, 4N) what is observed: energies class by class, atom by atom; totals; gradients."""
        data, n_atoms = self.data, len(self.alf)
        rows = []

        def row(label):
            rows.append(np.zeros((len(data), 4 * n_atoms)))
            return rows[-1][label]

        for c in data.classes:
            for a in c.atoms:
                for j in data.with_energies:
                    row(j)[a] = 1.0
        for j in data.with_total:
            row(j)[:n_atoms] = 1.0
        for j in data.with_gradient:
            for d in data.directions[j].T:
                row(j)[n_atoms:] = d
        return np.array(rows)

    def noise(self, h):
        """(R,) variances of the noise of what is observed."""
        data = self.data
        parts = [np.tile(h.energy_noise[data.source[data.with_energies]] ** 2, len(self.alf))]
        if len(data.with_total):
            parts.append(h.total_noise[data.source[data.with_total]] ** 2)
        gradient = h.gradient_noise[data.source[data.with_gradient]] ** 2
        return np.concatenate([*parts, np.repeat(gradient, data.directions.shape[2])])

    def solved(self, h):
        """Mean of each class, dual weights and -ln L (without its constant) of all observations."""
        data, x = self.data, self.labels.geometries
        rows = self.observed().reshape(-1, 4 * len(data) * len(self.alf))
        y = np.concatenate([
            *(self.labels.atomic_energies[data.with_energies][:, c.atoms].T.ravel()
              for c in data.classes),
            self.labels.energies[data.with_total],
            *(self.labels.gradients[j].ravel() @ data.directions[j] for j in data.with_gradient),
        ])
        k = rows @ self.covariance(h, x, x).reshape(rows.shape[1], -1) @ rows.T
        k += np.diag(self.noise(h))
        # the means of the classes as functions of all that is latent, and as they are observed
        latent = np.zeros((len(data), 4 * len(self.alf), len(data.classes)))
        for column, c in enumerate(data.classes):
            latent[:, list(c.atoms), column] = 1.0
        constant = rows @ latent.reshape(rows.shape[1], -1)
        basis = np.ones((len(data.classes), 1)) if data.latent else np.eye(len(data.classes))
        constant = constant @ basis
        solved = np.linalg.solve(k, constant)
        mean = np.linalg.solve(constant.T @ solved, solved.T @ y)
        residual = y - constant @ mean
        weights = np.linalg.solve(k, residual)
        value = 0.5 * (residual @ weights + np.linalg.slogdet(k)[1])
        if data.totals is not None:
            source = data.source[np.intersect1d(data.with_energies, data.with_total)]
            sums = h.total_noise[source] ** 2 + len(self.alf) * h.energy_noise[source] ** 2
            value -= 0.5 * np.log(sums).sum()
        means = np.zeros(len(h.variance))  # terms have none
        means[: len(basis)] = basis @ mean
        return means, weights, value

    def predicted(self, h, x):
        """Atomic energies (n, N) and gradients (n, N, 3) at x."""
        mean, weights, _ = self.solved(h)
        rows = self.observed()
        cross = self.covariance(h, x, self.labels.geometries).reshape(
            len(x), 4 * len(self.alf), -1
        )
        found = cross @ (weights @ rows.reshape(len(rows), -1))
        for c, m in zip(self.data.classes, mean, strict=False):
            found[:, c.atoms] += m
        return found[:, :len(self.alf)], found[:, len(self.alf):].reshape(x.shape)


def _case(labels, shape, symmetric=True, **options):
    symmetry = symmetric
    if not isinstance(symmetric, Symmetry):
        numbers = symbols2numbers(labels.symbols)
        symmetry = find_symmetry(numbers, shape) if symmetric else Symmetry.none(len(shape))
    alf = symmetry.carried_alf(choose_alf(labels.symbols, shape, symmetry.permutations))
    if options.get("form", USUAL).terms:
        between = bonds_between(symbols2numbers(labels.symbols), shape)
        options = options | {"terms": distance_terms(labels.symbols, between, symmetry)}
    atomic = labels.atomic_energies
    if len(options.get("with_energies", [0])) == 0:
        atomic, options = None, {k: v for k, v in options.items() if k != "with_energies"}
    if "with_total" in options:
        options = options | {"totals": labels.energies}
    return Case(labels, symmetry, alf, joint_data(
        labels.geometries, atomic, labels.gradients, alf, symmetry, **options
    ))


@pytest.fixture(scope="session")
def make_case(make_labels, shapes):
    """``make_case(molecule, n, symmetric, seed, **options of joint_data)``."""
    def make(molecule, n, symmetric=True, seed=0, spread=0.1, **options):
        labels = make_labels(molecule, n, seed, spread)
        return _case(labels, shapes[molecule][1], symmetric, **options)

    return make


@pytest.fixture(scope="session")
def observe():
    """``observe(labels, shape, symmetric, **options of joint_data)``: a `Case`."""
    return _case


@pytest.fixture(scope="session")
def made_up_hyperparameters():
    """``made_up_hyperparameters(data, seed)``: with theta that differ, tied where they must be."""
    def make(
        data, seed=0, energy_noise=(1e-3, 4e-3), gradient_noise=(2e-3, 5e-4),
        total_noise=(7e-4, 2e-3),
    ):
        rng = np.random.default_rng(seed)
        n_sources = int(data.source.max()) + 1
        # inverses of distances change by less than they do
        wide = [
            np.where(data.form.inverse & distances(len(c.tie)), 20.0, 1.0) for c in data.classes
        ]
        ties = [c.tie for c in data.classes]
        if data.form.terms:
            ties += [one.tie for one in data.beside]
            wide += [
                np.where(data.form.inverse & distances(len(one.tie)), 20.0, 1.0)
                if isinstance(one, AtomClass) else np.full(len(one.tie), 20.0)
                for one in data.beside
            ]
        return Hyperparameters(
            [w * rng.uniform(0.05, 0.4, len(w))[tie] for w, tie in zip(wide, ties, strict=True)],
            rng.uniform(0.3, 2.0, len(ties)),
            np.array(energy_noise[:n_sources]), np.array(gradient_noise[:n_sources]),
            None if data.totals is None else np.array(total_noise[:n_sources]), data.form,
        )

    return make


@pytest.fixture(scope="session")
def made_up_pool():
    """``made_up_pool(symbols, shape, n, seed, spread, theta, gradient_noise, total_noise)``: data
    of geometries whose labels are not known, and hyperparameters."""
    def make(symbols, shape, n, seed, spread, theta, gradient_noise, total_noise):
        rng = np.random.default_rng(seed)
        symmetry = find_symmetry(symbols2numbers(symbols), shape)
        alf = symmetry.carried_alf(choose_alf(symbols, shape, symmetry.permutations))
        geometries = shape + spread * rng.normal(size=(n, *shape.shape))
        data = joint_data(
            geometries, None, np.zeros(geometries.shape), alf, symmetry, totals=np.zeros(n)
        )
        thetas = [
            rng.uniform(*theta, n_features(len(shape)))[c.tie] for c in symmetry.classes(alf)
        ]
        return data, Hyperparameters(
            thetas, rng.uniform(0.2, 0.6, len(thetas)), np.array([1e-2]),
            np.array([gradient_noise]), np.array([total_noise]),
        )

    return make
