import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from ase import Atoms
from ase.io import read, write

from ase_fflux.base.errors import FFLUXError, GeometryError
from ase_fflux.base.units import KJ_PER_MOL
from ase_fflux.cli import systems
from ase_fflux.cli.main import main
from ase_fflux.simulate.coordinate import Coordinate
from ase_fflux.simulate.scan import ScanPoint, deviations_from, profile, scan, whole_turn
from ase_fflux.simulate.scan_files import extrema

TORSION = Coordinate((0, 1, 2, 3))


def test_forces_of_the_test_calculator(peroxide, central_differences):
    def energy(x):
        return peroxide.calc.get_potential_energy(Atoms("HOOH", x))

    slopes = central_differences(energy, peroxide.positions, 1e-3)
    assert -peroxide.get_forces() == pytest.approx(slopes, abs=1e-7)


def test_a_relaxed_torsion_is_the_torsional_potential(peroxide):
    values = np.linspace(-170, 190, 13)
    points = list(scan(peroxide, TORSION, values, fmax=1e-4))
    result = profile(points)
    assert all(p.converged and not p.atoms.constraints for p in points)
    assert [TORSION.value(p.atoms) % 360 for p in points] == pytest.approx(values % 360)
    # every spring has its length, at every value: what is left is the cosine
    expected = 0.05 * (1 + np.cos(2 * np.radians(values)))
    expected = (expected - expected.min()) / KJ_PER_MOL
    assert result.relative == pytest.approx(expected, abs=2e-3)
    assert whole_turn(points) == pytest.approx(0, abs=1e-3)
    assert [e["value"] for e in extrema(result, lowest=True)] == pytest.approx([-80, 100])
    assert [e["value"] for e in extrema(result, lowest=False)] == pytest.approx([-170, 10])


def test_a_rigid_scan_changes_nothing_else(peroxide):
    before = peroxide.positions.copy()
    points = list(scan(peroxide, TORSION, [-60.0, 90.0], rigid=True))
    for point in points:
        assert point.steps == 0
        assert point.atoms.positions[:3] == pytest.approx(before[:3])
        assert TORSION.value(point.atoms) == pytest.approx(point.value)
    stretched = points[0].energy - 0.05 * (1 + np.cos(np.radians(120)))
    assert points[1].energy == pytest.approx(stretched)
    assert (peroxide.positions == before).all() and not peroxide.constraints


def test_a_distance_along_its_spring(diatomic):
    lengths = np.array([1.0, 1.1, 1.2, 1.3])
    for rigid in (True, False):
        result = profile(list(scan(diatomic, Coordinate((0, 1)), lengths, rigid=rigid)))
        assert result.relative == pytest.approx(15 * (lengths - 1.2) ** 2 / KJ_PER_MOL, abs=1e-6)


def test_a_coordinate_that_does_not_divide_is_relaxed_only(triangle):
    side = Coordinate((0, 1))
    with pytest.raises(FFLUXError, match="leave --rigid out"):
        scan(triangle, side, [1.6], rigid=True)
    (point,) = scan(triangle, side, [1.6], fmax=1e-4)
    assert side.value(point.atoms) == pytest.approx(1.6)
    # the other two sides keep their lengths
    assert point.energy == pytest.approx(10 * 0.1**2, abs=1e-6)


def test_points_without_energy_are_told_and_passed(peroxide, monkeypatch):
    kind = type(peroxide.calc)
    evaluate = kind.calculate

    def partial(self, atoms=None, *args):
        if abs(TORSION.value(atoms)) < 40:
            raise GeometryError("nothing is\nknown here")
        evaluate(self, atoms, *args)

    monkeypatch.setattr(kind, "calculate", partial)
    points = list(scan(peroxide, TORSION, [-60.0, 0.0, 60.0], rigid=True))
    assert [p.fault for p in points] == ["", "nothing is known here", ""]
    assert profile(points).values.tolist() == [-60.0, 60.0]
    with pytest.raises(FFLUXError, match="no energy at any point of the scan; the first: nothing"):
        profile(points[1:2])


def test_periodic_input_is_refused(diatomic):
    diatomic.set_cell([9, 9, 9])
    diatomic.pbc = True
    with pytest.raises(FFLUXError, match="--vacuum"):
        scan(diatomic, Coordinate((0, 1)), [1.2])


def test_what_is_common_cancels_in_deviations():
    common, own = 0.5, np.array([0.1, 0.2, 0.3])
    calculator = SimpleNamespace(
        get_energy_covariance=lambda images: (common**2 + np.diag(own**2)) * KJ_PER_MOL**2
    )
    found = deviations_from(calculator, [None] * 3, 1)
    assert found == pytest.approx([np.hypot(0.1, 0.2), 0, np.hypot(0.3, 0.2)], abs=1e-7)


def test_ends_are_no_extrema_unless_they_meet():
    def of(values, relative):
        points = tuple(ScanPoint(v, None, e) for v, e in zip(values, relative, strict=True))
        return SimpleNamespace(
            values=np.array(values), relative=np.array(relative), points=points, uncertainty=None
        )

    part = of([0.0, 1.0, 2.0, 3.0], [0.0, 2.0, 1.0, 3.0])
    assert [e["value"] for e in extrema(part, lowest=True)] == [2.0]
    assert [e["value"] for e in extrema(part, lowest=False)] == [1.0]
    turn = of([0.0, 120.0, 240.0, 360.0], [0.0, 2.0, 1.0, 0.0])
    assert [e["value"] for e in extrema(turn, lowest=True)] == [0.0]


@pytest.fixture
def work(tmp_path, monkeypatch, peroxide):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(systems, "build_calculator", lambda args: peroxide.calc)
    monkeypatch.setattr(systems, "expected_errors", lambda calculator: {})
    write("p.xyz", peroxide.copy())
    return tmp_path


def test_command(work, capsys):
    turn = ["scan", "p.xyz", "--model", "p", "--torsion", "1", "2", "3", "4"]
    assert main([*turn, "--points", "5"]) == 0
    said = capsys.readouterr()
    assert said.err == "" and "minima: " in said.out and "torsion H1-O2-O3-H4" in said.out
    summary = json.loads(Path("p-scan.json").read_text())
    assert summary["coordinate"]["atoms"] == [1, 2, 3, 4] and len(summary["points"]) == 5
    frames = read("p-scan.xyz", ":")
    assert [f.get_potential_energy() for f in frames] == pytest.approx(
        [p["energy"] for p in summary["points"]]
    )
    assert Path("p-scan.png").stat().st_size > 0
    rows = np.genfromtxt("p-scan.csv", delimiter=",", names=True)
    assert rows["torsion_degree"][-1] - rows["torsion_degree"][0] == pytest.approx(360)
    assert main([*turn, "--points", "3", "--range", "80", "100", "--steps", "1"]) == 1
    assert "not converged after 1 steps" in capsys.readouterr().out
    assert Path("p-scan.json.~1~").exists()


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["--distance", "1", "2"], "--range FROM TO"),
        (["--distance", "1", "7", "--range", "1", "2"], "atoms 1 to 4"),
        (["--distance", "1", "2", "--range", "-1", "2"], "above 0"),
        (["--angle", "1", "2", "3", "--range", "90", "190"], "between 0 and 180"),
    ],
)
def test_slips_are_one_line_and_leave_no_files(work, capsys, arguments, said):
    assert main(["scan", "p.xyz", "--model", "p", *arguments]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert not list(Path().glob("*-scan*"))


@pytest.mark.parametrize("limit", ["nan", "inf", "1e400"])
def test_limits_are_numbers(work, capsys, limit):
    with pytest.raises(SystemExit) as end:
        main(["scan", "p.xyz", "--model", "p", "--distance", "1", "2", "--range", limit, "2"])
    assert end.value.code == 2 and "invalid finite number" in capsys.readouterr().err
    assert not list(Path().glob("*-scan*"))


def test_atoms_without_a_bond_are_told(work, capsys):
    main(["scan", "p.xyz", "--model", "p", "--angle", "2", "1", "3", "--range", "50", "52",
          "--points", "2"])
    assert "atom 1 (H) and atom 3 (O) are not bonded" in capsys.readouterr().err
