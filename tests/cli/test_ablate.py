import csv
import json
import os

import numpy as np
import pytest

from ase_fflux.cli.main import main
from ase_fflux.formats.training_set import TrainingSet, write_training_set
from ase_fflux.learn.gp.settings import TrainingSettings, Transfer
from ase_fflux.workflows import ablation
from ase_fflux.workflows.ablation import variants

INPUT, TEST = "WATER_O1_TRAINING_SET.csv", "WATER_O1_VALIDATION_SET.csv"
OUTPUT = ["small-ablation.csv", "small-ablation.json", "small-ablation.png"]
N_VARIANTS = len(variants(TrainingSettings(transfer=Transfer(fractions=(0.45,)))))


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch):
    """A folder with a training and a validation set."""
    monkeypatch.chdir(tmp_path)
    for name, count, seed in ((INPUT, 90, 0), (TEST, 30, 1)):
        x = np.random.default_rng(seed).uniform(1.0, 3.0, (count, 3))
        y = 0.01 * (np.sin(x[:, 0] * x[:, 1]) + np.exp(-x[:, 2]))
        write_training_set(name, TrainingSet(x, {"iqa": y - 75.0, "q00": y}))


def ablate(*arguments):
    return main([
        "ablate", INPUT, "--test", TEST, "--noise", "1e-6", "-o", "small", *arguments, "--fraction",
        "0.45",
    ])


def test_table_and_files(capsys):
    assert ablate("--repeat", "2") == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "O1 iqa: 90 points, 3 features; 30 points held out"
    assert said[-1] == f"wrote {', '.join([*OUTPUT, 'small.toml'])}"
    head, *lines = said[1:-1]
    assert head.split()[0] == "variant" and "RMSE/kJ/mol" in head
    assert len(lines) == N_VARIANTS and {len(line) for line in lines} == {len(head)}
    direct = lines[0].split()
    assert direct[0] == "direct" and float(direct[3]) == 1.0 and float(direct[-1]) == 1.0

    told = json.load(open(OUTPUT[1]))
    assert told["command"].startswith("fflux ablate") and told["model"] == "O1 iqa"
    assert told["settings"]["noise"] == 1e-6 and told["unit_of_rmse"] == "kJ/mol"
    assert len(told["medians"]) == N_VARIANTS and len(told["runs"]) == 2 * N_VARIANTS
    assert {run["seed"] for run in told["runs"]} == {0, 1}
    assert all(run["steps"] for run in told["runs"])
    assert told["medians"]["direct"]["rmse"] == pytest.approx(float(direct[7]), rel=1e-3)
    rows = list(csv.DictReader(open(OUTPUT[0])))
    assert [float(r["rmse_kJ_per_mol"]) for r in rows] == [r["rmse"] for r in told["runs"]]
    assert open(OUTPUT[2], "rb").read(4) == b"\x89PNG"


def test_property_seed_and_backups(capsys):
    assert ablate("--repeat", "1", "--property", "q00", "--seed", "7", "--json") == 0
    first = capsys.readouterr()
    assert json.loads(first.out) == json.load(open(OUTPUT[1]))
    assert ablate("--repeat", "1") == 0
    said = first.err + capsys.readouterr().out
    assert "RMSE/e" in said and "\nfrom O1 iqa " in said
    assert "kept the earlier output as small-ablation.csv.~1~" in said
    assert {run["seed"] for run in json.load(open("small-ablation.json.~1~"))["runs"]} == {7}


def test_default_names(capsys):
    assert main(["ablate", INPUT, "--repeat", "1", "--fraction", "0.45"]) == 0
    assert "81 points, 3 features; 9 points held out" in capsys.readouterr().out
    assert os.path.exists("WATER_O1_TRAINING_SET-ablation.csv")


def test_interrupted_runs_are_kept(capsys, monkeypatch):
    train, left = ablation.train, [4]

    def stopping(*arguments):
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt
        return train(*arguments)

    monkeypatch.setattr(ablation, "train", stopping)
    assert ablate() == 130
    # the first call only loads what later ones need
    assert [row["variant"] for row in csv.DictReader(open(OUTPUT[0]))] == ["direct", "protocol"]


def test_errors_leave_no_files(capsys):
    for arguments, said in (
        (("--property", "q10"), "no property 'q10'"), (("--atom", "O1"), "leave --atom O1 out"),
        (("--seeding", "partial", "--protocol", "dl"), "belongs to transfer learning"),
    ):
        assert ablate(*arguments) == 2
        assert said in capsys.readouterr().err
    assert main(["ablate", INPUT, "--protocol", "dl"]) == 2
    assert "leave --protocol dl out" in capsys.readouterr().err
    assert sorted(os.listdir()) == [INPUT, TEST]
