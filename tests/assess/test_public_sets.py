"""The benchmarks on public data sets: what they learn from, and what they keep."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

from ase_fflux.base.units import BOHR, HARTREE_KJ
from ase_fflux.labels.importers.foreign import read_foreign
from ase_fflux.labels.tblite_source import GFN2

pytest.importorskip("tblite.interface", exc_type=ImportError)

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
KCAL = HARTREE_KJ / 4.184
LABELS, CHEAP, FRAMES = 8, 12, 14


@pytest.fixture(scope="module")
def frames():
    """Water: positions, energies and forces (kcal/mol, Angstrom), of a level near GFN2-xTB."""
    rng, source, water = np.random.default_rng(1), GFN2(spin=0), molecule("H2O")
    positions = water.positions + 0.04 * rng.normal(size=(2 * FRAMES, 3, 3))
    energies, forces = [], []
    for x in positions:
        label = source.label(Atoms(water.numbers, x))
        energies.append(0.97 * KCAL * label.energy)
        forces.append(-0.97 * KCAL * label.gradient / BOHR)
    return water.numbers, positions, np.array(energies), np.array(forces)


def write_files(folder, frames, wrong=()):
    """Training and test file, the forces of some training frames wrong by a tenth."""
    numbers, positions, energies, forces = frames
    forces = forces.copy()
    forces[list(wrong)] *= 1.1
    for part, chosen in ("train", slice(FRAMES)), ("test", slice(FRAMES, None)):
        np.savez(
            folder / f"rmd17_ethanol_{part}_01.npz", nuclear_charges=numbers,
            coords=positions[chosen], energies=energies[chosen], forces=forces[chosen],
        )


@pytest.fixture
def rmd17(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import rmd17

    return rmd17


def run(rmd17, folder, monkeypatch):
    path = folder / "rows.json"
    monkeypatch.setattr(sys, "argv", [
        "rmd17.py", str(folder), "--molecules", "ethanol", "--labels", str(LABELS), "--kernels",
        "rbf-inverse", "--prior", "gfn2", "--cheap", str(CHEAP), "--json", str(path),
    ])
    rmd17.main()
    return json.loads(path.read_text())


def test_prior_of_a_cheap_level_takes_geometries_alone(
    rmd17, tmp_path, frames, monkeypatch, capsys
):
    write_files(tmp_path, frames)
    (row,) = run(rmd17, tmp_path, monkeypatch)
    assert row["cheap"] == CHEAP and row["labels"] == LABELS
    # labels of the level itself, and a difference that is 3 % of it
    assert row["prior_model"]["level_force_mae_mev_per_angstrom"] > 10
    assert row["force_mae_mev_per_angstrom"] < 1
    assert row["prior_model"]["force_mae_mev_per_angstrom"] < 1

    # what is there is not trained again, and printed in the same way
    table = capsys.readouterr().out.splitlines()[-1]
    monkeypatch.setattr(rmd17, "run", None)
    assert run(rmd17, tmp_path, monkeypatch) == [row]
    assert capsys.readouterr().out.splitlines()[-1] == table


def test_unused_labels_of_the_training_file_change_nothing(
    rmd17, tmp_path, frames, monkeypatch
):
    found = []
    unused = rmd17.order_of(FRAMES, 0)[LABELS:]
    for name, wrong in ("right", ()), ("wrong", unused):
        (tmp_path / name).mkdir()
        write_files(tmp_path / name, frames, wrong)
        (row,) = run(rmd17, tmp_path / name, monkeypatch)
        found.append(row["force_mae_mev_per_angstrom"])
    assert found[0] == pytest.approx(found[1], rel=1e-6)


def test_test_frames_that_are_in_the_training_file_are_left_out(tmp_path, frames, monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import botnet_sets

    write_files(tmp_path, frames)
    training, test = (
        read_foreign(tmp_path / f"rmd17_ethanol_{part}_01.npz") for part in ("train", "test")
    )
    mixed = test.select(np.arange(3))
    assert len(botnet_sets.without(mixed, training)) == 3
    assert len(botnet_sets.without(training, training.select(np.arange(5)))) == FRAMES - 5
