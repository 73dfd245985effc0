"""What is read from a bundle, checked; the format is described in `ase_fflux.formats.bundle`."""

import hashlib
import zipfile

import numpy as np
from ase.data import atomic_numbers

from ase_fflux.base.errors import ModelError
from ase_fflux.base.store import archive, parse_json, read_array
from ase_fflux.formats.bundle_beside import check_beside, read_beside
from ase_fflux.formats.bundle_checks import CHECKED, require, rounding
from ase_fflux.model.alf import check_alf
from ase_fflux.model.analogue import Analogue
from ase_fflux.model.frames import features, n_features
from ase_fflux.model.kernels import USUAL, Form, Kernel, distances
from ase_fflux.model.molecule import (
    ENERGY,
    PROPERTIES,
    AtomProcess,
    MoleculeModel,
    shared_model,
)
from ase_fflux.model.prior import Prior
from ase_fflux.model.process import GaussianProcess
from ase_fflux.model.shared import Shared, SharedProcess, Totals
from ase_fflux.model.symmetry import AtomClass, Symmetry
from ase_fflux.topology.graphs import atom_label

FORMAT = "ase-fflux bundle"
VERSION = 7
"""The newest that is read and written."""
HEADER, PRIOR = "header.json", "prior.fflux"


def expanded(model: MoleculeModel, process: SharedProcess) -> GaussianProcess:
    """The process with its images, as the first of its atoms refers to it."""
    first = process.atoms.atoms[0]
    return next(
        p.gp for p in model.processes if (p.atom, p.properties) == (first, process.properties)
    )


def first_inputs(gp: GaussianProcess, process: SharedProcess) -> np.ndarray:
    """Inputs of all atoms at the first labels, as the atoms see them."""
    _, m, n = process.weights.shape
    f = gp.kernel.n_features
    return gp.inputs[:m * n].reshape(m, n, f)[:, :CHECKED].reshape(-1, f)


class BundleReader:
    """An open bundle; whatever is read from it is checked."""

    def __init__(self, archive: zipfile.ZipFile):
        self.archive = archive
        header = parse_json(archive.read(HEADER)) if HEADER in archive.namelist() else {}
        if not isinstance(header, dict) or header.get("format") != FORMAT:
            raise ModelError("not an ase-fflux bundle")
        version = header.get("version")
        if type(version) is not int or version < 1:
            raise ModelError(f"version {version!r} of the bundle's format is not known")
        if version > VERSION:
            raise ModelError(
                f"the bundle is of version {version}, this ase-fflux reads up to {VERSION}: "
                "update ase-fflux (pip install --upgrade ase-fflux)"
            )
        self.header = header
        self.symbols = header["symbols"]
        require(
            isinstance(self.symbols, list) and len(self.symbols) >= 2
            and all(isinstance(s, str) and s in atomic_numbers for s in self.symbols),
            "the list of elements is wrong",
        )
        self.n_atoms = len(self.symbols)
        self.alf = np.array(header["alf"])
        self._check_alf()

    def _check_alf(self) -> None:
        try:
            check_alf(self.alf, self.n_atoms)
        except ModelError as error:
            require(False, str(error))

    def model(self) -> MoleculeModel:
        """The whole model."""
        header, n = self.header, self.n_atoms
        require(isinstance(header["name"], str) and isinstance(header["provenance"], dict)
                and isinstance(header["processes"], list), "the header is wrong")
        self.charge = header.get("charge")
        require(self.charge is None or type(self.charge) is int, "the total charge is wrong")
        self.geometries = self.array("geometries", (None, n, 3)) if header["geometries"] else None
        reference = self.array("reference_geometry", (n, 3))
        if header["version"] > 1:
            return self.shared_model(reference)
        self.inputs: dict[object, np.ndarray] = {}
        processes = tuple(self.process(g, entry) for g, entry in enumerate(header["processes"]))
        self.check_complete([(p.atom, name) for p in processes for name in p.properties])
        return MoleculeModel(
            header["name"], tuple(self.symbols), self.alf, processes, reference, self.geometries,
            header["provenance"], charge=self.charge,
        )

    def check_complete(self, named: list[tuple[int, str]]) -> None:
        """Each atom has an energy, and each property once."""
        require(len(set(named)) == len(named), "a property stands twice")
        require(all((a, ENERGY) in named for a in range(self.n_atoms)), "an atom has no energy")

    def properties_and_noise(self, g: int, entry: dict) -> tuple[tuple[str, ...], float]:
        """Of process g."""
        names, noise = entry["properties"], entry["noise"]
        require(isinstance(names, list) and bool(names) and set(names) <= set(PROPERTIES),
                f"process {g} has unknown properties")
        return tuple(names), self.not_negative(noise, f"noise of process {g}")

    def not_negative(self, value, what: str) -> float:
        """A finite number from 0."""
        require(type(value) in (int, float) and 0 <= value < np.inf, f"the {what} is wrong")
        return float(value)

    def kernel(self, g: int, f: int, form: Form = USUAL) -> Kernel:
        """Of process g, with f features."""
        theta = self.array(f"{g}_kernel", (3, f))
        require((theta >= 0).all(), f"negative theta of process {g}")
        # an atom's distances are angles to none of its processes if they are inverses to one
        require(self.header["version"] < 5 or not theta[1:, distances(f)].any(),
                f"the kernel of process {g} is of a kind that is not known")
        require(not form.rational or not theta[1].any(), f"the kernel of process {g} is wrong")
        return Kernel(*theta, form)

    def form(self, g: int, entry: dict) -> Form:
        """Of the kernel of process g."""
        if self.header["version"] < 5:
            return USUAL
        form = Form(entry["inverse"], entry["rational"])
        require(type(form.inverse) is bool and type(form.rational) is bool,
                f"the form of the kernel of process {g} is wrong")
        return form

    def process(self, g: int, entry: dict) -> AtomProcess:
        """Process g of version 1."""
        names, noise = self.properties_and_noise(g, entry)
        atom = entry["atom"]
        require(type(atom) is int and 0 <= atom < self.n_atoms, f"process {g} has no atom")
        inputs = self.process_inputs(atom, entry["inputs"])
        n, f = inputs.shape
        gp = GaussianProcess(
            inputs, self.kernel(g, f), self.array(f"{g}_mean", (len(names),)),
            self.array(f"{g}_weights", (len(names), n)), noise,
        )
        self.check_predictions(g, gp, inputs[:CHECKED], atom, names)
        return AtomProcess(atom, names, gp)

    def check_predictions(self, g: int, gp: GaussianProcess, inputs, atom: int, names) -> None:
        """Predictions of process g are those that were stored with it."""
        check = self.array(f"{g}_check", (len(names), len(inputs)))
        bound = rounding(gp)
        off = np.abs(gp.predict(inputs) - check).max(axis=1)
        which = atom_label(atom, [atomic_numbers[symbol] for symbol in self.symbols])
        require(bool((off <= bound).all()), f"{which} {', '.join(names)}: predictions stored "
                f"with the model are not reproduced (off by {off.max():.1e})")

    def shared_model(self, reference: np.ndarray) -> MoleculeModel:
        """A model of version 2 to 7."""
        header = self.header
        require(self.geometries is not None, "the training geometries are missing")
        symmetry = self.symmetry(header["symmetry"])
        gradient_weights = None
        if header["gradients"]:
            gradient_weights = self.array("gradient_weights", self.geometries.shape)
        moment_geometries = None
        if header.get("moment_geometries", header["version"] == 3):
            moment_geometries = self.array("moment_geometries", (None, self.n_atoms, 3))
        self.extra = 0 if moment_geometries is None else len(moment_geometries)
        classes = {c.atoms: c for c in symmetry.classes(self.alf)}
        processes = tuple(
            self.shared_process(g, entry, classes) for g, entry in enumerate(header["processes"])
        )
        self.check_complete([
            (atom, name) for p in processes for atom in p.atoms.atoms for name in p.properties
        ])
        require(gradient_weights is not None or all(p.variance == 0 for p in processes),
                "the weights of the gradients are missing")
        require(len({p.kernel.form for p in processes if p.variance > 0}) < 2,
                "the kernels of the energies are not of one form")
        shared = Shared(
            symmetry, processes, gradient_weights,
            self.noise("energy_noise", "noise of the energies"),
            self.noise("gradient_noise", "noise of the gradients"), self.source(),
            moment_geometries, self.totals(), *read_beside(self, symmetry, processes),
        )
        require(
            not (shared.terms or shared.second) or shared.latent and gradient_weights is not None,
            "there are terms beside atoms whose energies are not latent",
        )
        model = shared_model(
            header["name"], tuple(self.symbols), self.alf, shared, reference, self.geometries,
            header["provenance"], self.charge, self.prior(),
        )
        for g, process in enumerate(processes):
            gp = expanded(model, process)
            self.check_predictions(
                g, gp, first_inputs(gp, process), process.atoms.atoms[0], process.properties
            )
        check_beside(self, model, shared.second)
        return model

    def prior(self) -> Prior | None:
        """What the model stands on top of."""
        if self.header["version"] < 6 or (
            self.header["version"] > 6 and self.header["prior"] is None
        ):
            return None
        content, bundle = self.header["prior"], self.archive.read(PRIOR)
        require(hashlib.sha256(bundle).hexdigest() == content["sha256"],
                "the prior is not the one that the model was trained with")
        with archive(bundle) as opened:
            prior = BundleReader(opened).model()
        atoms, factor = np.array(content["atoms"]), content["factor"]
        require(
            atoms.dtype.kind == "i" and np.array_equal(np.sort(atoms), range(self.n_atoms))
            and len(prior.symbols) == self.n_atoms and (factor is not None or all(
                self.symbols[i] == s for i, s in zip(atoms, prior.symbols, strict=True)
            )),
            "the atoms of the prior are not the model's",
        )
        if factor is None:
            return Prior(prior, atoms, bundle)
        minima = self.array("prior_minima", (2, self.n_atoms, 3))
        analogue = Analogue(*minima, self.not_negative(factor, "factor of the prior"))
        return Prior(prior, atoms, bundle, analogue, tuple(self.symbols))

    def totals(self) -> Totals | None:
        """What was trained on total energies."""
        if self.header["version"] < 4 or (
            self.header["version"] > 4 and self.header["totals"] is None
        ):
            return None
        content, n = self.header["totals"], len(self.geometries)
        labels = np.array(content["with_energies"], dtype=int)
        require(
            labels.ndim == 1 and np.array_equal(labels, np.unique(labels))
            and bool(((labels >= 0) & (labels < n)).all()), "the labels with energies are wrong",
        )
        noise = self.levels(content["noise"], "noise of the totals")
        require(len(noise) == len(self.header["energy_noise"]), "the noise of the totals is wrong")
        return Totals(self.array("total_weights", (n,)), noise, labels)

    def noise(self, name: str, what: str) -> tuple[float, ...]:
        """Noise levels of the sources."""
        return self.levels(self.header[name], what)

    def levels(self, levels, what: str) -> tuple[float, ...]:
        """A list of noise levels."""
        require(isinstance(levels, list) and len(levels) > 0, f"the {what} is wrong")
        return tuple(self.not_negative(level, what) for level in levels)

    def source(self) -> np.ndarray | None:
        """Source of each label."""
        if self.header["source"] is None:
            return None
        source = np.array(self.header["source"])
        count = min(len(self.header["energy_noise"]), len(self.header["gradient_noise"]))
        require(
            source.shape == self.geometries.shape[:1] and source.dtype.kind == "i"
            and bool(((source >= 0) & (source < count)).all()), "the sources of labels are wrong",
        )
        return source

    def symmetry(self, content: dict) -> Symmetry:
        """A group of operations that keep the elements and to which the local frames fit."""
        n = self.n_atoms
        permutations, mirrored = np.array(content["permutations"]), np.array(content["mirrored"])
        good = permutations.ndim == 2 and permutations.dtype.kind == "i"
        good = good and mirrored.dtype == bool and mirrored.shape == permutations.shape[:1]
        require(good and np.array_equal(np.sort(permutations), [range(n)] * len(mirrored)),
                "a symmetry operation is no permutation of the atoms")
        symbols = np.array(self.symbols)
        require(bool((symbols[permutations] == symbols).all()),
                "a symmetry operation exchanges different elements")

        def operations(rows, mirrors):
            return list(zip(map(tuple, rows.tolist()), mirrors.tolist(), strict=True))

        # x'[i] = x[p[i]] and then x''[i] = x'[q[i]] is x''[i] = x[p[q[i]]]
        products = permutations[:, permutations].reshape(-1, n)
        group = operations(permutations, mirrored)
        require(
            group[:1] == [(tuple(range(n)), False)] and len(set(group)) == len(group)
            and set(operations(products, (mirrored[:, None] ^ mirrored).ravel())) <= set(group),
            "the symmetry operations are no group that begins with the identity",
        )
        symmetry = Symmetry(permutations, mirrored)
        require(np.array_equal(symmetry.carried_alf(self.alf), self.alf),
                "the local frames of equivalent atoms do not correspond")
        return symmetry

    def shared_process(
        self, g: int, entry: dict, classes: dict[tuple[int, ...], AtomClass]
    ) -> SharedProcess:
        """Process g of version 2 to 7."""
        names, noise = self.properties_and_noise(g, entry)
        atoms = classes.get(tuple(entry["atoms"]))
        require(atoms is not None, f"the atoms of process {g} are not a class of equivalent ones")
        variance = self.not_negative(entry["variance"], f"variance of process {g}")
        require(variance == 0 or names == (ENERGY,),
                f"process {g} has gradients but is not of energies")
        kernel = self.kernel(g, n_features(self.n_atoms), self.form(g, entry))
        require(np.array_equal(kernel.theta, kernel.theta[atoms.tie]),
                f"equivalent features of process {g} differ in theta")
        points = len(self.geometries) + (0 if ENERGY in names else self.extra)
        return SharedProcess(
            atoms, names, kernel, self.array(f"{g}_mean", (len(names),)),
            self.array(f"{g}_weights", (len(names), len(atoms.atoms), points)), noise, variance,
        )

    def process_inputs(self, atom: int, number) -> np.ndarray:
        """Stored inputs of that number, or the features of an atom where it is None."""
        key = ("features", atom) if number is None else number
        if key not in self.inputs:
            if number is not None:
                require(type(number) is int, "the number of an array of inputs is wrong")
                self.inputs[key] = self.array(f"inputs_{number}", (None, n_features(self.n_atoms)))
            else:
                require(self.geometries is not None, "the training geometries are missing")
                self.inputs[key] = features(self.geometries, self.alf, atom)
        return self.inputs[key]

    def array(self, name: str, shape: tuple) -> np.ndarray:
        """An array of finite numbers; None in its shape stands for any length from 1."""
        content = self.archive.read(f"{name}.npy")  # checks the CRC
        array = read_array(content)
        good = array.dtype == np.dtype("<f8") and array.ndim == len(shape) and all(
            length == (expected or max(length, 1))
            for length, expected in zip(array.shape, shape, strict=True)
        )
        require(good, f"{name} is not an array of numbers of the right shape")
        require(bool(np.isfinite(array).all()), f"{name} holds numbers that are not finite")
        return array
