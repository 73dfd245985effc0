"""``fflux test``: errors of a model against labelled data."""

import argparse
import warnings
from pathlib import Path

from ase_fflux.cli import options
from ase_fflux.cli.progress import stepwise

_DESCRIPTION = """\
Compare a model with labelled data: energies, atomic energies, forces, charges, dipoles and higher
moments, whichever of them the data have. Writes in the current directory:
  NAME-test.txt    table of errors with units, worst frames
  NAME-test.csv    errors of each frame
  NAME-test.json   all errors, numbers and units apart
  NAME-test.png    parity plots
"""

_EPILOG = """\
example:
  fflux test ethanol ethanol-build/test.xyz
  fflux test my.fflux md17.npz --json

DATA is a label file (of `fflux build`, `fflux label`, `fflux import`) or a data set of another
program in any format that ASE reads, or an archive of sGDML or rMD17; `fflux import` reads what
needs names of columns or units. Its atoms may be in another order than the model's. Frames and
atoms are counted from 1. Frames with bonds that the model does not have are left out and counted.

The error of a model is the one against data of its own level of theory; against another level the
difference of the levels is in it. Exit status: 0 done, 2 error.
"""


def add_parser(subparsers) -> None:
    """Add the verb's arguments."""
    parser = subparsers.add_parser("test", description=_DESCRIPTION, epilog=_EPILOG)
    parser.add_argument(
        "model", metavar="MODEL", help="bundled name, .fflux bundle or directory of .model files"
    )
    parser.add_argument("geometry", metavar="DATA", help="labelled geometries of one molecule")
    options.add_output(parser, "-test")
    options.add_json(parser)


def run(args: argparse.Namespace) -> None:
    """Compare, print the table, write the files."""
    from ase_fflux.assess.comparison import compare
    from ase_fflux.assess.comparison_files import SUFFIXES, write_comparison
    from ase_fflux.base.errors import FFLUXWarning
    from ase_fflux.base.outputs import OutputFiles
    from ase_fflux.formats.locate import load_molecule
    from ase_fflux.labels.label import UNKNOWN

    model = load_molecule(args.model)
    data = read_data(args.geometry)
    files = OutputFiles(options.output_prefix(args, "-test", geometries=False), SUFFIXES)
    files.require_apart(args.geometry)
    level = model.provenance.get("label_source")
    if level and data.method != UNKNOWN and data.method != level:
        warnings.warn(
            f"the data are of {data.method} and the model of {level}: what these differ by is in "
            "the errors", FFLUXWarning, stacklevel=1,
        )
    result = compare(model, data, watch=lambda frames: stepwise(frames, "comparing", len(data)))
    about = {
        "command": args.command, "model": args.model, "level_of_model": level,
        "data": args.geometry,
    }
    of = "" if data.method == UNKNOWN else f" ({data.method})"
    title = f"{model.name} against {args.geometry}{of}"
    with files.held(args.command):
        moved = files.set_aside()
        print(write_comparison(result, files, title=title, about=about))
    args.summary = files[".json"]
    if moved:
        print(moved)
    print("wrote", ", ".join(files.written))


def read_data(file: str):
    """A label file, or a data set of another program."""
    from ase_fflux.labels.importers.any_file import read_any

    return read_any(Path(file))
