"""Any ASE calculator as a label source: total energies and forces, no atomic energies.

The calculator is named by where it is made, ``module:factory``: a class or function of a module
that Python finds, or that lies in the current folder, called without arguments. Charge, spin, files
of parameters and whatever else it needs are set there::

    # network.py
    def make():
        from mace.calculators import MACECalculator
        return MACECalculator("mace.model", device="cpu", default_dtype="float64")

and then ``--reference ase:network:make``.
"""

import importlib
import os
import sys
from collections.abc import Callable

import numpy as np
from ase import Atoms
from ase.calculators.calculator import CalculationFailed, Calculator, PropertyNotImplementedError

from ase_fflux.base.errors import LabelError, words
from ase_fflux.base.units import BOHR, FORCE, HARTREE
from ase_fflux.labels.differences import dipole_derivatives, hessian
from ase_fflux.labels.label import TOLERANCE, Label
from ase_fflux.labels.source import Gives, Rejected

_PREFIX = "ase:"


class CalculatorSource:
    """Label source: an ASE calculator.

    Parameters
    ----------
    factory : str or callable
        ``module:factory``, or what makes a calculator without arguments; a function of a module,
        so that other processes can have it.
    method : str, optional
        What to call the level of theory, one word; by default the factory's name.

    Raises
    ------
    LabelError
        What cannot be imported, or makes no calculator.
    """

    partition = ""
    energies = "none: the source gives total energies, and atomic ones are latent"
    tolerance = TOLERANCE
    charge, spin = 0, 0

    def __init__(self, factory: str | Callable[[], Calculator], method: str | None = None):
        from ase_fflux.base.environment import version_of

        self._factory, self._calculator = factory, None
        name = factory if isinstance(factory, str) else (
            f"{factory.__module__}:{getattr(factory, '__qualname__', type(factory).__name__)}"
        )
        self.method = method or name.replace(" ", "")
        self.settings = {"calculator": name}
        package = name.partition(".")[0].partition(":")[0]
        self.versions = {p: found for p in ("ase", package) if (found := version_of(p))}
        properties = self.calculator().implemented_properties
        if missing := [p for p in ("energy", "forces") if p not in properties]:
            raise LabelError(f"{name}: the calculator gives no {' and no '.join(missing)}")
        self.gives = Gives(
            atomic_energies=False, dipole="dipole" in properties,
            rank=0 if "charges" in properties else -1,
        )

    def __getstate__(self):
        return self.__dict__ | {"_calculator": None}  # made again where it is needed

    @property
    def engine(self) -> "CalculatorSource":
        """Itself."""
        return self

    def check(self, atoms: Atoms) -> None:
        """Refuse what can never be labelled.

        Raises
        ------
        LabelError
            Periodic atoms, or what the calculator cannot do: its own words.
        """
        if atoms.pbc.any():
            raise LabelError(
                f"{self.method}: {atoms.symbols} is periodic; only molecules are labelled: if the "
                'cell is only a box, set pbc="F F F", or give --vacuum'
            )
        try:
            self.label(atoms)
        except Rejected as error:
            raise LabelError(str(error)) from None

    def label(self, atoms: Atoms) -> Label:
        """Energy, gradient and, where the calculator has them, charges and dipole.

        Raises
        ------
        Rejected
            A calculation that failed, in the calculator's words; values that are not finite.
        LabelError
            Anything else that the calculator raises.
        """
        if self._calculator is None:
            self._calculator = self.calculator()
        here = Atoms(atoms.numbers, atoms.positions)
        here.calc = self._calculator
        where = f"{self.method}: {atoms.symbols}"
        try:
            energy, forces = here.get_potential_energy(), here.get_forces()
            charges = here.get_charges() if self.gives.rank == 0 else None
            dipole = here.get_dipole_moment() if self.gives.dipole else None
        except CalculationFailed as error:
            raise Rejected(f"{where} failed ({words(error)})") from error
        except Exception as error:  # calculators raise whatever their programs run into
            raise LabelError(f"{where} cannot be calculated ({words(error)})") from error
        for values in (energy, forces, charges, dipole):
            if values is not None and not np.isfinite(values).all():
                raise Rejected(f"{where}: the calculator gives numbers that are not finite")
        return Label(
            tuple(atoms.get_chemical_symbols()), atoms.positions / BOHR, float(energy) / HARTREE,
            -np.asarray(forces, dtype=float) / FORCE,
            moments=None if charges is None else np.asarray(charges, dtype=float)[:, None],
            dipole=None if dipole is None else np.asarray(dipole, dtype=float) / BOHR,
            method=self.method, settings=self.settings, versions=self.versions,
        )

    def calculator(self) -> Calculator:
        """A new calculator."""
        factory = self._factory
        if isinstance(factory, str):
            factory = _imported(factory)
        try:
            made = factory()
        except Exception as error:
            raise LabelError(
                f"{self.settings['calculator']}: no calculator is made ({words(error)})"
            ) from error
        if not isinstance(made, Calculator) and not hasattr(made, "get_potential_energy"):
            raise LabelError(
                f"{self.settings['calculator']}: makes {type(made).__name__}, not an ASE calculator"
            )
        return made

    def hessian(self, atoms: Atoms) -> np.ndarray:
        """Second derivatives (3N, 3N) in hartree/bohr^2 by differences of forces."""
        return hessian(atoms, self.calculator())

    def dipole_derivatives(self, atoms: Atoms) -> np.ndarray | None:
        """Derivatives (3N, 3) of the dipole (e); None where the calculator has none."""
        if not self.gives.dipole:
            return None
        try:
            return dipole_derivatives(atoms, self.calculator())
        except PropertyNotImplementedError:
            return None


def factory_of(reference: str) -> str | None:
    """``module:factory`` of a reference ``ase:module:factory``; None for another reference.

    Raises
    ------
    LabelError
        If one of the two is missing.
    """
    if not reference.startswith(_PREFIX):
        return None
    module, _, name = (factory := reference.removeprefix(_PREFIX)).partition(":")
    if not module or not name:
        raise LabelError(
            f"{reference}: give ase:module:factory, such as ase:ase.calculators.emt:EMT"
        )
    return factory


def _imported(factory: str) -> Callable[[], Calculator]:
    module, _, name = factory.partition(":")
    here = os.getcwd()
    sys.path.append(here)  # after everything that is installed
    try:
        found = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
        return found
    except ImportError as error:
        raise LabelError(
            f"{factory}: cannot be imported ({words(error)}); it must be a module that Python "
            "finds or a file NAME.py in the current folder"
        ) from None
    except AttributeError:
        raise LabelError(f"{factory}: {module} has no {name}") from None
    finally:
        sys.path.remove(here)
