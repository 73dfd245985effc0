"""The ASE calculator: units, caching and ASE's conventions around a `ForceField`.

ASE imports this module whenever it reads a file (`ase_plugin`), so what is heavy is imported when a
calculator is made.
"""

from copy import deepcopy
from functools import partial
from os import PathLike

import numpy as np
from ase.calculators.calculator import (
    Calculator,
    PropertyNotImplementedError,
    all_changes,
    equal,
)
from ase.stress import full_3x3_to_voigt_6_stress

from ase_fflux.base.errors import FFLUXError
from ase_fflux.base.units import BOHR, FORCE, HARTREE


class FFLUX(Calculator):
    r"""FFLUX force field as an ASE calculator.

    .. math:: E = \sum_A E_A(f_A) + E_\mathrm{elec}(R, Q(f)) + E_\mathrm{sr}(R)

    E_A are the predicted atomic energies, the moments Q interact between molecules only, and forces
    are the full derivative: features, moments and local frames all move with the atoms.

    Parameters
    ----------
    model : str, Path, MoleculeModel, ForceField or list
        Bundled model, bundle (``.fflux``), directory of ``.model`` files, or a model as an object;
        several for several species. A `ForceField`, a force-field file (``.toml``) and a run
        directory of DL_FFLUX have their interactions and come alone. Of an object `parameters` (and
        so `todict` and what ASE writes beside a trajectory) has a description such as
        ``<MoleculeModel ethanol>``, from which it cannot be made again.
    electrostatics : bool
        Multipolar electrostatics between molecules (default True).
    level, rank : int, optional
        Interaction level L (l_A + l_B + 1 <= L) or rank L' (all ranks up to L'), at most one of
        them; default: the highest rank the models have.
    short_range : dict, optional
        Pair potentials between molecules, ``{"O-O": {"lj": [eps, sigma]}, "O-H": {"buckingham":
        [A, rho, C]}}`` in eV and Angstrom; pairs that are not listed have none.
    short_range_cutoff : float, optional
        Cut-off (Angstrom) with force shift; needed with periodic boundaries.
    accuracy : float, optional
        Relative error that electrostatics of periodic cells may have, by default 1e-6.
    threads : int, optional
        How many work on one large system; results are the same to the last bit on any number.
        Default: NUMBA_NUM_THREADS or OMP_NUM_THREADS where one is set, else one in workers of a
        pool, else one for each core. Systems of less than 256 atoms are computed on one.
    assignment : list of list of int, optional
        For each molecule its atoms in the order of the model, for several models a dict of such
        lists by the names in the models; default: found by bonding and
        nearness to the training data, and kept as long as no atom jumps by more than 1 Angstrom
        from one call to the next. Bonds of the models must not be broken in it.
    min_coverage : float, optional
        Coverage (largest kernel value to a training point, 0 to 1) below which a warning is given
        once; default: what each model's test trajectory suggests
        (`MoleculeModel.least_coverage`).
    on_low_coverage : {"warn", "raise", "ignore"}
        What to do then. Below a tenth of it an error is raised unless it is ignored.

    Notes
    -----
    The dipole is that of whole molecules. Of a system with a net charge it depends on the origin,
    which is the centre of mass (of the masses that the atoms have: with other isotopes it is
    another dipole).

    A calculator that is pickled, as in a process pool, takes along the paths and hashes of its
    models; whoever receives it reads them once, or refuses if a file has changed. Models given as
    objects go along themselves.

    Examples
    --------
    >>> from ase.io import read
    >>> from ase_fflux import FFLUX
    >>> atoms = read("ethanol.xyz")
    >>> atoms.calc = FFLUX("ethanol")
    >>> atoms.get_potential_energy()
    """

    implemented_properties = [
        "energy", "free_energy", "energies", "forces", "stress", "charges", "dipole",
    ]
    default_parameters = dict(
        model=None, electrostatics=True, level=None, rank=None, short_range=None,
        short_range_cutoff=None, accuracy=None, threads=None, assignment=None, min_coverage=None,
        on_low_coverage="warn",
    )
    nolabel = True

    def __init__(self, model=None, **kwargs):
        self._forcefield = None
        self._models, self._files = [], None
        self._forget()
        if model is None:
            from ase_fflux.formats.locate import bundled_models

            raise FFLUXError(
                "which model? FFLUX(model) takes a bundled name "
                f"({', '.join(sorted(bundled_models()))}), a .fflux bundle, a directory of "
                ".model files, a MoleculeModel or a ForceField"
            )
        super().__init__(model=model, **kwargs)

    def __repr__(self) -> str:
        return f"<FFLUX calculator: {self._forcefield!r}>"

    def _forget(self):
        from ase_fflux.forcefield.cautions import Cautions
        from ase_fflux.topology.kept_assignment import KeptAssignment

        self._kept, self._cautions = KeptAssignment(), Cautions()
        self._neighbours = None
        self._posteriors = None
        self.energy_terms = None
        self.coverage = None
        self._moments = None

    def set(self, **kwargs):
        """Change parameters; what depends on them is rebuilt."""
        unknown = sorted(set(kwargs) - set(self.default_parameters))
        if unknown:
            raise FFLUXError(
                f"FFLUX has no parameter {', '.join(map(repr, unknown))}; it has "
                f"{', '.join(self.default_parameters)}"
            )
        from ase_fflux.forcefield.loading import OPTIONS, as_parameter, force_field

        models = self._models
        if "model" in kwargs:
            names = kwargs["model"]
            several = isinstance(names, list | tuple)
            models = list(names) if several else [names]
            described = [as_parameter(m) for m in models]
            kwargs["model"] = described if several else described[0]
        if kwargs.get("on_low_coverage", "warn") not in ("warn", "raise", "ignore"):
            raise FFLUXError(
                f"on_low_coverage={kwargs['on_low_coverage']!r}: use 'warn', 'raise' or 'ignore'"
            )
        if kwargs.get("threads") is not None:
            from ase_fflux.base.threads import number_of_threads

            kwargs["threads"] = number_of_threads(kwargs["threads"])
        coverage = kwargs.get("min_coverage")
        if coverage is not None and not 0 <= coverage <= 1:
            raise FFLUXError(f"min_coverage={coverage!r}: it is a number from 0 to 1")
        if kwargs.get("assignment") is not None:
            from ase_fflux.topology.explicit import plain_assignment

            kwargs["assignment"] = plain_assignment(kwargs["assignment"])
        # loaded before anything is changed, so that parameters in error change nothing
        forcefield, files = self._forcefield, self._files
        another = "model" in kwargs and not all(isinstance(m, str | PathLike) for m in models)
        if another or any(
            name in kwargs and not equal(kwargs[name], self.parameters[name])
            for name in ("model", *OPTIONS)
        ):
            forcefield, files = force_field(models, {**self.parameters, **kwargs})
        changed = super().set(**kwargs)
        if changed or another:
            self.reset()
            self._forget()
        self._forcefield, self._models, self._files = forcefield, models, files
        return changed

    def __getstate__(self):
        state = {**vars(self), "_neighbours": None, "_posteriors": None}
        if self._files is not None:
            del state["_forcefield"]
        return state

    def __setstate__(self, state):
        vars(self).update(state)
        if "_forcefield" not in state:
            from ase_fflux.forcefield.loading import made_from

            self._files = tuple(file.found_here() for file in self._files)
            self._forcefield = made_from(self._files, self.parameters)

    def __deepcopy__(self, memo):
        """A calculator of its own; what never changes, the force field, is shared."""
        twin = memo[id(self)] = type(self).__new__(type(self))
        kept = ("_forcefield", "_models", "_posteriors")
        for name, value in vars(self).items():
            vars(twin)[name] = value if name in kept else deepcopy(value, memo)
        return twin

    def __copy__(self):
        """As `deepcopy`: two calculators never share results."""
        return deepcopy(self)

    @property
    def forcefield(self):
        """The `ForceField` that does the work, in atomic units."""
        return self._forcefield

    @property
    def least_coverage(self):
        """(n,) coverage of each atom below which it is outside of the training data, None before
        the first call and where it is ignored."""
        if self._kept.assignment is None or self.parameters.on_low_coverage == "ignore":
            return None
        return self._least_coverage

    def listed(self) -> dict[str, np.ndarray]:
        """What the list of neighbours was made of, for `relist`; empty where there is none."""
        return {} if self._neighbours is None else self._neighbours.state()

    def relist(self, listed: dict[str, np.ndarray]) -> None:
        """Have the list of neighbours as it was when `listed` was called.

        The same geometry gives the same forces whatever was listed when; to the last bit it does
        only if sums are taken in the same order.
        """
        from ase_fflux.forcefield.interactions.neighbours import NeighbourList

        self.reset()
        self._neighbours = NeighbourList()
        self._neighbours.restore(listed)

    def _assign(self, atoms, positions, cell):
        """The assignment of these atoms, the one of the last call if it is the same trajectory."""
        last = self._kept.assignment
        match = partial(self._forcefield.match, explicit=self.parameters.assignment)
        found = self._kept.of(positions, atoms.numbers, cell, atoms.pbc, match)
        if found is not last:
            from ase_fflux.forcefield.cautions import least_coverage

            self._least_coverage = least_coverage(
                self._forcefield.models, found, self.parameters.min_coverage
            )
        return found

    def check_state(self, atoms, tol=1e-15):
        """What has changed since the last call, of all that the results depend on.

        ASE's own comparison takes longer than the forces of a small molecule.
        """
        last = self.atoms
        if last is None:
            return list(all_changes)
        changes = [
            name for name in ("positions", "numbers", "cell", "pbc")
            if not np.array_equal(getattr(atoms, name), getattr(last, name))
        ]
        if "dipole" in self.results and not np.array_equal(
            atoms.arrays.get("masses"), last.arrays.get("masses")
        ):
            changes.append("masses")  # the dipole of an ion is about the centre of mass
        return changes

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        """Fill `results`; called by ASE.

        Raises
        ------
        FFLUXError
            Atoms that no model fits, geometries without a defined value, low coverage if asked.
        PropertyNotImplementedError
            Charges or a dipole where a model has none.
        """
        if atoms is not None:
            self.atoms = atoms.copy()
        atoms = self.atoms
        wants_moments = "charges" in properties or "dipole" in properties
        if not system_changes and "energy" in self.results and not wants_moments:
            return  # a stress that does not exist was asked for again
        positions = atoms.positions / BOHR
        cell = atoms.cell.array / BOHR
        if system_changes:
            self.energy_terms = self.coverage = self._moments = None
        assignment = self._assign(atoms, positions, cell)
        if wants_moments:
            self._require_charges(assignment)
        if self._neighbours is None:
            from ase_fflux.forcefield.interactions.neighbours import NeighbourList

            self._neighbours = NeighbourList()
        results = self._forcefield.evaluate(
            positions, atoms.numbers, cell, atoms.pbc, assignment=assignment,
            moments=wants_moments, neighbours=self._neighbours,
            threads=self.parameters.threads,
        )
        self._cautions.of_collapse(self._forcefield.interactions, assignment, atoms.pbc.any())
        if self.parameters.on_low_coverage != "ignore":
            self._cautions.of_coverage(
                results.coverage, self._least_coverage, atoms.numbers,
                raised=self.parameters.on_low_coverage == "raise",
            )
        self.coverage = results.coverage
        self._moments = results.moments
        self.energy_terms = {name: HARTREE * value for name, value in results.terms.items()}
        energy = HARTREE * results.energy
        self.results = {
            "energy": energy,
            "free_energy": energy,
            "energies": HARTREE * results.energies,
            "forces": FORCE * results.forces,
        }
        if atoms.pbc.all():
            stress = HARTREE * results.virial / atoms.get_volume()
            self.results["stress"] = full_3x3_to_voigt_6_stress(stress)
        if results.moments is not None:
            self.results["charges"] = results.charges.copy()
            masses = atoms.get_masses()
            origin = masses @ results.positions / masses.sum()
            self.results["dipole"] = BOHR * results.dipole(origin)

    def _require_charges(self, assignment):
        for model, found in zip(self._forcefield.models, assignment.atoms_of_model, strict=True):
            if len(found) and model.rank < 0:
                raise PropertyNotImplementedError(
                    f"the model {model.name} has no charges or moments: no dipole, no charges"
                )

    def get_multipoles(self, atoms=None) -> np.ndarray:
        """Atomic multipole moments.

        Returns
        -------
        (n, K) array
            Real spherical moments in the global frame in atomic units (e bohr^l), in the order q00,
            q10, q11c, q11s, q20, q21c, q21s, q22c, q22s, q30, ...
        """
        atoms = atoms if atoms is not None else self.atoms
        if atoms is None:
            raise FFLUXError("moments of which atoms? Give them: get_multipoles(atoms)")
        self.get_property("charges", atoms)
        return self._moments.copy()

    def get_uncertainty(self, atoms=None):
        """Standard deviations of what the models predict; needs models trained on gradients.

        They are of what happens within molecules: interactions between molecules count as exact.
        They hold on dynamics, also hotter than the labels, and are up to ten times too small where
        one coordinate is far beyond all labels, as the angle of water at 160 degrees.
        The first call takes the time and memory of the last step of the training.

        Returns
        -------
        Uncertainty
            ``energy`` (eV), ``energies`` (n,) of the atoms (eV), ``forces`` (n, 3) (eV/Angstrom).

        Raises
        ------
        FFLUXError
            Models that were not trained on gradients, or that memory does not hold.
        """
        from ase_fflux.learn.joint.uncertainty import Uncertainty

        atoms = atoms if atoms is not None else self.atoms
        if atoms is None:
            raise FFLUXError("uncertainty of which atoms? Give them: get_uncertainty(atoms)")
        positions, cell = atoms.positions / BOHR, atoms.cell.array / BOHR
        found = self._all_posteriors().uncertainty(
            positions, atoms.numbers, cell, atoms.pbc, self._assign(atoms, positions, cell)
        )
        return Uncertainty(
            HARTREE * found.energy, HARTREE * found.energies, FORCE * found.forces
        )

    def get_energy_covariance(self, images) -> np.ndarray:
        """Covariance of the predicted energies of several geometries of the same atoms.

        For standard deviations of differences, such as a barrier's: what two geometries have in
        common cancels. What holds for `get_uncertainty` holds for it.

        Parameters
        ----------
        images : sequence of Atoms
            The same atoms in the same order and cell.

        Returns
        -------
        (G, G) array
            eV^2.
        """
        first = images[0]
        if any(
            len(atoms) != len(first) or (atoms.numbers != first.numbers).any()
            or (atoms.pbc != first.pbc).any() or not np.allclose(atoms.cell, first.cell)
            for atoms in images
        ):
            raise FFLUXError("a covariance is that of geometries of the same atoms and cell")
        return HARTREE**2 * self._all_posteriors().energy_covariance(
            [atoms.positions / BOHR for atoms in images], first.numbers, first.cell.array / BOHR,
            first.pbc,
        )

    def _all_posteriors(self):
        from ase_fflux.learn.joint.posteriors import Posteriors

        if self._posteriors is None or self._posteriors.forcefield is not self._forcefield:
            self._posteriors = Posteriors(self._forcefield)
        return self._posteriors
