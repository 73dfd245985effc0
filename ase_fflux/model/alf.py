"""Choice of the atomic local frames (ALF) of a molecule."""

import numpy as np
from ase.data import atomic_masses, chemical_symbols
from ase.symbols import symbols2numbers

from ase_fflux.base.errors import GeometryError, ModelError
from ase_fflux.topology import Graph, bonds

NO_ATOM = -1
_MIN_SINE = np.sin(np.radians(5.0))


def choose_alf(symbols, positions, permutations=None) -> np.ndarray:
    """Local frames (A, x, xy) of all atoms by the field's rule after Cahn, Ingold and Prelog.

    The rule of the Popelier group's ichor (`calculate_alf_cahn_ingold_prelog`), restated: x is
    the bonded atom of A of highest priority, xy the next; where A has no bonded atom left, those
    two bonds away follow. The priority of a candidate is its mass. If the highest is shared, all
    candidates are compared again by the mass of their bonded atoms added, then of the next
    sphere, and so on; an atom reached in one sphere by two ways (in a ring) counts twice.
    Candidates equal to the end are taken in the order of the atoms (so that between two equivalent
    carbons a hydrogen can draw level, or in a cage even win: put heavy atoms first).

    Beyond that rule, for what it leaves undefined: after two bonds come three and so on, and
    last, nearest first, the atoms of other fragments (a hydrogen-bonded complex). A pair with an
    angle x-A-xy within 5 degrees of 0 or 180 is no frame: the next candidate for xy is taken, and
    when there is none, the next for x.

    Parameters
    ----------
    symbols : (N,) str or int
        Chemical symbols or atomic numbers.
    positions : (N, 3) float
        A representative geometry in bohr (the minimum, say).
    permutations : (G, N) int, optional
        Relabellings that leave the energy as it is (`ase_fflux.model.symmetry`). Of all frames of
        an atom, the first by the rule among those that most of them keep is taken then: the carbon
        of a methyl group needs no hydrogen in its frame.

    Returns
    -------
    (N, 3) int
        Rows (A, x, xy), counted from 0, A = 0 ... N - 1. A diatomic has no xy: -1.

    Raises
    ------
    GeometryError
        A single atom, or an atom with all others in line; also what `topology.bonds` refuses.
    """
    numbers = np.array(symbols2numbers(symbols), dtype=int)
    positions = np.asarray(positions, dtype=float)
    graph = Graph(numbers, bonds(numbers, positions)[0])
    if len(numbers) == 1:
        raise GeometryError(
            "a single atom has no local frame; FFLUX models need at least two atoms"
        )
    if len(numbers) == 2:
        return np.array([[0, 1, NO_ATOM], [1, 0, NO_ATOM]])
    adjacency = np.zeros((len(numbers),) * 2, dtype=int)
    adjacency[tuple(graph.bonds.T)] = 1
    adjacency += adjacency.T
    if permutations is None:
        permutations = np.arange(len(numbers))[None]
    return np.array([
        _frame(a, graph, adjacency, positions, permutations) for a in range(len(numbers))
    ])


def check_alf(alf, n_atoms: int) -> np.ndarray:
    """Validate local frames, as read from a file or given by a user.

    Parameters
    ----------
    alf : (n_atoms, 3) int
        Rows (A, x, xy), counted from 0; xy = -1 in a diatomic.
    n_atoms : int
        Atoms in the molecule, at least 2.

    Returns
    -------
    (n_atoms, 3) int
        The same as an array.

    Raises
    ------
    ModelError
        A wrong shape, a row whose A is another atom, or an x or xy that is no other atom of the
        molecule.
    """
    alf = np.asarray(alf)
    if n_atoms < 2:
        raise ModelError(f"local frames need at least two atoms, not {n_atoms}")
    if alf.shape != (n_atoms, 3) or not np.issubdtype(alf.dtype, np.integer):
        raise ModelError(
            f"local frames of {n_atoms} atoms are integers of shape ({n_atoms}, 3), "
            f"not {alf.dtype} of shape {alf.shape}"
        )
    for a, frame in enumerate(alf.tolist()):
        if n_atoms == 2 and frame[2] == NO_ATOM:
            frame = frame[:2]
        if frame[0] != a:
            raise ModelError(f"the local frame of atom {a} is centred on atom {frame[0]}")
        if n_atoms == 2 and len(frame) == 3:
            raise ModelError(
                f"the local frame of atom {a} names an xy atom, which a diatomic has not"
            )
        wrong = [i for i in frame if not 0 <= i < n_atoms]
        if wrong:
            raise ModelError(
                f"the local frame of atom {a} names atom {wrong[0]}; "
                f"atoms are counted 0 to {n_atoms - 1}"
            )
        if len(set(frame)) < len(frame):
            raise ModelError(f"the local frame of atom {a} names one atom twice: {frame}")
    return alf


def _frame(a, graph, adjacency, positions, permutations):
    candidates = _candidates(a, graph, adjacency, positions)
    unit = positions - positions[a]
    unit[candidates] /= np.linalg.norm(unit[candidates], axis=1)[:, None]
    frames = [
        (a, x, xy) for x in candidates for xy in candidates
        if xy != x and np.linalg.norm(np.cross(unit[x], unit[xy])) > _MIN_SINE
    ]
    if frames:
        kept = (permutations[:, frames] == np.array(frames)).all(axis=2).sum(axis=0)
        return frames[int(np.argmax(kept))]
    raise GeometryError(
        f"atom {a} ({chemical_symbols[graph.numbers[a]]}) has no local frame: all other "
        "atoms lie in line with it (within 5 degrees); linear molecules of three and more atoms "
        "are not supported"
    )


def _candidates(a, graph, adjacency, positions) -> list[int]:
    """All other atoms in the order in which they may serve in the frame of `a`."""
    order: list[int] = []
    seen, shell = {a}, {a}
    while shell:
        shell = {j for i in shell for j in graph.neighbours[i]} - seen
        seen |= shell
        left = sorted(shell)
        while left:
            left.remove(best := _highest_priority(left, graph.numbers, adjacency))
            order.append(best)
    distance = np.linalg.norm(positions - positions[a], axis=1)
    apart = set(range(len(distance))) - seen
    # Rounded, so that noise in the coordinates does not decide between equal distances.
    return order + sorted(apart, key=lambda i: (round(distance[i], 6), i))


def _highest_priority(atoms: list[int], numbers, adjacency) -> int:
    """The atom that wins by mass, or by the mass of the smallest sphere of bonds that decides."""
    counts = np.eye(len(numbers), dtype=int)[atoms]
    before = None
    while True:
        priority = counts @ atomic_masses[numbers]
        # Sums of the same masses in another order may differ in the last digit.
        top = np.isclose(priority, priority.max(), rtol=1e-12, atol=0)
        if top.sum() == 1 or np.array_equal(priority, before):
            return atoms[int(np.argmax(top))]
        before = priority
        counts = counts + np.where(counts == 0, counts @ adjacency, 0)
