"""``.fflux`` bundles: the whole model of a molecule in one file.

A bundle is a zip archive (readable by `numpy.load`, never with pickles) of

``header.json``
    ``format`` ("ase-fflux bundle"), ``version``, ``name``, ``symbols`` (N), ``alf`` (N rows of
    0-based atoms, -1 for none), ``provenance`` (any JSON), ``geometries`` (whether they are stored)
    and ``processes``: for each its ``atom``, ``properties``, ``noise`` and ``inputs``, the number
    of its array of inputs, or null if the inputs are the features of the training geometries.
``reference_geometry.npy``, ``geometries.npy``
    (N, 3) and (G, N, 3), bohr. Geometries are stored once, features are computed from them.
``inputs_<i>.npy``
    (n, F) bohr and radian: inputs of processes whose geometries are not known, each array once.
``<g>_kernel.npy``, ``<g>_mean.npy``, ``<g>_weights.npy``
    Of process g: theta (3, F) of the rbf, cyclic and periodic kernels, mean (P,), weights (P, n).
``<g>_check.npy``
    (P, k) predictions at the first k <= `CHECKED` training points, which reading repeats.

The place of weights on kernel derivatives (models trained on gradients) is
``<g>_derivative_weights.npy``, (P, n, F); they come with a later version of the format. Training
targets are not stored, `GaussianProcess.targets` recovers them. The same content gives the same
bytes.
"""

import io
import json
import zipfile
import zlib
from pathlib import Path

import numpy as np
from ase.data import atomic_numbers

from ase_fflux.errors import GeometryError, ModelError
from ase_fflux.formats.dialects import ROUNDING
from ase_fflux.formats.model_file import PROPERTIES
from ase_fflux.frames import features, n_features
from ase_fflux.gp.kernels import Kernel
from ase_fflux.gp.process import GaussianProcess
from ase_fflux.molecule import ENERGY, AtomProcess, MoleculeModel

SUFFIX = ".fflux"
FORMAT = "ase-fflux bundle"
VERSION = 1
CHECKED = 3
"""Training points of each process whose predictions are repeated on reading."""

_HEADER = "header.json"
_EPOCH = (1980, 1, 1, 0, 0, 0)
_DAMAGE = (
    zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError,
    OverflowError, MemoryError, KeyError, ValueError, TypeError,
)


def write_bundle(path: str | Path, model: MoleculeModel) -> None:
    """Write a bundle.

    Parameters
    ----------
    path : str or Path
        File to write; by custom its suffix is ``.fflux``.
    model : MoleculeModel
        What to write.

    Raises
    ------
    ModelError
        If the file exists or cannot be written, or the provenance is not JSON.
    """
    arrays = {"reference_geometry": model.reference_geometry}
    if model.geometries is not None:
        arrays["geometries"] = model.geometries
    stored: list[np.ndarray] = []
    computed: dict[int, np.ndarray] = {}
    processes = []
    for g, process in enumerate(model.processes):
        gp = process.gp
        if model.geometries is not None and process.atom not in computed:
            computed[process.atom] = features(model.geometries, model.alf, process.atom)
        if np.array_equal(gp.inputs, computed.get(process.atom)):
            inputs = None
        else:
            inputs = next((i for i, x in enumerate(stored) if np.array_equal(x, gp.inputs)), None)
            if inputs is None:
                inputs = len(stored)
                stored.append(gp.inputs)
                arrays[f"inputs_{inputs}"] = gp.inputs
        arrays[f"{g}_kernel"] = np.array([gp.kernel.rbf, gp.kernel.cyclic, gp.kernel.periodic])
        arrays[f"{g}_mean"], arrays[f"{g}_weights"] = gp.mean, gp.weights
        arrays[f"{g}_check"] = gp.predict(gp.inputs[:CHECKED])
        processes.append({
            "atom": int(process.atom), "properties": list(process.properties),
            "noise": float(gp.noise), "inputs": inputs,
        })
    header = {
        "format": FORMAT, "version": VERSION, "name": model.name, "symbols": list(model.symbols),
        "alf": np.asarray(model.alf).tolist(), "geometries": model.geometries is not None,
        "provenance": model.provenance, "processes": processes,
    }
    try:
        text = json.dumps(header, indent=1, allow_nan=False, ensure_ascii=False)
    except (TypeError, ValueError) as error:
        raise ModelError(f"the provenance of {model.name} is not JSON: {error}") from None
    bundle = io.BytesIO()  # in memory, so that no half-written file stays behind
    with zipfile.ZipFile(bundle, "w") as archive:
        _add(archive, _HEADER, text.encode())
        for name, array in arrays.items():
            content = io.BytesIO()
            array = np.ascontiguousarray(array, dtype="<f8")
            np.lib.format.write_array(content, array, version=(1, 0), allow_pickle=False)
            _add(archive, f"{name}.npy", content.getvalue())
    try:
        with open(path, "xb") as file:
            file.write(bundle.getvalue())
    except FileExistsError:
        raise ModelError(f"{path} exists; remove it or choose another name") from None
    except OSError as error:
        raise ModelError(f"{path}: cannot be written: {error.strerror or error}") from None


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    entry = zipfile.ZipInfo(name, _EPOCH)  # no clock and no system, for the same bytes always
    entry.create_system, entry.external_attr = 3, 0o644 << 16
    entry.compress_type = zipfile.ZIP_DEFLATED
    archive.writestr(entry, content)


def read_bundle(path: str | Path) -> MoleculeModel:
    """Read a bundle.

    Parameters
    ----------
    path : str or Path
        File to read.

    Returns
    -------
    MoleculeModel
        The model.

    Raises
    ------
    ModelError
        A file that is missing, not a bundle, of a newer version, truncated or damaged.
    """
    path = Path(path)
    try:
        content = io.BytesIO(path.read_bytes())
    except FileNotFoundError:
        raise ModelError(f"{path}: there is no such file") from None
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror or error}") from None
    if not zipfile.is_zipfile(content):
        raise ModelError(
            f"{path} is not a bundle, or a truncated one: fetch it again or rebuild it"
        )
    try:
        with zipfile.ZipFile(content) as archive:
            return _Reader(archive).model()
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from None
    except (GeometryError, *_DAMAGE) as error:
        raise ModelError(f"{path} is damaged ({error}): fetch it again or rebuild it") from None


def _require(condition: bool, fault: str) -> None:
    if not condition:
        raise ModelError(f"{fault}: the bundle is damaged, fetch it again or rebuild it")


class _Reader:
    """An open bundle; whatever is read from it is checked."""

    def __init__(self, archive: zipfile.ZipFile):
        self.archive = archive
        header = json.loads(archive.read(_HEADER)) if _HEADER in archive.namelist() else {}
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
        _require(
            isinstance(self.symbols, list) and len(self.symbols) >= 2
            and all(isinstance(s, str) and s in atomic_numbers for s in self.symbols),
            "the list of elements is wrong",
        )
        self.n_atoms = len(self.symbols)
        self.alf = np.array(header["alf"])
        self._check_alf()

    def _check_alf(self) -> None:
        n = self.n_atoms
        _require(self.alf.shape == (n, 3) and self.alf.dtype.kind == "i",
                 f"the local frames are not one row of three atoms for each of {n} atoms")
        used = self.alf[:, :2] if n == 2 else self.alf
        good = (
            (self.alf[:, 0] == np.arange(n)).all() and ((used >= 0) & (used < n)).all()
            and all(len(set(row)) == len(row) for row in used.tolist())
            and (n > 2 or (self.alf[:, 2] == -1).all())
        )
        _require(good, "a local frame (alf) is not of three different atoms of the molecule")

    def model(self) -> MoleculeModel:
        """The whole model."""
        header, n = self.header, self.n_atoms
        _require(isinstance(header["name"], str) and isinstance(header["provenance"], dict)
                 and isinstance(header["processes"], list), "the header is wrong")
        self.geometries = self.array("geometries", (None, n, 3)) if header["geometries"] else None
        self.inputs: dict[object, np.ndarray] = {}
        processes = tuple(self.process(g, entry) for g, entry in enumerate(header["processes"]))
        named = [(p.atom, name) for p in processes for name in p.properties]
        _require(len(set(named)) == len(named), "a property stands twice")
        _require(all((a, ENERGY) in named for a in range(n)), "an atom has no energy")
        return MoleculeModel(
            header["name"], tuple(self.symbols), self.alf, processes,
            self.array("reference_geometry", (n, 3)), self.geometries, header["provenance"],
        )

    def process(self, g: int, entry: dict) -> AtomProcess:
        """Process g."""
        atom, names, noise = entry["atom"], entry["properties"], entry["noise"]
        _require(type(atom) is int and 0 <= atom < self.n_atoms, f"process {g} has no atom")
        _require(isinstance(names, list) and names and set(names) <= set(PROPERTIES),
                 f"process {g} has unknown properties")
        _require(type(noise) in (int, float) and 0 <= noise < np.inf, f"noise of process {g}")
        if f"{g}_derivative_weights.npy" in self.archive.namelist():
            raise ModelError("the model was trained on gradients; update ase-fflux to use it")
        inputs = self.process_inputs(atom, entry["inputs"])
        n, f = inputs.shape
        theta = self.array(f"{g}_kernel", (3, f))
        _require((theta >= 0).all(), f"negative theta of process {g}")
        mean = self.array(f"{g}_mean", (len(names),))
        weights = self.array(f"{g}_weights", (len(names), n))
        gp = GaussianProcess(inputs, Kernel(*theta), mean, weights, float(noise))
        check = self.array(f"{g}_check", (len(names), min(n, CHECKED)))
        # features differ between machines by rounding, which large weights magnify
        bound = 10 * ROUNDING * (1 + np.abs(weights).sum(axis=1) + np.abs(mean))
        off = np.abs(gp.predict(inputs[:CHECKED]) - check).max(axis=1)
        _require(bool((off <= bound).all()), f"atom {atom} {', '.join(names)}: predictions stored "
                 f"with the model are not reproduced (off by {off.max():.1e})")
        return AtomProcess(atom, tuple(names), gp)

    def process_inputs(self, atom: int, number) -> np.ndarray:
        """Stored inputs of that number, or the features of an atom where it is None."""
        key = ("features", atom) if number is None else number
        if key not in self.inputs:
            if number is not None:
                _require(type(number) is int, "the number of an array of inputs is wrong")
                self.inputs[key] = self.array(f"inputs_{number}", (None, n_features(self.n_atoms)))
            else:
                _require(self.geometries is not None, "the training geometries are missing")
                self.inputs[key] = features(self.geometries, self.alf, atom)
        return self.inputs[key]

    def array(self, name: str, shape: tuple) -> np.ndarray:
        """An array of finite numbers; None in its shape stands for any length from 1."""
        content = self.archive.read(f"{name}.npy")  # checks the CRC
        array = np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
        good = array.dtype == np.dtype("<f8") and array.ndim == len(shape) and all(
            length == (expected or max(length, 1))
            for length, expected in zip(array.shape, shape, strict=True)
        )
        _require(good, f"{name} is not an array of numbers of the right shape")
        _require(bool(np.isfinite(array).all()), f"{name} holds numbers that are not finite")
        return array
