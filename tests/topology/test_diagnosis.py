import numpy as np
import pytest

from ase_fflux.base.errors import TopologyError
from ase_fflux.base.units import BOHR
from ase_fflux.topology import Pattern, match


def test_a_molecule_that_no_model_fits_is_described(geometry, model, no_preference):
    ethanol, water = model("CH3CH2OH"), model("H2O")
    with pytest.raises(TopologyError) as error:
        match([ethanol, water], *geometry("CH3OCH3"), None, None, no_preference)
    text = str(error.value)
    for part in (
        "C2H6O (atoms C1, O2, C3, H4, H5, H6, H7, H8, H9)",
        "has the formula of 'CH3CH2OH'",
        "0 C-C bonds instead of 1",
        "2 C-O bonds instead of 1",
        "0 H-O bonds instead of 1",
        "CH3CH2OH (C2H6O), H2O (H2O)",
    ):
        assert part in text
    with pytest.raises(TopologyError, match=r"no model fits C6H6 .*models: H2O \(H2O\)"):
        match([water], *geometry("C6H6"), None, None, no_preference)
    with pytest.raises(TopologyError, match="connected in another way"):
        ring = Pattern(np.full(6, 16), np.array([[i, (i + 1) % 6] for i in range(6)]), "ring")
        lasso = [[0, 0, 0], [2, 0, 0], [1, 1.7, 0], [3.9, 0, 0], [5.8, 0, 0], [7.7, 0, 0]]
        match([ring], np.full(6, 16), np.array(lasso) / BOHR, None, None, no_preference)


def test_broken_and_merged_molecules_get_a_hint(geometry, model, join, no_preference):
    numbers, x = geometry("H2O")
    torn = x.copy()
    torn[2] += (torn[2] - torn[0]) * 0.8
    with pytest.raises(TopologyError, match=r"fits HO .*together 1 times H2O .* stretched"):
        match([model("H2O")], numbers, torn, None, None, no_preference)
    with pytest.raises(TopologyError, match="in Angstrom, and not in bohr"):
        match([model("H2O")], numbers, x / BOHR, None, None, no_preference)
    close = join((numbers, x, 0), (numbers, x, [0, 0, 2.3]))
    with pytest.raises(TopologyError, match="2 times H2O .* too close"):
        match([model("H2O")], *close, None, None, no_preference)


def test_models_alike_are_refused_unless_assigned_explicitly(geometry, model, no_preference):
    numbers, x = geometry("CH3CH2OH")
    twin = Pattern.from_geometry("gauche", numbers[::-1], x[::-1])
    with pytest.raises(TopologyError, match="'CH3CH2OH' and 'gauche' both describe C2H6O"):
        match([model("CH3CH2OH"), twin], numbers, x, None, None, no_preference)
    rows = {"gauche": [list(range(9))[::-1]]}
    found = match([model("CH3CH2OH"), twin], numbers, x, None, None, no_preference, rows)
    assert [len(a) for a in found.atoms_of_model] == [0, 1]


def sulphur_chain():
    i = np.arange(6)
    return np.column_stack([1.6 * i, 1.28 * (i % 2), 0 * i]) / BOHR, np.diag([9.6, 15, 15]) / BOHR


def test_endless_chains_are_refused(no_preference):
    x, cell = sulphur_chain()
    angle = np.arange(6) * np.pi / 3
    hexagon = 2.05 * np.column_stack([np.cos(angle), np.sin(angle), 0 * angle]) / BOHR
    ring = Pattern.from_geometry("S6", [16] * 6, hexagon)
    assert len(match([ring], [16] * 6, hexagon, 3 * cell, True, no_preference).molecules) == 1
    with pytest.raises(TopologyError, match="own periodic image"):
        match([ring], [16] * 6, x, cell, True, no_preference)
    with pytest.raises(TopologyError, match="own periodic image"):  # every bond twice
        match([ring], [16] * 2, x[:2], cell / [[3], [1], [1]], True, no_preference)
    with pytest.raises(TopologyError, match="own periodic image"):  # an atom with itself
        match([ring], [16], x[:1], cell / [[4.8], [1], [1]], True, no_preference)
