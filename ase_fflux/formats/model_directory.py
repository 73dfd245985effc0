"""A directory of ``.model`` files: the force field of one molecule as FEREBUS and DL_FFLUX keep it.

Beside the ``.model`` files this package writes `MOLECULE_FILE`, which keeps what has no place in
them: the name, the provenance and the reference geometry. It is not needed to read a directory.
"""

import json
import re
from pathlib import Path

import numpy as np

from ase_fflux.base.errors import FFLUXError, ModelError
from ase_fflux.base.store import DAMAGE, parse_json, replacing, told, write_text
from ase_fflux.formats.atom_model import AtomModel
from ase_fflux.formats.model_file import read_model, read_system, write_model
from ase_fflux.formats.plausibility import check_charges, check_frames
from ase_fflux.model.frames import geometry_from_features
from ase_fflux.model.kernels import USUAL, Kernel
from ase_fflux.model.molecule import ENERGY, PROPERTIES, AtomProcess, MoleculeModel
from ase_fflux.model.multipoles import MOMENT_NAMES, moment_rank
from ase_fflux.model.process import GaussianProcess
from ase_fflux.model.symmetry import polar_angles, reflection_signs

MOLECULE_FILE = "molecule.json"
"""Name of the file with name, provenance and reference geometry (bohr)."""

# of one fit, not of the molecule
_PER_FILE = ("noise", "nugget", "jitter", "likelihood")


def foreign_file(directory: Path) -> str | None:
    """Name of a file that is not of a directory of models, which nothing may take the place of."""
    strange = (p.name for p in directory.iterdir() if p.suffix != ".model")
    return next((name for name in strange if name != MOLECULE_FILE), None)


def systems_of(directory: str | Path) -> list[str]:
    """Names of the systems that the ``.model`` files of a directory are of.

    Raises
    ------
    ModelError
        There are no models, or one cannot be read.
    """
    return sorted({read_system(path) for path in _paths(Path(directory))})


def _paths(directory: Path) -> list[Path]:
    paths = sorted(directory.glob("*.model"))
    if not paths:
        raise ModelError(f"{directory}: there are no .model files")
    return paths


def read_model_directory(directory: str | Path, system: str | None = None) -> MoleculeModel:
    """Read all ``.model`` files of a directory as one molecule.

    Models of one atom with bitwise the same inputs, kernel and noise become one process with
    several outputs, in the order iqa, q00, q10, ...

    Parameters
    ----------
    directory : str or Path
        Where the files are. A name that ends in a property and an atom, as those of FEREBUS do,
        must be that of the file's content; other names do not matter.
    system : str, optional
        Read the models of this system only, of a directory that has those of several; what has no
        place in them is then in ``SYSTEM.json``.

    Returns
    -------
    MoleculeModel
        Without geometries, as these files hold features only. The reference geometry is rebuilt
        from the first training point of the first atom.

    Raises
    ------
    ModelError
        No models; models of several systems; an atom without ``iqa``; moments that are not complete
        for all atoms up to one rank; two models of one property; models of one atom that disagree
        on its local frame or its element; training geometries or charges of different atoms that
        contradict each other, because an ALF or a property is not what a file says; any fault of a
        single file.
    """
    directory = Path(directory)
    paths = _paths(directory)
    if system is not None:
        paths = [path for path in paths if read_system(path) == system]
        if not paths:
            raise ModelError(f"{directory}: there are no .model files of {system}")
    models = {path: read_model(path) for path in paths}
    first_path, first = next(iter(models.items()))
    by_atom: dict[int, dict[str, tuple[Path, AtomModel]]] = {a: {} for a in range(first.n_atoms)}
    for path, model in models.items():
        if model.system != first.system:
            raise ModelError(
                f"{directory} holds models of several systems: {first.system} ({first_path.name}) "
                f"and {model.system} ({path.name}); keep each in a directory of its own"
            )
        if model.n_atoms != first.n_atoms:
            raise ModelError(
                f"{path}: this model has {model.n_atoms} atoms, {first_path.name} has "
                f"{first.n_atoms}"
            )
        mine = by_atom[model.index]
        if model.property in mine:
            raise ModelError(
                f"{path}: {model.atom} {model.property} is modelled twice, also in "
                f"{mine[model.property][0].name}"
            )
        for other_path, other in mine.values():
            if (other.alf, other.element) != (model.alf, model.element):
                raise ModelError(
                    f"{path}: element or ALF of {model.atom} is not that of {other_path.name}"
                )
        mine[model.property] = path, model
    _check_complete(directory, by_atom)
    check_frames({path: model for path, model in models.items() if model.property == ENERGY})
    check_charges({path: model for path, model in models.items() if model.property == "q00"})
    atoms = [mine[ENERGY][1] for mine in by_atom.values()]
    processes = []
    for atom, mine in by_atom.items():
        processes += _merged(atom, [mine[name][1] for name in PROPERTIES if name in mine])
    described = directory / f"{system}.json"
    if system is None or not described.exists():
        described = directory / MOLECULE_FILE
    extra = _read_molecule_file(described, len(atoms))
    reference = extra.pop("reference_geometry", None)
    if reference is None:
        reference = geometry_from_features(atoms[0].inputs[0], atoms[0].alf, len(atoms))
    return MoleculeModel(
        name=extra.get("name", first.system),
        symbols=tuple(model.element for model in atoms),
        alf=np.array([model.alf for model in atoms]),
        processes=tuple(processes),
        reference_geometry=reference,
        provenance=extra.get("provenance", _common_metadata(list(models.values()))),
        charge=extra.get("charge"),
    )


def _check_complete(directory: Path, by_atom: dict) -> None:
    """Every atom has iqa and, up to the highest rank of any atom, all moments."""
    ranks = [moment_rank(p) for mine in by_atom.values() for p in mine if p != ENERGY]
    needed = (ENERGY, *MOMENT_NAMES[: (max(ranks, default=-1) + 1) ** 2])
    for atom, mine in by_atom.items():
        label = next((model.atom for _, model in mine.values()), f"number {atom + 1}")
        for name in needed:
            if name not in mine:
                why = ("every atom needs one" if name == ENERGY else
                       "moments must be complete up to the highest rank of any atom")
                raise ModelError(f"{directory}: atom {label} has no model of {name}; {why}")


def _merged(atom: int, models: list[AtomModel]) -> list[AtomProcess]:
    """Processes of one atom: one for each set of inputs, kernel and noise."""
    groups: dict[tuple, list[AtomModel]] = {}
    for model in models:
        arrays = (model.inputs, model.kernel.rbf, model.kernel.cyclic, model.kernel.periodic)
        groups.setdefault((*(a.tobytes() for a in arrays), model.noise), []).append(model)
    processes = []
    for group in groups.values():
        gp = group[0].gp
        gp = GaussianProcess(
            gp.inputs, gp.kernel, [model.mean for model in group],
            np.array([model.weights for model in group]), gp.noise,
        )
        processes.append(AtomProcess(atom, tuple(model.property for model in group), gp))
    return processes


def _common_metadata(models: list[AtomModel]) -> dict:
    """Header comments that all files share, as far as they are about the molecule."""
    common = set(models[0].metadata.items()).intersection(*(m.metadata.items() for m in models))
    kept = {key: value for key, value in sorted(common) if key not in _PER_FILE}
    return {"source": f".model files of {models[0].system}", **kept}


def _read_molecule_file(path: Path, n_atoms: int) -> dict:
    if not path.exists():
        return {}
    try:
        content = parse_json(path.read_bytes())
        reference = np.array(content["reference_geometry"], dtype=float)
        good = (
            isinstance(content["name"], str) and isinstance(content["provenance"], dict)
            and reference.shape == (n_atoms, 3) and np.isfinite(reference).all()
            and isinstance(content.get("charge"), int | None)
        )
    except DAMAGE as error:
        raise ModelError(f"{path}: not readable ({error}); remove it to do without") from None
    if not good:
        raise ModelError(f"{path}: not a description of this molecule; remove it to do without")
    return {"name": content["name"], "provenance": content["provenance"],
            "reference_geometry": reference, "charge": content.get("charge")}


def in_own_features(process: AtomProcess) -> AtomProcess:
    """A process that an atom shares, as one whose inputs are features of that atom itself."""
    order, gp = process.order, process.gp
    if order is None and not process.mirrored:
        return process
    place = np.arange(gp.kernel.n_features) if order is None else np.argsort(order)
    inputs, slopes, signs = gp.inputs[:, place], gp.derivative_weights, np.ones(len(gp.mean))
    if slopes is not None:
        slopes = slopes[..., place]
    if process.mirrored:
        polar = polar_angles(len(place))
        inputs[:, polar] = np.pi - inputs[:, polar]
        signs = reflection_signs(process.properties)
        if slopes is not None:
            slopes[..., polar] *= -1.0
    kernel = gp.kernel
    return AtomProcess(process.atom, process.properties, GaussianProcess(
        inputs,
        Kernel(kernel.rbf[place], kernel.cyclic[place], kernel.periodic[place], kernel.form),
        signs * gp.mean, signs[:, None] * gp.weights, gp.noise,
        None if slopes is None else signs[:, None, None] * slopes,
    ))


def require_plain_weights(model: MoleculeModel) -> None:
    """Raise the ModelError that says what to do with a model that these files cannot hold."""
    require_no_prior(model)
    require_known_kernels(model)
    if any(process.gp.derivative_weights is not None for process in model.processes):
        raise ModelError(
            f"{model.name} was trained on gradients, and .model files have no place for weights on "
            "kernel derivatives: `fflux convert MODEL DIRECTORY --plain` writes plain weights in "
            "their place and says what is lost"
        )


def require_known_kernels(model: MoleculeModel) -> None:
    """Raise the ModelError of a model whose kernels have a form that these files do not know."""
    forms = {str(p.gp.kernel.form) for p in model.processes if p.gp.kernel.form != USUAL}
    if model.terms or model.second:
        forms.add("second frames and terms of distances")
    if forms:
        raise ModelError(
            f"{model.name} has kernels that .model files do not know ({', '.join(sorted(forms))}): "
            "`--joint-kernel rbf` of `fflux build` or `fflux train LABELS --gradients` makes one "
            "that they can hold"
        )


def require_no_prior(model: MoleculeModel) -> None:
    """Raise the ModelError for a model that is the sum of two."""
    if model.prior is not None:
        raise ModelError(
            f"{model.name} stands on top of the prior {model.prior.model.name}, and .model files "
            "hold one process for an energy, not the sum of two: only its bundle has both"
        )


def write_model_directory(directory: str | Path, model: MoleculeModel) -> list[Path]:
    """Write one ``.model`` file for each property of each atom, such as ``WATER_iqa_O1.model``.

    Where equivalent atoms share a process, each gets it in the order of its own features. The
    system's name in the files is the molecule's in capitals, without the underscores that
    DL_FFLUX cannot have in it.

    Parameters
    ----------
    directory : str or Path
        Made if it is not there; must not have anything in it.
    model : MoleculeModel
        What to write.

    Returns
    -------
    list of Path
        The files written.

    Raises
    ------
    ModelError
        If the model was trained on gradients; if the directory is not empty or not a directory, or
        cannot be written.
    """
    require_plain_weights(model)
    directory = Path(directory)
    try:
        with told(directory):
            directory.parent.mkdir(parents=True, exist_ok=True)
        with replacing(directory, new=True) as partial:
            partial.mkdir()
            names = write_models(partial, model, MOLECULE_FILE)
    except FFLUXError as error:
        raise ModelError(str(error)) from None
    return [directory / name for name in names]


def system_name(model: MoleculeModel) -> str:
    """The name of a molecule in ``.model`` files."""
    return re.sub(r"[^A-Z0-9]", "", model.name.upper()) or "MOLECULE"


def write_models(folder: Path, model: MoleculeModel, molecule_file: str) -> list[str]:
    """Write the files of a model into a folder that is there.

    Parameters
    ----------
    folder : Path
    model : MoleculeModel
        With plain weights (`require_plain_weights`).
    molecule_file : str
        Name of the file with what has no place in ``.model`` files.

    Returns
    -------
    list of str
        Names of the files.
    """
    system = system_name(model)
    molecule = {
        "name": model.name,
        "provenance": model.provenance,
        "reference_geometry": model.reference_geometry.tolist(),
    }
    if model.charge is not None:
        molecule["charge"] = model.charge
    try:
        text = json.dumps(molecule, indent=2, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ModelError(f"the provenance of {model.name} is not JSON: {error}") from None
    names = [molecule_file]
    write_text(folder / molecule_file, text + "\n")
    for process in map(in_own_features, model.processes):
        atom, gp = process.atom, process.gp
        label = f"{model.symbols[atom]}{atom + 1}"
        for i, name in enumerate(process.properties):
            single = gp.single(i)
            names.append(f"{system}_{name}_{label}.model")
            write_model(folder / names[-1], AtomModel(
                system, label, atom, model.symbols[atom], name,
                tuple(map(int, model.alf[atom])), len(model.symbols), single,
                single.targets()[0],
            ))
    return names
