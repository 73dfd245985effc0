"""Files of the field: ``.fflux`` bundles, FEREBUS ``.model`` files, training sets as CSV."""

from ase_fflux.formats.atom_model import AtomModel
from ase_fflux.formats.bundle import read_bundle, write_bundle
from ase_fflux.formats.locate import bundled_models, find_model, load_molecule
from ase_fflux.formats.model_directory import read_model_directory, write_model_directory
from ase_fflux.formats.model_file import read_model, write_model
from ase_fflux.formats.training_set import TrainingSet, read_training_set, write_training_set

__all__ = [
    "AtomModel",
    "TrainingSet",
    "bundled_models",
    "find_model",
    "load_molecule",
    "read_bundle",
    "read_model",
    "read_model_directory",
    "read_training_set",
    "write_bundle",
    "write_model",
    "write_model_directory",
    "write_training_set",
]
