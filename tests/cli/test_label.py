"""``fflux label`` and ``fflux import``."""

import json
from pathlib import Path

import numpy as np
import pytest
from ase.build import molecule
from ase.io import write

from ase_fflux.cli.main import main
from ase_fflux.labels.dataset import read_dataset


def test_label_with_pyscf(tmp_path, monkeypatch, capsys):
    pytest.importorskip("pyscf", reason="ab initio labels need PySCF")
    monkeypatch.chdir(tmp_path)
    write("w.xyz", molecule("H2O"))
    assert main(["label", "w.xyz", "--basis", "6-31G", "--partition", "hirshfeld"]) == 0
    found = read_dataset("w-labels.xyz")
    assert (found.method, found.partition, found.rank) == ("B3LYP/6-31G", "hirshfeld", 4)
    assert "1 labels added, 0 were there, 0 geometries rejected" in capsys.readouterr().out


def test_label_with_gfn2(tmp_path, monkeypatch, capsys):
    pytest.importorskip("tblite", reason="GFN2-xTB labels need tblite")
    monkeypatch.chdir(tmp_path)
    write("w.xyz", molecule("H2O"))
    assert main(["label", "w.xyz", "--reference", "gfn2", "-o", "l.xyz", "--workers", "1"]) == 0
    assert read_dataset("l.xyz").method == "GFN2-xTB"
    assert main(["label", "w.xyz", "--reference", "gfn2", "--basis", "x"]) == 2
    capsys.readouterr()
    assert main(["label", "w.xyz", "--reference", "gfn2", "-o", "l.xyz", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["labelled"], found["labelled_before"], found["rejected"]) == (0, 1, [])
    assert found["labels"] == 1 and not found["interrupted"]
    assert (found["method"], found["files"]) == ("GFN2-xTB", ["l.xyz"])
    # what was run stands beside the labels, for each of the commands that made them
    assert main(["label", "--config", "l.xyz.settings.toml"]) == 0
    assert Path("l.xyz.settings.toml.~1~").exists()


def test_a_file_that_is_no_label_file_is_no_output(tmp_path, monkeypatch, capsys):
    pytest.importorskip("tblite", reason="GFN2-xTB labels need tblite")
    monkeypatch.chdir(tmp_path)
    write("w.traj", molecule("H2O"))
    Path("n.traj").write_bytes(Path("w.traj").read_bytes())
    before = Path("w.traj").read_bytes()
    for output, said in (("w.traj", "the place of the input"), ("n.traj", "no label file")):
        command = ["label", "w.traj", "--reference", "gfn2", "-o", output, "--workers", "1"]
        assert main(command) == 2
        assert said in capsys.readouterr().err
        assert Path(output).read_bytes() == before


def test_a_killed_run_goes_on(tmp_path, monkeypatch, capsys):
    pytest.importorskip("tblite", reason="GFN2-xTB labels need tblite")
    monkeypatch.chdir(tmp_path)
    frames = [molecule("H2O") for _ in range(2)]
    frames[1].positions[1] *= 1.01
    write("w.xyz", frames)
    command = ["label", "w.xyz", "--reference", "gfn2", "-o", "l.xyz", "--workers", "1"]
    assert main(command) == 0
    whole = Path("l.xyz").read_bytes()
    Path("l.xyz").write_bytes(whole[:-20])
    assert main(command) == 0
    assert "1 labels added, 1 were there" in capsys.readouterr().out
    assert Path("l.xyz").read_bytes() == whole


def test_summary_of_an_interrupted_run(tmp_path, monkeypatch, capsys):
    pytest.importorskip("tblite", reason="GFN2-xTB labels need tblite")

    def interrupted(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("ase_fflux.workflows.labelling.label_geometries", interrupted)
    write("w.xyz", molecule("H2O"))
    assert main(["label", "w.xyz", "--reference", "gfn2", "-o", "l.xyz", "--json"]) == 130
    found = json.loads(capsys.readouterr().out)
    assert found["interrupted"] and found["labels"] == 0


def test_import(tmp_path, monkeypatch, capsys, reference):
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        assert main(["import", str(reference / "aimall"), "-o", "l.xyz"]) == 0
    assert "kept the earlier output as l.xyz.~1~" in capsys.readouterr().out
    assert {"l.xyz.settings.toml", "l.xyz.settings.toml.~1~"} <= {p.name for p in Path().iterdir()}
    found = read_dataset("l.xyz")
    assert found.rank == 4 and found.partition == "qtaim" and len(found) == 1


def test_import_of_nothing(tmp_path, capsys):
    assert main(["import", str(tmp_path / "nowhere")]) == 2
    assert main(["import", str(tmp_path)]) == 2
    assert "no .int files of AIMAll" in capsys.readouterr().err


@pytest.mark.parametrize("where", ["O1.csv", "."])
def test_training_sets_are_trained_on_as_they_are(tmp_path, capsys, where):
    (tmp_path / "O1.csv").write_text("f1,f2,f3,iqa\n1.8,1.8,1.8,-75.0\n")
    assert main(["import", str(tmp_path / where), "-o", str(tmp_path / "l.xyz")]) == 2
    error = capsys.readouterr().err
    assert "O1.csv" in error and "fflux train" in error


def test_label_on_a_dask_scheduler(tmp_path, monkeypatch, capsys):
    """Two processes make the labels that this one makes."""
    pytest.importorskip("tblite", reason="GFN2-xTB labels need tblite")
    distributed = pytest.importorskip("distributed", reason="needs dask's distributed")
    monkeypatch.chdir(tmp_path)
    frames = [molecule("H2O") for _ in range(5)]
    for k, frame in enumerate(frames):
        frame.rattle(0.02, seed=k)
    write("w.xyz", frames)
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
    ) as cluster:
        address = ["--scheduler", cluster.scheduler_address]
        assert main(["label", "w.xyz", "--reference", "gfn2", "-o", "d.xyz", *address]) == 0
    assert "5 labels added" in capsys.readouterr().out
    assert main(["label", "w.xyz", "--reference", "gfn2", "-o", "h.xyz", "--workers", "1"]) == 0
    np.testing.assert_allclose(
        read_dataset("d.xyz").atomic_energies, read_dataset("h.xyz").atomic_energies, atol=1e-9
    )
    assert main(["label", "w.xyz", "--workers", "2", *address]) == 2
    assert "a dask cluster has its own workers" in capsys.readouterr().err
