"""The command from files to files, on a made-up surface of bent triatomic molecules."""

import argparse
import csv
import json
import os
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.io import write

from ase_fflux import FFLUX
from ase_fflux.assess.curves import unit_of
from ase_fflux.base.units import BOHR, HARTREE, HARTREE_KJ
from ase_fflux.cli import train as module
from ase_fflux.cli.main import main
from ase_fflux.formats import (
    TrainingSet,
    load_molecule,
    read_model,
    write_training_set,
)
from ase_fflux.labels.dataset import Label, append_labels
from ase_fflux.model.frames import features
from ase_fflux.training import jobs

SYMBOLS = ("O", "H", "H")
ALF = np.array([[0, 1, 2], [1, 0, 2], [2, 0, 1]])
REFERENCE = np.array([[0.0, 0.0, 0.12], [0.0, 1.46, -0.95], [0.0, -1.46, -0.95]])
WEIGHTS = np.array([[0.0, 1.0, 0.7], [1.0, 0.0, 0.3], [0.7, 0.3, 0.0]])
SIDE_FILES = ["-learning.csv", "-learning.png", "-s-curve-charge.csv", "-s-curve-charge.png",
              "-s-curve-energy.csv", "-s-curve-energy.png", "-train", "-train.json", "-train.log"]


def label(x):
    """Energies that decay with the distances, and dipoles along the bonds."""
    bonds = x[None] - x[:, None]
    distances = np.linalg.norm(bonds, axis=-1) + np.eye(3)
    decay = WEIGHTS * np.exp(-0.5 * distances)
    energies = np.array([-75.0, -0.5, -0.4]) + decay.sum(axis=1)
    charges = decay.sum(axis=1) - decay.sum() / 3
    dipoles = (decay[..., None] * bonds).sum(axis=1)
    moments = np.column_stack([charges, dipoles[:, [2, 0, 1]], np.zeros((3, 5))])
    return Label(
        symbols=SYMBOLS, geometry=x, energy=energies.sum(),
        gradient=((decay / distances)[..., None] * bonds).sum(axis=1),
        atomic_energies=energies, moments=moments, dipole=charges @ x + dipoles.sum(axis=0),
        method="made-up",
    )


def geometries(count, seed):
    rng = np.random.default_rng(seed)
    return REFERENCE + rng.normal(scale=0.08, size=(count, 3, 3))


def write_labels(path, count, seed=0):
    append_labels(path, [label(x) for x in geometries(count, seed)], ["random"] * count)


def write_csv_set(path, atom, count=30, seed=0, charges=True):
    labels = [label(x) for x in geometries(count, seed)]
    targets = {"iqa": np.array([one.atomic_energies[atom] for one in labels])}
    if charges:
        targets["q00"] = np.array([one.charges[atom] for one in labels])
    write_training_set(path, TrainingSet(features(geometries(count, seed), ALF, atom), targets))


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch):
    """An empty folder with labels of 40 geometries, 12 others, and a training set of each atom."""
    monkeypatch.chdir(tmp_path)
    Path("bent-build").mkdir()
    write_labels("bent-build/labels.xyz", 40)
    write_labels("test.xyz", 12, seed=1)
    for atom, name in enumerate(("O1", "H2", "H3")):
        write_csv_set(f"BENT_{name}_TRAINING_SET.csv", atom)
    write("reference.xyz", Atoms(SYMBOLS, REFERENCE * BOHR))


LABELS = "bent-build/labels.xyz"
O1, H2, H3 = (f"BENT_{name}_TRAINING_SET.csv" for name in ("O1", "H2", "H3"))


def train(*arguments):
    return main(["train", *arguments])


@pytest.fixture
def calls(monkeypatch):
    """Names of the jobs that are trained; Ctrl-C before number `stop`."""
    original, seen = jobs.train_job, argparse.Namespace(names=[], stop=None)

    def counted(job, guesses):
        if len(seen.names) == seen.stop:
            raise KeyboardInterrupt
        seen.names.append(job.name)
        return original(job, guesses)

    monkeypatch.setattr(jobs, "train_job", counted)
    return seen


def errors_in(said):
    """{name: (value, unit)} of the errors that were printed."""
    lines = said.split("errors on held-out points")[1].splitlines()[1:]
    rows = [re.split("  +", line.strip()) for line in lines]
    return {name: (float(value), *unit) for name, value, *unit in rows}


def test_bundle_of_a_dataset(capsys):
    assert train(LABELS, "--test", "test.xyz") == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert "40 training points, held out: test.xyz" in said.out and "6 models" in said.out
    assert sorted(p.name for p in Path().glob("bent*")) == sorted(
        ["bent-build", "bent.fflux", "bent.toml", *(f"bent{suffix}" for suffix in SIDE_FILES)])
    model = load_molecule("bent.fflux")
    assert model.name == "bent" and len(model.geometries) == 40
    lowest = min(geometries(40, 0), key=lambda x: label(x).energy)
    assert np.allclose(model.reference_geometry, lowest, atol=1e-9)
    difference = []
    atoms = Atoms(SYMBOLS, calculator=FFLUX("bent.fflux"))
    for x in geometries(12, 1):
        atoms.positions = x * BOHR
        difference.append(atoms.get_potential_energy() / HARTREE - label(x).energy)
    rmse = HARTREE_KJ * np.sqrt(np.mean(np.square(difference)))
    printed = errors_in(said.out)
    assert printed["energy RMSE"] == (pytest.approx(rmse, rel=1e-3), "kJ/mol") and rmse < 1
    assert printed["charge RMSE"][1] == "e" and printed["force RMSE"][1] == "eV/A"
    provenance = model.provenance
    assert provenance["label_source"] == "made-up" and provenance["labels"] == {"random": 40}
    assert provenance["command"] == f"fflux train {LABELS} --test test.xyz"
    assert provenance["errors"]["energy RMSE"]["value"] == pytest.approx(rmse, rel=1e-6)
    assert provenance["training"]["protocol"] == "transfer learning"


def test_log_summary_and_curves(capsys):
    options = "--test", "test.xyz", "--link", "properties", "--json"
    assert train(LABELS, "-o", "out/w.fflux", *options) == 0
    said = capsys.readouterr()
    summary = json.loads(Path("out/w-train.json").read_text())
    assert json.loads(said.out) == summary and "wrote out/w.fflux" in said.err
    energy = next(m for m in summary["models"] if m["model"] == "H2 iqa")
    assert energy["evaluations"] == sum(step["evaluations"] for step in energy["steps"])
    assert summary["settings"]["noise"] == 1e-8 and summary["versions"]["ase_fflux"]
    moments = next(m for m in summary["models"] if m["model"] == "H2 moments")
    assert moments["started_from"] == "H2 iqa"
    errors = {(e["atom"], e["property"]): e for e in summary["property_errors"]}
    assert len(errors) == 3 * 10 + 1
    assert {e["unit"] for e in errors.values()} == {"kJ/mol", "e", "au"}
    assert errors["total", "iqa"]["rmse"] == pytest.approx(
        summary["errors"]["energy RMSE"]["value"], rel=1e-6)
    log = Path("out/w-train.log").read_text()
    assert f"{energy['objective']:.4f}" in log
    assert f"{errors['H2', 'iqa']['rmse']:.4g} kJ/mol" in log
    with open("out/w-s-curve-energy.csv") as file:
        rows = [row for row in csv.DictReader(file) if row["atom"] == "total"]
    squares = [float(row["abs_error_kJ_per_mol"]) ** 2 for row in rows]
    assert np.sqrt(np.mean(squares)) == pytest.approx(errors["total", "iqa"]["rmse"])
    with open("out/w-learning.csv") as file:
        rows = [row for row in csv.DictReader(file) if row["atom"] == "total"]
    assert float(rows[-1]["rmse_kJ_per_mol_with_kernel_of_full_model"]) == pytest.approx(
        errors["total", "iqa"]["rmse"])
    assert int(rows[-1]["points"]) == 40
    for name in ("s-curve-energy", "s-curve-charge", "learning"):
        assert Path(f"out/w-{name}.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("moments, properties", [
    ("none", {"iqa"}), ("charges", {"iqa", "q00"}), ("separate", 10), ("shared", 10),
])
def test_directory_and_moments(moments, properties, capsys):
    assert train(LABELS, "-o", "models", "--moments", moments) == 0
    model = load_molecule("models")
    mine = {p for process in model.processes if process.atom == 1 for p in process.properties}
    assert mine == properties or len(mine) == properties
    printed = errors_in(capsys.readouterr().out)
    assert "energy RMSE" in printed and ("dipole RMSE" in printed) == (properties == 10)


@pytest.mark.parametrize("fraction, out", [(None, 4), ("0.25", 10), ("0", 0)])
def test_random_held_out_points(fraction, out, capsys):
    options = () if fraction is None else ("--hold-out", fraction)
    assert train(LABELS, "--moments", "none", *options) == 0
    assert len(load_molecule("bent.fflux").geometries) == 40 - out
    assert (f"{out} points at random, seed 0" in capsys.readouterr().out) == (out > 0)
    assert Path("bent-s-curve-energy.png").exists() == (out > 0)


def test_model_files_of_csv(capsys):
    write_csv_set("BENT_H2_VALIDATION_SET.csv", 1, 12, seed=1, charges=False)
    assert train(H2, "--alf", "2,1,3", "--test", "BENT_H2_VALIDATION_SET.csv") == 0
    assert sorted(os.listdir("BENT_models")) == ["BENT_iqa_H2.model", "BENT_q00_H2.model"]
    model = read_model("BENT_models/BENT_iqa_H2.model")
    assert (model.system, model.atom, model.alf, model.n_atoms) == ("BENT", "H2", (1, 0, 2), 3)
    expected = [label(x).atomic_energies[1] for x in geometries(12, 1)]
    errors = model.predict(features(geometries(12, 1), ALF, 1)) - expected
    printed = errors_in(capsys.readouterr().out)
    rmse = unit_of("iqa").factor * np.sqrt(np.mean(errors**2))
    assert printed == {"H2 energy RMSE": (pytest.approx(rmse, rel=1e-3), "kJ/mol")}


def test_bundle_of_csv(capsys):
    assert train(O1, H2, H3, "--geometry", "reference.xyz", "-o", "b.fflux") == 0
    model = load_molecule("b.fflux")
    assert model.symbols == SYMBOLS and np.array_equal(model.alf, ALF) and model.rank == 0
    assert np.allclose(model.reference_geometry, REFERENCE) and model.geometries is None
    x = geometries(1, 7)[0]
    atoms = Atoms(SYMBOLS, x * BOHR, calculator=FFLUX("b.fflux"))
    assert atoms.get_potential_energy() / HARTREE == pytest.approx(label(x).energy, abs=1e-4)
    assert capsys.readouterr().err == ""


def test_resume_after_ctrl_c(calls, capsys):
    calls.stop = 2
    assert train(LABELS) == 130
    said = capsys.readouterr().out
    assert "finished models (2 of 6) are kept in bent-train: the same command goes on" in said
    assert not Path("bent.fflux").exists()
    before, calls.stop = list(calls.names), None
    assert train(LABELS) == 0
    assert "2 of 6 models were finished before" in capsys.readouterr().out
    assert len(calls.names) == len(set(calls.names)) == 6 and calls.names[:2] == before
    assert json.loads(Path("bent-train.json").read_text())["models_restored"] == 2


def test_other_settings_train_anew_and_keep_the_output(calls, capsys):
    assert train(LABELS, "--moments", "none") == 0
    capsys.readouterr()
    assert train(LABELS, "--moments", "charges", "--noise", "1e-7") == 0
    said = capsys.readouterr().out
    assert "bent-train is of other settings or inputs" in said
    assert "kept the earlier output as bent.fflux.~1~" in said
    assert sorted(calls.names) == sorted(2 * ["O1 iqa", "H2 iqa", "H3 iqa"] + [
        "O1 q00", "H2 q00", "H3 q00"])
    assert load_molecule("bent.fflux").processes[0].gp.noise == 1e-7
    assert Path("bent.fflux.~1~").exists()


def test_from_another_model(capsys):
    assert train(LABELS, "--moments", "none", "-o", "a.fflux") == 0
    assert train(LABELS, "--moments", "none", "-o", "b.fflux", "--from", "a.fflux") == 0
    first, second = (json.loads(Path(f"{name}-train.json").read_text()) for name in "ab")
    for one, other in zip(first["models"], second["models"], strict=True):
        assert other["started_from"] == "--from"
        assert other["steps"][-1]["start"] == pytest.approx(one["objective"], rel=1e-6)


def test_constant_feature_is_told(capsys):
    constant = geometries(30, 0)
    constant[:, 1] = constant[:, 0] + [0.0, 0.0, 1.8]
    targets = {"iqa": np.array([label(x).atomic_energies[0] for x in constant])}
    points = features(constant, ALF, 0)
    points[:, 0] = 1.8
    write_training_set("FLAT_O1_SET.csv", TrainingSet(points, targets))
    assert train("FLAT_O1_SET.csv", "--alf", "1,2,3") == 0
    warning = "O1: f1 is constant: no model can depend on it"
    assert capsys.readouterr().err == f"fflux: warning: {warning}\n"
    assert warning in Path("FLAT_models-train.log").read_text()


def test_tested_on_training_points_is_told(capsys):
    assert train(LABELS, "--test", LABELS, "--moments", "none") == 0
    assert "O1: 40 held-out points are training points as well" in capsys.readouterr().err


def test_geometry_of_another_order_is_told(capsys):
    write("long.xyz", Atoms(SYMBOLS, REFERENCE * BOHR * 1.5))
    assert train(O1, "--geometry", "long.xyz") == 0
    assert "O1: f2 of --geometry is 2.715 bohr, far from" in capsys.readouterr().err


def spoil(path, old, new):
    Path(path).write_text(Path(path).read_text().replace(old, new, 1))


def prepare_errors():
    write_labels("few.xyz", 8)
    write_csv_set("BENT_O1_SET.csv", 0)
    write_csv_set("BENT_H2_VALIDATION_SET.csv", 1, 12, seed=1)
    write_csv_set("OTHER_H2_SET.csv", 1)
    write_csv_set("unnamed.csv", 0)
    Path("BENT_H3_SHORT_SET.csv").write_text("f1,iqa\n1.0,2.0\n")
    write("wrong.xyz", Atoms("HOH", REFERENCE * BOHR))
    write("two.xyz", Atoms("OH", REFERENCE[:2] * BOHR))
    Path("full").mkdir()
    Path("full/precious.txt").touch()
    Path("taken-train").mkdir()
    Path("taken-train/precious.txt").touch()
    Path("nan.xyz").write_text("\n".join(
        line.replace(line.split()[1], "nan", 1) if line.startswith("O ") else line
        for line in Path("test.xyz").read_text().splitlines()) + "\n")
    other = Path("test.xyz").read_text().replace("method=made-up", "method=HF")
    Path("level.xyz").write_text(other)
    Path("twice.xyz").write_text(2 * Path("test.xyz").read_text())


@pytest.mark.parametrize("arguments, words", [
    (["none.xyz"], "none.xyz: no such file"),
    (["."], ".: is not a file"),
    ([LABELS, "--test", "none.xyz"], "none.xyz: no such file"),
    ([LABELS, O1], "do not go together"),
    ([LABELS, "--test", O1], "do not go together"),
    ([LABELS, "test.xyz"], "one file of labels is needed, not 2"),
    ([LABELS, "--alf", "1,2,3"], "--alf is for CSV files"),
    ([LABELS, "--test", "test.xyz", "--hold-out", "0.2"], "exclude each other"),
    ([LABELS, "--protocol", "dl", "--sources", "2"], "--sources belongs to transfer learning"),
    ([LABELS, "--geometry", "wrong.xyz"], "are not those of bent-build/labels.xyz"),
    ([LABELS, "--test", "level.xyz"], "level.xyz: method HF"),
    ([LABELS, "-o", "full"], "full holds other files (precious.txt)"),
    ([LABELS, "-o", "test.xyz"], "test.xyz is a file"),
    ([LABELS, "-o", "taken"], "taken-train exists and is not of a training"),
    (["few.xyz"], "few.xyz: 7 training points are too few"),
    (["nan.xyz"], "nan.xyz"),
    (["twice.xyz"], "frames 1 and 13 are the same geometry"),
    ([O1], "give --alf 1,2,3"),
    ([O1, "--alf", "1,2,2"], "3 different atoms from 1 to 3"),
    ([O1, "--alf", "2,1,3"], "--alf 2,1,3 is not a local frame of BENT_O1"),
    ([O1, H2, "--alf", "1,2,3"], "--alf is needed once for each training set"),
    ([O1, "BENT_O1_SET.csv", "--geometry", "reference.xyz"], "atom O1 is trained twice"),
    ([O1, "OTHER_H2_SET.csv", "--geometry", "reference.xyz"], "several molecules (BENT, OTHER)"),
    ([O1, "BENT_H3_SHORT_SET.csv"], "BENT_H3_SHORT_SET.csv has 1 features"),
    (["unnamed.csv", "--alf", "1,2,3"], "does not tell the element"),
    ([O1, "--geometry", "wrong.xyz"], "atom 1 of --geometry is H, not O"),
    ([O1, "--geometry", "two.xyz"], "--geometry has 2 atoms"),
    ([O1, "--geometry", "reference.xyz", "-o", "w.fflux"], "training sets of all 3 atoms"),
    ([O1, H2, H3, "-o", "w.fflux", *"--alf 1,2,3 --alf 2,1,3 --alf 3,1,2".split()], "--geometry"),
    ([O1, H2, "--geometry", "reference.xyz", "--test", O1], "once for each training set"),
    ([O1, "--alf", "1,2,3", "--test", "BENT_H2_VALIDATION_SET.csv"], "is a set of H2, not of O1"),
    ([O1, "--alf", "1,2,3", "--link", "equivalent"], "--link equivalent needs --geometry"),
    ([O1, "--alf", "1,2,3", "--from", "benzene"], "the one to train O in the frame 1,2,3 of 3"),
    ([O1, "--alf", "1,2,3", "--from", "nothing"], "there is no model 'nothing'"),
])
def test_errors_are_one_line(arguments, words, capsys):
    prepare_errors()
    there = sorted(os.listdir())
    assert train(*arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("fflux: error: ") and error.count("\n") == 1
    assert words in error
    assert sorted(os.listdir()) == there


@pytest.mark.parametrize("arguments", [
    ["--hold-out", "1"], ["--alf", "a,b"], ["--moments", "all"], ["--bounds", "1"],
    ["--seed", "-1"], ["--protocol", "both"], ["--sour", "2"],
])
def test_wrong_arguments(arguments, capsys):
    with pytest.raises(SystemExit) as done:
        train(LABELS, *arguments)
    assert done.value.code == 2 and ": error: " in capsys.readouterr().err


def test_missing_dask_says_how_to_install(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert train(LABELS, "--scheduler", "tcp://127.0.0.1:1") == 2
    assert "pip install 'ase-fflux[dask]'" in capsys.readouterr().err


def test_models_on_a_dask_scheduler(capsys):
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None
    ) as cluster:
        address = cluster.scheduler_address
        assert train(LABELS, "--moments", "none", "--scheduler", address, "-o", "d.fflux") == 0
    assert f"3 models on the dask scheduler {address}" in capsys.readouterr().out
    assert train(LABELS, "--moments", "none", "-o", "h.fflux") == 0
    for one, other in zip(*(load_molecule(f"{name}.fflux").processes for name in "dh"),
                          strict=True):
        assert np.array_equal(one.gp.weights, other.gp.weights)


def test_every_option_tells_its_default():
    parser = argparse.ArgumentParser()
    subparsers = parser.add_subparsers()
    module.add_parser(subparsers)
    for action in subparsers.choices["train"]._actions:
        if action.option_strings and action.dest != "help":
            text = action.help % {"default": action.default}
            assert "(default: " in text, action.option_strings
