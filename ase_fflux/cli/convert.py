"""``fflux convert``: turn bundles into directories of ``.model`` files and back."""

import argparse
import zipfile
from pathlib import Path

from ase_fflux.cli import options, systems
from ase_fflux.cli.options import natural

_DESCRIPTION = """\
Convert a .fflux bundle into a directory of FEREBUS .model files (as DL_FFLUX and FEREBUS read
them), or such a directory into a bundle. Predictions stay the same to 1e-12.

With --model, SOURCE is a geometry, and OUTPUT a run directory of DL_FFLUX with CONFIG, CONTROL,
FIELD, MPOLES and model_krig/, which every verb here reads as well (`fflux sp OUTPUT`). Its CONTROL
asks for 1000 steps of 0.5 fs at constant energy: edit it for another run.

Models trained on gradients have weights on kernel derivatives, for which .model files have no
place. --plain writes each as two opposite weights on neighbouring points, which predicts nearly the
same, and says what is lost.
"""

_EPILOG = """\
example:
  fflux convert ethanol ethanol_models       bundled model to a directory of .model files
  fflux convert model_krig water.fflux       directory to bundle
  fflux convert my.fflux my_models --plain   of a model trained on gradients
  fflux convert box.xyz run --model water.toml    a run directory of DL_FFLUX

The suffix of the output decides what is written. A model that is already there is kept as NAME.~1~,
NAME.~2~, ...; anything else that is there is refused.

Exit status: 0 done, 2 error, 130 interrupted.
"""


def add_parser(subparsers) -> None:
    """Add the verb's arguments."""
    parser = subparsers.add_parser("convert", description=_DESCRIPTION, epilog=_EPILOG)
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="bundled name, .fflux bundle or directory of .model files; with --model a geometry",
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
    run = parser.add_argument_group("run directories of DL_FFLUX")
    run.add_argument(
        "--model", action="append", metavar="MODEL",
        help="bundled name, bundle or directory, again for each further species, or a force-field "
        "file (.toml)",
    )
    run.add_argument(
        "--index", type=int, default=-1, metavar="I",
        help="frame of a file with several, counted from 0, negative from the end (default: last)",
    )
    options.add_reading(run)
    options.add_between(parser)
    options.add_json(parser)
    parser.set_defaults(min_coverage=None, on_low_coverage="ignore")


def run(args: argparse.Namespace) -> None:
    """Convert and say what was written."""
    if args.model is not None:
        _write_run_directory(args)
        return
    from ase_fflux.base.claims import held
    from ase_fflux.base.errors import FFLUXError, ModelError
    from ase_fflux.base.outputs import OutputFiles, record_run, versions
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
        record_run(output)
    properties = sum(len(process.properties) for process in model.processes)
    print(f"{model.name}: {len(model.symbols)} atoms, {properties} properties")
    what = str(output) if to_bundle else f"{len(written)} files in {output}"
    read = source.glob("*.model") if to_bundle else [source]
    before = sum(p.stat().st_size for p in read)
    after = sum(p.stat().st_size for p in written)
    args.summary = {
        "command": args.command, "model": model.name, "atoms": len(model.symbols),
        "properties": properties, "size_before": {"value": before, "unit": "B"},
        "size": {"value": after, "unit": "B"}, "files": [str(p) for p in written],
        "versions": versions(),
    }
    print(f"wrote {what}, {_size(after)} (from {source}, {_size(before)})")


def _write_run_directory(args: argparse.Namespace) -> None:
    """A run directory from a geometry and a force field."""
    import numpy as np

    from ase_fflux.base.claims import held
    from ase_fflux.base.errors import FFLUXError
    from ase_fflux.base.outputs import OutputFiles, record_run, versions
    from ase_fflux.base.store import replacing
    from ase_fflux.forcefield import ForceField
    from ase_fflux.formats.dl_poly import is_run_directory
    from ase_fflux.run_directory import write_dlpoly

    args.geometry, output = args.source, Path(args.output)
    if args.points and not args.plain:
        raise FFLUXError("--points is the size of what --plain makes: give both or none")
    if output.exists() and not output.is_dir():
        raise FFLUXError(f"{output} is a file and no directory: choose another OUTPUT")
    if is_run_directory(args.source):
        raise FFLUXError(
            f"{args.source} is a run directory of DL_FFLUX already: with --model SOURCE is a "
            "geometry, such as NAME-sp.xyz of `fflux sp DIRECTORY`"
        )
    read = [Path(path).resolve() for path in (args.source, *args.model)]
    if any(output.resolve() in (path, *path.parents) for path in read):
        raise FFLUXError(f"{output} is read here: choose another OUTPUT")
    full = output.is_dir() and any(output.iterdir())
    if full and not is_run_directory(output):
        raise FFLUXError(f"{output} holds other files: choose a new directory")
    atoms, description = systems.system_of(args)
    forcefield = atoms.calc.forcefield
    if args.plain:
        models = [
            _plain(model, args.points)
            if any(p.gp.derivative_weights is not None for p in model.processes) else model
            for model in forcefield.models
        ]
        forcefield = ForceField(models, interactions=forcefield.interactions)
    files = OutputFiles(output, [""])
    with held(output.resolve(), args.command):
        with replacing(output) as partial:
            written, order = write_dlpoly(
                partial, atoms, forcefield, atoms.calc.parameters.assignment
            )
            if full:
                print(files.set_aside())
        record_run(output)
    reordered = bool((order != np.arange(len(order))).any())
    args.summary = {
        "command": args.command, "models": [model.name for model in forcefield.models],
        "atoms": len(order), "reordered": reordered, "files": sorted(map(str, output.iterdir())),
        "versions": versions(),
    }
    print(f"{description}: wrote {len(written)} files in {output}")
    if reordered:
        print("atoms of CONFIG are in another order: molecule after molecule, as the models' atoms")
    if names := [model.name for model in forcefield.models if model.charge is not None]:
        print(
            f"charges of {', '.join(names)} are corrected here to sum to the molecule's, and in "
            "DL_FFLUX they are not: its electrostatics differ by as much as they lack"
        )


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
