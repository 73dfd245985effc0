"""Jobs of training sets, guesses of other models, the working folder and the models written."""

from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms

from ase_fflux.assess.training_report import property_errors, started_from
from ase_fflux.base.errors import TrainingError
from ase_fflux.base.units import BOHR, HARTREE_KJ
from ase_fflux.formats import read_model, read_model_directory
from ase_fflux.learn.gp.settings import TrainingSettings
from ase_fflux.learn.gp.training import train
from ase_fflux.model.frames import features
from ase_fflux.model.molecule import AtomProcess, MoleculeModel
from ase_fflux.training.data import AtomData, Points, TrainingData, split
from ase_fflux.training.jobs import run_jobs
from ase_fflux.training.run import (
    Recipe,
    check_output,
    claim,
    digest,
    molecule,
    prefix_of,
    write_models,
)

SYMBOLS = ("O", "H", "H", "H")
REFERENCE = np.array([[0.0, 0.0, 0.1], [0.0, 1.9, -0.5], [-1.6, -1.0, -0.6], [1.6, -1.0, -0.6]])
ALF = ((0, 1, 2), (1, 0, 2), (2, 0, 1), (3, 0, 1))
RNG = np.random.default_rng(3)
GEOMETRIES = REFERENCE + RNG.normal(scale=0.1, size=(40, 4, 3))
SETTINGS = TrainingSettings()
MOMENTS = ("iqa", "q00", "q10", "q11c", "q11s")


def points(atom, count=slice(30), names=("iqa", "q00", "q10")):
    """Functions that differ from property to property; energies negative, charges small."""
    inputs = features(GEOMETRIES[count], np.array(ALF), atom)
    values = {name: 0.05 * np.sin(inputs[:, :3] @ np.arange(1, 4) / (i + 2)) - (name == "iqa")
              for i, name in enumerate(names)}
    return Points(inputs, values)


def sets(atoms=range(4), names=("iqa", "q00", "q10"), reference=True, test=True):
    data = tuple(
        AtomData(a, SYMBOLS[a], ALF[a], points(a, names=names),
                 points(a, slice(30, 40), names) if test else None) for a in atoms
    )
    geometry = Atoms(SYMBOLS, REFERENCE * BOHR) if reference else None
    return TrainingData("H3O-like", 4, data, geometry, "10 points")


def names(jobs):
    return [job.name for job in jobs]


@pytest.mark.parametrize("moments, expected", [
    ("shared", ["iqa", "moments"]), ("separate", ["iqa", "q00", "q10"]),
    ("charges", ["iqa", "q00"]), ("none", ["iqa"]),
])
def test_jobs_of_sets(moments, expected):
    jobs = Recipe(SETTINGS, moments).jobs(sets([1, 2]))
    assert names(jobs) == [f"{atom} {what}" for atom in ("H2", "H3") for what in expected]
    for job in jobs:
        data = points(job.atom)
        assert np.array_equal(job.features, data.features) and job.after == ()
        assert np.array_equal(job.targets, [data.targets[p] for p in job.properties])


@pytest.mark.parametrize("given, moments, expected", [
    (("iqa",), "shared", ["iqa"]), (("q00",), "shared", ["q00"]),
    (("q10", "q00"), "shared", ["moments"]), (("q00", "q10"), "charges", ["q00"]),
])
def test_jobs_of_what_is_there(given, moments, expected):
    jobs = Recipe(SETTINGS, moments, ("properties",)).jobs(sets([0], given))
    assert names(jobs) == [f"O1 {what}" for what in expected]
    assert jobs[0].after == ()


@pytest.mark.parametrize("given, moments", [(("q00",), "none"), (("q10",), "charges")])
def test_nothing_to_train(given, moments):
    with pytest.raises(TrainingError, match=f"--moments {moments}"):
        Recipe(SETTINGS, moments).jobs(sets([0], given))


def test_links_between_properties_and_equivalent_atoms():
    recipe = Recipe(SETTINGS, "shared", ("properties", "equivalent"))
    jobs = {job.name: job for job in recipe.jobs(sets())}
    assert jobs["O1 moments"].after == ("O1 iqa",)
    assert jobs["H4 iqa"].after == ("H2 iqa",) and jobs["H4 moments"].after == ("H2 moments",)
    # H4 of a molecule with its hydrogens relabelled is H2, feature by feature
    relabelled = np.empty_like(REFERENCE)
    relabelled[[0, 3, 1, 2]] = REFERENCE
    one, other = (features(x[None], np.array(ALF), a)[0]
                  for x, a in ((REFERENCE, 1), (relabelled, 3)))
    assert np.allclose(one[jobs["H4 iqa"].order], other)


def test_equivalent_atoms_need_all_of_them():
    with pytest.raises(TrainingError, match="training sets of all atoms"):
        Recipe(SETTINGS, "shared", ("equivalent",)).jobs(sets([0, 1]))


def smaller_model(alf=((0, 1, 2), (1, 0, 2), (2, 0, 1)), symbols=SYMBOLS[:3], properties=("iqa",)):
    """Of the first three atoms."""
    inputs = [features(GEOMETRIES[:, :3], np.array(ALF[:3]), a) for a in range(3)]
    processes = [train(x, [x[:, 0] ** 2] * len(properties), SETTINGS).process for x in inputs]
    return MoleculeModel(
        "small", symbols, np.array(alf),
        tuple(AtomProcess(a, properties, gp) for a, gp in enumerate(processes)), REFERENCE[:3],
    )


def test_guesses_of_a_smaller_molecule_are_of_the_leading_features():
    model = smaller_model()
    jobs = {job.name: job for job in Recipe(SETTINGS, guesses=model).jobs(sets())}
    for atom, label in enumerate(("O1", "H2", "H3")):
        (guess,) = jobs[f"{label} iqa"].guesses
        assert np.allclose(np.exp(guess), model.processes[atom].gp.kernel.theta)
        assert jobs[f"{label} moments"].guesses == ()
        assert np.allclose(jobs[f"{label} iqa"].features[:, :3], features(
            GEOMETRIES[:30, :3], np.array(ALF[:3]), atom))
    assert jobs["H4 iqa"].guesses == ()
    results = run_jobs([jobs["O1 iqa"]])
    assert results["O1 iqa"].steps[-1].stage == "relaxation"
    assert started_from(jobs["O1 iqa"], results["O1 iqa"]) == "--from"


@pytest.mark.parametrize("model, message", [
    (dict(alf=((0, 2, 1), (1, 0, 2), (2, 0, 1))), "atom 1 is O in the frame 1,3,2 of 3"),
    (dict(symbols=("N", "H", "H")), "atom 1 is N in the frame 1,2,3 of 3"),
    (dict(properties=("q20",)), "none of the properties"),
])
def test_guesses_that_do_not_fit(model, message):
    with pytest.raises(TrainingError, match=message):
        Recipe(SETTINGS, guesses=smaller_model(**model)).jobs(sets())


def test_split():
    kept, out = split(50, 0.2, 4)
    assert len(out) == 10 and sorted([*kept, *out]) == list(range(50))
    assert np.array_equal(split(50, 0.2, 4)[1], out)
    assert not np.array_equal(split(50, 0.2, 5)[1], out)
    assert len(split(50, 0.0, 4)[1]) == 0


def test_working_folder(tmp_path):
    folder = tmp_path / "w-train"
    assert claim(folder, {"settings": (1.0, 2.0)}) == (0, [])
    (folder / "O1_iqa.npz").touch()
    assert claim(folder, {"settings": (1.0, 2.0)}) == (1, [])
    assert claim(folder, {"settings": (1.0, 3.0)}) == (
        1, ["settings was [1.0, 2.0], is [1.0, 3.0]"]
    )
    assert claim(folder, {"settings": (1.0, 3.0)}) == (1, [])
    (folder / "train.json").write_text('{"settings"')
    assert claim(folder, {"settings": (1.0, 3.0)}) == (1, ["the record was damaged"])
    (tmp_path / "w").mkdir()
    (tmp_path / "w/thesis.tex").touch()
    with pytest.raises(TrainingError, match="not of a training"):
        claim(tmp_path / "w", {})
    assert [p.name for p in (tmp_path / "w").iterdir()] == ["thesis.tex"]


def test_digest(tmp_path):
    for name, text in (("a", "1"), ("b", "1"), ("c", "2")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.model").write_text(text)
    a, b, c = (digest(tmp_path / name) for name in "abc")
    assert a == b == digest(tmp_path / "a/x.model") != c


@pytest.mark.parametrize("name, prefix", [
    ("a.fflux", "a"), ("x/a.b.fflux", "x/a.b"), ("a.models", "a.models"), ("models/", "models"),
])
def test_prefix(name, prefix, tmp_path):
    assert prefix_of(tmp_path / name) == str(tmp_path / prefix)


@pytest.mark.parametrize("data, message", [
    (dict(atoms=[0, 1]), "training sets of all 4 atoms, not of 2"),
    (dict(reference=False), "needs --geometry"),
    (dict(names=("q00",)), "which O1 has not"),
])
def test_incomplete_molecules_are_no_bundle(data, message, tmp_path):
    data = sets(**data)
    with pytest.raises(TrainingError, match=message):
        check_output(tmp_path / "w.fflux", data)
    check_output(tmp_path / "w", data)
    assert molecule(data, "w", [], {}) is None


@pytest.fixture(scope="module")
def trained():
    data = sets(names=MOMENTS)
    jobs = Recipe(SETTINGS).jobs(data)
    return data, jobs, run_jobs(jobs)


def test_errors_are_those_of_the_predictions(trained):
    data, jobs, results = trained
    errors = {(e.atom, e.property): e for e in property_errors(data, jobs, results)}
    assert set(errors) == {(a.label, p) for a in data.atoms for p in MOMENTS}
    test = data.atoms[1].test
    by_hand = results["H2 iqa"].process.predict(test.features)[0] - test.targets["iqa"]
    assert np.allclose(errors["H2", "iqa"].errors, HARTREE_KJ * by_hand)
    summary = errors["H2", "iqa"].summary()
    assert summary["unit"] == "kJ/mol" and summary["points"] == 10
    assert summary["mae"] <= summary["rmse"] <= summary["max"]
    assert errors["H2", "q00"].unit == "e" and errors["H2", "q10"].unit == "au"
    without = replace(data, atoms=tuple(replace(a, test=None) for a in data.atoms))
    assert property_errors(without, jobs, results) == []


@pytest.mark.parametrize("whole", [True, False])
def test_model_files_predict_the_same(trained, whole, tmp_path):
    data, jobs, results = trained
    model = molecule(data, "H3O-like", jobs, results) if whole else None
    write_models(tmp_path / "models", data, model, jobs, results)
    assert len(list((tmp_path / "models").glob("*.model"))) == 20
    test = data.atoms[3].test.features
    for i, name in enumerate(MOMENTS[1:]):
        read = read_model(tmp_path / f"models/H3OLIKE_{name}_H4.model")
        assert read.alf == ALF[3] and read.element == "H"
        assert np.allclose(
            read.predict(test), results["H4 moments"].process.predict(test)[i], rtol=0, atol=1e-9)
    if whole:
        again = read_model_directory(tmp_path / "models")
        assert again.name == "H3O-like" and np.allclose(again.reference_geometry, REFERENCE)
