"""Errors that are the user's to mend, and warnings; the command line prints each as one line."""

import errno
import os


class FFLUXError(ValueError):
    """Base class: what is wrong, where, and what to do about it."""


class ModelError(FFLUXError):
    """A model file, bundle or model directory that cannot be used."""


class TopologyError(FFLUXError):
    """Atoms that no model fits, or an assignment that is not possible."""


class GeometryError(FFLUXError):
    """A geometry without a defined value: coincident atoms, a linear local frame, NaN."""


class CoverageError(FFLUXError):
    """A geometry outside of what the training data cover."""


class TrainingError(FFLUXError):
    """Training data or settings from which no model can be made."""


class LabelError(FFLUXError):
    """A reference calculation that failed or a label file that cannot be read."""


class FFLUXWarning(UserWarning):
    """Something a user should know. The command line shows these and no library's warnings."""


class CoverageWarning(FFLUXWarning):
    """A geometry lies outside of what the training data cover."""


class SymmetryWarning(FFLUXWarning):
    """Symmetry of a molecule that its model does not have."""


def reason(error: OSError) -> str:
    """Why a file cannot be read or written, in words."""
    if error.errno is None and "requested and" in str(error):  # numpy's words for a full disk
        return os.strerror(errno.ENOSPC)
    return error.strerror or str(error) or type(error).__name__


def words(error: BaseException) -> str:
    """What another program says of its failure, as one line of at most 200 characters."""
    return " ".join(str(error).split())[:200] or type(error).__name__


class RepulsionWarning(FFLUXWarning):
    """Molecules that attract each other and that nothing keeps apart."""
