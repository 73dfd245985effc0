"""The path between two minima and its barrier: nudged elastic band with a climbing image."""

from collections.abc import Callable, Iterable, Iterator
from copy import copy
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.build import minimize_rotation_and_translation
from ase.calculators.singlepoint import SinglePointCalculator

from ase_fflux.base.errors import FFLUXError, GeometryError
from ase_fflux.base.units import BOHR, KJ_PER_MOL
from ase_fflux.simulate.limits import require_isolated
from ase_fflux.simulate.optimise import optimise
from ase_fflux.simulate.scan import deviations_from
from ase_fflux.topology.graphs import Graph, atom_label, atom_names, bonds

_SAME = 0.05
"""Angstrom; largest distance of an atom of two geometries that are one minimum."""

_LOOSE = 5.0
"""Times the threshold at which the highest image begins to climb."""


@dataclass(frozen=True, eq=False)
class Path:
    """Images from one minimum to another.

    Attributes
    ----------
    images : tuple of Atoms
        With energy and forces, both ends included.
    converged : bool
        Whether the forces of the band are below the threshold.
    steps : int
        Of the optimisation of the band.
    fmax : float
        Largest force of the band on an atom (eV/Angstrom).
    uncertainty : (n,) array or None
        Standard deviations of the energies from that of the first image (kJ/mol).
    """

    images: tuple[Atoms, ...]
    converged: bool
    steps: int
    fmax: float
    uncertainty: np.ndarray | None = None

    @property
    def relative(self) -> np.ndarray:
        """Energies (n,) from that of the first image (kJ/mol)."""
        energies = np.array([image.get_potential_energy() for image in self.images])
        return (energies - energies[0]) / KJ_PER_MOL

    @property
    def saddle(self) -> int:
        """Number of the highest image."""
        return int(self.relative.argmax())

    @property
    def lengths(self) -> np.ndarray:
        """Length (n,) of the path up to each image (Angstrom)."""
        x = np.array([image.positions for image in self.images])
        return np.append(0.0, np.linalg.norm(np.diff(x, axis=0), axis=(1, 2)).cumsum())


def check_ends(first: Atoms, last: Atoms) -> None:
    """Refuse ends that are not the same atoms in the same order.

    Raises
    ------
    FFLUXError
        Which atoms differ, counted from 1.
    """
    for atoms in (first, last):
        require_isolated(atoms, "paths are of molecules")
    one, two = (a.get_chemical_formula() for a in (first, last))
    if one != two:
        raise FFLUXError(f"the ends are {one} and {two}: a path has the same atoms all along")
    differ = np.flatnonzero(first.numbers != last.numbers)
    if len(differ):
        raise FFLUXError(
            f"the ends have their atoms in another order: {atom_label(differ[0], first.numbers)} "
            f"of the first is {last.symbols[differ[0]]} in the second ({len(differ)} atoms differ)"
        )
    before, after = (
        Graph(a.numbers, bonds(a.numbers, a.positions / BOHR)[0]).neighbours for a in (first, last)
    )
    for atom, (old, new) in enumerate(zip(before, after, strict=True)):
        if old != new:
            raise FFLUXError(
                f"{atom_label(atom, first.numbers)} is bonded to "
                f"{atom_names(old, first.numbers) or 'nothing'} in the first geometry and "
                f"to {atom_names(new, first.numbers) or 'nothing'} in the second: bring "
                "the atoms of one into the order of the other; a model breaks no bonds"
            )


def minimum_path(
    first: Atoms, last: Atoms, *, images: int = 11, fmax: float = 0.02, steps: int = 500,
    uncertainty: bool = False, watch: Callable[[Iterable], Iterable] = iter,
) -> Path:
    """Path of lowest energy between the minima that two geometries lead to.

    Both ends are optimised first. The band starts from an image-dependent pair potential (S.
    Smidstrup et al., J. Chem. Phys. 140, 214106 (2014)); its tangents are the improved ones, and
    once it is near the path its highest image climbs to the saddle point (G. Henkelman et al., J.
    Chem. Phys. 113, 9901 and 9978 (2000)).

    Parameters
    ----------
    first, last : Atoms
        Ends; the first has a calculator.
    images : int
        Of the whole path, ends included.
    fmax : float
        Largest force of the band on an atom at convergence (eV/Angstrom).
    steps : int
        Of the optimisation of the band at most.
    uncertainty : bool
        Whether to ask the calculator for standard deviations of the energies.
    watch : callable
        Wraps the steps (number, largest force), for a progress display.

    Raises
    ------
    FFLUXError
        Ends of different atoms or order, that lead to one and the same minimum, or that do not
        converge.
    """
    from ase.mep import NEB

    check_ends(first, last)
    calculator = first.calc
    ends = [_relaxed(atoms, calculator, fmax, name) for atoms, name in
            ((first, "first"), (last, "second"))]
    check_ends(*ends)
    minimize_rotation_and_translation(*ends)
    apart = np.linalg.norm(ends[1].positions - ends[0].positions, axis=1)
    if apart.max() < _SAME:
        raise FFLUXError(
            "both ends lead to the same minimum: start from geometries on either side of the "
            "barrier"
        )
    band = [ends[0], *(ends[0].copy() for _ in range(images - 2)), ends[1]]
    neb = NEB(band, climb=False, method="improvedtangent", remove_rotation_and_translation=True)
    neb.interpolate(method="idpp")
    for image in band:
        image.calc = copy(calculator)  # each keeps to its own assignment of equivalent atoms
    count = force = 0
    for count, force in watch(_optimised(neb, fmax, steps)):  # noqa: B007  the last one counts
        pass
    found = tuple(_frozen(image) for image in band)
    deviation = deviations_from(calculator, found, 0) if uncertainty else None
    return Path(found, force < fmax, count, force, deviation)


def _relaxed(atoms: Atoms, calculator, fmax: float, name: str) -> Atoms:
    start = atoms.copy()
    start.calc = calculator
    step = optimise(start, fmax=fmax / 2, steps=1000).last
    if not step.converged:
        raise FFLUXError(
            f"the {name} end does not converge in 1000 steps (largest force {step.fmax:.2g} eV/A): "
            "optimise it first (fflux opt)"
        )
    return step.atoms.copy()


def _optimised(neb, fmax: float, steps: int) -> Iterator[tuple[int, float]]:
    """Number of steps and the largest force; the highest image climbs in the second part."""
    from ase.optimize import FIRE

    done = 0
    for climb, threshold in ((False, _LOOSE * fmax), (True, fmax)):
        neb.climb = climb
        driver = FIRE(neb, logfile=None)
        for _ in driver.irun(fmax=threshold, steps=steps - done):
            force = float(np.linalg.norm(neb.get_forces().reshape(-1, 3), axis=1).max())
            if not np.isfinite(force):
                raise GeometryError("forces of the band are not finite")
            yield done + driver.nsteps, force
        done += driver.nsteps


def _frozen(image: Atoms) -> Atoms:
    frame = image.copy()
    frame.calc = SinglePointCalculator(
        frame, energy=image.get_potential_energy(), forces=image.get_forces()
    )
    return frame
