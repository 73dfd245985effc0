"""Saddle points of first order by Sella, and the minima that they join."""

import importlib.util
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from ase import Atoms

from ase_fflux.base.environment import version_of
from ase_fflux.base.errors import FFLUXError, GeometryError, words
from ase_fflux.base.units import BOHR, KJ_PER_MOL
from ase_fflux.simulate.coordinate import Coordinate
from ase_fflux.simulate.limits import require_isolated, require_masses
from ase_fflux.simulate.optimise import optimise
from ase_fflux.simulate.steps import Step, driven, require_finite
from ase_fflux.simulate.vibrations.analysis import Vibrations, vibrations
from ase_fflux.topology.graphs import Graph, bonds
from ase_fflux.topology.isomorphism import mappings
from ase_fflux.topology.superposition import deviations

DISPLACEMENT = 0.2
"""Angstrom; of the fastest atom along the imaginary mode, to either side of a saddle point."""

_DOWNHILL = 0.1
"""Share of the harmonic force along the mode there at which an end has converged at the latest: the
way down a soft mode begins with forces below any threshold."""

_OLDEST = 2, 5
"""Version of Sella from which on internal coordinates may be those of several molecules."""

_SAME = 0.1
"""Angstrom; largest distance of an atom of two geometries that are one."""

_TURNED = 20.0
"""Degrees by which a torsion differs at least to be told."""

_TOGETHER = 5.0
"""Degrees within which torsions have turned alike."""


def load_sella():
    """Sella's optimiser (E. D. Hermes et al., J. Chem. Theory Comput. 18, 6974 (2022)).

    Raises
    ------
    FFLUXError
        It is not installed, too old, or cannot be loaded.
    """
    if importlib.util.find_spec("sella") is None:
        raise FFLUXError(
            "a search for saddle points needs Sella, which is not installed: "
            "pip install 'ase-fflux[saddle]'"
        )
    found = version_of("sella") or ""
    if tuple(int(n) for n in re.findall(r"\d+", found)[:2]) < _OLDEST:
        raise FFLUXError(
            f"Sella {found} is too old: pip install --upgrade 'ase-fflux[saddle]'"
        )
    try:
        from sella import Sella
    except (ImportError, AttributeError, RuntimeError) as error:
        raise FFLUXError(
            f"Sella is installed and cannot be loaded ({words(error)}): "
            "pip install --upgrade 'ase-fflux[saddle]'"
        ) from error
    return Sella


def saddle_search(
    atoms: Atoms, *, fmax: float = 0.001, steps: int = 500, cartesian: bool = False
) -> Iterator[Step]:
    """Look for a saddle point of first order, step by step; the geometry handed in stays.

    Parameters
    ----------
    atoms : Atoms
        A molecule near the top of a barrier, with a calculator.
    fmax : float
        Stop when no atom feels a larger force (eV/Angstrom).
    steps : int
        Stop after so many steps. At some of them Sella looks for the softest mode, which takes
        further forces.
    cartesian : bool
        Whether to step in Cartesian coordinates instead of distances, angles and torsions.

    Yields
    ------
    Step
        The start and every step after it.

    Raises
    ------
    FFLUXError
        No calculator, a periodic input, constrained atoms, or no Sella.
    GeometryError
        Energy or forces that are not finite, or a search that loses its way.
    """
    sella = load_sella()
    require_free(atoms)
    moving = atoms.copy()
    moving.calc = atoms.calc
    require_finite(moving, 0)
    try:
        driver = sella(
            moving, order=1, internal=not cartesian, allow_fragments=not cartesian, logfile=None
        )
        for step in driven(driver, moving, moving, fmax=fmax, steps=steps):
            # Sella converges in its own coordinates
            yield replace(step, converged=step.converged and step.fmax < fmax)
    except FFLUXError:
        raise
    except (RuntimeError, ValueError, AssertionError, IndexError) as error:
        other = "start nearer to the barrier" if cartesian else "try --cartesian"
        raise GeometryError(f"Sella has lost its way ({words(error)}): {other}") from error


def require_free(atoms: Atoms) -> None:
    """Refuse what has no saddle point to be searched for.

    Raises
    ------
    FFLUXError
    """
    if atoms.calc is None:
        raise FFLUXError("no forces: set atoms.calc, for example FFLUX('ethanol')")
    require_isolated(atoms, "saddle points are those of an isolated molecule")
    require_masses(atoms)
    if atoms.constraints:
        raise FFLUXError(
            "a saddle point is one of all coordinates: remove the constraints of the input"
        )


@dataclass(frozen=True, eq=False)
class End:
    """Where a way down from a saddle point ends.

    Attributes
    ----------
    atoms : Atoms
        With energy and forces.
    energy : float
        eV.
    converged : bool
    steps : int
    modes : Vibrations
    """

    atoms: Atoms
    energy: float
    converged: bool
    steps: int
    modes: Vibrations

    @property
    def is_minimum(self) -> bool:
        """Whether it has converged to a geometry without imaginary modes."""
        return self.converged and bool((self.modes.wavenumbers > 0).all())


def way_down(
    saddle: Atoms, modes: Vibrations, sign: int, *, fmax: float = 0.001, steps: int = 1000
) -> End:
    """Displace a saddle point along its first mode and optimise.

    Parameters
    ----------
    saddle : Atoms
        With a calculator.
    modes : Vibrations
        Its own.
    sign : int
        1 or -1, which way.
    fmax : float
        Largest force at convergence at most (eV/Angstrom).
    steps : int
        Of the optimisation at most.
    """
    mode = modes.displacements[0]
    start = saddle.copy()
    start.calc = saddle.calc
    length = DISPLACEMENT / np.linalg.norm(mode, axis=1).max()
    start.positions += sign * length * mode
    threshold = min(fmax, _DOWNHILL * length * abs(modes.force_constants[0]))
    found = optimise(start, fmax=threshold, steps=steps)
    bottom = found.atoms.copy()
    bottom.calc = saddle.calc
    return End(
        found.atoms, found.last.energy, found.converged, found.steps, vibrations(bottom)
    )


RELATIONS = {
    "one": "both ways lead to one and the same minimum",
    "equivalent": "the ends are one minimum with equivalent atoms exchanged",
    "mirrored": "the ends are mirror images of each other",
    "different": "the ends are different minima",
}
"""What `relation` says, in words."""


def relation(one: Atoms, other: Atoms) -> str:
    """How two minima of a molecule belong together, see `RELATIONS`."""
    x, y = (a.positions - a.positions.mean(axis=0) for a in (one, other))
    before, after = (np.linalg.norm(p[:, None] - p, axis=-1) for p in (x, y))
    graphs = [Graph(a.numbers, bonds(a.numbers, a.positions / BOHR)[0]) for a in (one, other)]

    def allowed(atom, candidate, image):
        placed = [i for i, c in enumerate(image) if c >= 0]
        images = [image[i] for i in placed]
        return bool((abs(before[atom, placed] - after[candidate, images]) <= 2 * _SAME).all())

    orders = np.array(list(mappings(graphs[0], graphs[1], allowed)), dtype=int).reshape(-1, len(x))
    if not len(orders):
        return "different"
    turned, mirrored = (
        deviations(x, y[orders], improper).max(axis=1) <= _SAME for improper in (False, True)
    )
    if turned[(orders == np.arange(len(x))).all(axis=1)].any():
        return "one"
    return "equivalent" if turned.any() else "mirrored" if mirrored.any() else "different"


def turned_torsion(one: Atoms, other: Atoms) -> Coordinate | None:
    """The torsion that differs most between two geometries of the same bonds.

    None where none differs by `_TURNED` degrees. Of those that turn together it is the first.
    """
    neighbours = Graph(one.numbers, bonds(one.numbers, one.positions / BOHR)[0]).neighbours
    found, largest = None, _TURNED
    for j, around in enumerate(neighbours):
        for k in (k for k in around if k > j):
            for i, m in product(around, neighbours[k]):
                if len({i, j, k, m}) < 4:
                    continue
                torsion = Coordinate((i, j, k, m))
                try:
                    torsion.check(one)
                    torsion.check(other)
                except FFLUXError:
                    continue  # about a straight angle
                change = abs((torsion.value(other) - torsion.value(one) + 180) % 360 - 180)
                if change > largest + _TOGETHER:
                    found, largest = torsion, change
    return found


def below(end: End, saddle: Vibrations) -> tuple[float, float]:
    """By how much an end lies below the saddle point, without and with zero-point energies
    (kJ/mol)."""
    bare = (saddle.energy - end.energy) / KJ_PER_MOL
    quanta = (saddle.zero_point_energy - end.modes.zero_point_energy) / KJ_PER_MOL
    return float(bare), float(bare + quanta)
