"""Choice of the atomic local frames (ALF) of a molecule."""

import numpy as np
from ase.data import atomic_masses
from ase.symbols import symbols2numbers

from ase_fflux.base.errors import GeometryError, ModelError
from ase_fflux.topology import Graph, bonds
from ase_fflux.topology.graphs import atom_label

NO_ATOM = -1
_MIN_SINE, _CLEAR_SINE = np.sin(np.radians([5.0, 15.0]))


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
    when there is none, the next for x. Nor is one with another atom within 5 degrees of its z-axis,
    where the azimuth is undefined (within 15, where vibrations take it there, it is the last
    choice).

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
        A single atom, an atom with all others in line or, in every frame, another on its z-axis
        (the centre of an octahedron); also what `topology.bonds` refuses.
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
            raise ModelError(
                f"the local frame of atom {a + 1} is centred on atom {frame[0] + 1}"
            )
        if n_atoms == 2 and len(frame) == 3:
            raise ModelError(
                f"the local frame of atom {a + 1} names an xy atom, which a diatomic has not"
            )
        wrong = [i for i in frame if not 0 <= i < n_atoms]
        if wrong:
            raise ModelError(
                f"the local frame of atom {a + 1} names atom {wrong[0] + 1}; there are "
                f"{n_atoms}, counted from 1"
            )
        if len(set(frame)) < len(frame):
            twice = ", ".join(str(i + 1) for i in frame)
            raise ModelError(f"the local frame of atom {a + 1} names one atom twice: {twice}")
    return alf


def _frame(a, graph, adjacency, positions, permutations):
    candidates = _candidates(a, graph, adjacency, positions)
    unit = positions - positions[a]
    unit[candidates] /= np.linalg.norm(unit[candidates], axis=1)[:, None]
    name = atom_label(a, graph.numbers)
    frames, clear = [], []
    for x in candidates:
        for xy in candidates:
            z = np.cross(unit[x], unit[xy])
            sine = np.linalg.norm(z)
            if xy != x and sine > _MIN_SINE:
                frames.append((a, x, xy))
                clear.append(_from_axis(z / sine, np.delete(unit, [a, x, xy], axis=0)))
    if not frames:
        raise GeometryError(
            f"{name} has no local frame: all other atoms lie in line with it (within 5 degrees); "
            "linear molecules of three and more atoms are not supported"
        )
    for least in (_CLEAR_SINE, _MIN_SINE):
        defined = np.array(frames)[np.array(clear) > least]
        if len(defined):
            kept = (permutations[:, defined] == defined).all(axis=2).sum(axis=0)
            return defined[int(np.argmax(kept))]
    raise GeometryError(
        f"{name} has no local frame: whichever two atoms define it, another one lies on its "
        "z-axis (within 5 degrees), where the azimuth is undefined; octahedral centres, such as "
        "that of SF6, are not supported"
    )


def _from_axis(z, others) -> float:
    """Least sine of the angle between an axis and unit vectors (n, 3); 1 where there is none."""
    return float(np.linalg.norm(np.cross(others, z), axis=1).min(initial=1.0))


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


def exchanged_axes(alf: np.ndarray) -> np.ndarray:
    """Local frames (N, 3) whose atom on x and atom in the xy-plane have changed places."""
    return np.asarray(alf)[:, [0, 2, 1]]
