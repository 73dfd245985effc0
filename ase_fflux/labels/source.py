"""What a source of labels is: the one face that sampling, labelling, builds and tests know."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator

from ase_fflux.base.errors import LabelError
from ase_fflux.labels.label import Label


class Rejected(LabelError):
    """One geometry that the source cannot label well enough, where others may do.

    Raised for what a sample may lose, such as a self-consistent field that does not converge after
    all retries or an integration error above its limit: it is counted and left out. Anything else
    that a source raises ends the labelling.
    """


@dataclass(frozen=True)
class Gives:
    """Which quantities the labels of a source have.

    Parameters
    ----------
    energy, gradient, atomic_energies, dipole : bool
        Whether they are there.
    rank : int
        Highest rank of the moments; -1 for none.
    """

    energy: bool = True
    gradient: bool = True
    atomic_energies: bool = True
    dipole: bool = True
    rank: int = 2


class Engine(Protocol):
    """A surface that geometries are sampled from."""

    method: str
    """Level of theory, one word."""

    def calculator(self) -> Calculator:
        """A new ASE calculator (energy and forces; eV, Angstrom)."""


@runtime_checkable
class LabelSource(Protocol):
    """A level of theory that labels geometries of one charge and spin.

    A source is picklable, and its labels depend on the geometry alone: not on what it labelled
    before beyond its tolerance.
    """

    method: str
    """Level of theory, one word without quotes or =."""
    partition: str
    """How the molecule is divided into atoms, one word; empty where the method implies it."""
    energies: str
    """What the atomic energies are, in words for a report."""
    gives: Gives
    """Which quantities its labels have."""
    tolerance: float
    """How well the atomic energies sum to the total energy (hartree)."""
    settings: Mapping[str, str | int | float | bool]
    """What else the numbers depend on, by name; may be empty."""
    versions: Mapping[str, str]
    """Versions of the programs that are used, by name."""
    charge: int
    """Total charge (e)."""
    spin: int
    """Number of unpaired electrons."""

    @property
    def engine(self) -> Engine:
        """What geometries are sampled with; the source itself, or something cheaper."""

    def check(self, atoms: Atoms) -> None:
        """Refuse at once, before anything long, what can never be labelled.

        Raises
        ------
        LabelError
            Periodic or unknown atoms, an electron count that does not fit charge and spin: what it
            is and what to do.
        """

    def label(self, atoms: Atoms) -> Label:
        """Everything that `gives` names, at one geometry (Angstrom).

        Raises
        ------
        Rejected
            A geometry that may be left out.
        LabelError
            Everything else; names the geometry.
        """

    def calculator(self) -> Calculator:
        """A new ASE calculator of the source's own surface, for its minima and their tests.

        Energy, forces and, where the source has them, dipoles (eV, Angstrom, e Angstrom).
        """

    def hessian(self, atoms: Atoms) -> np.ndarray:
        """Second derivatives (3N, 3N) of the total energy (hartree/bohr^2), symmetric."""

    def dipole_derivatives(self, atoms: Atoms) -> np.ndarray | None:
        """Derivatives (3N, 3) of the molecular dipole (e); None where there are no dipoles."""
