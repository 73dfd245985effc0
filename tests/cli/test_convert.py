import json
from pathlib import Path

import numpy as np
import pytest
from ase.symbols import symbols2numbers

from ase_fflux.cli.main import main
from ase_fflux.forcefield import ForceField
from ase_fflux.formats import locate, read_bundle, read_model_directory, write_bundle
from ase_fflux.model.frames import features
from ase_fflux.model.kernels import Kernel
from ase_fflux.model.molecule import AtomProcess, MoleculeModel
from ase_fflux.model.process import GaussianProcess
from ase_fflux.workflows.plain import MAX_POINTS


@pytest.fixture
def model():
    rng = np.random.default_rng(0)
    alf = np.array([[0, 1, 2], [1, 0, 2], [2, 0, 1]])
    shape = np.array([[0.0, 0.0, 0.0], [1.8, 0.0, 0.0], [-0.5, 1.7, 0.0]])
    geometries = shape + 0.1 * rng.normal(size=(8, 3, 3))
    processes = [
        AtomProcess(atom, ("iqa", "q00"), GaussianProcess(
            features(geometries, alf, atom), Kernel.periodic_on_phi(np.full(3, 0.3)),
            [-0.5, 0.1] if atom else [-75.0, -0.2], 0.01 * rng.normal(size=(2, 8)), 1e-8,
        )) for atom in range(3)
    ]
    return MoleculeModel(
        "water", ("O", "H", "H"), alf, tuple(processes), shape, geometries,
        {"label_source": "GFN2-xTB", "test": {"energy RMSE": {"value": 1.25, "unit": "kJ/mol"}}},
    )


@pytest.fixture
def work(tmp_path, model, monkeypatch):
    """A working directory with water.fflux; the bundled models are in models/ beside it."""
    (tmp_path / "models").mkdir()
    write_bundle(tmp_path / "models" / "water.fflux", model)
    monkeypatch.setattr(locate, "_PACKAGE", tmp_path / "ase_fflux")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    write_bundle("my.fflux", model)
    return tmp_path / "work"


def test_there_and_back(work, model, capsys):
    assert main(["convert", "my.fflux", "models"]) == 0
    assert "water: 3 atoms, 6 properties\nwrote 7 files in models, " in capsys.readouterr().out
    assert main(["convert", "models", "back.fflux"]) == 0
    assert "wrote back.fflux, " in capsys.readouterr().out
    back = read_bundle("back.fflux")
    assert back.provenance == model.provenance
    for a, b in zip(model.processes, back.processes, strict=True):
        x = a.gp.inputs + 0.05
        np.testing.assert_allclose(b.gp.predict(x), a.gp.predict(x), rtol=0, atol=1e-12)


def test_summary(work, capsys):
    assert main(["convert", "my.fflux", "models", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["model"], found["atoms"], found["properties"]) == ("water", 3, 6)
    assert sorted(found["files"]) == sorted(map(str, Path("models").iterdir()))
    assert found["size"] == {
        "value": sum(Path(file).stat().st_size for file in found["files"]), "unit": "B"
    }


def test_bundled_name_into_an_empty_directory(work):
    (work / "new").mkdir()
    assert main(["convert", "water", "new"]) == 0
    assert read_model_directory("new").name == "water"


def test_earlier_output_is_kept(work, capsys):
    for _ in range(2):
        assert main(["convert", "water", "models"]) == 0
        assert main(["convert", "models", "out.fflux"]) == 0
    out = capsys.readouterr().out
    assert "kept the earlier output as models.~1~\n" in out
    assert "kept the earlier output as out.fflux.~1~\n" in out
    assert len([*(work / "models.~1~").iterdir()]) == 7
    settings = (work / "models.settings.toml").read_text()
    assert 'source = "water"\noutput = "models"\n' in settings
    assert (work / "out.fflux.settings.toml.~1~").exists()
    assert (work / "out.fflux.~1~").read_bytes() == (work / "out.fflux").read_bytes()


@pytest.mark.parametrize("source, output, message", [
    ("my.fflux", "other.fflux", "my.fflux is a bundle already"),
    ("nothing", "other.fflux", "no model 'nothing'"),
    ("my.fflux", ".", "holds other files ("),
    ("my.fflux", "geometry.xyz", "geometry.xyz is a file and no directory of .model files"),
    ("models", "geometry.fflux", "geometry.fflux is there and is no bundle"),
    ("models", "folder.fflux", "folder.fflux is there and is no bundle"),
])
def test_refused(work, capsys, source, output, message):
    main(["convert", "my.fflux", "models"])
    for name in ("geometry.xyz", "geometry.fflux"):
        (work / name).write_text("1\n\nH 0 0 0\n")
    (work / "folder.fflux").mkdir()
    capsys.readouterr()
    before = sorted(work.iterdir())
    assert main(["convert", source, output]) == 2
    assert message in capsys.readouterr().err
    assert sorted(work.iterdir()) == before


def test_directory_to_directory_is_refused(work, capsys):
    main(["convert", "water", "models"])
    assert main(["convert", "models", "other"]) == 2
    assert "is a directory of .model files already" in capsys.readouterr().err
    assert not (work / "other").exists()


def test_damaged_source_leaves_earlier_output_alone(work, capsys):
    main(["convert", "water", "models"])
    (work / "my.fflux").write_bytes((work / "my.fflux").read_bytes()[:-100])
    assert main(["convert", "my.fflux", "models"]) == 2
    assert "my.fflux" in capsys.readouterr().err
    assert (work / "models" / "WATER_q00_O1.model").exists()


def test_info_of_a_model(work, capsys):
    assert main(["info", "water"]) == 0
    out = capsys.readouterr().out
    assert "H2O, 3 atoms, energies, moments up to charges, 8 training points" in out
    assert "H2    O1      H3        8       iqa, q00\n" in out
    assert "  label source: GFN2-xTB\n" in out
    assert "    energy RMSE: 1.25 kJ/mol\n" in out


def test_info_for_programs(work, capsys):
    assert main(["info", "water", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["formula"] == "H2O" and said["provenance"]["label_source"] == "GFN2-xTB"
    assert said["atoms"][1] == {
        "atom": 2, "symbol": "H", "x_axis": 1, "xy_plane": 3,
        "properties": [{"name": "iqa", "points": 8}, {"name": "q00", "points": 8}],
    }
    Path("water.toml").write_text(
        '[species.water]\nmodel = "water"\n[pairs]\nunits = "eV"\ncutoff = 4.5\n'
        "[pairs.lj]\nO-O = [0.008, 3.2]\n"
    )
    assert main(["info", "water.toml", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    (species,), (pair,) = said["species"], said["pairs"]["potentials_eV_A"]
    assert species["types"] == ["O", "H", "H"] and said["electrostatics"]["rank"] == 0
    assert pair["pair"] == "O-O" and pair["epsilon"] == pytest.approx(0.008)
    assert said["pairs"]["cutoff"] == {"value": pytest.approx(4.5), "unit": "A"}


def test_info_without_a_model_lists_the_bundled_ones(work, capsys, monkeypatch):
    assert main(["info"]) == 0
    assert capsys.readouterr().out.splitlines()[1].startswith("water  H2O      GFN2-xTB")
    monkeypatch.setattr(locate, "_PACKAGE", work / "nowhere" / "ase_fflux")
    main(["info"])
    assert "no bundled models" in capsys.readouterr().out


def test_info_of_a_diatomic_model_without_provenance(work, capsys):
    alf = np.array([[0, 1, -1], [1, 0, -1]])
    gp = GaussianProcess(np.array([[1.4], [1.5]]), Kernel([1.0], [0.0], [0.0]), [-0.5], [[1, -1]])
    write_bundle("h2.fflux", MoleculeModel(
        "H2", ("H", "H"), alf, (AtomProcess(0, ("iqa",), gp), AtomProcess(1, ("iqa",), gp)),
        np.array([[0.0, 0.0, 0.0], [1.4, 0.0, 0.0]]),
    ))
    assert main(["info", "h2.fflux"]) == 0
    out = capsys.readouterr().out
    assert "H1    H2      -         2       iqa\n" in out
    assert "no moments" in out
    assert "  not recorded\n" in out


@pytest.fixture
def trained_on_gradients(work, make_shared):
    model = make_shared(n_points=30, rank=0)
    write_bundle("joint.fflux", model)
    return model


def energy_of(model, geometry):
    numbers = symbols2numbers(model.symbols)
    forcefield = ForceField([model])
    own = forcefield.match(geometry, numbers, explicit=[list(range(len(numbers)))])
    return forcefield.evaluate(geometry, numbers, assignment=own, moments=True)


def test_model_trained_on_gradients_needs_plain(work, trained_on_gradients, capsys):
    (work / "old").mkdir()
    (work / "old" / "WATER_iqa_O1.model").write_text("kept")
    assert main(["convert", "joint.fflux", "old"]) == 2
    error = capsys.readouterr().err
    assert "fluoromethane was trained on gradients" in error and "--plain" in error
    assert (work / "old" / "WATER_iqa_O1.model").read_text() == "kept"


def test_plain(work, trained_on_gradients, capsys):
    assert main(["convert", "joint.fflux", "models", "--plain"]) == 0
    out = capsys.readouterr().out
    assert "plain weights: up to 270 points in a process\n" in out
    assert "loss at 50 geometries of 300 K dynamics: energy RMSE " in out
    back = read_model_directory("models")
    assert back.provenance["plain_weights"]["points"] == 270
    geometry = trained_on_gradients.geometries[3]
    expected, found = (energy_of(m, geometry) for m in (trained_on_gradients, back))
    np.testing.assert_allclose(found.energies, expected.energies, rtol=0, atol=1e-6)
    np.testing.assert_allclose(found.forces, expected.forces, rtol=0, atol=1e-6)
    np.testing.assert_allclose(found.moments, expected.moments, rtol=0, atol=1e-10)


def test_plain_of_fewer_points(work, trained_on_gradients, capsys):
    assert main(["convert", "joint.fflux", "models", "--plain", "--points", "201"]) == 0
    assert "up to 200 points in a process, thinned from 270 (--points 270 keeps them)" in (
        capsys.readouterr().out
    )


@pytest.mark.parametrize("arguments, message", [
    (["my.fflux", "models", "--plain"], "water was not trained on gradients"),
    (["my.fflux", "models", "--points", "9"], "--points is the size of what --plain makes"),
    (["my.fflux", "models", "--points", "0"], "invalid positive whole number value: '0'"),
    (["water", "x.fflux", "--plain"], "is a bundle already"),
    (["joint.fflux", "models", "--plain", "--points", "1"], "give at least that many points"),
])
def test_plain_refused(work, trained_on_gradients, capsys, arguments, message):
    before = sorted(work.iterdir())
    try:
        status = main(["convert", *arguments])
    except SystemExit as stop:
        status = stop.code
    assert status == 2
    assert message in capsys.readouterr().err
    assert sorted(work.iterdir()) == before


def test_directory_has_no_gradients_to_do_without(work, capsys):
    main(["convert", "water", "models"])
    assert main(["convert", "models", "x.fflux", "--plain"]) == 2
    assert "--plain is for .model files" in capsys.readouterr().err


def test_info_of_a_model_that_shares(work, trained_on_gradients, capsys):
    assert main(["info", "joint.fflux"]) == 0
    out = capsys.readouterr().out
    assert "moments up to charges, 30 labels, 15 of them with gradients\n" in out
    assert "symmetry: 6 operations, 3 of them with reflection\n" in out
    assert "noise levels: energy of an atom 0.0026255 kJ/mol, gradient 0.000514221 eV/A\n" in out
    rows = [line.split() for line in out.splitlines()]
    assert ["H3", "H4", "H5", "iqa", "30", "3", "2", "180"] in rows
    assert ["C1", "q00", "30", "1", "2", "60"] in rows


def test_info_of_shared_processes_without_gradients(work, make_shared, capsys):
    write_bundle("values.fflux", make_shared(n_points=4, gradients=False))
    assert main(["info", "values.fflux"]) == 0
    assert "4 labels, 0 of them with gradients" in capsys.readouterr().out


def test_help_states_the_limit_that_is_used(capsys):
    with pytest.raises(SystemExit):
        main(["convert", "--help"])
    assert f"(default: {MAX_POINTS})" in " ".join(capsys.readouterr().out.split())
