import numpy as np
import pytest

from ase_fflux.base.errors import TopologyError
from ase_fflux.topology import Pattern, match


def two_waters_and_hcl(geometry, join):
    return join((*geometry("H2O"), 0), (*geometry("HCl"), [9, 0, 0]), (*geometry("H2O"), [0, 9, 0]))


def test_an_explicit_assignment_overrides_the_score(geometry, model, join):
    numbers, x = two_waters_and_hcl(geometry, join)
    chlorine = int(np.flatnonzero(numbers == 17)[0])
    hydrogen = 7 - chlorine
    pattern = model("HCl")
    row = [chlorine, hydrogen] if pattern.numbers[0] == 17 else [hydrogen, chlorine]
    rows = {"H2O": [[0, 2, 1], [5, 7, 6]], "HCl": np.array([row])}
    found = match([pattern, model("H2O")], numbers, x, None, None, None, rows)
    assert found.atoms_of_model[1].tolist() == [[0, 2, 1], [5, 7, 6]]
    assert found.molecule.tolist() == [1, 1, 1, 0, 0, 2, 2, 2]
    numbers, x = geometry("H2O")
    found = match([model("H2O")], numbers, x, None, None, None, [[0, 2, 1]])
    assert found.atoms_of_model[0].tolist() == [[0, 2, 1]]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [[0, 1, 2], [3, 4, 4]],
            r"index 4, atom 5 \(H\), is in molecule 2 of 'H2O'.*, and was in molecule 2",
        ),
        ([[0, 1, 2], [3, 4, 1]], r"index 1, atom 2 \(H\), is in molecule 2 .* was in molecule 1"),
        ([[0, 1, 2]], r"index 3, atom 4 \(O\), is in no molecule"),
        ([[0, 1, 2], [4, 3, 5]], r"puts index 4, atom 5 \(H\), where the model has atom 1 \(O\)"),
        ([[0, 1, 2], [3, 4]], "has 2 atoms, the model has 3"),
        ([[0, 1, 2], [3, 4, 6]], "names atom 6; indices are integers from 0 to 5"),
        ([[0, 1, 2], [3, 4, -1]], "names atom -1"),
        ([[0, 1, 2], [3, 4, 5.0]], "names atom 5.0"),
        ([0, 1, 2, 3, 4, 5], "list of its atoms"),
        ({"water": [[0, 1, 2], [3, 4, 5]]}, "not there: 'water'"),
    ],
)
def test_explicit_assignments_that_are_none(geometry, model, join, no_preference, rows, message):
    numbers, x = join((*geometry("H2O"), 0), (*geometry("H2O"), [0, 9, 0]))
    with pytest.raises(TopologyError, match=message):
        match([model("H2O")], numbers, x, None, None, no_preference, rows)


def test_an_explicit_list_for_several_models_is_refused(geometry, model, join, no_preference):
    numbers, x = two_waters_and_hcl(geometry, join)
    with pytest.raises(TopologyError, match="dict by their names"):
        match([model("H2O"), model("HCl")], numbers, x, None, None, no_preference, [[0, 1, 2]])


def test_broken_bonds_of_an_explicit_assignment_are_named(geometry, model, join, no_preference):
    numbers, x = geometry("CH3CH2OH")
    pattern = model("CH3CH2OH")
    row = list(range(9))
    far = x.copy()
    far[3] += 3.0 * (far[3] - far[2])
    message = r"between atom 3 \(O\) and atom 4 \(H\) \(3\.8\d Angstrom\): start"
    with pytest.raises(TopologyError, match=message):
        match([pattern], numbers, far, None, None, no_preference, [row])
    row[0], row[1] = 1, 0  # the carbons exchanged
    with pytest.raises(TopologyError, match="bonds of the model are broken, .* and [0-9] more"):
        match([pattern], numbers, x, None, None, no_preference, [row])
    # across a periodic boundary nothing is broken
    cell = np.diag([20.0, 20.0, 20.0])
    moved = x + 0.0
    moved[3] += cell[0]
    match([pattern], numbers, moved, cell, True, no_preference, [list(range(9))])


def test_the_order_of_a_mirror_image_is_refused(geometry, no_preference):
    numbers, x = geometry("CH3CH2OH")  # C 0 (H 6, 7, 8), C 1 (H 4, 5)
    pattern = Pattern.from_geometry("ethanol", numbers, x, np.array([x, 1.01 * x]))
    row = [0, 1, 2, 3, 4, 5, 7, 8, 6]
    match([pattern], numbers, x, None, None, no_preference, [row])
    row = [0, 1, 2, 3, 5, 4, 6, 7, 8]
    with pytest.raises(TopologyError, match=r"neighbours of atom 2 \(C\) .* mirror image"):
        match([pattern], numbers, x, None, None, no_preference, [row])
    # where the training geometries have both, either will do
    both = Pattern.from_geometry("ethanol", numbers, x, np.array([x, x[row]]))
    match([both], numbers, x, None, None, no_preference, [row])


def test_the_other_enantiomer_is_not_taken_for_a_wrong_order(no_preference):
    """No order of its atoms has the hand of the model; the coverage tells."""
    corners = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) / np.sqrt(3)
    x = np.vstack([np.zeros(3), corners * np.array([2.05, 2.6, 3.3, 3.7])[:, None]])
    numbers = [6, 1, 9, 17, 35]
    pattern = Pattern.from_geometry("chfclbr", numbers, x, x[None])
    mirror = x * [1, 1, -1]
    found = match([pattern], numbers, mirror, None, None, no_preference, [[0, 1, 2, 3, 4]])
    assert found.atoms_of_model[0].tolist() == [[0, 1, 2, 3, 4]]
