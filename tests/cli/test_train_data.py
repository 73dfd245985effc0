"""``fflux train --gradients`` on total energies and forces of other programs."""

import json
import re

import numpy as np
import pytest
from ase import Atoms

from ase_fflux.base.units import BOHR, FORCE, HARTREE
from ase_fflux.cli.main import main
from ase_fflux.formats import load_molecule
from ase_fflux.labels.dataset import append_labels
from ase_fflux.labels.importers.any_file import is_label_file
from ase_fflux.labels.label import labels_of

FEW = ["--budget", "5"]


@pytest.fixture
def archive(make_labels):
    def write(name, n=40, seed=0, molecule="water"):
        labels = make_labels(molecule, n, seed, spread=0.05)
        np.savez(
            name, z=Atoms(labels.symbols).numbers, R=labels.geometries * BOHR,
            E=labels.energies * HARTREE, F=-labels.gradients * FORCE, e_unit=np.array("eV"),
        )
        return labels

    return write


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_an_archive_becomes_a_bundle(here, archive, capsys):
    archive("data.npz")
    archive("unseen.npz", n=12, seed=3)
    command = "train data.npz --gradients --labels 12 -o toy.fflux --test unseen.npz".split()
    assert main([*command, *FEW]) == 0
    said = capsys.readouterr().out
    assert "12 labels, 4 symmetry operations: latent atomic energies, 12 totals and 36 " in said
    model = load_molecule("toy.fflux")
    assert model.latent and model.rank == -1 and len(model.geometries) == 12
    assert model.provenance["training"]["atomic_energies"] == "latent"
    errors = json.loads((here / "toy-train.json").read_text())["errors"]
    assert errors["energy RMSE"]["value"] < 1.0 and "atomic energy RMSE" not in errors
    assert main(["info", "toy.fflux"]) == 0
    assert "3 atoms, total energies (atomic ones latent), no moments, 12 labels" in \
        capsys.readouterr().out


@pytest.mark.parametrize("options, message", [
    ("--hold-out 0.1", "no atomic energies: total energies alone .* give --gradients"),
    ("--gradients --labels 50", "there are 36 labels to train on, fewer than 50"),
    ("--gradients --energy-key e", "no array e; there are E "),
    ("--gradients --energy-unit hartree", "forces of .* eV/A .* which tear molecules apart"),
    ("--gradients --length-unit bohr", "positions are in another unit"),
    ("--gradients --molecule CH4", "no molecule 'CH4'; there is H2O"),
    ("--gradients --test other.npz", r"symbols \('C', 'O', 'H', 'H'\) are not those of"),
])
def test_what_cannot_be_trained_on(archive, capsys, options, message):
    archive("data.npz")
    archive("other.npz", molecule="formaldehyde")
    assert main(["train", "data.npz", *options.split()]) == 2
    assert re.search(message, capsys.readouterr().err)


def test_options_of_data_sets_are_not_for_other_files(here, archive, capsys):
    labels = archive("data.npz")
    append_labels(here / "labels.xyz", labels_of(labels), labels.origins)
    assert is_label_file("labels.xyz") and not is_label_file("data.npz")
    assert main(["train", "labels.xyz", "--gradients", "--energy-key", "e"]) == 2
    assert "says itself what is in it: leave --energy-key out" in capsys.readouterr().err
    (here / "a.csv").write_text("f1,iqa\n")
    assert main(["train", "a.csv", "--labels", "5"]) == 2
    assert "--labels is for labels of whole molecules" in capsys.readouterr().err
    assert main(["train", "absent.npz", "--gradients"]) == 2
    assert "absent.npz: no such file" in capsys.readouterr().err
