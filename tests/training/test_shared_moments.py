"""Moments that equivalent atoms share, against plain processes of all images of the labels."""

from dataclasses import replace

import numpy as np
import pytest
from ase.symbols import symbols2numbers
from scipy.linalg import solve
from scipy.spatial.transform import Rotation

from ase_fflux.base.errors import TrainingError
from ase_fflux.learn.gp.optimisers import LBFGS
from ase_fflux.learn.gp.settings import TrainingSettings
from ase_fflux.model.alf import choose_alf
from ase_fflux.model.frames import features, features_and_frames
from ase_fflux.model.molecule import shared_model
from ase_fflux.model.multipoles import MOMENT_NAMES
from ase_fflux.model.shared import Shared
from ase_fflux.model.sites import moments_to_global
from ase_fflux.model.symmetry import Symmetry, find_symmetry, reflection_signs
from ase_fflux.training import shared_moments as task
from ase_fflux.training.jobs import run_jobs
from ase_fflux.training.molecule import molecule_targets
from ase_fflux.training.shared_moments import class_targets, moment_jobs, shared_moments

SETTINGS = TrainingSettings(optimiser=LBFGS(budget=15), transfer=None, noise=1e-6)
MIRROR = np.array([1.0, 1.0, -1.0])
ODD = {"q10", "q21c", "q21s"}


class Trained:
    def __init__(self, labels, shape, symmetry=None, settings=SETTINGS, moments="shared"):
        self.labels = labels
        if symmetry is None:
            symmetry = find_symmetry(symbols2numbers(labels.symbols), shape)
        self.symmetry = symmetry
        self.alf = symmetry.carried_alf(
            choose_alf(labels.symbols, shape, symmetry.permutations)
        )
        self.classes = symmetry.classes(self.alf)
        self.atoms = molecule_targets(labels, self.alf)
        self.jobs = moment_jobs(self.atoms, self.classes, settings, moments)
        self.results = run_jobs([one.job for one in self.jobs]) if self.jobs else {}
        self.processes = shared_moments(self.atoms, self.jobs, self.results)

    def images(self, x, targets=None):
        """Of each class: features and moments of its first atom in all images of labels.

        Only operations that carry the frame of the first atom to that of a member: in these it is
        the member that is seen.
        """
        found = []
        for c in self.classes:
            first, inputs, values, seen = c.atoms[0], [], [], set()
            for p, mirrored in zip(self.symmetry.permutations, self.symmetry.mirrored, strict=True):
                mirrored = bool(mirrored) and len(p) > 3
                frame, atom = p[self.alf[first]], int(p[first])
                if not np.array_equal(frame, self.alf[atom]) or (*p, mirrored) in seen:
                    continue
                seen.add((*p, mirrored))
                inputs.append(features(x[:, p] * (MIRROR if mirrored else 1.0), self.alf, first))
                names = MOMENT_NAMES[:9]
                signs = np.array([-1.0 if mirrored and n in ODD else 1.0 for n in names])
                values.append(signs[:, None] * [self.atoms[atom].targets[n] for n in names])
            found.append((np.concatenate(inputs), np.concatenate(values, axis=1)))
        return found


ONE_MIRROR = Symmetry(np.array([[0, 1, 2, 3, 4], [0, 1, 2, 4, 3]]), np.array([False, True]))
"""Of fluoromethane: one hydrogen is seen as the other in a mirror."""
CASES = {
    "fluoromethane": ("fluoromethane", None), "mirrored hydrogen": ("fluoromethane", ONE_MIRROR),
    "formaldehyde": ("formaldehyde", None), "water": ("water", None),
}


@pytest.fixture(scope="module", params=CASES)
def trained(request, make_labels, shapes):
    molecule, symmetry = CASES[request.param]
    return Trained(make_labels(molecule, 12), shapes[molecule][1], symmetry)


def values(process, trained, x):
    """Predictions (P, n) of the first atom of a class."""
    gp = process.expand(trained.labels.geometries, trained.alf)
    return gp.predict(features(x, trained.alf, process.atoms.atoms[0])).reshape(len(gp.mean), -1)


def test_odd_moments_are_known():
    names = MOMENT_NAMES[:9]
    assert {n for n, s in zip(names, reflection_signs(names), strict=True) if s < 0} == ODD


def test_there_is_a_mirrored_member_to_speak_of():
    classes = ONE_MIRROR.classes(np.array(
        [[0, 1, 2], [1, 0, 2], [2, 0, 1], [3, 0, 1], [4, 0, 1]]
    ))
    assert [c.mirrored.tolist() for c in classes] == [[False]] * 3 + [[False, True]]


def test_targets_of_a_class_are_what_its_first_atom_sees(trained):
    for c, (inputs, targets) in zip(
        trained.classes, trained.images(trained.labels.geometries), strict=True
    ):
        data = class_targets(trained.atoms, c)
        assert "iqa" not in data.targets and len(data.features) == 12 * len(c.atoms)
        rows = np.array([data.targets[n] for n in MOMENT_NAMES[:9]])
        for f, t in zip(data.features, rows.T, strict=True):
            same = np.isclose(inputs, f, atol=1e-9).all(axis=1)
            same &= np.isclose(targets.T, t, atol=1e-9).all(axis=1)
            assert same.any()


def test_weights_are_those_of_all_images_as_data(trained, make_labels):
    """A plain process of zero or constant mean on the images, which are more points."""
    names = MOMENT_NAMES[:9]
    x = make_labels(
        {3: "water", 4: "formaldehyde", 5: "fluoromethane"}[len(trained.alf)], 4, seed=5
    ).geometries
    for process, (inputs, targets) in zip(
        trained.processes, trained.images(trained.labels.geometries), strict=True
    ):
        k = process.kernel.matrix(inputs, inputs) + process.noise * np.eye(len(inputs))
        solved = solve(k, np.column_stack([np.ones(len(k)), targets.T]), assume_a="pos")
        mean = targets @ solved[:, 0] / solved[:, 0].sum()
        if process.atoms.view_mirrored.any():  # their constant would be even
            np.testing.assert_allclose(
                mean[[n in ODD for n in names]], 0.0, atol=1e-9 * np.abs(targets).max()
            )
        elif len(trained.alf) == 3:
            mean[[n in ODD for n in names]] = 0.0
        weights = solved[:, 1:] - np.outer(solved[:, 0], mean)
        cross = process.kernel.matrix(
            features(x, trained.alf, process.atoms.atoms[0]), inputs
        )
        expected = mean[:, None] + (cross @ weights).T
        found = values(process, trained, x)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-7)


def test_they_predict(trained, make_labels):
    """Labels that were not seen, with a fifth of the spread for an error at most."""
    molecule = {3: "water", 4: "formaldehyde", 5: "fluoromethane"}[len(trained.alf)]
    unseen = make_labels(molecule, 20, seed=5)
    targets = molecule_targets(unseen, trained.alf)
    for process in trained.processes:
        found = values(process, trained, unseen.geometries)
        expected = np.array([
            targets[process.atoms.atoms[0]].targets[n] for n in process.properties
        ])
        assert np.std(found - expected) < 0.2 * np.std(expected)


def test_a_reflection_inverts_what_is_odd(trained, make_labels):
    """In the mirror of its own frame an atom has the opposite odd moments."""
    molecule = {3: "water", 4: "formaldehyde", 5: "fluoromethane"}[len(trained.alf)]
    x = make_labels(molecule, 3, seed=5).geometries
    checked = 0
    for process in trained.processes:
        atom, signs = process.atoms.atoms[0], reflection_signs(process.properties)[:, None]
        for p, mirrored in zip(
            trained.symmetry.permutations, trained.symmetry.mirrored, strict=True
        ):
            if mirrored and np.array_equal(p[trained.alf[atom]], trained.alf[atom]):
                found = values(process, trained, x[:, p] * MIRROR)
                expected = signs * values(process, trained, x)
                np.testing.assert_allclose(found, expected, atol=1e-9)
                checked += 1
    assert checked


@pytest.mark.parametrize("molecule", ["water", "formaldehyde"])
def test_odd_moments_vanish_in_the_plane(make_labels, shapes, molecule):
    trained = Trained(make_labels(molecule, 10), shapes[molecule][1])
    flat = make_labels(molecule, 4, seed=3, flat=True).geometries
    assert len(trained.processes) == len(trained.classes)
    for process in trained.processes:
        odd = reflection_signs(process.properties) < 0
        assert odd.any()
        found = values(process, trained, flat)
        scale = np.abs(process.weights).max()
        np.testing.assert_allclose(found[odd], 0.0, atol=1e-13 * scale)
        assert np.abs(found[~odd]).max() > 0.01


def test_three_atoms_have_no_odd_moment(make_labels, shapes):
    for process in Trained(make_labels("water", 10), shapes["water"][1]).processes:
        odd = reflection_signs(process.properties) < 0
        assert not process.weights[odd].any() and not process.mean[odd].any()


def test_theta_that_views_exchange_are_one(trained):
    for process, one in zip(trained.processes, trained.jobs, strict=True):
        result = trained.results[one.job.name]
        theta = process.kernel.theta
        for tie in np.unique(process.atoms.tie):
            tied = process.atoms.tie == tie
            np.testing.assert_allclose(theta[tied], np.exp(result.log_theta[tied].mean()))
        assert process.noise == result.process.noise == SETTINGS.noise
        assert process.variance == 0


def test_without_symmetry_they_are_plain_processes(make_labels, shapes):
    """The result of the search itself, each atom by itself."""
    trained = Trained(
        make_labels("fluoromethane", 12), shapes["fluoromethane"][1], Symmetry.none(5)
    )
    x = make_labels("fluoromethane", 3, seed=5).geometries
    assert len(trained.processes) == 5
    for process, one in zip(trained.processes, trained.jobs, strict=True):
        plain = trained.results[one.job.name].process
        inputs = features(x, trained.alf, process.atoms.atoms[0])
        np.testing.assert_allclose(
            values(process, trained, x), plain.predict(inputs).reshape(9, -1), atol=1e-7
        )


@pytest.mark.parametrize("moments, names", [
    ("shared", [MOMENT_NAMES[:9]] * 2), ("charges", [("q00",)] * 2), ("none", []),
    ("separate", [(n,) for _ in range(2) for n in MOMENT_NAMES[:9]]),
])
def test_which_moments(make_labels, shapes, moments, names):
    trained = Trained(
        make_labels("water", 8), shapes["water"][1], moments=moments,
        settings=replace(SETTINGS, optimiser=LBFGS(budget=3)),
    )
    assert [tuple(p.properties) for p in trained.processes] == [tuple(n) for n in names]


def test_search_is_on_some_points_and_weights_on_all(make_labels, shapes, monkeypatch):
    monkeypatch.setattr(task, "SEARCH_POINTS", 15)
    trained = Trained(make_labels("water", 12), shapes["water"][1])
    sizes = {one.atoms.atoms: len(one.job.features) for one in trained.jobs}
    assert sizes == {(0,): 12, (1, 2): 15}
    for process in trained.processes:
        assert process.weights.shape == (9, len(process.atoms.atoms), 12)
        assert process.weights[0].all()
    again = Trained(make_labels("water", 12), shapes["water"][1])
    for one, other in zip(trained.jobs, again.jobs, strict=True):
        np.testing.assert_array_equal(one.job.features, other.job.features)


class TestSymmetricLabels:
    """A label that is its own image is one point for atoms that are the same there."""

    @pytest.fixture
    def labels(self, make_labels, shapes):
        """Formaldehyde: 12 labels bent anyhow, 3 with the symmetry of its minimum."""
        x = make_labels("formaldehyde", 15).geometries
        x[12:, :, 0] = 0.0
        x[12:, :2, 1] = 0.0
        x[12:, 3] = x[12:, 2] * [1, -1, 1]
        return make_labels("formaldehyde", 15, geometries=x)


    def test_they_count_once(self, labels, shapes):
        trained = Trained(labels, shapes["formaldehyde"][1])
        hydrogens = next(j for j in trained.jobs if j.atoms.atoms == (2, 3))
        assert len(hydrogens.job.features) == 2 * 12 + 3
        process = next(p for p in trained.processes if p.atoms.atoms == (2, 3))
        assert process.weights[0, 0].all()
        assert not process.weights[:, 1, 12:].any() and process.weights[0, 1, :12].all()

    def test_model_meets_them_and_keeps_their_symmetry(self, labels, shapes):
        trained = Trained(labels, shapes["formaldehyde"][1])
        for process in trained.processes:
            gp = process.expand(labels.geometries, trained.alf)
            for member, atom in enumerate(process.atoms.atoms):
                f = task.transformed(
                    features(labels.geometries[12:], trained.alf, atom),
                    process.atoms.order[member], process.atoms.mirrored[member], np.pi,
                )
                signs = reflection_signs(process.properties)[:, None]
                sign = signs if process.atoms.mirrored[member] else 1.0
                found = sign * gp.predict(f)
                wanted = np.array([
                    trained.atoms[atom].targets[n][12:] for n in process.properties
                ])
                np.testing.assert_allclose(found, wanted, atol=2e-4)

    def test_labels_that_contradict_their_symmetry_are_refused(self, labels, shapes):
        moments = labels.moments.copy()
        moments[13, 2, 0] += 0.5
        with pytest.raises(TrainingError, match="q00 is .* one geometry or images of it"):
            Trained(replace(labels, moments=moments), shapes["formaldehyde"][1])


class TestDiatomics:
    def test_moments_have_the_symmetry_of_the_bond(self, make_labels, shapes):
        data = make_labels("nitrogen", 12)
        trained = Trained(data, shapes["nitrogen"][1])
        process, = trained.processes
        assert len(trained.jobs[0].job.features) == 12
        left = {"q11c", "q20", "q22c"}  # charges of equivalent atoms that sum to zero are zero
        assert set(trained.jobs[0].job.properties) == left
        assert {n for n, w in zip(process.properties, process.weights, strict=True)
                if w.any()} == left
        q20, q22c = (process.weights[process.properties.index(n)] for n in ("q20", "q22c"))
        np.testing.assert_allclose(q22c, -np.sqrt(3.0) * q20, atol=1e-6 * np.abs(q20).max())

    def test_each_rank_is_one_process_where_moments_are_trained_apart(self, make_labels, shapes):
        trained = Trained(
            make_labels("nitrogen", 12), shapes["nitrogen"][1], moments="separate"
        )
        assert [p.properties for p in trained.processes] == [
            ("q00",), MOMENT_NAMES[1:4], MOMENT_NAMES[4:9]
        ]

    def test_global_moments_do_not_depend_on_where_the_bond_points(self, make_labels, shapes):
        """Also where the arbitrary second axis changes (x component of the bond above 0.8)."""
        trained = Trained(make_labels("nitrogen", 12), shapes["nitrogen"][1])
        shared = Shared(trained.symmetry, tuple(trained.processes))
        model = shared_model(
            "N2", ("N", "N"), trained.alf, shared, shapes["nitrogen"][1],
            trained.labels.geometries,
        )
        rng = np.random.default_rng(0)
        rotations = np.concatenate([
            Rotation.random(5, rng=rng).as_matrix(),
            Rotation.from_euler("y", [[a] for a in (52.9, 53.2)], degrees=True).as_matrix(),
        ])
        expected = None
        for rotation in rotations:
            x = (shapes["nitrogen"][1] @ rotation.T)[None]
            for p in model.processes:
                f, frames = features_and_frames(x, model.alf, p.atom)
                moments = moments_to_global(frames, np.ascontiguousarray(p.gp.predict(f).T))
                back = moments_to_global(rotation[None].copy(), moments)
                if p.atom == 0:
                    expected = back if expected is None else expected
                    np.testing.assert_allclose(back, expected, atol=1e-9)
