"""FEREBUS ``.model`` files: one property of one atom, read and written.

A file holds the training data, the weights and the hyperparameters of one Gaussian process, in
bohr, radian, hartree and atomic units of moments. Read are the files of FEREBUS and those written
from gpytorch: products of the kernels rbf, rbf-cyclic and periodic on their active dimensions with
a zero or constant mean. Linear and quadratic means, sums of kernels and scaled data are refused.

Every file is checked against its own training targets, see `ase_fflux.formats.dialects`, and must
be of the atom and the property that it says, see `ase_fflux.formats.plausibility`.
"""

import re
from pathlib import Path

import numpy as np
from ase.data import atomic_numbers

from ase_fflux.base.errors import FFLUXError, ModelError, reason
from ase_fflux.base.store import write_bytes
from ase_fflux.formats.atom_model import AtomModel
from ase_fflux.formats.dialects import Data, Factor, settle
from ase_fflux.formats.plausibility import check_model
from ase_fflux.formats.sections import SectionedFile, Value
from ase_fflux.model.frames import n_features
from ase_fflux.model.kernels import Kernel
from ase_fflux.model.molecule import ENERGY, PROPERTIES
from ase_fflux.model.process import GaussianProcess

# FEREBUS 7.0 wrote rbf-cylic
_KINDS = {"rbf": "rbf", "rbf-cyclic": "rbf-cyclic", "rbf-cylic": "rbf-cyclic",
          "periodic": "periodic"}
_NOISE_NAMES = ("noise", "nugget", "jitter")
# moments that vanish by symmetry are published with theta up to 1e36
_MAX_THETA = 1e100
_RESERVED = ("program", "version", "likelihood", *_NOISE_NAMES)


def read_model(path: str | Path) -> AtomModel:
    """Read a ``.model`` file.

    Parameters
    ----------
    path : str or Path
        File to read.

    Returns
    -------
    AtomModel
        The model in the reading that reproduces the training targets of the file.

    Raises
    ------
    ModelError
        A file that is damaged (line and fault are named), that uses what is not supported, that
        does not reproduce its own training targets in any known dialect, or whose name, features
        or targets are not those of the atom and property it says.
    """
    source = SectionedFile(Path(path))
    identity = _identity(source)
    mean = _mean(source)
    n_columns, n_points = identity.pop("n_features"), identity.pop("n_points")
    _refuse_scaling(source, n_columns, identity["property"])
    factors = _factors(source, n_columns)
    inputs = source.section("training_data.x").table(n_points, n_columns)
    targets = source.section("training_data.y").table(n_points, 1)[:, 0]
    weights = source.section("weights").table(n_points, 1)[:, 0]
    data = Data(inputs, targets, weights, mean)
    metadata = {key: " ".join(value.words) for key, value in source.metadata.items()}
    gpytorch = "gpytorch" in metadata.get("program", "").lower()
    reading = settle(source.path, factors, data, _noise(source), gpytorch)
    gp = GaussianProcess(inputs, reading.kernel, [mean], reading.weights[None], reading.noise)
    model = AtomModel(
        **identity, gp=gp, targets=targets, dialect=reading.dialect, metadata=metadata
    )
    check_model(source.path, model)
    return model


def read_system(path: str | Path) -> str:
    """Name of the system that a ``.model`` file is of, from its first lines.

    Raises
    ------
    ModelError
        A file that cannot be read or has no section [system] with a name.
    """
    inside = False
    try:
        with open(path, encoding="utf-8", errors="replace") as lines:
            for line in lines:
                words = line.split()
                if words and words[0].startswith("["):
                    inside = words[0] == "[system]"
                elif inside and len(words) == 2 and words[0] == "name":
                    return words[1]
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {reason(error)}") from None
    raise ModelError(f"{path}: there is no name in a section [system]")


def _identity(source: SectionedFile) -> dict:
    """Whose model it is, from sections [system] and [dimensions]."""
    system = source.keywords("system", ("name", "atom", "property", "ALF"))
    sizes = source.keywords(
        "dimensions", ("number_of_atoms", "number_of_features", "number_of_training_points")
    )
    n_atoms = sizes["number_of_atoms"].integer()
    if n_atoms < 2:
        sizes["number_of_atoms"].fail("a model needs a molecule of at least two atoms")
    columns = sizes["number_of_features"].integer()
    if columns != n_features(n_atoms):
        sizes["number_of_features"].fail(
            f"{n_atoms} atoms have {n_features(n_atoms)} features, not {columns}"
        )
    n_points = sizes["number_of_training_points"].integer()
    if n_points < 1:
        sizes["number_of_training_points"].fail("there are no training points")
    label = system["atom"].word()
    match = re.fullmatch(r"([A-Za-z]+)([0-9]{1,9})", label)
    element = match[1].capitalize() if match else ""
    if element not in atomic_numbers:
        system["atom"].fail(f"'{label}' is not an element with the number of the atom, such as O1")
    index = int(match[2]) - 1
    if not 0 <= index < n_atoms:
        system["atom"].fail(f"atom {label} is not one of the {n_atoms} atoms")
    name = system["property"].word().lower()
    if name not in PROPERTIES:
        system["property"].fail(f"unknown property '{name}'; known are iqa and q00 to q44s")
    return dict(
        system=system["name"].word(), atom=f"{element}{index + 1}", index=index, element=element,
        property=name, alf=_alf(system["ALF"], index, n_atoms), n_atoms=n_atoms,
        n_features=columns, n_points=n_points,
    )


def _alf(value: Value, index: int, n_atoms: int) -> tuple[int, int, int]:
    if n_atoms == 2 and value.words[2:] in ([], ["None"], ["0"]):
        value = Value(value.source, value.line, value.key, value.words[:2])
    row = value.integers()
    expected = 2 if n_atoms == 2 else 3
    if len(row) != expected:
        value.fail(f"the ALF of an atom of {n_atoms} has {expected} indices, not {len(row)}")
    for atom in row:
        if not 1 <= atom <= n_atoms:
            value.fail(f"ALF index {atom} is not one of the atoms 1 to {n_atoms}")
    if len(set(row)) != expected:
        value.fail("the atoms of the ALF must be different")
    if row[0] != index + 1:
        value.fail(f"the ALF begins with atom {row[0]}, but the model is of atom {index + 1}")
    return tuple(atom - 1 for atom in row) + (() if expected == 3 else (-1,))


def _mean(source: SectionedFile) -> float:
    section = source.section("mean")
    # the type first: other means have keywords of their own
    kind = next((text.split()[1:] for _, text in section.rows if text.split()[0] == "type"), [])
    if kind in (["linear"], ["quadratic"]):
        source.fail(
            section.line, f"a {kind[0]} mean is not supported; retrain with a constant or zero mean"
        )
    values = source.keywords("mean", ("type",), ("value",))
    kind = values["type"].word()
    if kind == "zero":
        return 0.0
    if kind != "constant":
        values["type"].fail(f"unknown mean '{kind}'; known are zero and constant")
    if "value" not in values:
        source.fail(section.line, "the constant mean has no 'value'")
    return values["value"].number()


def _refuse_scaling(source: SectionedFile, n_columns: int, name: str) -> None:
    """Refuse scaled data and units other than bohr, radian and hartree."""
    values = source.keywords("training_data", (), ("units.x", "units.y", "scaling.x", "scaling.y"))
    for key in ("scaling.x", "scaling.y"):
        if key in values and values[key].word().lower() != "none":
            values[key].fail(f"{key} '{values[key].words[0]}' is not supported; retrain without")
    if "units.x" in values:
        units = [word.lower() for word in values["units.x"].words]
        for h, unit in enumerate(units[:n_columns]):
            # more units than features are usual
            known = ("bohr",) if h < 2 or h > 2 and h % 3 == 0 else ("radians", "radian", "rad")
            if unit not in known:
                values["units.x"].fail(f"feature {h + 1} must be in {known[0]}, not in '{unit}'")
    if "units.y" in values and name == ENERGY:
        unit = values["units.y"].word()
        if unit.lower() not in ("ha", "hartree", "hartrees", "au", "a.u.", "unknown"):
            values["units.y"].fail(f"iqa must be in Ha, not in '{unit}'")


def _factors(source: SectionedFile, n_columns: int) -> list[Factor]:
    """The factors of the product kernel."""
    values = source.keywords("kernels", ("number_of_kernels", "composition"))
    composition = values["composition"]
    text = "".join(composition.words)
    if "+" in text:
        composition.fail(f"sums of kernels ({text}) are not supported; retrain with a product")
    names = re.fullmatch(r"\(*(\w+(?:\)*\*\(*\w+)*)\)*", text)
    if not names or text.count("(") != text.count(")"):
        composition.fail(f"'{text}' is not a product of kernels")
    names = re.findall(r"\w+", text)
    if len(set(names)) != len(names):
        composition.fail(f"a kernel stands twice in '{text}'")
    if len(names) != values["number_of_kernels"].integer():
        values["number_of_kernels"].fail(f"the composition '{text}' is of {len(names)} kernels")
    used = {f"kernel.{name}" for name in names}
    known = {"system", "dimensions", "mean", "kernels", "training_data", "training_data.x",
             "training_data.y", "weights", "metadata"} | used
    for name, section in source.sections.items():
        if name not in known:
            source.fail(section.line, f"section [{name}] is not supported or not used")
    return [_factor(source, f"kernel.{name}", n_columns) for name in names]


def _factor(source: SectionedFile, name: str, n_columns: int) -> Factor:
    values = source.keywords(
        name, ("type", "number_of_dimensions", "active_dimensions"), ("theta", "thetas")
    )
    kind = values["type"].word().lower()
    if kind not in _KINDS:
        values["type"].fail(
            f"kernel '{kind}' is not supported; known are rbf, rbf-cyclic and periodic"
        )
    theta = [values[key] for key in ("theta", "thetas") if key in values]
    if len(theta) != 1:
        source.fail(source.section(name).line, f"section [{name}] must have one 'theta'")
    dimensions, theta = values["active_dimensions"], theta[0]
    active = dimensions.integers()
    for h in active:
        if not 1 <= h <= n_columns:
            dimensions.fail(f"active dimension {h} is not one of the features 1 to {n_columns}")
    if len(set(active)) != len(active):
        dimensions.fail("an active dimension stands twice")
    expected = values["number_of_dimensions"].integer()
    if len(active) != expected:
        dimensions.fail(f"{len(active)} active dimensions, but number_of_dimensions is {expected}")
    numbers = theta.numbers()
    if len(numbers) != expected:
        theta.fail(f"{len(numbers)} values of theta for {expected} active dimensions")
    if (numbers < 0).any():
        theta.fail(f"theta must not be negative, it is {numbers.min()}")
    if (numbers > _MAX_THETA).any():
        theta.fail(f"theta of {numbers.max()} is not plausible")
    return Factor(_KINDS[kind], np.array(active, dtype=np.int64) - 1, numbers)


def _noise(source: SectionedFile) -> float | None:
    for key in _NOISE_NAMES:
        if key in source.metadata:
            noise = source.metadata[key].number()
            if noise < 0:
                source.metadata[key].fail(f"the {key} must not be negative")
            return noise
    return None


def write_model(path: str | Path, model: AtomModel) -> None:
    """Write a ``.model`` file in the layout of FEREBUS.

    Reading it gives bitwise the same inputs, hyperparameters, mean, weights and noise; the targets
    are those which the weights imply. A periodic kernel is written as FEREBUS and DL_FFLUX read
    it (4 theta).

    Parameters
    ----------
    path : str or Path
        File to write, usually ``{system}_{property}_{atom}.model``.
    model : AtomModel
        What to write.

    Raises
    ------
    ModelError
        If the file exists, or the name of the system is not one word of plain text.
    """
    gp = model.gp
    if not re.fullmatch(r"[!-~]+", model.system):
        raise ModelError(f"{path}: '{model.system}' is not a name that .model files can hold")
    lines = ["# [metadata]", "# program ase-fflux", f"# noise {float(gp.noise)!r}"]
    lines += [f"# {key} = {' '.join(value.split())}" for key, value in model.metadata.items()
              if key not in _RESERVED]
    alf = " ".join("None" if atom < 0 else str(atom + 1) for atom in model.alf)
    n_points, n_columns = gp.inputs.shape
    units = ["bohr", "bohr", "radians"] + ["bohr", "radians", "radians"] * (model.n_atoms - 3)
    lines += [
        "", "[system]", f"name {model.system}", f"atom {model.atom}",
        f"property {model.property}", f"ALF {alf}",
        "", "[dimensions]", f"number_of_atoms {model.n_atoms}",
        f"number_of_features {n_columns}", f"number_of_training_points {n_points}",
        "", "[mean]", "type constant", f"value {model.mean!r}",
        "", *_kernel_lines(gp.kernel),
        "", "[training_data]", f"units.x {' '.join(units[:n_columns])}",
        f"units.y {'Ha' if model.property == ENERGY else 'au'}",
        "scaling.x none", "scaling.y none",
        "", "[training_data.x]", *(" ".join(map(repr, row)) for row in gp.inputs.tolist()),
        "", "[training_data.y]", *map(repr, gp.targets()[0].tolist()),
        "", "[weights]", *map(repr, gp.weights[0].tolist()), "",
    ]
    content = "\n".join(lines).encode("ascii", errors="backslashreplace")
    try:
        write_bytes(path, content, new=True)
    except FFLUXError as error:
        raise ModelError(str(error)) from None


def _kernel_lines(kernel: Kernel) -> list[str]:
    """Sections [kernels] and [kernel.k*]; features that no kernel uses go to the first with 0."""
    idle = kernel.theta == 0
    parts = [
        (kind, np.flatnonzero(use), theta)
        for kind, theta, use in (
            ("rbf", kernel.rbf, (kernel.rbf > 0) | idle),
            ("rbf-cyclic", kernel.cyclic, kernel.cyclic > 0),
            ("periodic", kernel.periodic, kernel.periodic > 0),
        )
        if use.any()
    ]
    names = "*".join(f"k{i}" for i in range(1, len(parts) + 1))
    lines = ["[kernels]", f"number_of_kernels {len(parts)}",
             f"composition {names if len(parts) == 1 else f'({names})'}"]
    for i, (kind, active, theta) in enumerate(parts, start=1):
        lines += [
            "", f"[kernel.k{i}]", f"type {kind}", f"number_of_dimensions {len(active)}",
            "active_dimensions " + " ".join(str(h + 1) for h in active),
            "theta " + " ".join(map(repr, theta[active].tolist())),
        ]
    return lines
