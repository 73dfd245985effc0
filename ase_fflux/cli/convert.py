"""``fflux convert``: turn bundles into directories of ``.model`` files and back."""

import argparse
import zipfile
from pathlib import Path

from ase_fflux.cli.options import natural

_DESCRIPTION = """\
Convert a .fflux bundle into a directory of FEREBUS .model files (as DL_FFLUX and FEREBUS read
them), or such a directory into a bundle. Predictions stay the same to 1e-12.

Models trained on gradients have weights on kernel derivatives, for which .model files have no
place. --plain writes each as two opposite weights on neighbouring points, which predicts nearly the
same, and says what is lost.
"""

_EPILOG = """\
example:
  fflux convert ethanol ethanol_models       bundled model to a directory of .model files
  fflux convert model_krig water.fflux       directory to bundle
  fflux convert my.fflux my_models --plain   of a model trained on gradients

The suffix of the output decides what is written. A model that is already there is kept as NAME.~1~,
NAME.~2~, ...; anything else that is there is refused.

Exit status: 0 done, 2 error, 130 interrupted.
"""


def add_parser(subparsers) -> None:
    """Add the verb's arguments."""
    parser = subparsers.add_parser(
        "convert",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "source",
        metavar="MODEL",
        help="bundled name, .fflux bundle or directory of .model files",
    )
    parser.add_argument("output", metavar="OUTPUT", help="NAME.fflux, or a directory")
    parser.add_argument(
        "--plain", action="store_true", help="plain weights for a model trained on gradients"
    )
    parser.add_argument(
        "--points",
        type=natural,
        metavar="M",
        help="with --plain: points that a process has at most, images of equivalent atoms included "
        "(default: 6000); fewer than it needs cost much accuracy",
    )


def run(args: argparse.Namespace) -> None:
    """Convert and say what was written."""
    from ase_fflux.base.claims import held
    from ase_fflux.base.errors import FFLUXError, ModelError
    from ase_fflux.base.outputs import OutputFiles
    from ase_fflux.formats import bundle, load_molecule, model_directory
    from ase_fflux.formats.locate import find_model

    source, output = find_model(args.source), Path(args.output)
    to_bundle = output.suffix == bundle.SUFFIX
    if to_bundle and not source.is_dir():
        raise ModelError(
            f"{source} is a bundle already: an OUTPUT without the suffix {bundle.SUFFIX} makes a "
            "directory of .model files of it"
        )
    if source.is_dir() and not to_bundle:
        raise ModelError(
            f"{source} is a directory of .model files already: an OUTPUT with the suffix "
            f"{bundle.SUFFIX} makes a bundle of it"
        )
    if args.points and not args.plain:
        raise FFLUXError("--points is the size of what --plain makes: give both or none")
    if args.plain and to_bundle:
        raise FFLUXError("--plain is for .model files, bundles keep models as they are")
    if to_bundle and output.exists() and not zipfile.is_zipfile(output):
        raise ModelError(f"{output} is there and is no bundle: choose another OUTPUT")
    if not to_bundle and output.exists() and not output.is_dir():
        raise ModelError(
            f"{output} is a file and no directory of .model files: choose another OUTPUT"
        )
    model = load_molecule(source)
    if not to_bundle and output.is_dir() and (strange := model_directory.foreign_file(output)):
        raise ModelError(f"{output} holds other files ({strange}): choose a new directory")
    if args.plain:
        model = _plain(model, args.points)
    if not to_bundle:
        model_directory.require_plain_weights(model)
    files = OutputFiles(output, [""])
    with held(output.resolve(), args.command):
        empty = output.is_dir() and not any(output.iterdir())
        if not empty and (moved := files.set_aside()):
            print(moved)
        if to_bundle:
            bundle.write_bundle(output, model)
            written = [output]
        else:
            written = model_directory.write_model_directory(output, model)
    properties = sum(len(process.properties) for process in model.processes)
    print(f"{model.name}: {len(model.symbols)} atoms, {properties} properties")
    what = str(output) if to_bundle else f"{len(written)} files in {output}"
    read = source.glob("*.model") if to_bundle else [source]
    before = sum(p.stat().st_size for p in read)
    after = sum(p.stat().st_size for p in written)
    print(f"wrote {what}, {_size(after)} (from {source}, {_size(before)})")


def _plain(model, points: int | None):
    """The model with plain weights; says what is lost."""
    from ase_fflux.workflows.plain import MAX_POINTS, TEMPERATURE, plain_model

    plain, loss = plain_model(model, points or MAX_POINTS)
    thinned = ""
    if loss.points < loss.needed:
        thinned = f", thinned from {loss.needed} (--points {loss.needed} keeps them)"
    print(f"plain weights: up to {loss.points} points in a process{thinned}")
    print(
        f"loss at {loss.frames} geometries of {TEMPERATURE:g} K dynamics: energy RMSE "
        f"{loss.energy_rmse_kj_per_mol:.2g} kJ/mol, force RMSE "
        f"{loss.force_rmse_ev_per_angstrom:.2g} eV/A"
    )
    return plain


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 1e6:.2f} MB" if n_bytes >= 1e5 else f"{n_bytes / 1e3:.1f} kB"
