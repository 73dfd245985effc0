import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.io import read, write

import ase_fflux
from ase_fflux import FFLUX
from ase_fflux.cli.main import main
from ase_fflux.formats.bundle import read_bundle
from ase_fflux.labels import sampling
from ase_fflux.labels.dataset import count_labels
from ase_fflux.labels.tblite_source import GFN2
from ase_fflux.learn.joint.settings import JointSettings

pytest.importorskip("tblite.interface", exc_type=ImportError)

SMALL = ("--labels", "24", "--test-frames", "3")
TEST = 3
"""Test labels, which come first."""


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch):
    """An empty folder with water.xyz, and short trajectories."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sampling, "EQUILIBRATION", 20.0)
    monkeypatch.setattr(sampling, "TIME_STEP", 2.0)
    write("water.xyz", molecule("H2O"))


def build(*arguments):
    return main(["build", "water.xyz", *SMALL, *arguments])


@pytest.fixture
def stop_after(monkeypatch):
    """Ctrl-C at the label after so many, once."""

    def arm(calls):
        label, left = GFN2.label, [calls]

        def stopping(self, atoms):
            left[0] -= 1
            if left[0] == -1:
                raise KeyboardInterrupt
            return label(self, atoms)

        monkeypatch.setattr(GFN2, "label", stopping)

    return arm


def test_report(capsys):
    assert build() == 0
    said, progress = capsys.readouterr()
    assert progress == ""  # no bar where there is no terminal
    assert re.search(r"wrote water.fflux \(\d+ kB, 24 training geometries\)", said)
    assert "errors against GFN2-xTB, 3 frames at 300 K and 1 minimum:" in said
    (line,) = [line for line in said.splitlines() if line.strip().startswith("energy RMSE")]
    assert float(line.split()[2]) < 1 and line.endswith("kJ/mol")
    plan, *_ = said.splitlines()
    assert plan.startswith("24 labels, 4 symmetry operations: 72 atomic energies, 24 totals and ")
    *_, advice = said.splitlines()
    assert advice.startswith("held-out force RMSE ") and " eV/A with 24 labels: " in advice
    assert "0.02 eV/A" in advice  # the goal
    model = FFLUX("water.fflux").forcefield.models[0]
    assert model.provenance["command"] == "fflux build water.xyz --labels 24 --test-frames 3"
    assert sorted(os.listdir()) == [
        "water-build", "water-report.html", "water.fflux", "water.toml", "water.xyz",
    ]


def test_names(capsys):
    assert build("-o", "small", "--seed", "3", "--noise", "1e-7", "--temperature", "300") == 0
    assert sorted(os.listdir()) == [
        "small-build", "small-report.html", "small.fflux", "small.toml", "water.xyz",
    ]
    model = FFLUX("small.fflux").forcefield.models[0]
    assert model.provenance["settings"]["sampling"]["seed"] == 3
    assert model.provenance["settings"]["sampling"]["temperature"] == 300
    assert model.provenance["training"]["moments"]["noise"] == 1e-7
    assert [p.gp.noise for p in model.processes if "q00" in p.properties] == [1e-7] * 3
    assert model.provenance["labels"]["md300K"] == 12


def test_energies_only(capsys):
    assert build("--energies-only", "--noise", "1e-7") == 0
    said = capsys.readouterr().out
    assert said.startswith("wrote water.fflux") and "held-out" not in said
    model = FFLUX("water.fflux").forcefield.models[0]
    assert model.shared is None and model.provenance["learning_curve"] is None
    assert [p.gp.noise for p in model.processes] == [1e-7] * 6


def test_no_symmetry(capsys):
    assert build("--no-symmetry") == 0
    assert capsys.readouterr().out.startswith("24 labels, 1 symmetry operations: ")
    model = FFLUX("water.fflux").forcefield.models[0]
    assert len(model.shared.symmetry) == 1 and len({id(p.gp) for p in model.processes}) == 6


@pytest.mark.parametrize("option", ["--stop", "--no-symmetry"])
def test_options_of_gradients_do_not_go_with_energies_only(option, capsys):
    assert build("--energies-only", option) == 2
    assert f"{option} does not go with --energies-only" in capsys.readouterr().err
    assert not Path("water-build").exists()


def test_goal_and_stop(capsys):
    assert build("--labels", "40", "--goal", "1000", "--stop") == 0
    said = capsys.readouterr().out
    assert count_labels("water-build/labels.xyz") == 20
    assert "20 training geometries" in said and "with 20 labels" in said
    model = FFLUX("water.fflux").forcefield.models[0]
    assert model.provenance["settings"]["goal"] == 1000 and model.provenance["settings"]["stop"]


def test_more_labels_are_added_to_those_that_are_there(capsys):
    assert build() == 0
    kept = Path("water-build/labels.xyz").read_text()
    assert build("--labels", "30") == 0
    assert "kept the earlier output as water.fflux.~1~" in capsys.readouterr().out
    assert Path("water-build/labels.xyz").read_text().startswith(kept)
    assert count_labels("water-build/labels.xyz") == 30
    assert len(FFLUX("water.fflux").forcefield.models[0].geometries) == 30
    assert len(read_bundle("water.fflux.~1~").geometries) == 24


def test_interrupt_and_resume(stop_after, capsys):
    stop_after(TEST + 5)
    assert build() == 130
    said = capsys.readouterr().out
    assert "labels are kept in water-build" in said and "the same command goes on" in said
    assert count_labels("water-build/labels.xyz") == 5
    assert not Path("water.fflux").exists()
    kept = Path("water-build/labels.xyz").read_text()
    assert build() == 0
    assert Path("water-build/labels.xyz").read_text().startswith(kept)
    assert len(FFLUX("water.fflux").forcefield.models[0].geometries) == 24


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals")
def test_ctrl_c():
    """A real signal to a real process in the middle of labelling."""
    root = str(Path(ase_fflux.__file__).resolve().parents[1])
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    # the handler, because a shell in the background lets its commands ignore Ctrl-C
    code = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from ase_fflux.cli.main import main; sys.exit(main())"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, "build", "water.xyz", "--test-frames", "20000"],
        env={**os.environ, "PYTHONPATH": path}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    )
    labels = Path("water-build/test.xyz")
    try:
        deadline = time.monotonic() + 300
        while not labels.exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        assert labels.exists(), process.communicate(timeout=5)
        # Python drops a signal that arrives while a finaliser runs: press again if need be, but not
        # while the first one still ends the process, which a second one would kill
        for _ in range(4):
            process.send_signal(signal.SIGINT)
            try:
                out, _ = process.communicate(timeout=300)
                break
            except subprocess.TimeoutExpired:
                continue
    finally:
        process.kill()
    assert process.returncode == 130
    assert "the same command goes on from there" in out
    assert count_labels(labels) >= 1
    assert len(read(labels, ":")) == count_labels(labels)


def test_refused_input_does_not_block_the_right_one(capsys):
    """The charge was forgotten; the folder belongs to nobody yet."""
    write("water.xyz", Atoms("NH4", 0.6 * np.array(
        [[0, 0, 0], [1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]
    )))
    assert build() == 2
    assert "11 electrons" in capsys.readouterr().err
    assert os.listdir() == ["water.xyz"]
    assert build("--charge", "1") == 0
    assert read_bundle("water.fflux").charge == 1


@pytest.mark.parametrize("options, words", [
    ((), "set --spin 2"), (("--spin", "1"), "16 electrons, which cannot leave 1 unpaired"),
])
def test_oxygen(options, words, capsys):
    write("water.xyz", molecule("O2"))
    assert build(*options) == 2
    assert words in capsys.readouterr().err
    assert os.listdir() == ["water.xyz"]


def test_radical(capsys):
    write("water.xyz", molecule("CH3"))
    assert build("--spin", "1", "--test-temperature", "200") == 0
    said = capsys.readouterr().out
    assert "errors against spGFN2-xTB, 3 frames at 200 K" in said
    settings = read_bundle("water.fflux").provenance["label_settings"]
    assert settings == {"accuracy": 1e-3, "charge": 0, "spin": 1}


def test_periodic_input_is_refused(capsys):
    write("water.xyz", molecule("H2O", cell=[9, 9, 9], pbc=True))
    assert build() == 2
    error = capsys.readouterr().err
    assert "periodic" in error and "--vacuum" in error and error.count("\n") == 1
    assert os.listdir() == ["water.xyz"]


def test_other_settings_are_refused(stop_after, capsys):
    stop_after(TEST + 3)
    build()
    before = Path("water-build/labels.xyz").read_text()
    capsys.readouterr()
    assert build("--seed", "2") == 2
    assert "water-build belongs to a build with other settings" in capsys.readouterr().err
    assert Path("water-build/labels.xyz").read_text() == before


def test_missing_tblite_says_how_to_install(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "tblite", None)
    assert build() == 2
    assert "pip install 'ase-fflux[all]'" in capsys.readouterr().err
    assert not Path("water-build").exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "water.xyz: no such file"),
        ("rubbish", "water.xyz, line 1: 'rubbish' is not a number of atoms"),
        ("2\n\nH 0 0 0\nH 0 0 nan\n", "water.xyz: atom 2 (H) has a coordinate"),
        ("2\n\nO 0 0 0\nH 0 0 1\n", "cannot leave 0 unpaired"),
    ],
)
def test_bad_geometry(text, words, capsys):
    path = Path("water.xyz")
    path.unlink() if text is None else path.write_text(text)
    assert build() == 2
    error = capsys.readouterr().err
    assert error.startswith("fflux: error: ") and words in error and error.count("\n") == 1
    assert not Path("water.fflux").exists()


@pytest.mark.parametrize(
    "arguments",
    [["--labels", "0"], ["--temperature", "-1"], ["--noise", "0"], ["--charge", "x"],
     ["--goal", "0"], ["--label", "3"]],
)
def test_wrong_arguments(arguments, capsys):
    with pytest.raises(SystemExit) as done:
        build(*arguments)
    assert done.value.code == 2
    assert arguments[0] in capsys.readouterr().err


def test_help_teaches(capsys):
    with pytest.raises(SystemExit):
        main(["build", "--help"])
    out = capsys.readouterr().out
    assert "fflux build ethanol.xyz -o ethanol.fflux" in out
    assert "They are not IQA energies" in " ".join(out.split())


def test_options_of_pyscf_need_it(capsys):
    assert build("--basis", "6-31G") == 2
    assert "GFN2-xTB has no basis to choose" in capsys.readouterr().err


def test_ab_initio_labels_are_few_and_their_test_frames_far_apart(monkeypatch):
    pytest.importorskip("pyscf", reason="ab initio labels need PySCF")
    asked = []

    def remember(conformers, output, source, settings, training, *args, **kwargs):
        asked.append((source, settings, training))
        raise KeyboardInterrupt

    monkeypatch.setattr("ase_fflux.workflows.build.build", remember)
    assert main(["build", "water.xyz", "--reference", "pyscf", "--partition", "hirshfeld"]) == 130
    source, settings, training = asked[0]
    assert training.energies == JointSettings.of_atoms("hirshfeld")
    assert (source.method, source.partition) == ("B3LYP/6-31+G(d,p)", "hirshfeld")
    assert (settings.labels, settings.sampling.test_frames) == (150, 50)
    assert settings.sampling.test_stride == 100.0
    # dear labels are chosen before they are made, unless a mix is asked for
    assert settings.design
    mix = "--design", "mix"
    assert main(["build", "water.xyz", "--reference", "pyscf", *mix]) == 130
    assert main(["build", "water.xyz", "--reference", "pyscf", "--energies-only"]) == 130
    assert main(["build", "water.xyz"]) == 130
    assert not any(settings.design for _, settings, _ in asked[1:])


def test_what_has_no_cheaper_level_is_not_designed(capsys):
    assert build("--design", "V") == 2
    assert "GFN2-xTB has none: use --design mix" in capsys.readouterr().err


def test_absurd_temperatures_are_refused_by_name(capsys):
    for option in ("--temperature", "--test-temperature"):
        with pytest.raises(SystemExit) as done:
            build(option, "1e30")
        error = capsys.readouterr().err
        assert done.value.code == 2 and option in error and "10000 K" in error
    assert not Path("water-build").exists()


def test_summary(capsys):
    assert build("--json") == 0
    said = capsys.readouterr()
    summary = json.loads(said.out)
    assert summary["errors"]["force RMSE"]["unit"] == "eV/A"
    assert summary["learning_curve"]["labels"] == [24] and summary["minima"] == 1
    assert all(Path(name).exists() for name in summary["files"])
    assert "errors against GFN2-xTB" in said.err
