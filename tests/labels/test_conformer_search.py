import sys
from types import SimpleNamespace

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

from ase_fflux.base.errors import GeometryError, LabelError
from ase_fflux.base.units import BOHR
from ase_fflux.labels import conformer_search, sampling
from ase_fflux.labels.conformer_search import Search, search_conformers
from ase_fflux.labels.conformers import same_handedness
from ase_fflux.labels.tblite_source import GFN2
from ase_fflux.topology import Pattern


@pytest.fixture
def source():
    pytest.importorskip("tblite.interface", exc_type=ImportError)
    return GFN2()


@pytest.fixture
def without_rdkit(monkeypatch):
    """Short dynamics are all that is there."""
    monkeypatch.setitem(sys.modules, "rdkit", None)
    monkeypatch.setattr(sampling, "EQUILIBRATION", 20.0)
    monkeypatch.setattr(sampling, "TIME_STEP", 1.0)
    monkeypatch.setattr(conformer_search, "_STRIDE", 20.0)


def test_ethanol_by_dynamics(source, ethanol, without_rdkit):
    """Trans and gauche, one of two mirror images, hydrogens in the order of the start."""
    found = search_conformers(ethanol, source, Search(patience=5))
    assert found.made_by == "GFN2-xTB dynamics at 1000 K"
    assert len(found.atoms) == 2 and found.energies[0] == 0 and 0 < found.energies[1] < 10
    torsions = [abs((a.get_dihedral(0, 1, 2, 3) + 180) % 360 - 180) for a in found.atoms]
    assert sorted(round(t / 60) for t in torsions) == [1, 3]
    pattern = Pattern.from_geometry("", ethanol.numbers, ethanol.positions / BOHR)
    for atoms in found.atoms:
        assert same_handedness(pattern, atoms.positions[None], ethanol.positions).all()


def test_the_same_seed_finds_the_same(source, ethanol, without_rdkit):
    first, second = (search_conformers(ethanol, source, Search(most=2)) for _ in range(2))
    assert first.quenched == second.quenched == 2
    assert all(
        (a.positions == b.positions).all() for a, b in zip(first.atoms, second.atoms, strict=True)
    )


def test_cyclohexane_by_puckers(source, cyclohexane, without_rdkit, monkeypatch):
    """The chair and a twist-boat without RDKit, even where dynamics do not leave the chair."""
    monkeypatch.setattr(
        conformer_search, "molecular_dynamics",
        lambda *args, **kwargs: iter(lambda: cyclohexane.copy(), None),
    )
    found = search_conformers(cyclohexane, source, Search(patience=4))
    assert found.made_by == "GFN2-xTB dynamics at 1000 K"
    assert found.energies == pytest.approx([0, 22.5], abs=0.3)


def test_cyclohexane_by_rdkit(source, cyclohexane):
    """The chair and a twist-boat."""
    pytest.importorskip("rdkit")
    found = search_conformers(cyclohexane, source, Search(patience=12))
    assert found.made_by.startswith("RDKit ")
    assert found.energies == pytest.approx([0, 22.5], abs=0.3)


def test_energies_outside_of_the_window_are_left_out(source, cyclohexane):
    pytest.importorskip("rdkit")
    assert len(search_conformers(cyclohexane, source, Search(window=15, patience=5)).atoms) == 1


def test_another_stereoisomer_is_none(source):
    """CHFClBr quenched from its mirror image."""
    corners = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) / np.sqrt(3)
    lengths = np.array([1.09, 1.36, 1.77, 1.93])
    start = Atoms("CHFClBr", np.vstack([np.zeros(3), corners * lengths[:, None]]))
    pattern = Pattern.from_geometry("", start.numbers, start.positions / BOHR)
    other = Atoms(start.numbers, start.positions * [1, 1, -1])
    assert conformer_search._alike(other, start, pattern) is None
    assert conformer_search._alike(start, start, pattern).positions == pytest.approx(
        start.positions
    )


def test_geometries_that_fail_are_left_out(ethanol, monkeypatch, without_rdkit):
    """A start must do, of the others each may fail, and not for ever."""
    asked = []

    def quenched(atoms, engine):
        asked.append(atoms)
        if len(asked) > 1:
            raise LabelError("does not converge")
        return atoms, 0.0

    monkeypatch.setattr(conformer_search, "_quenched", quenched)
    monkeypatch.setattr(
        conformer_search, "molecular_dynamics",
        lambda *args, **kwargs: iter(lambda: ethanol.copy(), None),
    )
    found = search_conformers(ethanol, SimpleNamespace(method="toy"), Search(patience=3))
    assert found.quenched == 0 and len(found.atoms) == 1 and len(asked) == 2 + 2 * 3


@pytest.mark.parametrize("name, has", [
    ("H2O", True), ("CH4", True), ("H2CO", True), ("H2", True), ("H2O2", False), ("C2H6", False),
    ("ClF3", False), ("C2H2", False),
])
def test_molecules_of_one_shape_are_not_searched(name, has, without_rdkit, monkeypatch):
    """What has one shape is quenched alone."""
    atoms = molecule(name)
    monkeypatch.setattr(
        conformer_search, "_quenched", lambda geometry, engine: (atoms.copy(), 0.0)
    )
    monkeypatch.setattr(
        conformer_search, "molecular_dynamics",
        lambda *args, **kwargs: iter(lambda: atoms.copy(), None),
    )
    found = search_conformers(atoms, SimpleNamespace(method="toy"), Search(patience=3))
    assert len(found.atoms) == 1 and (found.quenched == 0) is has
    assert (found.made_by == "no bond that could turn") is has


@pytest.mark.parametrize("wrong", [{"window": 0.0}, {"patience": 0}, {"most": 0}])
def test_absurd_searches_are_refused(wrong):
    with pytest.raises(LabelError, match="a search for conformers needs"):
        Search(**wrong)


def test_a_start_that_cannot_be_quenched_is_refused(source):
    with pytest.raises(GeometryError, match="on one spot"):
        search_conformers(Atoms("H2", [[0, 0, 0], [0, 0, 1e-9]]), source, Search())
