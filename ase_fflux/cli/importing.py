"""``fflux import``: labels from the files of other programs."""

import argparse
from pathlib import Path

from ase_fflux.cli import options

_DESCRIPTION = """\
Make a label file of AIMAll's output: DATA is a point directory (.int files with .wfn or .sum, as
ichor keeps them) or holds many. Atomic energies and moments to rank 4 are AIMAll's own numbers;
forces are taken from Gaussian's output where it was run with nosymm.

Wave functions (.wfn, .wfx, .fchk, .molden; a file, or a folder of them without .int files) are
integrated here, over topological atoms or those of --partition. Atomic energies need the
functional, which .wfn and .fchk name and --method gives; without it there are moments alone. Needs
pip install 'ase-fflux[pyscf]', and 'ase-fflux[wavefunctions]' for all but .wfn.

Data sets of other programs, total energies and forces in extended xyz, archives of rMD17 and sGDML,
ASE databases and trajectories, become label files without atomic energies. So do outputs of
Gaussian and ORCA, and of Psi4 and Q-Chem (pip install 'ase-fflux[cclib]'): DATA holds one for
each geometry (.out, .log, also in folders inside), or several outputs are named. Of optimisations
and scans all geometries with forces are taken. Outputs that stopped are left out and named; those
of another level of theory, charge or program are refused.

Training sets of FEREBUS, pyFEREBUS and ichor (.csv) need no import: fflux train reads them.
"""

_EPILOG = """\
example:
  fflux import WATER.pointsdir -o labels.xyz
  fflux train labels.xyz
  fflux import water.wfn --partition mbis
  fflux import water.molden --partition mbis --method B3LYP
  fflux import orca-runs/ -o labels.xyz
  fflux import g1.log g2.log g3.log -o labels.xyz
  fflux import set.extxyz --energy-key dft_energy --forces-key dft_forces -o labels.xyz

Exit status: 0 done, 2 error (one line names the file).
"""


def add_parser(subparsers) -> None:
    """Add the verb's arguments."""
    from ase_fflux.cli.data_options import add_reading

    parser = subparsers.add_parser("import", description=_DESCRIPTION, epilog=_EPILOG)
    parser.add_argument(
        "source", metavar="DATA", nargs="+",
        help="point directory or a folder of them; wave function or a folder of them; data set; "
        "outputs of programs or a folder of them",
    )
    parser.add_argument(
        "-o", "--output", metavar="LABELS.xyz",
        help="label file to write; one that is there is kept as NAME.~1~ (default: DATA's name "
        "with -labels.xyz in the current directory)",
    )
    parser.add_argument(
        "--partition", metavar="P",
        help="of wave functions: qtaim, mbis or hirshfeld (default: qtaim)",
    )
    parser.add_argument(
        "--method", metavar="M", help="functional of wave functions, or HF (default: as they say)"
    )
    add_reading(parser)
    options.add_json(parser)


def run(args: argparse.Namespace) -> None:
    """Read, write and count."""
    from ase_fflux.base.errors import LabelError
    from ase_fflux.base.outputs import OutputFiles, record_run
    from ase_fflux.cli.data_options import reading_of, summary_of
    from ase_fflux.labels.dataset import append_labels
    from ase_fflux.labels.importers.aimall import has_atoms, read_aimall
    from ase_fflux.labels.importers.foreign import read_foreign
    from ase_fflux.labels.importers.outputs import output_files
    from ase_fflux.labels.importers.wavefunction import read_wavefunctions
    from ase_fflux.labels.label import labels_of

    sources = [Path(source) for source in args.source]
    folder = sources[0]
    _refuse_training_sets(folder)
    waves, reading = _wavefunctions(folder), reading_of(args)
    aimall = folder.is_dir() and not waves and (has_atoms(folder) or not output_files(folder))
    if len(sources) > 1 and (waves or aimall):
        raise LabelError(
            f"{folder}: several sources are for outputs of programs; give one folder of "
            f"{'wave functions' if waves else 'point directories'}"
        )
    if reading and (waves or aimall):
        raise LabelError(
            f"--{next(iter(reading)).replace('_', '-')} is for data sets, not for {folder}"
        )
    if waves:
        dataset = read_wavefunctions(waves, args.partition or "qtaim", args.method)
    elif aimall:
        if args.partition or args.method:
            raise LabelError(
                "--partition and --method are for wave functions: AIMAll has chosen both"
            )
        dataset = read_aimall(folder)
    elif not folder.exists():
        raise LabelError(f"{folder}: no such folder or file")
    else:
        if args.partition or args.method:
            raise LabelError("--partition and --method are for wave functions, not for data sets")
        dataset = read_foreign(sources, **reading)
    path = Path(options.prefix_of(args.output, folder.resolve().stem + "-labels.xyz"))
    files = OutputFiles(path, [""])
    for source in sources:
        files.require_apart(source)
    with files.made_anew(args.command):
        append_labels(path, labels_of(dataset), dataset.origins)
        record_run(path)
    args.summary = summary_of(args, path, dataset)
    what = [dataset.method, *([dataset.partition] if dataset.partition else [])]
    moments = f"moments to rank {dataset.rank}" if dataset.rank >= 0 else "no moments"
    print(f"{path}: {len(dataset)} labels of {''.join(dataset.symbols)} ({', '.join(what)}), "
          f"{moments}{', with gradients' if dataset.gradients is not None else ''}")


def _refuse_training_sets(source: Path):
    """CSV files of FEREBUS and ichor hold features of one atom, no geometries."""
    from ase_fflux.base.errors import LabelError

    sets = sorted(source.glob("*.csv")) if source.is_dir() else [source]
    others = any(source.rglob("*.int")) if source.is_dir() else False
    if sets and not others and all(path.suffix.lower() == ".csv" for path in sets):
        raise LabelError(
            f"{sets[0]}: a training set holds features and properties of one atom, no geometry "
            f"that a label could have; train on it as it is: fflux train {sets[0]}"
        )


def _wavefunctions(source: Path) -> list[Path]:
    """Files of wave functions: the source itself, or those in a folder without AIMAll's files."""
    from ase_fflux.labels.importers.wavefunction import SUFFIXES

    if source.is_file():
        return [source] if source.suffix.lower() in SUFFIXES else []
    if not source.is_dir() or any(source.rglob("*.int")):
        return []
    return sorted(path for path in source.iterdir() if path.suffix.lower() in SUFFIXES)
