"""``.fflux`` bundles: the whole model of a molecule in one file.

A bundle is a zip archive (readable by `numpy.load`, never with pickles) of

``header.json``
    ``format`` ("ase-fflux bundle"), ``version``, ``name``, ``symbols`` (N), ``alf`` (N rows of
    0-based atoms, -1 for none), ``provenance`` (any JSON), ``geometries`` (whether they are stored)
    and ``processes``, see below; ``charge``, if predicted charges are made to sum to it.
``reference_geometry.npy``, ``geometries.npy``
    (N, 3) and (G, N, 3), bohr. Geometries are stored once, features are computed from them.
``<g>_kernel.npy``, ``<g>_mean.npy``
    Of process g: theta (3, F) of the rbf, cyclic and periodic kernels, mean (P,).
``<g>_weights.npy``, ``<g>_check.npy``
    Weights, and predictions at the first training points, which reading repeats.

Version 1, in which every atom has processes of its own:

``processes``
    For each its ``atom``, ``properties``, ``noise`` and ``inputs``, the number of its array of
    inputs, or null if the inputs are the features of the training geometries.
``inputs_<i>.npy``
    (n, F) bohr and radian: inputs of processes whose geometries are not known, each array once.
``<g>_weights.npy``, ``<g>_check.npy``
    (P, n) and (P, k), predictions at the first k <= `CHECKED` points.

Version 2, in which equivalent atoms share processes (`ase_fflux.model.shared`) and geometries are
always stored. Images of points and weights on kernel derivatives are not, reading computes them:

``symmetry``, in the header
    ``permutations`` (S rows of N atoms) and ``mirrored`` (S), see
    `ase_fflux.model.symmetry.Symmetry`.
``energy_noise``, ``gradient_noise``, ``source``, ``gradients``, in the header
    Noise levels (hartree, hartree/bohr) of each source of labels, the source of each label (null if
    there is one), and whether there are gradient weights.
``processes``
    For each the m ``atoms`` that share it, ``properties``, ``noise`` (relative) and ``variance``
    (hartree^2; 0 if it was not trained on gradients). ``kernel`` is in the order of the first
    atom's features.
``gradient_weights.npy``
    (G, N, 3) dual weights of the total gradients (bohr/hartree), zero for labels without gradient.
``<g>_weights.npy``, ``<g>_check.npy``
    (P, m, G) and (P, m k), predictions at the first k <= `CHECKED` labels, atom by atom.

Version 3, in which moments are trained on more geometries than energies; the rest as in version 2:

``moment_geometries.npy``
    (E, N, 3) bohr.
``<g>_weights.npy``
    (P, m, G + E) for processes of moments.

Version 4, trained on total energies, beside or without atomic ones; the rest as in version 2, or
as in version 3 where ``moment_geometries`` in the header says so:

``totals``, in the header
    ``noise`` of each source (hartree) and the labels, from 0, ``with_energies`` of atoms.
``total_weights.npy``
    (G,) dual weights of the total energies (1/hartree), zero for labels without.

Version 5, with kernels of another form (`ase_fflux.model.kernels.Form`); the rest as in version 4,
but that ``totals`` may be null:

``processes``
    For each also ``inverse``, whether distances enter as 1/R, and ``rational``, whether it is the
    rational quadratic kernel.

Version 6, trained on top of a prior; the rest as in version 5:

``prior``, in the header
    ``atoms`` (N), the number in this molecule of each atom of the prior, ``sha256`` of its bundle
    and ``factor``, null or that of a lighter analogue (`ase_fflux.model.analogue`).
``prior.fflux``
    The bundle of the prior as it is: energies are the sum of both, moments the prior's where the
    processes give none.
``prior_minima.npy``
    Of an analogue: (2, N, 3), its minimum in its own order of atoms, and that of this molecule.

Version 7, with terms of distances and second frames beside the atoms; the rest as in version 6, but
that ``prior`` may be null:

``second``, in the header
    For each second process of equivalent atoms its ``atoms`` and ``variance`` (hartree^2); ``alf``
    with its last two columns exchanged are its frames, its kernel is of the form of the others.
``second_<g>_theta.npy``, ``second_<g>_check.npy``
    Of second process g: theta (F,), and its predictions as in ``<g>_check``.

``terms``, in the header
    For each its ``pairs`` (m members of C pairs of atoms), ``views`` (V orders of these columns
    that are images, the identity first), ``tie`` (C numbers of thetas), ``variance`` (hartree^2)
    and ``rational``; see `ase_fflux.model.terms`.
``term_<t>_theta.npy``, ``term_<t>_check.npy``
    Of term t: theta (C,) of the inverse distances (bohr^2), and what it adds to the energies of the
    first k <= `CHECKED` labels (hartree).

The version written is the lowest that holds the model. Training targets are not stored,
`GaussianProcess.targets` recovers them where that is possible. The same content gives the same
bytes.
"""

import io
import json
import zipfile
from pathlib import Path

import numpy as np

from ase_fflux.base.errors import FFLUXError, ModelError, reason, words
from ase_fflux.base.store import DAMAGE, archive, write_bytes
from ase_fflux.formats.bundle_beside import predicted_second
from ase_fflux.formats.bundle_checks import CHECKED
from ase_fflux.formats.bundle_reader import (
    FORMAT,
    HEADER,
    PRIOR,
    BundleReader,
    expanded,
    first_inputs,
)
from ase_fflux.formats.model_directory import in_own_features
from ase_fflux.model.frames import features
from ase_fflux.model.kernels import USUAL
from ase_fflux.model.molecule import MoleculeModel
from ase_fflux.model.process import GaussianProcess
from ase_fflux.model.shared import Shared

SUFFIX = ".fflux"

_EPOCH = (1980, 1, 1, 0, 0, 0)


def write_bundle(path: str | Path, model: MoleculeModel, *, replace: bool = False) -> None:
    """Write a bundle.

    Parameters
    ----------
    path : str or Path
        File to write; by custom its suffix is ``.fflux``.
    model : MoleculeModel
        What to write.
    replace : bool
        Whether it takes the place of a file that is there.

    Raises
    ------
    ModelError
        If the file exists or cannot be written, and what `bundle_content` raises.
    """
    try:
        write_bytes(path, bundle_content(model), new=not replace)
    except FFLUXError as error:
        raise ModelError(str(error)) from None


def bundle_content(model: MoleculeModel) -> bytes:
    """What a bundle's file holds.

    Raises
    ------
    ModelError
        If the provenance is not JSON, or processes trained on gradients or on top of a prior are
        not in their compact form.
    """
    arrays = {"reference_geometry": model.reference_geometry}
    if model.geometries is not None:
        arrays["geometries"] = model.geometries
    content = _own_processes(model, arrays) if model.shared is None else _shared(model, arrays)
    if model.charge is not None:
        content["charge"] = model.charge
    version = 1
    if model.shared is not None:
        version = 2 if model.shared.moment_geometries is None else 3
        if model.shared.totals is not None:
            version = 4
        if _tells_forms(model):
            version = 7 if model.terms else 5 if model.prior is None else 6
            if version == 7:
                content["prior"] = None
                content["terms"] = _terms(model, model.shared, arrays)
                content["second"] = _second(model, model.shared, arrays)
        if version > 3:
            content["moment_geometries"] = model.shared.moment_geometries is not None
    if model.prior is not None:
        if model.shared is None:
            raise ModelError(
                f"{model.name}: a model on top of a prior is stored in the compact form of "
                "`MoleculeModel.shared` alone; make it by `JointTrainer`"
            )
        content["prior"] = {
            "atoms": np.asarray(model.prior.atoms).tolist(), "sha256": model.prior.sha256,
            "factor": None,
        }
        if (analogue := model.prior.analogue) is not None:
            content["prior"]["factor"] = analogue.factor
            arrays["prior_minima"] = np.array([analogue.light, analogue.heavy])
    header = {
        "format": FORMAT, "version": version, "name": model.name,
        "symbols": list(model.symbols), "alf": np.asarray(model.alf).tolist(),
        "geometries": model.geometries is not None, "provenance": model.provenance, **content,
    }
    try:
        text = json.dumps(header, indent=1, allow_nan=False, ensure_ascii=False)
    except (TypeError, ValueError) as error:
        raise ModelError(f"the provenance of {model.name} is not JSON: {error}") from None
    bundle = io.BytesIO()
    with zipfile.ZipFile(bundle, "w") as made:
        _add(made, HEADER, text.encode())
        for name, array in arrays.items():
            content = io.BytesIO()
            array = np.ascontiguousarray(array, dtype="<f8")
            np.lib.format.write_array(content, array, version=(1, 0), allow_pickle=False)
            _add(made, f"{name}.npy", content.getvalue())
        if model.prior is not None:
            _add(made, PRIOR, model.prior.bundle)
    return bundle.getvalue()


def _tells_forms(model: MoleculeModel) -> bool:
    """Whether forms are told: those of a model with terms or on top of a prior always are."""
    return model.prior is not None or bool(model.terms) or any(
        process.kernel.form != USUAL for process in model.shared.processes
    )


def _own_processes(model: MoleculeModel, arrays: dict) -> dict:
    """What version 1 has of processes: adds to arrays, returns the rest for the header."""
    stored: list[np.ndarray] = []
    computed: dict[int, np.ndarray] = {}
    processes = []
    for g, process in enumerate(map(in_own_features, model.processes)):
        gp = process.gp
        if gp.derivative_weights is not None:
            raise ModelError(
                f"{model.name}: processes trained on gradients are stored in the compact form of "
                "`MoleculeModel.shared` alone; make the model by `shared_model`"
            )
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
        _add_process(arrays, g, gp, gp.weights, gp.inputs[:CHECKED])
        processes.append({
            "atom": int(process.atom), "properties": list(process.properties),
            "noise": float(gp.noise), "inputs": inputs,
        })
    return {"processes": processes}


def _shared(model: MoleculeModel, arrays: dict) -> dict:
    """The same for versions 2 to 7."""
    shared = model.shared
    formed = _tells_forms(model)
    totals = {"totals": None} if formed else {}
    if shared.totals is not None:
        arrays["total_weights"] = shared.totals.weights
        totals["totals"] = {
            "noise": list(map(float, shared.totals.noise)),
            "with_energies": shared.totals.with_energies.tolist(),
        }
    if shared.gradient_weights is not None:
        arrays["gradient_weights"] = shared.gradient_weights
    if shared.moment_geometries is not None:
        arrays["moment_geometries"] = shared.moment_geometries
    processes = []
    for g, process in enumerate(shared.processes):
        gp = expanded(model, process)
        _add_process(arrays, g, gp, process.weights, first_inputs(gp, process))
        processes.append({
            "atoms": list(map(int, process.atoms.atoms)), "properties": list(process.properties),
            "noise": float(process.noise), "variance": float(process.variance),
            **({"inverse": process.kernel.form.inverse, "rational": process.kernel.form.rational}
               if formed else {}),
        })
    return {
        "symmetry": {
            "permutations": np.asarray(shared.symmetry.permutations).tolist(),
            "mirrored": np.asarray(shared.symmetry.mirrored).tolist(),
        },
        "energy_noise": list(map(float, shared.energy_noise)),
        "gradient_noise": list(map(float, shared.gradient_noise)),
        "source": None if shared.source is None else np.asarray(shared.source).tolist(),
        "gradients": shared.gradient_weights is not None, "processes": processes, **totals,
    }


def _terms(model: MoleculeModel, shared: Shared, arrays: dict) -> list[dict]:
    """What version 7 has of terms."""
    found, geometries = [], np.asarray(model.geometries)[:CHECKED]
    for t, (process, term) in enumerate(zip(shared.terms, model.terms, strict=True)):
        arrays[f"term_{t}_theta"] = process.theta
        arrays[f"term_{t}_check"] = term.energies(geometries)
        found.append({
            "pairs": process.term.pairs.tolist(), "views": process.term.view_column.tolist(),
            "tie": process.term.tie.tolist(), "variance": process.variance,
            "rational": process.rational,
        })
    return found


def _second(model: MoleculeModel, shared: Shared, arrays: dict) -> list[dict]:
    """What version 7 has of second frames."""
    found = []
    for g, process in enumerate(shared.second):
        arrays[f"second_{g}_theta"] = process.kernel.theta
        arrays[f"second_{g}_check"] = predicted_second(model, process)
        found.append({
            "atoms": list(map(int, process.atoms.atoms)), "variance": float(process.variance),
        })
    return found


def _add_process(arrays: dict, g: int, gp: GaussianProcess, weights, checked) -> None:
    kernel = gp.kernel
    arrays[f"{g}_kernel"] = np.array([kernel.rbf, kernel.cyclic, kernel.periodic])
    arrays[f"{g}_mean"], arrays[f"{g}_weights"] = gp.mean, weights
    arrays[f"{g}_check"] = gp.predict(checked)


def _add(made: zipfile.ZipFile, name: str, content: bytes) -> None:
    entry = zipfile.ZipInfo(name, _EPOCH)  # no clock and no system, for the same bytes always
    entry.create_system, entry.external_attr = 3, 0o644 << 16
    entry.compress_type = zipfile.ZIP_DEFLATED
    made.writestr(entry, content)


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
    return _read(Path(path), BundleReader.model)


def read_content(content: bytes) -> MoleculeModel:
    """The model of a bundle's content; raises as `read_bundle`."""
    return _opened(content, "the bundle", BundleReader.model)


def read_header(path: str | Path) -> dict:
    """What ``header.json`` of a bundle says, in a few milliseconds; raises as `read_bundle`."""
    return _read(Path(path), lambda reader: reader.header)


def _read(path: Path, what):
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise ModelError(f"{path}: there is no such file") from None
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {reason(error)}") from None
    return _opened(content, path, what)


def _opened(content: bytes, path, what):
    if not zipfile.is_zipfile(io.BytesIO(content)):
        raise ModelError(
            f"{path} is not a bundle, or a truncated one: fetch it again or rebuild it"
        )
    try:
        with archive(content) as opened:
            return what(BundleReader(opened))
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from None
    except DAMAGE as error:
        fault = f"{path} is damaged ({words(error)})"
        raise ModelError(f"{fault}: fetch it again or rebuild it") from None
