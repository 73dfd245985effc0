import json

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.io import read, write

from ase_fflux.cli.main import main


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    frames = [
        Atoms("OHH", molecule("H2O").positions + 0.05 * rng.normal(size=(3, 3)))
        for _ in range(30)
    ]
    for number, atoms in enumerate(frames):
        atoms.info["origin"] = f"f{number + 1}"
    write("pool.xyz", frames)
    write("target.xyz", frames[:25])
    return tmp_path


def test_a_choice_and_what_is_expected_of_it(folder, capsys):
    command = ["select", "pool.xyz", "-n", "5", "--model", "water", "--target", "target.xyz"]
    assert main([*command, "--with-report"]) == 0
    said = capsys.readouterr().out
    assert "labels that no choice could do without" in said and "pool-select.png" in said
    chosen, pool = read("pool-select.xyz", ":"), read("pool.xyz", ":")
    summary = json.loads((folder / "pool-select.json").read_text())
    assert [a.info["choice"] for a in chosen] == [1, 2, 3, 4, 5]
    for atoms, frame in zip(chosen, summary["pool_frames"]["value"], strict=True):
        assert atoms.info["pool_frame"] == frame and atoms.info["origin"] == f"f{frame}"
        assert atoms.positions == pytest.approx(pool[frame - 1].positions, abs=1e-7)
        assert "fflux select pool.xyz" in atoms.info["command"]
    table = (folder / "pool-select.csv").read_text().splitlines()
    assert table[0].startswith("labels,pool_frame,expected_force_rmse_eV_per_A") and len(table) == 6
    assert main(command) == 0
    assert "kept the earlier output" in capsys.readouterr().out


@pytest.mark.parametrize(("arguments", "words"), [
    (["pool.xyz", "-n", "31", "--model", "water"], "has 30 frames: -n 31 is more than that"),
    (["pool.xyz", "--model", "water", "--charge", "1", "-n", "3"], "--charge is for GFN2-xTB"),
    (["other.xyz", "--model", "water", "-n", "2"], "other.xyz, frame 2 is NH3"),
    (["pool.xyz", "--target", "box.xyz", "--model", "water", "-n", "2"], "frame 1 is periodic"),
    (["pool.xyz", "--model", "ethanol", "-n", "2"], ""),
    (["pool.xyz", "--model", "none", "-n", "2"], "there is no model"),
])
def test_what_cannot_be_chosen_from_is_told_in_one_line(folder, capsys, arguments, words):
    write("other.xyz", [molecule("H2O"), molecule("NH3")])
    box = molecule("H2O", vacuum=3.0)
    box.pbc = True
    write("box.xyz", box)
    assert main(["select", *arguments]) == 2
    told = capsys.readouterr().err
    assert told.startswith("fflux: error:") and told.count("\n") == 1 and words in told
    assert not list(folder.glob("*-select*"))


def test_an_exchange_says_what_it_gained(folder, capsys):
    command = ["select", "pool.xyz", "-n", "4", "--model", "water", "--target", "target.xyz"]
    assert main([*command, "--exchange"]) == 0
    said = capsys.readouterr().out
    summary = json.loads((folder / "pool-select.json").read_text())
    assert f"exchanged {summary['exchange']['swaps']} times in" in said
    assert "% lower in the mean" in said and summary["exchange"]["gain"] >= 0
    assert main([*command, "--exchange", "--criterion", "G"]) == 2
    assert "--exchange is for --criterion V or D, not for G" in capsys.readouterr().err
