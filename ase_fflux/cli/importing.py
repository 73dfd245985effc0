"""``fflux import``: labels from the files of other programs."""

import argparse
from pathlib import Path

_DESCRIPTION = """\
Make a label file of AIMAll's output: FOLDER is a point directory (.int files with .wfn or .sum, as
ichor keeps them) or holds many. Atomic energies and moments to rank 4 are AIMAll's own numbers;
forces are taken from Gaussian's output where it was run with nosymm.

A .wfn file alone is integrated here (pip install 'ase-fflux[pyscf]'), over topological atoms or
those of --partition, with the functional that it names.
"""

_EPILOG = """\
example:
  fflux import WATER.pointsdir -o labels.xyz
  fflux train labels.xyz
  fflux import water.wfn --partition mbis

Exit status: 0 done, 2 error (one line names the file).
"""


def add_parser(subparsers) -> None:
    """Add the verb's arguments."""
    parser = subparsers.add_parser(
        "import", description=_DESCRIPTION, epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False,
    )
    parser.add_argument(
        "source", metavar="FOLDER", help="point directory, a folder of them, or a .wfn file"
    )
    parser.add_argument(
        "-o", "--output", metavar="LABELS.xyz",
        help="label file to write; one that is there is kept as NAME.~1~ (default: FOLDER's name "
        "with -labels.xyz in the current directory)",
    )
    parser.add_argument(
        "--partition", metavar="P", help="of a .wfn file: qtaim, mbis or hirshfeld (default: qtaim)"
    )
    parser.add_argument(
        "--method", metavar="M", help="functional of a .wfn file, or HF (default: as it says)"
    )


def run(args: argparse.Namespace) -> None:
    """Read, write and count."""
    from ase_fflux.base.errors import LabelError
    from ase_fflux.base.outputs import OutputFiles
    from ase_fflux.cli.options import prefix_of
    from ase_fflux.labels.dataset import append_labels
    from ase_fflux.labels.importers.aimall import read_aimall
    from ase_fflux.labels.label import dataset_of, labels_of

    folder = Path(args.source)
    if folder.is_dir():
        if args.partition or args.method:
            raise LabelError("--partition and --method are for .wfn files: AIMAll has chosen both")
        dataset = read_aimall(folder)
    elif folder.suffix.lower() == ".wfn" and folder.exists():
        from ase_fflux.labels.importers.wavefunction import read_wfn

        dataset = dataset_of([read_wfn(folder, args.partition or "qtaim", args.method)])
    else:
        raise LabelError(f"{folder}: no such folder or .wfn file")
    path = Path(prefix_of(args.output, folder.resolve().stem + "-labels.xyz"))
    files = OutputFiles(path, [""])
    with files.held(args.command):
        if moved := files.set_aside():
            print(moved)
        append_labels(path, labels_of(dataset), dataset.origins)
    print(f"{path}: {len(dataset)} labels of {''.join(dataset.symbols)} ({dataset.method}, "
          f"{dataset.partition}), moments to rank {dataset.rank}"
          f"{', with gradients' if dataset.gradients is not None else ''}")
