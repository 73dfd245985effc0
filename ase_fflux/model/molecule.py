"""What a trained model of a molecule is, whatever file it came from."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ase_fflux.model.alf import exchanged_axes
from ase_fflux.model.frames import features
from ase_fflux.model.multipoles import MOMENT_NAMES
from ase_fflux.model.process import GaussianProcess
from ase_fflux.model.shared import Shared, SharedProcess, transformed
from ase_fflux.model.terms import MoleculeTerm

if TYPE_CHECKING:  # which stands on this file
    from ase_fflux.model.prior import Prior

ENERGY = "iqa"
"""Name of the atomic energy among the properties."""
PROPERTIES = (ENERGY, *MOMENT_NAMES)
"""Names of the properties that can be modelled."""


@dataclass(frozen=True)
class AtomProcess:
    """Gaussian process for some properties of one atom.

    Parameters
    ----------
    atom : int
        Index of the atom in the molecule (0-based).
    properties : tuple of str
        ``iqa`` or names of `MOMENT_NAMES`, one for each output of the process.
    gp : GaussianProcess
        Its inputs are features of this atom, or of one that it is equivalent to.
    order : (F,) int array, optional
        Feature h of the process is feature ``order[h]`` of this atom; by default the same.
    mirrored : bool
        Whether the process sees this atom in a mirror: polar angles are pi - theta, and moments
        that are odd under reflection (`symmetry.reflection_signs`) change their sign.
    view_order, view_mirrored : (V, F) int array, (V,) bool array, optional
        Images of the first atom of a class onto itself (`symmetry.AtomClass`), if the process has
        them all: its inputs, weights and weights on derivatives are then those of the first n / V
        points, image by image, the identity first.
    """

    atom: int
    properties: tuple[str, ...]
    gp: GaussianProcess
    order: np.ndarray | None = None
    mirrored: bool = False
    view_order: np.ndarray | None = None
    view_mirrored: np.ndarray | None = None

    @property
    def n_views(self) -> int:
        """Number of images V."""
        return 1 if self.view_order is None else len(self.view_order)

    def views(self, n_features: int) -> list[tuple[np.ndarray, bool]]:
        """Order and reflection of this atom's features in which to compare them with the points of
        the first image, one pair for each image: the images are a group, so that the sum over
        T of k(f, T g) is that over T of k(T f, g)."""
        order = np.arange(n_features) if self.order is None else np.asarray(self.order)
        if self.view_order is None:
            return [(order, self.mirrored)]
        return [
            (order[view], bool(self.mirrored != mirrored))
            for view, mirrored in zip(self.view_order, self.view_mirrored, strict=True)
        ]


@dataclass(frozen=True)
class MoleculeModel:
    """Gaussian processes of all atoms of one molecule (or of one cluster treated as a unit).

    Parameters
    ----------
    name : str
        Name of the molecule.
    symbols : tuple of str
        Element of each of the N atoms.
    alf : (N, 3) int array
        Atomic local frames: the atom itself, the atom on x, the atom in the xy-plane; 0-based,
        -1 for the missing third atom of a diatomic molecule.
    processes : tuple of AtomProcess
        Every atom has one process with the property ``iqa``.
    reference_geometry : (N, 3) array
        One geometry of the training set, which tells what is bonded to what (bohr).
    geometries : (G, N, 3) array or None
        Training geometries (bohr) where they are known; the inputs of all processes are then their
        features (of moments, with those of ``shared.moment_geometries``).
    provenance : dict
        Label source, level of theory, training protocol, test errors (JSON-able).
    shared : Shared, optional
        Where equivalent atoms share processes, these in compact form; ``processes`` are then what
        `shared_model` made of them.
    charge : int, optional
        Total charge of the molecule, to which the predicted atomic charges are made to sum; by
        default they are left as they are.
    prior : Prior, optional
        The model that this one was trained on top of: energies are the sum of both, moments are
        the prior's where ``processes`` have none.
    terms : tuple of MoleculeTerm
        Parts of the energy that belong to no atom; every atom is given the same share.
    second : tuple of AtomProcess
        Energies of the atoms as seen from frames whose axes are exchanged, to be added.
    """

    name: str
    symbols: tuple[str, ...]
    alf: np.ndarray
    processes: tuple[AtomProcess, ...]
    reference_geometry: np.ndarray
    geometries: np.ndarray | None = None
    provenance: dict = field(default_factory=dict)
    shared: Shared | None = None
    charge: int | None = None
    prior: "Prior | None" = None
    terms: tuple[MoleculeTerm, ...] = ()
    second: tuple[AtomProcess, ...] = ()

    def __repr__(self) -> str:
        moments = f"moments to rank {self.rank}" if self.rank >= 0 else "no moments"
        n = max(len(p.gp.inputs) for p in self.processes)
        data = f"up to {n} points" if self.geometries is None else f"{len(self.geometries)} labels"
        source = self.provenance.get("label_source")
        return (
            f"<MoleculeModel {self.name}: {''.join(self.symbols)}, energies and {moments}, {data}"
            f"{f' of {source}' if source else ''}"
            f"{'' if self.prior is None else f', on top of {self.prior.model!r}'}>"
        )

    def __reduce__(self):
        shared = self.shared
        if shared is None or len(self.processes) != shared.n_processes:
            return super().__reduce__()
        # the images of all points are computed again on arrival: a tenth of the size or less
        return shared_model, (
            self.name, self.symbols, self.alf, shared, self.reference_geometry, self.geometries,
            self.provenance, self.charge, self.prior,
        )

    @property
    def latent(self) -> bool:
        """Whether atomic energies are but parts of the total: no label had any."""
        return self.shared is not None and self.shared.latent

    @property
    def least_coverage(self) -> float:
        """Coverage below which a geometry is outside of what the training data cover.

        Twice as far from 1 as the smallest one on the test trajectory that the provenance reports,
        where forces are about three times worse than at the edge of the test; 0.9 if it reports
        none.
        """
        tested = self.provenance.get("errors", {}).get("smallest coverage", {}).get("value")
        if not isinstance(tested, int | float):
            return 0.9
        return max(1.0 - 2.0 * (1.0 - tested), 0.0)

    @property
    def of_moments(self) -> "MoleculeModel":
        """The model whose processes give the moments: this one, or its prior."""
        if self.prior is None or self._own_rank >= 0:
            return self
        return self.prior.here.of_moments

    @property
    def rank(self) -> int:
        """Highest multipole rank for which every atom has all moments; -1 without charges."""
        return self.of_moments._own_rank

    @property
    def _own_rank(self) -> int:
        """The same of the model's own processes."""
        have = [{p for q in self.processes if q.atom == a for p in q.properties}
                for a in range(len(self.symbols))]
        rank = -1
        while rank < 4 and all(
            set(MOMENT_NAMES[(rank + 1) ** 2:(rank + 2) ** 2]) <= h for h in have
        ):
            rank += 1
        return rank


def shared_model(
    name: str, symbols: tuple[str, ...], alf: np.ndarray, shared: Shared,
    reference_geometry: np.ndarray, geometries: np.ndarray, provenance: dict | None = None,
    charge: int | None = None, prior: "Prior | None" = None,
) -> MoleculeModel:
    """A model whose equivalent atoms share processes; parameters as of `MoleculeModel`.

    Without ``charge`` it is what the charges at the training geometries sum to, if that is an
    integer (`total_charge`).
    """
    processes = []
    for process in shared.processes:
        gp = process.expand(shared.trained_on(process, geometries), alf, shared.gradient_weights)
        processes += _of_atoms(process, gp)
    second = []
    total_weights = np.zeros(len(geometries)) if shared.totals is None else shared.totals.weights
    for one in shared.second:
        weights = one.variance * np.tile(total_weights, (1, len(one.atoms.atoms), 1))
        process = SharedProcess(
            one.atoms, (ENERGY,), one.kernel, np.zeros(1), weights, 0.0, one.variance
        )
        second += _of_atoms(
            process, process.expand(geometries, exchanged_axes(alf), shared.gradient_weights)
        )
    if charge is None:
        charge = total_charge(processes, geometries[:_CHARGED], alf)
    return MoleculeModel(
        name, symbols, alf, tuple(processes), reference_geometry, geometries, provenance or {},
        shared, charge, prior,
        tuple(
            term.expand(geometries, total_weights, shared.gradient_weights)
            for term in shared.terms
        ), tuple(second),
    )


def _of_atoms(process: SharedProcess, gp: GaussianProcess) -> list[AtomProcess]:
    """Processes of the atoms that share one."""
    atoms = process.atoms
    return [
        AtomProcess(
            atom, process.properties, gp, order, bool(mirrored), atoms.view_order,
            atoms.view_mirrored,
        )
        for atom, order, mirrored in zip(atoms.atoms, atoms.order, atoms.mirrored, strict=True)
    ]


_CHARGED = 8
"""Training geometries at which charges are summed."""

CHARGE_TOLERANCE = 0.01
"""e; how far from an integer predicted charges may sum to at training geometries."""


def total_charge(processes, geometries: np.ndarray, alf: np.ndarray) -> int | None:
    """The integer that charges sum to, None if they do not.

    Labels' charges sum to the molecule's charge to the precision of their source, and processes
    repeat their labels at training geometries.

    Parameters
    ----------
    processes : sequence of AtomProcess
        Those that have no charge are not looked at.
    geometries : (n, N, 3) array
        Training geometries (bohr).
    alf : (N, 3) int array
        Local frames.
    """
    charged = [p for p in processes if "q00" in p.properties]
    if {p.atom for p in charged} != set(range(len(alf))):
        return None
    sums = np.zeros(len(geometries))
    for process in charged:
        x = features(geometries, alf, process.atom)
        order = np.arange(x.shape[1]) if process.order is None else process.order
        values = process.gp.predict(transformed(x, order, process.mirrored, np.pi))
        sums += values[process.properties.index("q00")]
    charge = int(np.rint(sums.mean()))
    return charge if (np.abs(sums - charge) < CHARGE_TOLERANCE).all() else None
