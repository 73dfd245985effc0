"""Whether ``.model`` files are of the atom, the local frame and the property that they say.

Nothing inside one file forbids another name for its numbers: with two atoms of the ALF exchanged,
or ``q00`` in place of ``iqa``, it reproduces its training targets as before and the molecule gets
wrong energies. What tells:

- the name of the file, where it ends in a property and an atom as those of FEREBUS do;
- sign and size of the targets: energies of atoms are negative, a charge is at most the nuclear one;
- charges of all atoms sum to that of the molecule, an integer;
- training geometries: features are polar coordinates of all atoms, so each row gives a geometry.
  Sets of different atoms come from one pool and share some; in these, the distances from atom to
  atom must be the same, not only the distances regardless of who has them.
"""

import re
from pathlib import Path

import numpy as np
from ase.data import atomic_numbers

from ase_fflux.base.errors import ModelError
from ase_fflux.model.frames import geometry_from_features
from ase_fflux.model.molecule import ENERGY
from ase_fflux.model.multipoles import MOMENT_NAMES

SAME = 1e-6
"""bohr; largest difference of the distances of one geometry, as files of few digits have them."""

MIN_SHARED = 3
"""Geometries that two atoms must share to tell that their frames contradict each other."""

APART = 0.3
"""bohr; gap between the ranges of one distance in the sets of two atoms that no sampling leaves."""

LOWEST_CHARGE = -4.0
"""Of an atom, a.u."""

CHARGE_SUM = 0.25
"""Departure of the sum of mean charges from an integer; sets of different atoms differ."""

_NAME = re.compile(r"(?:^|_)(iqa|q\d\d[cs]?)_([A-Za-z]+)(\d+)$", re.IGNORECASE)


def check_model(path: Path, model) -> None:
    """Raise the ModelError of a file whose name, features or targets are not what it says.

    Parameters
    ----------
    path : Path
        The file.
    model : AtomModel
        What it holds.
    """
    match = _NAME.search(path.stem)
    said = (match[1].lower(), match[2].capitalize() + str(int(match[3]))) if match else None
    if said not in (None, (model.property, model.atom)):
        raise ModelError(
            f"{path}: the name is of {said[0]} of {said[1]}, the content says {model.property} of "
            f"{model.atom}; rename the file if the content is right"
        )
    _check_features(path, model)
    mean, charge = float(np.mean(model.targets)), atomic_numbers[model.element]
    lowest = highest = None
    if model.property == ENERGY:
        # neutral atoms have about -Z^2.4 / 2 hartree, valence energies less
        lowest, highest = -(charge**2.4) - 1.0, 0.0
    elif model.property == MOMENT_NAMES[0]:
        lowest, highest = LOWEST_CHARGE, float(charge)
    if lowest is not None and not lowest <= mean <= highest:
        raise ModelError(
            f"{path}: {model.property} of {model.atom} is {mean:.4g} on average, but must be "
            f"between {lowest:.4g} and {highest:g} in atomic units: it is another property"
        )


def _check_features(path: Path, model) -> None:
    x = model.inputs
    distances = [h for h in range(x.shape[1]) if h < 2 or h > 2 and h % 3 == 0]
    angles = [h for h in range(2, x.shape[1]) if h == 2 or h % 3 == 1]
    for columns, wrong, must in (
        (distances, x <= 0.0, "a distance must be above 0"),
        (angles, (x <= 0.0) | (x >= np.pi), "this angle must be between 0 and pi"),
    ):
        rows, found = np.nonzero(wrong[:, columns])
        if len(rows):
            h = columns[found[0]]
            raise ModelError(
                f"{path}: feature {h + 1} of training point {rows[0] + 1} is "
                f"{x[rows[0], h]:.6g}, but {must}"
            )


def check_charges(models: dict) -> None:
    """Raise ModelError where the mean charges of all atoms do not sum to an integer.

    Parameters
    ----------
    models : dict of Path to AtomModel
        Models of q00; of no atom, or of all.
    """
    total = sum(float(np.mean(model.targets)) for model in models.values())
    if abs(total - round(total)) > CHARGE_SUM:
        raise ModelError(
            f"{next(iter(models)).parent}: the mean charges (q00) of all atoms sum to {total:.3f}, "
            "not to the charge of a molecule: one of the files is of another property or molecule"
        )


def check_frames(models: dict) -> None:
    """Raise ModelError where training sets of two atoms tell that an ALF is not what a file says.

    Only atoms of different elements are compared: sets of equivalent atoms may be one and the same
    set of geometries with these atoms exchanged.

    Parameters
    ----------
    models : dict of Path to AtomModel
        One model of each atom.
    """
    atoms = [
        (path, model, _distances(model)) for path, model in models.items() if model.n_atoms > 2
    ]
    compared, against = np.zeros((2, len(atoms)), dtype=int)
    for i, (_, first, a) in enumerate(atoms):
        for j, (_, second, b) in enumerate(atoms[:i]):
            if first.element != second.element:
                contradict = _contradict(a, b)
                compared[[i, j]] += 1
                against[[i, j]] += contradict
    if not against.any():
        return
    # it contradicts all others, these only it
    blame = against / np.maximum(compared, 1)
    path, model, _ = atoms[max(range(len(atoms)), key=lambda i: (blame[i], against[i]))]
    row = " ".join(str(atom + 1) for atom in model.alf)
    raise ModelError(
        f"{path}: the training geometries contradict those of other atoms of the molecule: "
        f"'ALF {row}' is not the local frame that the features of {model.atom} were computed in"
    )


def _distances(model) -> np.ndarray:
    """(n, N (N - 1) / 2) distances of all pairs of atoms at the training points (bohr)."""
    x = geometry_from_features(model.inputs, model.alf, model.n_atoms)
    first, second = np.triu_indices(model.n_atoms, 1)
    return np.linalg.norm(x[:, first] - x[:, second], axis=-1)


def _contradict(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two sets of distances share geometries, but never with the same names of atoms."""
    if min(len(a), len(b)) > MIN_SHARED:
        gap = np.maximum(a.min(axis=0) - b.max(axis=0), b.min(axis=0) - a.max(axis=0))
        if gap.max() > APART:
            return True
    # geometries of the same distances in any order stand near each other when sorted by their sum
    b = b[np.argsort(b.sum(axis=1))]
    sums, reach = b.sum(axis=1), SAME * a.shape[1]
    bounds = np.searchsorted(sums, a.sum(axis=1) + np.array([[-reach], [reach]]))
    shared, sorted_a, sorted_b = 0, np.sort(a, axis=1), np.sort(b, axis=1)
    for row, (begin, end) in enumerate(bounds.T):
        near = np.abs(sorted_b[begin:end] - sorted_a[row]).max(axis=1, initial=0.0) < SAME
        if near.any():
            if (np.abs(b[begin:end] - a[row]).max(axis=1) < SAME).any():
                return False
            shared += 1
    return shared >= MIN_SHARED
