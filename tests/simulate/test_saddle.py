import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.constraints import FixAtoms
from ase.io import read, write

from ase_fflux import FFLUX
from ase_fflux.base.errors import FFLUXError, GeometryError
from ase_fflux.base.units import KJ_PER_MOL
from ase_fflux.cli import systems
from ase_fflux.cli.main import main
from ase_fflux.simulate import saddle, saddle_files
from ase_fflux.simulate.optimise import optimise, relaxation
from ase_fflux.simulate.saddle import relation, saddle_search, turned_torsion, way_down
from ase_fflux.simulate.vibrations.analysis import vibrations

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
HEIGHT = 0.1 / KJ_PER_MOL


def with_sella():
    return pytest.importorskip("sella", reason="Sella (extra saddle) is not installed")


@pytest.fixture
def planar(peroxide):
    """Near the trans saddle point of the torsion, in a plane that forces do not leave."""
    peroxide.positions[:] = [[-0.5, 0.9, 0], [0, 0, 0], [1.4, 0, 0], [1.9, -0.9, 0]]
    return peroxide


@pytest.fixture
def skew(planar):
    """Off the plane by as much as a guess may be."""
    planar.set_dihedral(0, 1, 2, 3, 165, indices=[3])
    return planar


def test_ways_down_from_a_known_torsion(planar):
    top = optimise(planar, fmax=1e-5).atoms.copy()
    top.calc = planar.calc
    modes = vibrations(top)
    assert (modes.wavenumbers < 0).sum() == 1
    one, other = (way_down(top, modes, sign) for sign in (1, -1))
    assert one.is_minimum and other.is_minimum
    for end in (one, other):
        assert abs(end.atoms.get_dihedral(0, 1, 2, 3) - 180) == pytest.approx(90, abs=0.5)
        bare, with_quanta = saddle.below(end, modes)
        assert bare == pytest.approx(HEIGHT, rel=1e-4)
        # the torsion's own quantum is the end's alone
        assert with_quanta < bare
    assert relation(one.atoms, other.atoms) == "mirrored"
    assert turned_torsion(one.atoms, other.atoms).label(top) == "torsion H1-O2-O3-H4"
    assert turned_torsion(one.atoms, one.atoms) is None


def test_a_soft_mode_is_left_all_the_same(planar):
    """Where the forces near the top are below the threshold of convergence already."""
    planar.calc.height = 1e-4
    top = optimise(planar, fmax=1e-7).atoms.copy()
    top.calc = planar.calc
    end = way_down(top, vibrations(top), 1, fmax=0.01)
    assert abs(end.atoms.get_dihedral(0, 1, 2, 3) - 180) == pytest.approx(90, abs=5)


def test_how_minima_belong_together():
    anti = read(EXAMPLES / "ethanol.xyz")
    anti.calc = FFLUX("ethanol")
    anti = optimise(anti).atoms
    turned = anti.copy()
    turned.rotate_dihedral(2, 1, 0, 6, 120, indices=[6, 7, 8])
    gauche, mirrored = anti.copy(), anti.copy()
    gauche.set_dihedral(0, 1, 2, 3, 60, indices=[3])
    mirrored.set_dihedral(0, 1, 2, 3, -60, indices=[3])
    moved = anti.copy()
    moved.rotate(70, "x")
    moved.positions += 1.0
    assert relation(anti, moved) == "one"
    assert relation(anti, turned) == "equivalent"
    assert relation(anti, gauche) == "different"
    assert relation(gauche, mirrored) == "mirrored"
    assert turned_torsion(anti, gauche).label(anti) == "torsion C1-C2-O3-H4"


def test_exchanged_molecules_of_a_cluster():
    """Of whose 12! times 2^12 relabellings few are tried."""
    cluster = Atoms()
    for n in range(12):
        water = molecule("H2O")
        water.rotate(40 * n, "x")
        water.positions += [3 * n, 0.4 * n * n, 0]
        cluster += water
    other = cluster.copy()
    other.positions = cluster.positions[[3, 4, 5, 0, 1, 2, *range(6, 36)]]
    assert relation(cluster, other) == "equivalent"
    assert relation(cluster, cluster) == "one"
    other.positions[-1] += 1.0
    assert relation(cluster, other) == "different"


def test_what_has_no_saddle_point_is_refused(peroxide):
    periodic, fixed, bare = peroxide.copy(), peroxide.copy(), peroxide.copy()
    for atoms in (periodic, fixed):
        atoms.calc = peroxide.calc
    periodic.pbc = True
    fixed.set_constraint(FixAtoms([0]))
    for atoms, what in ((periodic, "--vacuum"), (fixed, "constraints"), (bare, "no forces")):
        with pytest.raises(FFLUXError, match=what):
            saddle.require_free(atoms)


def test_sella_that_is_missing_or_too_old(monkeypatch):
    monkeypatch.setattr(saddle.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FFLUXError, match=r"not installed: pip install 'ase-fflux\[saddle\]'"):
        saddle.load_sella()
    monkeypatch.setattr(saddle.importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(saddle, "version_of", lambda name: "2.4.2")
    with pytest.raises(FFLUXError, match=r"Sella 2\.4\.2 is too old: pip install --upgrade"):
        saddle.load_sella()


@pytest.fixture
def work(tmp_path, monkeypatch, planar):
    """A command whose search is an optimisation, which stays on the saddle point of a plane."""
    def search(atoms, *, fmax, steps, cartesian):
        yield from relaxation(atoms, fmax=fmax, steps=steps)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(systems, "build_calculator", lambda args: planar.calc)
    monkeypatch.setattr(systems, "expected_errors", lambda calculator: {})
    monkeypatch.setattr(saddle, "load_sella", lambda: None)
    monkeypatch.setattr(saddle_files, "saddle_search", search)
    write("a.xyz", planar.copy())
    return tmp_path


def test_command(work, capsys):
    assert main(["ts", "a.xyz", "--model", "p"]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    for part in (
        "one imaginary mode (", "end 1: 9.65 kJ/mol below it", "mirror images of each other",
        "torsion H1-O2-O3-H4: ", "a-ts-end-2.xyz",
    ):
        assert part in said.out
    summary = json.loads(Path("a-ts.json").read_text())
    assert summary["saddle_point"] and summary["imaginary_modes"] == 1
    assert summary["relation_of_the_ends"] == "mirrored"
    for end in summary["ends"]:
        assert end["minimum"] and end["barrier"]["unit"] == "kJ/mol"
        assert end["barrier"]["value"] == pytest.approx(HEIGHT, rel=1e-3)
        bottom = read(end["file"])
        assert bottom.get_potential_energy() == pytest.approx(end["energy"]["value"])
    (animation,) = Path("a-ts-modes").glob("mode-1_-*i.xyz")
    assert len(read(animation, ":")) == 20
    assert len(read("a-ts.traj", ":")) == summary["steps"] + 1
    # again: nothing is overwritten, and the summary alone is printed
    assert main(["ts", "a.xyz", "--model", "p", "--json"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["saddle_point"] and "kept the earlier output as" in said.err
    assert Path("a-ts-end-1.xyz.~1~").exists()


def test_a_minimum_is_told_and_has_no_ends(work, capsys, peroxide):
    peroxide.set_dihedral(0, 1, 2, 3, 100, indices=[3])
    write("b.xyz", peroxide.copy())
    assert main(["ts", "b.xyz", "--model", "p"]) == 1
    out = capsys.readouterr().out
    assert "no imaginary mode: this is a minimum" in out and "fflux neb" in out
    summary = json.loads(Path("b-ts.json").read_text())
    assert summary["converged"] and not summary["saddle_point"] and "ends" not in summary
    assert not list(Path().glob("b-ts-[em]*"))


def test_a_saddle_point_of_higher_order_is_told(work, capsys, monkeypatch):
    def found(atoms, **watch):
        modes = vibrations(atoms, **watch)
        return replace(modes, wavenumbers=modes.wavenumbers - modes.wavenumbers[1] - 50.0)

    monkeypatch.setattr(saddle_files, "vibrations", found)
    assert main(["ts", "a.xyz", "--model", "p"]) == 1
    out = capsys.readouterr().out
    assert "2 imaginary modes (" in out and "50i cm-1), and a saddle point has one" in out
    assert "from frame 5 of a-ts-modes/mode-2_-50.0i.xyz (--index 5)" in out
    assert len(list(Path("a-ts-modes").iterdir())) == 2
    assert not list(Path().glob("a-ts-end*"))


def test_a_search_that_has_not_converged(work, capsys):
    assert main(["ts", "a.xyz", "--model", "p", "--steps", "1"]) == 1
    assert "not converged after 1 steps" in capsys.readouterr().out
    summary = json.loads(Path("a-ts.json").read_text())
    assert not summary["converged"] and "wavenumbers" not in summary
    assert read("a-ts.xyz").get_forces().shape == (4, 3)


def test_an_end_that_is_no_minimum(work, capsys, monkeypatch):
    def stopped(*args, **settings):
        return replace(way_down(*args, **settings), converged=False)

    monkeypatch.setattr(saddle_files, "way_down", stopped)
    assert main(["ts", "a.xyz", "--model", "p"]) == 1
    out = capsys.readouterr().out
    assert "not converged in" in out and "mirror images" not in out
    assert json.loads(Path("a-ts.json").read_text())["relation_of_the_ends"] is None


def test_faults_and_interrupts_leave_what_there_is(work, capsys, monkeypatch):
    def interrupted(*args, **settings):
        raise KeyboardInterrupt

    def lost(*args, **settings):
        raise GeometryError("it has lost its way")

    for name in ("write_animations", "way_down"):
        with monkeypatch.context() as patch:
            patch.setattr(saddle_files, name, interrupted)
            assert main(["ts", "a.xyz", "--model", "p"]) == 130
    assert "interrupted after" in capsys.readouterr().out
    assert json.loads(Path("a-ts.json").read_text())["interrupted"]
    monkeypatch.setattr(saddle_files, "way_down", lost)
    assert main(["ts", "a.xyz", "--model", "p"]) == 2
    assert "around the saddle point: it has lost its way" in capsys.readouterr().err
    summary = json.loads(Path("a-ts.json").read_text())
    assert summary["stopped"] == "it has lost its way" and summary["saddle_point"]


def test_without_sella_nothing_is_written(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(saddle.importlib.util, "find_spec", lambda name: None)
    assert main(["ts", str(EXAMPLES / "ethanol.xyz"), "--model", "ethanol"]) == 2
    error = capsys.readouterr().err
    assert "pip install 'ase-fflux[saddle]'" in error and error.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("cartesian", [False, True])
def test_sella_finds_a_known_saddle_point(skew, cartesian):
    with_sella()
    before = skew.positions.copy()
    for step in saddle_search(skew, fmax=1e-4, cartesian=cartesian):
        moved = step.atoms.copy()
        moved.calc = skew.calc
        # what is told of a step is of its geometry, whatever Sella has tried since
        assert moved.get_potential_energy() == pytest.approx(step.energy, abs=1e-9)
    assert step.converged and step.fmax < 1e-4
    torsion = step.atoms.get_dihedral(0, 1, 2, 3) % 180
    assert min(torsion, 180 - torsion) == pytest.approx(0, abs=0.5)
    assert (vibrations(moved).wavenumbers < 0).sum() == 1
    assert np.array_equal(skew.positions, before)


def test_sella_that_loses_its_way(skew, monkeypatch):
    with_sella()

    def driven(*args, **settings):
        raise RuntimeError("Geometry update ODE failed to converge!")
        yield

    monkeypatch.setattr(saddle, "driven", driven)
    with pytest.raises(GeometryError, match="Sella has lost its way .*: try --cartesian"):
        list(saddle_search(skew))


def test_ethanol_from_anti_to_gauche(tmp_path, monkeypatch, capsys):
    """A rough guess; the barriers are those of `fflux neb`."""
    with_sella()
    monkeypatch.chdir(tmp_path)
    atoms = read(EXAMPLES / "ethanol.xyz")
    atoms.calc = FFLUX("ethanol")
    atoms = optimise(atoms, fmax=0.01).atoms.copy()
    atoms.set_dihedral(0, 1, 2, 3, 125, indices=[3])
    write("guess.xyz", atoms)
    assert main(["ts", "guess.xyz", "--model", "ethanol"]) == 0
    assert "the ends are different minima" in capsys.readouterr().out
    summary = json.loads(Path("guess-ts.json").read_text())
    barriers = [end["barrier"]["value"] for end in summary["ends"]]
    assert barriers == pytest.approx([10.51, 4.02], abs=0.02)
