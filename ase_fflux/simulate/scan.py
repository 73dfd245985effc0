"""The energy along a distance, an angle or a torsion, relaxed or rigid."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from ase_fflux.base.errors import FFLUXError
from ase_fflux.base.units import KJ_PER_MOL
from ase_fflux.simulate.coordinate import Coordinate
from ase_fflux.simulate.limits import require_isolated
from ase_fflux.simulate.optimise import optimise


@dataclass(frozen=True)
class ScanPoint:
    """One value of the coordinate.

    Attributes
    ----------
    value : float
        Angstrom or degrees.
    atoms : Atoms or None
        The geometry with energy and forces (those of the constraint left out); None where there is
        none.
    energy : float or None
        eV.
    coverage : float or None
        Smallest coverage of an atom, None if the calculator has none.
    steps : int
        Of the optimisation, 0 in a rigid scan.
    converged : bool
        Whether the forces that are left are below the threshold.
    fault : str
        Why there is no energy; empty where there is one.
    """

    value: float
    atoms: Atoms | None
    energy: float | None
    coverage: float | None = None
    steps: int = 0
    converged: bool = True
    fault: str = ""


@dataclass(frozen=True)
class Profile:
    """Energies along a coordinate, of the points that have one.

    Attributes
    ----------
    points : tuple of ScanPoint
    relative : (n,) array
        Energies from the lowest one (kJ/mol).
    uncertainty : (n,) array or None
        Standard deviations of these differences (kJ/mol), zero for the lowest itself.
    """

    points: tuple[ScanPoint, ...]
    relative: np.ndarray
    uncertainty: np.ndarray | None

    @property
    def values(self) -> np.ndarray:
        """(n,) values of the coordinate."""
        return np.array([point.value for point in self.points])


def scan(
    atoms: Atoms, coordinate: Coordinate, values: Sequence[float], *, rigid: bool = False,
    fmax: float = 0.01, steps: int = 500,
) -> Iterator[ScanPoint]:
    """Go through the values of a coordinate one after the other.

    A relaxed point starts from the relaxed geometry of the one before it, with what hangs on the
    coordinate moved as one body. A value at which there is no energy (atoms on one spot, a geometry
    that the models know nothing of) is told in its point, and the next one goes on.

    Parameters
    ----------
    atoms : Atoms
        Of a molecule, with a calculator; constraints are kept.
    coordinate : Coordinate
    values : sequence of float
        Angstrom or degrees.
    rigid : bool
        Whether nothing but the coordinate changes.
    fmax, steps
        As for `ase_fflux.simulate.optimise.relaxation`, of each point.

    Raises
    ------
    FFLUXError
        Periodic boundaries, a coordinate that is not defined, and a rigid scan of one that does not
        divide the molecule.
    """
    require_isolated(atoms, "scans are of molecules")
    coordinate.check(atoms)
    for value in values:
        coordinate.check_value(value)
    moved = coordinate.moved(atoms)
    if rigid and moved is None:
        raise FFLUXError(
            f"{coordinate.label(atoms)} does not divide the molecule, as in a ring: a rigid scan "
            "is not possible, leave --rigid out"
        )
    # of two atoms there is nothing else to relax
    return _points(atoms, coordinate, values, rigid or len(atoms) == 2, moved, fmax, steps)


def _points(atoms, coordinate, values, rigid, moved, fmax, steps):
    last = atoms.copy()
    for value in values:
        start = last.copy()
        start.set_constraint()
        start.calc = atoms.calc
        try:
            if moved is not None:
                coordinate.turn(start, value, moved)
            if rigid:
                point = _evaluated(start, value)
            else:
                start.set_constraint([*atoms.constraints, coordinate.held_at(value)])
                start.set_positions(start.positions)  # where it did not turn, it is turned here
                point = _relaxed(start, value, fmax, steps)
        except (FFLUXError, ValueError, np.linalg.LinAlgError) as error:
            yield ScanPoint(value, None, None, fault=" ".join(str(error).split()))
            continue
        if not rigid:
            last = point.atoms.copy()
        yield point


def _evaluated(atoms: Atoms, value: float) -> ScanPoint:
    energy, forces = atoms.get_potential_energy(), atoms.get_forces()
    coverage = getattr(atoms.calc, "coverage", None)
    frame = atoms.copy()
    frame.calc = SinglePointCalculator(frame, energy=energy, forces=forces)
    return ScanPoint(
        value, frame, energy, None if coverage is None else float(np.min(coverage))
    )


def _relaxed(atoms: Atoms, value: float, fmax: float, steps: int) -> ScanPoint:
    step = optimise(atoms, fmax=fmax, steps=steps).last
    frame = step.atoms.copy()
    frame.set_constraint()
    results = step.atoms.calc.results
    frame.calc = SinglePointCalculator(frame, energy=step.energy, forces=results["forces"])
    return ScanPoint(value, frame, step.energy, step.coverage, step.index, step.converged)


def profile(points: Sequence[ScanPoint], calculator=None) -> Profile:
    """Energies from the lowest one.

    Parameters
    ----------
    points : sequence of ScanPoint
        At least one of them with an energy.
    calculator : FFLUX, optional
        Of models trained on gradients, for standard deviations.

    Raises
    ------
    FFLUXError
        No point with an energy; models that state no uncertainty.
    """
    known = tuple(point for point in points if point.atoms is not None)
    if not known:
        raise FFLUXError(f"no energy at any point of the scan; the first: {points[0].fault}")
    energies = np.array([point.energy for point in known])
    lowest = int(energies.argmin())
    deviation = None
    if calculator is not None:
        deviation = deviations_from(calculator, [p.atoms for p in known], lowest)
    return Profile(known, (energies - energies[lowest]) / KJ_PER_MOL, deviation)


def deviations_from(calculator, images: Sequence[Atoms], reference: int) -> np.ndarray:
    """Standard deviations (n,) of energies from that of one of them (kJ/mol).

    What two geometries have in common cancels, see `FFLUX.get_energy_covariance`.
    """
    covariance = calculator.get_energy_covariance(images)
    variance = np.diagonal(covariance)
    squares = variance + variance[reference] - 2 * covariance[reference]
    # what is zero but for rounding may come out below it
    return np.sqrt(np.maximum(squares, 0.0)) / KJ_PER_MOL


def whole_turn(points: Sequence[ScanPoint]) -> float | None:
    """By how much the energy differs after a whole turn of a torsion (kJ/mol), None without one.

    In a relaxed scan the rest of the molecule may have come to another minimum on the way.
    """
    first, last = points[0], points[-1]
    if first.energy is None or last.energy is None or not np.isclose(
        abs(last.value - first.value), 360.0
    ):
        return None
    return (last.energy - first.energy) / KJ_PER_MOL
