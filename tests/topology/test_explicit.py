import numpy as np
import pytest

from ase_fflux.base.errors import TopologyError
from ase_fflux.topology import match


def two_waters_and_hcl(geometry, join):
    return join((*geometry("H2O"), 0), (*geometry("HCl"), [9, 0, 0]), (*geometry("H2O"), [0, 9, 0]))


def test_an_explicit_assignment_overrides_score_and_bonds(geometry, model, join):
    numbers, x = two_waters_and_hcl(geometry, join)
    chlorine = int(np.flatnonzero(numbers == 17)[0])
    hydrogen = 7 - chlorine
    pattern = model("HCl")
    row = [chlorine, hydrogen] if pattern.numbers[0] == 17 else [hydrogen, chlorine]
    x[2] += 4.0
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
            r"atom 4 \(H\) is in molecule 1 of 'H2O'.*, and was in molecule 1",
        ),
        ([[0, 1, 2], [3, 4, 1]], r"atom 1 \(H\) is in molecule 1 .* was in molecule 0"),
        ([[0, 1, 2]], r"atom 3 \(O\) is in no molecule"),
        ([[0, 1, 2], [4, 3, 5]], r"puts atom 4 \(H\) where the model has O \(its atom 0\)"),
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
