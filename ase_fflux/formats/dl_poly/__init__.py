"""Run directories of DL_FFLUX, the published engine: CONFIG, CONTROL, FIELD and model_krig/.

===========  ===========================================================================
`records`    lines of these files, and how a refusal names them
`config`     CONFIG: cell, positions, velocities
`field`      FIELD: molecules, their sites, pair potentials
`control`    CONTROL: what is run, and what of it is done otherwise here
`directory`  all of them together, and what contradicts what
`writing`    a directory from a geometry and a force field
===========  ===========================================================================
"""

from ase_fflux.formats.dl_poly.directory import RunDirectory, is_run_directory, read_run_directory

__all__ = ["RunDirectory", "is_run_directory", "read_run_directory"]
