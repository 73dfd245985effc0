"""Find a model by its name or path, whatever kind of file it is."""

import difflib
from pathlib import Path

import ase_fflux
from ase_fflux.base.errors import ModelError
from ase_fflux.formats.bundle import SUFFIX, read_bundle
from ase_fflux.formats.model_directory import read_model_directory
from ase_fflux.model.molecule import MoleculeModel

_PACKAGE = Path(ase_fflux.__file__).resolve().parent


def bundled_models() -> dict[str, Path]:
    """Bundles that come with the package, by name.

    They are in the package where it is installed, in models/ beside it in a source tree.
    """
    for folder in (_PACKAGE / "models", _PACKAGE.parent / "models"):
        if folder.is_dir():
            return {path.stem: path for path in sorted(folder.glob(f"*{SUFFIX}"))}
    return {}


def find_model(name_or_path: str | Path) -> Path:
    """Path of a model.

    Parameters
    ----------
    name_or_path : str or Path
        A ``.fflux`` bundle, a directory of ``.model`` files or the name of a bundled model. A
        directory without models does not hide a bundled model of its name.

    Returns
    -------
    Path
        The bundle or the directory.

    Raises
    ------
    ModelError
        If there is none; bundled names and close matches are listed.
    """
    path = Path(name_or_path).expanduser()
    if path.is_dir() and any(path.glob("*.model")):
        return path
    if path.is_file():
        if path.suffix == SUFFIX:
            return path
        if path.suffix == ".model":
            raise ModelError(
                f"{path} is one property of one atom: give the directory that holds the models "
                "of all atoms"
            )
        raise ModelError(f"{path} is not a model: neither a {SUFFIX} bundle nor a directory")
    bundled = bundled_models()
    name = str(name_or_path)
    if name in bundled:
        return bundled[name]
    if path.is_dir():
        if any(path.glob("*/*.model")):
            inner = next(path.glob("*/*.model")).parent
            raise ModelError(f"{path}: there are no .model files here, but in {inner}: give that")
        raise ModelError(f"{path}: there are no .model files in this directory")
    close = difflib.get_close_matches(name.lower(), bundled, n=1)
    hint = f" Did you mean {close[0]}?" if close else ""
    raise ModelError(
        f"there is no model '{name}': no such file or directory, and the bundled models are "
        f"{', '.join(bundled) or 'none'}.{hint}"
    )


def load_molecule(name_or_path: str | Path) -> MoleculeModel:
    """Read a model given by name or path, see `find_model`.

    Raises
    ------
    ModelError
        If it is not found or cannot be used.
    """
    path = find_model(name_or_path)
    return read_model_directory(path) if path.is_dir() else read_bundle(path)
