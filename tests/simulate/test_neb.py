import json
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.io import read, write

from ase_fflux.base.errors import FFLUXError
from ase_fflux.base.units import KJ_PER_MOL
from ase_fflux.cli import systems
from ase_fflux.cli.main import main
from ase_fflux.simulate.neb import check_ends, minimum_path
from ase_fflux.simulate.neb_files import barriers, format_path
from ase_fflux.simulate.vibrations.analysis import vibrations


@pytest.fixture
def ends(peroxide):
    """Near the minima at -90 and 90 degrees, turned away from each other in space."""
    first, last = peroxide.copy(), peroxide.copy()
    first.set_dihedral(0, 1, 2, 3, -80, indices=[3])
    last.set_dihedral(0, 1, 2, 3, 95, indices=[3])
    last.rotate(40, "z")
    last.positions += 3.0
    first.calc = peroxide.calc
    return first, last


def test_barrier_of_a_known_torsion(ends):
    path = minimum_path(*ends, images=7, fmax=0.005)
    assert path.converged and len(path.images) == 7
    # cis and trans are equally high; the second well is the first one's mirror image
    assert barriers(path)["barrier"][0] == pytest.approx(0.1 / KJ_PER_MOL, rel=1e-3)
    assert barriers(path)["energy_of_reaction"][0] == pytest.approx(0, abs=1e-3)
    torsion = path.images[path.saddle].get_dihedral(0, 1, 2, 3) % 180
    assert min(torsion, 180 - torsion) == pytest.approx(0, abs=2)
    highest = path.images[path.saddle].copy()
    highest.calc = ends[0].calc
    lines = format_path(path, vibrations(highest))
    assert any("one imaginary mode" in line for line in lines)
    assert np.diff(path.lengths).min() > 0


def test_ends_of_one_minimum(ends):
    first, _ = ends
    other = first.copy()
    other.rotate(70, "x")
    with pytest.raises(FFLUXError, match="same minimum"):
        minimum_path(first, other)


def test_ends_of_other_atoms_or_order():
    water = Atoms("OHH", [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])
    with pytest.raises(FFLUXError, match="the ends are H2O and"):
        check_ends(water, Atoms("HO", [[0, 0, 0], [0, 0, 1]]))
    with pytest.raises(FFLUXError, match=r"atom 1 \(O\) of the first is H in the second"):
        check_ends(water, water[[1, 0, 2]])
    pair = water + water
    pair.positions[3:] += [4.0, 0, 0]
    with pytest.raises(FFLUXError, match=r"atom 1 \(O\) is bonded to H2, H3 .* to H2, H5 in the"):
        check_ends(pair, pair[[0, 1, 4, 3, 2, 5]])
    water.pbc = True
    with pytest.raises(FFLUXError, match="--vacuum"):
        check_ends(water, water)


@pytest.fixture
def work(tmp_path, monkeypatch, ends):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(systems, "build_calculator", lambda args: ends[0].calc)
    monkeypatch.setattr(systems, "expected_errors", lambda calculator: {})
    for name, atoms in zip("ab", ends, strict=True):
        write(f"{name}.xyz", atoms.copy())
    return tmp_path


def test_command(work, capsys):
    assert main(["neb", "a.xyz", "b.xyz", "--model", "p", "--images", "5"]) == 0
    said = capsys.readouterr()
    assert said.err == "" and "barrier: 9.6" in said.out
    summary = json.loads(Path("a-neb.json").read_text())
    assert summary["converged"] and summary["barrier"]["unit"] == "kJ/mol"
    assert len(summary["saddle"]["imaginary_wavenumbers"]["value"]) == 1
    assert len(read("a-neb.xyz", ":")) == 5
    saddle = read("a-neb-saddle.xyz").get_potential_energy()
    assert saddle == pytest.approx(max(f.get_potential_energy() for f in read("a-neb.xyz", ":")))
    assert Path("a-neb.png").stat().st_size > 0
    assert main(["neb", "a.xyz", "b.xyz", "--model", "p", "--images", "5", "--steps", "1"]) == 1
    assert "not converged after" in capsys.readouterr().out


def test_other_order_is_refused_before_anything_is_done(work, capsys):
    write("c.xyz", read("b.xyz")[[1, 0, 2, 3]])
    assert main(["neb", "a.xyz", "c.xyz", "--model", "p"]) == 2
    error = capsys.readouterr().err
    assert "atom 1 (H) of the first is O in the second" in error and error.count("\n") == 1
    assert not list(Path().glob("*-neb*"))
