import dataclasses

import numpy as np
import pytest

from ase_fflux.base.errors import FFLUXError
from ase_fflux.model.frames import features
from ase_fflux.workflows import plain
from ase_fflux.workflows.plain import plain_model


@pytest.fixture(scope="module")
def model(make_shared):
    return make_shared(n_points=30, rank=0)


def values(gp, inputs):
    return gp.predict(inputs)[0]


def probes(model, process):
    x = features(model.geometries, model.alf, process.atom)
    return x[:, process.order] + 0.05 * np.random.default_rng(3).normal(size=x.shape)


def energies_of_both(model, other):
    for a, b in zip(model.processes, other.processes, strict=True):
        assert (a.atom, a.properties, a.mirrored) == (b.atom, b.properties, b.mirrored)
        if a.properties == ("iqa",):
            x = probes(model, a)
            yield a.gp, values(a.gp, x), values(b.gp, x)


def test_twice_the_points_hold_all_of_the_model(model):
    before = {name: value.copy() for name, value in vars(model.processes[0].gp).items()
              if isinstance(value, np.ndarray)}
    made, loss = plain_model(model)
    # 30 labels, 15 of them with gradients: 45 points of each of three hydrogens, two images
    assert (loss.points, loss.needed) == (270, 270)
    for gp, expected, found in energies_of_both(model, made):
        without = dataclasses.replace(gp, derivative_weights=None)
        x = probes(model, next(p for p in model.processes if p.gp is gp))
        share = np.abs(values(without, x) - expected).max()
        assert share > 1e-5
        assert np.abs(found - expected).max() < 1e-3 * share
    for name, value in before.items():
        np.testing.assert_array_equal(getattr(model.processes[0].gp, name), value)


def test_what_plain_models_are(model):
    made, loss = plain_model(model)
    assert made.shared is None and made.geometries is None
    assert all(p.gp.derivative_weights is None for p in made.processes)
    moments = [(p.gp, q.gp) for p, q in zip(model.processes, made.processes, strict=True)
               if p.properties != ("iqa",)]
    assert all(a is b for a, b in moments)
    # atoms of a class refer to one process still
    assert len({id(p.gp) for p in made.processes}) == len({id(p.gp) for p in model.processes})
    record = made.provenance["plain_weights"]
    assert record["energy RMSE"] == {"value": loss.energy_rmse_kj_per_mol, "unit": "kJ/mol"}
    assert record["force RMSE"] == {"value": loss.force_rmse_ev_per_angstrom, "unit": "eV/A"}
    assert "plain_weights" not in model.provenance


def test_weights_belong_to_their_own_targets(model):
    """As `.model` files must: y - m = (K + noise) w, with targets near the energies."""
    made, _ = plain_model(model)
    for process, original in zip(made.processes, model.processes, strict=True):
        if process.properties == ("iqa",):
            gp = process.gp
            np.testing.assert_allclose(
                gp.targets()[0], values(original.gp, gp.inputs), rtol=0, atol=1e-6
            )


def test_loss_is_that_of_the_two_models(model, monkeypatch):
    monkeypatch.setattr(plain, "_FRAMES", 3)
    made, loss = plain_model(model, 60)
    thinned, exact = loss, plain_model(model)[1]
    assert thinned.points == 60 < thinned.needed == exact.points
    assert exact.energy_rmse_kj_per_mol < 0.1 * thinned.energy_rmse_kj_per_mol
    assert exact.force_rmse_ev_per_angstrom < 0.1 * thinned.force_rmse_ev_per_angstrom
    # where it is measured does not depend on the plain model: the same once more
    energy, force = plain._differences(model, made)
    assert (energy, force) == (loss.energy_rmse_kj_per_mol, loss.force_rmse_ev_per_angstrom)
    assert plain._differences(model, model) == (0.0, 0.0)


def test_more_points_lose_less(model, monkeypatch):
    monkeypatch.setattr(plain, "_differences", lambda *models: (0.0, 0.0))
    errors = []
    for points in (20, 80, 180):
        made, _ = plain_model(model, points)
        assert max(len(p.gp.inputs) for p in made.processes if p.properties == ("iqa",)) <= points
        errors.append(sum(np.square(a - b).sum() for _, a, b in energies_of_both(model, made)))
    assert errors[0] > errors[1] > errors[2]


def test_points_that_are_chosen_have_the_smallest_remainder_first(model):
    gp = next(p.gp for p in model.processes if p.atom == 2)
    nodes = gp.inputs[:20][None]
    k = gp.kernel.matrix(nodes[0], nodes[0])
    chosen = plain._nearest(gp.kernel, nodes, k[:, 7] * 0.3, 5)
    assert chosen[0] == 7  # that point holds all of this function
    values = np.random.default_rng(0).normal(size=20)
    chosen = plain._nearest(gp.kernel, nodes, values, 2)

    def norm(points):
        part = np.ix_(points, points)
        return values[points] @ np.linalg.solve(k[part], values[points])

    assert chosen[0] == max(range(20), key=lambda i: norm([i]))
    assert chosen[1] == max(
        (i for i in range(20) if i != chosen[0]), key=lambda i: norm([chosen[0], i])
    )


def test_refused(model, make_shared, make_made_up):
    for other in (make_shared(n_points=4, gradients=False), make_made_up(["C", *"HHHH"])):
        with pytest.raises(FFLUXError, match="was not trained on gradients"):
            plain_model(other)
    with pytest.raises(FFLUXError, match="2 images by symmetry: give at least that many"):
        plain_model(model, 1)


def test_models_that_break_the_molecule(make_shared):
    with pytest.raises(FFLUXError, match="does not hold together in dynamics at 300 K"):
        plain_model(make_shared(n_points=3, rank=-1))
